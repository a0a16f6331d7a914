"""Reports as text and as JSON."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report import aligned, report_from_json, report_to_json, report_to_text
from eval.types import CaseResult, MetricSummary, Report
from ingest.errors import UsageError

REPORT = Report(
    name="toy",
    fingerprint="0123456789abcdef",
    settings={"answerer": "extractive", "k": "8"},
    metrics={
        "hit@1": MetricSummary(0.75, 4, 0.25, 1.0),
        "latency_p50_ms": MetricSummary(12.345, 4, 10.0, 15.06),
    },
    tags={
        "direct": {"hit@1": MetricSummary(1.0, 2, 1.0, 1.0)},
        "other language": {"latency_p50_ms": MetricSummary(1.0, 1, 1.0, 1.0)},
    },
    results=(
        CaseResult("a", "One?", True, ("direct",), {"hit@1": 1.0}, 12.0, "Yes.", "answered", 0.9),
        CaseResult("b", "Two?", False, ("other language",), {}, 5.0, error="no connection"),
    ),
)

TEXT = """\
toy (2 questions) answerer=extractive k=8

metric          value  n   95 % interval
hit@1           0.750  4  0.250 to 1.000
latency_p50_ms   12.3  4    10.0 to 15.1

tag             n  hit@1
direct          1  1.000
other language  1      -

1 of 2 questions could not be scored:
  b: no connection"""


def test_text_form():
    """The table has a line a metric, a line a tag, and the errors."""
    assert report_to_text(REPORT) == TEXT


def test_text_form_without_tags_and_errors():
    """What is not there takes no room."""
    text = report_to_text(replace(REPORT, tags={}, results=REPORT.results[:1]))

    assert text.endswith("10.0 to 15.1")


def test_many_errors_are_cut():
    """A screen shows the first errors and how many more there are."""
    failed = tuple(replace(REPORT.results[1], id=str(number)) for number in range(8))

    text = report_to_text(replace(REPORT, results=failed))

    assert "8 of 8 questions could not be scored:\n  0: no connection" in text
    assert text.endswith("  4: no connection\n  and 3 more, all in --json")


def test_round_trip():
    """A report read back is the report that was written."""
    assert report_from_json(json.dumps(report_to_json(REPORT))) == REPORT


@given(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)), st.text())
def test_any_row_round_trips(scores, question):
    """Scores keep every digit and texts every character."""
    row = replace(REPORT.results[0], scores=scores, question=question)
    report = replace(REPORT, results=(row,))

    assert report_from_json(json.dumps(report_to_json(report), allow_nan=False)) == report


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 99}', '{"format": 1, "name": "x"}', '{"error": {"type": "x"}}'],
)
def test_other_files_are_refused(text):
    """What is not a report of this format is named as such."""
    with pytest.raises(UsageError, match="not a report"):
        report_from_json(text)


def test_columns_line_up():
    """The first column is set to the left, the others to the right."""
    assert aligned([("a", "1"), ("long", "1000")]) == "a        1\nlong  1000"
