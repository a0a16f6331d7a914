"""EPUB: the chapters of a book in the order of its spine, each read as a page of HTML.

By EPUB 3.3 (https://www.w3.org/TR/epub-33/), whose package document is that of EPUB 2.
"""

import posixpath
import re
from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from ingest.errors import LoadError
from ingest.loaders.builder import Builder
from ingest.loaders.decode import decode
from ingest.loaders.html import write_html
from ingest.loaders.options import LoadOptions
from ingest.loaders.package import Package, open_package
from ingest.types import Document

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
# Fonts are scrambled by these in books that anyone may read.
_FONT_METHODS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_NO_CHAPTERS = ("cover", "toc")
# `<title/>` is an empty element in XHTML; in HTML it opens one, which takes in what follows.
_CLOSED_AT_ONCE = re.compile(
    r"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr)\b)"
    r"([a-z][\w:-]*)((?:\s[^<>]*)?)/>",
    re.I,
)
_METADATA = {"author": "creator", "date": "date", "tags": "subject", "language": "language"}


def load_epub(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document; the cover and the table of contents are left out.

    Raises LoadError for a book with copy protection (DRM).
    """
    package = open_package(data, options)
    _check_protection(package)
    rootfile = package.xml(_CONTAINER).find("rootfiles/rootfile")
    path = "" if rootfile is None else rootfile.get("full-path", "")
    book = package.xml(path)
    builder = Builder(options)
    for chapter in dict.fromkeys(_chapters(book, posixpath.dirname(path))):
        if chapter in package.names:
            markup = decode(package.read(chapter))
            markup = markup[max(markup.find("<html"), 0) :]  # a DOCTYPE may hold more than HTML's
            write_html(_CLOSED_AT_ONCE.sub(r"<\1\2></\1>", markup), builder, whole=True)
    values = {name: _joined(book, tag) for name, tag in _METADATA.items()}
    title = next((title.text or "" for title in book.iter("title")), "")
    return (builder.document(source, title, values),)


def _check_protection(package: Package) -> None:
    if _ENCRYPTION not in package.names:
        return
    for method in package.xml(_ENCRYPTION).iter("EncryptionMethod"):
        if method.get("Algorithm") not in _FONT_METHODS:
            raise LoadError("protected against copying (DRM)", "use a copy without protection")


def _chapters(book: Element, folder: str) -> Iterator[str]:
    """The names of a book's files of text, in reading order."""
    items = {item.get("id"): item for item in book.iterfind("manifest/item")}
    left_out = {
        reference.get("href", "").partition("#")[0]
        for reference in book.iterfind("guide/reference")
        if reference.get("type") in _NO_CHAPTERS
    }
    for reference in book.iterfind("spine/itemref"):
        item = items.get(reference.get("idref"))
        if item is None or "nav" in item.get("properties", "").split():
            continue
        href = item.get("href", "")
        if href not in left_out:
            yield posixpath.normpath(posixpath.join(folder, unquote(href)))


def _joined(book: Element, tag: str) -> str:
    """The texts of all elements of this name, joined by commas."""
    return ", ".join(element.text.strip() for element in book.iter(tag) if element.text)
