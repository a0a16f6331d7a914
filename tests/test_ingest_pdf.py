"""PDF to text in reading order with its structure, by both libraries; damaged and locked files."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from documents import blocks, headers
from documents import read as read_file
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DecodedStreamObject, FloatObject, NameObject
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from ingest.errors import LoadError
from ingest.load import DEFAULT_OPTIONS, loader_version
from ingest.loaders import pdf, pdf_pdfium
from ingest.loaders.builder import Builder
from ingest.loaders.pdf_blocks import write_pages
from ingest.loaders.pdf_layout import lines_of
from ingest.loaders.pdf_pages import Run, lines_apart, right_angle, turned
from ingest.loaders.pdf_running import without_running
from ingest.loaders.pdf_words import joint, words_of
from ingest.types import Document, page_at

LEADING = 14
TEXT = (
    "The logger stores its readings and sends them to the gateway when the radio is free, so that "
    "nothing is lost when the power fails, and the owner sees in the evening what was measured in "
    "the morning of the same day without having to walk to the cellar where the cheese is kept."
)
OTHER = (
    "A gateway passes on what it hears and keeps it for a week if the line is cut, which happened "
    "twice last winter when the snow came early and the trees fell on the poles along the road to "
    "the valley, where nobody had thought of burying the cable as the engineers had proposed."
)
PAGE = ["The first line of a paragraph that is about as wide as the page is.", "It ends here."]


class Sheets:
    """A PDF that is being written; y is counted from the top of an A4 page."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self.canvas = Canvas(self._file, invariant=True)

    def line(self, x: float, y: float, text: str, size: float = 10, bold: bool = False) -> None:
        self.canvas.setFont("Helvetica-Bold" if bold else "Helvetica", size)
        self.canvas.drawString(x, 842 - y, text)

    def paragraph(self, x: float, y: float, width: float, text: str) -> float:
        """Words set in lines of a width, the first one below y; what is returned is below all."""
        line = ""
        for word in text.split():
            if line and stringWidth(f"{line} {word}", "Helvetica", 10) > width:
                self.line(x, y, line)
                line, y = "", y + LEADING
            line = f"{line} {word}".strip()
        self.line(x, y, line)
        return y + LEADING

    def table(self, y: float, xs: list[float], rows: list[list[str]], step: float = 16) -> float:
        for row in rows:
            for x, cell in zip(xs, row):
                self.line(x, y, cell)
            y += step
        return y

    def page(self) -> None:
        self.canvas.showPage()

    def data(self) -> bytes:
        self.canvas.save()
        return self._file.getvalue()


@pytest.fixture(autouse=True, params=["pdfium", "pypdf"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The library that reads: whatever it is, the same comes out."""
    if request.param == "pdfium":
        pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    else:
        monkeypatch.setattr(pdf, "is_installed", lambda: False)
    return str(request.param)


def make_pdf(*pages: list[str], title: str = "", author: str = "") -> bytes:
    """A PDF with the given lines on its pages."""
    sheets = Sheets()
    sheets.canvas.setTitle(title)
    sheets.canvas.setAuthor(author)
    for lines in pages:
        for number, line in enumerate(lines):
            sheets.line(72, 82 + 16 * number, line, 12)
        sheets.page()
    return sheets.data()


def read(data: bytes, source: str = "folder/handbook.pdf") -> Document:
    (document,) = read_file(source, data)
    return document


def flow(*texts: str) -> list[tuple[str, str]]:
    return [("prose", text) for text in texts]


# Pages, and what the file says about itself


def test_pages_are_joined_and_their_starts_are_exact():
    """Each page's text lies between its start and the next; an empty page has none."""
    document = read(make_pdf(["Page one."], [], ["Page three,", "two lines."]))

    assert document.text == "Page one.\n\nPage three, two lines."
    assert [page_at(document.page_starts, block.start) for block in document.blocks] == [1, 3]
    assert len(document.page_starts) == 3


@pytest.mark.parametrize(
    ("title", "source", "expected"),
    [
        ("Staff handbook", "h.pdf", "Staff handbook"),
        ("Microsoft Word - x.doc", "rules.pdf", ""),
        ("0000320193-23-000006", "rules 2.pdf", ""),
        ("untitled", "2301.12345.pdf", "First line of all"),
        ("(anonymous)", "lease.pdf", ""),
        ("", "a/scan.pdf", ""),
    ],
)
def test_the_title(title, source, expected):
    """The file's own if a person wrote it; the first line if the file's name has no word."""
    data = make_pdf(["First line of all", "Second."], title=title, author="Ann Lee")
    document = read(data, source)

    assert expected == document.title
    assert document.metadata["author"] == "Ann Lee"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("D:20240531120000+02'00'", "2024-05-31"),
        ("D:00000101", None),
        ("31 May 2024", "2024-05-31"),
    ],
)
def test_the_date(date, expected):
    """It is the day of the file's making, as ISO 8601, if it is one."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf(PAGE))))
    writer.add_metadata({"/CreationDate": date})
    file = io.BytesIO()
    writer.write(file)

    assert expected == read(file.getvalue()).metadata.get("date")


def test_labels_are_kept_where_they_differ_from_numbers():
    """A preface is counted in Roman numbers; plain numbers say nothing new."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf(PAGE, PAGE, PAGE))))
    writer.set_page_label(0, 1, "/r")
    writer.set_page_label(2, 2, "/D")
    file = io.BytesIO()
    writer.write(file)

    assert read(file.getvalue()).page_labels == ("i", "ii", "1")
    assert read(make_pdf(PAGE, PAGE)).page_labels == ()


