"""What loader tests share: a file's bytes to documents, and what every document promises."""

from itertools import pairwise

from ingest.errors import LoadError
from ingest.load import DEFAULT_OPTIONS, LoadOptions, Unread, load
from ingest.loaders.decode import clean
from ingest.types import Document


def read(name: str, data: bytes, options: LoadOptions = DEFAULT_OPTIONS) -> tuple[Document, ...]:
    """The documents in a file, each well formed; raises the first error met in it."""
    documents, problems = read_all(name, data, options)
    for error in problems.values():
        raise error
    return documents


def read_all(
    name: str, data: bytes, options: LoadOptions = DEFAULT_OPTIONS
) -> tuple[tuple[Document, ...], dict[str, LoadError]]:
    """The documents in a file, and by source what could not be read of it."""
    parts = list(load(data, name, options))
    documents = tuple(part for part in parts if isinstance(part, Document))
    for document in documents:
        assert_well_formed(document)
    return documents, {part.source: part.error for part in parts if isinstance(part, Unread)}


def blocks(document: Document) -> list[tuple[str, str]]:
    """Each block's kind and text."""
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def headers(document: Document) -> list[str]:
    """The caption and header row of each table."""
    return [
        document.text[block.start : block.start + block.header]
        for block in document.blocks
        if block.kind == "table"
    ]


def assert_well_formed(document: Document) -> None:
    """Blocks ascend, do not overlap, and hold every non-space character; the text is clean."""
    edges = [edge for block in document.blocks for edge in (block.start, block.end)]
    assert all(block.start < block.end for block in document.blocks)
    assert all(0 <= block.header <= block.end - block.start for block in document.blocks)
    assert all(1 <= block.level <= 6 for block in document.blocks if block.kind == "heading")
    assert edges == sorted(edges)
    gaps = pairwise([0, *edges, len(document.text)])
    outside = "".join(document.text[start:end] for start, end in list(gaps)[::2])
    assert outside.strip() == ""
    assert document.text == clean(document.text)
    assert document.title == " ".join(clean(document.title).split())
    assert list(document.page_starts) == sorted(document.page_starts)
    assert document.page_labels == () or len(document.page_labels) == len(document.page_starts)
    assert all(isinstance(value, str) and value for value in document.metadata.values())
