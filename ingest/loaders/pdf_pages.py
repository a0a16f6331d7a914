"""What a PDF library has to give, whichever it is: pieces of text with their places."""

import re
from dataclasses import dataclass
from functools import lru_cache

RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
SPACE = 0.15  # of the font's size: a gap as wide parts words
_GAP = 1.0  # a gap as wide parts runs
_OVERLAP = 0.3  # how far a word may reach back into the one before it
_LEVEL = 0.2  # between baselines that are one
_MADE_UP = 10.0  # the size of text of unknown size
_DIRECTIONS = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}
_BOLD = re.compile(r"bold|black|heavy|demi|medi(?!um)|cmb", re.I)


@dataclass(frozen=True, slots=True)
class Run:
    """Text on one baseline without a gap wider than the font's size in it.

    `bold` is told of its first letter and `ends_bold` of its last. `angle` is the direction it is
    read in, counterclockwise: 0, 90, 180 or 270. The coordinates are in points on the page turned
    back by that angle, so that every text reads to the right: it reaches from `x0` to `x1`, and
    `y`, the height of its baseline, falls from line to line.
    """

    text: str
    x0: float
    x1: float
    y: float
    size: float
    bold: bool = False
    ends_bold: bool = False
    angle: int = 0

    @property
    def width(self) -> float:
        """How far it reaches."""
        return self.x1 - self.x0

    def then(self, other: "Run", gap: str) -> "Run":
        """This run and another behind a gap (a space or nothing) as one."""
        x0, x1 = min(self.x0, other.x0), max(self.x1, other.x1)
        text, size = self.text + gap + other.text, max(self.size, other.size)
        return Run(text, x0, x1, self.y, size, self.bold, other.ends_bold, self.angle)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """An entry of the outline: `level` counts from 1, `page` from 0."""

    level: int
    title: str
    page: int


def follows(gap: float, rise: float, size: float) -> bool:
    """Whether a word so far to the right of a run and above its baseline goes on with it."""
    return abs(rise) < _LEVEL * size and -_OVERLAP * size < gap < _GAP * size


def turned(x: float, y: float, angle: int) -> tuple[float, float]:
    """A point of the page as a text sees it that is read at an angle."""
    right, up = _DIRECTIONS[angle]
    return x * right + y * up, y * right - x * up


def right_angle(right: float, up: float) -> int:
    """The multiple of 90 degrees nearest to a direction."""
    return max(_DIRECTIONS, key=lambda angle: turned(right, up, angle)[0])


@lru_cache(1024)
def is_bold(font: str) -> bool:
    """Whether a font's name says that it is bold."""
    return bool(_BOLD.search(font))


def lines_apart(text: str) -> list[Run]:
    """Text without places, its lines at made-up places below each other."""
    runs = []
    for number, line in enumerate(text.split("\n")):
        width, y = len(line) * _MADE_UP / 2, -1.2 * _MADE_UP * number
        x0 = -width if RIGHT_TO_LEFT.search(line) else 0.0
        runs.append(Run(line.strip(), x0, x0 + width, y, _MADE_UP))
    return [run for run in runs if run.text]
