"""CSV and its kin: one table, a row on each line, with the header row where there is one."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest

from ingest.loaders.builder import Builder
from ingest.loaders.decode import decode
from ingest.loaders.json import check_no_questions
from ingest.loaders.options import LoadOptions
from ingest.types import Document

# Of those that fit equally well the first: a comma is in the cells of others' tables, as in 1,5.
_DELIMITERS = "\t;|,"
_SEPARATOR_LINE = re.compile(r"sep=([\t;|,])\n")  # Excel's way to name the delimiter
_ESCAPED = re.compile(r'\\"[^\n\t;|,"]')  # a quote in a cell by the one convention
_DOUBLED = re.compile(r'[^\\\n\t;|,]""[^\n\t;|,]')  # and by the other
_LINE = re.compile("^.*", re.M)
_SAMPLE_ROWS = 200
_LONGEST_NAME = 80  # of a column
_TITLE_ROWS = 5  # above the header row, as spreadsheets have them
_VALUE = re.compile(r"[-+(.$€£ ]*\d[\d.,:/%$€£ ()TZ+-]*|true|false|n/?a|null|.*@.*|https?:.*", re.I)
_YEAR = re.compile(r"(?:19|20)\d\d")

Row = Sequence[str]


def load_table(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document with one table. Raises UnsupportedFile for a question set or its judgements."""
    text = decode(data)
    named = _SEPARATOR_LINE.match(text)
    start = named.end() if named else 0
    delimiter = named[1] if named else _delimiter(text)
    rows = _rows(text, delimiter, start)
    sample = list(islice(rows, _SAMPLE_ROWS))
    header_rows = _header_rows(sample)
    check_no_questions(map(str.strip, chain.from_iterable(sample[:header_rows])))
    builder = Builder(options)
    builder.table(chain(sample, rows), header_rows=header_rows)
    return (builder.document(source),)


def _rows(text: str, delimiter: str, start: int = 0) -> Iterator[Row]:
    """The rows that hold anything; quotes mean nothing where they do not come in pairs."""
    csv.field_size_limit(max(len(text), csv.field_size_limit()))  # of the whole process
    paired = text.count('"') % 2 == 0
    escaped = bool(_ESCAPED.search(text)) and not _DOUBLED.search(text)
    return filter(
        any,
        csv.reader(
            (f"{line[0]}\n" for line in _LINE.finditer(text, start)),
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if paired else csv.QUOTE_NONE,
            doublequote=not escaped,
            escapechar="\\" if escaped and paired else None,
            skipinitialspace=True,
        ),
    )


def _delimiter(text: str) -> str:
    """The delimiter that cuts the most rows of a sample into the same number of cells."""
    return max(_DELIMITERS, key=lambda delimiter: _evenness(_rows(text, delimiter)))


def _evenness(rows: Iterable[Row]) -> float:
    """The share of rows that are as wide as most are; 0 if these have only one cell."""
    widths = Counter(map(len, islice(rows, _SAMPLE_ROWS)))
    width, count = max(widths.items(), key=lambda item: item[1], default=(0, 0))
    return count / widths.total() if width > 1 else 0.0


def _header_rows(sample: Sequence[Row]) -> int:
    """How many rows stand above the data: titles of one cell, then the names of the columns."""
    for number, row in enumerate(sample[: _TITLE_ROWS + 1]):
        if len(list(filter(None, row))) > 1 or all(len(row) < 2 for row in sample):
            return number + 1 if _is_header(row, sample[number + 1 :]) else number
    return 0


def _is_header(row: Row, below: Sequence[Row]) -> bool:
    """Whether cells are names: short, all different, no values, and none again in its column.

    Only years may be values: a table may have a column for each of several.
    """
    names = [cell.strip() for cell in row if cell.strip()]
    values = [name for name in names if _VALUE.fullmatch(name)]
    return (
        bool(below)
        and len(set(names)) == len(names) >= len(row) / 2
        and max(map(len, names)) <= _LONGEST_NAME
        and (not values or (2 < len(values) < len(names) and all(map(_YEAR.fullmatch, values))))
        and not any(name and name in column for name, *column in zip_longest(row, *below))
    )
