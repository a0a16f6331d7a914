"""Extractive answers: the documents' own best sentences, each as it reads alone."""

from dataclasses import replace

import numpy as np
import pytest

from ingest.config import DEFAULT_MODEL
from ingest.minilm import MiniLM
from ingest.types import StoredChunk
from rag.extractive.asked import Asked, analyse
from rag.extractive.extract import MOST_SHOWN, ScoredSentence, extract, rank_sentences, subject
from rag.grounding.verify import inverse_frequency
from rag.types import Passage

MODEL = MiniLM()
LEAVE = (
    "# Annual leave\n\nEvery employee has 28 days of paid leave a year. "
    "Unused days expire on 31 March. Who has questions asks the office?"
)
PUMP = "The pump P-200 was built by Anna Berg in Bremen in 1998. It moves 40 litres a minute."
STEPS = "Set the time limit as follows:\n\n```\nclient.get(url, timeout=10)\n```\n\nMore text."
CODES = (
    "| Code | Meaning | What to do |\n| --- | --- | --- |\n"
    "| F-11 | inlet blocked | rinse it |\n| F-12 | no water | open the tap |"
)


def passage(number: int, text: str, section: str = "", start: int = 0) -> Passage:
    chunk = StoredChunk(
        number, f"{number}.md", "", start, start + len(text), text, None, section, number
    )
    return Passage(number, chunk, 0.5, 0.5, number, None)


def asked(question: str) -> Asked:
    return analyse(question, inverse_frequency({}, 10))


def ranked(question: str, *passages: Passage) -> list[ScoredSentence]:
    vector = MODEL.embed_query(question)
    return rank_sentences(asked(question), vector, passages, MODEL.embed_documents)


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


@pytest.mark.parametrize(
    ("language", "model", "expected"),
    [
        ("en", DEFAULT_MODEL, "close"),
        ("", DEFAULT_MODEL, "close"),
        ("de", DEFAULT_MODEL, "words"),
        ("de", "a-model-of-many-languages", "close"),
    ],
)
def test_words_count_more_where_the_model_has_not_read_the_language(
    language: str, model: str, expected: str
) -> None:
    """A sentence close in meaning wins over one that shares words, but where vectors say little."""
    texts = {"close": "Der Vorstand tagt im Herbst.", "words": "Die Pumpe steht in Bremen."}
    passages = [passage(number, text) for number, text in enumerate(texts.values(), 1)]
    passages = [replace(p, chunk=replace(p.chunk, language=language)) for p in passages]
    vectors = {texts["close"]: [0.9, 0.1], texts["words"]: [0.3, 0.1]}

    best = rank_sentences(
        asked("Pumpe Druck Halle Wartung"),
        np.array([1, 0], np.float32),
        passages,
        lambda shown: np.array([vectors[text] for text in shown], np.float32),
        model,
    )[0]

    assert best.text == texts[expected]


@pytest.mark.parametrize(
    "text",
    [
        "Hints for guests\n\nThe flat costs guests 48 euros a night.",
        "Rates for guests in euros\nRoom | Rate | Cleaning\nFlat | 48 euros for guests | 35",
    ],
    ids=["title", "caption"],
)
def test_a_title_or_caption_is_no_answer(text: str) -> None:
    """What names a text or a table states nothing by itself."""
    (only,) = ranked("What do guests pay?", passage(1, text))

    assert "48 euros" in only.text


def test_a_sentence_about_another_year_steps_back() -> None:
    """Of two that are nearly as good, the one for the year that is asked about comes first."""
    slide = "In 2024 there were 11 accidents, 6 of them on stairs."
    table = "Place | 2023 | 2024\nStairs | 4 | 6\nGalley | 5 | 3"
    question = "How many accidents happened on the stairs in 2023?"

    best = ranked(question, passage(1, slide, "Accidents on stairs"), passage(2, table))

    assert [best[0].text, best[1].text] == ["Stairs | 4 | 6", slide]


MANUAL = (
    "# Ship\n\n## Man overboard\n\n1. Throw a lifebuoy.\n2. Shout and point.\n"
    "3. Sound the horn, for three long blasts.\n\nTell the office afterwards."
)


