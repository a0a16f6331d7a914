"""Plain text: blocks are what blank lines separate."""

import re
from collections.abc import Iterator
from itertools import accumulate

from ingest.loaders.decode import decode
from ingest.loaders.options import LoadOptions
from ingest.types import Block, BlockKind, Document

_BULLET = re.compile(r"\s*(?:[-*+•‣◦·–]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+\S")
_INDENT = ("    ", "\t")
PARAGRAPH = re.compile(r"^[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*", re.M)
"""Lines up to the next blank one."""


def load_text(data: bytes, source: str, _options: LoadOptions) -> tuple[Document, ...]:
    """One document without a title of its own."""
    text = decode(data)
    return (Document(source, "", "", text, tuple(paragraphs(text))),)


def paragraphs(text: str, start: int = 0, end: int | None = None) -> Iterator[Block]:
    """The blocks of text[start:end], whose lines belong together until a line is blank.

    Together they hold every non-space character. Indented paragraphs are code, as in Markdown.
    """
    for found in PARAGRAPH.finditer(text[start:end]):
        yield _block(text, start + found.start(), start + found.end())


def line_starts(text: str) -> list[int]:
    """Where each line of a clean text begins, with the text's end as the last entry."""
    return [0, *accumulate(map(len, text.splitlines(keepends=True)))]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space at both its ends."""
    part = text[start:end]
    return end - len(part.lstrip()), start + len(part.rstrip())


def _block(text: str, start: int, end: int) -> Block:
    """A block of the kind that its lines' shapes suggest."""
    rows = text[start:end].split("\n")
    if all(row.startswith(_INDENT) for row in rows):
        return Block(start, trimmed(text, start, end)[1], "code")
    kind: BlockKind = "prose"
    if _BULLET.match(rows[0]):
        kind = "list"
    elif len(rows) > 1 and all("\t" in row.strip() or row.count("|") > 1 for row in rows):
        kind = "table"
    return Block(*trimmed(text, start, end), kind)
