"""Lines in reading order to headings, paragraphs, lists and tables.

What a PDF does not say is told from what a reader sees: how far apart lines stand, where they begin
and end, how large and how bold they are. In doubt, lines are a paragraph.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from ingest.loaders.builder import Builder
from ingest.loaders.pdf_layout import Line
from ingest.loaders.pdf_pages import Bookmark
from ingest.loaders.pdf_tables import table_of, table_spans
from ingest.loaders.pdf_words import joint, words_of

_BULLET = re.compile(r"[•◦▪‣●○■–*·-]\s")
_ITEM = re.compile(rf"{_BULLET.pattern}|(?:\(?\d{{1,2}}[.)]|\(?[a-z]\)|\[\d{{1,3}}\])\s")
_CAPTION = re.compile(r"(?:table|tabelle|tableau|figure|fig\.|abbildung)\s*\d", re.I)
_SENTENCE_END = re.compile(r"[.!?:;。！？][\"'”’)\]]*$")
_NO_HEADING = re.compile(r"^[a-z]|[.,;:。]$|^\W*\w?\W*$|^[\d\W]*$")
_NUMBERING = re.compile(r"(?:[^\W\d]{4,10}\s)?[\divx.]+[.:)]?\s+", re.I)  # "Chapter 2: ", "2.1 "
_NOT_WORD = re.compile(r"[\W_]+")
_LEADING = 1.25  # lines further apart than so many times the usual distance are parted
_ANY_LEADING = 1.5  # of the font's size
_SAME_SIZE = 0.1  # of the font's size: a difference that is none
_INDENT = 0.8  # of the font's size
_LETTER = 0.6  # of the font's size: the width of a letter, to be on the safe side
_LARGER = 1.15  # a heading's size in that of the text
_HEADING_LINES = 3
_HEADING_CHARACTERS = 120
_MOST_HEADINGS = 2  # no more than one group in so many: else those are no headings
_LEVELS = 6
_LONGEST_WORD = 12  # letters: what is longer may be cut

Style = tuple[int, bool]  # of a heading: its size (0 for the text's own) and whether it is bold


@dataclass(frozen=True, slots=True)
class _Group:
    """Lines that belong together; `level` is that of a heading of the outline."""

    lines: Sequence[Line]
    is_table: bool = False
    level: int = 0


@dataclass(frozen=True, slots=True)
class _Look:
    """What a document's text looks like: its size, the levels of its headings, and its words."""

    size: float
    levels: Mapping[Style, int]
    words: Set[str]


def write_pages(
    pages: Sequence[Sequence[Line]], outline: Iterable[Bookmark], builder: Builder
) -> None:
    """Add pages, given as their lines in reading order."""
    bookmarks: dict[int, list[Bookmark]] = defaultdict(list)
    for bookmark in outline:
        bookmarks[bookmark.page].append(bookmark)
    grouped = [_groups(lines, bookmarks[number]) for number, lines in enumerate(pages)]
    look = _look(pages, [group for groups in grouped for group in groups])
    for groups in grouped:
        builder.page()
        for group in groups:
            _write(group, look, builder)


def _groups(lines: Sequence[Line], bookmarks: Sequence[Bookmark]) -> list[_Group]:
    """The lines of a page in groups; those that a bookmark names are headings."""
    groups: list[_Group] = []
    at = 0
    leading = _leading(lines)
    for start, end, level in sorted(_named(lines, bookmarks)):
        if start >= at:
            groups += _unnamed(lines[at:start], leading)
            groups.append(_Group(lines[start:end], level=level))
            at = end
    return groups + _unnamed(lines[at:], leading)


