"""Bytes to text and blocks: plain text, JSON lines, and what all loaders promise."""

import json
import os
import re
from dataclasses import replace

import pytest
from documents import blocks, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError, UnsupportedFile
from ingest.load import DEFAULT_OPTIONS, FORMATS, format_of, loader_version, read_file
from ingest.loaders.decode import clean, decode
from ingest.loaders.text import paragraphs
from ingest.types import Block

JAPANESE = "休暇の申請は二週間前までに提出してください。\n担当は人事部です。\n"
CHINESE = "员工应提前两周提交请假申请，由部门经理批准。\n"
RUSSIAN = "Сотрудники должны подать заявление на отпуск за две недели.\n"
FRENCH = "Les employés doivent déposer leur demande deux semaines à l’avance.\n"


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


TYPOGRAPHY = "Ein „Café“ für 5 € – naïve Œuvre…\n"


@pytest.mark.parametrize("text", [FRENCH, TYPOGRAPHY, JAPANESE, RUSSIAN])
def test_text_that_was_encoded_twice_is_repaired(text):
    """As by a program that took UTF-8 for Latin-1, or for the code page of Windows."""
    once = text.encode()
    windows = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in once)

    assert text == decode(once.decode("latin-1").encode())
    assert text == decode(windows.encode())


@pytest.mark.parametrize(
    "text",
    [FRENCH, TYPOGRAPHY, JAPANESE, CHINESE, RUSSIAN, "Ã© is é read wrongly", "PÂ£ ß"],
)
def test_text_that_was_encoded_once_stays(text):
    """Also that which shows what comes of encoding twice."""
    assert text == decode(text.encode())


@given(words=st.text(st.sampled_from("aeiou äöüßéèçñÆØ„“–€…"), max_size=30))
def test_accents_between_letters_are_never_taken_for_a_repair(words):
    """An accented letter before a plain one is no UTF-8."""
    text = re.sub(r"([^\x00-\x7f])(?=[^\x00-\x7f])", r"\1a", words + "a")

    assert text == decode(text.encode())


@pytest.mark.parametrize("declared", ["unicode_escape", "punycode", "utf-7", "no-such", "idna"])
def test_a_declared_encoding_that_is_no_character_set_is_not_believed(declared):
    """A file does not choose which of Python's programs runs on it."""
    assert decode("\\u0041 façade".encode(), declared) == "\\u0041 façade"
    assert "\\u0041" in decode("\\u0041 façade, à l’été".encode("cp1252"), declared)


def test_control_characters_and_surrogates_do_not_enter():
    """Line ends become one kind; NUL, escape, C1, soft hyphens and lone surrogates go."""
    raw = "a\r\nb\rc\fd\u2028e\x00\x1b\x07\x7f\x9b\xad\ufeff\ud800f\tg\x85h"

    assert clean(raw) == "a\nb\nc\nd\nef\tg\nh"


def test_the_colours_of_a_terminal_do_not_enter():
    """An escape sequence goes whole: a log reads as its terminal showed it."""
    assert clean("\x1b[1;31merror\x1b[0m: disk\x1b[K full [1m]") == "error: disk full [1m]"


def test_nuls_in_text_are_dropped():
    """A few of them do not make a text binary."""
    (document,) = read("a.txt", b"hello\0 world")

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
def test_a_binary_under_a_texts_name_is_refused(name, data):
    """It is reported as binary instead of being stored as noise."""
    with pytest.raises(LoadError, match="looks binary"):
        read(name, data)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.jsonl"])
@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_a_file_without_text_is_reported(name, data):
    """An empty file is never taken as fine."""
    with pytest.raises(LoadError, match="no text"):
        read(name, data)


def test_special_files_are_not_read(tmp_path):
    """A name that became a pipe or a device after it was found neither blocks nor fills memory."""
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "zero.md").symlink_to("/dev/zero")

    for name in ("pipe.md", "zero.md"):
        with pytest.raises(LoadError, match="not a regular file"):
            read_file(tmp_path / name, 1000)
    with pytest.raises(LoadError, match="cannot be read: No such file"):
        read_file(tmp_path / "gone.md", 1000)


def test_limits_on_size_and_text_are_kept(tmp_path):
    """Each says which setting raises it."""
    data = b"word " * 100
    (tmp_path / "a.txt").write_bytes(data)

    with pytest.raises(LoadError, match="larger than") as size:
        read_file(tmp_path / "a.txt", 499)
    with pytest.raises(LoadError, match="more than 499 characters") as length:
        read("a.txt", data, replace(DEFAULT_OPTIONS, max_text=499))
    assert "ingest.max_file" in size.value.hint
    assert "ingest.max_text" in length.value.hint
    assert len(read("a.txt", data, replace(DEFAULT_OPTIONS, max_text=500))[0].text) == 500


