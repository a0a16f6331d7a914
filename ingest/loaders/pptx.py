"""PPTX by python-pptx: each shown slide is a page, its title a heading, its notes below it.

Shapes are read from top to bottom and from left to right, those of a group together.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from ingest.loaders.builder import Builder
from ingest.loaders.decode import one_line, tidy_lines
from ingest.loaders.options import LoadOptions, border, named
from ingest.loaders.package import AGAIN, Package, open_package
from ingest.loaders.sheet import shown
from ingest.types import Document

if TYPE_CHECKING:
    from pptx.slide import Slide

_TITLES = frozenset({"TITLE", "CENTER_TITLE", "VERTICAL_TITLE"})
_FURNITURE = frozenset({"DATE", "FOOTER", "HEADER", "SLIDE_NUMBER"})
_ITEMS = frozenset({"BODY", "OBJECT", "VERTICAL_BODY", "VERTICAL_OBJECT"})
_ROW = 360_000  # 1 cm in its units: shapes whose tops differ by less stand side by side


@border("no presentation, or a damaged one", AGAIN, named)
def load_pptx(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by its properties or its first slide. Hidden slides are left out.

    Pages keep the numbers that the slides have with the hidden ones among them.
    """
    from pptx.package import Package as Presentation

    package = open_package(data, options)
    slides = Presentation.open(package.repacked()).presentation_part.presentation.slides
    builder = Builder(options)
    labels = []
    for number, slide in enumerate(slides, start=1):
        if slide.element.get("show") in ("0", "false"):
            continue
        builder.page()
        labels.append(str(number))
        _write_slide(package, slide, number, builder)
        _write_diagram(package, str(slide.part.partname), builder)
        _write_notes(slide, builder)
    title, metadata = package.properties()
    if "powerpoint" in title.lower():  # what it calls a presentation that nobody gave a title
        title = ""
    if labels and labels[-1] == str(len(labels)):
        labels = []
    return (builder.document(source, title or builder.first_heading, metadata, labels),)


def _write_slide(package: Package, slide: "Slide", number: int, builder: Builder) -> None:
    shapes = list(_ordered(slide.shapes))
    titles = [shape for shape in shapes if _kind(shape) in _TITLES]
    title = " ".join(one_line(shape.text_frame.text) for shape in titles)
    # Without a heading, it would stand under that of the slide before.
    builder.heading(1, title or f"Slide {number}")
    for shape in shapes:
        kind = _kind(shape)
        if kind in _TITLES or kind in _FURNITURE:
            continue
        if shape.has_text_frame:
            _write_paragraphs(shape.text_frame.paragraphs, kind in _ITEMS, builder)
        elif shape.has_table:
            rows = [[cell.text for cell in row.cells] for row in shape.table.rows]
            builder.table(rows, header_rows=int(len(rows) > 1))
        elif shape.has_chart:
            _write_chart(package, shape, builder)


def _ordered(shapes: Iterable[Any]) -> Iterator[Any]:
    """The shapes in reading order, with those of a group where the group is."""
    for shape in sorted(shapes, key=lambda s: ((s.top or 0) // _ROW, s.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _ordered(shape.shapes)
        else:
            yield shape


def _kind(shape: Any) -> str:
    """What a shape is a place for, as python-pptx names it; "" if it is no placeholder."""
    return str(shape.placeholder_format.type.name) if shape.is_placeholder else ""


def _write_paragraphs(paragraphs: Sequence[Any], are_items: bool, builder: Builder) -> None:
    for paragraph in paragraphs:
        text = tidy_lines(paragraph.text)
        bullet = paragraph._p.xpath("a:pPr/a:buChar | a:pPr/a:buAutoNum | a:pPr/a:buBlip")
        plain = paragraph._p.xpath("a:pPr/a:buNone")
        if bullet or paragraph.level or (are_items and not plain):
            builder.item(text, depth=paragraph.level)
        else:
            builder.prose(text)
    builder.end()


def _write_chart(package: Package, shape: Any, builder: Builder) -> None:
    """The data of a chart as a table, with its title as the caption.

    Read from the points that are there: python-pptx believes their declared number.
    """
    try:
        chart = package.xml(str(shape.chart_part.partname).lstrip("/"))
    except KeyError:  # its data is not in the file
        return
    title = "".join(piece.text or "" for piece in chart.iterfind("chart/title//t"))
    series = list(chart.iter("ser"))
    columns = [_points(series[:1], "cat", "xVal")]
    columns += [_points([one], "val", "yVal") for one in series]
    names = ["", *("".join(v.text or "" for v in one.iterfind("tx//v")) for one in series)]
    places = dict.fromkeys(place for column in columns for place in column)
    rows = ([column.get(place, "") for column in columns] for place in places)
    builder.table(chain([names], rows), header_rows=1, caption=title)


def _points(series: Iterable[Element], *parts: str) -> dict[str, str]:
    """The values of parts of series, by their places in the chart."""
    found = (point for one in series for part in parts for point in one.iterfind(f"{part}//pt"))
    return {point.get("idx", ""): _number(point.findtext("v") or "") for point in found}


def _number(text: str) -> str:
    try:
        return shown(float(text))
    except ValueError:  # the name of a category
        return text


def _write_diagram(package: Package, slide: str, builder: Builder) -> None:
    """The texts of a slide's diagram (SmartArt), which python-pptx does not read."""
    name = package.related(slide.lstrip("/")).get("diagramData")
    for paragraph in package.xml(name).iter("p") if name else ():
        builder.item(one_line("".join(piece.text or "" for piece in paragraph.iter("t"))))
    builder.end()


def _write_notes(slide: "Slide", builder: Builder) -> None:
    frame = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    if frame is not None and frame.text.strip():
        builder.heading(2, "Notes")
        _write_paragraphs(frame.paragraphs, False, builder)
