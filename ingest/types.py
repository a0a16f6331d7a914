"""What is stored: documents, their blocks and chunks, and ranked hits. Standard library only.

Every offset in this package is half-open and counts Unicode code points of `Document.text`.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

LABEL_CHARACTERS = 120
"""Of a heading longer than this, a paragraph in disguise, only so much is context."""

_TITLE_CHARACTERS = 200  # papers have titles of two lines

BlockKind = Literal["heading", "prose", "list", "table", "code"]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Block:
    """A structural piece of a document: the chunker cuts between blocks before it cuts inside one.

    `level` is 1 to 6 for a heading and 0 otherwise. `label` is a heading's text without markup.
    `header` is where a table's caption and header row end, counted from `start` (0: it has none).
    """

    start: int
    end: int
    kind: BlockKind
    level: int = 0
    label: str = ""
    header: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """One readable text with its structure, as a loader made it.

    `blocks` ascend, do not overlap and together hold every non-space character of `text`.
    `page_starts[i]` is the offset where page i + 1 begins; it is empty for formats without pages.
    `page_labels[i]` is what is printed on that page ("iv"); it is empty where that is its number.
    `title` is "" for a document that has none of its own: then `shown_title` is its file's name.
    """

    source: str
    title: str
    media_type: str
    text: str
    blocks: tuple[Block, ...]
    page_starts: tuple[int, ...] = ()
    page_labels: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown_title(self) -> str:
        """The title, or the name of the file without folder and suffix."""
        return shown_title(self.title, self.source)

    @property
    def sha256(self) -> str:
        """The hex digest of the text: equal texts, equal digests."""
        return text_sha256(self.text)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A retrievable slice of a document: `document.text[start:end] == text`.

    `section` is the heading path, outermost first, joined by " > "; `page` counts from 1.
    `tokens` counts its wordpieces. `header` is the span of the caption and header row of the table
    that the chunk goes on with; None where it begins with them, or with something else.
    """

    ordinal: int
    start: int
    end: int
    text: str
    page: int | None
    section: str
    tokens: int = 0
    header: Span | None = None


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A live chunk as the store returns it, with its document's name, title, language and date.

    `vector_id` is equal for two chunks whose embedded text is the same, `family` for two whose
    texts are nearly the same. `header` is the text of the table's header that belongs above it,
    `date` its document's, ISO 8601 as far as it is known, "" where it is not.
    """

    id: int
    source: str
    title: str
    start: int
    end: int
    text: str
    page: int | None
    section: str
    vector_id: int
    family: int = 0
    page_label: str = ""
    header: str = ""
    document_id: int = 0
    ordinal: int = 0
    language: str = ""
    date: str = ""

    @property
    def context(self) -> str:
        """What a reader sees above the text: its heading path and its table's header."""
        return "\n".join(filter(None, (heading_path(self.title, self.section), self.header)))


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as the store holds it; `chunks` are in reading order."""

    id: int
    document: Document
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked chunk: a cosine in dense search, a positive BM25 score in lexical search."""

    chunk_id: int
    score: float


def text_sha256(text: str) -> str:
    """The hex digest of a text's UTF-8 bytes (lone surrogates never enter a document)."""
    return hashlib.sha256(text.encode()).hexdigest()


def shown_title(title: str, source: str) -> str:
    """A document's own title, or else the name of its file without folder and suffix."""
    return title or " ".join(PurePosixPath(source).stem.split())


def page_at(page_starts: tuple[int, ...], offset: int) -> int | None:
    """The page, counted from 1, that holds an offset; None for a document without pages."""
    return bisect_right(page_starts, offset) or None


def embedded_text(document: Document, chunk: Chunk) -> str:
    """What is embedded for a chunk: its heading path and its table's header above its text.

    What is embedded is not what is quoted: the prefix gives the vector its context, while
    citations slice the text alone. A file's name is no part of it, so that renaming a file
    changes no vector.
    """
    header = document.text[slice(*chunk.header)] if chunk.header else ""
    parts = (heading_path(document.title, chunk.section), header, chunk.text)
    return "\n".join(filter(None, parts))


def context(document: Document, chunk: Chunk) -> str:
    """What a reader sees above a chunk: its heading path and its table's header."""
    header = document.text[slice(*chunk.header)] if chunk.header else ""
    return "\n".join(filter(None, (heading_path(document.shown_title, chunk.section), header)))


def heading_path(title: str, section: str) -> str:
    """Title and section as one path, the title left out where the section begins with it.

    Of a title as long as a paragraph the beginning stands for it.
    """
    first = title[:LABEL_CHARACTERS]
    if not title or section == first or section.startswith(first + " > "):
        return section
    title = title[:_TITLE_CHARACTERS]
    return f"{title} > {section}" if section else title
