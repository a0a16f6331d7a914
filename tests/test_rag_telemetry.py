"""Spans and metrics for OpenTelemetry: what is in them, what is not, and who receives them."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import Rag
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from served import Request, Response, Served

from rag.instruments.ledger import Entry
from rag.instruments.telemetry import Providers, Telemetry, asked_for, installed, open_telemetry
from rag.settings.config import ChatSection

LEAVE = "How many days of paid leave does an employee have?"
GOOD = "Every employee has 28 days of paid leave a year."
START_S = 1_800_000_000
ENTRY = Entry(
    time=float(START_S),
    origin="ask",
    status="answered",
    answerer="chat",
    model="gpt-4o-mini-2024-07-18",
    prompt_tokens=800,
    completion_tokens=60,
    cost_usd=0.0002,
    retries=1,
    retrieve_ms=10.0,
    first_token_ms=300.0,
    chat_ms=800.0,
    verify_ms=5.0,
    total_ms=820.0,
    grounding=1.0,
    confidence=0.9,
    citations=2,
    question="Where does Anna work?",
    answer="In Bremen [1].",
)
CHAT = ChatSection(base_url="http://127.0.0.1:8080/v1")


class Memory:
    """Telemetry whose spans and metrics stay in memory."""

    def __init__(self, *, capture: bool = False) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        traces = TracerProvider(shutdown_on_exit=False)
        traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        metrics = MeterProvider([self.reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(CHAT, lambda: Providers(traces, metrics), capture=capture)

    def spans(self, entry: Entry) -> dict[str, ReadableSpan]:
        """The spans of a question by their names."""
        self.telemetry.record(entry)
        return {span.name: span for span in self.exporter.get_finished_spans()}

    @property
    def points(self) -> dict[tuple[str, Any], float]:
        """The sum of each metric, by its name and the kind of token."""
        data = self.reader.get_metrics_data()
        scopes = [s for r in data.resource_metrics for s in r.scope_metrics] if data else []
        return {
            (metric.name, (point.attributes or {}).get("gen_ai.token.type")): point.sum
            for scope in scopes
            for metric in scope.metrics
            for point in metric.data.data_points
        }


@pytest.fixture
def memory() -> Memory:
    return Memory()


def milliseconds(span: ReadableSpan) -> tuple[float, float]:
    """From and to, after the question was asked."""
    return tuple((at - START_S * 10**9) / 1e6 for at in (span.start_time, span.end_time))


def test_a_question_is_a_tree_of_its_steps(memory: Memory) -> None:
    """Retrieval, chat and check stand below the question, at the times that they took."""
    spans = memory.spans(ENTRY)

    root = spans["rag.ask"].context.span_id
    parents = {name: span.parent and span.parent.span_id for name, span in spans.items()}
    assert parents == {
        "rag.ask": None,
        "retrieval": root,
        "chat gpt-4o-mini": root,
        "verify": root,
    }
    assert {name: milliseconds(span) for name, span in spans.items()} == {
        "rag.ask": (0, 820),
        "retrieval": (0, 10),
        "chat gpt-4o-mini": (10, 810),
        "verify": (815, 820),
    }


def test_the_chat_span_follows_the_conventions(memory: Memory) -> None:
    """Names and values are those of the GenAI conventions; no text is among them."""
    span = memory.spans(ENTRY)["chat gpt-4o-mini"]

    assert span.kind is SpanKind.CLIENT
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.usage.input_tokens": 800,
        "gen_ai.usage.output_tokens": 60,
        "gen_ai.response.time_to_first_chunk": 0.3,
        "server.address": "127.0.0.1",
        "server.port": 8080,
        "rag.retries": 1,
    }


def test_metrics_follow_the_conventions(memory: Memory) -> None:
    """One duration in seconds, and the tokens in and out."""
    memory.telemetry.record(ENTRY)

    assert memory.points == {
        ("gen_ai.client.operation.duration", None): 0.8,
        ("gen_ai.client.token.usage", "input"): 800,
        ("gen_ai.client.token.usage", "output"): 60,
    }


@pytest.mark.parametrize("capture", [False, True], ids=["by-default", "captured"])
def test_words_are_in_spans_only_where_asked_for(capture: bool) -> None:
    """Question and answer are captured by the standard variable alone."""
    spans = Memory(capture=capture).spans(ENTRY)

    texts = json.dumps([dict(span.attributes or {}) for span in spans.values()])
    assert ("Anna" in texts, "Bremen" in texts) == (capture, capture)


def test_a_failure_is_an_error_with_its_name(memory: Memory) -> None:
    """The question and its chat call are marked; tokens that nobody counted are left out."""
    failed = replace(ENTRY, status="failed", error="chat_unavailable", chat_ms=None)

    spans = memory.spans(replace(failed, first_token_ms=None, verify_ms=None))

    for name in ("rag.ask", "chat gpt-4o-mini"):
        assert spans[name].status.status_code is StatusCode.ERROR
        assert spans[name].attributes["error.type"] == "chat_unavailable"
    assert milliseconds(spans["chat gpt-4o-mini"]) == (10, 820)
    assert list(memory.points) == [("gen_ai.client.operation.duration", None)]


@pytest.mark.parametrize(
    "change", [{"model": None, "answerer": "extractive"}, {"cached": True}], ids=str
)
def test_without_a_chat_call_there_is_no_chat_span(memory: Memory, change) -> None:
    """An extractive answer and a cached one have asked nobody."""
    spans = memory.spans(replace(ENTRY, **change, verify_ms=None))

    assert set(spans) == {"rag.ask", "retrieval"}
    assert memory.points == {}


def test_estimated_tokens_are_no_usage(memory: Memory) -> None:
    """What was counted here and not billed is not reported as usage."""
    span = memory.spans(replace(ENTRY, estimated=True))["chat gpt-4o-mini"]

    assert "gen_ai.usage.input_tokens" not in span.attributes
    assert list(memory.points) == [("gen_ai.client.operation.duration", None)]


def test_a_failing_library_does_not_hurt_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be opened is said, and nothing is raised."""

    def broken() -> Providers:
        raise ValueError("no such protocol")

    Telemetry(CHAT, broken).record(ENTRY)

    assert caplog.messages == ["telemetry failed: no such protocol"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "c:4318"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://me:secret@t/v1"}, "t"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"},
            "",
        ),
    ],
)
def test_the_standard_variables_turn_it_on(environment: dict[str, str], expected: str) -> None:
    """Nothing is sent where no collector is named, or the SDK is disabled."""
    assert asked_for(environment) == expected
    assert (open_telemetry(CHAT, environment) is not None) == (bool(expected) and installed())


