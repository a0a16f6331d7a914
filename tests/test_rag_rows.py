"""Table rows read alone: each cell with the name of its column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.grounding.rows import cells, header_above, is_header, readable

MARKDOWN = "| Code | Meaning |\n| --- | --- |\n| F-1 | **Pump** blocked |\n| F-2 | a \\| b |"
JOINED = "Model | Unit | 1 to 4\nP-100 | litre | €12.00\nP-200 | gallon | €14.00"
PAIRS = "Weight | 12 kg\nVoltage | 230 V"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("| F-1 | **Pump** blocked |", ["F-1", "Pump blocked"]),
        ("| F-2 | a \\| b |", ["F-2", "a | b"]),
        ("P-100 | litre | €12.00", ["P-100", "litre", "€12.00"]),
        ("   blue, fast        call us", ["blue, fast", "call us"]),
        ("| --- | :-: |", []),
        ("A sentence of a text.", ["A sentence of a text."]),
    ],
)
def test_a_line_falls_apart_into_cells(line: str, expected: list[str]) -> None:
    """Markdown's bars, our loaders' bars and wide spaces part cells; a rule has none."""
    assert cells(line) == expected


@given(st.lists(st.text("ab 1-", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=5))
def test_joined_cells_come_apart_again(row: list[str]) -> None:
    """What a loader joins is what is read, save a line of signs alone."""
    line = " | ".join(row)

    assert cells(line) == (row if any(map(str.isalnum, line)) else [])


@pytest.mark.parametrize(
    ("text", "row", "given", "expected"),
    [
        (MARKDOWN, "| F-2", "", (["Code", "Meaning"], True)),
        (JOINED, "P-200", "", (["Model", "Unit", "1 to 4"], True)),
        (PAIRS, "Voltage", "", (["Weight", "12 kg"], False)),
        ("P-300 | pint | €9.00", "P-300", "Table 1\nModel | Unit | 1 to 4", None),
        ("P-300 | pint | €9.00", "P-300", "", ([], False)),
        ("Quarter | Share\nQ1 | .41\nQ2 | .63", "Q2", "", (["Quarter", "Share"], True)),
        ("Ship | Hesta\nCars | 28", "Cars", "", (["Ship", "Hesta"], False)),
    ],
    ids=["ruled", "joined", "pairs", "given", "alone", "values", "one-value"],
)
def test_the_header_is_found_above(text: str, row: str, given: str, expected) -> None:
    """A rule, a loader or a first row without values names the columns; pairs have no names."""
    expected = expected or (["Model", "Unit", "1 to 4"], True)

    assert header_above(text, text.index(row), given) == expected


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [(MARKDOWN, 0, True), (MARKDOWN, 2, False), (JOINED, 0, True), (PAIRS, 0, False)],
)
def test_a_header_is_no_answer(text: str, line: int, expected: bool) -> None:
    """The row that names the columns is told from the others."""
    start = sum(len(above) + 1 for above in text.split("\n")[:line])
    end = start + len(text.split("\n")[line])

    assert is_header(text, start, end) is expected


def test_a_row_reads_with_its_columns() -> None:
    """The first cell is what the others are about; empty cells and unnamed columns are fine."""
    assert readable(["F-1", "blocked"], ["Code", "Meaning"]) == "Code F-1 – Meaning: blocked"
    assert readable(["F-1", "", "call"], ["Code", "Meaning", "Do"]) == "Code F-1 – Do: call"
    assert readable(["blue, fast", "call us"], ()) == "blue, fast – call us"
    assert readable(["a", "b", "c"], ["One"]) == "One a – b; c"
