"""Lines of JSON with a question each, in any of the accepted field names. Pure functions.

Question sets and batches are read alike: the names are those of ragas and other tools too.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

from rag.types import Message

Row = Mapping[str, Any]

ID = ("id", "_id", "query_id")
QUESTION = ("question", "user_input", "query")
FIELDS_HINT = 'each line needs at least {"question": ...}'

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "ai": "assistant"}


class RowError(ValueError):
    """A row that cannot be read; the message says which field, the reader adds file and line."""


def json_rows(text: str) -> Iterator[tuple[int, Row | RowError]]:
    """Each line that is not empty with its number, counted from 1: an object, or what is wrong."""
    # Split at line feeds only: other line breaks may stand raw inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, parsed_row(line)


def parsed_row(line: str | bytes) -> Row | RowError:
    """The object of a line, or what is wrong with it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return RowError(f"not JSON: {error}")
    return row if isinstance(row, dict) else RowError("not a JSON object")


def first(row: Row, names: tuple[str, ...]) -> object:
    """The first of several names' values that is there and not empty."""
    return next((row[name] for name in names if row.get(name) not in (None, "", [])), None)


def as_text(value: object) -> str:
    """A value as stripped text; "" where there is none."""
    return "" if value is None else str(value).strip()


def conversation(row: Row) -> tuple[tuple[Message, ...], str]:
    """The earlier turns and the question; ragas may give both as one list of messages.

    Raises RowError.
    """
    turns = row.get("messages") or row.get("history") or []
    question = first(row, QUESTION)
    if isinstance(question, list):
        *turns, last = question
        question = last.get("content") if isinstance(last, Mapping) else None
    if not as_text(question):
        raise RowError("no question: give a field 'question'")
    if not isinstance(turns, list):
        raise RowError("'messages' must be a list of {role, content}")
    return tuple(map(_message, turns)), as_text(question)


def _message(turn: object) -> Message:
    if isinstance(turn, Mapping) and isinstance(turn.get("content"), str):
        role = _ROLES.get(str(turn.get("role") or turn.get("type")))
        if role is not None:
            return Message(cast(Literal["user", "assistant"], role), turn["content"])
    raise RowError("each of 'messages' must be {role: user or assistant, content: text}")
