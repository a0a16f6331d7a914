"""Words that lines cut in two, put together again."""

import re
from collections.abc import Iterable, Set

_HYPHENS = ("-", "‐")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SUSPENDED = re.compile(r"(?:und|oder|bis|and|or|to)\b")  # as in "one- or two-sided"
_SPACELESS = "[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"  # Chinese and Japanese
_SPACELESS_JOINT = re.compile(f"{_SPACELESS}\n{_SPACELESS}")


def words_of(lines: Iterable[str]) -> Set[str]:
    """The words of a text in lower case, less the parts of those that its lines cut in two."""
    words: set[str] = set()
    cut = False
    for line in lines:
        whole = line.partition(" ")[2] if cut else line
        cut = line.endswith(_HYPHENS)
        words.update(_WORD.findall((whole.rpartition(" ")[0] if cut else whole).lower()))
    return words


def joint(line: str, below: str, words: Set[str]) -> str:
    """A line as it is to be written before the next one: with a space, or without its hyphen.

    A hyphen stays before capitals and figures, and where the document, whose `words` are given, has
    the word with its hyphen but not without.
    """
    if not line.endswith(_HYPHENS) or line[-2:-1].isspace() or _SUSPENDED.match(below):
        return line + ("" if _SPACELESS_JOINT.match(f"{line[-1:]}\n{below[:1]}") else " ")
    last, rest = _WORD.findall(line[line.rfind(" ") + 1 :]), _WORD.match(below)
    if not last or not rest:
        return line
    first, second = last[-1].lower(), rest[0].lower()
    stays = not rest[0][0].islower() or f"{first}-{second}" in words
    return line if stays and first + second not in words else line[:-1]
