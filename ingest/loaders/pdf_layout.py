"""Pieces of text with their places to lines in reading order, columns one after the other.

Columns are told by where many pieces begin: to the left of that, a gap runs down the page between
two bodies of text. What crosses the gap (a title, a wide table) parts the page into bands, and the
columns of one band are read before the next. A table has such gaps too, but little text beside
them.
"""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from unicodedata import normalize

from ingest.loaders.pdf_pages import RIGHT_TO_LEFT, SPACE, Run

# In units of the font's size, where nothing else is said.
_CELL = 1.0  # the narrowest gap between the cells of a table
_LEVEL = 0.5  # from a line's baseline to the raised and lowered letters on it
_RAISED = 1.6  # the size of a letter, in that of the raised letters beside it
_GUTTER = 0.5  # the narrowest gap between columns
_HANGING = 2.5  # how far numbers and bullets may hang out of a column
_BAND_GAP = 3.0  # an empty strip that parts bands
_LONG = 8.0  # the shortest piece that tells text from figures and names
_LINES = 5  # the fewest that show a column
_FEW_LINES = 2  # likewise, where others show it
_MOSTLY = 0.6  # of what stands in a column is long
_FULL = 0.8  # of a column's width: most of its lines are as long
_GOES_ON = 0.2  # of the lines of a text begin with a small letter
_CANDIDATES = 6
_MARKER = re.compile(r"[•◦▪‣●○■➢✓–*·-]|\(?\w{1,3}[.)]|\d{1,2}")
_LEADER = re.compile(r"(?:\.\s?){5,}")  # dots that lead from a title to its page number
_CURRENCY = re.compile(r"\s([$€£¥])$")
_BEFORE_FIGURES = re.compile(r"[$€£¥(]+")
_AFTER_FIGURES = re.compile(r"[%)]+")
_LETTERS = {code: normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}  # ligatures
_LETTERS |= {0xAD: "-", **dict.fromkeys((0x7F, 0xF0A7, 0xF0B7, 0xF0D8, 0xF0FC), "•")}

_Band = tuple[list[Run], list[Run]]  # what stands on either side of a gap


@dataclass(frozen=True, slots=True)
class Line:
    """A line, in cells where gaps part it; `column` counts the columns of the page in order."""

    cells: tuple[Run, ...]
    y: float
    size: float
    column: int

    @property
    def text(self) -> str:
        """The whole line."""
        return " ".join(cell.text for cell in self.cells)

    @property
    def x0(self) -> float:
        """Where it begins."""
        return self.cells[0].x0

    @property
    def x1(self) -> float:
        """Where it ends."""
        return self.cells[-1].x1

    @property
    def bold(self) -> bool:
        """Whether all of it is bold."""
        return all(cell.bold and cell.ends_bold for cell in self.cells)


def lines_of(runs: Sequence[Run]) -> list[Line]:
    """The lines of a page; what reads in another direction than most of it comes last."""
    angles = Counter[int]()
    right_to_left = 0
    for run in runs:
        angles[run.angle] += len(run.text)
        right_to_left += len(run.text) * bool(RIGHT_TO_LEFT.search(run.text))
    if 2 * right_to_left > angles.total():  # to read it, look into a mirror
        runs = [replace(run, x0=-run.x1, x1=-run.x0) for run in runs]
    columns: list[Sequence[Run]] = []
    for angle, _ in angles.most_common():
        columns += _columns([run for run in runs if run.angle == angle])
    return [line for number, column in enumerate(columns) for line in _lines(column, number)]


def _columns(runs: Sequence[Run]) -> list[Sequence[Run]]:
    """The pieces of each column, or of each stretch without columns, in reading order."""
    bands = max((_bands(runs, x) for x in _candidates(runs)), key=_in_columns, default=[])
    has_columns = _in_columns(bands)
    columns: list[Sequence[Run]] = [[]]
    for left, right in bands:
        has_text = _is_text(left, _FEW_LINES) or _is_text(right, _FEW_LINES)
        if has_columns and has_text and left and right:  # beside one, there may be a figure
            columns += [*_columns(left), *_columns(right), []]
        else:
            columns[-1] = [*columns[-1], *left, *right]
    return [column for column in columns if column] if has_columns else [runs]


def _candidates(runs: Sequence[Run]) -> Iterator[float]:
    """Where a column may begin."""
    starts = Counter(math.floor(run.x0) for run in runs if _is_long(run))
    for x, count in starts.most_common(_CANDIDATES):
        if count >= _LINES:
            yield x


