"""What a batch did: each question's outcome, and their sum."""

from dataclasses import dataclass, replace

from ingest.errors import RagError
from rag.types import Answer, Usage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one question; `answer` is None where it could not be asked at all."""

    answer: Answer | None
    error: RagError | None = None

    @property
    def status(self) -> str:
        """The answer's status; "failed" also where it broke off, for it is to be asked again."""
        return "failed" if self.error or self.answer is None else self.answer.status


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How many rows a run wrote, by their status, and what they took.

    `before` rows stood there already, `left` were not asked for. `cost_usd` is None where a price
    is unknown.
    """

    before: int = 0
    answered: int = 0
    abstained: int = 0
    incomplete: int = 0
    failed: int = 0
    left: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0

    @property
    def written(self) -> int:
        """Rows of this run."""
        return self.answered + self.abstained + self.incomplete + self.failed

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to ask."""
        return not (self.failed or self.left)

    def added(self, outcome: Outcome, rows: int) -> "BatchReport":
        """With the rows of one question."""
        usage = outcome.answer.usage if outcome.answer else Usage()
        cost = self.cost_usd
        if usage.prompt_tokens and cost is not None:
            cost = None if usage.cost_usd is None else cost + usage.cost_usd
        return replace(
            self,
            prompt_tokens=self.prompt_tokens + usage.prompt_tokens * (not usage.cached),
            completion_tokens=self.completion_tokens + usage.completion_tokens * (not usage.cached),
            cost_usd=cost,
            left=self.left - rows,
            **{outcome.status: getattr(self, outcome.status) + rows},
        )


def progress_text(report: BatchReport) -> str:
    """What a person wants to see on the way: money, failures and speed."""
    cost = "" if report.cost_usd is None else f"${report.cost_usd:.4f}"
    failed = f"{report.failed} failed" if report.failed else ""
    rate = f"{report.written / max(report.seconds, 1e-9):.1f}/s"
    return ", ".join(filter(None, (cost, failed, rate)))


def report_text(report: BatchReport) -> str:
    """One line of what a run did."""
    names = ("answered", "abstained", "incomplete", "failed", "left")
    counts = {name: getattr(report, name) for name in names} | {"there before": report.before}
    named = [f"{count} {name}" for name, count in counts.items() if count or name == "answered"]
    cost = "cost unknown" if report.cost_usd is None else f"${report.cost_usd:.4f}"
    return f"{', '.join(named)}; {cost} in {report.seconds:.1f} s"
