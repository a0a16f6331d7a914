"""The verifier: words, numbers and names that the passages hold, and those they do not."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.types import StoredChunk
from rag.grounding.numbers import missing_number
from rag.grounding.verify import CoverageVerifier, claims_nothing, inverse_frequency, prepared
from rag.types import Passage

POLICY = (
    "Every employee has 28 days of paid leave a year. Unused days expire on 31 March. "
    "The rule was signed by Anna Berg in 2021."
)
PUMP = "The pump moves 1,200 litres of water an hour. It weighs 2.5 kg."


PRICES = (
    "| Plan | Price | Seats |\n|---|---|---|\n| Basic | 5 euros | 10 |\n| Team | 9 euros | 25 |\n"
    "| Group | 14 euros | 80 |"
)


def passage(text: str, number: int = 1, section: str = "", header: str = "") -> Passage:
    chunk = StoredChunk(
        number, f"{number}.md", "", 0, len(text), text, None, section, number, header=header
    )
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


def test_a_name_of_the_question_must_stand_beside_the_rest() -> None:
    """What is said of one place is no answer about another that is merely mentioned elsewhere."""
    aiders = passage("First-aiders of the building are Owen Pritchard and Grace Mbeki.")
    elsewhere = passage("The software is written by eleven people in Porto.", 2)
    answer = "First-aiders of the building in Porto are Grace Mbeki and Owen Pritchard."
    asking = CoverageVerifier(inverse_frequency({}, 10), question="Who are first-aiders in Porto?")

    assert asking.check(answer, (aiders, elsewhere)).support == "weak"
    assert asking.check(answer, (passage(f"Office in Porto. {aiders.chunk.text}"),)).support == (
        "supported"
    )


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


@pytest.mark.parametrize(
    ("sentence", "source", "word"),
    [
        ("Sales increased in the second year.", "Sales decreased in the second year.", "increased"),
        ("The lower valve is open.", "The higher valve is open.", "lower"),
        ("Smoking is allowed in the yard.", "Smoking is prohibited in the yard.", "allowed"),
        ("The contract is valid abroad.", "The contract is invalid abroad.", "valid"),
        ("Die Miete steigt im zweiten Jahr.", "Die Miete sinkt im zweiten Jahr.", "steigt"),
    ],
)
def test_an_opposite_lowers_support(sentence: str, source: str, word: str) -> None:
    """A word whose opposite stands in its place is named, and the sentence is not supported."""
    verdict = VERIFIER.check(sentence, [passage(source)])

    assert verdict.support != "supported"
    assert repr(word) in (verdict.reason or "")
    assert VERIFIER.check(source, [passage(source)]).support == "supported"


def test_a_denial_needs_a_source_that_denies() -> None:
    """What the source affirms cannot be denied; a denial in the section's heading counts."""
    sentence = "The plan does not cover dental care."
    covered = "The plan covers dental care."

    assert VERIFIER.check(sentence, [passage(covered)]).support == "weak"
    assert VERIFIER.check(sentence, [passage(covered, section="Not covered")]).score == 1.0


@pytest.mark.parametrize(
    ("sentence", "source"),
    [
        ("The insurance pays.", "Die Haftpflichtinsurance pays."),
        ("The activation takes time.", "It takes time to be activated."),
        ("Die Versicherung zahlt den Schaden.", "Die Haftpflichtversicherung zahlt den Schaden."),
        ("الموظف يحصل على إجازة", "يحصل الموظفون على الإجازة"),
    ],
)
def test_a_word_is_found_in_a_compound(sentence: str, source: str) -> None:
    """Endings, prefixes and compounds of one word meet, in whichever language."""
    assert VERIFIER.check(sentence, [passage(source)]).support == "supported"


@pytest.mark.parametrize(
    ("source", "true", "false"),
    [
        (
            "Jeder Mitarbeiter hat 28 Tage Urlaub im Jahr. Resturlaub verfällt am 31. März.",
            "Jeder Mitarbeiter hat 28 Urlaubstage.",
            "Resturlaub wird ohne Antrag in bar ausgezahlt.",
        ),
        (
            "يحصل كل موظف على 28 يوم إجازة مدفوعة في السنة. تبدأ السنة في يناير.",
            "يحصل كل موظف على ٢٨ يوم إجازة في السنة.",
            "يحصل كل موظف على 35 يوم إجازة في السنة.",
        ),
        (
            "每位员工每年享有28天带薪年假。未使用的年假于次年三月到期。",
            "员工每年有28天带薪年假。",
            "公司为每位员工提供免费午餐和班车。",
        ),
        (
            "Chaque salarié a droit à 28 jours de congés payés par an.",
            "Les salariés ont droit à 28 jours de congés.",
            "Les salariés ont droit à une voiture de fonction.",
        ),
    ],
    ids=["German", "Arabic", "Chinese", "French"],
)
def test_other_languages_are_checked(source: str, true: str, false: str) -> None:
    """What a passage says holds in its language, and what it does not say fails."""
    shown = [passage(source)]

    assert VERIFIER.check(true, shown).support != "unsupported"
    assert VERIFIER.check(false, shown).support == "unsupported"


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("The price of the Group plan is 14 euros.", True),
        ("The Group plan has 80 seats.", True),
        ("The Group plan has 60 seats.", False),
    ],
)
def test_a_row_is_read_with_the_names_of_its_columns(sentence: str, *, supported: bool) -> None:
    """A table's header row counts for every row below it, in the passage or above it."""
    header, _, *rows = PRICES.split("\n")
    continued = passage("\n".join(rows), header=header)

    for shown in (passage(PRICES), continued):
        assert (VERIFIER.check(sentence, [shown]).support == "supported") is supported


