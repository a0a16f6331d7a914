"""Grounding: markers are written by us, and each has a citation that is a slice."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.types import StoredChunk, text_sha256
from rag.ground import Grounder
from rag.markup import parse_markers, plain_text, with_markers
from rag.stream import SentenceStream
from rag.types import Passage
from rag.verify import CoverageVerifier, inverse_frequency

LEAVE = "Every employee has 28 days of paid leave a year. Unused days expire on 31 March."
PUMP = "The pump moves 1,200 litres of water an hour. It weighs 2.5 kg."


def passage(number: int, text: str, start: int) -> Passage:
    chunk = StoredChunk(number, f"{number}.md", "", start, start + len(text), text, 3, "S", number)
    return Passage(number, chunk, 0.5, 0.5, number, None)


PASSAGES = (passage(1, LEAVE, 100), passage(2, PUMP, 40))


def grounder() -> Grounder:
    return Grounder(PASSAGES, CoverageVerifier(inverse_frequency({}, 10)))


def test_a_right_marker_is_kept() -> None:
    """The model pointed at the right passage: nothing was repaired."""
    ground = grounder()

    ground.add("The pump moves 1,200 litres of water an hour [2].")

    (citation,) = ground.citations
    assert (citation.source, citation.repaired, citation.page) == ("2.md", False, 3)
    assert ground.answer == "The pump moves 1,200 litres of water an hour [1]."


def test_a_wrong_marker_is_repaired() -> None:
    """The words stand in another passage: that one is cited, and it is said."""
    ground = grounder()

    ground.add("The pump moves 1,200 litres of water an hour [1].")

    (citation,) = ground.citations
    assert (citation.source, citation.repaired) == ("2.md", True)


@pytest.mark.parametrize("marker", ["[1]", "[99]", "[1, 2]", "【1】"])
def test_a_marker_on_an_invention_is_dropped(marker: str) -> None:
    """A citation cannot make an invented sentence look checked."""
    ground = grounder()

    sentence, new = ground.add(f"The director owns a yacht in Monaco {marker}.") or (None, None)

    assert (sentence.support, sentence.citations, new) == ("unsupported", (), ())
    assert "[" not in ground.answer
    assert ground.citations == ()


def test_quotes_are_tight_slices() -> None:
    """The quote is the one sentence that carries the claim, at its place in the document."""
    ground = grounder()

    ground.add("Unused days expire on 31 March.")

    (citation,) = ground.citations
    start = 100 + LEAVE.index("Unused")
    assert (citation.start, citation.end) == (start, 100 + len(LEAVE))
    assert citation.quote == LEAVE[start - 100 :]
    assert citation.sha256 == text_sha256(citation.quote)


def test_one_quote_keeps_one_number() -> None:
    """Citations are numbered by first use and never listed twice."""
    ground = grounder()

    for text in ("Unused days expire on 31 March.", " It weighs 2.5 kg.", " Unused days expire."):
        ground.add(text)

    assert [s.citations for s in ground.sentences] == [(1,), (2,), (1,)]
    assert [c.number for c in ground.citations] == [1, 2]


@given(
    st.lists(
        st.sampled_from(
            [
                "Every employee has 28 days of paid leave [1].",
                "\n\n- Unused days expire on 31 March [2, 7]",
                " The pump moves 1,200 litres an hour.",
                " A yacht waits in Monaco [1].",
                "\n```\ncode [1]\n```\n",
                " Yes.",
                " [1]",
            ]
        )
        | st.text(max_size=60),
        max_size=8,
    )
)
def test_answer_sentences_and_citations_always_agree(pieces: list[str]) -> None:
    """Offsets are exact, each citation has a marker, and each quote is its passage's text."""
    ground = grounder()
    for piece in pieces:
        ground.add(piece)

    used = {number for sentence in ground.sentences for number in sentence.citations}
    assert all(ground.answer[s.start : s.end] == s.text for s in ground.sentences)
    assert used == {c.number for c in ground.citations}
    assert [c.number for c in ground.citations] == list(range(1, len(ground.citations) + 1))
    texts = {p.chunk.source: p.chunk for p in PASSAGES}
    for c in ground.citations:
        chunk = texts[c.source]
        assert chunk.text[c.start - chunk.start : c.end - chunk.start] == c.quote
    for sentence in ground.sentences:
        assert all(f"[{number}]" in sentence.text for number in sentence.citations)


@given(st.text(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_sentences_do_not_depend_on_the_cut(text: str, cuts: list[int]) -> None:
    """A text fed in any pieces gives the same sentences, and nothing is lost."""
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]

    def split(parts: list[str]) -> list[str]:
        stream = SentenceStream()
        return [piece for part in parts for piece in stream.feed(part)] + stream.finish()

    parts = [text[a:b] for a, b in itertools.pairwise(borders)]

    assert split(parts) == split([text])


def test_reasoning_is_never_part_of_the_answer() -> None:
    """What stands in think tags is dropped, though the tags come in pieces."""
    stream = SentenceStream()

    pieces = [p for part in ("<thi", "nk>secret</th", "ink>Right. ") for p in stream.feed(part)]

    assert "".join(pieces + stream.finish()).strip() == "Right."


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("See [the site](http://x.test/?q=1).", "See the site."),
        ("![tracking](http://x.test/p.png) Done.", "tracking Done."),
        ("A\u202eB\u200bC\x1b[31m", "ABC[31m"),
        ("<img src=x onerror=alert(1)>Text", "Text"),
    ],
)
def test_model_text_is_made_plain(text: str, plain: str) -> None:
    """Links, images, elements and hidden characters do not survive."""
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("So [1].", (1,)), ("So [1][3].", (1, 3)), ("So [1, 2].", (1, 2)), ("In (2020).", ())],
)
def test_markers_are_read_and_removed(text: str, numbers: tuple[int, ...]) -> None:
    """All usual forms are understood; numbers in round brackets are prose."""
    stripped, found = parse_markers(text)

    assert found == numbers
    assert "[" not in stripped


def test_markers_stand_before_the_final_stop() -> None:
    """The form that readers know: words, marker, full stop."""
    assert with_markers("So it is.", [1, 2]) == "So it is [1][2]."
    assert with_markers("no stop", [1]) == "no stop [1]"
