"""JSON and JSON lines: objects become sections, lists of alike objects become tables."""

import json
from dataclasses import replace

import pytest
from documents import blocks, headers, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError, UnsupportedFile
from ingest.load import DEFAULT_OPTIONS
from ingest.types import Document


def read_value(value: object) -> Document:
    (document,) = read("a.json", json.dumps(value).encode())
    return document


def outline(document: Document) -> list[tuple[int, str]]:
    return [(block.level, block.label) for block in document.blocks if block.kind == "heading"]


def test_an_object_becomes_lines_and_sections():
    """What fits on a line comes first, because a heading goes on until the next one."""
    document = read_value(
        {
            "title": "Orders",
            "address": {"city": "Bonn", "geo": {"lat": "50.7"}},
            "open": True,
            "note": None,
            "tags": ["new", "paid"],
            "empty": {},
        }
    )

    expected = [
        ("list", "title: Orders\nopen: true\ntags: new, paid"),
        ("heading", "address"),
        ("list", "city: Bonn"),
        ("heading", "geo"),
        ("list", "lat: 50.7"),
    ]
    assert expected == blocks(document)
    assert outline(document) == [(1, "address"), (2, "geo")]
    assert (document.title, document.media_type) == ("Orders", "application/json")


def test_alike_objects_become_a_table():
    """Columns are all their keys in the order met; a missing value is an empty cell."""
    document = read_value({"rows": [{"a": 1, "b": "x"}, {"b": "y\nz", "c": [1, 2]}, {"a": 3}]})

    assert blocks(document)[1] == ("table", "a | b | c\n1 | x\n | y z | 1, 2\n3")
    assert headers(document) == ["a | b | c"]


def test_rows_without_names_become_a_table_without_header():
    """A list of lists has no names to show."""
    document = read_value([[1, 2], [3, 4]])

    assert blocks(document) == [("table", "1 | 2\n3 | 4")]
    assert headers(document) == [""]


@pytest.mark.parametrize(
    "items",
    [
        [{"name": "Ann", "in": {"city": "Bonn"}}, {"in": {"city": "Rome"}}],
        [{"name": "Ann", "text": "word " * 80}, {"text": "word " * 80}],
        [{"name": "Ann", "a": 1, "b": 2}, {"c": 1}, {"d": 1}, {"e": 1}],
    ],
)
def test_other_lists_become_a_section_an_item(items):
    """Those that hold more, long texts, or differ; each is named by itself or by its number."""
    document = read_value({"people": items})

    assert [o for o in outline(document) if o[1] != "in"][:3] == [
        (1, "people"),
        (2, "Ann"),
        (2, "2"),
    ]


def test_long_strings_are_paragraphs():
    """Their line breaks stay; a list of long ones is a list of items."""
    document = read_value({"text": "One. " * 50 + "\n\nTwo.", "all": ["word " * 30] * 2})

    kinds = [kind for kind, _ in blocks(document)]
    assert kinds == ["prose", "prose", "heading", "list"]
    assert document.text.startswith("text: One. One.")


def test_headings_below_the_sixth_level_show_the_keys_that_lead_there():
    """There are six levels of headings, and no limit to those of JSON."""
    value: object = "end"
    for key in "hgfedcba":
        value = {key: value}

    assert outline(read_value(value))[5:] == [(6, "f"), (6, "f.g")]


def test_numbers_stay_as_they_are_written():
    """1.10 is a price, and an integer of any length is read."""
    long_number = "9" * 5_000
    (document,) = read("a.json", f'{{"price": 1.10, "e": 1E400, "n": {long_number}}}'.encode())

    assert document.text == f"price: 1.10\ne: 1E400\n\nn: {long_number}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1,\n "b": [1,,2]}', r"not JSON: .* \(line 2, column 10\)"),
        (b"{'a': 1}", r"\(line 1, column 2\)"),
        (b'{"a": "x', "Unterminated string"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "nested too deeply"),
        (b" \n", "no text"),
        (b"null", "no text"),
        (b'{"a": [], "b": {}, "c": ""}', "no text"),
    ],
)
def test_what_cannot_be_read_is_told(data, message):
    """With the place of the mistake, and without exhausting the stack."""
    with pytest.raises(LoadError, match=message) as error:
        read("a.json", data)
    assert error.value.hint


def test_raw_control_characters_and_other_encodings_are_read():
    """A raw line break in a string is no mistake worth losing the file for."""
    assert read("a.json", '{"a": "x\u2028y\tz"}'.encode())[0].text == "a: x\ny\tz"
    assert read("a.json", '{"ä": 1}'.encode("utf-16"))[0].text == "ä: 1"


def test_text_beyond_the_limit_is_stopped_early():
    """The error names the setting."""
    with pytest.raises(LoadError, match="more than 99 characters"):
        read("a.json", json.dumps(["word"] * 100).encode(), replace(DEFAULT_OPTIONS, max_text=99))


def lines(*rows: object) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode() + b"\n"


def test_json_lines_of_alike_rows_become_one_table():
    """As a list of the rows would."""
    (document,) = read("a.ndjson", lines({"a": 1, "b": 2}, {"a": 3, "b": 4}))

    assert blocks(document) == [("table", "a | b\n1 | 2\n3 | 4")]
    assert (document.source, document.media_type) == ("a.ndjson", "application/jsonl")


def test_other_json_lines_become_sections():
    """One a line, named by itself or by its number."""
    (document,) = read("a.jsonl", lines({"name": "Ann", "in": {"x": 1}}, {"in": {"x": 2}}))

    assert outline(document) == [(1, "Ann"), (2, "in"), (1, "2"), (2, "in")]


@pytest.mark.parametrize("field", ["answers", "evidence", "answerable"])
def test_a_question_set_is_skipped(field):
    """It would be found as the answer to itself."""
    with pytest.raises(UnsupportedFile, match="question set"):
        read("questions.jsonl", lines({"id": 1, "question": "Who?", field: []}))


def test_a_corpus_is_read_line_by_line():
    """Documents come before a later line is looked at; what is wrong there is still told."""
    rows = lines({"_id": "a", "text": "One."}, {"_id": 7, "title": "Two", "text": ""}, {"x": 1})
    documents, problems = read_all("corpus.jsonl", rows)

    assert [(d.source, d.text) for d in documents] == [("a", "One."), ("7", "Two")]
    assert "line 3 lacks" in problems["corpus.jsonl"].message


def test_a_line_ends_only_at_a_line_feed():
    """Other line breaks may stand raw inside a JSON string; a byte order mark is no JSON."""
    text = '{"_id": "a", "text": "x\u2028y\x85z"}\n{"_id": "b", "text": "é"}\n'

    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        documents = read("corpus.jsonl", text.encode(encoding))
        assert [document.text for document in documents] == ["x\ny\nz", "é"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(value=VALUES)
def test_any_value_becomes_a_well_formed_document(value):
    """Whatever JSON holds, it is readable or without text."""
    documents, problems = read_all("a.json", json.dumps(value).encode())

    assert bool(documents) != bool(problems)
    assert all(error.message == "no text" for error in problems.values())