# Reading order


def test_two_columns_are_read_one_after_the_other():
    """The title and the abstract above them come first, the note across them below comes last."""
    sheets = Sheets()
    sheets.line(180, 80, "On the radio of loggers in cellars", 18)
    sheets.paragraph(60, 120, 470, TEXT)
    y = 200.0
    for _ in range(2):  # written from side to side, as some programs do
        left = sheets.paragraph(60, y, 220, TEXT)
        y = 6 + max(left, sheets.paragraph(310, y, 220, OTHER))
    sheets.paragraph(60, y + 20, 470, OTHER)
    document = read(sheets.data())

    expected = ["On the radio of loggers in cellars", TEXT, TEXT, TEXT, OTHER, OTHER, OTHER]
    assert expected == [text for _, text in blocks(document)]


def test_numbers_may_hang_out_of_a_column():
    """As those of references do, into the gap between the columns."""
    sheets = Sheets()
    for x, first in ((60, 1), (310, 3)):
        y = 80.0
        for number, text in ((first, TEXT), (first + 1, OTHER)):
            sheets.line(x, y, f"[{number}] Ann Lee and Ben Ash, Loggers in cellars,")
            y = sheets.paragraph(x + 17, y + LEADING, 200, text)
    (block,) = blocks(read(sheets.data()))

    expected = [
        f"[{number}] Ann Lee and Ben Ash, Loggers in cellars, {text}"
        for number, text in ((1, TEXT), (2, OTHER), (3, TEXT), (4, OTHER))
    ]
    assert block == ("list", "\n".join(expected))


@pytest.mark.parametrize("caption", ["Figure 1: the cellar, seen from the door, with a logger", ""])
def test_a_figure_across_parts_the_columns_above_from_those_below(caption):
    """What stands above it is read whole before what stands below it."""
    sheets = Sheets()
    for y in (80, 400):
        sheets.paragraph(60, y, 220, TEXT)
        sheets.paragraph(310, y, 220, OTHER)
    sheets.line(150, 320, caption)
    texts = [text for _, text in blocks(read(sheets.data()))]

    assert texts == [TEXT, OTHER, *filter(None, [caption]), TEXT, OTHER]


@pytest.mark.parametrize(("text", "figure"), [(60, 330), (310, 80)])
def test_a_figure_in_a_column_does_not_mix_with_the_other(text, figure):
    """Its few words stand among no sentences of the text beside it."""
    sheets = Sheets()
    y = sheets.paragraph(text, 80, 220, TEXT)
    y = sheets.paragraph(text, y, 220, OTHER)
    y = sheets.paragraph(text, y, 220, TEXT)
    rows = [["sun", "12"], ["rain", "7"], ["snow", "3"]]
    sheets.table(90, [figure, figure + 90], rows, step=30)
    sheets.line(60, y, "Both columns are parted by this line, which runs across both of them.")
    sheets.paragraph(60, y + 20, 220, TEXT)
    sheets.paragraph(310, y + 20, 220, OTHER)
    joined = " ".join(text for _, text in blocks(read(sheets.data())))

    assert f"{TEXT} {OTHER} {TEXT}" in joined
    assert joined.endswith(f"{TEXT} {OTHER}")


