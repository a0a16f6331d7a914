"""Metrics against values worked out by hand, their bounds, and answers that lie."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import metrics
from eval.ranking import matches, overlaps, rank
from eval.types import CitedPlace, Evidence
from ingest.types import StoredChunk, text_sha256
from rag.types import Answer, Citation, Passage, Sentence, Usage

DOCUMENT = "The pump weighs 12 kg. It is painted blue. The warranty lasts two years."


def passage(source, text="text", start=0, page=None, number=1):
    chunk = StoredChunk(number, source, source, start, start + len(text), text, page, "", number)
    return Passage(number, chunk, 0.5, 0.5, 1, None)


def ranking(evidence, sources):
    return rank(
        [Evidence(source, grade=grade) for source, grade in evidence],
        [passage(source, number=number) for number, source in enumerate(sources, start=1)],
    )


def citation(number, quote, source="pump.md", start=None):
    start = DOCUMENT.index(quote) if start is None else start
    return Citation(
        number=number,
        source=source,
        title="Pump",
        page=None,
        section="",
        start=start,
        end=start + len(quote),
        quote=quote,
        sha256=text_sha256(DOCUMENT),
        score=1.0,
    )


def sentence(text, *numbers, support="supported"):
    return Sentence(text, 0, len(text), numbers, support, 1.0)


def answer(sentences, citations, status="answered"):
    return Answer(
        question="?",
        answer=" ".join(s.text for s in sentences),
        status=status,
        answerer="chat",
        model="m",
        sentences=tuple(sentences),
        citations=tuple(citations),
        passages=(),
        grounding=None,
        confidence=0.9,
        usage=Usage(),
    )


def read(place):
    """The store of these tests: one document, under one heading."""
    if place.source != "pump.md":
        return None
    return CitedPlace("Pump > Data", DOCUMENT[place.start : place.end])


def support(claim, texts):
    """A verifier for tests: every longer word of the claim stands in the texts."""
    found = " ".join(texts).lower()
    return all(word.strip(".").lower() in found for word in claim.split() if len(word) > 3)


HONEST = answer(
    [sentence("The pump weighs 12 kg [1].", 1), sentence("The warranty lasts two years [2].", 2)],
    [citation(1, "The pump weighs 12 kg."), citation(2, "The warranty lasts two years.")],
)


def test_ranking_metrics_by_hand():
    """Gold a, b and c; ranked x, a, y, b: two of three found, at places 2 and 4."""
    gold = ranking([("a", 1), ("b", 1), ("c", 1)], ["x", "a", "y", "b"])
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)

    assert metrics.recall_at(gold, 1) == 0
    assert metrics.recall_at(gold, 3) == pytest.approx(1 / 3)
    assert metrics.recall_at(gold, 10) == pytest.approx(2 / 3)
    assert metrics.precision_at(gold, 4) == 0.5
    assert metrics.precision_at(gold, 10) == 0.2
    assert (metrics.hit_at(gold, 1), metrics.hit_at(gold, 2)) == (0, 1)
    assert (metrics.mrr_at(gold, 1), metrics.mrr_at(gold, 10)) == (0, 0.5)
    assert metrics.ndcg_at(gold, 10) == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)


def test_graded_gain_is_linear():
    """Grades 2 and 1 in the wrong order lose what trec_eval says they lose."""
    gold = ranking([("a", 2), ("b", 1)], ["b", "a"])

    assert metrics.ndcg_at(gold, 10) == pytest.approx(
        (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))
    )


def test_documents_count_at_their_first_passage():
    """Three passages of one document take one place in a ranking of documents."""
    gold = ranking([("a", 1), ("b", 1)], ["x", "x", "a", "x", "a", "b"])

    assert gold.found == (2, 3)
    assert gold.relevant == (False, True, True)
    assert metrics.recall_at(gold, 3) == 1


def test_gold_named_twice_counts_once():
    """Two gold pointers to one document do not make it weigh double."""
    gold = ranking([("a", 1), ("a", 1), ("b", 1)], ["a"])

    assert metrics.recall_at(gold, 1) == 0.5


def test_one_passage_with_two_gold_texts_can_be_perfect():
    """Gold found together counts once in the ideal, so that the best ranking scores 1."""
    evidence = [Evidence("a", text="pump weighs"), Evidence("a", text="painted blue")]

    gold = rank(evidence, [passage("a", DOCUMENT)])

    assert metrics.ndcg_at(gold, 10) == 1
    assert metrics.recall_at(gold, 1) == 1


def test_no_gold_no_score():
    """Without evidence no retrieval metric applies."""
    gold = rank([], [passage("a")])

    for metric in (
        metrics.recall_at,
        metrics.precision_at,
        metrics.hit_at,
        metrics.mrr_at,
        metrics.ndcg_at,
    ):
        assert metric(gold, 5) is None


sources = st.sampled_from("abcdefg")


@given(
    st.dictionaries(sources, st.integers(1, 3), min_size=1),
    st.lists(sources, max_size=12),
    st.integers(1, 12),
)
def test_retrieval_metrics_stay_in_bounds(evidence, ranked, k):
    """Every metric lies in 0..1, and the ideal order scores an nDCG of 1."""
    gold = ranking(evidence.items(), ranked)
    best = ranking(evidence.items(), sorted(evidence, key=evidence.get, reverse=True))

    for metric in (metrics.recall_at, metrics.precision_at, metrics.hit_at, metrics.mrr_at):
        assert 0 <= metric(gold, k) <= 1
    assert 0 <= metrics.ndcg_at(gold, k) <= 1 + 1e-9
    assert metrics.ndcg_at(best, k) == pytest.approx(1)


@given(st.integers(0, 60), st.integers(1, 30), st.integers(5, 30))
def test_a_gold_text_survives_any_chunking(start, length, size):
    """However a document is cut, some chunk matches a gold slice of it."""
    text = "".join(chr(0x4E00 + index) for index in range(91))
    evidence = Evidence("a", text=text[start : start + length])

    chunks = [
        passage("a", text[place : place + size], place) for place in range(0, len(text), size)
    ]

    assert any(matches(evidence, chunk.chunk) for chunk in chunks)


def test_white_space_does_not_matter_to_a_match():
    """A gold text is found across line breaks and indents."""
    assert overlaps("two  years\nof warranty", "We give two years of\n  warranty on it.")


@pytest.mark.parametrize(
    ("gold", "text", "expected"),
    [
        ("abcdefgh", "efghXXXX", True),
        ("abcdefgh", "XXXXabcd", True),
        ("abcdefgh", "fghXXXXX", False),
        ("abcdefgh", "cde", True),
        ("abcdefgh", "abcdXXXX", False),
        ("aab", "aaab", True),
        ("", "abc", False),
        ("abc", " ", False),
    ],
)
def test_half_of_the_shorter_text_must_be_shared(gold, text, expected):
    """Only what a cut of one document can explain counts as overlap."""
    assert expected == overlaps(gold, text)


def test_evidence_matches_by_the_most_exact_thing_it_gives():
    """Text before span before page before document; another document never matches."""
    chunk = passage("a.pdf", "blue paint", start=100, page=4).chunk

    assert matches(Evidence("a.pdf"), chunk)
    assert not matches(Evidence("b.pdf"), chunk)
    assert matches(Evidence("a.pdf", page=4), chunk)
    assert not matches(Evidence("a.pdf", page=5), chunk)
    assert matches(Evidence("a.pdf", start=109, end=120), chunk)
    assert not matches(Evidence("a.pdf", start=110, end=120), chunk)
    assert not matches(Evidence("a.pdf", start=90, end=100), chunk)
    assert matches(Evidence("a.pdf", text="blue paint", start=0, end=10), chunk)
    assert not matches(Evidence("a.pdf", text="red paint", start=100, end=110), chunk)
    assert matches(Evidence(text="blue paint"), chunk)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The U.S. Army's", "us armys"),
        ("  An   apple, a pear ", "apple pear"),
        ("1,204.5 kg", "12045 kg"),
        ("A", "a"),
        ("1990–2000", "1990 2000"),
        ("东京。", "东 京"),
    ],
)
def test_normal_form(text, expected):
    """SQuAD's rules, with other scripts' punctuation and characters taken apart."""
    assert expected == metrics.normalise(text)


def test_answer_metrics_by_hand():
    """The best of several accepted answers counts."""
    answers = ["two years", "24 months"]

    assert metrics.exact_match("Two years.", answers) == 1
    assert metrics.exact_match("It lasts two years.", answers) == 0
    assert metrics.contains("It lasts two years.", answers) == 1
    assert metrics.token_f1("lasts two years", answers) == pytest.approx(2 * 2 / (3 + 2))
    assert metrics.token_f1("", answers) == 0


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("In 2010 it was sold.", "10", 0),
        ("Tesla's design", "Tesla", 1),
        ("the U.S. Army", "US", 1),
        ("costs 1,200 euros", "1200", 1),
        ("version 3.11", "3", 0),
        ("它在东京。", "东京", 1),
        ("anything", "...", 0),
    ],
)
def test_contains_looks_for_whole_words(text, gold, expected):
    """Part of a number is not the number; a possessive still names its owner."""
    assert expected == metrics.contains(text, [gold])


@pytest.mark.parametrize(
    ("text", "quote", "expected"),
    [
        ("It lasts two years.", "The warranty lasts two years.", 1.0),
        ("It lasts two years.", "It is painted blue.", 0.0),
        ("It lasts three years.", "The warranty lasts two years.", 0.0),
    ],
    ids=["right and cited", "right, elsewhere cited", "wrong, well cited"],
)
def test_an_answer_counts_where_its_citation_holds_it(text, quote, expected):
    """Both the text and a cited place must hold an accepted answer."""
    given = answer([sentence(f"{text} [1]", 1)], [citation(1, quote)])

    assert metrics.right_and_cited(given, ["two years", "24 months"], read) == expected
    refused = answer([], [], status="abstained")
    assert metrics.right_and_cited(refused, ["two years"], read) == 0
    assert metrics.right_and_cited(given, [], read) is None


def test_no_accepted_answer_no_score():
    """Without accepted answers the text metrics do not apply."""
    assert metrics.exact_match("x", []) is None
    assert metrics.contains("x", []) is None
    assert metrics.token_f1("x", []) is None


@given(st.text(max_size=40), st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_answer_metrics_stay_in_bounds(text, answers):
    """F1 lies in 0..1, and an exact match is an F1 of 1."""
    f1 = metrics.token_f1(text, answers)

    assert 0 <= f1 <= 1
    assert metrics.exact_match(text, answers) <= f1 + 1e-9


def test_only_known_markers_are_taken_out():
    """A bracketed number that is no citation belongs to the text."""
    assert metrics.without_markers("As in [12], it is blue [1] [2].", [1, 2]) == (
        "As in [12], it is blue."
    )


def test_an_honest_answer_scores_full_marks():
    """Quotes that stand in the document and carry their sentences lose nothing."""
    assert metrics.faithfulness(HONEST) == 1
    assert metrics.citation_validity(HONEST, read) == 1
    assert metrics.citation_recall(HONEST, read, support) == 1
    assert metrics.citation_precision(HONEST, read, support) == 1
    assert metrics.answer_text(HONEST) == "The pump weighs 12 kg. The warranty lasts two years."


def test_an_invented_quote_is_invalid_and_carries_nothing():
    """A quote the document does not hold loses validity, recall and precision."""
    invented = replace(
        citation(2, "It is painted blue."), quote="The warranty lasts ten years, we swear."
    )
    lie = answer(
        [
            sentence("The pump weighs 12 kg [1].", 1),
            sentence("The warranty lasts ten years [2].", 2),
        ],
        [HONEST.citations[0], invented],
    )

    assert metrics.citation_validity(lie, read) == 0.5
    assert metrics.citation_recall(lie, read, support) == 0.5
    assert metrics.citation_precision(lie, read, support) == 0.5


def test_an_invented_source_is_invalid():
    """A citation of a document that does not exist is no citation."""
    lie = answer([sentence("Blue [1].", 1)], [citation(1, "It is painted blue.", source="no.md")])

    assert metrics.citation_validity(lie, read) == 0
    assert metrics.citation_recall(lie, read, support) == 0


def test_a_wrong_marker_costs_recall_and_precision():
    """A sentence that points at another sentence's source is not supported by it."""
    swapped = replace(
        HONEST,
        sentences=(
            sentence("The pump weighs 12 kg [2].", 2),
            sentence("The warranty lasts two years [2].", 2),
        ),
    )

    assert metrics.citation_validity(swapped, read) == 1
    assert metrics.citation_recall(swapped, read, support) == 0.5
    assert metrics.citation_precision(swapped, read, support) == 0.5


