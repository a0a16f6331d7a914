"""DOCX: the text as Word shows it with all changes accepted, and its structure by styles.

Read from the XML itself: python-docx, the known library, passes over inserted text, content
controls and text boxes, and refuses files with macros or dangling links. The names of elements are
those of ECMA-376 part 1, alike in its transitional and its strict form.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from xml.etree.ElementTree import Element

from ingest.errors import LoadError
from ingest.loaders.builder import Builder
from ingest.loaders.decode import tidy_lines
from ingest.loaders.numbering import BULLET, Numbering, number, value
from ingest.loaders.options import LoadOptions
from ingest.loaders.package import open_package
from ingest.types import Document

_WRAPPERS = frozenset((
    "sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag", "AlternateContent", "Choice",
))  # fmt: skip
# What was deleted, what describes, the older form of a shape, the reading above a word.
_DROPPED = frozenset({"del", "moveFrom", "pPr", "rPr", "tblPr", "sdtPr", "Fallback", "rt"})
_SIGNS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_HEADING = re.compile(r"head(?:ing)? ?(?P<level>[1-9a-e])|(?:chapter ?)?title", re.I)
_CONTENTS = re.compile(r"toc (?:\d|heading)|table of figures", re.I)
_LIST = re.compile(r"list (?:bullet|number)", re.I)
_CAPTION = re.compile(r"caption", re.I)
_CODE = re.compile(r"(?:source ?|html )?(?:code|preformatted)(?!.*(?:label|caption|title))", re.I)
_NO_HEADING = 9  # the outline level of other text
_DEEPEST = 8  # level of a list, from 0
_WIDEST = 100  # columns that a cell may span


def load_docx(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by its paragraph of that style, its properties or its first heading.

    Contents, headers, footers, comments and hidden text are left out.
    """
    package = open_package(data, options)
    main = package.related().get("officeDocument", "")
    body = package.xml(main).find("body") if main else None
    if body is None:
        raise LoadError("not what its name says: it holds no Word document", "check what it is")
    parts = {
        kind: package.xml(name)
        for kind, name in package.related(main).items()
        if kind in ("styles", "numbering", *_NOTES.values())
    }
    writer = _Writer(parts, Builder(options))
    writer.write(body)
    title, metadata = package.properties()
    title = writer.title or title or writer.builder.first_heading
    return (writer.builder.document(source, title, metadata),)


