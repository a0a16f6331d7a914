"""Text recognition: scanned pages and pictures, with tesseract and without it."""

import io
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from documents import blocks, read
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from ingest.errors import LoadError, UnsupportedFile
from ingest.load import DEFAULT_OPTIONS, format_of, loader_version
from ingest.loaders import ocr, pdf
from ingest.types import page_at

OCR = replace(DEFAULT_OPTIONS, ocr=True)
WORDS = "The cellar is dry and the logger is well"
needs_tesseract = pytest.mark.skipif(
    not shutil.which("tesseract"), reason="the program tesseract is not installed"
)


def picture(*lines: str, kind: str = "PNG", pages: int = 1) -> bytes:
    """A picture of lines of text."""
    images = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    drawing = pytest.importorskip("PIL.ImageDraw")
    font = pytest.importorskip("PIL.ImageFont").load_default(40)
    sheets = []
    for number in range(pages):
        image = images.new("L", (1000, 160 + 70 * len(lines)), 255)
        for row, line in enumerate(lines):
            text = f"{line} {number + 1}" if pages > 1 else line
            drawing.Draw(image).text((60, 60 + 70 * row), text, 0, font)
        sheets.append(image)
    file = io.BytesIO()
    more = {"save_all": True, "append_images": sheets[1:]} if pages > 1 else {}
    sheets[0].save(file, kind, **more)
    return file.getvalue()


def scan(*lines: str, text: str = "") -> bytes:
    """A PDF of which the second page is a picture; the first one has the text, if there is any."""
    file = io.BytesIO()
    canvas = Canvas(file, invariant=True)
    if text:
        canvas.drawString(72, 700, text)
        canvas.showPage()
    canvas.drawImage(ImageReader(io.BytesIO(picture(*lines))), 50, 500, 500, 115)
    canvas.save()
    return file.getvalue()


