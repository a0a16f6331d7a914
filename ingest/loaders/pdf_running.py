"""Running headers and footers: lines at the top or bottom that most pages share.

A number that counts with the pages is no difference, nor is where the line stands: some footers
follow the text.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from itertools import groupby, zip_longest
from operator import attrgetter

from ingest.loaders.pdf_pages import Run

_FEWEST_PAGES = 3
_SHARE = 0.4  # of the pages: left and right ones may differ
_ROWS = 5  # at each end of a page that are looked at
_GAP = 1.5  # of the font's size, between a page's header and its text
_WIDER = 1.2  # how much wider that gap is than the next one
_NUMBER = re.compile(r"\d{1,5}")
_ROMAN = re.compile(r"[ivxlc]{1,6}")

_Rows = list[list[Run]]


def without_running(pages: Sequence[Sequence[Run]]) -> Iterator[Sequence[Run]]:
    """The pages without what repeats at their tops and bottoms.

    Its first time stays, unless it counts the pages: it may say what is said nowhere else.
    """
    edges = [_edges(runs) for runs in pages]
    counts = Counter[str]()
    for number, (top, bottom) in enumerate(edges):
        texts = (run.text for row in top + bottom for run in row)
        counts.update({key for text in texts for key in _keys(text, number)})
    least = max(_FEWEST_PAGES, _SHARE * sum(map(bool, pages)))
    repeated = {key for key, count in counts.items() if count >= least}
    seen: set[str] = set()
    for number, runs in enumerate(pages):
        running = {run for rows in edges[number] for run in _running(rows, number, repeated)}
        dropped = {run for run in running if run.text in seen or run.text not in repeated}
        seen.update(run.text for run in running)
        yield [run for run in runs if run not in dropped]


def _edges(runs: Sequence[Run]) -> tuple[_Rows, _Rows]:
    """The rows at the top and at the bottom of a page, each from the page's edge inwards."""
    angle = Counter(run.angle for run in runs).most_common(1)[0][0] if runs else 0
    upright = sorted((run for run in runs if run.angle == angle), key=attrgetter("y"))
    rows = [list(row) for _, row in groupby(upright, key=lambda run: round(run.y))]
    return rows[: -_ROWS - 1 : -1], rows[:_ROWS]


def _keys(text: str, page: int) -> list[str]:
    """A text, and what it would be with the same number on every page."""
    if _ROMAN.fullmatch(text):
        return [text, "\0"]
    numbers = list(_NUMBER.finditer(text))
    return [text] + [
        f"{text[: found.start()]}\0{int(found[0]) - page}{text[found.end() :]}"
        for found in (*numbers[:1], *numbers[-1:])
    ]


def _running(rows: _Rows, page: int, repeated: Set[str]) -> Iterator[Run]:
    """What is repeated in the rows from an edge inwards, as far as a gap parts it from the text."""
    waiting: list[Run] = []
    for row, inner, next_inner in zip_longest(rows, rows[1:], rows[2:]):
        if any(repeated.isdisjoint(_keys(run.text, page)) for run in row):
            return
        waiting += row
        gap = abs(row[0].y - inner[0].y) if inner else math.inf
        next_gap = abs(inner[0].y - next_inner[0].y) if next_inner else 0.0
        if gap > max(_GAP * row[0].size, _WIDER * next_gap):
            yield from waiting
            waiting = []
