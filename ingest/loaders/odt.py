"""ODT (OpenDocument text, as LibreOffice writes it): turned to HTML and read as a page.

The names of elements are those of OpenDocument 1.3, part 3.
"""

from collections.abc import Iterator
from html import escape
from xml.etree.ElementTree import Element

from ingest.errors import LoadError
from ingest.loaders.builder import Builder
from ingest.loaders.decode import one_line
from ingest.loaders.html import write_html
from ingest.loaders.numbering import number
from ingest.loaders.options import LoadOptions
from ingest.loaders.package import open_package
from ingest.types import Document

# What was deleted or is hidden, comments, indexes, readings above words, alternative texts.
_DROPPED = frozenset((
    "tracked-changes", "annotation", "hidden-text", "table-of-content", "alphabetical-index",
    "illustration-index", "table-index", "object-index", "user-index", "forms", "ruby-text", "desc",
))  # fmt: skip
_TAGS = {
    "p": ("<p>", "</p>"),
    "frame": ("<div>", "</div>"),
    "custom-shape": ("<div>", "</div>"),
    "list": ("<ul>", "</ul>"),
    "list-item": ("<li>", "</li>"),
    "list-header": ("<li>", "</li>"),
    "table": ("<table>", "</table>"),
    "table-header-rows": ("<thead>", "</thead>"),
    "first-row": ("<thead><tr>", "</tr></thead>"),
    "table-row": ("<tr>", "</tr>"),
    "table-cell": ("<td>", "</td>"),
    "covered-table-cell": ("<td>", "</td>"),
    "line-break": ("<br>", ""),
    "s": (" ", ""),
    "tab": (" ", ""),
}
_WIDEST = 100  # columns that a cell may be repeated in


def load_odt(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by its properties or its first heading.

    Items of all lists have dashes: their numbers depend on other lists and are not in the text.
    """
    package = open_package(data, options)
    package.check_open_document()
    content = package.xml("content.xml")
    text = content.find("body/text")
    if text is None:
        raise LoadError("not what its name says: no OpenDocument text", "check what the file is")
    _mark(content)
    builder = Builder(options)
    write_html(f"<body>{''.join(_markup(text))}</body>", builder, whole=True)
    title, metadata = package.properties()
    return (builder.document(source, title or builder.first_heading, metadata),)


def _mark(content: Element) -> None:
    """Rename elements by what their styles and places say of them."""
    styles = {style.get("name"): style for style in content.iter("style")}
    for element in content.iter():
        style = styles.get(element.get("style-name"), element)
        shown = style.find("text-properties")
        if shown is not None and shown.get("display") == "none":
            element.tag = "hidden-text"
        elif element.tag == "p" and "Title" in (
            element.get("style-name"),
            style.get("parent-style-name"),
        ):
            element.tag = "h"
    for table in content.iter("table"):
        rows = table.findall(".//table-row")
        if len(rows) > 1 and table.find("table-header-rows") is None:
            rows[0].tag = "first-row"


def _markup(element: Element) -> Iterator[str]:
    """The HTML of an element; the notes of a paragraph stand below it."""
    before, after = _TAGS.get(element.tag, ("", ""))
    if element.tag == "h":
        level = min(max(number(element.get("outline-level"), 1), 1), 6)
        before, after = f"<h{level}>", f"</h{level}>"
    yield before + escape(element.text or "")
    for child in element:
        if child.tag == "note":
            yield f"[{escape(_text(child, 'note-citation'))}]"
        elif child.tag not in _DROPPED:
            yield "".join(_markup(child)) * _times(child)
        yield escape(child.tail or "")
    yield after
    for note in list(element.iter("note")) if element.tag in ("p", "h") else ():
        note.tag = "written"
        sign, text = _text(note, "note-citation"), _text(note, "note-body")
        yield f"<p>[{escape(sign)}] {escape(text)}</p>"


def _times(cell: Element) -> int:
    """How often a cell stands in its row; one with a table in it only once, lest it multiply."""
    times = number(cell.get("number-columns-repeated"), 1)
    return min(times, _WIDEST) if times > 1 and cell.find(".//table") is None else 1


def _text(note: Element, part: str) -> str:
    found = note.find(part)
    return "" if found is None else one_line(" ".join(found.itertext()))
