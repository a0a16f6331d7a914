"""Office files: what a person sees in Word, PowerPoint, Excel and LibreOffice."""

import io
import struct
import zipfile
from collections.abc import Callable
from datetime import datetime, time, timedelta

import docx
import pptx
import pytest
import xlsxwriter
from documents import blocks, headers, read, read_all
from docx.document import Document as WordFile
from hypothesis import given, settings
from hypothesis import strategies as st
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from ingest.errors import LoadError
from ingest.load import format_of
from ingest.types import Document

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def changed(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """A zip file with each of its files changed; None leaves it out."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return file.getvalue()


def word(write: Callable[[WordFile], object]) -> bytes:
    """A file by python-docx."""
    file, document = io.BytesIO(), docx.Document()
    write(document)
    document.save(file)
    return file.getvalue()


def word_xml(body: str, **parts: str) -> bytes:
    """A Word file of the bare parts: the body's XML, and perhaps styles, numbering and notes."""
    relation = "http://purl.oclc.org/ooxml/officeDocument/relationships"  # the strict form
    relations = "".join(
        f'<Relationship Id="{kind}" Type="{relation}/{kind}" Target="{kind}.xml"/>'
        for kind in parts
    )
    namespace = f"xmlns:w='{W}' xmlns:mc='u:mc' xmlns:v='u:v'"
    files = {
        "_rels/.rels": f"<Relationships><Relationship Type='{relation}/officeDocument'"
        " Target='word/document2.xml'/></Relationships>",
        "word/_rels/document2.xml.rels": f"<Relationships>{relations}</Relationships>",
        "word/document2.xml": f"<w:document {namespace}><w:body>{body}</w:body></w:document>",
    }
    for kind, content in parts.items():
        files[f"word/{kind}.xml"] = f"<w:{kind} {namespace}>{content}</w:{kind}>"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        for name, content in files.items():
            package.writestr(name, content)
    return file.getvalue()


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def read_word(body: str, **parts: str) -> Document:
    (document,) = read("a.docx", word_xml(body, **parts))
    return document


def test_a_word_file_by_its_styles():
    """Headings, lists and tables are told by styles; the first row of a table is its header."""

    def write(document):
        document.add_heading("Staff handbook", 0)
        document.add_heading("Leave", 1)
        document.add_paragraph("Everyone has 28 days.")
        document.add_paragraph("per year", "List Bullet")
        document.add_paragraph("per month", "List Bullet")
        table = document.add_table(2, 2)
        for cell, text in zip(table._cells, ["Grade", "Days", "A", "28"]):
            cell.text = text
        document.add_paragraph("Table 1: Days", "Caption")
        document.core_properties.title = "Template"
        document.core_properties.author = "Ann  Lee"
        document.core_properties.modified = datetime(2024, 5, 31)
        document.core_properties.keywords = "hr; leave,policy"

    (document,) = read("a.docx", word(write))

    expected = [
        ("heading", "Staff handbook"),
        ("heading", "Leave"),
        ("prose", "Everyone has 28 days."),
        ("list", "- per year\n- per month"),
        ("table", "Table 1: Days\nGrade | Days\nA | 28"),
    ]
    assert expected == blocks(document)
    assert headers(document) == ["Table 1: Days\nGrade | Days"]
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 1]
    assert document.title == "Staff handbook"
    assert document.media_type == format_of("a.docx")
    assert dict(document.metadata) == {
        "author": "Ann Lee",
        "date": "2024-05-31",
        "tags": "hr, leave, policy",
        "language": "en",
    }


@pytest.mark.parametrize(
    ("style", "level"),
    [
        ("<w:name w:val='heading 3'/>", 3),
        ("<w:name w:val='HeadB'/>", 2),
        ("<w:name w:val='Mine'/><w:basedOn w:val='s2'/>", 2),
        ("<w:name w:val='Mine'/><w:pPr><w:outlineLvl w:val='4'/></w:pPr>", 5),
        ("<w:name w:val='heading 1'/><w:pPr><w:outlineLvl w:val='9'/></w:pPr>", 0),
        ("<w:name w:val='Mine'/><w:basedOn w:val='s1'/>", 0),
        ("<w:name w:val='Subtitle'/>", 0),
    ],
)
def test_a_heading_by_any_style(style, level):
    """By the style's English name or outline level, or by those of the style it is based on."""
    styles = f"<w:style w:styleId='s1'>{style}</w:style>"
    styles += "<w:style w:styleId='s2'><w:name w:val='heading 2'/></w:style>"

    document = read_word(paragraph("Text", "<w:pStyle w:val='s1'/>"), styles=styles)

    assert [level] == [block.level for block in document.blocks]


