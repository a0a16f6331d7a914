"""What happens around each question: it is counted, traced, and kept within the day's budget.

Each function takes a question and what answers it, and yields the answer's events.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace

from ingest.errors import RagError, UsageError
from rag.context import Question
from rag.instruments.ledger import DAY_S, STEPS, Entry, Ledger
from rag.instruments.telemetry import Telemetry
from rag.types import Answer, Event, Finished

Ask = Callable[[Question], Iterator[Event]]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Instruments:
    """Where questions are counted and traced; `origin` is the command that asks them."""

    origin: str = "library"
    ledger: Ledger | None = None
    telemetry: Telemetry | None = None
    clock: Clock = time.time

    def count(self, entry: Entry) -> str:
        """Write the ledger's row; what the person should know of it, mostly ""."""
        return self.ledger.record(entry) if self.ledger is not None else ""

    def close(self) -> None:
        """Write and send what is left."""
        if self.ledger is not None:
            self.ledger.close()
        if self.telemetry is not None:
            self.telemetry.close()


def observed(question: Question, ask: Ask, instruments: Instruments) -> Iterator[Event]:
    """Count a question and trace it; a consumer that goes away is counted as an interruption.

    The ledger's row is written just before the last event, so that a note can go along with it,
    and the spans are made after it.
    """
    asked = instruments.clock()
    entry: Entry | None = None
    try:
        for event in ask(question):
            if isinstance(event, Finished):
                entry = finished_entry(event.answer, event.error, asked, instruments.origin)
                yield _noted(event, instruments.count(entry))
            else:
                yield event
    except UsageError:
        raise  # it was never asked
    except BaseException as error:
        if entry is None:
            gone = isinstance(error, GeneratorExit | KeyboardInterrupt)
            entry = Entry(
                time=asked,
                origin=instruments.origin,
                status="interrupted" if gone else "failed",
                error=None if gone else _name(error),
                total_ms=(instruments.clock() - asked) * 1000,
                question=question.text,
            )
            instruments.count(entry)
        raise
    finally:
        if entry is not None and instruments.telemetry is not None:
            instruments.telemetry.record(entry)


def within_budget(
    question: Question, ask: Ask, ledger: Ledger, limit: float, clock: Clock = time.time
) -> Iterator[Event]:
    """Answer extractively once the day's questions have cost `limit` US dollars, by UTC.

    A limit that cannot be checked is one that is reached. Questions that are under way at once
    may pass it together.
    """
    now = clock()
    try:
        spent = ledger.spent(now - now % DAY_S, now)
        reason = f"${spent:.4f} were spent today" if spent >= limit else ""
    except (sqlite3.Error, OSError) as error:
        reason = f"today's cost is unknown ({error})"
    if question.extractive or not reason:
        yield from ask(question)
        return
    note = f"extractive answer, for {reason}, and chat.max_cost_per_day is {limit:g}"
    for event in ask(replace(question, extractive=True)):
        yield _noted(event, note)


def finished_entry(answer: Answer, error: RagError | None, asked: float, origin: str) -> Entry:
    """What the ledger keeps of an answer."""
    usage = answer.usage if answer.model else replace(answer.usage, cost_usd=0.0)
    same = {f.name: getattr(answer, f.name) for f in fields(Entry) if hasattr(answer, f.name)}
    times = {f"{step}_ms": answer.timings_ms.get(step) for step in STEPS}
    counts = {name: len(same[name]) for name in ("citations", "warnings")}
    own = {"time": asked, "origin": origin, "error": error.name if error else None}
    return Entry(**{**same, **asdict(usage), **times, **counts, **own})


def _name(error: BaseException) -> str:
    return error.name if isinstance(error, RagError) else "unexpected_error"


def _noted(event: Event, note: str) -> Event:
    """The event; the last one with a note for the person, where there is something to note."""
    if not note or not isinstance(event, Finished):
        return event
    return replace(event, answer=replace(event.answer, warnings=(*event.answer.warnings, note)))