def _leading(lines: Sequence[Line]) -> float:
    """The distance of the lines of a paragraph, in units of their size: a small one of many."""
    distances = sorted(
        (line.y - below.y) / below.size
        for line, below in pairwise(lines)
        if line.column == below.column and len(line.cells) == len(below.cells) == 1
    )
    return distances[len(distances) // 4] if distances else _ANY_LEADING


def _named(lines: Sequence[Line], bookmarks: Sequence[Bookmark]) -> Iterator[tuple[int, int, int]]:
    """Where the title of each bookmark stands first on the page, and the bookmark's level."""
    spans: dict[str, tuple[int, int]] = {}
    for start in range(len(lines) if bookmarks else 0):
        for end in range(start + 1, min(start + _HEADING_LINES, len(lines)) + 1):
            title = " ".join(line.text for line in lines[start:end])
            spans.setdefault(_key(title), (start, end))
    for bookmark in bookmarks:
        if span := spans.get(_key(bookmark.title)):
            yield *span, bookmark.level


def _key(title: str) -> str:
    """What is compared of a title: its letters and figures without its number."""
    return _NOT_WORD.sub("", _NUMBERING.sub("", title.strip(), count=1) or title).casefold()


def _unnamed(lines: Sequence[Line], leading: float) -> list[_Group]:
    """Lines in groups: tables, and what lies between them."""
    groups: list[_Group] = []
    at = 0
    for start, end in table_spans(lines):
        groups += _parted(lines[at:start], leading)
        groups.append(_Group(lines[start:end], is_table=True))
        at = end
    return groups + _parted(lines[at:], leading)


def _parted(lines: Sequence[Line], leading: float) -> list[_Group]:
    groups: list[list[Line]] = []
    for line in lines:
        if groups and not _parts(groups[-1], line, leading):
            groups[-1].append(line)
        else:
            groups.append([line])
    return [_Group(group) for group in groups]


def _parts(group: Sequence[Line], line: Line, leading: float) -> bool:
    """Whether a line begins something new."""
    above, text = group[-1], line.text
    if abs(above.size - line.size) > _SAME_SIZE * line.size:
        return True
    if line.bold > above.bold or above.bold > line.cells[0].bold:
        return True
    if _ITEM.match(text) or _CAPTION.match(text):
        return True
    if line.column != above.column:
        return bool(_SENTENCE_END.search(above.text)) or not text[0].islower()
    if (above.y - line.y) / line.size > _LEADING * leading:
        return True
    if not _ITEM.match(group[0].text) or line.x0 > group[0].x0 + _INDENT * line.size:
        return False
    return bool(_SENTENCE_END.search(above.text)) or _has_room(above, line, line.x1)


def _has_room(above: Line, line: Line, right: float) -> bool:
    """Whether the first word of a line would have fitted on the one above, up to `right`."""
    word = min(len(line.text.partition(" ")[0]), _LONGEST_WORD)
    fits = right - above.x1 > (word + 1) * _LETTER * line.size
    return fits and not above.text.endswith("-")


def _look(pages: Sequence[Sequence[Line]], groups: Sequence[_Group]) -> _Look:
    letters = Counter[float]()
    for line in (line for lines in pages for line in lines):
        letters[round(2 * line.size) / 2] += len(line.text)
    size = letters.most_common(1)[0][0] if letters else 1.0
    styles = Counter(filter(None, (_style(group, size) for group in groups)))
    if _MOST_HEADINGS * styles.total() > len(groups) or any(group.level for group in groups):
        styles.clear()
    words = words_of(line.text for lines in pages for line in lines)
    return _Look(size, _levels(styles), words)


def _levels(styles: Counter[Style]) -> dict[Style, int]:
    """Levels by size; of more styles than levels, the rare ones share that of the next larger."""
    common = [style for style, _ in styles.most_common(_LEVELS)]
    return {style: max(1, sum(other >= style for other in common)) for style in styles}


def _style(group: _Group, size: float) -> Style | None:
    """How a group looks, if it may be a heading."""
    if group.is_table or len(group.lines) > _HEADING_LINES:
        return None
    line = group.lines[0]
    text = " ".join(line.text for line in group.lines)
    if len(text) > _HEADING_CHARACTERS:
        return None
    if _NO_HEADING.search(text) or _BULLET.match(text) or _CAPTION.match(text):
        return None
    if line.size >= _LARGER * size:
        return round(line.size), line.bold
    return (0, True) if line.bold and line.size > size / _LARGER else None


def _write(group: _Group, look: _Look, builder: Builder) -> None:
    if group.is_table:
        rows, header = table_of(group.lines)
        builder.table(rows, header_rows=header)
    elif level := group.level or look.levels.get(_style(group, look.size) or (0, False), 0):
        builder.heading(level, _flowing(group.lines, look.words))
    elif _ITEM.match(group.lines[0].text):
        builder.line(_flowing(group.lines, look.words))
    else:
        for paragraph in _paragraphs(group.lines, look.words):
            builder.prose(paragraph)


def _flowing(lines: Sequence[Line], words: Set[str]) -> str:
    """Lines as one."""
    joints = (joint(line.text, below.text, words) for line, below in pairwise(lines))
    return "".join([*joints, lines[-1].text])


def _paragraphs(lines: Sequence[Line], words: Set[str]) -> Iterator[str]:
    """Lines as paragraphs: the next word would have fitted on a paragraph's last line.

    Where it would have fitted, but no sentence ends, the line break is kept.
    """
    columns = {line.column for line in lines}
    left = {column: min(line.x0 for line in lines if line.column == column) for column in columns}
    right = {column: max(line.x1 for line in lines if line.column == column) for column in columns}
    written: list[str] = []
    for line, below in pairwise(lines):
        breaks = _has_room(line, below, right[line.column])
        indented = below.x0 - left[below.column] > _INDENT * below.size
        if _SENTENCE_END.search(line.text) and (breaks or indented):
            yield "".join([*written, line.text])
            written = []
        else:
            written.append(f"{line.text}\n" if breaks else joint(line.text, below.text, words))
    yield "".join([*written, lines[-1].text])
