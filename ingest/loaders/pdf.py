"""PDF by pypdf: the text of each page, joined by blank lines, with exact page starts.

pypdf raises nearly anything on damaged files (TypeError, AssertionError, RecursionError), so every
call into it that reads the file stands at one of two borders: opening, and one page.
"""

import io
import logging
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ingest.errors import LoadError
from ingest.loaders.decode import clean, one_line, stem
from ingest.loaders.options import LoadOptions, check_text_length
from ingest.loaders.text import lines, trimmed
from ingest.types import Block, BlockKind, Document

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

# What pypdf repairs or ignores is no news to a person; what it cannot read is in our errors.
logging.getLogger("pypdf").addHandler(logging.NullHandler())

_PAGE_BREAK = "\n\n"
_SHORT = 0.7  # of the page's longest line: a shorter one ends its paragraph, if a sentence ends it
_TITLE_CHARACTERS = 120
_SENTENCE_END = re.compile(r"[.!?:;。！？][\"'”’)\]]*$")
_BULLET = re.compile(r"[•◦▪‣●○■–*-](?:\s+\S|$)|(?:\(?\d{1,2}[.)]|\([a-z]\))\s+\S")
_FIGURE = re.compile(r"^[($€£¥+–—-]*\d[\d.,:/%)]*[%)]?$|^[—–$€£¥%]$")
_ROWS = 3  # fewer rows of figures in a row are no table
_GAP = 2  # rows without figures (headings of parts) that a table may hold in one place
_ROW_CHARACTERS = 100
_CELL_GAP = re.compile(r"\S(?: {3,}|\t)\S")
_WORD = re.compile(r"[^\W\d_]{3}")
# What word processors put into the title field when nobody did.
_NO_TITLE = re.compile(
    r"untitled|(?:microsoft (?:word|powerpoint) - .*)|[\d\s._-]+|.*\.\w{2,4}", re.I
)