def test_three_columns():
    """They are read from left to right."""
    sheets = Sheets()
    texts = (TEXT, OTHER, f"{OTHER} {TEXT}")
    for x, text in zip((50, 220, 390), texts):
        sheets.paragraph(x, 80, 150, text)

    assert flow(*texts) == blocks(read(sheets.data()))


ALIKE = ["Common Stock of the firm", "The Nasdaq Stock Market LLC", "Registered in Delaware"]


@pytest.mark.parametrize(
    "rows",
    [
        [ALIKE] * 7,
        [
            ["No flash at all", "battery empty or lamp switched off", "hold the magnet to the dot"],
            [
                "K-11 although it is in",
                "moisture in the socket",
                "dry with a cotton bud, then grease",
            ],
            ["Humidity stuck at 99", "condensation in the filter", "dry it for a day"],
            ["Readings jump", "cable too long or next to a power line", "at most ten metres"],
            [
                "Delivered once a day only",
                "signal too weak",
                "move the gateway nearer",
            ],
            ["Lamp yellow", "calibration due in thirty days", "send in the probes alone"],
        ],
    ],
)
def test_a_table_of_words_is_not_read_in_columns(rows):
    """Its cells are no lines of a text, however long and however alike they are."""
    sheets = Sheets()
    sheets.table(80, [50, 195, 385], rows)

    expected = [("table", "\n".join(" | ".join(row) for row in rows))]
    assert expected == blocks(read(sheets.data()))


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_pages_that_are_turned_read_as_if_they_were_not(angle):
    """Whether the page is turned to the reader or only its text is."""
    sheets = Sheets()
    sheets.canvas.translate(*{90: (842, 0), 180: (842, 842), 270: (0, 842)}[angle])
    sheets.canvas.rotate(angle)
    sheets.paragraph(60, 80, 400, TEXT)
    data = sheets.data()
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.pages[0].rotate(angle)
    file = io.BytesIO()
    writer.write(file)

    assert flow(TEXT) == blocks(read(data))
    assert flow(TEXT) == blocks(read(file.getvalue()))


def test_a_stamp_along_the_margin_comes_last():
    """It is read in another direction than the page."""
    sheets = Sheets()
    sheets.canvas.saveState()
    sheets.canvas.rotate(90)
    sheets.canvas.drawString(200, -30, "arXiv:2401.00001v1")
    sheets.canvas.restoreState()
    sheets.paragraph(60, 80, 470, TEXT)

    assert flow(TEXT, "arXiv:2401.00001v1") == blocks(read(sheets.data()))


def test_raised_letters_stay_in_their_line():
    """The number of a footnote stands behind its word."""
    sheets = Sheets()
    sheets.line(72, 100, "The cellar is 40 m")
    sheets.line(72 + stringWidth("The cellar is 40 m", "Helvetica", 10), 96, "2", 6)
    sheets.line(165, 100, "large and dry.")

    assert flow("The cellar is 40 m2 large and dry.") == blocks(read(sheets.data()))


def test_a_shadow_is_not_read():
    """Some programs write a text twice, a little apart."""
    sheets = Sheets()
    for offset in (0, 0.4):
        sheets.line(72 + offset, 100 + offset, "Shadows on the wall")

    assert flow("Shadows on the wall") == blocks(read(sheets.data()))


@pytest.mark.parametrize(("down", "expected"), [(0, "Form. Text."), (40, "Text. Form.")])
def test_text_in_a_form_stands_where_the_form_is_placed(down, expected):
    """Programs draw letterheads as forms that they place on every page."""
    sheets = Sheets()
    sheets.canvas.beginForm("head")
    sheets.line(0, 842, "Form.")
    sheets.canvas.endForm()
    sheets.line(72, 114, "Text.")
    sheets.canvas.translate(72, 742)
    sheets.canvas.doForm("head")
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(sheets.data())))
    (form,) = writer.pages[0]["/Resources"]["/XObject"].values()
    form.get_object()[NameObject("/Matrix")] = ArrayObject(map(FloatObject, (1, 0, 0, 1, 0, -down)))
    file = io.BytesIO()
    writer.write(file)

    assert " ".join(read(file.getvalue()).text.split()) == expected


# Headers and footers