def test_a_marker_without_a_citation_is_invalid():
    """A number nobody can look up counts against validity and precision."""
    dangling = replace(HONEST, sentences=(*HONEST.sentences, sentence("It is blue [7].", 7)))

    assert metrics.citation_validity(dangling, read) == pytest.approx(2 / 3)
    assert metrics.citation_precision(dangling, read, support) == pytest.approx(2 / 3)


def test_a_superfluous_citation_costs_precision_alone():
    """A second source that adds nothing is not needed, so it does not count."""
    padded = answer(
        [sentence("The pump weighs 12 kg [1][2].", 1, 2)],
        [citation(1, "The pump weighs 12 kg."), citation(2, "It is painted blue.")],
    )

    assert metrics.citation_recall(padded, read, support) == 1
    assert metrics.citation_precision(padded, read, support) == 0.5


def test_two_halves_of_a_proof_both_count():
    """Where neither source is enough alone, both are needed."""
    joined = answer(
        [sentence("The pump is painted blue and the warranty lasts two years [1][2].", 1, 2)],
        [
            citation(1, "The pump weighs 12 kg. It is painted blue."),
            citation(2, "The warranty lasts two years."),
        ],
    )
    strict = answer(
        [sentence("Painted blue, lasts years [1][2].", 1, 2)],
        [citation(1, "It is painted blue."), citation(2, "The warranty lasts two years.")],
    )

    assert (
        metrics.citation_precision(strict, read, lambda c, t: support(c.replace(",", ""), t)) == 1
    )
    assert metrics.citation_recall(joined, read, support) == 1
    assert metrics.citation_precision(joined, read, support) == 1


