"""Pictures: the text that is recognised in them (OCR) by the program tesseract, where asked for."""

import os
import shutil
import subprocess
from functools import cache

from ingest.errors import LoadError, UnsupportedFile
from ingest.loaders.builder import Builder
from ingest.loaders.options import LoadOptions
from ingest.loaders.pdf_blocks import write_pages
from ingest.loaders.pdf_layout import lines_of
from ingest.loaders.pdf_pages import lines_apart
from ingest.types import Document


def load_image(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, with a page for each picture in the file (TIFF may hold several).

    Raises UnsupportedFile without `ocr`, and LoadError where it finds no text.
    """
    if not options.ocr:
        raise UnsupportedFile("a picture: not read", "to read text in it: `rag ingest --ocr PATH`")
    pages = recognised(data, options).rstrip("\f").split("\f")
    if not any(map(str.strip, pages)):
        raise LoadError("no text found in this picture", "check `ingest.ocr_languages`")
    builder = Builder(options)
    write_pages([lines_of(lines_apart(page)) for page in pages], (), builder)
    return (builder.document(source),)


def variant(options: LoadOptions) -> str:
    """What the text of a picture depends on besides the picture."""
    found = "tesseract" if shutil.which("tesseract") else "missing"
    return f";ocr={options.ocr_languages};{found}" if options.ocr else ""


def recognised(picture: bytes, options: LoadOptions) -> str:
    """The text in a picture, read once by tesseract in any of its formats; form feeds end pages.

    Raises LoadError if tesseract or a language is not installed, and for what it cannot read.
    """
    program = shutil.which("tesseract")
    if not program:
        raise LoadError("no text: scanned?", "for OCR: `apt install tesseract-ocr`")
    installed = _languages(program)
    if missing := [lang for lang in options.ocr_languages.split("+") if lang not in installed]:
        raise LoadError(
            f"no OCR for language {missing[0]!r}; installed: {', '.join(installed)}",
            f"set `ingest.ocr_languages`, or `apt install tesseract-ocr-{missing[0]}`",
        )
    layout = "1" if "osd" in installed else "3"  # 1 turns pages that lie on their side
    command = [program, "stdin", "stdout", "-l", options.ocr_languages, "--psm", layout]
    try:
        result = subprocess.run(
            command,
            input=picture,
            capture_output=True,
            timeout=options.max_seconds,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},  # pages are many: threads only cost
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LoadError(
            f"OCR took longer than {options.max_seconds:g} s",
            "raise `ingest.max_seconds`",
        ) from None
    if result.returncode:
        reason = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise LoadError(f"OCR failed: {reason[:200]}", "check that the file is a picture")
    return result.stdout.decode(errors="replace")


@cache
def _languages(program: str) -> tuple[str, ...]:
    """The languages that are installed."""
    listing = subprocess.run(
        [program, "--list-langs"], capture_output=True, text=True, check=False, timeout=60
    )
    return tuple(listing.stdout.split("\n")[1:-1])