def numbered_pages(count: int) -> bytes:
    sheets = Sheets()
    for number in range(1, count + 1):
        sheets.line(60, 40, "KL-40 manual, issue 5", 8)
        sheets.line(480, 40, f"Page {number}", 8)
        for row in range(3):
            sheets.paragraph(60, 100 + 90 * row, 400, f"{number}{row} {TEXT}")
        sheets.line(280, 800, f"- {number} -", 8)
        sheets.page()
    return sheets.data()


def test_running_headers_and_page_numbers_are_removed():
    """What says more than a number stays where it stands first."""
    document = read(numbered_pages(4))

    assert document.text.count("KL-40 manual, issue 5") == 1
    assert "Page" not in document.text
    assert "- 2 -" not in document.text
    assert document.text.count(TEXT) == 12


def test_short_documents_keep_all_they_say():
    """On two pages, nothing is known to repeat."""
    document = read(numbered_pages(2))

    assert document.text.count("KL-40 manual, issue 5") == 2
    assert "Page 2" in document.text


def test_headers_of_left_and_right_pages_differ():
    """Each stands on every second page."""
    sheets = Sheets()
    for number in range(8):
        sheets.line(60, 40, "Chapter about cellars" if number % 2 else "Book of loggers", 8)
        sheets.paragraph(60, 100, 400, f"{number} {TEXT}")
        sheets.page()
    text = read(sheets.data()).text

    assert (text.count("Chapter about cellars"), text.count("Book of loggers")) == (1, 1)


def test_column_heads_at_the_top_of_every_page_stay():
    """They stand as near to the rows below as those to each other."""
    sheets = Sheets()
    for number in range(4):
        rows = [
            ["Part", "Price"],
            *([f"CP-{number}{row}", f"{number}{row}.00"] for row in range(9)),
        ]
        sheets.table(100, [60, 300], rows)
        sheets.page()

    assert headers(read(sheets.data())) == ["Part | Price"] * 4


def test_what_stands_with_something_new_stays():
    """A name of a value is no running header, even if it is the first or last of each page."""
    sheets = Sheets()
    for number in range(5):
        sheets.line(60, 60, "Account of")
        sheets.line(160, 60, ["Ann", "Ben", "Eve", "Kim", "Lea"][number])
        sheets.paragraph(60, 160, 400, f"{number}. {TEXT}")
        sheets.line(60, 780, f"Due until the {3 * number + 2}th")
        sheets.page()
    text = read(sheets.data()).text

    assert text.count("Account of") == 5
    assert text.count("Due until the") == 5


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3), max_size=2))
def test_pages_of_which_there_are_few_are_left_alone(pages):
    """The same text on each of two pages is no running header."""
    runs = [lines_apart("\n".join(lines)) for lines in pages]

    assert runs == list(without_running(runs))


# Paragraphs, lists and headings


def test_paragraphs_are_told_from_their_last_lines():
    """The next word would have fitted behind a sentence's end; other line breaks stay."""
    address = ["Halden", "Am Weiher 3", "87435 Kempten in the Allgaeu"]

    assert flow(" ".join(PAGE), " ".join(PAGE)) == blocks(read(make_pdf([*PAGE, *PAGE])))
    assert flow("\n".join(address)) == blocks(read(make_pdf(address)))


def test_paragraphs_are_told_from_gaps_and_indents():
    """A wider gap parts them; so does an indent behind the end of a sentence."""
    sheets = Sheets()
    y = sheets.paragraph(60, 80, 400, f"{TEXT} {TEXT} its last line is as long as the others.")
    sheets.paragraph(60, y + 8, 400, OTHER)
    sheets.line(72, 300, "An indented line that runs to the right margin, where it ends.")
    sheets.line(60, 314, "The paragraph goes on here and ends as far to the right. Now")
    sheets.line(60, 328, "comes its end, which is to be as wide as the other lines are.")
    sheets.line(72, 342, "Another one that begins with an indent and ends in the middle.")
    texts = [text for _, text in blocks(read(sheets.data()))]

    assert len(texts) == 4
    assert texts[1] == OTHER
    assert texts[3].startswith("Another one")


