"""The verifier: words, numbers and names that the passages hold, and those they do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.types import StoredChunk
from rag.numbers import missing_number
from rag.types import Passage
from rag.verify import CoverageVerifier, claims_nothing, inverse_frequency

POLICY = (
    "Every employee has 28 days of paid leave a year. Unused days expire on 31 March. "
    "The rule was signed by Anna Berg in 2021."
)
PUMP = "The pump moves 1,200 litres of water an hour. It weighs 2.5 kg."


def passage(text: str, number: int = 1) -> Passage:
    chunk = StoredChunk(number, f"{number}.md", "", 0, len(text), text, None, "", number)
    return Passage(number, chunk, 0.5, 0.5, number, None)


PASSAGES = (passage(POLICY), passage(PUMP, 2))
VERIFIER = CoverageVerifier(inverse_frequency({}, 10))


@pytest.mark.parametrize(
    ("sentence", "support"),
    [
        ("Every employee has 28 days of paid leave.", "supported"),
        ("The pump moves 1200 litres of water an hour.", "supported"),
        ("Every employee has 35 days of paid leave.", "unsupported"),
        ("The moon consists of green cheese from Alsace.", "unsupported"),
        ("The rule was signed by Anna Berg.", "supported"),
        ("Yes.", "not_checked"),
        ("The passages do not mention it.", "not_checked"),
    ],
)
def test_support_follows_the_passages(sentence: str, support: str) -> None:
    """A sentence is judged by the words and numbers that stand together in a passage."""
    assert VERIFIER.check(sentence, PASSAGES).support == support


def test_a_name_that_no_passage_has_lowers_support() -> None:
    """Other words alike, a foreign name costs one step and is named as the reason."""
    verdict = VERIFIER.check("The rule was signed in 2021 by Zacharias.", PASSAGES)

    assert verdict.support != "supported"
    assert "Zacharias" in (verdict.reason or "")


def test_a_wrong_number_is_named() -> None:
    """The reason says which number is not there."""
    verdict = VERIFIER.check("Every employee has 35 days of paid leave.", PASSAGES)

    assert "35" in (verdict.reason or "")


def test_two_passages_can_support_one_sentence() -> None:
    """A statement that joins two places has two windows."""
    joined = "Employees have 28 days of paid leave, and the pump moves 1,200 litres of water."

    verdict = VERIFIER.check(joined, PASSAGES)

    assert verdict.support == "supported"
    assert {window.passage for window in verdict.windows} == {0, 1}


def test_without_passages_nothing_is_supported() -> None:
    """No evidence supports nothing."""
    assert VERIFIER.check("Every employee has 28 days of leave.", ()).support == "unsupported"


@given(st.text(max_size=120), st.lists(st.text(max_size=200), max_size=4))
def test_any_text_is_scored_in_range(claim: str, texts: list[str]) -> None:
    """Whatever comes, the score is a share, and the same twice."""
    score = VERIFIER.score(claim, texts)

    assert 0 <= score <= 1
    assert score == VERIFIER.score(claim, texts)


@given(st.text(min_size=1, max_size=120))
def test_a_text_supports_itself(text: str) -> None:
    """A claim copied from its source is never unsupported."""
    assert VERIFIER.check(text, [passage(text)]).support in ("supported", "not_checked")


@pytest.mark.parametrize(
    ("claim", "source", "missing"),
    [
        ("It costs $1,204.", "The price is 1204 dollars.", None),
        ("About 1.2 million people.", "1,213,000 people.", None),
        ("It rose by 5%.", "It rose five percent.", None),
        ("Two of them.", "2 of them.", None),
        ("Version 2.3.1 is out.", "Version 2.3.2 is out.", "2.3.1"),
        ("It has 7 doors.", "It has 8 doors.", "7"),
        ("4. Press the button.", "Press the button.", "4"),
    ],
)
def test_numbers_are_compared_by_value(claim: str, source: str, missing: str | None) -> None:
    """Formats, words and roundings of one number are equal; another number is not."""
    assert missing_number(claim, [source]) == missing


def test_a_list_marker_is_no_claimed_number() -> None:
    """The verifier reads past the marker of a list item."""
    verdict = VERIFIER.check("1. Unused days expire on 31 March.", PASSAGES)

    assert verdict.support == "supported"


@pytest.mark.parametrize("text", ["# Heading", "Is it so?", "The steps are:", "I am sorry."])
def test_some_sentences_claim_nothing(text: str) -> None:
    """Headings, questions and announcements need no evidence."""
    assert claims_nothing(text)
