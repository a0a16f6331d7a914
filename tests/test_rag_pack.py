"""Packing: within the room, slices of the documents, the answer before what surrounds it."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.tokens import count_tokens
from ingest.types import StoredChunk
from rag.pack import pack
from rag.types import Passage

ASIDE = "The weather was fair on most days of that long and quiet summer."
ANSWER = "The ferry to Norholm leaves at seven."
ROW = "Sandvik by the long way round the cape"
QUESTION = "When does the ferry to Norholm leave?"


def passage(text: str, score: float = 0.5, **chunk: object) -> Passage:
    fields = {"source": "a.md", "title": "A", "start": 0, "section": "", **chunk}
    start = int(str(fields["start"]))
    stored = StoredChunk(
        id=len(text), end=start + len(text), text=text, page=None, vector_id=1, **fields
    )
    return Passage(1, stored, score, score, 1, None)


def cost(piece: Passage) -> int:
    return count_tokens(f"{piece.chunk.context}\n{piece.chunk.text}")


def packed(passages: Sequence[Passage], room: int, question: str = QUESTION) -> tuple[Passage, ...]:
    """What is shown where every term weighs the same."""
    return pack(question, passages, lambda term: 1.0, room, cost)


def texts(passages: Sequence[Passage]) -> list[str]:
    return [piece.chunk.text for piece in passages]


def test_what_fits_stays_whole() -> None:
    """Nothing is trimmed for its own sake, not even what has nothing to do with the question."""
    passages = [passage(f"{ASIDE} {ANSWER}"), passage(ASIDE, 0.1)]

    assert packed(passages, 1000) == tuple(passages)


def test_the_answering_sentence_is_shown_first() -> None:
    """Where little fits, it is the sentence with the question's words."""
    text = f"{ASIDE} {ASIDE} {ANSWER} {ASIDE}"

    assert texts(packed([passage(text)], 14)) == [ANSWER]


def test_a_better_passage_is_worth_more() -> None:
    """Of two equal sentences under different headings, that of the better passage is kept."""
    worse, better = passage(ANSWER, 0.3, title="B"), passage(ANSWER, 0.6, title="C")

    assert [p.chunk.title for p in packed([better, worse], cost(better))] == ["C"]


def test_a_run_grows_to_its_neighbours() -> None:
    """One run of sentences is shown of a passage: no gap stands between what is quoted."""
    text = f"{ASIDE} The ferry is red. It leaves the quay. {ANSWER} {ASIDE}"

    (shown,) = packed([passage(text)], 28)

    assert shown.chunk.text in text
    assert shown.chunk.text.startswith("The ferry is red.")
    assert shown.chunk.text.endswith(ANSWER)


def test_what_is_shown_has_its_place_in_the_document() -> None:
    """Offsets move with the text, so that a citation still slices the document."""
    document = f"{ASIDE}\n\n{ASIDE} {ANSWER} {ASIDE}"
    start = len(ASIDE) + 2

    (shown,) = packed([passage(document[start:], start=start)], 14)

    assert document[shown.chunk.start : shown.chunk.end] == shown.chunk.text == ANSWER


def test_nothing_is_said_twice() -> None:
    """A sentence that a better passage has, below the same headings, takes no room again."""
    again = passage(f"{ANSWER.upper()} The crossing takes one hour.", 0.4)

    shown = packed([passage(ANSWER), again], cost(passage(ANSWER)) + cost(again) - 1)

    assert texts(shown) == [ANSWER, "The crossing takes one hour."]


def test_a_heading_is_not_shown_instead_of_its_text() -> None:
    """It stands above the passage already, and says nothing by itself."""
    headed = passage(f"## Norholm ferry\n\n{ASIDE}", section="Norholm ferry")

    assert texts(packed([headed], cost(headed) - 4)) == [ASIDE]


def test_the_same_words_of_another_version_are_kept() -> None:
    """Below another heading the same sentence says something else."""
    old = passage(f"{ANSWER} {ASIDE}", 0.4, title="Timetable 2024")
    new = passage(f"{ANSWER} {ASIDE}", title="Timetable 2025")

    shown = packed([new, old], 2 * cost(passage(ANSWER, title="Timetable 2025")))

    assert texts(shown) == [ANSWER, ANSWER]


@pytest.mark.parametrize(
    ("table", "header"),
    [
        (
            "| Route | Hour |\n|---|---|\n| Sandvik | 9 |\n| Ferry Norholm | 7 |",
            "| Route | Hour |\n|---|---|",
        ),
        (
            "\n".join(["Route | Hour", *[f"{ROW} | 9"] * 14, "Norholm ferry | 7"]),
            "Route | Hour",
        ),
    ],
    ids=["markdown", "plain"],
)
def test_a_row_keeps_its_header(table: str, header: str) -> None:
    """A row without the names of its columns says nothing."""
    (shown,) = packed([passage(f"{ASIDE}\n\n{table}\n\n{ASIDE}")], 20)

    assert "7" in shown.chunk.text
    assert "Sandvik" not in shown.chunk.text
    assert shown.chunk.header == header


def test_a_table_that_goes_on_keeps_the_header_it_came_with() -> None:
    """The first row of a chunk that goes on with a table is no header."""
    rows = "| Sandvik | 9 |\n| Ferry Norholm | 7 |"

    (shown,) = packed([passage(rows, header="| Route | Hour |")], 16)

    assert (shown.chunk.text, shown.chunk.header) == ("| Ferry Norholm | 7 |", "| Route | Hour |")


def test_where_no_sentence_fits_nothing_is_shown() -> None:
    """A sentence is never cut."""
    assert packed([passage(ANSWER)], 3) == ()


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from([ASIDE, ANSWER, "No.", "Why?\n\n"])), st.floats(0, 1)),
        max_size=6,
    ),
    st.integers(0, 200),
)
@settings(max_examples=80, deadline=None)
def test_packing_never_overflows_and_only_slices(
    contents: list[tuple[list[str], float]], room: int
) -> None:
    """Whatever there is: it fits, in order, and each piece is a slice of its passage."""
    passages = [passage(" ".join(sentences), score) for sentences, score in contents]

    shown = packed(passages, room)

    assert sum(map(cost, shown)) <= max(room, 0)
    originals = iter(passages)
    for piece in shown:
        chunk = piece.chunk
        assert any(chunk.text == p.chunk.text[chunk.start : chunk.end] for p in originals)
