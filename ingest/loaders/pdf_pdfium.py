"""PDF by pdfium, the reader in Google Chrome: an extra, several times faster than pypdf.

It is native code that reads hostile files: it runs in the worker process, whose crash costs one
file.
"""

import ctypes
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import Any

from ingest.loaders import pdf_pages as seam
from ingest.loaders.pdf_pages import Bookmark, Run

_HYPHEN = "\ufffe"  # pdfium's sign for a hyphen that ends a line; no line end follows it
_WORD = re.compile(rf"[^\s{_HYPHEN}]+{_HYPHEN}?|{_HYPHEN}")

_Word = tuple[int, int, float, float, float]  # its first and last character, x0, x1 and y


def is_installed() -> bool:
    """Whether this reader can be used."""
    return find_spec("pypdfium2") is not None


class PdfiumFile:
    """A PDF opened by pdfium. Where it is damaged, everything may raise anything."""

    def __init__(self, data: bytes) -> None:
        from pypdfium2 import PdfDocument

        self._document = PdfDocument(data)
        self.page_count = len(self._document)

    def runs(self, page: int) -> Sequence[Run]:
        """The text of a page, counted from 0, in the order in which it was written."""
        with closing(self._document[page]) as loaded:
            return list(_PageText(loaded.get_textpage()).runs())

    def metadata(self, key: str) -> str:
        """An entry of the file's information, "" if it has none."""
        return str(self._document.get_metadata_value(key))

    def labels(self) -> Sequence[str]:
        """What is printed on each page as its number; "" if nothing is known."""
        return [self._document.get_page_label(page) for page in range(self.page_count)]

    def outline(self) -> Sequence[Bookmark]:
        """The entries that lead to a page."""
        return [
            Bookmark(entry.level + 1, entry.get_title(), page)
            for entry in self._document.get_toc()
            if (target := entry.get_dest()) and (page := target.get_index()) is not None
        ]

    def picture(self, page: int, scale: float, most_pixels: int) -> bytes:
        """A page as a grey PGM image, of `scale` pixels a point if they are not too many.

        It is empty for a page without any image on it.
        """
        from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

        loaded = self._document[page]
        if not any(loaded.get_objects(filter=[FPDF_PAGEOBJ_IMAGE])):
            return b""
        scale = min(scale, math.sqrt(most_pixels / (loaded.get_width() * loaded.get_height())))
        bitmap = loaded.render(scale=scale, grayscale=True)
        rows = memoryview(bitmap.buffer).cast("B")
        starts = range(0, bitmap.stride * bitmap.height, bitmap.stride)
        pixels = b"".join(rows[start : start + bitmap.width] for start in starts)
        return b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + pixels


class _PageText:
    """The characters of a page, with cells for what pdfium says about one of them."""

    def __init__(self, page: Any) -> None:
        from pypdfium2 import raw

        self._pdfium = raw
        self._owner = page  # closes the page's handle when it goes
        self._page = page.raw
        self._text = self._characters(page)
        self._both_ways = bool(seam.RIGHT_TO_LEFT.search(self._text))
        self._box, self._matrix = raw.FS_RECTF(), raw.FS_MATRIX()
        self._x, self._y, self._flags = ctypes.c_double(), ctypes.c_double(), ctypes.c_int()
        self._name = ctypes.create_string_buffer(128)

    def runs(self) -> Iterator[Run]:
        """The words, joined where they follow each other on a baseline."""
        words: list[_Word] = []
        angle, size = 0, 0.0
        for found in _WORD.finditer(self._text):
            word = self._word(found.start(), found.end() - 1, angle)
            if words and not self._follows(word, words[-1], size):
                yield self._run(words, angle)
                words = []
            if not words:
                angle, size = self._shape(word[0])
                word = self._word(word[0], word[1], angle)
            words.append(word)
        if words:
            yield self._run(words, angle)

    def _characters(self, page: Any) -> str:
        """The text, one character for each that pdfium counts."""
        text: str = page.get_text_range()
        count = page.count_chars()
        if len(text) == count:
            return text
        # Some were left out, or are two by pdfium's count: halves of a pair beyond U+FFFF.
        return "".join(chr(self._pdfium.FPDFText_GetUnicode(self._page, at)) for at in range(count))

    def _word(self, first: int, last: int, angle: int) -> _Word:
        self._pdfium.FPDFText_GetCharOrigin(self._page, first, self._x, self._y)
        x, y = seam.turned(self._x.value, self._y.value, angle)
        x0, x1 = self._edges(last, angle)
        if self._both_ways:
            left, right = self._edges(first, angle)
            x, x1 = min(left, x0), max(right, x1)
        return first, last, x, x1, y

    def _edges(self, character: int, angle: int) -> tuple[float, float]:
        """Where a character begins and ends along a direction."""
        box = self._box
        self._pdfium.FPDFText_GetLooseCharBox(self._page, character, box)
        if not angle:
            return box.left, box.right
        x, _ = seam.turned(box.left, box.bottom, angle)
        other, _ = seam.turned(box.right, box.top, angle)
        return min(x, other), max(x, other)

    def _shape(self, character: int) -> tuple[int, float]:
        """The direction and size of the font that a character is set in."""
        self._pdfium.FPDFText_GetMatrix(self._page, character, self._matrix)
        scale = math.hypot(self._matrix.c, self._matrix.d)
        size = self._pdfium.FPDFText_GetFontSize(self._page, character) * scale
        return seam.right_angle(self._matrix.a, self._matrix.b), abs(size) or 1.0

    def _follows(self, word: _Word, before: _Word, size: float) -> bool:
        gap = word[2] - before[3]
        if self._both_ways:
            gap = max(gap, before[2] - word[3])
        return seam.follows(gap, word[4] - before[4], size)

    def _run(self, words: Sequence[_Word], angle: int) -> Run:
        first, last = words[0][0], words[-1][1]
        text = self._text[first : last + 1].replace(_HYPHEN, "-")
        if not text.isascii():  # join the halves of pairs
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
        x0, x1 = min(word[2] for word in words), max(word[3] for word in words)
        size = max(self._shape(first)[1], self._shape(last)[1])
        bold, ends_bold = self._is_bold(first), self._is_bold(last)
        return Run(text, x0, x1, words[0][4], size, bold, ends_bold, angle)

    def _is_bold(self, character: int) -> bool:
        name = self._name
        self._pdfium.FPDFText_GetFontInfo(self._page, character, name, len(name), self._flags)
        return seam.is_bold(name.value.decode("utf-8", "ignore"))
