"""Text recognition (OCR) by the program tesseract, run once for each picture."""

import os
import shutil
import subprocess
from functools import cache

from ingest.errors import LoadError
from ingest.loaders.options import LoadOptions


def variant(options: LoadOptions) -> str:
    """What the text of a picture depends on besides the picture."""
    found = "tesseract" if shutil.which("tesseract") else "missing"
    return f";ocr={options.ocr_languages};{found}" if options.ocr else ""


def recognised(picture: bytes, options: LoadOptions) -> str:
    """The text in a picture, of any format that tesseract reads; pages end in a form feed.

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
