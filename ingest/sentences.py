"""Sentence boundaries as spans of the original text: the unit that is cited.

Rules, not a model: a boundary must be cheap at ingest, the same on every run, and exact. One
pass cuts a text into blocks (blank lines, lines that are a heading, a list item, a table row or a
fence, and lines too long to be wrapped ones); inside a block a stop ends a sentence unless an
abbreviation, an initial, a number or a lower-case continuation says otherwise.
"""

import re
from collections.abc import Iterator

# A row of a table: of Markdown, of our loaders, or cells apart on a line of plain text.
_ROW = r"\||[^|]{0,200}\S \| |\S+(?: {1,2}\S+)*(?: {4,}|\t+)\S"
# A line that begins a block of its own whatever stands before it, by its first characters.
_LINE_START = re.compile(
    r"[ \t]*(?:\#{1,6}[ \t]|[-*+\u2022\u2023\u25aa\u25cf\u00b7][ \t]|\(?\d{1,3}[.)][ \t]"
    rf"|\(?[a-zA-Z]\)[ \t]|{_ROW}|```|~~~|:::|---|===|\*\*\*)"
)
# Such a line is one span by itself: what follows it begins another.
_LINE_ALONE = re.compile(
    rf"[ \t]*(?:\#{{1,6}}[ \t]|{_ROW}|```|~~~|:::|-{{3,}}\s*$|={{3,}}\s*$|\*{{3,}}\s*$)"
)
_LIST_MARKER = re.compile(r"[ \t]*(?:\(?(?:\d{1,3}|[a-zA-Z])[.)]|[-*+\u2022])[ \t]+")
_END_OF_LINE = re.compile(r"[^\S\n]*(\n)([^\n]*)")
_BREAKS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")

# Lines are wrapped at less: one that is longer is a paragraph by itself.
_WRAPPED = 200
# Longer than any sentence that is worth citing whole: a listing, or a table that lost its rules.
_LONGEST = 600

_CLOSING = "\"')\\]}\u2019\u201d\u00bb\u203a\uff02\u300d\u300f\uff09\u3011\u3009\u300b*_`"
_OPENING = "\"'(\\[{\u2018\u201c\u00ab\u2039\u201e\u201a\u00bf\u00a1*_"
# A citation or footnote marker after the stop belongs to the sentence before it.
_MARKERS = r"(?:[ \t]?\[(?:\^[\w-]{1,20}|\d{1,3}(?:,[ ]?\d{1,3})*)\])*+"
_STOP = re.compile(
    rf"[.!?\u2026\u061f\u06d4]++[{_CLOSING}]*+{_MARKERS}(?=\s)"
    # Without spaces after them; a quotation that Japanese goes on from with "to" is not the end.
    rf"|[\u3002\uff01\uff1f\uff61\u0964\u0965\u104b\u17d4\u1362]++[{_CLOSING}]*+{_MARKERS}(?!\u3068)"
)
_LAST_WORD = re.compile(r"[^\s(\[\"'\u201c\u2018/\u2013\u2014-]*$")
_NEXT = re.compile(rf"\s+[{_OPENING}]*(\S)")
_WORD = re.compile(r"\w+")
_INITIALS = re.compile(r"[A-Z](?:\.[A-Z])*")
# German ordinals ("am 3. Mai"), and abbreviations with a space inside ("z. B.").
_ORDINAL = re.compile(
    r"\b(?:am|im|der|die|das|dem|den|des|vom|zum|zur|bis|ab|seit)\s\d{1,2}$", re.IGNORECASE
)
_ONE_LETTER = re.compile(r"[^\W\d_]\.")

