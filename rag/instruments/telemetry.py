"""Spans and metrics by OpenTelemetry's conventions for generative AI, which are in development
(github.com/open-telemetry/semantic-conventions-genai).

They are on where the standard variable OTEL_EXPORTER_OTLP_ENDPOINT, or the one for traces, names a
collector and `ragcite[otel]` is installed; otherwise nothing is imported. A question's spans are
made when it is over, from the times that its answer measured:

    rag.ask → retrieval, chat MODEL, verify
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from importlib.util import find_spec
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from rag.instruments.ledger import Entry
from rag.settings.config import ChatSection

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_LONGEST_GOODBYE_S = 2.0
# Bounds of histogram buckets, as the conventions give them: powers of two and of four.
_SECONDS = [0.01 * 2**power for power in range(14)]
_TOKENS = [4.0**power for power in range(14)]
_HISTOGRAMS = (
    ("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS),
    ("gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", _TOKENS),
)

Attributes = Mapping[str, Any]
# A span's name, from and to milliseconds after the question, and attributes; None is unknown.
Step = tuple[str, float, float, Attributes]
_log = logging.getLogger(__name__)


class Providers(NamedTuple):
    """The two doors of OpenTelemetry's SDK; metrics may be off."""

    traces: "TracerProvider"
    metrics: "MeterProvider | None" = None


class Telemetry:
    """Sends what it is told of from a thread of its own; nothing is imported before the first."""

    def __init__(
        self, chat: ChatSection, open_providers: Callable[[], Providers], *, capture: bool = False
    ) -> None:
        """`chat` says what is requested; `capture` puts questions and answers into spans."""
        self._requested = {"gen_ai.request.model": chat.model, **_server(chat.url)}
        self._open = open_providers
        self._capture = capture
        self._lock = Lock()

    def record(self, entry: Entry) -> None:
        """Make the spans and metrics of a question that is over. Never fails."""
        try:
            with self._lock:  # the first of several threads opens the providers
                self._trace(entry)
                self._measure(entry)
        except Exception as error:  # noqa: BLE001 - a library's failure must not hurt an answer
            _log.warning("telemetry failed: %s", error)

    def close(self) -> None:
        """Send what is left, but do not wait for a collector that does not answer."""
        if "_providers" not in vars(self):
            return
        goodbyes = [Thread(target=each.shutdown, daemon=True) for each in self._providers if each]
        for goodbye in goodbyes:
            goodbye.start()
        for goodbye in goodbyes:
            goodbye.join(_LONGEST_GOODBYE_S / len(goodbyes))

    @cached_property
    def _providers(self) -> Providers:
        return self._open()

    @cached_property
    def _histograms(self) -> list[Any]:
        if self._providers.metrics is None:
            return []
        meter = self._providers.metrics.get_meter("ragcite")
        return [
            meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=bounds)
            for name, unit, text, bounds in _HISTOGRAMS
        ]

    def _trace(self, entry: Entry) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        def at(milliseconds: float) -> int:
            return int(entry.time * 1e9) + int(milliseconds * 1e6)

        tracer, below = self._providers.traces.get_tracer("ragcite"), None
        for name, start, end, attributes in steps(entry, self._requested, capture=self._capture):
            known = _known(attributes)
            kind = SpanKind.CLIENT if "server.address" in known else SpanKind.INTERNAL
            span = tracer.start_span(name, below, kind, known, None, at(start))
            below = below or set_span_in_context(span)
            if "error.type" in known:
                span.set_status(Status(StatusCode.ERROR))
            span.end(at(end))

    def _measure(self, entry: Entry) -> None:
        if not self._histograms or not _called(entry):
            return
        duration, tokens = self._histograms
        common = _known(_of_chat(entry, self._requested))
        start, end = _chat_times(entry)
        duration.record((end - start) / 1000, common)
        if not entry.estimated and not entry.error:
            tokens.record(entry.prompt_tokens, {**common, "gen_ai.token.type": "input"})
            tokens.record(entry.completion_tokens, {**common, "gen_ai.token.type": "output"})


def open_telemetry(chat: ChatSection, environment: Mapping[str, str]) -> Telemetry | None:
    """What the environment asks for; None where it asks for nothing, or the extra is missing."""
    if not asked_for(environment) or not installed():
        return None
    capture = environment.get(_CAPTURE, "").lower() == "true"
    return Telemetry(chat, lambda: _open_providers(environment), capture=capture)