def test_a_list_answers_with_its_heading() -> None:
    """A question for what a heading names gets the list below it, and none of its items again."""
    found = ranked("What are the steps for man overboard?", passage(1, MANUAL, "Man overboard"))

    (shown,) = extract(found)

    assert shown.text.startswith("## Man overboard")
    assert shown.shown.startswith("Man overboard\n\n1. Throw")
    assert shown.text.endswith("three long blasts.")


def test_an_item_answers_for_itself() -> None:
    """A question for one item of a list gets that item, and not the whole list beside it."""
    found = ranked("For how many blasts is the horn sounded?", passage(1, MANUAL, "Man overboard"))

    assert [s.text for s in extract(found)] == ["3. Sound the horn, for three long blasts."]


def test_a_footnote_reads_without_its_mark() -> None:
    """The words of a footnote are shown, and its mark is not."""
    note = "[^1]: Exceptions need the signature of the director."

    best = ranked("Whose signature do exceptions need?", passage(1, note))[0]

    assert (best.text, best.shown) == (note, note.removeprefix("[^1]: "))


@pytest.mark.parametrize(
    ("question", "holds", "lacks"),
    [
        ("What was Anna Berg's salary?", "She had 4,100 a month.", "She had 3 children."),
        ("Wie hoch ist die Miete?", "Sie beträgt 900 Euro.", "Es hat 90 Zimmer."),
        ("What is the torque of the screws?", "Tighten to 1.8 Nm.", "5 New screws."),
        ("What is the power consumption?", "It draws 40 W.", "It has 40 outlets."),
        ("How heavy is it?", "It weighs 19.9 kg.", "It has 19 parts."),
        ("How many square metres does it have?", "About 80 m².", "It costs 1,150 pounds."),
        ("How far does the radio reach?", "110 m in buildings.", "For 110 loggers."),
        ("At what temperature does it start?", "Below 4 °C.", "After 4 minutes."),
        ("What percentage is recycled?", "Of it 20 percent.", "20 pieces."),
    ],
)
def test_an_amount_needs_the_unit_that_is_asked_for(question: str, holds: str, lacks: str) -> None:
    """A number of something else is no answer to a question for a price or a measure."""
    assert asked(question).measured
    assert (asked(question).type_match(holds), asked(question).type_match(lacks)) == (1.0, 0.0)


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


def test_further_sentences_are_shown_only_if_they_are_nearly_as_good() -> None:
    """One clear answer stands alone; a repetition is not shown twice; three are the most."""
    sentences = ranked("Who built the pump P-200?", passage(1, LEAVE), passage(2, PUMP))
    twice = ranked("Who built the pump P-200?", passage(1, PUMP), passage(2, PUMP))
    many = ranked("day", passage(1, " ".join(f"This is day number {n}." for n in range(9))))

    assert len(extract(sentences)) == 1
    texts = [s.text for s in extract(twice)]
    assert len(texts) == len(set(texts))
    assert len(extract(many)) == MOST_SHOWN
    assert extract([]) == ()


def test_a_row_of_a_table_is_whole_and_names_its_columns() -> None:
    """The row that is asked for is shown alone, its quote as the document has it."""
    shown = extract(ranked("What does F-12 of the pump mean?", passage(1, CODES, start=3)))

    assert [s.shown for s in shown] == [
        "Code F-12 \u2013 Meaning: no water; What to do: open the tap"
    ]
    assert shown[0].text == "| F-12 | no water | open the tap |"
    assert shown[0].header == "Code | Meaning | What to do"


def test_a_heading_is_named_where_it_says_what_the_sentence_leaves_out() -> None:
    """The subject comes from the section or the title; a sentence that has it stands alone."""
    question = "How much water does the pump P-200 move?"
    below = ranked(question, passage(1, "It moves 40 litres a minute.", section="Pump P-200"))[0]
    alone = ranked(question, passage(1, "The pump P-200 moves much water.", section="Pump P-200"))

    assert subject(asked(question), below) == "Pump P-200"
    assert subject(asked(question), alone[0]) == ""


def test_list_marks_and_bold_type_are_left_out() -> None:
    """A list item reads as a sentence; the quote is still the document's."""
    best = ranked("How is the pump cleaned?", passage(1, "- Clean the **pump** with water."))[0]

    assert best.shown == "Clean the pump with water."
    assert best.text == "- Clean the **pump** with water."
