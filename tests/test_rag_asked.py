"""What a question asks for: weights, names and the kind of answer."""

import pytest

from rag.extractive.asked import analyse


def asked(text: str):
    return analyse(text, lambda term: 1.0)


@pytest.mark.parametrize(
    ("question", "good", "bad"),
    [
        ("How long does the filter last?", "It lasts six weeks.", "It lasts 6 filters."),
        ("How many days off are there?", "There are 28 days.", "There are days off."),
        ("When does the office open?", "It opens at 8:30.", "It opens for 20 people."),
        ("When was the mill built?", "It was built in May.", "The mill was built late."),
        ("What does the pump cost?", "It costs €14.", "It costs a lot."),
        ("What is the maximum torque?", "Tighten with 2 Nm.", "Tighten it well."),
        ("How often is it cleaned?", "Clean it weekly.", "Clean it well."),
        ("Who leads the drill?", "The drill is led by Berg.", "The drill is led by someone."),
        ("Wie lange hält der Filter?", "Er hält drei Wochen.", "Er hält lange."),
        ("Wann öffnet das Büro?", "Es öffnet um 8.30 Uhr.", "Es öffnet bald."),
        ("Wie hoch ist die Miete?", "Sie beträgt 900 Euro.", "Sie ist hoch."),
    ],
)
def test_an_answer_has_what_the_question_wants(question: str, good: str, bad: str) -> None:
    """A duration, a date, a number or a name is told from a sentence without it."""
    assert (asked(question).type_match(good), asked(question).type_match(bad)) == (1.0, 0.0)


def test_what_the_question_says_is_no_answer() -> None:
    """A value that stands in the question itself does not count."""
    question = asked("How long does it last with an interval of 15 minutes?")

    assert question.type_match("The interval is 15 minutes.") == 0.0
    assert question.type_match("With 15 minutes it lasts 36 months.") == 1.0


def test_other_questions_want_anything() -> None:
    """Without a telling question word every sentence is as good."""
    assert asked("May I bring a dog?").type_match("Dogs are welcome.") == 0.5


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What does the pump P-200 weigh in Bremen?", {"p200", "p", "200", "bremen"}),
        ("What changed in version 2.1?", {"2.1"}),
        ("Was ist die Miete für das Büro in Porto?", set()),
        ("What does a pump weigh?", set()),
    ],
)
def test_names_codes_and_numbers_are_specific(question: str, expected: set[str]) -> None:
    """Capitals inside an English sentence and digits mark them; German capitals mark nothing."""
    assert asked(question).specifics.keys() == expected


def test_coverage_is_a_weighted_share() -> None:
    """Rare terms count more; a question without names has all of them covered."""
    question = analyse("pump weight", {"pump": 3.0, "weight": 1.0}.__getitem__)

    assert question.coverage(frozenset({"pump"})) == 0.75
    assert question.coverage(frozenset()) == 0.0
    assert asked("Please list the pumps").weights.keys() == {"pump"}
    assert asked("Compare pumps by list price").weights.keys() == {"pump", "list", "price"}
    assert question.specific_coverage(frozenset()) == 1.0


@pytest.mark.parametrize(
    ("question", "text", "above", "expected"),
    [
        ("How heavy is the KL-10?", "The KL-20 weighs 90 g.", "", True),
        ("How heavy is the KL-10?", "The KL-20 weighs 90 g.", "Differences to the KL-10", False),
        ("How heavy is the KL-10?", "The TG-2 weighs 90 g.", "", False),
        ("How many were hurt in 2022?", "In 2023 nobody was hurt.", "", True),
        ("How many were hurt in 2022?", "Nobody was hurt.", "Report of 2023", False),
        ("What is new in 2.3.1?", "New in 2.4.0 is the clock.", "", True),
        ("How long does 2.5 kg last?", "It lasts 3.5 days.", "", False),
    ],
)
def test_a_rival_has_the_form_of_what_is_asked_for(question, text, above, expected) -> None:
    """Another code, year or version instead of the question's own is told; a mere number is not."""
    assert asked(question).has_rival(text, above) is expected