def test_lists_have_one_item_a_line():
    """An item goes on in lines that are indented, and ends where the text does."""
    sheets = Sheets()
    sheets.line(60, 80, "Check before mounting:")
    sheets.line(60, 110, "•")
    sheets.line(72, 110, "every socket that is not used has its cap, since without caps the")
    sheets.line(72, 124, "protection falls;")
    sheets.line(60, 138, "•")
    sheets.line(72, 138, "the manual")
    sheets.paragraph(60, 152, 300, TEXT)

    expected = [
        ("prose", "Check before mounting:"),
        (
            "list",
            "• every socket that is not used has its cap, since without caps the protection falls;"
            "\n• the manual",
        ),
        ("prose", TEXT),
    ]
    assert expected == blocks(read(sheets.data()))


def sections(bold: bool = False, size: float = 10) -> bytes:
    sheets = Sheets()
    sheets.line(60, 60, "Cellars and their loggers", 22)
    y = 100.0
    for title in ("1. Radio", "2. Power"):
        sheets.line(60, y, title, size, bold)
        y = sheets.paragraph(60, y + 20, 400, TEXT)
        y = sheets.paragraph(60, y + 8, 400, OTHER) + 12
    return sheets.data()


@pytest.mark.parametrize(("bold", "size"), [(False, 14), (True, 14), (True, 10)])
def test_headings_are_told_from_large_and_bold_letters(bold, size):
    """Their levels follow from their sizes."""
    document = read(sections(bold, size))

    found = [(block.level, block.label) for block in document.blocks if block.kind == "heading"]
    assert found == [(1, "Cellars and their loggers"), (2, "1. Radio"), (2, "2. Power")]


def test_bold_words_that_open_a_paragraph_are_no_heading():
    """They are followed by their sentence, perhaps not before the next line."""
    sheets = Sheets()
    y = sheets.paragraph(60, 80, 300, TEXT) + 8
    sheets.line(60, y, "Alternative minimum tax and the exemption", bold=True)
    sheets.line(60, y + LEADING, "amount decreased.", bold=True)
    width = stringWidth("amount decreased.", "Helvetica-Bold", 10)
    sheets.line(63 + width, y + LEADING, "It is now smaller than it was.")
    sheets.paragraph(60, y + 60, 300, OTHER)
    texts = [text for kind, text in blocks(read(sheets.data())) if kind == "prose"]

    expected = (
        "Alternative minimum tax and the exemption amount decreased. It is now smaller than it was."
    )
    assert [TEXT, expected, OTHER] == texts


def test_a_text_of_headings_has_none():
    """Where most lines are large, as on a poster, size tells nothing."""
    lines = ["Come", "To the great", "Fair", "On Sunday"]
    small = "in Kempten, where there is enough to eat and to drink for everybody who will come"
    sheets = Sheets()
    for number, line in enumerate(lines):
        sheets.line(60, 80 + 90 * number, line, 20 + 9 * number)
    sheets.line(60, 500, small)

    assert flow(*lines, small) == blocks(read(sheets.data()))


def test_a_bold_word_makes_no_heading():
    """All of a line is bold, or it is text."""
    sheets = Sheets()
    sheets.paragraph(60, 80, 300, TEXT)
    sheets.line(60, 300, "Note", bold=True)
    sheets.line(63 + stringWidth("Note", "Helvetica-Bold", 10), 300, "the cold")

    assert flow(TEXT, "Note the cold") == blocks(read(sheets.data()))


def outlined(*entries: tuple[str, int]) -> bytes:
    sheets = Sheets()
    lines = ["Contents", "2.1", "The radio of a", "logger", PAGE[0], "End."]
    for number in range(2):
        sheets.line(60, 50, "Draft", 20)
        for row, line in enumerate(lines):
            sheets.line(60, 80 + row * 30, line)
        for title, _ in entries if number else ():
            sheets.canvas.bookmarkPage(title)
        sheets.page()
    for title, level in entries:
        sheets.canvas.addOutlineEntry(title, title, level)
    return sheets.data()


def test_the_outline_gives_headings_where_their_words_stand():
    """A title may take several lines; its page must be right; size tells nothing then."""
    document = read(outlined(("Contents", 0), ("2.1 The radio of a logger", 1)))

    found = [(block.level, block.label) for block in document.blocks if block.kind == "heading"]
    pages = [page_at(document.page_starts, b.start) for b in document.blocks if b.kind == "heading"]
    assert found == [(1, "Contents"), (2, "2.1 The radio of a logger")]
    assert pages == [2, 2]


def test_an_outline_that_is_not_in_the_text_invents_nothing():
    """Its entries are skipped."""
    document = read(outlined(("Somewhere else", 0)))

    assert "Somewhere" not in document.text
    assert "Somewhere else" not in {block.label for block in document.blocks}


