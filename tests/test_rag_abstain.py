"""When to refuse: the probability of an answer, what is missing, and a store's own calibration."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.config import DEFAULT_MODEL
from ingest.errors import StoreMismatch
from ingest.minilm import MiniLM
from ingest.types import StoredChunk
from rag.abstain import (
    CALIBRATION,
    DEFAULT,
    FOREIGN,
    Calibration,
    Judgement,
    Signals,
    judge,
    read_calibration,
    shipped,
    write_calibration,
)
from rag.extractive.asked import analyse
from rag.extractive.extract import rank_sentences
from rag.grounding.verify import inverse_frequency
from rag.types import Passage

MODEL = MiniLM()
LEAVE = "Every employee has 28 days of paid leave a year. Unused days expire on 31 March."
SHARES = st.floats(0, 1)


def judged(question: str, *texts: str, source: str = "rules.md") -> Judgement:
    chunks = [
        StoredChunk(i, f"{i}/{source}", "Rules", 0, len(text), text, None, "", i)
        for i, text in enumerate(texts)
    ]
    passages = [Passage(chunk.id + 1, chunk, 0.5, 0.5, 1, None) for chunk in chunks]
    asked = analyse(question, inverse_frequency({}, 10))
    vector = MODEL.embed_query(question)
    ranked = rank_sentences(asked, vector, passages, MODEL.embed_documents)
    return judge(asked, ranked, passages)


def test_another_calibration_judges_languages_that_the_model_has_not_read() -> None:
    """It goes by the best passage's language; a model of a person's own is trusted with any."""
    chunk = StoredChunk(1, "1.md", "", 0, 6, "Ruhe. ", None, "", 1, language="de")
    german = [Passage(1, chunk, 0.5, 0.5, 1, None)]

    assert shipped(german, DEFAULT_MODEL) == FOREIGN
    assert shipped(german, "own") == shipped([], DEFAULT_MODEL) == DEFAULT


@given(SHARES, SHARES, SHARES, SHARES)
def test_confidence_rises_with_each_signal(cosine, beside, named, margin) -> None:
    """More of anything good is never less likely, and it is always a probability."""
    less = DEFAULT.confidence(Signals(cosine, beside, named, margin))
    more = [
        DEFAULT.confidence(Signals(*np.eye(4)[i] + (cosine, beside, named, margin)))
        for i in range(4)
    ]

    assert 0 < less < 1
    assert all(less < value < 1 for value in more)


def test_refusal_follows_the_topic() -> None:
    """An answered question is answered, a foreign one refused, and nothing found is no answer."""
    answered = judged("How many days of leave does an employee have?", LEAVE)

    assert not answered.abstains
    assert not answered.is_cautious
    assert judged("Which composer wrote the opera Tosca?", LEAVE).abstains
    assert judged("What is it?").abstains
    assert judged("What is it?").confidence == 0


def test_a_year_may_stand_in_the_documents_name() -> None:
    """What the question names counts as found there, as it does in the passage."""
    question = "How many days of leave were there in 2023?"
    named, other = (judged(question, LEAVE, source=f"rules-{year}.md") for year in (2023, 2021))

    assert (named.signals.named, other.signals.named) == (1.0, 0.0)
    assert named.confidence > other.confidence


def test_a_price_is_an_amount_of_money() -> None:
    """A sentence about the very thing that gives no amount counts against an answer."""
    question = "What does the transport pack BP-40 cost?"
    priced = judged(question, "The transport pack BP-40 comes at 38 euros.")
    unpriced = judged(question, "The transport pack BP-40 comes with 38 cells.")

    assert (priced.signals.lacking, unpriced.signals.lacking) == (0, 1)
    assert not priced.abstains
    assert unpriced.abstains


def test_what_no_passage_mentions_is_named() -> None:
    """In the question's own words, in its order, once each; function words are never missing."""
    question = "Is the dental plan, the Dental plan, paid in Bremen?"

    assert judged(question, "The plan is paid.").missing == ("dental", "Dental", "Bremen")
    assert judged(question, "The dental plan is paid in Bremen.").missing == ()


def test_a_calibration_is_kept_by_its_store(tmp_path: Path) -> None:
    """What is written is read again; without any there is none."""
    own = Calibration(-1.5, Signals(1.0, 2.0, 3.0, 0.25), 0.3, 0.5)

    assert read_calibration(tmp_path) is None
    assert write_calibration(tmp_path, own) == tmp_path / CALIBRATION
    assert read_calibration(tmp_path) == own
    assert [path.name for path in tmp_path.iterdir()] == [CALIBRATION]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("-1.5", "-2.5"),
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps({"seal": 2745614147, "calibration": "{}"}),
        lambda text: "\x00",
    ],
    ids=["a-digit", "half", "a-list", "nothing-in-it", "no-json"],
)
def test_a_changed_calibration_is_refused(tmp_path: Path, change) -> None:
    """Damage, and another version's numbers, are said instead of used."""
    path = write_calibration(tmp_path, Calibration(-1.5, Signals(1.0), 0.3, 0.5))
    path.write_text(change(path.read_text()))

    with pytest.raises(StoreMismatch, match=CALIBRATION):
        read_calibration(tmp_path)


def test_a_calibration_holds_numbers_alone(tmp_path: Path) -> None:
    """A weight that is no finite number is refused."""
    write_calibration(tmp_path, Calibration(float("inf"), Signals(1.0), 0.3, 0.5))

    with pytest.raises(StoreMismatch):
        read_calibration(tmp_path)