def test_a_paragraph_may_be_a_heading_by_itself():
    """Its own outline level is asked before its style."""
    document = read_word(paragraph("Text", "<w:outlineLvl w:val='1'/>"))

    assert [(block.kind, block.level) for block in document.blocks] == [("heading", 2)]


def test_changes_are_taken_as_accepted_and_hidden_text_is_left_out():
    """What a reader of the finished document does not see must not become evidence."""
    run = "<w:r><w:t>{}</w:t></w:r>"
    document = read_word(
        "<w:p><w:ins>" + run.format("new ") + "</w:ins>"
        "<w:del><w:r><w:delText>old</w:delText></w:r></w:del>"
        "<w:moveFrom>" + run.format("away") + "</w:moveFrom>"
        "<w:moveTo>" + run.format("here ") + "</w:moveTo>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
        "<w:r><w:rPr><w:vanish w:val='0'/></w:rPr><w:t>seen </w:t></w:r>"
        "<w:hyperlink>" + run.format("link") + "</w:hyperlink>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r>"
        "<w:r><w:noBreakHyphen/><w:t>x</w:t><w:tab/><w:t>y</w:t><w:br/><w:t>z</w:t></w:r></w:p>"
        "<w:sdt><w:sdtPr><w:t>no</w:t></w:sdtPr><w:sdtContent>"
        + paragraph("control")
        + "</w:sdtContent></w:sdt>"
        "<w:tbl><w:tr><w:tc>" + paragraph("a") + "</w:tc><w:tc>" + paragraph("b") + "</w:tc></w:tr>"
        "<w:tr><w:trPr><w:del/></w:trPr><w:tc>" + paragraph("gone") + "</w:tc></w:tr></w:tbl>"
    )

    expected = [("prose", "new here seen link-x y\nz"), ("prose", "control"), ("table", "a | b")]
    assert expected == blocks(document)


def test_lists_are_numbered_as_word_numbers_them():
    """Levels count by their own formats, a heading too; a list goes on where it was left."""
    level = "<w:lvl w:ilvl='{}'><w:start w:val='{}'/><w:numFmt w:val='{}'/>"
    level += "<w:lvlText w:val='{}'/></w:lvl>"
    numbering = (
        "<w:abstractNum w:abstractNumId='7'>"
        + level.format(0, 1, "decimal", "§ %1")
        + level.format(1, 1, "decimal", "%1.%2.")
        + level.format(2, 3, "lowerLetter", "(%3)")
        + level.format(3, 1, "upperRoman", "%4")
        + level.format(4, 1, "bullet", "o")
        + "</w:abstractNum><w:abstractNum w:abstractNumId='8'><w:styleLink w:val='S'/>"
        + level.format(0, 1, "decimal", "%1)")
        + "</w:abstractNum><w:abstractNum w:abstractNumId='9'><w:numStyleLink w:val='S'/>"
        "</w:abstractNum><w:num w:numId='1'><w:abstractNumId w:val='7'/></w:num>"
        "<w:num w:numId='2'><w:abstractNumId w:val='9'/></w:num>"
        "<w:num w:numId='3'><w:abstractNumId w:val='9'/><w:lvlOverride w:ilvl='0'>"
        "<w:startOverride w:val='5'/></w:lvlOverride></w:num>"
    )

    def item(text, list_id, depth, more=""):
        number = f"<w:numPr><w:ilvl w:val='{depth}'/><w:numId w:val='{list_id}'/></w:numPr>"
        return paragraph(text, number + more)

    document = read_word(
        item("Scope", 1, 0, "<w:outlineLvl w:val='0'/>")
        + item("first", 1, 1)
        + item("letter", 1, 2)
        + item("letter", 1, 2)
        + item("roman", 1, 3)
        + item("bullet", 1, 4)
        + item("", 1, 1, "<w:rPr><w:del/></w:rPr>")
        + item("", 1, 1)
        + item("third", 1, 1)
        + item("letter", 1, 2)
        + item("plain", 0, 0)
        + item("Fees", 1, 0, "<w:outlineLvl w:val='0'/>")
        + item("one", 2, 0)
        + item("five", 3, 0)
        + item("six", 3, 0)
        + item("unknown", 99, 999_999_999),
        numbering=numbering,
    )

    expected = [
        ("heading", "§ 1 Scope"),
        (
            "list",
            "  1.1. first\n    (c) letter\n    (d) letter\n      I roman\n        - bullet\n"
            "  1.3. third\n    (c) letter",
        ),
        ("prose", "plain"),
        ("heading", "§ 2 Fees"),
        ("list", "1) one\n5) five\n6) six\n" + " " * 16 + "- unknown"),
    ]
    assert expected == blocks(document)


