"""Bytes to text and blocks: plain text, JSON lines, and what all loaders promise."""

import json
import os
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError, UnsupportedFile
from ingest.load import (
    DEFAULT_LIMITS,
    LOADERS,
    SUFFIXES,
    VERSIONS,
    is_supported,
    load,
    loader_version,
)
from ingest.loaders.decode import clean, decode
from ingest.loaders.text import paragraphs
from ingest.types import Block, Document

JAPANESE = "休暇の申請は二週間前までに提出してください。\n担当は人事部です。\n"
CHINESE = "员工应提前两周提交请假申请，由部门经理批准。\n"
RUSSIAN = "Сотрудники должны подать заявление на отпуск за две недели.\n"
FRENCH = "Les employés doivent déposer leur demande deux semaines à l’avance.\n"


def load_bytes(folder: Path, name: str, data: bytes) -> tuple[Document, ...]:
    path = folder / name
    path.write_bytes(data)
    return load(path, name)


def assert_well_formed(document: Document) -> None:
    """Blocks ascend, do not overlap, and hold every non-space character; the text is clean."""
    edges = [edge for block in document.blocks for edge in (block.start, block.end)]
    assert all(block.start < block.end for block in document.blocks)
    assert edges == sorted(edges)
    gaps = pairwise([0, *edges, len(document.text)])
    outside = "".join(document.text[start:end] for start, end in list(gaps)[::2])
    assert outside.strip() == ""
    assert document.text == clean(document.text)
    assert document.title == " ".join(clean(document.title).split())


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (JAPANESE, "utf-16"),
        (CHINESE, "gb18030"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "utf-32"),
        (FRENCH, "utf-8-sig"),
        (FRENCH, "cp1252"),
        ("Plain words, no mark.\n", "utf-16-le"),
        ("Plain words, no mark.\n", "utf-16-be"),
    ],
)
def test_encodings_are_told(text, encoding):
    """Marks, patterns and, at last, statistics tell the encoding of a few sentences."""
    assert text * 4 == decode((text * 4).encode(encoding))


def test_one_bad_byte_does_not_make_utf8_another_encoding():
    """A damaged spot is shown as such; the rest of the file is read as what it is."""
    data = (RUSSIAN * 10).encode() + b"\xff" + RUSSIAN.encode()

    assert decode(data) == RUSSIAN * 10 + "\ufffd" + RUSSIAN


def test_a_declared_encoding_is_believed_before_a_guess():
    """Two words are too few to guess from."""
    assert decode("Größe ändern".encode("cp1252"), "iso-8859-1") == "Größe ändern"


@pytest.mark.parametrize("declared", ["unicode_escape", "punycode", "utf-7", "no-such", "idna"])
def test_a_declared_encoding_that_is_no_character_set_is_not_believed(declared):
    """A file does not choose which of Python's programs runs on it."""
    assert decode("\\u0041 façade".encode(), declared) == "\\u0041 façade"
    assert "\\u0041" in decode("\\u0041 façade, à l’été".encode("cp1252"), declared)


def test_control_characters_and_surrogates_do_not_enter():
    """Line ends become one kind; NUL, escape, C1, soft hyphens and lone surrogates go."""
    raw = "a\r\nb\rc\fd\u2028e\x00\x1b\x07\x7f\x9b\xad\ufeff\ud800f\tg\x85h"

    assert clean(raw) == "a\nb\nc\nd\nef\tg\nh"


def test_nuls_in_text_are_dropped(tmp_path):
    """A few of them do not make a text binary."""
    (document,) = load_bytes(tmp_path, "a.txt", b"hello\0 world")

    assert document.text == "hello world"


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 40,
        b"\x89PNG\r\n\x1a\n" + os.urandom(4_000),
        b"\x7fELF\x02\x01\x01" + bytes(500),
        b"PK\x03\x04" + os.urandom(4_000),
    ],
)
@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.html"])
def test_a_binary_under_a_texts_name_is_refused(tmp_path, name, data):
    """It is reported as binary instead of being stored as noise."""
    with pytest.raises(LoadError, match="looks binary"):
        load_bytes(tmp_path, name, data)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.jsonl"])
@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_a_file_without_text_is_reported(tmp_path, name, data):
    """An empty file is never taken as fine."""
    with pytest.raises(LoadError, match="no text"):
        load_bytes(tmp_path, name, data)


def test_special_files_are_not_read(tmp_path):
    """A name that became a pipe or a device after it was found neither blocks nor fills memory."""
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "zero.md").symlink_to("/dev/zero")

    for name in ("pipe.md", "zero.md"):
        with pytest.raises(LoadError, match="not a regular file"):
            load(tmp_path / name, name)
    with pytest.raises(LoadError, match="cannot be read: No such file"):
        load(tmp_path / "gone.md", "gone.md")


def test_limits_on_size_and_text_are_kept(tmp_path):
    """Each says which setting raises it."""
    path = tmp_path / "a.txt"
    path.write_text("word " * 100)

    with pytest.raises(LoadError, match="larger than") as size:
        load(path, "a.txt", replace(DEFAULT_LIMITS, max_file=499))
    with pytest.raises(LoadError, match="more than 499 characters") as length:
        load(path, "a.txt", replace(DEFAULT_LIMITS, max_text=499))
    assert "ingest.max_file" in size.value.hint
    assert "ingest.max_text" in length.value.hint
    assert len(load(path, "a.txt", replace(DEFAULT_LIMITS, max_text=500))[0].text) == 500


