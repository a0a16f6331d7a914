"""Run a question set through any callable and summarise the scored rows."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval import metrics, statistics
from eval.ranking import Ranking, rank
from eval.types import Case, CaseResult, EvalSet, MetricSummary, Report
from ingest.errors import EmbeddingError, RagError, StoreError, UsageError
from rag.errors import ChatAuthError
from rag.types import Answer, Passage

Ask = Callable[[Case], Answer]
Search = Callable[[Case, int], Sequence[Passage]]
OnResult = Callable[[CaseResult], None]

# Passages asked for in retrieval alone: enough for ten documents where several are of one.
RETRIEVAL_DEPTH = 50

_RANKED: Mapping[str, tuple[Callable[[Ranking, int], float | None], int]] = {
    "hit@1": (metrics.hit_at, 1),
    "hit@5": (metrics.hit_at, 5),
    "recall@5": (metrics.recall_at, 5),
    "recall@10": (metrics.recall_at, 10),
    "precision@5": (metrics.precision_at, 5),
    "mrr@10": (metrics.mrr_at, 10),
    "ndcg@10": (metrics.ndcg_at, 10),
}
_MEANS = (
    *_RANKED,
    "contains",
    "right_and_cited",
    "em",
    "token_f1",
    "faithfulness",
    "citation_recall",
    "citation_precision",
    "citation_validity",
    "rejection_rate",
    "false_refusal_rate",
    "first_token_ms",
)
_OF_CONFIDENCE: Mapping[str, statistics.ClassStatistic] = {
    "auroc": statistics.auroc,
    "ece": statistics.expected_calibration_error,
}
# What no later question can escape: going on would fill the report with the same line.
_FATAL = (StoreError, EmbeddingError, ChatAuthError)


@dataclass(frozen=True, slots=True)
class Checks:
    """How citations are judged: what the store holds at a place, and a verifier."""

    read: metrics.ReadPlace
    support: metrics.Support


def evaluate(
    eval_set: EvalSet,
    ask: Ask,
    checks: Checks,
    settings: Mapping[str, str],
    on_result: OnResult | None = None,
) -> Report:
    """Ask every question and score the answers; `settings` is what the report says was run.

    A question that fails becomes an error row. Raises what would fail every question alike: a
    store or a model that cannot be used, a key that was refused.
    """
    results = _each(eval_set.cases, lambda case: _asked(case, ask, checks), on_result)
    return summarise(eval_set.name, eval_set.fingerprint, results, settings)


def retrieve_only(
    eval_set: EvalSet,
    search: Search,
    settings: Mapping[str, str],
    on_result: OnResult | None = None,
) -> Report:
    """Search for every question with gold evidence and score the rankings alone.

    Raises UsageError for a set without any gold evidence.
    """
    cases = [case for case in eval_set.cases if case.evidence]
    if not cases:
        raise UsageError(
            f"{eval_set.name}: no question has evidence, so that retrieval cannot be scored",
            "add 'evidence' or qrels.tsv, or run without --retrieval-only",
        )
    return summarise(
        eval_set.name,
        eval_set.fingerprint,
        _each(cases, lambda case: _searched(case, search), on_result),
        settings,
    )


def _each(
    cases: Iterable[Case], score: Callable[[Case], CaseResult], on_result: OnResult | None
) -> tuple[CaseResult, ...]:
    results = []
    for case in cases:
        start = time.perf_counter()
        try:
            result = score(case)
        except _FATAL:
            raise
        except RagError as error:
            result = _failed(case, start, error.message)
        except Exception as error:  # noqa: BLE001 - one question's crash must not lose the run
            result = _failed(case, start, f"{type(error).__name__}: {error}")
        results.append(result)
        if on_result is not None:
            on_result(result)
    return tuple(results)


def _failed(case: Case, start: float, message: str, answer: Answer | None = None) -> CaseResult:
    return CaseResult(
        id=case.id,
        question=case.question,
        answerable=case.answerable,
        tags=case.tags,
        scores={},
        milliseconds=_since(start),
        answer=answer.answer if answer else None,
        status=answer.status if answer else None,
        error=message,
    )


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def _searched(case: Case, search: Search) -> CaseResult:
    start = time.perf_counter()
    passages = search(case, RETRIEVAL_DEPTH)
    milliseconds = _since(start)
    scores = _kept(retrieval_scores(case, passages))
    return CaseResult(case.id, case.question, case.answerable, case.tags, scores, milliseconds)


def _asked(case: Case, ask: Ask, checks: Checks) -> CaseResult:
    start = time.perf_counter()
    answer = ask(case)
    if answer.status in {"failed", "incomplete"}:
        reason = "; ".join(answer.warnings) or "no reason was given"
        return _failed(case, start, f"the answer is {answer.status}: {reason}", answer)
    milliseconds = _since(start)
    return CaseResult(
        id=case.id,
        question=case.question,
        answerable=case.answerable,
        tags=case.tags,
        scores=_kept(answer_scores(case, answer, checks)),
        milliseconds=milliseconds,
        answer=answer.answer,
        status=answer.status,
        confidence=answer.confidence,
    )


def retrieval_scores(case: Case, passages: Sequence[Passage]) -> dict[str, float | None]:
    """All retrieval metrics of one ranking, best passage first."""
    ranking = rank(case.evidence, passages)
    return {name: metric(ranking, k) for name, (metric, k) in _RANKED.items()}


def answer_scores(case: Case, answer: Answer, checks: Checks) -> dict[str, float | None]:
    """All metrics of one answer; None where a metric does not apply.

    A refusal of an answerable question is a wrong answer; for an unanswerable one there is no
    right text, so that only the refusal counts.
    """
    refused = answer.status == "abstained"
    text = "" if refused else metrics.answer_text(answer)
    wanted = case.answers if case.answerable else ()
    read, support = checks.read, checks.support
    # As they were ranked: a model is shown the best first and last.
    ranked = sorted(answer.passages, key=lambda passage: -passage.score)
    return {
        **retrieval_scores(case, ranked),
        "contains": metrics.contains(text, wanted),
        "right_and_cited": metrics.right_and_cited(answer, wanted, read),
        "em": metrics.exact_match(text, wanted),
        "token_f1": metrics.token_f1(text, wanted),
        "faithfulness": metrics.faithfulness(answer),
        "citation_recall": metrics.citation_recall(answer, read, support),
        "citation_precision": metrics.citation_precision(answer, read, support),
        "citation_validity": metrics.citation_validity(answer, read),
        "rejection_rate": None if case.answerable else float(refused),
        "false_refusal_rate": float(refused) if case.answerable else None,
        "first_token_ms": answer.timings_ms.get("first_token"),
    }


def _kept(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if score is not None}


def summarise(
    name: str, fingerprint: str, results: Sequence[CaseResult], settings: Mapping[str, str]
) -> Report:
    """The report over scored rows of a set: overall, and by tag."""
    tags = dict.fromkeys(tag for result in results for tag in result.tags)
    return Report(
        name=name,
        fingerprint=fingerprint,
        settings=dict(settings),
        metrics=_summaries(results),
        tags={tag: _summaries([r for r in results if tag in r.tags]) for tag in tags},
        results=tuple(results),
    )


def _summaries(results: Sequence[CaseResult]) -> dict[str, MetricSummary]:
    scored = [result for result in results if result.error is None]
    summaries = {}
    for name in _MEANS:
        values = [result.scores[name] for result in scored if name in result.scores]
        if values:
            low, high = statistics.mean_interval(values)
            summaries[name] = MetricSummary(sum(values) / len(values), len(values), low, high)
    return {**summaries, **_confidence(scored), **_latencies(scored)}


def _confidence(scored: Sequence[CaseResult]) -> dict[str, MetricSummary]:
    """How well the confidence tells answerable from unanswerable questions."""
    rows = [(r.confidence, r.answerable) for r in scored if r.confidence is not None]
    confidences, answerable = [row[0] for row in rows], [row[1] for row in rows]
    summaries = {}
    for name, statistic in _OF_CONFIDENCE.items():
        interval = statistics.class_interval(confidences, answerable, statistic)
        value = statistic(confidences, answerable)
        if interval is not None and value is not None:
            summaries[name] = MetricSummary(value, len(rows), *interval)
    return summaries


def _latencies(scored: Sequence[CaseResult]) -> dict[str, MetricSummary]:
    times = [result.milliseconds for result in scored]
    if not times:
        return {}
    return {
        f"latency_p{percent}_ms": MetricSummary(
            statistics.quantile(times, percent / 100),
            len(times),
            *statistics.quantile_interval(times, percent / 100),
        )
        for percent in (50, 95)
    }
