"""`rag stats`: what the ledger's rows amount to, as a person reads it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rag.commands.options import Common
from rag.render import printable
from rag.settings.config import find_store

if TYPE_CHECKING:
    from rag.instruments.stats import Latency, Regression, Stats, Summary

_GAP = "  "


def stats(
    common: Common,
    days: Annotated[int, typer.Option(min=1, help="Of the last so many days.")] = 30,
    evaluations: Annotated[
        bool, typer.Option("--eval", help="Count the questions of `rag eval` too.")
    ] = False,
) -> None:
    """Questions, cost, latency, errors and refusals so far, and what became worse in a week."""
    from rag.instruments.ledger import read_entries
    from rag.instruments.stats import first_moment, statistics

    now = time.time()
    with common.open_store() as opened:
        status = opened.status()
    settings = common.settings()
    entries = read_entries(find_store(settings), first_moment(now, days), now)
    counted = statistics(entries, now, days, evaluations=evaluations)
    store = f"{status.documents} documents, {status.chunks} chunks, {status.bytes / 1e6:.1f} MB"
    lines = [store, *_lines(counted)]
    if not counted.total.questions:
        lines.append(
            'ask one: `rag ask "What …?"`'
            if settings.ledger.enabled
            else "they are not counted: set ledger.enabled = true"
        )
    common.output.result({"store": asdict(status), **asdict(counted)}, "\n".join(lines))


def _lines(stats: "Stats") -> Iterator[str]:
    total = stats.total
    if not total.questions:
        yield f"no questions in {stats.days} days"
        return
    yield (
        f"{total.questions} questions in {stats.days} days ({_counts(stats.origins)}): "
        f"{_counts(total.statuses)}"
    )
    if total.errors:
        yield f"errors: {_counts(total.errors)}"
    yield ""
    yield from _table([_latency(*timed) for timed in total.latency_ms.items()])
    for title, groups in (("model", stats.models), ("day", stats.by_day)):
        yield ""
        yield from _table([{title: name, **_figures(group)} for name, group in groups.items()])
    if total.unpriced:
        yield ""
        yield (
            f"{total.unpriced} questions have no price: set chat.price_in and chat.price_out "
            "for the next ones"
        )
    if stats.regressions:
        yield "\nworse in the last 7 days than in the 7 before:"
        yield from (f"{_GAP}{_worse(regression)}" for regression in stats.regressions)


def _latency(step: str, latency: "Latency") -> dict[str, str]:
    return {
        "milliseconds": step.replace("_", " "),
        "p50": f"{latency.p50:,.1f}",
        "p95": f"{latency.p95:,.1f}",
        "questions": f"{latency.questions:,}",
    }


def _figures(group: "Summary") -> dict[str, str]:
    failed = group.statuses.get("failed", 0) + group.statuses.get("incomplete", 0)
    return {
        "questions": f"{group.questions:,}",
        "abstained": f"{group.statuses.get('abstained', 0):,}",
        "failed": f"{failed:,}",
        "cached": f"{group.cached:,}",
        "retries": f"{group.retries:,}",
        "grounding": "-" if group.grounding is None else f"{group.grounding:.2f}",
        "total p50": f"{group.latency_ms['total'].p50:,.0f}",
        "tokens in": f"{group.prompt_tokens:,}",
        "tokens out": f"{group.completion_tokens:,}",
        "USD": f"{group.cost_usd:.4f}",
    }


def _table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Rows that have the same columns, the first to the left and the figures to the right."""
    lines = [[*rows[0]], *([printable(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *figures in lines:
        aligned = (f"{cell:>{width}}" for cell, width in zip(figures, widths[1:], strict=True))
        yield _GAP.join((f"{first:<{widths[0]}}", *aligned))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {printable(name)}" for name, count in counts.items())


def _worse(found: "Regression") -> str:
    if found.name.endswith("_ms"):
        step = found.name.removesuffix("_ms").replace("_", " ")
        return f"{step}: {found.after:,.0f} ms at the median, before {found.before:,.0f} ms"
    if found.name == "cost_usd":
        return f"cost: ${found.after:.6f} a question at the median, before ${found.before:.6f}"
    return (
        f"{found.name}: {found.after:.1%} of {found.questions_after:,} questions, "
        f"before {found.before:.1%} of {found.questions_before:,}"
    )
