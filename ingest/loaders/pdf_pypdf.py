"""PDF by pypdf, in pure Python: slow, but always there.

pypdf's own text has lost where things stand, so the operators of a page are followed here, with
pypdf's fonts to decode and measure what they show (ISO 32000-2, 8.4 and 9.4). A page where that
fails, or that is written from right to left, gives pypdf's lines.
"""

import io
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.loaders import pdf_pages as seam
from ingest.loaders.options import border, named
from ingest.loaders.package import AGAIN, encrypted
from ingest.loaders.pdf_pages import Bookmark, Run

if TYPE_CHECKING:
    from pypdf import PdfReader
    from pypdf.generic._font import Font

# What pypdf repairs or ignores is no news to a person; what it cannot read is in our errors.
logging.getLogger("pypdf").addHandler(logging.NullHandler())

_Matrix = tuple[float, float, float, float, float, float]
_IDENTITY: _Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
_SETTINGS = {b"Tc": "letter_space", b"Tw": "word_space", b"Tz": "stretch", b"TL": "leading"}
_MOVING = (b"BT", b"Tm", b"Td", b"TD", b"T*", b"'", b'"')
_SHOWING = (b"Tj", b"TJ", b"'", b'"')
_DEEPEST = 12  # forms within forms


class PypdfFile:
    """A PDF opened by pypdf. Where it is damaged, everything else may raise anything.

    Raises LoadError for what is no PDF, or is locked by a password.
    """

    def __init__(self, data: bytes) -> None:
        from pypdf import PdfReader

        with border("damaged PDF", AGAIN, named):
            self._reader = PdfReader(io.BytesIO(data))
            if self._reader.is_encrypted and not self._reader.decrypt(""):
                raise encrypted()
            self.page_count = len(self._reader.pages)
        self._fonts: dict[Any, Font] = {}

    def runs(self, page: int) -> Sequence[Run]:
        """The text of a page, counted from 0, in the order in which it was written."""
        loaded = self._reader.pages[page]
        drawing = _Drawing(self._reader, self._fonts)
        with suppress(Exception):  # the border to pypdf: what it may read in its own way
            drawing.draw(loaded.get("/Contents"), loaded.get("/Resources"))
            if not any(seam.RIGHT_TO_LEFT.search(run.text) for run in drawing.runs):
                return drawing.runs
        return seam.lines_apart(loaded.extract_text())

    def metadata(self, key: str) -> str:
        """An entry of the file's information, "" if it has none."""
        found = self._reader.metadata
        return str(found.get(f"/{key}") or "") if found else ""

    def labels(self) -> Sequence[str]:
        """What is printed on each page as its number."""
        return self._reader.page_labels

    def outline(self) -> Sequence[Bookmark]:
        """The entries that lead to a page."""
        return list(self._bookmarks(self._reader.outline, 1))

    def _bookmarks(self, entries: Sequence[Any], level: int) -> Iterator[Bookmark]:
        for entry in entries:
            if isinstance(entry, list):
                yield from self._bookmarks(entry, level + 1)
            elif (page := self._reader.get_destination_page_number(entry)) is not None:
                yield Bookmark(level, str(entry.title), page)


@dataclass(slots=True)
class _State:
    """The parameters that `q` keeps and `Q` brings back."""

    matrix: _Matrix = _IDENTITY
    font: "Font | None" = None
    size: float = 0.0
    letter_space: float = 0.0
    word_space: float = 0.0
    stretch: float = 100.0
    leading: float = 0.0