def test_text_is_cut_at_blank_lines():
    """Lists, tables and indented code are told from their shape; offsets are exact."""
    text = "Title\nof two lines\n \n- one\n- two\n\n    code\n      more\n\na | b | c\n1 | 2 | 3\n"
    (document,) = read("my-notes.txt", text.encode())

    expected = [
        ("prose", "Title\nof two lines"),
        ("list", "- one\n- two"),
        ("code", "    code\n      more"),
        ("table", "a | b | c\n1 | 2 | 3"),
    ]
    assert expected == blocks(document)
    assert (document.title, document.shown_title) == ("", "my-notes")
    assert document.media_type == "text/plain"


def test_paragraphs_of_a_part_stay_inside_it():
    """Offsets are those of the whole text."""
    assert [Block(3, 5, "prose"), Block(7, 8, "prose")] == list(paragraphs("ab cd\n\ne f", 2, 8))


def test_a_corpus_gives_one_document_a_line():
    """The `_id` names it; a line without text is represented by its title."""
    rows = [
        {"_id": "d1", "title": "First", "text": "One.\n\nTwo."},
        {"_id": 2, "text": "Three."},
        {"_id": "d3", "title": "Only a title", "text": ""},
        {"_id": "d4", "title": "", "text": " "},
    ]
    data = "\n".join(map(json.dumps, rows)).encode() + b"\n\n"

    documents = read("corpus.jsonl", data)
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
        (['{"question": "x", "answers": ["y"]}'], UnsupportedFile, "unsupported type"),
        (['{"_id": "a", "text": "t"}', '{"_id": "b"}'], LoadError, "line 2 lacks"),
        (['{"_id": "a", "text": "t"}', '{"_id": "a", "text": "u"}'], LoadError, "line 2 repeats"),
        (['{"_id": "a", "text": "t"}', "{"], LoadError, "line 2 is not JSON"),
        (["{}", "{"], LoadError, "line 2 is not JSON"),
        (["[" * 100_000], LoadError, "line 1 is not JSON"),
    ],
)
def test_json_lines_of_another_form_are_refused(lines, error, message):
    """A question set is skipped; the place of a bad line is told."""
    with pytest.raises(LoadError, match=message) as raised:
        read("corpus.jsonl", "\n".join(lines).encode())
    assert error is type(raised.value)


def test_the_name_tells_the_format():
    """By suffix or as a whole, in any case; a fingerprint of the loader goes with it."""
    assert format_of("REPORT.PDF") == "application/pdf"
    assert format_of("README") == "text/plain"
    assert format_of("queries.jsonl") == ""
    assert format_of("docs-1.2.tar.GZ") == "application/x-tar"
    assert format_of("notes.txt.gz") == "application/gzip"
    assert format_of("Makefile") == "text/x-source"
    assert loader_version("a.MD") == f"text/markdown;version={FORMATS['text/markdown'].version}"
    assert loader_version("a.xyz") == ""


def test_no_name_has_two_formats():
    """The table is a function."""
    names = [name for entry in FORMATS.values() for name in entry.names]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (JAPANESE, "ja"),
        (CHINESE, "zh"),
        (RUSSIAN, "ru"),
        (FRENCH, "fr"),
        ("# Urlaub\n\nJeder Mitarbeiter hat 28 Tage Urlaub im Jahr.\n", "de"),
        ("---\nlang: pt-BR\n---\nOi.\n", "pt"),
        ("```\nint main(void) { return 0; }\n```\n", None),
    ],
)
def test_the_language_is_told_by_the_prose(text, language):
    """What a short text declares is believed; code has no language."""
    (document,) = read("a.md", text.encode())

    assert document.metadata.get("language") == language


def test_an_unsupported_name_is_refused():
    """The hint lists what is supported."""
    with pytest.raises(UnsupportedFile, match="unsupported type") as raised:
        read("a.xyz", b"words")
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
NAMES = sorted(name for entry in FORMATS.values() for name in entry.names if name[0] == ".")
TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join)


@given(text=TEXTS)
@pytest.mark.parametrize("suffix", [".txt", ".md", ".html"])
def test_any_text_becomes_a_well_formed_document(suffix, text):
    """Whatever stands in a file, blocks cover the text and nothing unclean is in it."""
    documents, problems = read_all(f"a{suffix}", text.encode("utf-8", "surrogatepass"))

    for error in problems.values():
        assert error.message.startswith(("looks binary", "no text"))
    assert bool(documents) != bool(problems)


@given(data=st.binary(max_size=300), name=st.sampled_from(NAMES))
def test_any_bytes_are_read_or_refused(data, name):
    """Whatever a file holds, each document is well formed and each error has a remedy."""
    documents, problems = read_all("a" + name, data)

    assert all(error.hint for error in problems.values())
    assert documents or problems
