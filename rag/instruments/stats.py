"""What the ledger's rows amount to: counts, costs, latencies, and what became worse in a week.

Pure functions over rows. Days are those of UTC, as in the bills of most APIs.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt
from operator import attrgetter

import numpy as np

from rag.instruments.ledger import DAY_S, EVALUATION, STEPS, Entry

EXTRACTIVE = "extractive"

_Figure = Callable[[Entry], float | None]

_WEEK_S = 7 * DAY_S
_NORMAL_95 = 1.96
# A median that moves less, or is one of fewer questions, is what a busy machine does on its own.
_SLOWER = 1.5
_FEWEST = 30
_ENDED_WELL = ("answered", "abstained")


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a step over `questions` that took it; quantiles interpolate linearly."""

    questions: int
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Some questions: how they ended, what they cost, how long they took.

    `unpriced` are those whose cost is not in `cost_usd`, for their model's price is unknown.
    `grounding` is the mean of those that have one.
    """

    questions: int
    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    cached: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    unpriced: int
    grounding: float | None
    latency_ms: Mapping[str, Latency]


@dataclass(frozen=True, slots=True)
class Regression:
    """A figure that is worse in the last seven days than in the seven before.

    A share in 0..1 of so many questions, or the median of a time in milliseconds or of a cost.
    """

    name: str
    before: float
    after: float
    questions_before: int
    questions_after: int


@dataclass(frozen=True, slots=True)
class Stats:
    """The questions of the last `days`: together, by origin, by model and by day."""

    days: int
    total: Summary
    origins: Mapping[str, int]
    models: Mapping[str, Summary]
    by_day: Mapping[str, Summary]
    regressions: tuple[Regression, ...]


def first_moment(now: float, days: int) -> float:
    """Where the rows begin that the statistics of so many days need."""
    return now - max(days * DAY_S, 2 * _WEEK_S)


def statistics(
    entries: Iterable[Entry], now: float, days: int, *, evaluations: bool = False
) -> Stats:
    """The statistics of rows since `first_moment`; those of `rag eval` only where asked for."""
    known = [entry for entry in entries if evaluations or entry.origin != EVALUATION]
    shown = [entry for entry in known if entry.time > now - days * DAY_S]
    models = _grouped(shown, lambda entry: entry.model or EXTRACTIVE)
    return Stats(
        days,
        summary(shown),
        dict(Counter(entry.origin for entry in shown).most_common()),
        dict(sorted(models.items(), key=lambda model: -model[1].questions)),
        _grouped(shown, lambda entry: datetime.fromtimestamp(entry.time, UTC).date().isoformat()),
        regressions(known, now),
    )


def summary(entries: Sequence[Entry]) -> Summary:
    """What some questions have in common."""
    grounded = _values(attrgetter("grounding"), entries)
    return Summary(
        questions=len(entries),
        statuses=dict(Counter(entry.status for entry in entries).most_common()),
        errors=dict(Counter(entry.error for entry in entries if entry.error).most_common()),
        cached=sum(entry.cached for entry in entries),
        retries=sum(entry.retries for entry in entries),
        prompt_tokens=sum(entry.prompt_tokens for entry in entries),
        completion_tokens=sum(entry.completion_tokens for entry in entries),
        cost_usd=round(sum(entry.cost_usd or 0.0 for entry in entries), 8),
        unpriced=sum(entry.cost_usd is None and bool(entry.prompt_tokens) for entry in entries),
        grounding=sum(grounded) / len(grounded) if grounded else None,
        latency_ms=_latencies(entries),
    )


def regressions(entries: Sequence[Entry], now: float) -> tuple[Regression, ...]:
    """What is worse in the last seven days than in the seven before.

    A share is, where the 95 % intervals of Wilson (1927) do not touch; a time or a cost where its
    median has grown by half, and each week has thirty.
    """
    before = [entry for entry in entries if 0 <= now - _WEEK_S - entry.time < _WEEK_S]
    after = [entry for entry in entries if 0 <= now - entry.time < _WEEK_S]
    found = [
        worse(name, _values(of, before), _values(of, after))
        for worse, figures in ((_worse_share, _SHARES), (_worse_median, _MEDIANS))
        for name, of in figures.items()
    ]
    return tuple(regression for regression in found if regression)


def wilson(hits: float, total: int) -> tuple[float, float]:
    """The 95 % interval of a share in 0..1 (Wilson 1927); `total` is at least 1."""
    share, square = hits / total, _NORMAL_95**2
    middle = share + square / (2 * total)
    half = _NORMAL_95 * sqrt(share * (1 - share) / total + square / (4 * total**2))
    scale = 1 + square / total
    return (middle - half) / scale, (middle + half) / scale


# Shares of which more is worse: whether a question counts, None where it is not of the kind.
_SHARES: Mapping[str, _Figure] = {
    "failed": lambda e: None if e.status == "interrupted" else e.status in ("failed", "incomplete"),
    "abstained": lambda e: e.status == "abstained" if e.status in _ENDED_WELL else None,
    "unsupported": lambda e: None if e.grounding is None else e.grounding < 1,
    "retried": lambda e: e.retries > 0 if e.model and not e.cached else None,
}
# The whole time is left out: it tells rather whether a model wrote the answers.
_MEDIANS: Mapping[str, _Figure] = {
    "retrieve_ms": lambda e: e.retrieve_ms,
    "first_token_ms": lambda e: None if e.cached else e.first_token_ms,
    "chat_ms": lambda e: None if e.cached else e.chat_ms,
    "cost_usd": lambda e: e.cost_usd if e.model and not e.cached else None,
}


def _values(of: _Figure, entries: Iterable[Entry]) -> list[float]:
    return [value for entry in entries if (value := of(entry)) is not None]


def _worse_share(name: str, old: Sequence[float], new: Sequence[float]) -> Regression | None:
    if not old or not new or wilson(sum(new), len(new))[0] <= wilson(sum(old), len(old))[1]:
        return None
    return Regression(name, sum(old) / len(old), sum(new) / len(new), len(old), len(new))


def _worse_median(name: str, old: Sequence[float], new: Sequence[float]) -> Regression | None:
    if min(len(old), len(new)) < _FEWEST:
        return None
    medians = float(np.median(old)), float(np.median(new))
    if medians[0] <= 0 or medians[1] < _SLOWER * medians[0]:
        return None
    return Regression(name, *medians, len(old), len(new))


def _latencies(entries: Sequence[Entry]) -> dict[str, Latency]:
    latencies = {}
    for step in STEPS:
        if times := _values(attrgetter(f"{step}_ms"), entries):
            p50, p95 = np.quantile(times, [0.5, 0.95])
            latencies[step] = Latency(len(times), float(p50), float(p95))
    return latencies


def _grouped(entries: Sequence[Entry], key: Callable[[Entry], str]) -> dict[str, Summary]:
    groups: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return {name: summary(group) for name, group in groups.items()}
