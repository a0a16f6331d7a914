"""What an evaluation is made of: cases with their gold evidence, scored rows, and the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rag.types import Message, Status


@dataclass(frozen=True, slots=True)
class Evidence:
    """One gold pointer; the most exact thing given decides how a passage matches it.

    `text` matches by overlap of the words themselves, so that a set outlives a change of the
    chunk size; then `start` and `end` (half-open, in the document's text); then `page`, counted
    from 1; then the document alone. An empty `source` matches in any document. `grade` is the
    graded relevance of a qrels file, 1 elsewhere.
    """

    source: str = ""
    text: str = ""
    page: int | None = None
    start: int | None = None
    end: int | None = None
    grade: float = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """One question: accepted answers, gold evidence, and the earlier turns of its conversation.

    `answerable` is False where the documents do not hold the answer and a refusal is right.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    answerable: bool = True
    evidence: tuple[Evidence, ...] = ()
    tags: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class EvalSet:
    """A question set and, where it brings its own documents, the path of those.

    `fingerprint` names questions, gold and documents: runs with different ones do not compare.
    """

    name: str
    cases: tuple[Case, ...]
    corpus: Path | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class CitedPlace:
    """What the store holds where a citation points: the heading path, and the words there."""

    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One row: the scores that apply to the case, or the error that kept it from being scored.

    A score that does not apply is absent, never 0. `milliseconds` is the time of the whole call.
    """

    id: str
    question: str
    answerable: bool
    tags: tuple[str, ...]
    scores: Mapping[str, float]
    milliseconds: float
    answer: str | None = None
    status: Status | None = None
    confidence: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """A metric over `n` rows with its 95 % interval; a mean unless the name says otherwise."""

    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one run over one set; `settings` says what was run (answerer, model, k...)."""

    name: str
    fingerprint: str
    settings: Mapping[str, str]
    metrics: Mapping[str, MetricSummary]
    tags: Mapping[str, Mapping[str, MetricSummary]]
    results: tuple[CaseResult, ...] = field(repr=False)

    @property
    def errors(self) -> tuple[CaseResult, ...]:
        """The rows that could not be scored."""
        return tuple(result for result in self.results if result.error is not None)
