"""Zip-based documents: measured before they are unpacked, and never more than they say."""

import io
import struct
import tracemalloc
import warnings
import zipfile
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError
from ingest.loaders.options import DEFAULT_OPTIONS
from ingest.loaders.package import OLE_MAGIC, open_package

RELATIONS = """<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1" Type="http://example.org/kinds/styles" Target="styles.xml"/>
<Relationship Id="r2" Type="http://example.org/kinds/styles" Target="other.xml"/>
<Relationship Id="r3" Type="http://example.org/kinds/theme" Target="/shared/../theme.xml"/>
<Relationship Id="r4" Type="http://example.org/kinds/image" Target="NULL"/>
<Relationship Id="r5" Type="http://example.org/kinds/outside" Target="../../../etc/passwd"/>
</Relationships>"""


def zipped(files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as package:
        for name, data in files.items():
            package.writestr(name, data)
    return file.getvalue()


def with_field(data: bytes, offset: int, value: bytes) -> bytes:
    """The zip with a field of its first central directory entry replaced."""
    at = data.index(b"PK\x01\x02") + offset
    return data[:at] + value + data[at + len(value) :]


def test_files_are_read_by_name():
    """Folders are no files; text in any encoding of XML is read."""
    data = zipped({"a/": b"", "a/b.xml": "<r xmlns='n'>é</r>".encode("utf-16"), "c": b"data"})
    package = open_package(data, DEFAULT_OPTIONS)

    assert package.names == ("a/b.xml", "c")
    assert package.read("c") == b"data"
    assert (package.xml("a/b.xml").tag, package.xml("a/b.xml").text) == ("r", "é")


def test_xml_is_read_without_namespaces():
    """Of two attributes with one name left, that with a namespace stays."""
    root = open_package(
        zipped({"a": "<a:r xmlns:a='u:a' xmlns:b='u:b'><a:s b:id='far' id='near'/></a:r>"}),
        DEFAULT_OPTIONS,
    ).xml("a")

    assert (root.tag, root.find("s").get("id")) == ("r", "far")


def test_what_is_missing_or_no_xml_is_named():
    """The person learns which part is damaged."""
    package = open_package(zipped({"a.xml": "<a><b></a>"}), DEFAULT_OPTIONS)

    with pytest.raises(LoadError, match=r"damaged: b\.xml is missing"):
        package.read("b.xml")
    with pytest.raises(LoadError, match=r"damaged: a\.xml is no XML"):
        package.xml("a.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_xml_with_a_doctype_is_refused(encoding):
    """Entities cannot multiply or fetch what is never declared."""
    markup = "<?xml version='1.0'?><!-- " + "x" * 9_000 + " -->"
    markup += "<!DOCTYPE r [<!ENTITY a 'aaaa'>]><r>&a;</r>"
    package = open_package(zipped({"a.xml": markup.encode(encoding)}), DEFAULT_OPTIONS)

    for read in (lambda: package.xml("a.xml"), package.repacked):
        with pytest.raises(LoadError, match="DOCTYPE"):
            read()


def test_a_declared_encoding_does_not_hide_a_doctype():
    """A parser that believed the declaration would see another text than the check."""
    head = b"<?xml version='1.0' encoding='cp037'?>"
    hidden = "<!DOCTYPE r [<!ENTITY a 'aaaa'>]><r>&a;</r>".encode("cp037")
    package = open_package(zipped({"a.xml": head + hidden}), DEFAULT_OPTIONS)

    with pytest.raises(LoadError):
        package.xml("a.xml")


def test_deep_nesting_is_parsed():
    """A tree of any depth is built and freed."""
    markup = "<a>" * 200_000 + "</a>" * 200_000

    assert open_package(zipped({"a": markup}), DEFAULT_OPTIONS).xml("a").tag == "a"


def test_sizes_and_counts_are_limited():
    """What is declared is measured before anything is unpacked; each limit names its setting."""
    data = zipped({"a": b"x" * 600, "b": b"x" * 600})

    assert open_package(data, replace(DEFAULT_OPTIONS, max_unpacked=1_200, max_members=2))
    with pytest.raises(LoadError, match="unpacked, more than") as size:
        open_package(data, replace(DEFAULT_OPTIONS, max_unpacked=1_199))
    with pytest.raises(LoadError, match="2 files in it, more than 1") as count:
        open_package(data, replace(DEFAULT_OPTIONS, max_members=1))
    assert "ingest.max_unpacked" in size.value.hint
    assert "ingest.max_members" in count.value.hint


def test_a_file_gives_no_more_than_it_declares():
    """A size that lies is found before the rest is unpacked."""
    lying = with_field(zipped({"a": bytes(50_000_000)}), 24, struct.pack("<L", 1_000))

    package = open_package(lying, DEFAULT_OPTIONS)

    tracemalloc.start()
    with pytest.raises(LoadError, match="a cannot be unpacked"):
        package.read("a")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_files_that_share_bytes_are_refused():
    """Many names for one place multiply a small file."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as package:
        warnings.simplefilter("ignore")
        package.writestr("a", b"x" * 100)
        package.filelist.append(package.filelist[0])

    with pytest.raises(LoadError, match="share their bytes"):
        open_package(file.getvalue(), DEFAULT_OPTIONS)


def test_encrypted_and_unusual_files_are_told():
    """One such file does not keep the others from being read."""
    locked = with_field(zipped({"a": b"x", "b": b"y"}), 8, struct.pack("<H", 1))
    rare = zipped({"a.xml": b"x" * 100}, zipfile.ZIP_BZIP2)

    package = open_package(locked, DEFAULT_OPTIONS)
    assert package.read("b") == b"y"
    with pytest.raises(LoadError, match="encrypted: it needs a password"):
        package.read("a")
    with pytest.raises(LoadError, match="unusual way"):
        open_package(rare, DEFAULT_OPTIONS).read("a.xml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no zip file"),
        (b"{\\rtf1 text}", "no zip file"),
        (b"PK\x03\x04" + bytes(100), "damaged or cut off"),
        (zipped({"a": b"data" * 100})[:-30], "damaged or cut off"),
        (OLE_MAGIC + bytes(504) + "EncryptedPackage".encode("utf-16-le"), "needs a password"),
        (OLE_MAGIC + bytes(504) + "WordDocument".encode("utf-16-le"), "old Word file"),
        (OLE_MAGIC + bytes(504), "old Office file"),
    ],
)
def test_what_is_no_package_is_told(data, message):
    """Each kind of wrong file has its own words and a remedy."""
    with pytest.raises(LoadError, match=message) as raised:
        open_package(data, DEFAULT_OPTIONS)
    assert raised.value.hint


def test_related_parts_are_found():
    """By kind, the first of each; parts that are not there, or not inside, are left out."""
    files = {"x/a.xml": "<a/>", "x/_rels/a.xml.rels": RELATIONS}
    files |= dict.fromkeys(("x/styles.xml", "x/other.xml", "theme.xml"), "<a/>")
    package = open_package(zipped(files), DEFAULT_OPTIONS)

    assert package.related("x/a.xml") == {"styles": "x/styles.xml", "theme": "theme.xml"}
    assert package.related("theme.xml") == {}


def test_what_is_handed_to_libraries_is_packed_anew():
    """Pictures stay behind, and nothing of the old file's structure is left."""
    files = {
        "a.xml": "<a/>",
        "_rels/.rels": "<a/>",
        "p/x.png": b"p",
        "s.bin": b"s",
        "mimetype": "m",
    }
    with zipfile.ZipFile(open_package(zipped(files), DEFAULT_OPTIONS).repacked()) as package:
        assert package.namelist() == ["a.xml", "_rels/.rels", "s.bin", "mimetype"]
        assert package.read("s.bin") == b"s"


GOOD = zipped({"_rels/.rels": RELATIONS, "a.xml": "<a>text</a>", "b.bin": bytes(range(256))})


@given(at=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), cut=st.integers(0, 60))
def test_a_damaged_package_is_read_or_refused(at, value, cut):
    """Whatever byte is wrong, nothing but a LoadError is raised."""
    data = GOOD[:at] + bytes([value]) + GOOD[at + 1 : len(GOOD) - cut]

    with suppress(LoadError):
        package = open_package(data, DEFAULT_OPTIONS)
        assert all(isinstance(package.read(name), bytes) for name in package.names)
        assert zipfile.is_zipfile(package.repacked())
