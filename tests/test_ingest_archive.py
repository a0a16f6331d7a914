"""Archives: each file inside is read by its own loader, within limits, and never from disk."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import warnings
import zipfile
from dataclasses import replace

import pytest
from documents import read_all
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError, UnsupportedFile
from ingest.load import DEFAULT_OPTIONS, LoadOptions

Files = list[tuple[str, bytes]]


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: Files, mode: str = "w", others: tuple[bytes, ...] = ()) -> bytes:
    """A tar archive of files, and of a member of each of the other types."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for number, kind in enumerate(others):
            member = tarfile.TarInfo(f"other{number}.txt")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    return buffer.getvalue()


def contents(
    name: str, data: bytes, options: LoadOptions = DEFAULT_OPTIONS
) -> tuple[dict[str, str], dict[str, LoadError]]:
    """The texts in an archive by source, and its problems by source."""
    documents, problems = read_all(name, data, options)
    return {document.source: document.text for document in documents}, problems


FILES = [("b/two.txt", b"Two."), ("a.csv", b"x,y\n1,2\n"), ("c.bin", os.urandom(99))]
TEXTS = {"b/two.txt": "Two.", "a.csv": "x | y\n1 | 2"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", zipped(FILES)),
        ("a.zip", zipped(FILES, zipfile.ZIP_LZMA)),
        ("a.zip", b"#!/bin/sh\n" + zipped(FILES, zipfile.ZIP_BZIP2)),
        ("a.tar", tarred(FILES)),
        ("a.tar.gz", tarred(FILES, "w:gz")),
        ("a.TGZ", tarred(FILES, "w:gz")),
        ("a.tar.bz2", tarred(FILES, "w:bz2")),
        ("a.txz", tarred(FILES, "w:xz")),
        ("a.tgz", tarred(FILES)),
    ],
)
def test_files_are_read_in_the_order_of_the_archive(name, data):
    """Each by its own loader; one without a loader is listed and not unpacked."""
    texts, problems = contents(name, data)

    assert list(texts.items()) == [(f"{name}/{inner}", text) for inner, text in TEXTS.items()]
    assert [f"{name}/c.bin"] == list(problems)
    assert isinstance(problems[f"{name}/c.bin"], UnsupportedFile)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt.gz", gzip.compress(b"Text.")),
        ("a.txt.bz2", bz2.compress(b"Text.")),
        ("a.txt.xz", lzma.compress(b"Text.")),
    ],
)
def test_a_compressed_file_is_read_by_its_inner_name(name, data):
    """It is no archive, but holds one file."""
    assert contents(f"folder/{name}", data) == ({f"folder/{name}/a.txt": "Text."}, {})


def test_a_file_that_is_not_compressed_after_all_is_read():
    """Some downloads are unpacked on their way and keep their name."""
    assert contents("a.txt.gz", b"Text.") == ({"a.txt.gz/a.txt": "Text."}, {})


def test_archives_in_archives_are_read_to_a_depth():
    """Deeper ones may be a bomb."""
    data = zipped([("d.txt", b"deep")])
    for _ in range(2):
        data = zipped([("a.zip", data), ("t.txt", b"t")])

    assert "a.zip/a.zip/a.zip/d.txt" in contents("a.zip", data)[0]
    texts, problems = contents("a.zip", zipped([("a.zip", data)]))
    assert list(texts) == ["a.zip/a.zip/a.zip/t.txt", "a.zip/a.zip/t.txt"]
    assert "too deep" in problems["a.zip/a.zip/a.zip/a.zip/d.txt"].message


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/a.txt", "etc/a.txt"),
        ("/abs/./a.txt", "abs/a.txt"),
        ("C:\\Users\\a.txt", "Users/a.txt"),
        ("a\nb\x1b[31m\x07.txt", "a b.txt"),
        ("ü/日本.txt", "ü/日本.txt"),
        ("..", "unnamed"),
    ],
)
def test_names_are_made_safe(name, safe):
    """They are data: no root, parent, drive or control character is left of them."""
    for archive, data in (("a.zip", zipped([(name, b"x")])), ("a.tar", tarred([(name, b"x")]))):
        texts, problems = contents(archive, data)

        assert [f"{archive}/{safe}"] == [*texts, *problems]


