"""A run scores every case through any callable; what fails becomes a row, never a score."""

import pytest

from eval.run import RETRIEVAL_DEPTH, Checks, evaluate, retrieve_only
from eval.types import Case, CitedPlace, EvalSet, Evidence
from ingest.errors import RagError, StoreMissing, UsageError
from ingest.types import StoredChunk, text_sha256
from rag.errors import ChatAuthError, ChatUnavailable
from rag.types import Answer, Citation, Passage, Sentence, Usage

TEXTS = {"pump.md": "The pump weighs 12 kg.", "tank.md": "The tank holds 40 litres."}

CASES = (
    Case("weight", "pump?", ("12 kg",), evidence=(Evidence("pump.md"),), tags=("direct",)),
    Case("volume", "tank?", ("40 litres",), evidence=(Evidence("tank.md"),), tags=("direct",)),
    Case("price", "price?", answerable=False, tags=("absent",)),
)
SET = EvalSet("toy", CASES, None, "fingerprint")
CHECKS = Checks(
    lambda citation: CitedPlace("", TEXTS[citation.source][citation.start : citation.end]),
    lambda claim, texts: claim in " ".join(texts),
)


def passages(*sources):
    return tuple(
        Passage(
            number,
            StoredChunk(number, name, name, 0, len(TEXTS[name]), TEXTS[name], None, "", number),
            0.5,
            0.5,
            number,
            None,
        )
        for number, name in enumerate(sources, start=1)
    )


def quoting(case, source, confidence=0.9):
    """An answer that quotes the whole of one document."""
    quote = TEXTS[source]
    text = quote.replace(".", " [1].")
    return Answer(
        question=case.question,
        answer=text,
        status="answered",
        answerer="extractive",
        model=None,
        sentences=(Sentence(text, 0, len(text), (1,), "supported", 1.0),),
        citations=(
            Citation(1, source, source, None, "", 0, len(quote), quote, text_sha256(quote), 1.0),
        ),
        passages=passages(source),
        grounding=1.0,
        confidence=confidence,
        usage=Usage(),
    )


def refusing(case, status="abstained", warnings=()):
    return Answer(
        question=case.question,
        answer="",
        status=status,
        answerer="chat",
        model="m",
        sentences=(),
        citations=(),
        passages=passages("pump.md"),
        grounding=None,
        confidence=0.1,
        usage=Usage(),
        warnings=warnings,
    )


def good(case):
    if not case.answerable:
        return refusing(case)
    return quoting(case, "pump.md" if case.id == "weight" else "tank.md")


def values(report):
    return {name: (summary.value, summary.n) for name, summary in report.metrics.items()}


def test_a_perfect_run_scores_ones_over_the_rows_that_apply():
    """Every mean has the n of its own rows: two answers, one refusal."""
    report = evaluate(SET, good, CHECKS, {"answerer": "extractive"})

    scores = values(report)
    for name in (
        "hit@1",
        "recall@5",
        "ndcg@10",
        "contains",
        "right_and_cited",
        "faithfulness",
        "citation_recall",
        "citation_precision",
        "citation_validity",
    ):
        assert scores[name] == (1.0, 2)
    assert scores["rejection_rate"] == (1.0, 1)
    assert scores["false_refusal_rate"] == (0.0, 2)
    assert scores["auroc"] == (1.0, 3)
    assert scores["ece"] == (pytest.approx(0.1), 3)
    assert scores["latency_p50_ms"][1] == 3
    assert report.errors == ()
    assert (report.name, report.fingerprint, report.settings) == (
        "toy",
        "fingerprint",
        {"answerer": "extractive"},
    )


def test_a_refusal_is_a_wrong_answer_but_no_faithfulness():
    """Refusing all: nothing contained, all refused, and no grounding metric at all."""
    report = evaluate(SET, refusing, CHECKS, {})

    scores = values(report)
    assert scores["contains"] == (0.0, 2)
    assert scores["false_refusal_rate"] == (1.0, 2)
    assert scores["rejection_rate"] == (1.0, 1)
    assert not {"faithfulness", "citation_recall", "citation_validity"} & set(scores)


def test_answering_the_unanswerable_is_no_right_answer():
    """An answer where none is due counts against rejection, and has no text to match."""
    report = evaluate(SET, lambda case: quoting(case, "pump.md"), CHECKS, {})

    assert values(report)["rejection_rate"] == (0.0, 1)
    assert "contains" not in report.results[2].scores


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ChatUnavailable("no connection"), "no connection"),
        (RagError("odd"), "odd"),
        (ValueError("a bug"), "ValueError: a bug"),
    ],
)
def test_an_error_is_a_row_not_a_score(error, message):
    """One failing question leaves the means to the others and is listed with its reason."""

    def ask(case):
        if case.id == "weight":
            raise error
        return good(case)

    report = evaluate(SET, ask, CHECKS, {})

    assert [(row.id, row.error, dict(row.scores)) for row in report.errors] == [
        ("weight", message, {})
    ]
    assert values(report)["contains"] == (1.0, 1)
    assert values(report)["latency_p50_ms"][1] == 2


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_an_answer_that_is_not_whole_is_an_error(status):
    """A broken answer is not scored as if it were one."""
    report = evaluate(SET, lambda case: refusing(case, status, ("stream broke",)), CHECKS, {})

    assert [row.error for row in report.errors] == [f"the answer is {status}: stream broke"] * 3
    assert report.metrics == {}


@pytest.mark.parametrize("error", [StoreMissing("no store found"), ChatAuthError("refused")])
def test_what_fails_every_question_stops_the_run(error):
    """A missing store or a refused key is raised, not repeated in every row."""

    def ask(case):
        raise error

    with pytest.raises(type(error)):
        evaluate(SET, ask, CHECKS, {})


def test_tags_have_their_own_summaries():
    """Each tag is summarised over its rows alone."""
    report = evaluate(SET, good, CHECKS, {})

    assert list(report.tags) == ["direct", "absent"]
    assert report.tags["direct"]["contains"].n == 2
    assert report.tags["absent"]["rejection_rate"].n == 1
    assert "contains" not in report.tags["absent"]


def test_progress_is_told_row_by_row():
    """The callback sees every row, in order."""
    seen = []

    evaluate(SET, good, CHECKS, {}, seen.append)

    assert [row.id for row in seen] == ["weight", "volume", "price"]


def test_equal_runs_give_equal_scores():
    """Two runs of the same answers differ in their times alone."""
    first, second = (evaluate(SET, good, CHECKS, {}) for _ in range(2))

    for one, other in zip(first.results, second.results, strict=True):
        assert (one.id, one.scores, one.answer) == (other.id, other.scores, other.answer)
    for name in set(first.metrics) - {"latency_p50_ms", "latency_p95_ms"}:
        assert first.metrics[name] == second.metrics[name]


def test_retrieval_alone_scores_cases_with_gold():
    """Only rankings are scored, of cases that have evidence, with enough passages asked for."""
    depths = []

    def search(question, depth):
        depths.append(depth)
        return passages("pump.md", "tank.md")

    report = retrieve_only(SET, search, {})

    assert depths == [RETRIEVAL_DEPTH] * 2
    assert values(report)["hit@1"] == (0.5, 2)
    assert values(report)["mrr@10"] == (0.75, 2)
    assert "contains" not in report.metrics


def test_retrieval_without_gold_is_refused():
    """A set that names no evidence cannot score a ranking."""
    with pytest.raises(UsageError, match="no question has evidence"):
        retrieve_only(EvalSet("toy", CASES[2:], None, ""), lambda question, depth: (), {})
