"""`rag eval calibrate`: when to refuse, fitted to a person's own documents and questions.

Each answerable question is judged as it is, and once more with the documents held out that answer
it; both teach the regression of rag/abstain.py what an answered question looks like here. A few
dozen questions must not overturn what thousands have taught: the shipped weights are the prior.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.command import store_of
from eval.dataset import load_set
from eval.ranking import rank
from eval.report import aligned
from eval.statistics import auroc, class_interval, expected_calibration_error, mean_interval
from eval.types import Case, MetricSummary
from ingest.errors import UsageError
from ingest.report import OnProgress, Progress
from rag.abstain import (
    DEFAULT,
    Calibration,
    Signals,
    calibration_json,
    judge,
    shipped,
    write_calibration,
)
from rag.app import App, open_app
from rag.context import term_weights
from rag.extractive.asked import analyse
from rag.extractive.extract import rank_sentences
from rag.retrieval.retrieve import renumber
from rag.settings.config import Settings
from rag.types import Passage

PRIOR_STRENGTH = 1.0
"""The precision of the normal distribution around the shipped weights; chosen on corpora/halden."""
FALSE_REFUSALS = 0.04
"""The share of answered questions that the new threshold may refuse."""

_DEPTH = 60  # passages, so that enough are left once documents are held out
_NEWTON_STEPS = 100
_FOLDS = 2
_EVEN = 0.5  # what is more likely answered than not is never refused


@dataclass(frozen=True, slots=True)
class Example:
    """The signals of one question under one condition, and whether it is answered there.

    `shipped` is the calibration that judges it where the store has none of its own.
    """

    id: str
    signals: Signals
    answered: bool
    shipped: Calibration = DEFAULT


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a calibration changed: `after` is measured on questions that its fit has not seen."""

    path: Path
    questions: int
    calibration: Calibration
    before: Mapping[str, MetricSummary]
    after: Mapping[str, MetricSummary]


def calibrate(path: Path, settings: Settings, on_progress: OnProgress) -> Calibrated:
    """Fit to a question set and write the result to the store.

    Raises UsageError where there are too few questions to fit anything.
    """
    eval_set = load_set(path)
    folder = store_of(eval_set, settings, on_progress)
    with open_app(settings, folder) as app:
        examples = list(examples_of(app, eval_set.cases, on_progress))
    for fold in range(_FOLDS):
        if len({e.answered for e in examples if _fold(e) == fold}) < 2:
            raise UsageError(
                f"{path}: too few questions to calibrate with",
                "give some whose evidence is found, and some that are not answerable",
            )
    calibration = fitted(examples)
    return Calibrated(
        write_calibration(folder, calibration),
        len(eval_set.cases),
        calibration,
        measured(examples, lambda example: example.shipped),
        measured(examples, cross_fitted(examples)),
    )


def examples_of(app: App, cases: Sequence[Case], on_progress: OnProgress) -> Iterable[Example]:
    """Each question as it is and, where its documents are known, with these held out.

    A question is answered if its evidence is among the passages: of one that is not found a
    refusal is right.
    """
    shown = app.resources.settings.retrieval.k
    idf = term_weights(app.store)
    embed, model = app.resources.embedder.embed_documents, app.resources.embedder.name
    for done, case in enumerate(cases, 1):
        found = app.search(case.question, k=_DEPTH)
        asked = analyse(case.question, idf)
        gold = {evidence.source for evidence in case.evidence if evidence.source}
        conditions = [found.passages]
        if case.answerable and gold:
            conditions.append(held_out(found.passages, gold))
        for passages in conditions:
            kept = renumber(passages[:shown])
            ranked = rank_sentences(asked, found.query_vector, kept, embed, model)
            found_there = any(rank(case.evidence, kept).found) or not case.evidence
            signals = judge(asked, ranked, kept).signals
            answered = case.answerable and found_there
            yield Example(case.id, signals, answered, shipped(kept, model))
        on_progress(Progress("asking", done, len(cases), "questions"))


def held_out(passages: Sequence[Passage], sources: set[str]) -> tuple[Passage, ...]:
    """The passages of other documents that are no copies of passages of these either."""
    families = {p.chunk.family for p in passages if p.chunk.source in sources} - {0}
    return tuple(
        p for p in passages if p.chunk.source not in sources and p.chunk.family not in families
    )