def test_what_a_text_is_about_may_stand_in_its_heading():
    """The heading of the cited place is evidence too, with the stored words behind it."""
    about = answer([sentence("The pump is blue [1].", 1)], [citation(1, "It is painted blue.")])
    shown = []

    metrics.citation_recall(about, read, lambda claim, texts: bool(shown.extend([claim, *texts])))

    assert shown == ["The pump is blue.", "Pump > Data: It is painted blue."]


def test_an_uncited_sentence_counts_as_not_recalled():
    """A claim without a citation is 0, and an answer with none has a precision of 0."""
    bare = answer([sentence("The pump weighs 12 kg.")], [])

    assert metrics.citation_recall(bare, read, support) == 0
    assert metrics.citation_precision(bare, read, support) == 0
    assert metrics.citation_validity(bare, read) is None


def test_unsupported_sentences_lower_faithfulness():
    """Weak and unsupported sentences are not supported; unchecked ones do not count."""
    mixed = answer(
        [
            sentence("A."),
            sentence("B.", support="weak"),
            sentence("C.", support="unsupported"),
            sentence("Yes.", support="not_checked"),
        ],
        [],
    )

    assert metrics.faithfulness(mixed) == pytest.approx(1 / 3)


def test_a_refusal_claims_nothing():
    """No grounding metric applies to a refusal: not 0, not 1."""
    refusal = replace(HONEST, status="abstained")

    assert metrics.faithfulness(refusal) is None
    assert metrics.citation_recall(refusal, read, support) is None
    assert metrics.citation_precision(refusal, read, support) is None
    assert metrics.citation_validity(refusal, read) is None


@given(st.lists(st.lists(st.integers(1, 5), unique=True, max_size=3), min_size=1, max_size=4))
def test_citation_metrics_stay_in_bounds(markers):
    """Whatever is cited, every citation metric lies in 0..1."""
    given_answer = answer(
        [sentence("The pump weighs much.", *numbers) for numbers in markers],
        [citation(1, "The pump weighs 12 kg."), citation(2, "It is painted blue.")],
    )

    assert 0 <= metrics.citation_recall(given_answer, read, support) <= 1
    assert 0 <= metrics.citation_precision(given_answer, read, support) <= 1
    assert 0 <= metrics.citation_validity(given_answer, read) <= 1