_TITLES = (
    "Mr Mrs Ms Dr Prof Rev Hon Gen Col Capt Cmdr Lt Sgt Maj Gov Sen Rep Pres St Messrs Mme Mlle"
)
_ABBREVIATIONS = "e.g i.e eg ie cf vs viz approx figs eqs eds al bzw z.b d.h u.a evtl ggf s.o"
_BEFORE_NUMBERS = (
    "no nos nr p pp vol ch sec fig eq art para abs v ver jan feb mar apr jun jul aug sep sept oct "
    "nov dec ext tel fax bd kap ziff"
)
_AT_EITHER_PLACE = (
    "inc ltd corp co llc jr sr bros etc u.s u.k u.n e.u a.m p.m d.c ph.d m.d b.a m.a dept est ca"
)
_AFTER_ORDINALS = (
    "januar februar märz april mai juni juli august september oktober november dezember jahrhundert"
)
_FIRST_WORDS = (
    "the a an this that these those it he she they we you i in on at for from after before if "
    "when while as but and or however since although there here its his her their our by to with"
)
# A stop never ends a sentence behind these: titles as written, abbreviations in any case.
_NEVER_LAST = frozenset([*_TITLES.split(), *_ABBREVIATIONS.split()])
# It does behind these unless a number follows: "No. 5", but "She said no."
_BEFORE_NUMBER = frozenset(_BEFORE_NUMBERS.split())
# It does behind these only if a word follows that commonly begins a sentence.
_PERHAPS_LAST = frozenset(_AT_EITHER_PLACE.split())
# A short number before one of these is a German ordinal: "am 3. Mai".
_ORDINAL_NOUNS = frozenset(_AFTER_ORDINALS.split())
_STARTERS = frozenset(_FIRST_WORDS.split())


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The sentences of `text[start:end]` as half-open spans of `text`.

    Spans ascend, do not overlap, begin and end with a character that is not white space, and
    together hold every such character of the range. A heading, a table row and a fence line are
    each one span; a list item begins one.
    """
    stop = len(text) if end is None else min(end, len(text))
    spans: list[tuple[int, int]] = []
    for block_start, block_end, whole in _blocks(text, start, stop):
        cut = _trimmed if whole else _sentences
        spans += cut(text, block_start, block_end)
    return spans


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Stretches that a sentence never crosses, by lines; True for one that is not cut further."""
    open_start = -1  # where the open block began, or -1
    open_end = start
    before_long = False
    for line_start, line_end in _lines(text, start, end):
        blank = not text[line_start:line_end].strip()
        long = line_end - line_start > _WRAPPED
        begins = blank or long or before_long or _LINE_START.match(text, line_start, line_end)
        before_long = long
        if begins and open_start >= 0:
            yield open_start, open_end, False
            open_start = -1
        if not blank and open_start < 0 and _LINE_ALONE.match(text, line_start, line_end):
            yield line_start, line_end, True
        elif not blank:
            open_start = line_start if open_start < 0 else open_start
            open_end = line_end
    if open_start >= 0:
        yield open_start, open_end, False


def ends_paragraph(text: str, at: int) -> bool:
    """Whether an offset is the end of a line, and that or the next line is too long to be wrapped.

    Lines of other lengths may be parts of one paragraph.
    """
    line_break = _END_OF_LINE.match(text, at)
    if line_break is None:
        return False
    begin = text.rfind("\n", 0, at) + 1
    return line_break.start(1) - begin > _WRAPPED or len(line_break[2]) > _WRAPPED


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The lines of a range without their line breaks."""
    at = start
    for line_break in _BREAKS.finditer(text, start, end):
        yield at, line_break.start()
        at = line_break.end()
    yield at, max(at, end)


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of one block."""
    at = start
    marker = _LIST_MARKER.match(text, start, end)
    search_from = marker.end() if marker else start  # the stop of "1." ends nothing
    for stop in _STOP.finditer(text, search_from, end):
        if _ends_sentence(text, at, stop, end):
            yield from _pieces(text, at, stop.end())
            at = stop.end()
    yield from _pieces(text, at, end)


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """One sentence; line by line where it is too long to be one."""
    lines = [(start, end)] if end - start <= _LONGEST else _lines(text, start, end)
    for line_start, line_end in lines:
        yield from _trimmed(text, line_start, line_end)


def _ends_sentence(text: str, start: int, stop: re.Match[str], end: int) -> bool:
    """Whether a stop closes the sentence begun at `start`."""
    mark = stop.group()[0]
    if mark not in ".!?\u2026":
        return True
    following = _NEXT.match(text, stop.end(), end)
    if following is None:
        return True
    if following.group(1).islower():
        return False
    if stop.group() != ".":
        return True  # an ellipsis, or a quotation mark or bracket after the stop
    if _ORDINAL.search(text, max(start, stop.start() - 8), stop.start()):
        return False
    found = _LAST_WORD.search(text, max(start, stop.start() - 24), stop.start())
    return _word_may_end(found.group() if found else "", text, following.start(1))


def _word_may_end(word: str, text: str, next_start: int) -> bool:
    """Whether a full stop behind this word can end a sentence, given what begins next."""
    folded = word.casefold()
    if word in _NEVER_LAST or folded in _NEVER_LAST:
        return False
    if len(word) == 1 and word.isalpha() and _ONE_LETTER.match(text, next_start):
        return False
    if folded in _BEFORE_NUMBER and (text[next_start].isdigit() or text[next_start] == "+"):
        return False
    following = _WORD.match(text, next_start)
    following_word = following.group().casefold() if following else ""
    if folded in _PERHAPS_LAST or _INITIALS.fullmatch(word):
        return following_word in _STARTERS
    return not (word.isdigit() and len(word) <= 2 and following_word in _ORDINAL_NOUNS)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The span without white space at its ends, if anything is left."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    if left < len(piece):
        yield start + left, start + len(piece.rstrip())
