"""Documents that disagree: the newer one answers, the older one is named."""

import pytest

from ingest.types import StoredChunk
from rag.extractive.asked import analyse
from rag.extractive.conflicts import find_conflict
from rag.extractive.extract import Marks, ScoredSentence
from rag.types import Passage

OLD = "Claims for meals are paid up to 20 euros a day with form F-2."
NEW = "Claims for meals are paid up to 35 euros a day."


def said(text: str, source: str, title: str, date: str = "") -> ScoredSentence:
    chunk = StoredChunk(1, source, title, 0, len(text), text, None, "", 1, date=date)
    passage = Passage(1, chunk, 0.5, 0.5, 1, None)
    return ScoredSentence(passage, 0, len(text), text, "", frozenset(), Marks(), 1.0)


def found(question: str, *ranked: ScoredSentence):
    return find_conflict(analyse(question, lambda term: 1.0), ranked)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("meals-a.md", "Meals", "2022-05-01"), ("meals-b.md", "Meals", "2024-01")),
        (("meals-2022.md", "Meals policy"), ("meals.md", "Meals policy", "2024")),
        (("a.md", "Meals policy, version 2"), ("b.md", "Meals policy, version 10")),
    ],
    ids=["dates", "year-in-the-name", "versions"],
)
@pytest.mark.parametrize("newer_first", [True, False])
def test_the_newer_document_answers(old, new, newer_first: bool) -> None:
    """By date, by year or by version, whichever ranks first."""
    pair = [said(NEW, *new), said(OLD, *old)]

    conflict = found("How much is paid for meals?", *(pair if newer_first else pair[::-1]))

    assert (conflict.preferred, conflict.other) == tuple(pair)
    assert conflict.reason == "newer"
    assert conflict.warning.index(new[0]) < conflict.warning.index(old[0])


def test_the_version_that_is_asked_for_answers() -> None:
    """A year in the question chooses the older document."""
    old = said(OLD, "meals-2022.md", "Meals", "2022-05-01")
    new = said(NEW, "meals-2024.md", "Meals", "2024-01-01")

    conflict = found("How much was paid for meals in 2022?", new, old)

    assert (conflict.preferred, conflict.reason) == (old, "named")


def test_without_any_date_the_better_rank_answers() -> None:
    """Neither is called newer."""
    one, two = said(NEW, "one.md", "Meals"), said(OLD, "two.md", "Meals")

    conflict = found("How much is paid for meals?", one, two)

    assert (conflict.preferred, conflict.reason) == (one, "first")
    assert "newer" not in conflict.warning


@pytest.mark.parametrize(
    "other",
    [
        said(NEW, "copy.md", "Meals"),
        said(OLD, "new.md", "Meals"),
        said("Claims for hotels are paid up to 90 euros.", "old.md", "Meals"),
        said(OLD.replace("F-2", "F-2 and lamp KL-40"), "old.md", "Rules for trainees"),
    ],
    ids=["same-value", "same-document", "other-thing", "other-document"],
)
def test_what_does_not_contradict(other: ScoredSentence) -> None:
    """A copy, the same document, another subject and another kind of document are no conflict."""
    assert found("How much is paid for meals?", said(NEW, "new.md", "Meals"), other) is None


def test_codes_are_no_values() -> None:
    """Two devices with different values do not contradict each other."""
    one = said("The lamp KL-20 needs 4 watts of power.", "a.md", "Lamps")
    two = said("The lamp KL-40 needs 6 watts of power.", "b.md", "Lamps")

    assert found("How much power does the lamp need?", one, two) is None
