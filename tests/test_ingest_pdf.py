"""PDF to text with exact pages; damaged, locked and scanned files."""

import io
from dataclasses import replace
from itertools import pairwise

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, NameObject
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from ingest.errors import LoadError
from ingest.loaders.options import DEFAULT_OPTIONS
from ingest.loaders.pdf import load_pdf
from ingest.types import Document, page_at

PAGE = ["The first line of a paragraph that is about as wide as the page is.", "It ends here."]


def make_pdf(*pages: list[str], title: str = "", author: str = "") -> bytes:
    """A PDF with the given lines on its pages."""
    file = io.BytesIO()
    canvas = Canvas(file, invariant=True)
    canvas.setTitle(title)
    canvas.setAuthor(author)
    for lines in pages:
        for number, line in enumerate(lines):
            canvas.drawString(72, 760 - 16 * number, line)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def encrypted(data: bytes, password: str, algorithm: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(password, "owner", algorithm=algorithm)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def with_broken_page(data: bytes, number: int) -> bytes:
    """The PDF with the content of one page replaced by what claims to be compressed."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    stream = DecodedStreamObject()
    stream.set_data(b"not compressed")
    stream[NameObject("/Filter")] = NameObject("/NoSuchFilter")
    writer.pages[number - 1][NameObject("/Contents")] = writer._add_object(stream)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def read(data: bytes, source: str = "folder/handbook.pdf") -> Document:
    (document,) = load_pdf(data, source, DEFAULT_OPTIONS)
    return document


def test_pages_are_joined_and_their_starts_are_exact():
    """Each page's text lies between its start and the next; an empty page has none."""
    document = read(make_pdf(["Page one."], [], ["Page three,", "two lines."]))

    assert document.text == "Page one.\n\n\n\nPage three,\ntwo lines."
    assert document.page_starts == (0, 11, 13)
    ends = [*document.page_starts[1:], len(document.text)]
    pages = [document.text[start:end].strip() for start, end in zip(document.page_starts, ends)]
    assert pages == ["Page one.", "", "Page three,\ntwo lines."]
    assert [page_at(document.page_starts, block.start) for block in document.blocks] == [1, 3]


def test_paragraphs_are_told_from_the_length_of_their_last_lines():
    """A short line that ends a sentence ends a paragraph; bullets begin one."""
    document = read(make_pdf([*PAGE, *PAGE, "• a point", "•", "another"]))

    shapes = [(block.kind, document.text[block.start : block.end]) for block in document.blocks]
    expected = [
        ("prose", "\n".join(PAGE)),
        ("prose", "\n".join(PAGE)),
        ("list", "• a point"),
        ("list", "•\nanother"),
    ]
    assert expected == shapes


def test_rows_of_figures_are_a_table_with_the_heads_above_them():
    """The paragraph before and the one after are not part of it."""
    table = [
        "Fees in euro",
        "2023 2024",
        "Basic 1,200 1,300",
        "Total:",
        "Large (40) $ 50",
        "Sum 5% 6%",
    ]
    document = read(make_pdf([*PAGE, *table, *PAGE]))

    shapes = [(block.kind, document.text[block.start : block.end]) for block in document.blocks]
    expected = [("prose", "\n".join(PAGE)), ("table", "\n".join(table)), ("prose", "\n".join(PAGE))]
    assert expected == shapes


@pytest.mark.parametrize(
    ("title", "source", "expected"),
    [
        ("Staff handbook", "h.pdf", "Staff handbook"),
        ("Microsoft Word - x.doc", "rules.pdf", "rules"),
        ("0000320193-23-000006", "rules 2.pdf", "rules 2"),
        ("untitled", "2301.12345.pdf", "First line of all"),
        ("", "a/scan.pdf", "scan"),
    ],
)
def test_the_title(title, source, expected):
    """The file's own title if a person wrote it, else the file's name if it is one."""
    data = make_pdf(["First line of all", "Second."], title=title, author="Ann Lee")
    document = read(data, source)

    assert expected == document.title
    assert document.metadata["author"] == "Ann Lee"


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_password_is_asked_for_only_where_there_is_one(algorithm):
    """Many PDFs are encrypted with an empty password, which opens them."""
    data = make_pdf(PAGE)

    assert "\n".join(PAGE) == read(encrypted(data, "", algorithm)).text
    with pytest.raises(LoadError, match="encrypted: it needs a password"):
        read(encrypted(data, "secret", algorithm))


def test_a_broken_page_costs_itself_alone():
    """It is empty, and the metadata says which it was."""
    data = with_broken_page(make_pdf(["one"], ["two"], ["three"]), 2)
    document = read(data)

    assert document.text == "one\n\n\n\nthree"
    assert document.metadata["unreadable_pages"] == "2"


def test_a_pdf_whose_pages_are_all_broken_is_refused():
    """That is another error than a scan's."""
    with pytest.raises(LoadError, match="no page of this PDF can be read"):
        read(with_broken_page(make_pdf(["one"]), 1))


def test_a_scan_is_reported_as_such():
    """Pages that show only images have no text to cite."""
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.drawImage(ImageReader(_image()), 0, 0)
    canvas.save()

    with pytest.raises(LoadError, match="no text: scanned") as raised:
        read(file.getvalue())
    assert "OCR" in raised.value.hint


def _image() -> object:
    image = pytest.importorskip("PIL.Image")
    return image.new("RGB", (8, 8))


def test_limits_on_pages_and_text_are_kept():
    """They are checked before the rest of the file is read."""
    data = make_pdf(*[PAGE] * 3)

    with pytest.raises(LoadError, match="3 pages, more than 2"):
        load_pdf(data, "a.pdf", replace(DEFAULT_OPTIONS, max_pages=2))
    with pytest.raises(LoadError, match="more than 100 characters"):
        load_pdf(data, "a.pdf", replace(DEFAULT_OPTIONS, max_text=100))


@pytest.mark.parametrize(
    "data", [b"", b"words, not a PDF", b"%PDF-1.7\n", b"%PDF-1.7\n" + bytes(999)]
)
def test_what_is_no_pdf_is_refused(data):
    """Whatever pypdf raises, a person sees one clear error."""
    with pytest.raises(LoadError, match=r"not a PDF|damaged PDF|no page|no text"):
        read(data)


def test_truncated_and_flipped_files_are_read_or_refused():
    """No damage to a file's bytes makes anything but a document or a LoadError."""
    data = make_pdf(*[PAGE] * 2, title="Handbook")
    damaged = [data[:size] for size in range(0, len(data), 97)]
    for position in range(0, len(data), 61):
        damaged.append(data[:position] + bytes([data[position] ^ 0x15]) + data[position + 1 :])

    outcomes = set()
    for variant in damaged:
        try:
            document = read(variant)
        except LoadError:
            outcomes.add("refused")
        else:
            outcomes.add("read")
            edges = [edge for block in document.blocks for edge in (block.start, block.end)]
            assert all(first <= second for first, second in pairwise(edges))
    assert {"read", "refused"} == outcomes