# Words that lines cut in two


@pytest.mark.parametrize(
    ("line", "below", "elsewhere", "expected"),
    [
        ("the infor-", "mation is", "", "the information is"),
        ("the infor-", "mation is", "infor-mation information", "the information is"),
        ("a well-", "known place", "the well-known place", "a well-known place"),
        ("COVID-", "19 came", "", "COVID-19 came"),
        ("Anne-", "Marie came", "", "Anne-Marie came"),
        ("INFOR-", "MATION", "information", "INFORMATION"),
        ("in one-", "or two-sided", "", "in one- or two-sided"),
        ("this -", "as we saw", "", "this - as we saw"),
        ("no hyphen", "here", "", "no hyphen here"),
        ("日本", "語の", "", "日本語の"),
    ],
)
def test_words_are_joined_unless_they_have_a_hyphen_of_their_own(line, below, elsewhere, expected):
    """What the rest of the document writes decides."""
    words = words_of([elsewhere, line, below])

    assert expected == joint(line, below, words) + below


def test_hyphens_at_line_ends_are_joined_in_the_text():
    """The libraries report such hyphens in their own ways."""
    lines = [
        "The logger stores its readings and sends the infor-",
        "mation to the gateway of IP-",
        "65.",
    ]

    expected = "The logger stores its readings and sends the information to the gateway of IP-65."
    assert flow(expected) == blocks(read(make_pdf(lines)))


def test_ligatures_are_spelled_out():
    """Nobody searches for them."""
    (line,) = lines_of([Run("eﬃcient ﬁlters", 0, 70, 0, 10)])

    assert line.text == "efficient filters"


# Tables


def test_a_table_has_its_cells_in_columns():
    """An empty cell stays empty, a wrapped one is one again, and a head above figures is one."""
    rows = [
        ["Probe", "Range", "Price"],
        ["PT-2", "-30 to 70 °C, 0 to", "48"],
        ["", "100 %RH", ""],
        ["PT-4", "", "1,000"],
        ["PT-6", "-60 to 40 °C", "39"],
    ]
    sheets = Sheets()
    y = 100.0
    for row in rows:
        y = sheets.table(y if row[0] else y - 6, [60, 160, 320], [row])
    document = read(sheets.data())

    expected = (
        "Probe | Range | Price\nPT-2 | -30 to 70 °C, 0 to 100 %RH | 48\n"
        "PT-4 |  | 1,000\nPT-6 | -60 to 40 °C | 39"
    )
    assert [("table", expected)] == blocks(document)
    assert headers(document) == ["Probe | Range | Price"]


def test_a_statement_has_its_parts_and_currencies():
    """A part's name is a row of its own, what stands over columns is in the first, and $ goes on.

    What names the table ends the paragraph before it.
    """
    sheets = Sheets()
    y = sheets.paragraph(60, 80, 400, TEXT)
    sheets.line(60, y, "Table 3: Results")
    sheets.line(310, y + 40, "Three months ended in May")
    rows = [["", "2023", "2022"], ["Net sales:", "", ""], ["Products", "$ 96", "$ 104"]]
    y = sheets.table(y + 56, [60, 300, 400], rows)
    sheets.table(
        y, [60, 300, 324, 400], [["Services", "(20)", "$", "19"], ["Total", "76", "", "123"]]
    )
    sheets.paragraph(60, y + 60, 400, OTHER)
    document = read(sheets.data())

    header = "| Three months ended in May\n | 2023 | 2022"
    table = (
        f"{header}\nNet sales:\nProducts | $ 96 | $ 104\nServices | (20) | $ 19\nTotal | 76 | 123"
    )
    expected = [*flow(TEXT, "Table 3: Results"), ("table", table), *flow(OTHER)]
    assert expected == [(kind, text.strip()) for kind, text in blocks(document)]
    assert [header] == [found.strip() for found in headers(document)]


def test_figures_below_each_other_are_of_two_rows():
    """Even if the first column is empty and they stand close."""
    sheets = Sheets()
    rows = [["2023", "first", "5"], ["2024", "first", "7"]]
    for number, row in enumerate(rows):
        sheets.table(100 + 40 * number, [60, 160, 260], [row, ["", "second", "6"]], step=12)

    expected = "2023 | first | 5\n | second | 6\n2024 | first | 7\n | second | 6"
    assert [("table", expected)] == blocks(read(sheets.data()))