class _Writer:
    """Where the walk through a document stands."""

    def __init__(self, parts: dict[str, Element], builder: Builder) -> None:
        self.builder = builder
        self.title = ""
        self._styles = {style.get("styleId"): style for style in parts.get("styles", ())}
        self._numbering = Numbering(parts.get("numbering"))
        self._notes = {
            (reference, note.get("id")): note
            for reference, part in _NOTES.items()
            for note in parts.get(part, ())
        }
        self._note_count = 0
        self._code: list[str] = []  # the lines of a listing: for Word, each is a paragraph
        # Met in the paragraph or table that is being read; they are written below it.
        self._boxes: list[Element] = []
        self._footnotes: list[str] = []

    def write(self, parent: Element) -> None:
        """Write the paragraphs and tables in an element, each with its caption, boxes and notes."""
        items = [item for item in _contents(parent) if item.tag in ("p", "tbl")]
        captions = self._captions(items)
        used = set(captions.values())
        for index, item in enumerate(items):
            if item.tag == "tbl":
                self._end_code()
                caption = self._numbered(captions[index]) if index in captions else ""
                self._write_table(item, caption)
            elif item not in used:
                self._write_paragraph(item)
            self._write_below()
        self._end_code()

    def _captions(self, items: Sequence[Element]) -> dict[int, Element]:
        """By each table's index its caption: the paragraph before it or after it."""
        free = {
            index: item
            for index, item in enumerate(items)
            if _CAPTION.search(_name(self._chain(item)))
        }
        return {
            index: free.pop(min(near))
            for index, item in enumerate(items)
            if item.tag == "tbl" and (near := {index - 1, index + 1} & free.keys())
        }

    def _write_paragraph(self, paragraph: Element) -> None:
        chain = self._chain(paragraph)
        name = _name(chain)
        if _CODE.match(name):
            self._code.append("".join(self._spans(paragraph)))
            return
        self._end_code()
        text = self._text(paragraph)
        # An empty item of a list counts, one that was deleted does not.
        if not text and paragraph.find("pPr/rPr/del") is not None:
            return
        marker = self._marker(chain)
        if not text or _CONTENTS.match(name):
            return
        if level := _level(chain):
            self.builder.heading(level, text if marker == BULLET else f"{marker} {text}")
            self.title = self.title or (text if name.lower() == "title" else "")
        elif marker and not _CAPTION.search(name):
            self.builder.item(text, f"{marker} ", _depth(chain))
        else:
            self.builder.prose(f"{marker} {text}")

    def _write_table(self, table: Element, caption: str) -> None:
        rows = [row for row in _contents(table) if row.tag == "tr" and row.find("trPr/del") is None]
        cells = [[cell for cell in _contents(row) if cell.tag == "tc"] for row in rows]
        if sum(map(len, cells)) == 1:  # a frame around text
            self.builder.prose(caption)
            self.write(next(filter(None, cells))[0])
            return
        marked = len(list(takewhile(lambda row: _is_on(row, "trPr/tblHeader"), rows)))
        self.builder.table(
            (list(self._row(row)) for row in cells),
            header_rows=marked or int(len(rows) > 1),
            caption=caption,
        )

    def _numbered(self, paragraph: Element) -> str:
        """A paragraph's text with what stands before it."""
        return f"{self._marker(self._chain(paragraph))} {self._text(paragraph)}"

    def _row(self, cells: Sequence[Element]) -> Iterator[str]:
        """The texts of a row, with empty ones where a cell spans several columns."""
        for cell in cells:
            yield self._text(cell)
            span = number(value(cell, "tcPr/gridSpan"), 1)
            yield from [""] * (min(span, _WIDEST) - 1)

    def _write_below(self) -> None:
        """Write the text boxes and notes of the paragraph or table above."""
        boxes, self._boxes = self._boxes, []
        notes, self._footnotes = self._footnotes, []
        if boxes or notes:
            self._end_code()
        for box in boxes:
            self.write(box)
        for note in notes:
            self.builder.prose(note)

    def _end_code(self) -> None:
        self.builder.code("\n".join(self._code))
        self._code.clear()

    def _text(self, element: Element) -> str:
        return tidy_lines("".join(self._spans(element)))

    def _spans(self, element: Element) -> Iterator[str]:
        """The pieces of text below an element that are shown in its place."""
        for child in element:
            if child.tag in _DROPPED or (child.tag == "r" and _is_on(child, "rPr/vanish")):
                continue
            if child.tag == "t":
                yield (child.text or "").replace("\n", " ")
            elif child.tag in _NOTES:
                yield self._reference(child)
            elif child.tag == "txbxContent":
                self._boxes.append(child)
            else:
                yield _SIGNS.get(child.tag, "")
                yield from self._spans(child)
                yield "\n" if child.tag == "p" else ""  # of a cell or a note

    def _reference(self, element: Element) -> str:
        """The sign of a note, whose text is kept to be written below."""
        # Taken out, so that a note that refers to itself ends.
        note = self._notes.pop((element.tag, element.get("id")), None)
        if note is None:
            return ""
        self._note_count += 1
        sign = f"[{self._note_count}]"
        self._footnotes.append(f"{sign} {self._text(note)}")
        return sign

    def _marker(self, chain: Sequence[Element]) -> str:
        """What stands before a paragraph of a list; "" for one of no list."""
        list_id = _nearest(chain, "pPr/numPr/numId")
        if list_id is None:
            return BULLET if _LIST.match(_name(chain)) else ""
        return "" if list_id == "0" else self._numbering.next(list_id, _depth(chain))

    def _chain(self, paragraph: Element) -> list[Element]:
        """A paragraph, its style, the style that this is based on, and so on."""
        chain = [paragraph]
        style = self._styles.get(value(paragraph, "pPr/pStyle"))
        while style is not None and style not in chain:
            chain.append(style)
            style = self._styles.get(value(style, "basedOn"))
        return chain


def _contents(element: Element) -> Iterator[Element]:
    """The elements in another, looking into those that only enclose."""
    for child in element:
        if child.tag in _WRAPPERS:
            yield from _contents(child)
        elif child.tag != "Fallback":
            yield child


def _name(chain: Sequence[Element]) -> str:
    """The name of a paragraph's style; Word keeps the English one of those it brings along."""
    return _nearest(chain[1:2], "name") or ""


def _nearest(chain: Sequence[Element], path: str) -> str | None:
    """The value that the first of the elements has that has one."""
    return next((found for e in chain if (found := value(e, path)) is not None), None)


def _level(chain: Sequence[Element]) -> int:
    """The level of a heading; 0 for another paragraph."""
    outline = _nearest(chain, "pPr/outlineLvl")
    if outline is not None:
        level = number(outline, _NO_HEADING)
        return level + 1 if 0 <= level < _NO_HEADING else 0
    names = (_HEADING.fullmatch(value(style, "name") or "") for style in chain[1:])
    grade = next((name["level"] or "1" for name in names if name), "0").lower()
    return int(grade) if grade.isdecimal() else "abcde".index(grade) + 1


def _depth(chain: Sequence[Element]) -> int:
    """How deep in its list a paragraph is, from 0."""
    return min(max(number(_nearest(chain, "pPr/numPr/ilvl"), 0), 0), _DEEPEST)


def _is_on(parent: Element, path: str) -> bool:
    """Whether a property is set: it is there, and does not say otherwise."""
    found = value(parent, path)
    return found is not None and found not in ("0", "false", "off")