def test_tables_of_word():
    """Marked header rows, spanned columns, tables in tables; a table of one cell is a frame."""
    cell = "<w:tc><w:tcPr>{}</w:tcPr>{}</w:tc>"
    inner = "<w:tbl><w:tr>" + cell.format("", paragraph("in")) * 2 + "</w:tr></w:tbl>"
    header = "<w:trPr><w:tblHeader/></w:trPr>"
    document = read_word(
        f"<w:tbl><w:tr>{header}"
        + cell.format("<w:gridSpan w:val='2'/>", paragraph("Both"))
        + cell.format("", paragraph("Third"))
        + f"</w:tr><w:tr>{header}"
        + "".join(cell.format("", paragraph(text)) for text in "abc")
        + "</w:tr><w:tr>"
        + cell.format("", paragraph("1") + paragraph("2") + inner)
        + "</w:tr></w:tbl>"
        + "<w:tbl><w:tr>"
        + cell.format("", paragraph("Framed", "<w:outlineLvl w:val='0'/>") + paragraph("text"))
        + "</w:tr></w:tbl>"
    )

    expected = [
        ("table", "Both |  | Third\na | b | c\n1 2 in in"),
        ("heading", "Framed"),
        ("prose", "text"),
    ]
    assert expected == blocks(document)
    assert headers(document) == ["Both |  | Third\na | b | c"]


def test_each_caption_belongs_to_one_table():
    """The one above a table, else the one below; others are paragraphs."""
    styles = "<w:style w:styleId='c'><w:name w:val='caption'/></w:style>"
    table = "<w:tbl><w:tr>" + ("<w:tc>" + paragraph("x") + "</w:tc>") * 2 + "</w:tr></w:tbl>"
    caption = "".join(
        {"T": table, "p": paragraph("p")}.get(sign) or paragraph(sign, "<w:pStyle w:val='c'/>")
        for sign in "1TT2p3T4Tp5"
    )

    expected = ["1\nx | x", "2\nx | x", "p", "3\nx | x", "4\nx | x", "p", "5"]
    assert expected == [text for _, text in blocks(read_word(caption, styles=styles))]


def test_notes_and_text_boxes_stand_below_their_paragraph():
    """A box is there in two forms, of which the older is passed over."""
    box = "<w:txbxContent>" + paragraph("boxed") + "</w:txbxContent>"
    document = read_word(
        "<w:p><w:r><w:t>Fee</w:t><w:footnoteReference w:id='2'/><w:endnoteReference w:id='2'/>"
        "<w:footnoteReference w:id='9'/></w:r>"
        f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        "</mc:AlternateContent><w:r><w:t>.</w:t></w:r></w:p>" + paragraph("Next"),
        footnotes="<w:footnote w:id='2'>" + paragraph("But in May.") + "</w:footnote>",
        endnotes="<w:endnote w:id='2'><w:p><w:r><w:t>See law</w:t><w:endnoteReference w:id='2'/>"
        "</w:r></w:p></w:endnote>",
    )

    expected = ["Fee[1][2].", "boxed", "[1] But in May.", "[2] See law", "Next"]
    assert expected == [text for _, text in blocks(document)]


def test_code_in_word_is_kept_as_it_stands():
    """Paragraphs of a style for code are its lines; the table of contents is left out."""
    names = {"c": "Source Code", "t": "toc 1", "l": "CodeLabel"}
    styles = "".join(
        f"<w:style w:styleId='{key}'><w:name w:val='{name}'/></w:style>"
        for key, name in names.items()
    )
    texts = [("t", "Intro 3"), ("l", "main.py"), ("c", "if x:"), ("c", ""), ("c", "    go()")]
    body = "".join(paragraph(text, f"<w:pStyle w:val='{style}'/>") for style, text in texts)

    document = read_word(body + paragraph("Done."), styles=styles)

    expected = [("prose", "main.py"), ("code", "if x:\n\n    go()"), ("prose", "Done.")]
    assert expected == blocks(document)