def test_a_title_above_a_table_is_not_its_header():
    """It is larger than the columns that it stands over."""
    sheets = Sheets()
    sheets.paragraph(60, 300, 400, TEXT)
    sheets.line(160, 80, "Prices of probes", 16)
    rows = [["Probe", "Price"], ["PT-2", "48"], ["PT-4", "61"], ["PT-6", "39"]]
    sheets.table(106, [60, 300], rows)
    document = read(sheets.data())

    assert blocks(document)[0] == ("heading", "Prices of probes")
    assert headers(document) == ["Probe | Price"]


@pytest.mark.parametrize("between", [[], ["The whole of this line lies between the two of them."]])
def test_a_gap_or_two_make_no_table(between):
    """Letterheads have them, and lines that are spread to the margin."""
    sheets = Sheets()
    sheets.line(60, 80, "Halden Instruments")
    sheets.line(260, 80, "Kempten")
    for row, line in enumerate(between):
        sheets.line(60, 94 + 14 * row, line)
    for row in range(1 + len(between)):
        sheets.line(60, 80 + 14 * (len(between) + 1 + row), "Am Weiher 3")
        sheets.line(260, 80 + 14 * (len(between) + 1 + row), "3 May")
    kinds = [kind for kind, _ in blocks(read(sheets.data()))]

    assert "table" not in kinds


def test_dots_lead_to_a_cell():
    """As in a table of contents."""
    sheets = Sheets()
    for number, title in enumerate(["Safety", "Mounting", "Radio"]):
        sheets.line(60, 80 + 16 * number, f"{title} {'.' * 60} {number + 3}")

    assert blocks(read(sheets.data())) == [("table", "Safety | 3\nMounting | 4\nRadio | 5")]


# What goes wrong


