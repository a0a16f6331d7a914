"""The numbers that Word sets before headings and list items: they are no part of the text.

ECMA-376 part 1, 17.9: a paragraph names a list and a level of it. A list follows an abstract list,
whose levels have a start, a format and a pattern as "%1.%2."; lists that follow the same one count
on together, unless they restart.
"""

import re
from string import ascii_lowercase
from xml.etree.ElementTree import Element

BULLET = "-"
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"),
    (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip
_LAST = 3999  # in letters or Roman signs; real lists end long before


class Numbering:
    """How far each list of a document has counted."""

    def __init__(self, root: Element | None) -> None:
        """`root` holds the document's lists; None if it has none."""
        root = Element("numbering") if root is None else root
        shapes = root.findall("abstractNum")
        styled = {value(shape, "styleLink") or "": shape for shape in shapes}
        self._levels = {
            shape.get("abstractNumId"): {
                number(level.get("ilvl"), 0): level
                for level in styled.get(value(shape, "numStyleLink") or " ", shape).iter("lvl")
            }
            for shape in shapes
        }
        self._lists = {item.get("numId"): item for item in root.findall("num")}
        self._restarted: set[tuple[str, int]] = set()
        self._counts: dict[str, dict[int, int]] = {}

    def next(self, list_id: str, depth: int) -> str:
        """What stands before the next item of a list: BULLET, or as "1.", "(a)", "Section 2"."""
        item = self._lists.get(list_id, Element("num"))
        abstract = value(item, "abstractNumId") or ""
        levels = self._levels.get(abstract, {})
        if depth not in levels or value(levels[depth], "numFmt") == "bullet":
            return BULLET
        counts = self._counts.setdefault(abstract, {})
        start = number(value(levels[depth], "start"), 1)
        counts[depth] = counts.get(depth, start - 1) + 1
        restart = value(item, f"lvlOverride[@ilvl='{depth}']/startOverride")
        if restart is not None and (list_id, depth) not in self._restarted:
            self._restarted.add((list_id, depth))
            counts[depth] = number(restart, 1)
        for deeper in range(depth + 1, 10):
            counts.pop(deeper, None)

        def figure(place: re.Match[str]) -> str:
            level = levels.get(int(place[1]) - 1, levels[depth])
            count = counts.get(int(place[1]) - 1, number(value(level, "start"), 1))
            return _figure(count, value(level, "numFmt") or "")

        return re.sub("%([1-9])", figure, value(levels[depth], "lvlText") or "")


def number(text: str | None, default: int) -> int:
    """The whole number that an attribute holds; the default for what is none."""
    return int(text) if text and re.fullmatch("-?[0-9]{1,9}", text) else default


def value(parent: Element, path: str) -> str | None:
    """The `val` of an element below another; None if there is no such element."""
    found = parent.find(path)
    return None if found is None else found.get("val", "")


def _figure(count: int, form: str) -> str:
    """A number in one of Word's formats; in figures if the format is another script's."""
    text = str(count)
    if form.endswith("Letter") and 0 < count <= _LAST:
        rounds, letter = divmod(count - 1, len(ascii_lowercase))
        text = ascii_lowercase[letter] * (rounds + 1)
    elif form.endswith("Roman") and 0 < count <= _LAST:
        text = ""
        for size, sign in _ROMAN:
            text += sign * (count // size)
            count %= size
    return text.upper() if form.startswith("upper") else text