@pytest.fixture
def no_tesseract(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program can be found."""
    monkeypatch.setenv("PATH", str(tmp_path))


def stand_in(folder: Path, script: str) -> None:
    """A program that stands in for tesseract."""
    program = folder / "tesseract"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --list-langs ]; then echo "Languages (2):"; echo eng; echo osd; exit; fi\n'
        f"{script}\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which programs are looked for first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    ocr._languages.cache_clear()
    return tmp_path


# With the real program


@needs_tesseract
def test_a_scanned_page_is_read():
    """Its lines become a paragraph."""
    (document,) = read("scan.pdf", scan(WORDS, "and all is quiet."), OCR)

    assert blocks(document) == [("prose", f"{WORDS} and all is quiet.")]
    assert document.page_starts == (0,)


@needs_tesseract
def test_only_pages_without_text_are_recognised():
    """The text that a PDF has is better than what is recognised."""
    (document,) = read("a.pdf", scan(WORDS, text="A first page with its own text on it."), OCR)

    assert [
        (page_at(document.page_starts, block.start), document.text[block.start : block.end])
        for block in document.blocks
    ] == [(1, "A first page with its own text on it."), (2, WORDS)]


@needs_tesseract
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_pictures_are_read(kind):
    """Whatever their format is."""
    name = f"note.{kind.lower()}"
    (document,) = read(name, picture(WORDS, kind=kind), OCR)

    assert document.text == WORDS
    assert document.media_type == format_of(name)


@needs_tesseract
def test_a_picture_may_have_pages():
    """As fax machines and scanners write them."""
    (document,) = read("fax.tiff", picture(WORDS, kind="TIFF", pages=2), OCR)

    assert document.text == f"{WORDS} 1\n\n{WORDS} 2"
    assert len(document.page_starts) == 2


@needs_tesseract
@pytest.mark.parametrize("data", [b"", b"no picture", picture.__doc__.encode()])
def test_what_is_no_picture_is_refused(data):
    """The program's own words say why."""
    with pytest.raises(LoadError, match=r"OCR failed: \w|no text found"):
        read("a.png", data, OCR)


@needs_tesseract
def test_an_empty_picture_is_refused():
    """There is nothing to cite in it."""
    with pytest.raises(LoadError, match="no text found in this picture"):
        read("a.png", picture(), OCR)


@needs_tesseract
def test_a_language_that_is_not_installed_is_named():
    """So are those that are."""
    with pytest.raises(LoadError, match=r"no OCR for language 'xyz'; installed: .*eng") as raised:
        read("a.png", picture(WORDS), replace(OCR, ocr_languages="eng+xyz"))
    assert "tesseract-ocr-xyz" in raised.value.hint


# Without it, or with a program that stands in for it


def test_pictures_are_left_alone_unless_asked_for():
    """Most pictures in a folder hold no text: they are skipped, not failed."""
    with pytest.raises(UnsupportedFile, match="a picture") as raised:
        read("a.jpg", b"\xff\xd8")
    assert "--ocr" in raised.value.hint


@pytest.mark.usefixtures("no_tesseract")
@pytest.mark.parametrize("name", ["scan.pdf", "scan.png"])
def test_without_tesseract_the_error_says_what_to_install(name):
    """The same words as for any file without text."""
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    data = scan(WORDS) if name == "scan.pdf" else picture(WORDS)

    with pytest.raises(LoadError, match="no text: scanned") as raised:
        read(name, data, OCR)
    assert "apt install tesseract-ocr" in raised.value.hint


def test_without_pypdfium2_the_error_says_what_to_install(monkeypatch):
    """pypdf draws no pages."""
    monkeypatch.setattr(pdf, "is_installed", lambda: False)

    with pytest.raises(LoadError, match="no text: scanned") as raised:
        read("scan.pdf", scan(WORDS), OCR)
    assert "pip install 'ragcite[ocr]'" in raised.value.hint


@pytest.mark.usefixtures("no_tesseract")
def test_a_document_with_text_does_not_need_tesseract():
    """A scanned page among others costs itself alone."""
    (document,) = read("a.pdf", scan(WORDS, text="A first page with its own text on it."), OCR)

    assert document.text == "A first page with its own text on it."


def test_a_page_is_handed_over_as_a_picture(programs):
    """In grey, at 300 dots an inch, and by no file."""
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    stand_in(programs, f"cat > {programs}/seen; echo read")
    (document,) = read("scan.pdf", scan(WORDS), OCR)

    assert document.text == "read"
    assert (programs / "seen").read_bytes().startswith(b"P5 2481 3508 255\n")


def test_text_that_is_there_is_kept_if_no_more_is_found(programs):
    """A page with a stamp on a picture of nothing."""
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    stand_in(programs, "cat > /dev/null; echo x")
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.drawString(72, 700, "Copy No. 7")
    canvas.drawImage(ImageReader(io.BytesIO(picture())), 50, 100, 500, 400)
    canvas.save()
    (document,) = read("scan.pdf", file.getvalue(), OCR)

    assert document.text == "Copy No. 7"


def test_a_slow_program_is_ended(programs):
    """The time limit of a file holds for it too."""
    stand_in(programs, "exec sleep 60")

    with pytest.raises(LoadError, match=r"OCR took longer than 0\.5 s"):
        read("a.png", b"picture", replace(OCR, max_seconds=0.5))


def test_a_failing_program_is_quoted(programs):
    """Its last line says what was wrong."""
    stand_in(programs, "echo first >&2; echo 'Image too small' >&2; exit 1")

    with pytest.raises(LoadError, match="OCR failed: Image too small"):
        read("a.png", b"picture", OCR)


def test_languages_are_no_options(programs):
    """What is not installed under that very name is not passed on."""
    stand_in(programs, "echo read")

    with pytest.raises(LoadError, match="no OCR for language '--tessdata-dir'"):
        read("a.png", b"picture", replace(OCR, ocr_languages="--tessdata-dir"))


@pytest.mark.usefixtures("no_tesseract")
@pytest.mark.parametrize("name", ["a.pdf", "a.png"])
def test_files_are_read_again_where_ocr_may_now_succeed(name, tmp_path):
    """With `--ocr`, once tesseract is installed, and with other languages."""
    versions = [loader_version(name), loader_version(name, OCR)]
    stand_in(tmp_path, "echo read")
    german = replace(OCR, ocr_languages="deu")
    versions += [loader_version(name, OCR), loader_version(name, german)]

    assert len(set(versions)) == 4
