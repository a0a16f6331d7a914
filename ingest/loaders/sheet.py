"""Spreadsheets by calamine: XLSX, XLSB, XLS and ODS; each visible sheet a heading and its tables.

Blank rows part tables. A row with one filled cell above a table is its caption, the row below it
the header. Rows after a blank one that begin with other than text go on with the table above it.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from itertools import chain

from ingest.errors import LoadError
from ingest.loaders.builder import Builder
from ingest.loaders.options import LoadOptions, border
from ingest.loaders.package import AGAIN, OLE_MAGIC, encrypted, open_package
from ingest.types import Document

_XLS_STREAMS = ("Workbook".encode("utf-16-le"), "Book".encode("utf-16-le"))
_XLS_LOCKED = re.compile(rb"\x09\x08\x10\x00\x00\x06\x05\x00.{12}\x2f\x00", re.S)  # BOF, FILEPASS
_EXACT = 1e15  # a spreadsheet keeps 15 digits of a number
_COLUMN = re.compile(rb' r="([A-Za-z]{1,9})')  # of a cell
_ROW = re.compile(rb'(?: r|[cC]ount)="[A-Za-z]{0,9}([0-9]{1,20})')  # or what else is counted
_CELL_BYTES = 40  # of memory that the library takes for each cell, empty ones too


@border("no spreadsheet, or a damaged one", AGAIN)
def load_sheet(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by its properties."""
    from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

    file, title, metadata = _checked(data, options)
    workbook = CalamineWorkbook.from_filelike(file)
    builder = Builder(options)
    for sheet in workbook.sheets_metadata:
        if sheet.visible == SheetVisibleEnum.Visible and sheet.typ == SheetTypeEnum.WorkSheet:
            rows = workbook.get_sheet_by_name(sheet.name).iter_rows()
            _write_sheet(sheet.name, rows, builder)
    return (builder.document(source, title, metadata),)


def shown(value: object) -> str:
    """A cell as a person reads it: no needless digits, dates as ISO 8601."""
    if isinstance(value, float):
        if value.is_integer() and abs(value) < _EXACT:
            return str(int(value))
        return f"{value:.15g}"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds").removesuffix(" 00:00:00")
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return str(value)


def _checked(data: bytes, options: LoadOptions) -> tuple[io.BytesIO, str, dict[str, str]]:
    """What the library may open, and the title and what else the file says about itself."""
    if data.startswith(OLE_MAGIC) and any(name in data for name in _XLS_STREAMS):
        if _XLS_LOCKED.search(data):
            raise encrypted()
        return io.BytesIO(data), "", {}
    package = open_package(data, options)
    package.check_open_document()
    for name in package.names:
        if name.startswith("xl/") and name.endswith(".xml"):
            _check_area(name, package.read(name), options)
    return package.repacked(), *package.properties()


def _check_area(name: str, markup: bytes, options: LoadOptions) -> None:
    """Raise LoadError where the library would ask for more memory than it may: that ends it."""
    rows = max(map(int, _ROW.findall(markup)), default=0)
    columns = max(map(_column, set(_COLUMN.findall(markup))), default=1)
    if rows * columns * _CELL_BYTES > options.max_memory:
        raise LoadError(
            f"{name} says that it has {rows:,} rows of {columns:,} cells",
            "delete what stands far from the table, or raise `ingest.max_memory` (bytes)",
        )


def _column(letters: bytes) -> int:
    """The number of a column: of A 1, of AA 27."""
    return reduce(lambda number, letter: number * 26 + letter - ord("A") + 1, letters.upper(), 0)


def _write_sheet(name: str, rows: Iterator[Sequence[object]], builder: Builder) -> None:
    """Write a sheet's heading and its tables; nothing for one without a filled cell."""
    first = next((row for row in rows if any(cell != "" for cell in row)), None)
    if first is None:
        return
    builder.heading(1, name)
    sheet = _Sheet(builder)
    for row in chain([first], rows):
        sheet.take(row)
    sheet.end()


@dataclass(slots=True)
class _Sheet:
    """Where the reading of a sheet stands."""

    builder: Builder
    titles: list[str] = field(default_factory=list)  # rows of one cell: the last may be a caption
    in_table: bool = False
    after_gap: bool = True

    def take(self, row: Sequence[object]) -> None:
        """Take the next row."""
        cells = list(map(shown, row))
        filled = list(filter(str.strip, cells))
        may_begin = self.after_gap or not self.in_table
        if not filled:
            self.after_gap = True
        elif may_begin and len(filled) == 1:
            self.in_table = False
            self.titles += filled
        elif may_begin and (not self.in_table or all(isinstance(cell, str) for cell in row)):
            self._begin(cells)
        else:
            self.after_gap = False
            self.builder.row(cells)

    def end(self) -> None:
        """Write the titles that no table came for, as text or as a table of one column."""
        self.builder.end()
        if len(self.titles) == 1:
            self.builder.prose(self.titles[0])
        self.builder.table([[title] for title in self.titles[1:] and self.titles], header_rows=1)
        self.titles.clear()

    def _begin(self, header: Sequence[str]) -> None:
        caption = self.titles.pop() if self.titles else ""
        self.end()
        self.builder.row([caption], header=True)
        self.builder.row(header, header=True)
        self.in_table, self.after_gap = True, False
