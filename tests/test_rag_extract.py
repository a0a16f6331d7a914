"""Extractive answers and refusals: the documents' own best sentence, or none."""

import numpy as np
import pytest

from ingest.minilm import MiniLM
from ingest.types import StoredChunk
from rag.abstain import confidence, judge
from rag.extract import extract, rank_sentences
from rag.types import Passage
from rag.verify import inverse_frequency

MODEL = MiniLM()
LEAVE = (
    "# Annual leave\n\nEvery employee has 28 days of paid leave a year. "
    "Unused days expire on 31 March. Who has questions asks the office?"
)
PUMP = "The pump P-200 was built by Anna Berg in Bremen in 1998. It moves 40 litres a minute."
STEPS = "Set the time limit as follows:\n\n```\nclient.get(url, timeout=10)\n```\n\nMore text."


def passage(number: int, text: str, section: str = "", start: int = 0) -> Passage:
    chunk = StoredChunk(
        number, f"{number}.md", "", start, start + len(text), text, None, section, number
    )
    return Passage(number, chunk, 0.5, 0.5, number, None)


def ranked(question: str, *passages: Passage):
    vector = MODEL.embed_query(question)
    idf = inverse_frequency({}, 10)
    return rank_sentences(question, vector, passages, MODEL.embed_documents, idf)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many days of leave does an employee have?", "28 days"),
        ("When do unused days expire?", "31 March"),
        ("Who built the pump P-200?", "Anna Berg"),
        ("How much water does the pump move?", "40 litres"),
    ],
)
def test_the_best_sentence_answers(question: str, expected: str) -> None:
    """Questions of each kind find the sentence that has what they ask for."""
    best = ranked(question, passage(1, LEAVE, start=7), passage(2, PUMP))[0]

    assert expected in best.text
    chunk = best.passage.chunk
    assert chunk.text[best.start - chunk.start : best.end - chunk.start] == best.text


def test_headings_and_questions_answer_nothing() -> None:
    """A heading or a question of the document is never an answer."""
    texts = [s.text for s in ranked("What about annual leave questions?", passage(1, LEAVE))]

    assert texts
    assert not any(text.startswith("#") or text.endswith("?") for text in texts)
    named = passage(1, "Annual leave\n\nEvery employee has 28 days.", section="HR > Annual leave")
    assert "Annual leave" not in [s.text for s in ranked("annual leave", named)]


def test_an_announcement_brings_what_it_announces() -> None:
    """A sentence that ends with a colon is shown with the block below it, or not at all."""
    best = ranked("How do I set the time limit?", passage(1, STEPS))[0]
    alone = ranked("How do I set the limit?", passage(1, "Set the limit as follows:"))

    assert best.text.endswith("timeout=10)\n```")
    assert alone == []


def test_the_second_sentence_is_shown_only_if_it_is_nearly_as_good() -> None:
    """One clear answer stands alone; a repetition is not shown twice."""
    sentences = ranked("Who built the pump P-200?", passage(1, LEAVE), passage(2, PUMP))
    twice = ranked("Who built the pump P-200?", passage(1, PUMP), passage(2, PUMP))

    assert len(extract(sentences)) == 1
    texts = [s.text for s in extract(twice)]
    assert len(texts) == len(set(texts))
    assert extract([]) == ()


def test_confidence_rises_with_both_numbers() -> None:
    """Closer in meaning and more of the words: never less likely, always a probability."""
    grid = np.linspace(0, 1, 11)
    table = np.array([[confidence(c, v) for v in grid] for c in grid])

    assert ((table > 0) & (table < 1)).all()
    assert (np.diff(table, axis=0) > 0).all()
    assert (np.diff(table, axis=1) > 0).all()


def test_refusal_follows_the_topic() -> None:
    """An answered question is answered, a foreign one refused, and nothing found is no answer."""
    answered = judge(ranked("How many days of leave does an employee have?", passage(1, LEAVE)))
    foreign = judge(ranked("Which composer wrote the opera Tosca?", passage(1, LEAVE)))

    assert not answered.abstains
    assert foreign.abstains
    assert judge([]).abstains
    assert judge([]).confidence == 0