def test_names_in_old_encodings_are_read():
    """Zip archives had cp437, or UTF-8 without saying so; tar archives whatever there was."""
    data = zipped([("abc.txt", b"x"), ("defg.txt", b"x")])
    data = data.replace(b"abc", "für"[1:].encode("cp437") + b"!").replace(b"defg", "fün".encode())

    assert list(contents("a.zip", data)[0]) == ["a.zip/ür!.txt", "a.zip/fün.txt"]
    data = tarred([("\udcfc.txt", b"x")])
    assert list(contents("a.tar", data)[0]) == ["a.tar/ü.txt"]


def test_names_that_are_there_twice_are_told_apart():
    """Nothing is lost, and no two documents have one source."""
    files = [("a.txt", b"1"), ("a (2).txt", b"2"), ("a.txt", b"3"), ("./a.txt", b"4")]

    texts, _ = contents("a.zip", zipped(files))

    expected = ["a.txt", "a (2).txt", "a (2) (2).txt", "a (3).txt"]
    assert [f"a.zip/{name}" for name in expected] == list(texts)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".git/a.txt", "hidden"),
        ("a/.b.txt", "hidden"),
        ("id_rsa.txt", "key or secret file"),
        ("x/prod.env", "key or secret file"),
        ("node_modules/a/b.txt", "folder made by a tool"),
        ("__MACOSX/a.txt", "folder made by a tool"),
    ],
)
def test_what_a_folder_leaves_out_an_archive_does(name, reason):
    """The same names are hidden, secret or made by tools."""
    texts, problems = contents("a.zip", zipped([(name, b"x")]))

    assert not texts
    assert [reason] == [error.message for error in problems.values()]
    assert all(isinstance(error, UnsupportedFile) and error.hint for error in problems.values())


def test_links_and_devices_are_not_read():
    """What they point at lies outside the archive; folders are passed over."""
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.mkdir("folder")

    texts, problems = contents("a.tar", tarred([], others=kinds))
    assert not texts
    assert len(problems) == 4
    assert {"not a regular file"} == {error.message for error in problems.values()}
    assert list(contents("a.zip", buffer.getvalue())[1]) == ["a.zip/link.txt"]


BIG = [("a.txt", b"first"), ("b.txt", b"word " * 2_000), ("c.txt", b"last")]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_a_file_larger_than_allowed_is_left_out(name):
    """The others are read; the error names the setting."""
    data = zipped(BIG) if name == "a.zip" else tarred(BIG)

    texts, problems = contents(name, data, replace(DEFAULT_OPTIONS, max_file=9_999))

    assert [f"{name}/a.txt", f"{name}/c.txt"] == list(texts)
    assert "ingest.max_file" in problems[f"{name}/b.txt"].hint


@pytest.mark.parametrize(
    ("name", "data", "read"),
    [
        ("a.zip", zipped(BIG), []),
        ("a.tar.gz", tarred(BIG, "w:gz"), ["a.txt"]),
        ("a.tar.gz", tarred([BIG[0], ("b.bin", bytes(10**6)), BIG[2]], "w:gz"), ["a.txt"]),
    ],
)
def test_no_more_is_unpacked_in_all_than_allowed(name, data, read):
    """Also what is passed over has to be unpacked from a compressed tar archive."""
    texts, problems = contents(name, data, replace(DEFAULT_OPTIONS, max_unpacked=9_000))

    assert [f"{name}/{inner}" for inner in read] == list(texts)
    assert "unpacks to more than" in problems[name].message
    assert "ingest.max_unpacked" in problems[name].hint