def test_styles_that_are_based_on_each_other_end():
    """A circle of styles is no endless one."""
    styles = "".join(
        f"<w:style w:styleId='{one}'><w:basedOn w:val='{other}'/></w:style>"
        for one, other in ("ab", "ba")
    )

    document = read_word(paragraph("x", "<w:pStyle w:val='a'/>"), styles=styles)

    assert document.text == "x"


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx", "a.odt", "a.ods", "a.epub"])
def test_a_package_of_another_kind_is_told(name):
    """A zip file that is something else is an error in words, not in tracebacks."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("content.xml", "<x/>")
    for data in (file.getvalue(), b"", b"<html>", b"PK\x03\x04"):
        with pytest.raises(LoadError) as raised:
            read(name, data)
        assert raised.value.hint
        assert "could not be read" not in raised.value.message


def deck(write) -> bytes:
    """A file by python-pptx."""
    file, presentation = io.BytesIO(), pptx.Presentation()
    write(presentation)
    presentation.save(file)
    return file.getvalue()


def box(slide, text, left, top):
    frame = slide.shapes.add_textbox(Inches(left), Inches(top), Inches(2), Inches(1)).text_frame
    frame.text = text
    return frame


def test_a_presentation_is_read_slide_by_slide():
    """Each shown slide is a page: its title, its shapes in reading order, its notes."""

    def write(presentation):
        layouts = presentation.slide_layouts
        first = presentation.slides.add_slide(layouts[0])
        first.shapes.title.text = "Fees\v2024"
        first.placeholders[1].text = "Finance"
        hidden = presentation.slides.add_slide(layouts[5])
        hidden.shapes.title.text = "Hidden"
        hidden.element.set("show", "0")
        last = presentation.slides.add_slide(layouts[1])
        last.shapes.title.text = "Plans"
        body = last.placeholders[1].text_frame
        body.text = "Basic"
        deeper = body.add_paragraph()
        deeper.text, deeper.level = "5 euros\vmonthly", 1
        last.notes_slide.notes_text_frame.text = "Say it slowly."
        untitled = presentation.slides.add_slide(layouts[6])
        box(untitled, "right", 6, 1.1)
        box(untitled, "below", 0, 4)
        box(untitled, "left", 1, 1)
        untitled.shapes.add_group_shape([untitled.shapes[1]])
        presentation.core_properties.title = "PowerPoint Presentation"
        presentation.core_properties.author = "Ann"
        presentation.core_properties.modified = datetime(2024, 5, 31)

    (document,) = read("a.pptx", deck(write))

    expected = [
        ("heading", "Fees 2024"),
        ("prose", "Finance"),
        ("heading", "Plans"),
        ("list", "- Basic\n  - 5 euros\n    monthly"),
        ("heading", "Notes"),
        ("prose", "Say it slowly."),
        ("heading", "Slide 4"),
        ("prose", "left"),
        ("prose", "right"),
        ("prose", "below"),
    ]
    assert expected == blocks(document)
    assert [document.text[start:][:5] for start in document.page_starts] == [
        "Fees ",
        "Plans",
        "Slide",
    ]
    assert document.page_labels == ("1", "3", "4")
    assert document.title == "Fees 2024"
    assert document.media_type == format_of("a.pptx")
    assert {"author": "Ann", "date": "2024-05-31"}.items() <= document.metadata.items()


def test_tables_and_charts_of_slides():
    """A chart is the table of its data, with its title as the caption."""

    def write(presentation):
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = "Sales"
        place = (Inches(1), Inches(2), Inches(4), Inches(1))
        table = slide.shapes.add_table(2, 2, *place).table
        for cell, text in zip(table.iter_cells(), ["City", "Sum", "Bonn", "5"]):
            cell.text = text
        data = CategoryChartData()
        data.categories = ["Q1", "Q2"]
        data.add_series("North", (1.5, 2.0))
        data.add_series("South", (None, 0.1))
        place = (Inches(1), Inches(4), Inches(4), Inches(3))
        chart = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *place, data).chart
        chart.has_title = True
        chart.chart_title.text_frame.text = "By quarter"

    data = deck(write)
    (document,) = read("a.pptx", data)

    expected = [
        ("heading", "Sales"),
        ("table", "City | Sum\nBonn | 5"),
        ("table", "By quarter\n | North | South\nQ1 | 1.5\nQ2 | 2 | 0.1"),
    ]
    assert expected == blocks(document)
    assert headers(document) == ["City | Sum", "By quarter\n | North | South"]
    assert document.page_labels == ()

    lost = changed(data, lambda name, data: None if "/charts/" in name else data)
    lying = changed(
        data, lambda _, data: data.replace(b'ptCount val="2"', b'ptCount val="999999999"')
    )
    assert expected[:2] == blocks(read("a.pptx", lost)[0])
    assert expected == blocks(read("a.pptx", lying)[0])


def test_a_slideshow_with_a_diagram_and_a_dangling_link():
    """The words of a diagram are read; what a link misses costs nothing else."""
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

    def write(presentation):
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = "Steps"

    def change(name, data):
        if name == "ppt/slides/_rels/slide1.xml.rels":
            more = f"<Relationship Id='d' Type='{kind}/diagramData' Target='../d.xml'/>"
            more += f"<Relationship Id='i' Type='{kind}/image' Target='NULL'/></Relationships>"
            data = data.replace(b"</Relationships>", more.encode())
        return data.replace(b"presentation.main+xml", b"slideshow.main+xml")

    file = io.BytesIO(changed(deck(write), change))
    with zipfile.ZipFile(file, "a") as package:
        package.writestr("ppt/d.xml", "<d><p><t>Ask</t></p><p><t>Ans</t><t>wer</t></p><p/></d>")
    (document,) = read("a.ppsx", file.getvalue())

    assert blocks(document) == [("heading", "Steps"), ("list", "- Ask\n- Answer")]


def workbook(write) -> bytes:
    """A file by xlsxwriter."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        write(book)
    return file.getvalue()


