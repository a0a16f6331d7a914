"""Document to chunks: boundaries first, text sliced afterwards, so that offsets are exact.

A chunk never crosses a heading or a page, and never cuts inside a sentence, a table row, a list
line or a code line unless that alone is longer than a chunk. Within a section the cuts are those
of least total cost: few chunks, evenly filled, ending where paragraphs end.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingest.config import IndexSettings
from ingest.sentences import sentence_spans
from ingest.types import Block, Chunk, Document, heading_path, page_at
from ingest.wordpieces import MODEL_WINDOW, SPECIAL_TOKENS

_SMALLEST_LIMIT = 64  # a very long heading path must not starve the text below it
_LABEL_CHARACTERS = 120  # a heading longer than this is a paragraph in disguise
_UNEVEN = 0.5  # cost of an empty chunk against a full one; a chunk more costs 1
_CUT_INSIDE_BLOCK = 0.15  # cost of ending a chunk at a sentence instead of a paragraph
_CUT_INSIDE_SENTENCE = 0.5


class Tokenizer(Protocol):
    """The ruler of chunk sizes."""

    def starts(self, text: str) -> list[int]:
        """The ascending offsets at which tokens begin."""

    def count(self, text: str) -> int:
        """The number of tokens of a text."""


@dataclass(frozen=True, slots=True)
class _Section:
    """Blocks under one heading on one page."""

    path: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """The smallest span that stays whole; `cut` is what it costs to end a chunk behind it."""

    start: int
    end: int
    cut: float


def chunk(document: Document, tokenizer: Tokenizer, settings: IndexSettings) -> tuple[Chunk, ...]:
    """Cut a document into chunks of at most `settings.chunk_tokens` tokens, in reading order.

    Every non-space character of the text is in exactly one chunk, and
    `document.text[chunk.start:chunk.end] == chunk.text`.
    """
    text = document.text
    starts = tokenizer.starts(text)
    spans = [
        (start, end, section.path)
        for section in _sections(document)
        for start, end in _cut(
            text, section, starts, _limit(document, section, tokenizer, settings)
        )
    ]
    return tuple(
        Chunk(ordinal, start, end, text[start:end], page_at(document.page_starts, start), path)
        for ordinal, (start, end, path) in enumerate(spans)
    )


def _limit(
    document: Document, section: _Section, tokenizer: Tokenizer, settings: IndexSettings
) -> int:
    """Tokens left for text once the heading path stands in front of it."""
    prefix = tokenizer.count(heading_path(document.title, section.path))
    room = MODEL_WINDOW - SPECIAL_TOKENS - prefix
    return max(_SMALLEST_LIMIT, min(settings.chunk_tokens, room))


def _sections(document: Document) -> Iterator[_Section]:
    """Group blocks under their headings; a heading without a body joins the section below it."""
    stack: list[Block] = []
    held: list[Block] = []
    page: int | None = None
    for block in document.blocks:
        here = page_at(document.page_starts, block.start)
        opens = block.kind == "heading" and any(b.kind != "heading" for b in held)
        if held and (opens or here != page):
            yield _Section(_path(stack), tuple(held))
            held = []
        page = here
        if block.kind == "heading":
            stack = [*(b for b in stack if b.level < block.level), block]
        held.append(block)
    if held:
        yield _Section(_path(stack), tuple(held))


def _path(stack: Sequence[Block]) -> str:
    return " > ".join(block.label[:_LABEL_CHARACTERS] for block in stack if block.label)


def _cut(text: str, section: _Section, starts: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """The chunk spans of one section: the cheapest way to divide its pieces."""
    pieces = [piece for block in section.blocks for piece in _pieces(text, block, starts, limit)]
    if not pieces:
        return []
    first = [bisect_left(starts, piece.start) for piece in pieces]
    last = [bisect_left(starts, piece.end) for piece in pieces]
    best = [0.0]
    previous = [0]
    for end in range(1, len(pieces) + 1):
        cost, begin = min(
            (best[begin] + _cost(last[end - 1] - first[begin], limit), begin)
            for begin in _begins(first, last, end, limit)
        )
        best.append(cost + pieces[end - 1].cut)
        previous.append(begin)
    return [(pieces[begin].start, pieces[end - 1].end) for begin, end in _walk_back(previous)]


def _begins(first: Sequence[int], last: Sequence[int], end: int, limit: int) -> Iterator[int]:
    """Where a chunk that ends before piece `end` may begin; a single piece is always allowed."""
    begin = end - 1
    yield begin
    while begin > 0 and last[end - 1] - first[begin - 1] <= limit:
        begin -= 1
        yield begin


def _cost(size: int, limit: int) -> float:
    return 1 + _UNEVEN * (max(0, limit - size) / limit) ** 2


def _walk_back(previous: Sequence[int]) -> list[tuple[int, int]]:
    spans = []
    end = len(previous) - 1
    while end > 0:
        spans.append((previous[end], end))
        end = previous[end]
    return spans[::-1]


def _pieces(text: str, block: Block, starts: Sequence[int], limit: int) -> list[_Piece]:
    """Cut a block as coarsely as its kind and the limit allow."""
    start, end = _trim(text, block.start, block.end, keep_indent=block.kind == "code")
    if start == end:
        return []
    if block.kind != "prose" and _tokens(starts, start, end) <= limit:
        # A heading costs nothing to keep and much to part from what it names.
        return [_Piece(start, end, float(block.kind == "heading"))]
    spans = (
        sentence_spans(text, start, end)
        if block.kind == "prose"
        else _lines(text, start, end, keep_indent=block.kind == "code")
    )
    pieces = [
        _Piece(a, b, _CUT_INSIDE_BLOCK if b == span_end else _CUT_INSIDE_SENTENCE)
        for span_start, span_end in spans
        for a, b in _fit(text, span_start, span_end, starts, limit)
    ]
    return [*pieces[:-1], _Piece(pieces[-1].start, pieces[-1].end, 0.0)]


def _tokens(starts: Sequence[int], start: int, end: int) -> int:
    return bisect_left(starts, end) - bisect_left(starts, start)


def _lines(text: str, start: int, end: int, *, keep_indent: bool) -> list[tuple[int, int]]:
    spans = []
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        line = _trim(text, start, stop, keep_indent=keep_indent)
        if line[0] < line[1]:
            spans.append(line)
        start = stop + 1
    return spans


def _fit(
    text: str, start: int, end: int, starts: Sequence[int], limit: int
) -> Iterator[tuple[int, int]]:
    """Divide a span that is longer than a chunk: at white space, else between tokens."""
    while _tokens(starts, start, end) > limit:
        # One character may make several tokens: always move on by at least one character.
        cut = max(start + 1, starts[bisect_left(starts, start) + limit])
        space = max(text.rfind(" ", start, cut), text.rfind("\n", start, cut))
        if space > start + (cut - start) // 2:
            cut = space
        yield _trim(text, start, cut)
        start = _trim(text, cut, end)[0]
    if start < end:
        yield start, end


def _trim(text: str, start: int, end: int, *, keep_indent: bool = False) -> tuple[int, int]:
    """Shrink a span to what is not white space; code keeps its first line's indent."""
    while end > start and text[end - 1].isspace():
        end -= 1
    first = start
    while first < end and text[first].isspace():
        first += 1
    if keep_indent and first < end:
        first = max(start, text.rfind("\n", start, first) + 1)
    return first, end