def _bands(runs: Sequence[Run], x: float) -> list[_Band]:
    """The bands of a page, from its top, parted by what crosses x and by empty strips."""
    across = sorted(
        run.y
        for run in runs
        if run.x0 < x - _HANGING * run.size and run.x1 + _GUTTER * run.size > x
    )
    bands: list[_Band] = []
    above, y = (-1, False), math.inf
    for run in sorted(runs, key=attrgetter("y"), reverse=True):
        below = bisect_left(across, run.y)
        near = across[max(below - 1, 0) : below + 1]
        wide = any(abs(run.y - y) < _LEVEL * run.size for y in near)
        if (below, wide) != above or y - run.y > _BAND_GAP * run.size:
            bands.append(([], []))
        above, y = (below, wide), run.y
        is_right = run.x0 >= x or run.x1 > x > run.x0 >= x - _HANGING * run.size
        bands[-1][is_right and not wide].append(run)
    return bands


def _in_columns(bands: Sequence[_Band]) -> int:
    """How many pieces stand in text beside text."""
    return sum(
        len(left) + len(right)
        for left, right in bands
        if _is_text(left, _LINES) and _is_text(right, _LINES)
    )


def _is_text(runs: Sequence[Run], least: int) -> bool:
    """Whether pieces are lines of text: they fill a column, and sentences go on in them."""
    widths = sorted(run.width for run in runs if _is_long(run))
    if len(widths) < least or sum(widths) < _MOSTLY * sum(run.width for run in runs):
        return False
    starts = [run.text[0] for run in runs if run.text[0].isupper() or run.text[0].islower()]
    goes_on = sum(map(str.islower, starts)) >= _GOES_ON * len(starts)
    return goes_on and widths[len(widths) // 2] > _FULL * widths[-1 - len(widths) // 10]


def _is_long(run: Run) -> bool:
    return run.width >= _LONG * run.size


def _lines(runs: Sequence[Run], column: int) -> Iterator[Line]:
    """The lines of a column, from its top; each stands where its widest piece stands."""
    row: list[Run] = []
    base: Run | None = None
    for run in sorted(runs, key=attrgetter("y"), reverse=True):
        if base and not _is_level(base, run):
            yield Line(_cells(row), base.y, base.size, column)
            row, base = [], None
        row.append(run)
        base = max(base or run, run, key=attrgetter("width"))
    if base:
        yield Line(_cells(row), base.y, base.size, column)


def _is_level(base: Run, run: Run) -> bool:
    small, large = sorted((base.size, run.size))
    return abs(base.y - run.y) < _LEVEL * min(large, _RAISED * small)


def _cells(row: Sequence[Run]) -> tuple[Run, ...]:
    cells: list[Run] = []
    for run in sorted(row, key=attrgetter("x0")):
        cell = replace(run, text=run.text.translate(_LETTERS))
        gap = (run.x0 - cells[-1].x1) / run.size if cells else 0.0
        if cells and cell.text == cells[-1].text and abs(run.x0 - cells[-1].x0) < SPACE * run.size:
            continue  # written twice, to look bold or to have a shadow
        if cells and (gap < _CELL or _goes_on(cells, cell.text)):
            cell = cells.pop().then(cell, "" if -_CELL < gap <= SPACE else " ")
        elif cells and (currency := _CURRENCY.search(cells[-1].text)):
            # It was written nearer to the figures before it than to its own.
            cells[-1] = replace(cells[-1], text=cells[-1].text[: currency.start()])
            cell = replace(cell, text=f"{currency[1]} {cell.text}")
        cells.append(cell)
    return tuple(part for cell in cells for part in _without_leader(cell))


def _goes_on(cells: Sequence[Run], text: str) -> bool:
    """Whether a text goes on with the last cell in spite of a gap."""
    last = cells[-1].text
    if _BEFORE_FIGURES.fullmatch(last) or _AFTER_FIGURES.fullmatch(text):
        return True
    return len(cells) == 1 and bool(_MARKER.fullmatch(last)) and not text[0].isdigit()


def _without_leader(cell: Run) -> Sequence[Run]:
    """What stands on either side of leading dots, as cells of their own."""
    dots = _LEADER.search(cell.text)
    if not dots:
        return [cell]
    letter = cell.width / len(cell.text)
    title, number = cell.text[: dots.start()].strip(), cell.text[dots.end() :].strip()
    left = replace(cell, text=title, x1=cell.x0 + letter * dots.start())
    right = replace(cell, text=number, x0=cell.x0 + letter * dots.end())
    return [side for side in (left, right) if side.text] or [cell]