def read_sheet(rows) -> Document:
    """One sheet of these rows; empty cells are not written."""

    def write(book):
        sheet = book.add_worksheet("Data")
        for row, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                if cell is not None:
                    sheet.write(row, column, cell)

    (document,) = read("a.xlsx", workbook(write))
    return document


def test_cells_are_shown_as_a_person_reads_them():
    """Numbers without the traces of binary arithmetic, dates as ISO 8601."""

    def write(book):
        sheet = book.add_worksheet("S")
        day, minute = (book.add_format({"num_format": f}) for f in ("yyyy-mm-dd", "hh:mm"))
        length = book.add_format({"num_format": "[h]:mm"})
        sheet.write_row(2, 1, ["Kind", "Value"])
        sheet.write_row(3, 1, ["whole", 5.0])
        sheet.write_row(4, 1, ["sum", 0.1 + 0.2])
        sheet.write_row(5, 1, ["large", 1e20])
        sheet.write_row(6, 1, ["yes", True])
        sheet.write_row(7, 1, [" two\nlines ", "x  y"])
        for row, (value, form) in enumerate(
            [
                (datetime(2024, 5, 31), day),
                (datetime(2024, 5, 31, 14, 30), day),
                (time(14, 30), minute),
                (timedelta(hours=36), length),
            ],
            start=8,
        ):
            sheet.write(row, 1, "time")
            sheet.write_datetime(row, 2, value, form)
        book.set_properties({"title": "Costs", "author": "Ann", "created": datetime(2024, 5, 1)})

    (document,) = read("a.xlsx", workbook(write))

    expected = [
        ("heading", "S"),
        (
            "table",
            "Kind | Value\nwhole | 5\nsum | 0.3\nlarge | 1e+20\nyes | TRUE\ntwo lines | x y\n"
            "time | 2024-05-31\ntime | 2024-05-31 14:30:00\ntime | 14:30:00\ntime | 36:00:00",
        ),
    ]
    assert expected == blocks(document)
    assert (document.title, document.media_type) == ("Costs", format_of("a.xlsx"))
    assert {"author": "Ann", "date": "2024-05-01"}.items() <= document.metadata.items()


def test_sheets_that_are_hidden_or_empty_are_left_out():
    """Neither their cells nor their names are in the text."""

    def write(book):
        book.add_worksheet("Empty")
        hidden = book.add_worksheet("Hidden")
        hidden.write(0, 0, "secret")
        hidden.hide()
        book.add_worksheet("Shown").write(0, 0, "cell")
        book.add_chartsheet("Chart")

    (document,) = read("a.xlsx", workbook(write))

    assert blocks(document) == [("heading", "Shown"), ("prose", "cell")]
    assert document.title == ""


def test_tables_of_a_sheet_are_parted_at_blank_rows():
    """A title above a table is its caption, the row below it the header."""
    document = read_sheet(
        [
            ["ACME"],
            [],
            ["Sales"],
            ["City", 2023, 2024],
            ["Bonn", 1, 2],
            ["Subtotal"],
            [],
            [None, 3, 4],
            [],
            ["Name", "Phone"],
            ["Ann", "12"],
            [],
            ["Costs"],
            [2023, 2024],
            [5, 6],
            [],
            ["A note."],
        ]
    )

    expected = [
        ("heading", "Data"),
        ("prose", "ACME"),
        ("table", "Sales\nCity | 2023 | 2024\nBonn | 1 | 2\nSubtotal\n | 3 | 4"),
        ("table", "Name | Phone\nAnn | 12"),
        ("table", "Costs\n2023 | 2024\n5 | 6"),
        ("prose", "A note."),
    ]
    assert expected == blocks(document)
    assert headers(document) == [
        "Sales\nCity | 2023 | 2024",
        "Name | Phone",
        "Costs\n2023 | 2024",
    ]


def test_a_sheet_of_one_column_is_a_table():
    """Its first row is the header; zero is a value."""
    document = read_sheet([["Count"], [0], [7]])

    assert blocks(document) == [("heading", "Data"), ("table", "Count\n0\n7")]
    assert headers(document) == ["Count"]


