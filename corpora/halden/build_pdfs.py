"""Set the collection's PDFs from the texts in pdf_sources/.

Usage: python build_pdfs.py [OUTPUT_FOLDER]   (default: docs/ beside this file)

`pdf_sources/manuals.NAME.markup` becomes `manuals/NAME.pdf`. The markup is a few lines of
`key: value`, an empty line, and then blocks parted by empty lines: `# ` and `## ` headings,
`- ` and `1. ` lists, tables (lines that begin with `|`, the first one the head), `---` for a new
page, and paragraphs. Two runs give the same bytes: the date inside a PDF is the one its source
names, nothing is random, nothing is compressed.
"""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from itertools import accumulate
from pathlib import Path

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    ListFlowable,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

HERE = Path(__file__).parent
TEXT_WIDTH = A4[0] - 44 * mm
BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=10, leading=14, spaceAfter=7)
HEADINGS = {
    "#": ParagraphStyle("title", BODY, fontName="Helvetica-Bold", fontSize=19, leading=25),
    "##": ParagraphStyle(
        "heading", BODY, fontName="Helvetica-Bold", fontSize=13, leading=18, spaceBefore=9
    ),
}
CELL = ParagraphStyle("cell", BODY, fontSize=8.5, leading=11, spaceAfter=0)
HEAD_CELL = ParagraphStyle("head cell", CELL, fontName="Helvetica-Bold")
GRID = TableStyle(
    [
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, HexColor("#333333")),
        ("LINEBELOW", (0, 1), (-1, -1), 0.25, HexColor("#aaaaaa")),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
    ]
)


def flowables(body: str) -> Iterator[Flowable]:
    """The blocks of a source text as what reportlab sets."""
    for block in re.split(r"\n{2,}", body.strip()):
        marker, _, rest = block.partition(" ")
        if block == "---":
            yield PageBreak()
        elif marker in HEADINGS:
            yield Paragraph(markup(rest), HEADINGS[marker])
        elif marker == "|":
            yield from table(block.splitlines())
        elif re.match(r"- |\d+\. ", block):
            yield item_list(block.splitlines())
        else:
            yield Paragraph(markup(block), BODY)


def markup(text: str) -> str:
    """Text for a reportlab paragraph: escaped, with `**bold**` kept."""
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text, quote=False))


def item_list(lines: list[str]) -> ListFlowable:
    """A bulleted or numbered list of one-line items."""
    kind = "bullet" if lines[0].startswith("- ") else "1"
    items = [Paragraph(markup(line.partition(" ")[2]), BODY) for line in lines]
    start = "–" if kind == "bullet" else None
    return ListFlowable(items, bulletType=kind, start=start, leftIndent=16, bulletFontSize=10)


def table(lines: list[str]) -> Iterator[Flowable]:
    """A ruled table whose columns share the width by their longest cell.

    Rows whose cells fit are written as one line of text, as a word processor does; a table with
    longer cells is written cell by cell, so that readers of the PDFs meet both kinds.
    """
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    longest = [min(40, max(9, *map(len, column))) for column in zip(*rows, strict=True)]
    widths = [TEXT_WIDTH * size / sum(longest) for size in longest]
    if all(fits(cell, width) for row in rows for cell, width in zip(row, widths, strict=True)):
        yield from (Row(row, widths, number == 0) for number, row in enumerate(rows))
        yield Spacer(1, 9)
        return
    cells = [
        [Paragraph(markup(cell), CELL if number else HEAD_CELL) for cell in row]
        for number, row in enumerate(rows)
    ]
    yield Table(cells, colWidths=widths, repeatRows=1, style=GRID, spaceAfter=9, hAlign="LEFT")


def fits(cell: str, width: float) -> bool:
    """Whether a cell's text, at its boldest, stands on one line of the column."""
    return stringWidth(cell, HEAD_CELL.fontName, CELL.fontSize) < width - 6


class Row(Flowable):
    """One table row as a single text object, with the rule below it."""

    def __init__(self, cells: list[str], widths: list[float], head: bool) -> None:
        super().__init__()
        self.cells, self.widths, self.head = cells, widths, head
        self.keepWithNext = head

    def wrap(self, available_width: float, available_height: float) -> tuple[float, float]:
        """The row's size in points."""
        return sum(self.widths), 16

    def draw(self) -> None:
        """Write the cells from left to right, then rule the row off."""
        text = self.canv.beginText()
        text.setFont((HEAD_CELL if self.head else CELL).fontName, CELL.fontSize)
        for cell, left in zip(self.cells, accumulate([0.0, *self.widths])):
            text.setTextOrigin(left, 5)
            text.textOut(cell)
        self.canv.drawText(text)
        self.canv.setLineWidth(0.8 if self.head else 0.25)
        self.canv.line(0, 0, sum(self.widths), 0)


def build(source: Path, target: Path) -> None:
    """Set one source file as a PDF with its header and footer on every page."""
    head, _, body = source.read_text(encoding="utf-8").partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())

    def chrome(canvas: Canvas, document: SimpleDocTemplate) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(22 * mm, A4[1] - 14 * mm, fields["header"])
        canvas.drawString(22 * mm, 12 * mm, fields["footer"])
        canvas.drawRightString(A4[0] - 22 * mm, 12 * mm, f"Page {document.page}")

    written = datetime.fromisoformat(fields["date"]).replace(tzinfo=UTC)
    os.environ["SOURCE_DATE_EPOCH"] = str(int(written.timestamp()))  # what reportlab dates by
    target.parent.mkdir(parents=True, exist_ok=True)
    document = SimpleDocTemplate(
        str(target),
        pagesize=A4,
        leftMargin=22 * mm,
        rightMargin=22 * mm,
        topMargin=22 * mm,
        bottomMargin=20 * mm,
        title=fields["title"],
        author=fields["author"],
        invariant=1,
        pageCompression=0,
    )
    document.build(list(flowables(body)), onFirstPage=chrome, onLaterPages=chrome)


def main(output: Path) -> None:
    """Build every PDF below `output`."""
    for source in sorted((HERE / "pdf_sources").glob("*.markup")):
        folder, name, _ = source.name.split(".")
        build(source, output / folder / f"{name}.pdf")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "docs")
