"""The input of a batch: lines of JSON, checked before anything is asked."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.errors import UsageError
from ingest.filters import Filter, parse_filters
from rag.context import Question, check_question
from rag.rows import FIELDS_HINT, ID, Row, RowError, conversation, first, json_rows

Id = str | int


@dataclass(frozen=True, slots=True)
class Asked:
    """A line of the input: its id as it stands there, or its place, and its question."""

    id: Id
    question: Question


def read_questions(name: str, like: Question) -> tuple[Asked, ...]:
    """The questions of a file, or of standard input for "-", each asked as `like` is.

    A line's `filters` hold beside those of `like`. Raises UsageError that names file and line.
    """
    asked: dict[Id, Asked] = {}
    shown = "standard input" if name == "-" else name
    for line, row in json_rows(_read_text(name)):
        try:
            if isinstance(row, RowError):
                raise row
            identity, question = _identity(row, len(asked) + 1), _question(row, like)
            if identity in asked:
                raise RowError(f"the id {identity!r} is used twice")
        except (RowError, UsageError) as error:
            raise UsageError(f"{shown}:{line}: {error}", FIELDS_HINT) from None
        asked[identity] = Asked(identity, question)
    if not asked:
        raise UsageError(f"no questions in {shown}", FIELDS_HINT)
    return tuple(asked.values())


def _identity(row: Row, position: int) -> Id:
    found = first(row, ID)
    if found is None:
        return str(position)
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise RowError("'id' must be a text or a whole number")
    return found


def _question(row: Row, like: Question) -> Question:
    history, text = conversation(row)
    check_question(text)
    filters = like.filters + _filters(row.get("filters"))
    return replace(like, text=text, history=history, filters=filters)


def _filters(value: object) -> tuple[Filter, ...]:
    """Conditions as `--filter` takes them, or an object of keys and values."""
    if isinstance(value, Mapping):
        value = [f"{key}={wanted}" for key, wanted in value.items()]
    conditions = [value] if isinstance(value, str) else value or []
    if not isinstance(conditions, list) or not all(isinstance(c, str) for c in conditions):
        raise RowError('\'filters\' must be like ["source=guide/"] or {"source": "guide/"}')
    return parse_filters(conditions)


def _read_text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "give a UTF-8 file of JSON lines"
        raise UsageError(f"cannot read {name}: {reason}", hint) from None