def test_a_cell_far_from_the_others_is_no_crash():
    """The library would fill the area between with empty cells, and end the process."""
    far = workbook(lambda book: book.add_worksheet().write(1_048_575, 16_383, "x"))
    many = changed(
        workbook(lambda book: book.add_worksheet().write(0, 0, "x")),
        lambda _, data: data.replace(b'uniqueCount="1"', b'uniqueCount="999999999"'),
    )

    with pytest.raises(LoadError, match="1,048,576 rows of 16,384 cells") as raised:
        read("a.xlsx", far)
    assert "far from the table" in raised.value.hint
    with pytest.raises(LoadError, match="999,999,999 rows"):
        read("a.xlsx", many)


OPEN_DOCUMENT = " ".join(
    f"xmlns:{prefix}='urn:oasis:names:tc:opendocument:xmlns:{name}:1.0'"
    for prefix, name in {
        "office": "office", "text": "text", "table": "table", "style": "style", "draw": "drawing",
        "meta": "meta", "svg": "svg-compatible",
    }.items()
)  # fmt: skip


def open_document(body: str, styles: str = "", **files: str) -> bytes:
    """An OpenDocument file of this content and perhaps other files, by their names without .xml."""
    files["content"] = (
        f"<office:document-content {OPEN_DOCUMENT}><office:automatic-styles>{styles}"
        f"</office:automatic-styles><office:body>{body}</office:body></office:document-content>"
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        for name, content in files.items():
            package.writestr(f"{name}.xml", content)
    return file.getvalue()


def read_odt(body: str, styles: str = "", **files: str) -> Document:
    (document,) = read(
        "a.odt", open_document(f"<office:text>{body}</office:text>", styles, **files)
    )
    return document


def test_an_open_document_by_its_elements():
    """White space is as in HTML; the title's style and its heir are headings."""
    document = read_odt(
        "<text:p text:style-name='P1'>Staff handbook</text:p>"
        "<text:h text:outline-level='2'>Leave &amp; <text:span>pay</text:span></text:h>"
        "<text:p>One<text:s text:c='9'/>two\n three<text:tab/>four<text:line-break/>five"
        "<text:note><text:note-citation>*</text:note-citation><text:note-body>"
        "<text:p>But in May.</text:p></text:note-body></text:note>.</text:p>"
        "<text:section><text:p>in <text:a>a link</text:a></text:p></text:section>"
        "<text:p><draw:frame><draw:text-box><text:p>boxed</text:p></draw:text-box>"
        "<svg:desc>picture</svg:desc></draw:frame></text:p>",
        "<style:style style:name='P1' style:parent-style-name='Title'/>",
        meta=f"<office:document-meta {OPEN_DOCUMENT} xmlns:dc='u:dc'><office:meta>"
        "<meta:initial-creator>Ann</meta:initial-creator><dc:creator>Bob</dc:creator>"
        "<meta:creation-date>2023-01-01T00:00:00</meta:creation-date>"
        "<dc:date>2024-05-31T10:00:00</dc:date><meta:keyword>hr</meta:keyword>"
        "<meta:keyword>pay</meta:keyword><dc:title/></office:meta></office:document-meta>",
    )

    expected = [
        ("heading", "Staff handbook"),
        ("heading", "Leave & pay"),
        ("prose", "One two three four\nfive[*]."),
        ("prose", "[*] But in May."),
        ("prose", "in a link"),
        ("prose", "boxed"),
    ]
    assert expected == blocks(document)
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]
    assert (document.title, document.media_type) == ("Staff handbook", format_of("a.odt"))
    assert {"author": "Ann", "date": "2024-05-31", "tags": "hr, pay"}.items() <= (
        document.metadata.items()
    )


def test_what_an_open_document_does_not_show_is_left_out():
    """Deleted and hidden text, comments and indexes must not become evidence."""
    document = read_odt(
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        "<text:table-of-content><text:p>Leave 3</text:p></text:table-of-content>"
        "<text:p>seen<office:annotation><text:p>comment</text:p></office:annotation>"
        "<text:span text:style-name='T1'>hidden</text:span></text:p>",
        "<style:style style:name='T1'><style:text-properties text:display='none'/></style:style>",
    )

    assert document.text == "seen"


def test_lists_of_an_open_document():
    """Lists in lists are indented; a heading in a list is a heading."""
    item = "<text:list-item><text:p>{}</text:p>{}</text:list-item>"
    inner = "<text:list>" + item.format("b", "") + "</text:list>"
    heading = "<text:list><text:list-header><text:h>H</text:h></text:list-header></text:list>"

    document = read_odt("<text:list>" + item.format("a", inner) + "</text:list>" + heading)

    assert blocks(document) == [("list", "- a\n  - b"), ("heading", "H")]