def test_no_more_files_are_read_than_allowed():
    """Of a tar archive, whose end is not known before, the first are."""
    options = replace(DEFAULT_OPTIONS, max_members=2)

    for name, data, count in (("a.zip", zipped(BIG), 0), ("a.tar", tarred(BIG), 2)):
        texts, problems = contents(name, data, options)
        assert len(texts) == count
        assert "ingest.max_members" in problems[name].hint


def test_a_bomb_stops_at_the_limit():
    """A compressed file unpacks no further than one file may be long."""
    bomb = gzip.compress(bytes(50_000_000))

    _, problems = contents("a.txt.gz", bomb, replace(DEFAULT_OPTIONS, max_file=10_000))

    assert [error.message for error in problems.values()] == ["larger than 0.01 MB"]


def test_a_zip_archive_whose_files_share_bytes_is_refused():
    """So a small archive holds petabytes."""
    data = bytearray(zipped([("a.txt", b"word " * 99), ("b.txt", b"word " * 99)]))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = bytes(4)  # the offset of the second file

    texts, problems = contents("a.zip", bytes(data))

    assert not texts
    assert "overlap" in problems["a.zip"].message


def test_an_encrypted_file_is_told():
    """The others are read."""
    data = bytearray(zipped([("a.txt", b"secret"), ("b.txt", b"plain")]))
    data[data.index(b"PK\x01\x02") + 8] |= 1

    texts, problems = contents("a.zip", bytes(data))

    assert texts == {"a.zip/b.txt": "plain"}
    assert problems["a.zip/a.txt"].message == "encrypted"


def test_a_damaged_file_in_a_zip_archive_costs_that_file():
    """What its checksum does not fit is not read."""
    data = zipped([("a.txt", b"good"), ("b.txt", b"other"), ("c.txt", b"good")], zipfile.ZIP_STORED)

    texts, problems = contents("a.zip", data.replace(b"other", b"OTHER"))

    assert list(texts) == ["a.zip/a.txt", "a.zip/c.txt"]
    assert "Bad CRC" in problems["a.zip/b.txt"].message


NOISE = ("b.txt", os.urandom(3_000).hex().encode())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.tar", tarred([BIG[0], NOISE, BIG[2]])[:4_000]),
        ("a.tar", tarred([BIG[0], NOISE, BIG[2]])[:1_200]),
        ("a.tar", tarred([BIG[0], BIG[2]]).replace(b"c.txt", b"\xff.txt")),
        ("a.tar.gz", tarred([BIG[0], NOISE], "w:gz")[:2_500]),
        ("a.tar.xz", tarred([BIG[0], NOISE], "w:xz")[:2_500]),
    ],
)
def test_what_comes_before_a_damage_is_read(name, data):
    """And the damage is told, also where tarfile takes it for the end."""
    texts, problems = contents(name, data)

    assert [f"{name}/a.txt"] == list(texts)
    assert name in problems


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.txt.gz", "a.txt.xz"])
@pytest.mark.parametrize("data", [b"", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", bytes(range(256)) * 9])
def test_what_is_no_archive_is_refused(name, data):
    """A clear error, whatever is in it."""
    texts, problems = contents(name, data)

    assert not texts
    assert all(error.hint for error in problems.values())
    assert not any("could not be read" in error.message for error in problems.values())


ARCHIVES = [("a.zip", zipped(BIG[:1])), ("a.tar", tarred(BIG[:1])), ("a.tgz", tarred(BIG, "w:gz"))]


@given(archive=st.sampled_from(ARCHIVES), at=st.floats(0, 1), put=st.binary(max_size=8))
def test_an_archive_with_wrong_bytes_is_read_or_refused(archive, at, put):
    """Whatever a few bytes turn it into, nothing unforeseen is raised."""
    name, data = archive
    start = int(at * len(data))

    texts, problems = contents(name, data[:start] + put + data[start + len(put) :])

    assert texts or problems
    assert not any("could not be read" in error.message for error in problems.values())
