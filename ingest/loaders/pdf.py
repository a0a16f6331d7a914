"""PDF: its text in reading order, with structure and exact page starts.

A library gives pieces of text with their places: pdfium where it is installed, else pypdf. All that
is made of them is the same for both. Either raises nearly anything for a damaged file: every call
that reads it passes one border.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import TypeVar

from ingest.errors import LoadError
from ingest.loaders import ocr
from ingest.loaders.builder import Builder
from ingest.loaders.decode import one_line
from ingest.loaders.options import LoadOptions, check_text_length
from ingest.loaders.pdf_blocks import write_pages
from ingest.loaders.pdf_layout import Line, lines_of
from ingest.loaders.pdf_pages import Run, lines_apart
from ingest.loaders.pdf_pdfium import PdfiumFile, is_installed
from ingest.loaders.pdf_pypdf import PypdfFile
from ingest.loaders.pdf_running import without_running
from ingest.types import Document

_File = PdfiumFile | PypdfFile
_Pages = Sequence[Sequence[Run]]
_T = TypeVar("_T")
_SPARSE = 32  # characters: a page with fewer may be a picture with a stamp
_PIXELS_A_POINT = 300 / 72
_MOST_PIXELS = 50_000_000  # a page of about A2
_TITLE_CHARACTERS = 120
_INFORMATION = ("Title", "Author", "CreationDate")
_WORD = re.compile(r"[^\W\d_]{3}")
# What word processors put into the title field when nobody did.
_NO_TITLE = re.compile(
    r"untitled|\(?anonymous\)?|(?:microsoft (?:word|powerpoint) - .*)|[\d\s._-]+|.*\.\w{2,4}", re.I
)
_DATE = re.compile(r"D:((?:19|20)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")


def load_pdf(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document. Pages that cannot be read are left empty and listed in its metadata.

    Raises LoadError for a file that is no PDF, is encrypted with a password, has too many pages or
    shows no text on any page.
    """
    file = _open(data)
    pages, unreadable = _read(file, data, options)
    if options.ocr:
        pages = _with_recognised(pages, data, options)
    if not any(pages):
        hint = "check `ingest.ocr_languages`" if options.ocr else "run `rag ingest --ocr PATH`"
        raise LoadError("no text: scanned?", hint)
    lines = list(map(lines_of, without_running(pages)))
    builder = Builder(options)
    write_pages(lines, _attempt(file.outline) or (), builder)
    title, author, date = (_attempt(file.metadata, key) or "" for key in _INFORMATION)
    metadata = {
        "author": author,
        "date": _DATE.sub(r"\1-\2-\3 ", date),
        "unreadable_pages": ", ".join(map(str, unreadable)),
    }
    title = "" if _NO_TITLE.fullmatch(one_line(title)) else title
    title = title or _first_line(source, lines)
    labels = _labels(_attempt(file.labels) or (), len(pages))
    return (builder.document(source, title, metadata, labels),)


def variant(options: LoadOptions) -> str:
    """What the text of a PDF depends on besides the file."""
    return f";reader={'pdfium' if is_installed() else 'pypdf'}{ocr.variant(options)}"


def _open(data: bytes) -> _File:
    if b"%PDF-" not in data[:1024]:
        raise LoadError("not a PDF: it does not begin as one", "check what the file is")
    file = _attempt(PdfiumFile, data) if is_installed() else None
    return file or PypdfFile(data)


def _read(file: _File, data: bytes, options: LoadOptions) -> tuple[_Pages, list[int]]:
    """The text of every page, and the numbers of those that could not be read.

    Pages that the first library finds empty are asked of pypdf: pdfium does not say what it cannot
    read.
    """
    count = file.page_count
    if count > options.max_pages:
        raise LoadError(
            f"{count:,} pages, more than {options.max_pages:,}", "raise `ingest.max_pages`"
        )
    second = cache(lambda: _attempt(PypdfFile, data))
    pages = []
    unreadable = []
    length = 0
    for number in range(count):
        runs = _attempt(file.runs, number)
        if not runs and not isinstance(file, PypdfFile) and (other := second()):
            runs = _attempt(other.runs, number)
        if runs is None:
            unreadable.append(number + 1)
        pages.append([run for run in runs or () if math.isfinite(run.x0 + run.x1 + run.y)])
        length += _length(pages[-1])
        check_text_length(length, options)
    if len(unreadable) == count:
        raise LoadError("no page of this PDF can be read", "open and save it again, then retry")
    return pages, unreadable


def _attempt(read: Callable[..., _T], *arguments: object) -> _T | None:
    """What a library reads, or None where it fails."""
    try:
        return read(*arguments)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the border to the libraries that read PDF
        return None


def _with_recognised(pages: _Pages, data: bytes, options: LoadOptions) -> _Pages:
    """The pages, and instead of (nearly) no text the text in their pictures.

    Raises LoadError if it cannot be recognised and no page has text.
    """
    result = list(pages)
    sparse = [number for number, runs in enumerate(pages) if _length(runs) < _SPARSE]
    try:
        for number, picture in _pictures(data, sparse):
            runs = lines_apart(ocr.recognised(picture, options))
            result[number] = max(result[number], runs, key=_length)
    except LoadError:
        if not any(pages):
            raise
    return result


def _pictures(data: bytes, pages: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Those of some pages that show a picture, as one."""
    if not is_installed():
        raise LoadError("no text: scanned?", "for OCR: `pip install 'ragcite[ocr]'`")
    file = _attempt(PdfiumFile, data)
    for page in pages:
        if picture := file and _attempt(file.picture, page, _PIXELS_A_POINT, _MOST_PIXELS):
            yield page, picture


def _length(runs: Sequence[Run]) -> int:
    return sum(len(run.text) for run in runs)


def _first_line(source: str, pages: Sequence[Sequence[Line]]) -> str:
    """The first line of the text, if it may be a title and the file's name has no word in it."""
    line = next((one_line(line.text) for lines in pages for line in lines), "")
    named = _WORD.search(PurePosixPath(source).stem)
    return "" if named or len(line) > _TITLE_CHARACTERS else line


def _labels(labels: Sequence[str], count: int) -> Sequence[str]:
    """The labels of all pages, if they say more than the pages' numbers."""
    numbers = [str(number) for number in range(1, count + 1)]
    shown = [one_line(label) or number for label, number in zip(labels, numbers)]
    return shown if len(shown) == count and shown != numbers else ()
