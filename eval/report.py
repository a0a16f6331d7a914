"""A report as an aligned table for people and as JSON for scripts and later comparisons."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eval.types import CaseResult, MetricSummary, Report
from ingest.errors import UsageError

FORMAT = 1

# Shown by tag, the most telling first; a terminal has room for a handful of columns.
_TAG_COLUMNS = 6
_TELLING = (
    "hit@1",
    "recall@5",
    "ndcg@10",
    "contains",
    "faithfulness",
    "citation_precision",
    "citation_validity",
    "rejection_rate",
    "false_refusal_rate",
    "mrr@10",
)


def report_to_text(report: Report) -> str:
    """The report as plain text: a line a metric, then a line a tag, then the errors."""
    head = " ".join(f"{name}={value}" for name, value in report.settings.items())
    parts = [f"{report.name} ({len(report.results)} questions) {head}".rstrip()]
    rows = [_metric_row(name, summary) for name, summary in report.metrics.items()]
    parts.append(aligned([("metric", "value", "n", "95 % interval"), *rows]))
    if report.tags:
        parts.append(aligned(_tag_rows(report)))
    if report.errors:
        parts.append(_error_lines(report.errors, len(report.results)))
    return "\n\n".join(parts)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _metric_row(name: str, summary: MetricSummary) -> tuple[str, str, str, str]:
    digits = 1 if name.endswith("_ms") else 3
    interval = f"{summary.low:.{digits}f} to {summary.high:.{digits}f}"
    return name, f"{summary.value:.{digits}f}", str(summary.n), interval


def _tag_rows(report: Report) -> list[list[str]]:
    columns = [name for name in _TELLING if name in report.metrics][:_TAG_COLUMNS]
    rows = [["tag", "n", *columns]]
    for tag, summaries in report.tags.items():
        count = sum(tag in result.tags for result in report.results)
        cells = [f"{summaries[name].value:.3f}" if name in summaries else "-" for name in columns]
        rows.append([tag, str(count), *cells])
    return rows


def _error_lines(errors: Sequence[CaseResult], total: int, shown: int = 5) -> str:
    lines = [f"{len(errors)} of {total} questions could not be scored:"]
    lines += [f"  {result.id}: {result.error}" for result in errors[:shown]]
    if len(errors) > shown:
        lines.append(f"  and {len(errors) - shown} more, all in --json")
    return "\n".join(lines)


def report_to_json(report: Report) -> dict[str, Any]:
    """The whole report as plain values for `json.dumps`; `report_from_json` reads them back."""
    return {"format": FORMAT, **asdict(report)}


def report_from_json(text: str) -> Report:
    """Read a report back. Raises UsageError for anything that `report_to_json` did not write."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, not {FORMAT}")
        return _report(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"not a report of `rag eval run --json`: {error}", "run `rag eval run SET --json` again"
        ) from None


def _report(data: Mapping[str, Any]) -> Report:
    return Report(
        name=data["name"],
        fingerprint=data["fingerprint"],
        settings=dict(data["settings"]),
        metrics=_summaries(data["metrics"]),
        tags={tag: _summaries(metrics) for tag, metrics in data["tags"].items()},
        results=tuple(CaseResult(**{**row, "tags": tuple(row["tags"])}) for row in data["results"]),
    )


def _summaries(data: Mapping[str, Mapping[str, Any]]) -> dict[str, MetricSummary]:
    return {name: MetricSummary(**summary) for name, summary in data.items()}