def test_tables_of_an_open_document():
    """Repeated cells are bounded; the header is what is marked as such, else the first row."""

    def row(*cells, repeated=1):
        return "<table:table-row>" + "".join(
            f"<table:table-cell table:number-columns-repeated='{repeated}'><text:p>{cell}</text:p>"
            "</table:table-cell>"
            for cell in cells
        ) + "</table:table-row>"  # fmt: skip

    document = read_odt(
        "<table:table><table:table-column/>" + row("City", "Sum") + row("x", repeated=2)
        + "<table:table-row><table:covered-table-cell/>" + row("y")[17:] + "</table:table>"
        "<text:p>p</text:p><table:table><table:table-header-rows>" + row("a") + row("b")
        + "</table:table-header-rows>" + row("c") + "</table:table>"
        "<text:p>p</text:p><table:table>" + row("z", repeated=999_999_999) + "</table:table>"
    )  # fmt: skip

    tables = [text for kind, text in blocks(document) if kind == "table"]
    assert tables[:2] == ["City | Sum\nx | x\n | y", "a\nb\nc"]
    assert 10 < tables[2].count("z") <= 1_000
    assert headers(document) == ["City | Sum", "a\nb", ""]


def test_an_open_document_with_a_password_is_told():
    """Its parts are noise; the manifest says so."""
    manifest = {"META-INF/manifest": "<manifest><encryption-data/></manifest>"}
    data = open_document("<office:text/>", **manifest)

    for name in ("a.odt", "a.ods"):
        with pytest.raises(LoadError, match="encrypted: it needs a password"):
            read(name, data)


def test_an_open_spreadsheet():
    """Cells that are repeated to the edges of the sheet cost nothing."""
    cell = "<table:table-cell office:value-type='{}' {}><text:p>{}</text:p></table:table-cell>"
    wide = "<table:table-cell table:number-columns-repeated='16384'/>"
    rows = [
        cell.format("string", "", "City") + cell.format("string", "", "Share") + wide,
        cell.format("string", "", "Bonn") + cell.format("float", "office:value='5'", "5,0"),
    ]
    data = open_document(
        "<office:spreadsheet><table:table table:name='Data'>"
        + "".join(f"<table:table-row>{row}</table:table-row>" for row in rows)
        + f"<table:table-row table:number-rows-repeated='1048576'>{wide}</table:table-row>"
        "</table:table></office:spreadsheet>",
        **{"META-INF/manifest": "<manifest/>"},
        meta=f"<office:document-meta {OPEN_DOCUMENT} xmlns:dc='u:dc'><dc:title>Shares</dc:title>"
        "</office:document-meta>",
    )
    (document,) = read("a.ods", data)

    assert blocks(document) == [("heading", "Data"), ("table", "City | Share\nBonn | 5")]
    assert (document.title, document.media_type) == ("Shares", format_of("a.ods"))


