"""CSV and its kin: the delimiter, the quotes and the header row are told from the text."""

import csv
import io
from dataclasses import replace

import pytest
from documents import blocks, headers, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError, UnsupportedFile
from ingest.load import DEFAULT_OPTIONS


def table(text: str, name: str = "a.csv") -> tuple[list[str], str]:
    """The lines of the one table in a file, and its header."""
    (document,) = read(name, text.encode())
    ((kind, lines),) = blocks(document)
    assert kind == "table"
    return lines.split("\n"), headers(document)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,city\nAnn,Bonn\nBo,Rome\n", ["name | city", "Ann | Bonn", "Bo | Rome"]),
        ("name;price\nA;1,5\nB;2,25\n", ["name | price", "A | 1,5", "B | 2,25"]),
        ("1,5;2,5\n3,5;4,5\n", ["1,5 | 2,5", "3,5 | 4,5"]),
        ("a\tb\nx, y, z\tq\nx; y\tq\n", ["a | b", "x, y, z | q", "x; y | q"]),
        ("a|b\n1|2, 3\n", ["a | b", "1 | 2, 3"]),
        ("sep=;\na;b,c\n1;2\n", ["a | b,c", "1 | 2"]),
        ("word\none, two\nthree\n", ["word", "one, two", "three"]),
        ("a,b\r\n1,2\r\n", ["a | b", "1 | 2"]),
    ],
)
def test_the_delimiter_is_the_one_that_cuts_evenly(text, expected):
    """Commas and semicolons inside cells do not mislead, nor do commas in numbers."""
    assert expected == table(text)[0]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('a,b\n"x, ""y""",2\n', 'x, "y" | 2'),
        ('a,b\n"line\none\n\ntwo",2\n', "line one two | 2"),
        ('a,b\n"say \\"hi, you\\"",2\n', 'say "hi, you" | 2'),
        ('a,b\n"C:\\dir\\",2\n"",3\n', "C:\\dir\\ | 2"),
        ('a,b\n"5 inch,2\n', '"5 inch | 2'),
        ('a,b\n5" pipe,7" pipe\n', '5" pipe | 7" pipe'),
        ("a,b\n1, 2\n", "1 | 2"),
    ],
)
def test_quotes_hold_cells_together_where_they_come_in_pairs(text, row):
    """A cell of several lines becomes one; a lone quote is a character like any other."""
    lines, _ = table(text)

    assert row == lines[1]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("name,born\nAnn,1987\nBo,1990\n", "name | born"),
        ("Ann,1987\nBo,1990\n", ""),
        ("1,2\n3,4\n", ""),
        ("Ann,ann@x.org\nBo,bo@x.org\n", ""),
        ("red,Bonn\nblue,Rome\nred,Paris\n", ""),
        ("country,2019,2020,2021\nDE,1,2,3\n", "country | 2019 | 2020 | 2021"),
        (",name,value\n0,a,5\n1,b,6\n", " | name | value"),
        ("Sales of 2024,,\n\nname,city,sum\nAnn,Bonn,3\n", "Sales of 2024\nname | city | sum"),
        ("only,names\n", ""),
        (f"name,{'word ' * 30}\nx,y\n", ""),
    ],
)
def test_a_header_row_is_told_by_its_names(text, header):
    """Names are short, differ, are no values, and do not return below; titles stand above them."""
    assert header == table(text)[1]


def test_rows_of_any_width_are_kept():
    """A short row ends early, a long one goes on; rows without any text are left out."""
    lines, header = table("a,b,c\n1,2,3\n4\n,,\n\n5,6,7,8\n1,2,3\n")

    assert lines == ["a | b | c", "1 | 2 | 3", "4", "5 | 6 | 7 | 8", "1 | 2 | 3"]
    assert header == "a | b | c"


def test_spreadsheets_unicode_text_is_read():
    """What Excel calls Unicode text is UTF-16 with tabs."""
    (document,) = read("a.tsv", "Stück\tPreis\n1\t2,5 €\n".encode("utf-16"))

    assert document.text == "Stück | Preis\n1 | 2,5 €"
    assert document.media_type == "text/csv"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("questions.csv", "question,answers\nWho?,Ann\n"),
        ("a.csv", "id;Question;evidence\n1;Who?;a.md\n"),
        ("test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
    ],
)
def test_a_question_set_is_skipped(name, text):
    """It would be found as the answer to itself; a list of questions and one answer is not one."""
    with pytest.raises(UnsupportedFile, match="question set"):
        read(name, text.encode())
    assert table("question,answer\nWhen?,At noon.\n")[0][1] == "When? | At noon."


def test_a_large_table_is_read_whole_and_a_larger_one_stopped_early():
    """200,000 rows are one table; beyond `max_text` building ends with the setting's name."""
    rows = "".join(f"{number},name {number},2024-01-02\n" for number in range(200_000))
    (document,) = read("a.csv", ("id,name,date\n" + rows).encode())

    assert document.text.count("\n") == 200_000
    assert headers(document) == ["id | name | date"]
    with pytest.raises(LoadError, match="more than 1,000 characters") as error:
        read("a.csv", rows.encode(), replace(DEFAULT_OPTIONS, max_text=1_000))
    assert "ingest.max_text" in error.value.hint


CELLS = st.text(st.sampled_from('ab ,;\t|"\n\\1é'), max_size=6)


@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=2, max_size=6))
def test_every_word_of_every_cell_is_kept(rows):
    """What a CSV writer wrote is in the text, whatever delimiter it is taken for."""
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    written = "".join("".join(row) for row in rows)

    documents, _ = read_all("a.csv", file.getvalue().encode())

    for letter in "ab1é":
        assert written.count(letter) == sum(d.text.count(letter) for d in documents)