def asked_for(environment: Mapping[str, str]) -> str:
    """The host of the collector that the environment names; "" for none."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    place = next((place for name in _ENDPOINTS if (place := environment.get(name))), "")
    return urlsplit(place).netloc.rpartition("@")[2]


def installed() -> bool:
    """Whether `ragcite[otel]` is there."""
    with suppress(ModuleNotFoundError):
        return find_spec(_EXPORTER) is not None
    return False


def steps(entry: Entry, requested: Attributes, *, capture: bool) -> Iterator[Step]:
    """The spans of a question: its own first, and those below it in order.

    The chat span also holds the packing of its prompt. Sentences are checked while the reply
    streams: the span of the check has its whole time, placed at the end.
    """
    yield ("rag.ask", 0.0, entry.total_ms, _of_question(entry))
    if entry.retrieve_ms is not None:
        found = {"gen_ai.operation.name": "retrieval"}
        if capture and entry.question:
            found["gen_ai.retrieval.query.text"] = entry.question
        yield ("retrieval", 0.0, entry.retrieve_ms, found)
    if _called(entry):
        start, end = _chat_times(entry)
        said = _messages(entry) if capture else {}
        attributes = {**_of_chat(entry, requested), **_of_reply(entry), **said}
        yield (f"chat {requested['gen_ai.request.model']}", start, end, attributes)
    if entry.verify_ms is not None:
        yield ("verify", entry.total_ms - entry.verify_ms, entry.total_ms, {})


def _called(entry: Entry) -> bool:
    return bool(entry.model) and not entry.cached


def _chat_times(entry: Entry) -> tuple[float, float]:
    start = entry.retrieve_ms or 0.0
    return start, entry.total_ms if entry.chat_ms is None else start + entry.chat_ms


def _known(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


def _of_question(entry: Entry) -> Attributes:
    names = ("origin", "status", "answerer", "grounding", "confidence", "citations", "cached")
    own = {f"rag.{name}": getattr(entry, name) for name in (*names, "cost_usd")}
    return {**own, "error.type": entry.error}


def _of_chat(entry: Entry, requested: Attributes) -> Attributes:
    """What its span and its metrics share. The format is OpenAI's, whoever serves it."""
    own = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    return {**own, **requested, "error.type": entry.error}


def _of_reply(entry: Entry) -> Attributes:
    is_counted = not entry.estimated and not entry.error
    first = entry.first_token_ms
    return {
        "rag.retries": entry.retries,
        "gen_ai.response.model": None if entry.error else entry.model,
        "gen_ai.usage.input_tokens": entry.prompt_tokens if is_counted else None,
        "gen_ai.usage.output_tokens": entry.completion_tokens if is_counted else None,
        "gen_ai.response.time_to_first_chunk": None if first is None else first / 1000,
    }


def _messages(entry: Entry) -> Attributes:
    def message(role: str, text: str | None) -> dict[str, Any]:
        return {"role": role, "parts": [{"type": "text", "content": text or ""}]}

    reply = message("assistant", entry.answer) | {
        "finish_reason": "error" if entry.error else "stop"
    }
    return {
        "gen_ai.input.messages": json.dumps([message("user", entry.question)], ensure_ascii=False),
        "gen_ai.output.messages": json.dumps([reply], ensure_ascii=False),
    }


def _server(url: str) -> Attributes:
    with suppress(ValueError):
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
        if parts.hostname:
            return {"server.address": parts.hostname, "server.port": port}
    return {}


class _FirstComplaint(logging.Handler):
    """Passes on the first of the SDK's complaints: it repeats one at every try."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take one."""
        self.setLevel(logging.CRITICAL + 1)
        _log.warning("telemetry: %s", record.getMessage())


def _open_providers(environment: Mapping[str, str]) -> Providers:
    """The SDK with exporters that read the standard variables themselves."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    sdk = logging.getLogger("opentelemetry")
    sdk.addHandler(_FirstComplaint(logging.WARNING))
    sdk.propagate = False
    named = environment.get("OTEL_SERVICE_NAME") or (
        "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    )
    resource = Resource.create({} if named else {"service.name": "ragcite"})
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if environment.get("OTEL_METRICS_EXPORTER") == "none":
        return Providers(traces)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    return Providers(traces, MeterProvider([reader], resource, shutdown_on_exit=False))