def test_text_is_cut_at_blank_lines(tmp_path):
    """Lists, tables and indented code are told from their shape; offsets are exact."""
    text = "Title\nof two lines\n \n- one\n- two\n\n    code\n      more\n\na | b | c\n1 | 2 | 3\n"
    (document,) = load_bytes(tmp_path, "my-notes.txt", text.encode())

    shapes = [(block.kind, document.text[block.start : block.end]) for block in document.blocks]
    expected = [
        ("prose", "Title\nof two lines"),
        ("list", "- one\n- two"),
        ("code", "    code\n      more"),
        ("table", "a | b | c\n1 | 2 | 3"),
    ]
    assert expected == shapes
    assert (
        document.title,
        document.source,
        document.media_type,
    ) == ("my-notes", "my-notes.txt", "text/plain")


def test_paragraphs_of_a_part_stay_inside_it():
    """Offsets are those of the whole text."""
    assert [Block(3, 5, "prose"), Block(7, 8, "prose")] == list(paragraphs("ab cd\n\ne f", 2, 8))


def test_a_corpus_gives_one_document_a_line(tmp_path):
    """The `_id` names it; a line without text is represented by its title."""
    rows = [
        {"_id": "d1", "title": "First", "text": "One.\n\nTwo."},
        {"_id": 2, "text": "Three."},
        {"_id": "d3", "title": "Only a title", "text": ""},
        {"_id": "d4", "title": "", "text": " "},
    ]
    data = "\n".join(map(json.dumps, rows)).encode() + b"\n\n"

    documents = load_bytes(tmp_path, "corpus.jsonl", data)
    found = [(document.source, document.title, document.text) for document in documents]
    expected = [
        ("d1", "First", "One.\n\nTwo."),
        ("2", "", "Three."),
        ("d3", "Only a title", "Only a title"),
    ]
    assert expected == found


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (['{"question": "x"}'], UnsupportedFile, "unsupported type"),
        (['{"_id": "a", "text": "t"}', '{"_id": "b"}'], LoadError, "line 2 lacks"),
        (['{"_id": "a", "text": "t"}', '{"_id": "a", "text": "u"}'], LoadError, "line 2 repeats"),
        (['{"_id": "a", "text": "t"}', "{"], LoadError, "line 2 is not JSON"),
        (["[1]"], LoadError, "line 1 is not a JSON object"),
        (["[" * 100_000], LoadError, "line 1 is not JSON"),
    ],
)
def test_json_lines_of_another_form_are_refused(tmp_path, lines, error, message):
    """Other JSON is skipped; a corpus with a bad line is not read by halves."""
    with pytest.raises(LoadError, match=message) as raised:
        load_bytes(tmp_path, "corpus.jsonl", "\n".join(lines).encode())
    assert error is type(raised.value)


def test_every_suffix_has_a_loader_and_every_loader_a_version():
    """The three tables agree."""
    assert set(SUFFIXES.values()) == set(LOADERS) == set(VERSIONS)
    assert is_supported("REPORT.PDF")
    assert not is_supported("queries.jsonl")
    assert loader_version("a.MD") == "text/markdown;version=1"
    assert loader_version("a.xyz") == ""


def test_an_unsupported_name_is_refused(tmp_path):
    """The hint lists what is supported."""
    with pytest.raises(UnsupportedFile, match="unsupported type") as raised:
        load_bytes(tmp_path, "a.xyz", b"words")
    assert ".md" in raised.value.hint


# Pieces that mean something to a loader, so that random texts reach its special cases.
MARKDOWN = ["# ", "- ", "> ", "    ", "---\n", "```\n", "| a |\n|---|\n", "[a]: b\n", "`", "a: b\n"]
TAGS = [
    "p",
    "ul><li",
    "table><tr><td",
    "caption",
    "pre",
    "br",
    "h2",
    "div hidden",
    "main",
    "script",
]
MARKUP = [f"<{tag}>" for tag in TAGS] + [f"</{tag.split('>')[0]}>" for tag in TAGS]
NOISE = ["<!--", "-->", "&#0;", "&#x1b;", "\n", "\n\n", "\r", "\0", "\x1b[31m", "\u2028"]
PIECES = st.sampled_from(MARKDOWN + MARKUP + NOISE)
TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join)


@given(text=TEXTS)
@pytest.mark.parametrize("suffix", [".txt", ".md", ".html"])
def test_any_text_becomes_a_well_formed_document(suffix, text):
    """Whatever stands in a file, blocks cover the text and nothing unclean is in it."""
    data = text.encode("utf-8", "surrogatepass")
    loader = LOADERS[SUFFIXES[suffix]]
    try:
        documents = loader(data, f"a{suffix}", DEFAULT_LIMITS)
    except LoadError as error:
        assert error.message.startswith("looks binary")  # noqa: PT017 - either outcome is right
    else:
        for document in documents:
            assert_well_formed(document)


@given(data=st.binary(max_size=300), suffix=st.sampled_from(sorted(SUFFIXES)))
def test_any_bytes_are_read_or_refused(data, suffix):
    """No file raises anything but LoadError."""
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        Path(file.name).write_bytes(data)
        try:
            documents = load(Path(file.name), "a" + suffix)
        except LoadError as error:
            assert error.hint  # noqa: PT017 - either outcome is right
        else:
            for document in documents:
                assert_well_formed(document)
