"""What a run tells a person: how far it is, and at its end what it did."""

from collections.abc import Callable
from dataclasses import dataclass

from ingest.records import Problem


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a run did, by source. `unchanged` counts documents; `chunks` and `tokens` what was
    written, `truncated` the tokens that the embedding model did not read.
    """

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    problems: tuple[Problem, ...] = ()
    chunks: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    notes: tuple[str, ...] = ()

    @property
    def skipped(self) -> tuple[Problem, ...]:
        """What was left out on purpose."""
        return tuple(problem for problem in self.problems if problem.skipped)

    @property
    def failed(self) -> tuple[Problem, ...]:
        """What could not be read; what the store held of it before stays."""
        return tuple(problem for problem in self.problems if not problem.skipped)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for a progress bar."""

    stage: str
    done: int
    total: int
    unit: str
    detail: str = ""


OnProgress = Callable[[Progress], None]