def encrypted(data: bytes, password: str, algorithm: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(password, "owner", algorithm=algorithm)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_password_is_asked_for_only_where_there_is_one(algorithm):
    """Many PDFs are encrypted with an empty password, which opens them."""
    data = make_pdf(PAGE)

    assert " ".join(PAGE) == read(encrypted(data, "", algorithm)).text
    with pytest.raises(LoadError, match="encrypted: it needs a password"):
        read(encrypted(data, "secret", algorithm))


def with_content(data: bytes, number: int, content: bytes, codec: str = "") -> bytes:
    """The PDF with the content of one page replaced."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    stream = DecodedStreamObject()
    stream.set_data(content)
    if codec:
        stream[NameObject("/Filter")] = NameObject(codec)
    writer.pages[number - 1][NameObject("/Contents")] = writer._add_object(stream)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def with_broken_page(data: bytes, number: int) -> bytes:
    return with_content(data, number, b"not compressed", "/NoSuchFilter")


def test_a_broken_page_costs_itself_alone():
    """It is empty, and the metadata says which it was."""
    document = read(with_broken_page(make_pdf(["one"], ["two"], ["three"]), 2))

    assert document.text == "one\n\nthree"
    assert document.metadata["unreadable_pages"] == "2"


def test_a_pdf_whose_pages_are_all_broken_is_refused():
    """That is another error than a scan's."""
    with pytest.raises(LoadError, match="no page of this PDF can be read"):
        read(with_broken_page(make_pdf(["one"]), 1))


@pytest.mark.parametrize("method", ["__init__", "runs", "outline", "labels", "metadata"])
def test_what_pdfium_cannot_do_is_no_loss(method, library, monkeypatch):
    """pypdf opens the file, or reads the page, instead; what only describes is left out."""
    if library == "pypdf":
        pytest.skip("about the other library")
    monkeypatch.setattr(pdf_pdfium.PdfiumFile, method, lambda *_: 1 / 0)

    assert " ".join(PAGE) == read(make_pdf(PAGE)).text


@pytest.mark.parametrize(
    "content",
    [
        b"BT /F1 12 Tf 72 700 Td /F9 12 Tf ET BT /F1 12 Tf 72 700 Td (still read) Tj ET",
        b"BT /F1 12 Tf 72 Td (still read) Tj ET Q Q Q",
        b"BT /F1 12 Tf 72 700 Td 0 -30 TD (still) Tj T* (.) Tj ET BT 72 655 Td (read) Tj ET",
        b"BT /F1 12 Tf 1 0 0 1 72 700 Tm [(still) -300 /x (read)] TJ ET",
        b"BT /F1 12 Tf 14 TL 72 700 Td 0 0 (still) \" (read) ' ET",
    ],
)
def test_sloppy_content_is_read_all_the_same(content):
    """Unknown fonts, missing operands, and operators that few programs write."""
    document = read(with_content(make_pdf(PAGE), 1, content))

    assert document.text.removesuffix(" .") == "still read"


def test_text_beyond_all_bounds_is_left_out(monkeypatch):
    """A place that is no number cannot be put in order."""
    runs = [Run("near", 0, 20, 0, 10), Run("far", float("inf"), float("inf"), 0, 10)]
    for file in (pdf.PdfiumFile, pdf.PypdfFile):
        monkeypatch.setattr(file, "runs", lambda *_: runs)

    assert read(make_pdf(PAGE)).text == "near"


def test_a_scan_is_reported_as_such():
    """Pages without text show only images, if anything; the hint says what may help."""
    with pytest.raises(LoadError, match="no text: scanned") as raised:
        read(make_pdf([]))
    assert "rag ingest --ocr" in raised.value.hint


def test_limits_on_pages_and_text_are_kept():
    """They are checked before the rest of the file is read."""
    data = make_pdf(*[PAGE] * 3)

    with pytest.raises(LoadError, match="3 pages, more than 2"):
        read_file("a.pdf", data, replace(DEFAULT_OPTIONS, max_pages=2))
    with pytest.raises(LoadError, match="more than 100 characters"):
        read_file("a.pdf", data, replace(DEFAULT_OPTIONS, max_text=100))


@pytest.mark.parametrize(
    "data", [b"", b"words, not a PDF", b"%PDF-1.7\n", b"%PDF-1.7\n" + bytes(999)]
)
def test_what_is_no_pdf_is_refused(data):
    """Whatever a library raises, a person sees one clear error."""
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
            read(variant)
        except LoadError:
            outcomes.add("refused")
        else:
            outcomes.add("read")
    assert {"read", "refused"} == outcomes


def test_files_are_read_again_when_another_library_is_there(library):
    """What failed with one may be read by the other."""
    assert f"reader={library}" in loader_version("a.pdf")


# Invariants


RUNS = st.builds(
    lambda text, x, y, size, width, bold, angle: Run(
        text, x, x + len(text) * size * width, y, size, bold, bold, angle
    ),
    st.text("abcdefgh ABC 123", min_size=1, max_size=40).map(str.strip).filter(bool),
    st.integers(0, 500),
    st.integers(0, 800),
    st.sampled_from([6.0, 10.0, 10.5, 18.0]),
    st.sampled_from([0.4, 0.6]),
    st.booleans(),
    st.sampled_from([0, 0, 0, 90, 180]),
)


@given(
    st.lists(st.lists(RUNS, max_size=40, unique_by=lambda run: run.text), min_size=1, max_size=3)
)
def test_every_letter_of_a_page_is_in_the_text_once(pages):
    """However pieces lie on the page, layout neither loses nor doubles them."""
    builder = Builder()
    write_pages([lines_of(runs) for runs in pages], (), builder)
    text = builder.document("a.pdf", "application/pdf").text

    expected = Counter("".join(run.text for runs in pages for run in runs).replace(" ", ""))
    assert expected == Counter("".join(text.split()).replace("|", ""))


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.sampled_from([0, 90, 180, 270]))
def test_turning_a_point_there_and_back(x, y, angle):
    """A text's own coordinates are the page's, turned."""
    assert (x, y) == turned(*turned(x, y, angle), -angle % 360)
    assert angle == right_angle(*turned(1, 0, -angle % 360))


def test_text_from_right_to_left_is_read_in_that_direction():
    """The piece furthest to the right comes first, and the right column before the left one."""
    right, left = Run("שלום", 300, 340, 0, 10), Run("עולם", 200, 240, 0, 10)

    assert [line.text for line in lines_of([left, right])] == ["שלום עולם"]


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("corpora/*/docs/*/*.pdf")))
def test_both_libraries_give_the_same_document(path, monkeypatch):
    """So it matters to nobody which one is installed."""
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    documents = []
    for installed in (True, False):
        monkeypatch.setattr(pdf, "is_installed", lambda there=installed: there)
        documents.append(read(path.read_bytes(), path.name))

    assert documents[0] == documents[1]