class _Drawing:
    """What content streams show: `runs` grows as they are drawn."""

    def __init__(self, reader: "PdfReader", fonts: dict[Any, "Font"]) -> None:
        self.runs: list[Run] = []
        self._reader = reader
        self._fonts = fonts  # of the whole file, by their place in it
        self._state = _State()
        self._line = self._pen = _IDENTITY

    def draw(self, content: Any, resources: Any, depth: int = 0) -> None:
        """Follow the operators of a content stream."""
        from pypdf.generic import ContentStream

        kept: list[_State] = []
        for operands, operator in ContentStream(content, self._reader, "bytes").operations:
            if operator in _SETTINGS:
                setattr(self._state, _SETTINGS[operator], float(operands[0]))
            elif operator == b"q":
                kept.append(copy(self._state))
            elif operator == b"Q" and kept:
                self._state = kept.pop()
            elif operator == b"cm":
                self._state.matrix = _product(_matrix(operands), self._state.matrix)
            elif operator == b"Tf":
                self._choose_font(resources.get_object()["/Font"].get_object(), *operands)
            elif operator == b"Do" and depth < _DEEPEST:
                self._draw_form(operands[0], resources, depth)
            else:
                self._write(operator, operands)

    def _choose_font(self, fonts: Any, name: str, size: Any) -> None:
        from pypdf.generic._font import Font

        place = fonts.raw_get(name)
        if place not in self._fonts:
            self._fonts[place] = Font.from_font_resource(place.get_object())
        self._state.font, self._state.size = self._fonts[place], float(size)

    def _draw_form(self, name: str, resources: Any, depth: int) -> None:
        form = resources.get_object()["/XObject"].get_object()[name].get_object()
        if form.get("/Subtype") == "/Form":
            state, self._state = self._state, copy(self._state)
            self._state.matrix = _product(_matrix(form.get("/Matrix", _IDENTITY)), state.matrix)
            self.draw(form, form.get("/Resources", resources), depth + 1)
            self._state = state

    def _write(self, operator: bytes, operands: Sequence[Any]) -> None:
        """Move to where a line or a part of it begins, and show a string there."""
        state = self._state
        if operator == b"TD":
            state.leading = -float(operands[1])
        if operator in (b"BT", b"Tm"):
            self._line = self._pen = _matrix(operands or _IDENTITY)
        elif operator in _MOVING:
            right, up = operands if operator in (b"Td", b"TD") else (0, -state.leading)
            self._line = self._pen = _moved(self._line, float(right), float(up))
        if operator in _SHOWING:
            shown = operands[-1]
            for item in shown if isinstance(shown, list) else [shown]:
                if isinstance(item, bytes):
                    self._show(item)
                else:
                    self._advance(-float(item) / 1000 * state.size)

    def _show(self, string: bytes) -> None:
        """Add the words of a string, and move the pen behind it."""
        state = self._state
        if not state.font:
            return
        spread = state.word_space * isinstance(state.font.encoding, dict)  # of one-byte letters
        word, width, gap = "", 0.0, ""
        for letter, thousandths in _glyphs(state.font, string):
            advance = thousandths / 1000 * state.size + state.letter_space
            if not letter.isspace():
                word += letter
                width += advance
                continue
            self._add(word, width, gap)
            self._advance(width + advance + spread)
            word, width, gap = "", 0.0, " "
        self._add(word, width, gap)
        self._advance(width)

    def _advance(self, width: float) -> None:
        self._pen = _moved(self._pen, width * self._state.stretch / 100, 0.0)

    def _add(self, word: str, width: float, gap: str) -> None:
        """Add a word behind a gap (a space or nothing), to the last run if it goes on with that."""
        state = self._state
        if not (word and state.font):
            return
        right, up, left, high, x, y = _product(self._pen, state.matrix)
        angle = seam.right_angle(right * state.size, up * state.size)
        x, y = seam.turned(x, y, angle)
        x1 = x + abs(width) * state.stretch / 100 * math.hypot(right, up)
        size = abs(state.size) * math.hypot(left, high) or 1.0
        bold = seam.is_bold(state.font.name)
        run = Run(word, x, x1, y, size, bold, bold, angle)
        last = self.runs[-1] if self.runs else None
        if last and last.angle == angle and seam.follows(x - last.x1, y - last.y, last.size):
            self.runs[-1] = last.then(run, " " if x - last.x1 > seam.SPACE * last.size else gap)
        else:
            self.runs.append(run)


def _glyphs(font: "Font", string: bytes) -> Iterator[tuple[str, float]]:
    """The letters that a string shows, each with its width in thousandths of the font's size."""
    if isinstance(font.encoding, str):
        codes = string.decode(font.encoding, "replace")
        letters: Sequence[str] = codes
    else:
        codes = string.decode("latin-1")
        letters = [font.encoding.get(byte, chr(byte)) for byte in string]
    widths, default = font.character_widths, font.character_widths["default"]
    for code, letter in zip(codes, letters):
        width = font.space_width if code == font.space_char else widths.get(code, default)
        yield font.character_map.get(letter, letter), width


def _matrix(operands: Sequence[Any]) -> _Matrix:
    a, b, c, d, e, f = map(float, operands)
    return a, b, c, d, e, f


def _moved(matrix: _Matrix, right: float, up: float) -> _Matrix:
    return _product((1.0, 0.0, 0.0, 1.0, right, up), matrix)


def _product(m: _Matrix, n: _Matrix) -> _Matrix:
    """The matrix that does first what `m` does and then what `n` does."""
    a, b, c, d, e, f = n
    x_axis, y_axis, origin = ((x * a + y * c, x * b + y * d) for x, y in (m[0:2], m[2:4], m[4:6]))
    return (*x_axis, *y_axis, origin[0] + e, origin[1] + f)