def old_excel(records: bytes) -> bytes:
    """A compound file ([MS-CFB]) with one stream, a workbook of these BIFF records."""
    stream = records.ljust(4096, b"\0")
    sectors = -(-len(stream) // 512)
    chain = [*range(3, sectors + 2), 0xFFFFFFFE]
    table = struct.pack("<128L", 0xFFFFFFFD, 0xFFFFFFFE, *chain, *[0xFFFFFFFF] * (126 - len(chain)))
    header = bytes.fromhex("D0CF11E0A1B11AE1") + bytes(16)
    header += struct.pack(
        "<5H6x8L", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE
    )
    header += struct.pack("<110L", 0, 0, *[0xFFFFFFFF] * 108)[: 512 - len(header)]

    def entry(name, kind, child, start, size):
        text = (name + "\0").encode("utf-16-le")
        head = text.ljust(64, b"\0") + struct.pack(
            "<HBB3L", len(text), kind, 1, *[0xFFFFFFFF] * 2, child
        )
        return head + bytes(36) + struct.pack("<LQ", start, size)

    directory = entry("Root Entry", 5, 1, 0xFFFFFFFE, 0) + entry(
        "Workbook", 2, 0xFFFFFFFF, 2, len(stream)
    )
    return header[:512] + table + directory.ljust(512, b"\0") + stream


def test_an_old_excel_file():
    """XLS is read by the library as it stands."""

    def record(kind, data):
        return struct.pack("<HH", kind, len(data)) + data

    def label(row, column, text):
        return record(0x204, struct.pack("<3HHB", row, column, 0, len(text), 0) + text)

    start = struct.pack("<4H8x", 0x600, 5, 0, 0)
    sheet = record(0x809, struct.pack("<4H8x", 0x600, 0x10, 0, 0))
    sheet += label(0, 0, b"City") + label(0, 1, b"Sum") + label(1, 0, b"Bonn")
    sheet += record(0x203, struct.pack("<3Hd", 1, 1, 0, 5.0)) + record(0x0A, b"")
    bound = record(0x85, struct.pack("<LBBBB", 0, 0, 0, 4, 0) + b"Data")
    at = len(record(0x809, start)) + len(bound) + 4
    bound = record(0x85, struct.pack("<LBBBB", at, 0, 0, 4, 0) + b"Data")
    data = old_excel(record(0x809, start) + bound + record(0x0A, b"") + sheet)
    (document,) = read("a.xls", data)

    assert blocks(document) == [("heading", "Data"), ("table", "City | Sum\nBonn | 5")]
    assert document.media_type == format_of("a.xls")
    with pytest.raises(LoadError, match="old Excel file"):
        read("a.docx", data)


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx"])
def test_an_office_file_with_a_password_is_told(name):
    """It is an old compound file with the new one encrypted in it."""
    data = old_excel(b"").replace(
        "Workbook".encode("utf-16-le").ljust(64, b"\0"),
        "EncryptedPackage".encode("utf-16-le").ljust(64, b"\0"),
    )

    with pytest.raises(LoadError, match="encrypted: it needs a password"):
        read(name, data)


def test_an_old_excel_file_with_a_password_is_told():
    """There a record says so."""
    start = struct.pack("<4H8x", 0x600, 5, 0, 0)
    records = struct.pack("<HH", 0x809, 16) + start + struct.pack("<HH3H", 0x2F, 6, 0, 1, 2)

    with pytest.raises(LoadError, match="encrypted: it needs a password"):
        read("a.xls", old_excel(records))


CELLS = st.none() | st.integers(-9, 9) | st.text("ab \n", min_size=1, max_size=3)


@settings(max_examples=40)
@given(rows=st.lists(st.lists(CELLS, max_size=4), max_size=12))
def test_no_cell_of_a_sheet_is_lost(rows):
    """However its tables are parted, each filled cell is in the text once."""
    words = [str(cell) for row in rows for cell in row if cell is not None and str(cell).strip()]
    document = read_sheet([*rows, ["end"]])

    expected = sorted([*" ".join(words).split(), "end"])
    assert expected == sorted(document.text.removeprefix("Data").replace("|", " ").split())


PIECES = st.sampled_from(
    [
        paragraph("plain"),
        paragraph("", "<w:pStyle w:val='h'/>"),
        paragraph("head", "<w:pStyle w:val='h'/>"),
        paragraph("caption", "<w:pStyle w:val='c'/>"),
        paragraph("  code", "<w:pStyle w:val='k'/>"),
        paragraph("item", "<w:numPr><w:ilvl w:val='x'/><w:numId w:val='9'/></w:numPr>"),
        "<w:tbl>",
        "</w:tbl>",
        "<w:tr><w:trPr><w:tblHeader/></w:trPr><w:tc>",
        "<w:tr><w:tc>",
        "</w:tc></w:tr>",
        "</w:tc><w:tc>",
        "<w:p><w:r><w:txbxContent>",
        "</w:txbxContent></w:r></w:p>",
        "<w:ins>",
        "</w:ins>",
        "<w:p/>",
        "<w:r><w:t>run</w:t></w:r>",
    ]
)
STYLES = "".join(
    f"<w:style w:styleId='{key}'><w:name w:val='{name}'/></w:style>"
    for key, name in {"h": "heading 9", "c": "Caption", "k": "Code"}.items()
)


@given(pieces=st.lists(PIECES, max_size=25))
def test_any_body_of_word_is_read_or_refused(pieces):
    """Whatever order its elements have, what comes is well formed, or an error in words."""
    documents, problems = read_all("a.docx", word_xml("".join(pieces), styles=STYLES))

    for error in problems.values():
        assert error.message.startswith(("no text", "damaged: word/document2.xml is no XML"))
    assert bool(documents) != bool(problems)


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx", "a.odt", "a.ods", "a.xls"])
def test_a_file_that_is_cut_off_is_told(name):
    """At whatever place its end is missing."""
    data = {
        "a.docx": word(lambda document: document.add_paragraph("x")),
        "a.pptx": deck(lambda presentation: presentation.slides),
        "a.xlsx": workbook(lambda book: book.add_worksheet().write(0, 0, "x")),
        "a.xls": old_excel(b"\x09\x08\x10\x00\x00\x06\x05\x00"),
    }.get(name, open_document("<office:text/>"))

    for tenths in range(1, 10):
        with pytest.raises(LoadError) as raised:
            read(name, data[: len(data) * tenths // 10])
        assert raised.value.hint
        assert "could not be read" not in raised.value.message
