"""A model's text made safe and plain, and citation markers read and written. Pure functions.

Nothing that a document smuggled in may act when an answer is shown: no images, no links, no
characters that hide or reorder text.
"""

import re
from collections.abc import Sequence

# Control characters save tab and newline, bidirectional overrides, zero-width and tag characters,
# interlinear marks, lone surrogates. Joiners stay between letters that need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
_THINKING = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\((?:[^()\s]|\([^()\s]*\))*(?:\s+[\"'(][^\n]*?[\"')])?\s*\)")
_LINK_DEFINITION = re.compile(r"(?m)^[ \t]*\[[^\]\n]+\]:[ \t]*\S+[ \t]*(?:[\"'(].*)?$")
_AUTOLINK = re.compile(r"<((?:https?|ftp|mailto):[^<>\s]*)>", re.IGNORECASE)
_ELEMENT = re.compile(r"<[a-z!/][^<>]*=[^<>]*>", re.IGNORECASE)  # with an attribute
_INLINE_CODE = re.compile(r"(`+[^`]*`+)")

_WORD = r"(?:(?:passages?|sources?|documents?|docs?|citations?|refs?)\.?\s*)?[#^]?"
_MARKER = (
    rf"(?:\[|\u3010)\s*{_WORD}\d{{1,3}}(?:\u2020[^\]\u3011\n]*)?"
    rf"(?:\s*(?:,|;|&|and|-|\u2013)\s*{_WORD}\d{{1,3}})*\s*(?:\]|\u3011)"
)
_MARKERS = re.compile(rf"[ \t]*{_MARKER}", re.IGNORECASE)
_ATTRIBUTION = re.compile(
    r"^(\s*)(?:according to|as (?:stated|described|mentioned|noted|shown) in|based on|per|from|in)"
    rf" (?:the )?(?:passages?|sources?|documents?)?\s*(?:{_MARKER}(?:\s*(?:,|and)?\s*))+,?\s*(\w)",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"(\d{1,3})(?:\s*[-\u2013]\s*(\d{1,3}))?")
_LONGEST_RANGE = 10
_EMPTY_BRACKETS = re.compile(r"[ \t]*\(\s*\)")
# The final stop with what closes after it, or the border of a table row.
_END = re.compile(
    r"[.!?\u2026\u3002\uff01\uff1f\u061f\u06d4\u0964]+[\"')\]}\u2019\u201d\u00bb\u300d*_]*$"
    r"|[ \t]*\|$"
)
_UNSPACED = re.compile("[\u0e00-\u0eff\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]$")


def plain_text(text: str, *, code: bool = False) -> str:
    """Model text without hidden characters; outside code also without links, images and markup.

    A link becomes its text. What could still be read as one, once pieces are joined, is broken.
    """
    text = _HIDDEN.sub("", text)
    if code:
        return text
    pieces = _INLINE_CODE.split(_THINKING.sub("", text))
    pieces[::2] = [_without_links(piece) for piece in pieces[::2]]
    return "".join(pieces).replace("](", "] (").replace("![", "[")


def _without_links(text: str) -> str:
    """Links and images reduced to their words; a marker that was made a link is a marker."""
    text = _LINK_DEFINITION.sub("", _AUTOLINK.sub(r"\1", text))
    return _ELEMENT.sub("", _LINK.sub(_link_text, text))


def _link_text(link: re.Match[str]) -> str:
    words = link.group(1)
    return f"[{words}]" if words.strip("^ ").isdecimal() else words


def parse_markers(text: str) -> tuple[str, tuple[int, ...]]:
    """Plain text without its citation markers, and the passage numbers they gave, in order.

    Read are [1], [1, 2], [1-3], [1][2], [^1], [Passage 1] and the same in lenticular brackets;
    round brackets are not, for they enclose numbers in ordinary prose. Inline code keeps its
    brackets.
    """
    cited: dict[int, None] = {}

    def drop(match: re.Match[str]) -> str:
        cited.update(dict.fromkeys(_cited_numbers(match.group())))
        return "".join(match.groups()).upper()  # the letter that then begins the sentence

    pieces = _INLINE_CODE.split(plain_text(text))
    pieces[0] = _ATTRIBUTION.sub(drop, pieces[0])
    pieces[::2] = [_EMPTY_BRACKETS.sub("", _MARKERS.sub(drop, piece)) for piece in pieces[::2]]
    return "".join(pieces), tuple(cited)


def _cited_numbers(marker: str) -> list[int]:
    """The numbers in a marker, ranges spelled out."""
    numbers: list[int] = []
    for first, last in _NUMBERS.findall(marker):
        end = int(last) if last and 0 < int(last) - int(first) < _LONGEST_RANGE else int(first)
        numbers.extend(range(int(first), end + 1))
    return numbers


def with_markers(text: str, numbers: Sequence[int]) -> str:
    """A sentence with markers before its final stop: "Text [1]." and "Text [1][2]." """
    if not numbers:
        return text
    end = _END.search(text)
    at = end.start() if end else len(text)
    space = "" if _UNSPACED.search(text[:at]) else " "
    return text[:at] + space + "".join(f"[{number}]" for number in numbers) + text[at:]