def test_nothing_is_imported_where_it_is_off() -> None:
    """Without the variables the SDK costs nothing."""
    code = (
        "import sys, rag.app; from rag.instruments.telemetry import open_telemetry\n"
        "from rag.settings.config import ChatSection\n"
        "print(open_telemetry(ChatSection(), {}), 'opentelemetry' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )

    assert done.stdout.split() == ["None", "False"]


needs_exporter = pytest.mark.skipif(not installed(), reason="needs ragcite[otel]")


@needs_exporter
def test_a_collector_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of a command takes at most two seconds longer."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": place}
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", place)
        telemetry = open_telemetry(CHAT, environment)
        assert telemetry is not None
        telemetry.record(ENTRY)
        begun = time.perf_counter()
        telemetry.close()

    assert time.perf_counter() - begun < 2.5


def respond(request: Request) -> Response:
    """A chat API and a collector behind one address."""
    if request.path.startswith("/otlp"):
        return Response(b"", kind="application/x-protobuf")
    body = {
        "model": "m-1",
        "choices": [{"message": {"content": GOOD}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10},
    }
    return Response(json.dumps(body).encode())


@pytest.fixture
def server() -> Iterator[Served]:
    with Served(respond) as running:
        yield running


@needs_exporter
def test_a_collector_receives_the_spans_of_a_command(library: Rag, server: Served) -> None:
    """`rag ask` sends spans and metrics to the collector that the standard variable names."""
    result = library(
        "ask",
        LEAVE,
        "--json",
        environment={
            "OPENAI_BASE_URL": f"{server.url}/v1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{server.url}/otlp",
        },
    )

    assert (result.code, result.err) == (0, "")
    sent = [(request.path, request.body) for request in server.requests]
    traces = [  # of one request, or of several where the command takes long
        resource
        for path, body in sent
        if path == "/otlp/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
    ]
    spans = {s.name: s for trace in traces for scope in trace.scope_spans for s in scope.spans}
    assert set(spans) == {"rag.ask", "retrieval", "chat gpt-4o-mini", "verify"}
    assert len({span.trace_id for span in spans.values()}) == 1
    resource = {a.key: a.value.string_value for a in traces[0].resource.attributes}
    assert resource["service.name"] == "ragcite"
    (metrics,) = ExportMetricsServiceRequest.FromString(
        dict(sent)["/otlp/v1/metrics"]
    ).resource_metrics
    names = {metric.name for scope in metrics.scope_metrics for metric in scope.metrics}
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert all(b"28 days" not in body for path, body in sent if "otlp" in path)
