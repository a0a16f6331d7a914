"""A retrieval corpus in BEIR's form: JSON lines with `_id`, `text` and perhaps `title`.

Form: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

import json
from collections.abc import Iterator

from ingest.errors import LoadError, UnsupportedFile
from ingest.loaders.decode import clean, decode, one_line
from ingest.loaders.options import LoadOptions
from ingest.loaders.text import paragraphs
from ingest.types import Document

_HINT = "a .jsonl file is read if every line is an object with `_id` and `text`"


def load_corpus(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document a line, whose source is its `_id`; `source`, the file's, is not used.

    A line without text is represented by its title; one without either is left out. Raises
    UnsupportedFile if the first line has another form, LoadError if a later one has.
    """
    del source, options
    documents: dict[str, Document] = {}
    for number, row in _rows(decode(data)):
        document = _document(row)
        if document is None and not documents:
            raise UnsupportedFile("unsupported type: JSON lines of another kind", _HINT)
        if document is None:
            raise LoadError(f"line {number} lacks a proper `_id`, `text` or `title`", _HINT)
        if document.source in documents:
            raise LoadError(f"line {number} repeats the _id {document.source!r}", _HINT)
        documents[document.source] = document
    return tuple(document for document in documents.values() if document.blocks)


def _rows(text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """The numbered objects of JSON lines; blank lines are passed over."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise LoadError(f"line {number} is not JSON", _HINT) from None
        if not isinstance(row, dict):
            raise LoadError(f"line {number} is not a JSON object", _HINT)
        yield number, row


def _document(row: dict[str, object]) -> Document | None:
    """The document of one line; None if it does not have the form."""
    name, text, title = row.get("_id"), row.get("text"), row.get("title") or ""
    if not isinstance(name, str | int) or not isinstance(text, str) or not isinstance(title, str):
        return None
    source, title, text = one_line(str(name)), one_line(title), clean(text)
    if not source:
        return None
    if not text.strip():
        text = title
    return Document(source, title, "application/jsonl", text, tuple(paragraphs(text)))