def test_only_a_tables_first_row_names_its_columns() -> None:
    """In a passage that goes on with a table, none does."""
    rows = "| Anna Berg | Bonn | chemist |\n| Bo Lind | Rome | painter |\n| Cem Ak | Oslo | baker |"

    assert prepared(rows).headers == (None, 0, 0)
    assert prepared(rows, "| Name | Town | Trade |", goes_on=True).headers == (None, None, None)
    assert prepared("| 1 | 2 | 3 |\n| 4 | 5 | 6 |").headers == (None, None)


def test_numbers_above_a_passage_count() -> None:
    """A year that only the heading gives is not missing."""
    shown = passage("Revenue rose to 5 million euros.", section="Results of 2031")

    assert (
        VERIFIER.check("In 2031 revenue rose to 5 million euros.", [shown]).support == "supported"
    )


class Judge:
    """A verifier that gives one verdict, and keeps what it was shown."""

    def __init__(self, verdict: float | None) -> None:
        self._verdict = verdict
        self.shown: Sequence[str] = ()

    def score(self, claim: str, evidence: Sequence[str]) -> float | None:
        self.shown = evidence
        return self._verdict


@pytest.mark.parametrize(
    ("verdict", "support"),
    [(1.0, "supported"), (0.5, "weak"), (0.0, "unsupported"), (None, "weak")],
)
def test_a_judge_has_the_last_word(verdict: float | None, support: str) -> None:
    """Its score replaces the counted one, which stands where there is no verdict."""
    judge = Judge(verdict)
    verifier = CoverageVerifier(inverse_frequency({}, 10), judge)

    checked = verifier.check("Employees have 28 days for going away.", PASSAGES)

    assert (checked.support, checked.judged) == (support, verdict is not None)
    assert judge.shown[0] == POLICY
    assert verifier.check("Is it so?", PASSAGES).support == "not_checked"


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
        ("By 31 March 2021.", "Bis 31.03.2021.", None),
        ("Bis 31.03.2021.", "By 31 March 2021.", None),
        ("31 March", "31. März", None),
        ("It weighs 2.5 kg.", "Es wiegt 2,5 kg.", None),
        ("1,204 litres", "1.204 Liter", None),
        ("3 Wochen", "drei Wochen", None),
        ("2,5 kg", "2,7 kg", "5"),
    ],
)
def test_numbers_are_compared_by_value(claim: str, source: str, missing: str | None) -> None:
    """Formats, words and roundings of one number are equal; another number is not."""
    assert missing_number(claim, [source]) == missing


def test_a_list_marker_is_no_claimed_number() -> None:
    """The verifier reads past the marker of a list item."""
    verdict = VERIFIER.check("1. Unused days expire on 31 March.", PASSAGES)

    assert verdict.support == "supported"


@pytest.mark.parametrize(
    "text",
    [
        "# Heading",
        "Is it so?",
        "هل هذا صحيح؟",
        "The steps are:",
        "I am sorry.",
        "The passages don't mention a fee.",
        "There is no information about fees in the provided documents.",
        "The sources say nothing about it.",
        "Die Dokumente enthalten keine Angaben dazu.",
        "Darüber steht nichts in den Dokumenten.",
    ],
)
def test_some_sentences_claim_nothing(text: str) -> None:
    """Headings, questions, announcements and remarks on the documents need no evidence."""
    assert claims_nothing(text)


@pytest.mark.parametrize(
    "text",
    [
        "Travel documents must not be copied.",
        "No alcohol is served in the document archive.",
        "The context menu does not open on the left.",
    ],
)
def test_a_sentence_about_documents_is_a_claim(text: str) -> None:
    """Words for documents and a negation alone do not make a remark."""
    assert not claims_nothing(text)
