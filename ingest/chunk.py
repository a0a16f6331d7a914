"""Document to chunks: boundaries first, text sliced afterwards, so that offsets are exact.

A chunk never crosses a heading or a page, and never cuts inside a sentence, a table row, a list
line or a code line unless that alone is longer than a chunk. Within a section the cuts are those
of least total cost: few chunks, evenly filled, ending where paragraphs end. A chunk that goes on
with a table carries the span of the table's caption and header row.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ingest.config import IndexSettings
from ingest.sentences import ends_paragraph, sentence_spans
from ingest.types import LABEL_CHARACTERS, Block, Chunk, Document, Span, heading_path, page_at
from ingest.wordpieces import MODEL_WINDOW, SPECIAL_TOKENS

_SMALLEST_LIMIT = 64  # a very long heading path must not starve the text below it
_UNEVEN = 0.5  # cost of an empty chunk against a full one; a chunk more costs 1
_CUT_INSIDE_BLOCK = 0.15  # cost of ending a chunk at a sentence instead of a paragraph
_CUT_INSIDE_SENTENCE = 0.5
_CUT_BELOW_HEADER = 1.0
_HEADER_TOKENS = 96  # a table's header may take so much of a chunk; of a wider one its beginning
_CAPTION_CHARACTERS = 200
_LINE = re.compile("[^\n]+")
_CAPTION = re.compile(r"\W*(?:table|tab\.|tabelle|tableau|tabla|表)\s*\d", re.IGNORECASE)


class Tokenizer(Protocol):
    """The ruler of chunk sizes."""

    def starts(self, text: str) -> list[int]:
        """The ascending offsets at which tokens begin."""

    def count(self, text: str) -> int:
        """The number of tokens of a text."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """The smallest span that stays whole; `cut` is what it costs to end a chunk behind it, and
    `header` what a chunk that begins with it has to carry."""

    start: int
    end: int
    cut: float
    header: Span | None = None


def chunk(document: Document, tokenizer: Tokenizer, settings: IndexSettings) -> tuple[Chunk, ...]:
    """Cut a document into chunks of at most `settings.chunk_tokens` tokens, in reading order.

    Every non-space character of the text is in exactly one chunk, and
    `document.text[chunk.start:chunk.end] == chunk.text`.
    """
    text = document.text
    starts = tokenizer.starts(text)
    chunks: list[Chunk] = []
    for path, blocks in _sections(document):
        prefix = tokenizer.count(heading_path(document.title, path))
        # What is left for text once the heading path stands in front of it.
        room = min(settings.chunk_tokens, MODEL_WINDOW - SPECIAL_TOKENS - prefix)
        for start, end, header in _cut(text, blocks, starts, max(_SMALLEST_LIMIT, room)):
            page = page_at(document.page_starts, start)
            tokens = _tokens(starts, start, end)
            piece = text[start:end]
            chunks.append(Chunk(len(chunks), start, end, piece, page, path, tokens, header))
    return tuple(chunks)


def _sections(document: Document) -> Iterator[tuple[str, Sequence[Block]]]:
    """The blocks of each section, one heading on one page, and its path; a heading without a body
    joins the section below it."""
    stack: list[Block] = []
    held: list[Block] = []
    page: int | None = None
    for block in document.blocks:
        here = page_at(document.page_starts, block.start)
        opens = block.kind == "heading" and any(b.kind != "heading" for b in held)
        if held and (opens or here != page):
            yield _path(stack), held
            held = []
        page = here
        if block.kind == "heading":
            stack = [*(b for b in stack if b.level < block.level), block]
        held.append(block)
    if held:
        yield _path(stack), held


def _path(stack: Sequence[Block]) -> str:
    return " > ".join(block.label[:LABEL_CHARACTERS] for block in stack if block.label)


def _cut(
    text: str, blocks: Sequence[Block], starts: Sequence[int], limit: int
) -> list[tuple[int, int, Span | None]]:
    """The chunk spans of one section, with their headers: the cheapest way to divide its pieces."""
    pieces = list(_section_pieces(text, blocks, starts, limit))
    sizes = _Sizes(
        [bisect_left(starts, piece.start) for piece in pieces],
        [bisect_left(starts, piece.end) for piece in pieces],
        [_tokens(starts, *piece.header) if piece.header else 0 for piece in pieces],
    )
    best = [0.0]
    previous = [0]
    for end in range(1, len(pieces) + 1):
        cost, begin = min(
            (best[begin] + _cost(sizes.between(begin, end), limit), begin)
            for begin in _begins(sizes, end, limit)
        )
        best.append(cost + pieces[end - 1].cut)
        previous.append(begin)
    return [
        (pieces[begin].start, pieces[end - 1].end, pieces[begin].header)
        for begin, end in _walk_back(previous)
    ]


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Of each piece the number of its first token, that behind its last, and its header's size."""

    first: Sequence[int]
    last: Sequence[int]
    headers: Sequence[int]

    def between(self, begin: int, end: int) -> int:
        """Tokens of a chunk of the pieces `begin` to `end` (exclusive), its header included."""
        return self.last[end - 1] - self.first[begin] + self.headers[begin]


