"""Grounding: markers are written by us, and each has a citation that is a slice."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.types import StoredChunk, text_sha256
from rag.grounding.ground import Grounder
from rag.grounding.sentences import SentenceStream
from rag.grounding.verify import CoverageVerifier, inverse_frequency
from rag.markup import parse_markers, plain_text, with_markers
from rag.types import Passage

LEAVE = "Every employee has 28 days of paid leave a year. Unused days expire on 31 March."
PLANS = [("Alpha", 5, 10), ("Beta", 9, 25), ("Gamma", 14, 80), ("Delta", 21, 300)]
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


def test_a_row_is_quoted_alone_with_its_header() -> None:
    """Of a long table only the row is cited; the header comes from the passage or from above it."""
    rows = [f"| Plan {name} | {price} euros | {seats} |" for name, price, seats in PLANS]
    header = "| Plan | Price | Seats |"
    whole = passage(1, "\n".join([header, "|---|---|---|", *rows]), 50)
    continued = passage(2, "\n".join(rows), 500)
    continued = replace(continued, chunk=replace(continued.chunk, header=header))

    for shown in (whole, continued):
        ground = Grounder([shown], CoverageVerifier(inverse_frequency({}, 10)))
        ground.add("The price of plan Gamma is 14 euros.")

        (citation,) = ground.citations
        assert (citation.quote, citation.header) == (rows[2], header)


def test_a_list_item_is_quoted_alone() -> None:
    """Of a long list only the item is cited."""
    items = [f"- Plan {name} costs {price} euros for {seats} seats" for name, price, seats in PLANS]
    ground = Grounder(
        [passage(1, "\n".join(items), 0)], CoverageVerifier(inverse_frequency({}, 10))
    )

    ground.add("Plan Gamma costs 14 euros.")

    assert [citation.quote for citation in ground.citations] == [items[2]]


def test_a_sentence_over_a_page_break_is_cited_on_both_pages() -> None:
    """Its halves are in two passages, for a chunk ends where its page does."""
    begins = passage(1, "The deposit is refunded in full when the tenant returns", 0)
    ends = passage(2, "the keys, the parking card and a signed protocol.", 60)
    ends = replace(ends, chunk=replace(ends.chunk, source="1.md", page=4))
    ground = Grounder([begins, ends], CoverageVerifier(inverse_frequency({}, 10)))

    ground.add("The deposit is refunded when the tenant returns keys, parking card and protocol.")

    (sentence,) = ground.sentences
    assert sentence.support == "supported"
    assert [(c.page, c.quote) for c in ground.citations] == [
        (3, begins.chunk.text),
        (4, ends.chunk.text),
    ]


def test_what_a_judge_finds_supported_is_cited() -> None:
    """Other words for the same are cited by the nearest words."""

    class Agreeing:
        def score(self, claim: str, evidence: Sequence[str]) -> float:
            return 1.0

    verifier = CoverageVerifier(inverse_frequency({}, 10), Agreeing())
    ground = Grounder(PASSAGES, verifier)

    ground.add("Staff may stay at home for 28 days without losing their wages.")

    assert [sentence.support for sentence in ground.sentences] == ["supported"]
    assert [citation.source for citation in ground.citations] == ["1.md"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("每位员工有28天年假。未使用的年假会到期！还有问题吗？", 3),
        ("لكل موظف 28 يوم إجازة. هل هذا صحيح؟ نعم.", 3),
        ("Der Vertrag gilt z. B. am 3. Mai. Er endet am 31.12.2025.", 2),
    ],
    ids=["Chinese", "Arabic", "German"],
)
def test_answers_in_other_languages_are_cut_into_sentences(text: str, count: int) -> None:
    """Each script's own stops end a sentence, as the text arrives."""
    stream = SentenceStream()

    pieces = [piece for character in text for piece in stream.feed(character)]

    assert len([*pieces, *stream.finish()]) == count


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
        ('Text\n[a]: http://x.test "Title"', "Text\n"),
        ("[Note]: the limit is 5 days.", "[Note]: the limit is 5 days."),
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
