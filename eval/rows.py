"""One row of a question set as a Case. Pure functions.

ragas rows (`user_input`, `reference`, `reference_contexts`, ...) and rows of other tools are read
by their names for the same things; fields nobody knows are passed over, since sets carry notes.
"""

from collections.abc import Iterator, Mapping

from eval.types import Case, Evidence
from rag.rows import ID, Row, RowError, as_text, conversation, first

_ANSWERS = ("answers", "answer", "reference", "ground_truth", "ground_truths")
_SOURCE = ("doc", "source")
_QUOTE = ("text", "quote")
_YES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def case_from_row(row: Row, position: int, *, files: bool = False) -> Case:
    """One row as a Case; a row without an id gets its position, counted from 1.

    `files` says that the set's documents are files: evidence then names a `doc_file` where it has
    one. Raises RowError.
    """
    earlier, question = conversation(row)
    return Case(
        id=as_text(first(row, ID)) or str(position),
        question=question,
        answers=_texts(first(row, _ANSWERS), "answers"),
        answerable=_flag(row.get("answerable")),
        evidence=tuple(_evidence(row, files)),
        tags=_tags(row.get("tags")),
        messages=earlier,
    )


def _texts(value: object, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        raise RowError(f"{name!r} must be a text or a list of texts")
    return tuple(text for text in map(as_text, items) if text)


def _tags(value: object) -> tuple[str, ...]:
    """A list of tags, or (in CSV) one text with semicolons between them."""
    items = value.split(";") if isinstance(value, str) else value
    return _texts(items, "tags")


def _flag(value: object) -> bool:
    if value is None or value == "":
        return True
    flag = _YES.get(str(value).strip().lower())
    if flag is None:
        raise RowError(f"'answerable' must be true or false, not {value!r}")
    return flag


def _evidence(row: Row, files: bool) -> Iterator[Evidence]:
    """Gold pointers from `evidence`, from ragas fields, or from the columns of a flat row."""
    items = row.get("evidence")
    if items is not None and not isinstance(items, list):
        raise RowError("'evidence' must be a list of {doc, text | page | start, end}")
    for item in items or []:
        if not isinstance(item, Mapping):
            raise RowError("each of 'evidence' must be an object with a 'doc'")
        yield _pointer(item, files)
    for text in _texts(row.get("reference_contexts"), "reference_contexts"):
        yield Evidence(text=text)
    for source in _texts(row.get("reference_context_ids"), "reference_context_ids"):
        yield Evidence(source=source)
    if items is None and first(row, _SOURCE) is not None:
        yield _pointer(row, files)


def _pointer(item: Row, files: bool) -> Evidence:
    source = as_text((item.get("doc_file") if files else None) or first(item, _SOURCE))
    text = as_text(first(item, _QUOTE))
    if not source and not text:
        raise RowError("evidence needs a 'doc' or a 'text'")
    start, end = _number(item, "start"), _number(item, "end")
    if start is not None and end is None and text:
        end = start + len(text)
    if (start is None) != (end is None) or (start is not None and end is not None and end <= start):
        raise RowError("evidence needs both 'start' and 'end', the end after the start")
    return Evidence(source, text, _number(item, "page"), start, end)


def _number(item: Row, name: str) -> int | None:
    value = item.get(name)
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise RowError(f"{name!r} must be a whole number, not {value!r}") from None
