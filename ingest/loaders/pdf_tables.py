"""Tables among lines: runs of lines that fall apart into cells."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import attrgetter

from ingest.loaders.pdf_layout import Line
from ingest.loaders.pdf_pages import Run

_GAPS = 3  # between the cells of all rows: fewer make no table
_LINES_BETWEEN = 2  # with one cell (headings of parts), that a table may hold in one place
_APART = 3.5  # of the font's size: rows further apart are of two tables
_CLOSE = 1.5  # the most between lines of one row
_INDENT = 2.0  # of the font's size: what begins further right is not in the first column
_SHORT = 80  # characters of a line that may stand over columns
_WRAPPED = 0.8  # of the distance between rows: lines closer than that are of one row
_SPANS = 0.25  # of a column's width, that a cell stands over which heads it
_HEADER_ROWS = 3
_MOST_COLUMNS = 100
_LARGER = 1.1
_SENTENCE_ENDS = (".", "!", "?", "。")
_FIGURE = re.compile(r"\d")
_NUMBER = re.compile(r"[\W\d]+$")


def table_spans(lines: Sequence[Line]) -> Iterator[tuple[int, int]]:
    """Where tables begin and end."""
    start = done = 0
    while start < len(lines):
        end = _end(lines, start)
        if sum(len(line.cells) - 1 for line in lines[start:end]) >= _GAPS and end > start + 1:
            yield _head(lines, start, end, done), end
            done = end
        start = max(end, start + 1)


def table_of(lines: Sequence[Line]) -> tuple[list[list[str]], int]:
    """A table's rows, with an empty cell where a column has none, and how many are its header."""
    rows = list(_rows(lines))
    longest = max(len(cells) for cells, _ in rows)
    if longest > _MOST_COLUMNS:  # a drawing
        return [[cell.text for cell in cells] for cells, _ in rows], 0
    full = [cells for cells, _ in rows if len(cells) == longest]
    columns = [
        Run("", min(cell.x0 for cell in column), max(cell.x1 for cell in column), 0, 0)
        for column in zip(*full)
    ]
    table = [_in_columns(cells, columns) for cells, _ in rows]
    return table, _header_rows(table, [bold for _, bold in rows])


def _end(lines: Sequence[Line], start: int) -> int:
    """The end of the rows that begin at `start`, over lines that belong to them."""
    row = lines[start]
    if len(row.cells) == 1:
        return start
    end = start + 1
    for index in range(end, len(lines)):
        above, line = lines[index - 1], lines[index]
        if not _adjoin(above, line):
            break
        wraps = (
            index == end
            and _is_indented(line, lines[start])
            and above.y - line.y < _CLOSE * line.size
        )
        if len(line.cells) > 1 or wraps:
            end = index + 1
            row = line if len(line.cells) > 1 else row
        elif index - end >= _LINES_BETWEEN or line.x1 > row.cells[-1].x0:
            break
    return end


def _head(lines: Sequence[Line], start: int, end: int, done: int) -> int:
    """Where the lines right above a table begin that stand over its columns."""
    leftmost = min(lines[start:end], key=attrgetter("x0"))
    while start > done and _heads(lines[start - 1], lines[start], leftmost):
        start -= 1
    return start


def _heads(line: Line, below: Line, leftmost: Line) -> bool:
    """Whether a line may stand over columns: as large as they are, and no end of a text."""
    larger = line.size > _LARGER * below.size or len(line.text) > _SHORT
    ends = line.text.endswith(_SENTENCE_ENDS)
    return _adjoin(line, below) and _is_indented(line, leftmost) and not larger and not ends


def _adjoin(line: Line, below: Line) -> bool:
    return line.column == below.column and line.y - below.y < _APART * below.size


def _is_indented(line: Line, row: Line) -> bool:
    return line.x0 >= row.x0 + _INDENT * row.size


def _rows(lines: Sequence[Line]) -> Iterator[tuple[Sequence[Run], bool]]:
    """The cells of each row, put together where they go on in the next line, and if it is bold."""
    distances = sorted(line.y - below.y for line, below in pairwise(lines))
    close = _WRAPPED * distances[3 * len(distances) // 4]
    leftmost = min(lines, key=attrgetter("x0"))
    cells: Sequence[Run] = lines[0].cells
    bold = lines[0].bold
    for line, below in pairwise(lines):
        may_wrap = _is_indented(below, leftmost) and line.y - below.y < close
        wrapped = _wrapped(cells, below.cells) if may_wrap else None
        if wrapped is None:
            yield cells, bold
        cells, bold = wrapped or below.cells, below.bold and (bold or not wrapped)
    yield cells, bold


def _wrapped(row: Sequence[Run], line: Sequence[Run]) -> Sequence[Run] | None:
    """A row with the cells of the next line, if each of them goes on with another."""
    places = [_place(cell, row) for cell in line]
    if len(set(places)) < len(places):
        return None
    merged = list(row)
    for place, cell in zip(places, line):
        above = row[place]
        if _overlap(above, cell) <= 0 or (_NUMBER.match(above.text) and _NUMBER.match(cell.text)):
            return None
        merged[place] = above.then(cell, " ")
    return merged


def _in_columns(cells: Sequence[Run], columns: Sequence[Run]) -> list[str]:
    """The texts of a row's cells, each in the column that it stands in or is nearest to."""
    texts = [""] * len(columns)
    for cell in cells:
        place = _place(cell, columns)
        texts[place] = f"{texts[place]} {cell.text}".strip()
    return texts


def _place(cell: Run, row: Sequence[Run]) -> int:
    """The number of the cell above or below another, the first of several; else of the nearest."""
    overlaps = [_overlap(other, cell) / (min(other.width, cell.width) or 1.0) for other in row]
    enough = min(max(overlaps), _SPANS)
    return next(number for number, overlap in enumerate(overlaps) if overlap >= enough)


def _overlap(one: Run, other: Run) -> float:
    return min(one.x1, other.x1) - max(one.x0, other.x0)


def _header_rows(table: Sequence[Sequence[str]], bold: Sequence[bool]) -> int:
    """How many rows from the top head the columns: bold ones, or words above figures."""
    figures = [any(map(_FIGURE.search, row[1:])) for row in table]
    mostly_figures = 2 * sum(figures) > len(figures)
    count = 0
    for row, is_bold, has_figures in zip(table[:_HEADER_ROWS], bold, figures):
        words_above = mostly_figures and not has_figures and any(row[1:])
        if row[0] and not words_above and not (is_bold and not all(bold)):
            break
        count += 1
    return count if count < len(table) else 0