def _begins(sizes: _Sizes, end: int, limit: int) -> Iterator[int]:
    """Where a chunk that ends before piece `end` may begin; a single piece is always allowed."""
    begin = end - 1
    yield begin
    while begin > 0 and sizes.last[end - 1] - sizes.first[begin - 1] <= limit:
        begin -= 1
        if sizes.between(begin, end) <= limit:
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


def _section_pieces(
    text: str, blocks: Sequence[Block], starts: Sequence[int], limit: int
) -> Iterator[_Piece]:
    """The pieces of a section's blocks; a caption is not parted from the table below it."""
    caption: Block | None = None
    for index, block in enumerate(blocks):
        header = _header(text, block, caption, starts, limit) if block.kind == "table" else None
        below = blocks[index + 1].kind if index + 1 < len(blocks) else None
        caption = block if below == "table" and _is_caption(text, block) else None
        for piece in _pieces(text, block, header, starts, limit):
            yield replace(piece, cut=_CUT_BELOW_HEADER) if caption else piece


def _is_caption(text: str, block: Block) -> bool:
    return block.end - block.start <= _CAPTION_CHARACTERS and bool(
        _CAPTION.match(text, block.start, block.end)
    )


def _header(
    text: str, block: Block, caption: Block | None, starts: Sequence[int], limit: int
) -> Span | None:
    """What belongs above every part of a table: its caption and header row, as far as they fit."""
    start = caption.start if caption else block.start
    end = block.start + block.header if block.header or not caption else caption.end
    most = bisect_left(starts, start) + min(_HEADER_TOKENS, limit // 2)
    if most < len(starts) and starts[most] < end:
        end = max(text.rfind(" ", start, starts[most]), start)
    start, end = _trim(text, start, end)
    return (start, end) if start < end else None


def _pieces(
    text: str, block: Block, header: Span | None, starts: Sequence[int], limit: int
) -> list[_Piece]:
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
    room = limit - _tokens(starts, *header) if header else limit
    pieces = []
    for span_start, span_end in spans:
        if span_end <= block.start + block.header:  # a line of the header itself
            fitting = _fit(text, span_start, span_end, starts, limit)
            pieces += [_Piece(a, b, _CUT_BELOW_HEADER) for a, b in fitting]
            continue
        for a, b in _fit(text, span_start, span_end, starts, room):
            cut = _CUT_INSIDE_BLOCK if b == span_end else _CUT_INSIDE_SENTENCE
            cut = 0.0 if ends_paragraph(text, b) else cut
            pieces.append(_Piece(a, b, cut, header))
    return [*pieces[:-1], replace(pieces[-1], cut=0.0)]


def _tokens(starts: Sequence[int], start: int, end: int) -> int:
    return bisect_left(starts, end) - bisect_left(starts, start)


def _lines(text: str, start: int, end: int, *, keep_indent: bool) -> list[tuple[int, int]]:
    found = _LINE.finditer(text, start, end)
    lines = (_trim(text, *line.span(), keep_indent=keep_indent) for line in found)
    return [(first, last) for first, last in lines if first < last]


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
