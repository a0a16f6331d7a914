"""Table rows as a reader needs them alone: each cell with the name of its column.

Rows are lines: `| a | b |` in Markdown, `a | b` from every other loader, or cells set apart by
spaces in plain text.
"""

import re
from collections.abc import Sequence
from itertools import takewhile, zip_longest

_RULE = re.compile(r"\s*[|:=+-][|:\s=+-]*")
_SPACED = re.compile(r"(?<=\S)(?: {4,}|\t+)(?=\S)")
_ESCAPED_BAR = re.compile(r"\\\|")
_BAR = re.compile(r"(?<!\\)\|")
_MARKUP = re.compile(r"(\*\*|__|`)(?=\S)(.+?)(?<=\S)\1")
_VALUE = re.compile(r"(?!(?:19|20)\d\d$)[\W_]*\d[\d\W_]*")


def cells(line: str) -> list[str]:
    """The cells of a line; one, or none, where it is no row of a table."""
    line = line.strip()
    if _RULE.fullmatch(line):
        return []
    if line.startswith("|"):
        parts = _BAR.split(line.removeprefix("|").removesuffix("|"))
    elif " | " in line:
        parts = line.split(" | ")
    else:
        parts = _SPACED.split(line)
    return [_ESCAPED_BAR.sub("|", _MARKUP.sub(r"\2", part)).strip() for part in parts]


def header_above(text: str, start: int, given: str = "") -> tuple[list[str], bool]:
    """The first row of the table whose row begins at `start` in a text, and whether it is a header.

    `given` is the header that stands above the text where the table began before it. Where neither
    that nor a rule says so, the first row names the columns if it holds no value and has three
    cells or more, or each row below it ends in one: two are as likely a name and its value.
    """
    lines = text.split("\n")
    first = here = text.count("\n", 0, start)
    while first and (_RULE.fullmatch(lines[first - 1]) or len(cells(lines[first - 1])) > 1):
        first -= 1
    known = [row for row in map(cells, given.split("\n")) if len(row) > 1] if not first else []
    if known:
        return known[-1], True
    row = cells(lines[first]) if first < here else []
    ruled = here - first > 1 and _RULE.fullmatch(lines[first + 1]) is not None
    named = not any(map(_VALUE.fullmatch, row))
    return row, ruled or (
        named and (len(row) > 2 or (bool(row) and _hold_values(lines[first + 1 :])))
    )


def _hold_values(lines: Sequence[str]) -> bool:
    """Whether there are two rows or more, and a value at the end of each."""
    rows = list(takewhile(lambda row: len(row) > 1, map(cells, lines)))
    return len(rows) > 1 and all(_VALUE.fullmatch(row[-1]) for row in rows)


def is_header(text: str, start: int, end: int, given: str = "") -> bool:
    """Whether the row `text[start:end]` names the columns of the rows below it."""
    below = text[end:].removeprefix("\n").partition("\n")[0]
    if _RULE.fullmatch(below):
        return True
    names, sure = header_above(text, end + 1, given)
    return sure and len(cells(below)) > 1 and names == cells(text[start:end])


def readable(row: Sequence[str], names: Sequence[str]) -> str:
    """A row as one line: its first cell, then the others with the names of their columns."""
    first, *others = row
    subject, *labels = names or ("",)
    head = f"{subject} {first}" if subject and first else first or subject
    pairs = zip_longest(labels[: len(others)], others, fillvalue="")
    told = "; ".join(f"{label}: {cell}" if label else cell for label, cell in pairs if cell)
    return f"{head} \u2013 {told}" if head and told else head or told