def load_pdf(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document. Pages that cannot be read are left empty and listed in its metadata.

    Raises LoadError for a file that is no PDF, is encrypted with a password, has too many pages or
    shows no text on any page.
    """
    reader = _open(data)
    pages, broken = _page_texts(reader, options)
    if len(broken) == len(pages):
        raise LoadError("no page of this PDF can be read", "open and save it again, then retry")
    if not any(pages):
        raise LoadError("no text: scanned?", "run text recognition (OCR) on it first")
    starts = _page_starts(pages)
    text = _PAGE_BREAK.join(pages)
    blocks = tuple(
        block
        for start, page in zip(starts, pages)
        for block in _blocks(text, start, start + len(page))
    )
    metadata = _metadata(reader)
    title = metadata.pop("title", "") or _title(source, text)
    if broken:
        metadata["unreadable_pages"] = ", ".join(map(str, broken))
    return (Document(source, title, "application/pdf", text, blocks, starts, metadata=metadata),)


def _open(data: bytes) -> "PdfReader":
    """A reader for the bytes of a PDF, decrypted if it takes no password."""
    from pypdf import PasswordType, PdfReader

    if b"%PDF-" not in data[:1024]:
        raise LoadError("not a PDF: it does not begin as one", "check what the file is")
    try:
        reader = PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED
        if not locked:
            len(reader.pages)
    except Exception as error:  # noqa: BLE001 - the border to pypdf: opening
        raise LoadError(f"damaged PDF: {_reason(error)}", "open and save it again") from None
    if locked:
        raise LoadError("encrypted: it needs a password", "save a copy without a password")
    return reader


def _page_texts(reader: "PdfReader", options: LoadOptions) -> tuple[list[str], list[int]]:
    """The clean text of every page, and the numbers of those that could not be read."""
    count = len(reader.pages)
    if count > options.max_pages:
        raise LoadError(
            f"{count:,} pages, more than {options.max_pages:,}", "raise `ingest.max_pages`"
        )
    pages: list[str] = []
    broken: list[int] = []
    length = 0
    for number in range(1, count + 1):
        try:
            page = _page_text(reader.pages[number - 1])
        except Exception:  # noqa: BLE001 - the border to pypdf: one page
            page = ""
            broken.append(number)
        length += len(page)
        check_text_length(length, options)
        pages.append(page)
    return pages, broken


def _page_text(page: "PageObject") -> str:
    """The text of a page, lines without trailing space."""
    # Code 127 shows as a bullet in PDF's Windows encoding; pypdf gives the control character.
    text = clean(page.extract_text().replace("\x7f", "•"))
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n").rstrip()


def _page_starts(pages: Sequence[str]) -> tuple[int, ...]:
    """Where each page begins once they are joined."""
    starts, at = [], 0
    for page in pages:
        starts.append(at)
        at += len(page) + len(_PAGE_BREAK)
    return tuple(starts)


def _blocks(text: str, start: int, end: int) -> Iterator[Block]:
    """The blocks of one page, told from the shapes of its lines."""
    spans = [span for span in lines(text, start, end) if text[slice(*span)].strip()]
    rows = [text[slice(*span)].strip() for span in spans]
    in_table = _table_lines(rows)
    longest = max(map(len, rows), default=0)
    first = 0
    for index in range(len(rows)):
        after = index + 1
        if after < len(rows) and not (
            in_table[index] != in_table[after]
            or (not in_table[index] and _ends(text, spans, index, longest))
        ):
            continue
        kind: BlockKind = "table" if in_table[index] else "prose"
        if kind == "prose" and _BULLET.match(rows[first]):
            kind = "list"
        yield Block(*trimmed(text, spans[first][0], spans[index][1]), kind)
        first = after


def _ends(text: str, spans: Sequence[tuple[int, int]], index: int, longest: int) -> bool:
    """Whether a paragraph ends between a line and the next."""
    (start, end), (following, stop) = spans[index], spans[index + 1]
    if following > end + 1 or _BULLET.match(text[following:stop].lstrip()):
        return True
    line = text[start:end].strip()
    return len(line) < _SHORT * longest and bool(_SENTENCE_END.search(line))


def _table_lines(rows: Sequence[str]) -> list[bool]:
    """Which lines belong to a table: runs of rows with figures or wide gaps, and what they enclose.

    The short lines right above a run (its column heads) are taken in.
    """
    marks = [_is_row(row) for row in rows]
    inside = [False] * len(rows)
    index = 0
    while index < len(rows):
        end = _run_end(rows, marks, index)
        if sum(marks[index:end]) >= _ROWS:
            index = _head_start(rows, inside, index)
            inside[index:end] = [True] * (end - index)
        index = max(end, index + 1)
    return inside


def _run_end(rows: Sequence[str], marks: Sequence[bool], start: int) -> int:
    """The end of the run of rows that begins at `start`, over gaps of short lines."""
    end = start
    for index in range(start, len(rows)):
        if marks[index]:
            end = index + 1
        elif index - end >= _GAP or not _is_short(rows[index]):
            break
    return end


def _head_start(rows: Sequence[str], inside: Sequence[bool], start: int) -> int:
    """Where the short lines above a table begin."""
    while start and not inside[start - 1] and _is_short(rows[start - 1]):
        start -= 1
    return start


def _is_row(row: str) -> bool:
    """Whether a line looks like a table's row: cells far apart, or a label and then figures."""
    if len(row) > _ROW_CHARACTERS:
        return False
    if _CELL_GAP.search(row):
        return True
    words = row.split()
    return len(words) > 1 and bool(_FIGURE.match(words[-1]))


def _is_short(row: str) -> bool:
    """Whether a line may be a heading in or above a table: short, and no end of a sentence."""
    return len(row) <= 60 and not row.endswith((".", "!", "?", "。"))


def _metadata(reader: "PdfReader") -> dict[str, str]:
    """Title (if it is one), author and date from the file's information."""
    try:
        found = reader.metadata
        values = {
            "title": one_line((found and found.title) or ""),
            "author": one_line((found and found.author) or ""),
            "date": str(found.creation_date.date()) if found and found.creation_date else "",
        }
    except Exception:  # noqa: BLE001 - the border to pypdf: what describes the file may be broken
        return {}
    if _NO_TITLE.fullmatch(values["title"]):
        del values["title"]
    return {name: value for name, value in values.items() if value}


def _title(source: str, text: str) -> str:
    """The file's name if it has a word in it, else the first line of the text.

    The first line is often a letterhead: the name that a person gave the file says more.
    """
    name = stem(source)
    line = one_line(text.lstrip().split("\n", 1)[0])
    return line if not _WORD.search(name) and len(line) <= _TITLE_CHARACTERS else name


def _reason(error: Exception) -> str:
    """An error in one short line."""
    return one_line(f"{type(error).__name__}: {error}")[:200]