def fitted(examples: Sequence[Example], strength: float = PRIOR_STRENGTH) -> Calibration:
    """The regression fitted to examples, its threshold by what it may wrongly refuse.

    Where it starts from is what is shipped for most of them.
    """
    ((prior, _),) = Counter(example.shipped for example in examples).most_common(1)
    intercept, *weights = fit(examples, prior, strength)
    new = Calibration(intercept, Signals(*weights), 0.0, 0.0)
    answered = [new.confidence(e.signals) for e in examples if e.answered]
    low = min(float(np.quantile(answered, FALSE_REFUSALS)), _EVEN)
    return Calibration(intercept, Signals(*weights), low, max(low, prior.caution))


def fit(examples: Sequence[Example], prior: Calibration, strength: float) -> list[float]:
    """Intercept and weights of a logistic regression, by Newton's method.

    Answered and unanswered examples weigh the same. The weights are the most probable ones under
    normal distributions around the prior's, with `strength` as their precision.
    """
    features = np.array([(1.0, *example.signals) for example in examples])
    labels = np.array([float(example.answered) for example in examples])
    balance = 0.5 / np.where(labels == 1, labels.mean(), 1 - labels.mean())
    centre = np.array([prior.intercept, *prior.weights])
    solution = centre.copy()
    for _ in range(_NEWTON_STEPS):
        odds = 1 / (1 + np.exp(-np.clip(features @ solution, -40, 40)))
        gradient = features.T @ (balance * (odds - labels)) + strength * (solution - centre)
        curvature = (features * (balance * odds * (1 - odds))[:, None]).T @ features
        step = np.linalg.solve(curvature + strength * np.eye(len(centre)), gradient)
        solution -= step / max(1.0, float(np.linalg.norm(step)))  # far off, the curve misleads
    return [float(value) for value in solution]


def cross_fitted(examples: Sequence[Example]) -> Callable[[Example], Calibration]:
    """For each example the calibration fitted to the questions of the other folds."""
    fits = [fitted([e for e in examples if _fold(e) != fold] or examples) for fold in range(_FOLDS)]
    return lambda example: fits[_fold(example)]


def measured(
    examples: Sequence[Example], chosen: Callable[[Example], Calibration]
) -> dict[str, MetricSummary]:
    """How well a calibration, chosen by example, tells the answered from the others."""
    confidences = [chosen(e).confidence(e.signals) for e in examples]
    refusals = [c < chosen(e).low for c, e in zip(confidences, examples)]
    answered = [e.answered for e in examples]
    summaries = {}
    for name, statistic in (("auroc", auroc), ("ece", expected_calibration_error)):
        value = statistic(confidences, answered)
        interval = class_interval(confidences, answered, statistic)
        if value is not None and interval is not None:
            summaries[name] = MetricSummary(value, len(examples), *interval)
    for name, wanted in (("false_refusal_rate", True), ("rejection_rate", False)):
        rows = [float(r) for r, label in zip(refusals, answered) if label is wanted]
        if rows:
            interval = mean_interval(rows)
            summaries[name] = MetricSummary(float(np.mean(rows)), len(rows), *interval)
    return summaries


def _fold(example: Example) -> int:
    return zlib.crc32(example.id.encode()) % _FOLDS


def calibrated_json(done: Calibrated) -> dict[str, Any]:
    """The object that `rag eval calibrate --json` prints."""
    return asdict(done) | {
        "path": str(done.path),
        "calibration": calibration_json(done.calibration),
    }


def calibrated_text(done: Calibrated) -> str:
    """Before and after as a table, and where the result was written."""
    rows = [("", "before", "after", "95 % interval")]
    for name, after in done.after.items():
        before = done.before[name]
        interval = f"{after.low:.3f} to {after.high:.3f}"
        rows.append((name, f"{before.value:.3f}", f"{after.value:.3f}", interval))
    head = f"calibrated with {done.questions} questions; abstains below {done.calibration.low:.2f}"
    return f"{head}\n\n{aligned(rows)}\n\nwritten to {done.path}"
