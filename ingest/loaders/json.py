"""JSON and JSON lines as something to read: objects become sections, lists of alike ones tables.

A key is a heading where its value holds more than a line, else it stands before its value. Lines in
the form of a BEIR corpus (`_id`, `text` and perhaps `title`) are a document each:
https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from ingest.errors import LoadError, UnsupportedFile
from ingest.loaders.builder import Builder
from ingest.loaders.decode import clean, decode_raw, decoded_lines, one_line
from ingest.loaders.options import LoadOptions
from ingest.loaders.text import paragraphs
from ingest.types import Document

_LONGEST_LINE = 200  # a longer value is a paragraph
_LONGEST_NAME = 100
_DEEPEST = 6  # level of headings
_CONSTANTS = {True: "true", False: "false", None: ""}
_NAMES = ("title", "name", "label", "id", "_id")  # what an object may call itself
_HINT = "every line has to be JSON; in a corpus, an object with `_id` and `text`"
_EVALUATION = frozenset({"answers", "answerable", "evidence"})
_JUDGEMENTS = frozenset({"query-id", "corpus-id"})


def load_json(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by its `title`."""
    return (_document(read_json(data), source, options),)


def load_json_lines(data: bytes, source: str, options: LoadOptions) -> Iterable[Document]:
    """A document a line for a corpus, else one with a row or section a line.

    Raises UnsupportedFile for a question set.
    """
    numbered = _rows(data)
    first = next(numbered, (0, None))
    if _entry(first[1]):
        return _corpus(chain([first], numbered))
    if isinstance(first[1], dict):
        check_no_questions(first[1])
    return (_document([row for _, row in (first, *numbered)], source, options),)


def check_no_questions(names: Iterable[str]) -> None:
    """Raise UnsupportedFile for the fields of a question set: its questions would be found as
    the answers to themselves."""
    found = frozenset(map(str.lower, names))
    if ("question" in found and found & _EVALUATION) or found >= _JUDGEMENTS:
        raise UnsupportedFile("unsupported type: a question set", "use it with `rag eval`")


def read_json(data: bytes) -> Any:
    """The value in a JSON file; raises LoadError that names the line and column of a mistake."""
    text = decode_raw(data)
    try:
        return _parsed(text) if text.strip() else None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise LoadError(f"not JSON: {error.msg} ({place})", "mend the file there") from None


def _document(value: Any, source: str, options: LoadOptions) -> Document:
    builder = Builder(options)
    _write(builder, value, ())
    title = value.get("title") if isinstance(value, dict) else None
    return builder.document(source, title if isinstance(title, str) else "")


def _write(builder: Builder, value: Any, path: tuple[str, ...]) -> None:
    """Add what a value holds; `path` are the keys and names that lead to it."""
    if isinstance(value, dict):
        _write_entries(builder, value.items(), path)
    elif rows := _table(value):
        builder.table(rows, header_rows=isinstance(value[0], dict))
    elif isinstance(value, list):
        named = ((_name(item) or str(number), item) for number, item in enumerate(value, 1))
        _write_entries(builder, named, path, marker="- ")
    else:
        builder.text(_shown(value) or "")


def _write_entries(
    builder: Builder, entries: Iterable[tuple[str, Any]], path: tuple[str, ...], marker: str = ""
) -> None:
    """Add what is named: what fits on a line first, because headings go on until the next one."""
    below = []
    for name, value in entries:
        label = marker or f"{one_line(name)}: "
        line = _shown(value)
        if line is None:
            below.append((name, value))
        elif len(line) > _LONGEST_LINE or "\n" in line:
            builder.text(label + line)
        elif line:
            builder.line(label + line)
    builder.end()
    for name, value in below:
        inner = (*path, one_line(name))
        builder.heading(len(inner), ".".join(inner[_DEEPEST - 1 :]) or inner[-1])
        _write(builder, value, inner)


def _name(value: Any) -> str:
    """What an object calls itself on a short line, or ""."""
    names = map(value.get, _NAMES) if isinstance(value, dict) else ()
    fitting = (name for name in names if isinstance(name, str) and len(name) <= _LONGEST_NAME)
    return next(filter(str.strip, fitting), "")


def _table(value: Any) -> list[list[str]]:
    """The rows of a list of flat lists, or of flat objects with nearly the same keys; else none."""
    if not isinstance(value, list) or len(value) < 2:
        return []
    if all(isinstance(row, dict) for row in value):
        columns = list(dict.fromkeys(chain.from_iterable(value)))
        if 2 * sum(map(len, value)) < len(value) * len(columns):
            return []
        rows = [columns, *([row.get(name) for name in columns] for row in value)]
    elif all(isinstance(row, list) for row in value):
        rows = value
    else:
        return []
    cells = [[_shown(cell) for cell in row] for row in rows]
    fitting = [[c for c in row if c is not None and len(c) <= _LONGEST_LINE] for row in cells]
    return fitting if fitting == cells else []


def _shown(value: Any) -> str | None:
    """A plain value, or a short list of them, as text; None for what holds more."""
    if isinstance(value, dict):
        return None if value else ""
    if isinstance(value, list):
        items = [item for item in value if not isinstance(item, dict | list)]
        line = ", ".join(filter(None, map(_shown, items)))
        return line if len(items) == len(value) and len(line) <= _LONGEST_LINE else None
    return value if isinstance(value, str) else _CONSTANTS[value]


def _corpus(rows: Iterable[tuple[int, Any]]) -> Iterator[Document]:
    """One document a row, whose source is its `_id`; a row without text or title has none.

    Raises LoadError, once it is reached, for a row of another form.
    """
    names: set[str] = set()
    for number, row in rows:
        document = _entry(row)
        if document is None:
            raise LoadError(f"line {number} lacks a proper `_id`, `text` or `title`", _HINT)
        if document.source in names:
            raise LoadError(f"line {number} repeats the _id {document.source!r}", _HINT)
        names.add(document.source)
        yield document


def _entry(row: object) -> Document | None:
    """A row of a corpus, its title for its text if it has none; None for a row of another form."""
    if not isinstance(row, dict):
        return None
    name, text, title = row.get("_id"), row.get("text"), row.get("title") or ""
    if not (isinstance(name, str) and isinstance(text, str) and isinstance(title, str)):
        return None
    source, title, text = one_line(name), one_line(title), clean(text)
    text = text if text.strip() else title
    return Document(source, title, "", text, tuple(paragraphs(text))) if source else None


def _rows(data: bytes) -> Iterator[tuple[int, Any]]:
    """The numbered values of JSON lines, one at a time; blank lines are passed over."""
    for number, line in enumerate(decoded_lines(data), start=1):
        try:
            row = _parsed(line) if line.strip() else None
        except (ValueError, RecursionError):
            raise LoadError(f"line {number} is not JSON", _HINT) from None
        if row is not None:
            yield number, row


def _parsed(text: str) -> Any:
    """The value of a JSON text; numbers stay as they are written, as strings."""
    return json.loads(text, strict=False, parse_int=str, parse_float=str, parse_constant=str)
