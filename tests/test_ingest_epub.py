"""EPUB: a book's chapters in reading order."""

import io
import zipfile
from dataclasses import replace

import pytest
from documents import blocks, read
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError
from ingest.load import DEFAULT_OPTIONS, format_of

CONTAINER = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>"""
METADATA = """<dc:title>The Fees</dc:title><dc:title>A subtitle</dc:title>
<dc:creator>Ann Lee</dc:creator><dc:creator>Bo</dc:creator><dc:date>2024-05-31T00:00:00Z</dc:date>
<dc:language>en</dc:language><dc:subject>money</dc:subject><dc:subject>law</dc:subject>"""
OPF = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata>{metadata}</metadata><manifest>{manifest}</manifest><spine>{spine}</spine>{guide}
</package>"""
DOCTYPE = '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "xhtml11.dtd" [<!ENTITY a "aaaa">]>'
ENCRYPTION = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<EncryptedData xmlns="http://www.w3.org/2001/04/xmlenc#"><EncryptionMethod Algorithm="{}"/>
<CipherData><CipherReference URI="OEBPS/one.xhtml"/></CipherData></EncryptedData></encryption>"""


def book(chapters: dict[str, str], *, properties="", guide="", metadata=METADATA, **files) -> bytes:
    """A book whose spine has these files in this order."""
    manifest = "".join(
        f'<item id="i{number}" href="{name}" media-type="application/xhtml+xml"'
        f' properties="{properties if number == 0 else ""}"/>'
        for number, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="i{number}"/>' for number in range(len(chapters)))
    opf = OPF.format(metadata=metadata, manifest=manifest, spine=spine, guide=guide)
    files = {"META-INF/container.xml": CONTAINER, "OEBPS/book.opf": opf, **files}
    files |= {f"OEBPS/{name.replace('%20', ' ')}": text for name, text in chapters.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("mimetype", "application/epub+zip")
        for name, text in files.items():
            package.writestr(name, text)
    return file.getvalue()


def page(body: str) -> str:
    return f"<?xml version='1.0'?>{DOCTYPE}<html><head><title/></head><body>{body}</body></html>"


def test_a_book_is_its_chapters_in_the_order_of_its_spine():
    """Names are those of links; elements may be closed at once, entities are not expanded."""
    data = book(
        {
            "two%20b.xhtml": page("<h1>Two</h1><p>b<a id='x'/>c<br/>d</p>"),
            "one.xhtml": page("<h2>One</h2><div/><p>A &a; fee.</p><script src='x'/><p>More.</p>"),
            "text/three.xhtml": page("<aside><p>A note.</p></aside><article>Art.</article><p>End."),
        }
    )
    (document,) = read("a.epub", data)

    expected = [
        ("heading", "Two"),
        ("prose", "bc\nd"),
        ("heading", "One"),
        ("prose", "A &a; fee."),
        ("prose", "More."),
        ("prose", "A note."),
        ("prose", "Art."),
        ("prose", "End."),
    ]
    assert expected == blocks(document)
    assert document.title == "The Fees"
    assert document.media_type == format_of("a.epub")
    assert dict(document.metadata) == {
        "author": "Ann Lee, Bo",
        "date": "2024-05-31",
        "language": "en",
        "tags": "money, law",
    }


def test_what_leads_through_a_book_is_left_out():
    """Its cover and its table of contents, by both versions of the format."""
    chapters = {name: page(f"<p>{name}</p>") for name in ("nav.x", "cover.x", "toc.x", "one.x")}
    guide = (
        "<guide><reference type='cover' href='cover.x'/><reference type='toc' href='toc.x#top'/>"
        "<reference type='text' href='one.x'/></guide>"
    )
    (document,) = read("a.epub", book(chapters, properties="nav", guide=guide))

    assert document.text == "one.x"


def test_a_chapter_that_is_missing_costs_itself():
    """The others are read."""
    (document,) = read("a.epub", book({"../../gone.x": "", "one.x": page("<p>One</p>")}))

    assert document.text == "One"


@pytest.mark.parametrize(
    ("method", "is_read"),
    [
        ("http://www.idpf.org/2008/embedding", True),
        ("http://ns.adobe.com/pdf/enc#RC", True),
        ("http://www.w3.org/2001/04/xmlenc#aes128-cbc", False),
    ],
)
def test_copy_protection_is_told_from_scrambled_fonts(method, is_read):
    """Fonts may be scrambled in a book that anyone may read."""
    files = {"META-INF/encryption.xml": ENCRYPTION.format(method)}
    data = book({"one.xhtml": page("<p>One</p>")}, **files)

    if is_read:
        assert read("a.epub", data)[0].text == "One"
    else:
        with pytest.raises(LoadError, match=r"protected against copying \(DRM\)"):
            read("a.epub", data)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"META-INF/container.xml": "<container/>"}, "damaged"),
        ({"OEBPS/book.opf": "<package><metadata/>"}, r"damaged: OEBPS/book\.opf is no XML"),
        ({"OEBPS/book.opf": "<package/>"}, "no text"),
        ({"OEBPS/book.opf": "<!DOCTYPE a []><package/>"}, "DOCTYPE"),
    ],
)
def test_a_book_without_order_is_told(files, message):
    """What leads to the chapters is damaged, or hostile."""
    with pytest.raises(LoadError, match=message) as raised:
        read("a.epub", book({"one.x": page("<p>One</p>")}, **files))
    assert raised.value.hint


def test_the_text_of_a_book_is_limited():
    """However often its chapters stand in the spine, each is read once."""
    spine = "<itemref idref='i'/>" * 1_000
    opf = OPF.format(metadata="", manifest="<item id='i' href='x'/>", spine=spine, guide="")
    data = book({"x": page("<p>" + "word " * 100 + "</p>")}, **{"OEBPS/book.opf": opf})

    assert len(read("a.epub", data, replace(DEFAULT_OPTIONS, max_text=499))[0].text) == 499
    with pytest.raises(LoadError, match="more than 498 characters"):
        read("a.epub", data, replace(DEFAULT_OPTIONS, max_text=498))


TAGS = st.sampled_from(
    ["<p>", "</p>", "<title/>", "<a/>", "<td/>", "<li>", "<br/>", "<svg/>", "x/>"]
)


@given(body=st.lists(TAGS | st.text(max_size=5), max_size=30).map("".join))
def test_any_chapter_is_read(body):
    """Whatever stands in a chapter, what comes is well formed (as `read` checks)."""
    (document,) = read("a.epub", book({"one.x": "<p>start</p>" + body}))

    assert document.text.startswith("start")
