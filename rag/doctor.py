"""`rag doctor`: checks of the whole installation, each with what to do when it fails."""

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter

from ingest.errors import RagError, StoreMissing
from ingest.store import Store
from rag.app import open_chat, own_embedder
from rag.chat.client import ChatOptions
from rag.instruments.telemetry import asked_for, installed
from rag.settings.config import Settings, find_store
from rag.types import Message

_LIBRARIES = ("chromadb", "sentence-transformers", "torch", "httpx", "tiktoken", "typer", "pypdf")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `hint` mends it where it failed."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def checks(settings: Settings) -> tuple[Check, ...]:
    """Run every check; a failure of one never hides the next."""
    probes: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("python", _python),
        ("libraries", _libraries),
        ("embedding model", _embedding),
        ("store", _store),
        ("index", _index),
        ("chat API", _chat),
        ("telemetry", _telemetry),
    )
    return tuple(_run(name, probe, settings) for name, probe in probes)


def _run(name: str, probe: Callable[[Settings], str], settings: Settings) -> Check:
    try:
        return Check(name, True, probe(settings))
    except StoreMissing as error:
        # A fresh installation is sound: there is only nothing in it yet.
        return Check(name, True, error.message)
    except RagError as error:
        return Check(name, False, error.message, error.hint)


def _python(settings: Settings) -> str:
    return f"{sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}"


def _libraries(settings: Settings) -> str:
    try:
        return ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    except PackageNotFoundError as error:
        raise RagError(f"{error.name} is not installed", "run `pip install ragcite`") from error


def _embedding(settings: Settings) -> str:
    embedder = own_embedder(settings)
    vector = embedder.embed_query("a question")
    return f"{embedder.name}, {len(vector)} dimensions, weights as published"


def _store(settings: Settings) -> str:
    with Store.open(find_store(settings)) as store:
        status = store.status()
        return f"{status.documents} documents, {status.chunks} chunks, format {status.format}"


def _index(settings: Settings) -> str:
    with Store.open(find_store(settings)) as store:
        store.check()
        return f"agrees with the store at generation {store.generation}"


def _chat(settings: Settings) -> str:
    if not settings.chat_configured:
        return "none configured: answers are extractive"
    begun = perf_counter()
    with closing(open_chat(settings)) as chat:
        deltas = list(chat.stream([Message("user", "Reply with the word yes.")], ChatOptions()))
    if notice := next((delta.notice for delta in deltas if delta.notice), ""):
        raise RagError(notice, "mend that model, or name another: chat.model")
    last = deltas[-1]
    # Some servers answer with the model they have, whichever was asked for.
    other = f" as {last.model!r}" if last.model not in (None, chat.name) else ""
    return f"{chat.name} answers{other}, in {perf_counter() - begun:.1f} s"


def _telemetry(settings: Settings) -> str:
    host = asked_for(os.environ)
    if not host:
        return "none asked for"
    if not installed():
        raise RagError(
            f"nothing is sent to {host}: OpenTelemetry's exporter is missing",
            "run `pip install 'ragcite[otel]'`, or set OTEL_SDK_DISABLED=true",
        )
    return f"spans and metrics are sent to {host}"
