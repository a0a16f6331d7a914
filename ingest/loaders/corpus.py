"""A retrieval corpus in BEIR's form: JSON lines with `_id`, `text` and perhaps `title`.

Form: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ingest.errors import LoadError, UnsupportedFile
from ingest.loaders.decode import clean, decoded_lines, one_line
from ingest.loaders.text import paragraphs
from ingest.types import Document

_HINT = "every line has to be JSON; in a corpus, an object with `_id` and `text`"
_EVALUATION = frozenset({"answers", "answerable", "evidence"})
_JUDGEMENTS = frozenset({"query-id", "corpus-id"})


def load_corpus(data: bytes) -> Iterator[Document]:
    """One document a line, whose source is its `_id`.

    A line without text is represented by its title; one without either is left out. Raises
    LoadError, once it is reached, for a line of another form.
    """
    names: set[str] = set()
    for number, row in json_rows(data):
        document = document_of(row)
        if document is None:
            raise LoadError(f"line {number} lacks a proper `_id`, `text` or `title`", _HINT)
        if document.source in names:
            raise LoadError(f"line {number} repeats the _id {document.source!r}", _HINT)
        names.add(document.source)
        yield document


def json_rows(data: bytes) -> Iterator[tuple[int, Any]]:
    """The numbered values of JSON lines, one at a time; blank lines are passed over."""
    for number, line in enumerate(decoded_lines(data), start=1):
        try:
            row = parse_json(line) if line.strip() else None
        except (ValueError, RecursionError):
            raise LoadError(f"line {number} is not JSON", _HINT) from None
        if row is not None:
            yield number, row


def parse_json(text: str) -> Any:
    """The value of a JSON text; numbers stay as they are written, as strings."""
    return json.loads(text, strict=False, parse_int=str, parse_float=str, parse_constant=str)


def check_no_questions(names: Iterable[str]) -> None:
    """Raise UnsupportedFile for the fields of a question set: its questions would be found as
    the answers to themselves."""
    found = frozenset(map(str.lower, names))
    if ("question" in found and found & _EVALUATION) or found >= _JUDGEMENTS:
        raise UnsupportedFile("unsupported type: a question set", "use it with `rag eval`")


def document_of(row: object) -> Document | None:
    """The document of one line; None if it does not have the form."""
    if not isinstance(row, dict):
        return None
    name, text, title = row.get("_id"), row.get("text"), row.get("title") or ""
    if not isinstance(name, str) or not isinstance(text, str) or not isinstance(title, str):
        return None
    source, title, text = one_line(name), one_line(title), clean(text)
    if not source:
        return None
    if not text.strip():
        text = title
    return Document(source, title, "", text, tuple(paragraphs(text)))
