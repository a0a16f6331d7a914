"""Which documents a question is put to: `KEY=VALUE` and comparisons, carried out by SQLite.

source=guide/       every source below guide/ (also guide/*)
tags=security       one of the tags; likewise every other value that is a list
date>=2024-01-01    comparisons: >= <= > <
date=2024-01..2024-06   a range, both ends included as far as they are written
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ingest.errors import UsageError

_COLUMNS = frozenset({"source", "title", "media_type"})
_WRITTEN = re.compile(r"\s*([\w.-]+)\s*(>=|<=|>|<|=)(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_RANGE = re.compile(r"(.*?)\.\.(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on a document's source, title, media type, page count or metadata."""

    key: str
    operator: str
    value: str


def parse_filters(conditions: Iterable[str]) -> tuple[Filter, ...]:
    """Conditions as a person writes them; all must hold. Raises UsageError."""
    return tuple(filter_ for condition in conditions for filter_ in _parsed(condition))


def _parsed(condition: str) -> list[Filter]:
    found = _WRITTEN.fullmatch(condition)
    if not found or not found[3].strip():
        raise UsageError(
            f"not a filter: {condition!r}",
            "write KEY=VALUE, KEY>=VALUE or KEY=FROM..TO, as in `--filter date>=2024-01-01`",
        )
    key, operator, value = found[1], found[2], found[3].strip()
    ends = _RANGE.fullmatch(value) if operator == "=" and key not in _COLUMNS else None
    if not ends:
        return [Filter(key, operator, value)]
    return [Filter(key, o, v) for o, v in zip((">=", "<="), ends.groups(), strict=True) if v]


def condition(filters: Iterable[Filter]) -> tuple[str, list[str]]:
    """Filters as SQL conditions on a document's row, each beginning with AND, and their values."""
    sql: list[str] = []
    values: list[str] = []
    for filter_ in filters:
        test, parameters = _test(filter_)
        if filter_.key in _COLUMNS:
            sql.append(f"AND {test.format(filter_.key)}")
        elif filter_.key == "pages":
            sql.append(f"AND {test.format('json_array_length(page_starts)')}")
        else:
            sql.append(
                "AND EXISTS (SELECT 1 FROM json_each(metadata) AS pair"
                f" WHERE pair.key = ? AND {test.format('pair.value')})"
            )
            values.append(filter_.key)
        values += parameters
    return " ".join(sql), values


def _test(filter_: Filter) -> tuple[str, list[str]]:
    """A test of the value that stands for {0}, and its parameters."""
    operator, value = filter_.operator, filter_.value
    if operator == "=" and filter_.key == "source" and value.endswith(("/", "*")):
        prefix = value.removesuffix("*")
        return "substr({0}, 1, length(?)) = ?", [prefix, prefix]
    if operator == "=" and filter_.key in _COLUMNS:
        return "{0} = ?", [value]
    if operator == "=":
        return "instr(', ' || lower({0}) || ', ', ', ' || lower(?) || ', ') > 0", [value]
    if _NUMBER.fullmatch(value):
        return f"CAST({{0}} AS REAL) {operator} CAST(? AS REAL)", [value]
    if operator in ("<=", ">"):  # 2024-06-30 lies within 2024-06, not behind it
        return f"substr({{0}}, 1, length(?)) {operator} ?", [value, value]
    return f"{{0}} {operator} ?", [value]
