"""From settings to held resources: an open store, its embedder and, if configured, a chat model."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from ingest.config import DEFAULT_MODEL
from ingest.embed import Embedder, open_embedder
from ingest.filters import Filter
from ingest.loaders.options import LoadOptions
from ingest.store import Store
from ingest.sync import SyncSettings
from rag.abstain import read_calibration
from rag.answer import ask_stream, whole
from rag.chat.chain import Link, ModelChain
from rag.chat.client import ChatModel, ChatSettings, OpenAIChat, Upstream
from rag.chat.embeddings import ApiEmbedder
from rag.chat.local import LocalChat, window_for
from rag.chat.models import model_facts
from rag.chat.replies import KEPT_REPLIES, KeptReplies
from rag.chat.reuse import ReusingChat
from rag.context import Question, Resources, look_up, stand_alone, term_weights
from rag.grounding.judge import open_judge
from rag.instruments.ledger import Ledger
from rag.instruments.observe import Ask, Instruments, observed, within_budget
from rag.instruments.telemetry import open_telemetry
from rag.preview import Preview, preview
from rag.retrieval.rerank import open_reranker
from rag.retrieval.retrieve import Retrieval
from rag.safety.moderation import Check, moderated, open_check
from rag.safety.redact import RedactingChat, kept_back
from rag.settings.config import ChatSection, Settings, refuse_project_model
from rag.settings.keys import kept_key, read_key_file
from rag.settings.named import without_key
from rag.settings.sources import unasked_model, user_folder
from rag.types import Answer, Event, Message

_OCR_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class App:
    """The system opened for questions; it serves any number of them."""

    resources: Resources
    instruments: Instruments = field(default_factory=Instruments)
    check: Check | None = None

    @property
    def store(self) -> Store:
        """The open store."""
        return self.resources.store

    def ask(self, question: Question) -> Answer:
        """The whole answer. Raises the error behind an answer that failed."""
        return whole(self.ask_stream(question))

    def ask_stream(self, question: Question) -> Iterator[Event]:
        """The answer as it comes, as typed events."""
        settings, ledger = self.resources.settings, self.instruments.ledger
        answered: Ask = partial(ask_stream, resources=self.resources)
        if self.check is not None:
            is_open = settings.safety.on_failure == "open"
            answered = partial(moderated, ask=answered, check=self.check, is_open=is_open)
        if settings.chat.max_cost_per_day and ledger is not None:
            limit = settings.chat.max_cost_per_day
            answered = partial(within_budget, ask=answered, ledger=ledger, limit=limit)
        return observed(question, answered, self.instruments)

    def preview(self, question: Question) -> Preview:
        """What the question would send to the chat API, and its cost; nothing is sent."""
        return preview(question, self.resources)

    def search(
        self,
        question: str,
        filters: Sequence[Filter] = (),
        k: int | None = None,
        history: Sequence[Message] = (),
    ) -> Retrieval:
        """The passages alone; `k` overrides the setting. No chat API is asked."""
        settings = self.resources.settings
        if k is not None:
            settings = replace(settings, retrieval=replace(settings.retrieval, k=k))
        resources = replace(self.resources, settings=settings, chat=None)
        asked = Question(question, tuple(filters), tuple(history))
        alone = stand_alone(asked, resources, term_weights(self.store))
        return look_up(asked, alone, resources)[1]


@contextmanager
def open_app(
    settings: Settings,
    store_folder: Path,
    origin: str = "library",
    instead: ChatModel | None = None,
) -> Iterator[App]:
    """Open the store for reading, with the embedding model it was built with.

    `origin` is who asks, as the ledger has it; `instead` stands in the place of the configured
    models.
    """
    with ExitStack() as held:
        store = held.enter_context(Store.open(store_folder))
        chain: ModelChain | None = None
        if settings.chat_configured:
            kept = KeptReplies(store_folder / KEPT_REPLIES, settings.cache.max_mb * 1_000_000)
            held.callback(kept.close)
            chain = open_chat(settings, kept if settings.cache.answers else None, instead)
            held.callback(chain.close)
        # Outermost, so that what is kept of replies holds placeholders too.
        hidden = kept_back(settings)
        chat = RedactingChat(chain, hidden) if chain and hidden else chain
        instruments = Instruments(
            origin,
            Ledger(store_folder, settings.ledger) if settings.ledger.enabled else None,
            open_telemetry(settings.chat, os.environ),
        )
        held.callback(instruments.close)
        resources = Resources(
            store,
            own_embedder(settings, store.settings.model),
            settings,
            chat,
            open_judge(settings, chat),
            open_reranker(settings),
            read_calibration(store_folder),
            chain.facts if chain else None,
        )
        client = chain.client if chain else None
        yield App(resources, instruments, open_check(settings.safety, client, hidden))


def own_embedder(settings: Settings, model: str | None = None) -> Embedder:
    """The embedder of a model, by default that of the settings.

    Raises UsageError for one that only a store or a project's file names: either may come from a
    stranger, and a model is files that are loaded, or fetched from the hub.
    """
    own, model = settings.embedding, model or settings.embedding.model
    if model not in (DEFAULT_MODEL, settings.own_model):
        raise unasked_model("embedding.model", model)
    if own.base_url and model != DEFAULT_MODEL:
        # All that is ingested would be sent there.
        refuse_project_model(settings, "embedding.base_url")
        shared = own.base_url.rstrip("/") == settings.chat.url
        place = settings.writer if shared else without_key(settings.chat)
        key = own.api_key or partial(api_key, replace(place, base_url=own.base_url))
        return ApiEmbedder(OpenAIChat(ChatSettings(own.base_url, key, model)))
    return open_embedder(model, settings.embedding.engine)


def open_chat(
    settings: Settings, kept: KeptReplies | None = None, instead: ChatModel | None = None
) -> ModelChain:
    """The configured models; nothing is connected or loaded before the first question.

    With `kept`, none of them is asked the same twice. Raises UsageError for a model file that
    cannot be run, or that a project's file alone names.
    """
    if settings.chat.is_file:
        refuse_project_model(settings, "chat.model")
    sections = [settings.writer, *settings.fallbacks, *([settings.small] if settings.small else [])]
    upstreams: dict[str, Upstream] = {}
    for chat in sorted(sections, key=lambda chat: chat.concurrency):  # the fewest places count
        host = urlsplit(chat.url).netloc.rpartition("@")[2]
        upstreams.setdefault(chat.url, Upstream(host, chat.concurrency))
    links = []
    for chat in sections:
        client = _open_model(chat, upstreams[chat.url])
        asked = instead or client
        links.append(Link(chat, client, ReusingChat(asked, chat.url, kept) if kept else asked))
    return ModelChain(links[:-1], links[-1]) if settings.small else ModelChain(links)


def _open_model(chat: ChatSection, upstream: Upstream) -> OpenAIChat | LocalChat:
    if chat.is_file:
        return LocalChat(Path(chat.model).expanduser(), window_for(model_facts(chat).window))
    key = chat.api_key or partial(api_key, chat)
    own = ChatSettings(chat.url, key, chat.model, rpm=chat.rpm, tpm=chat.tpm)
    return OpenAIChat(own, upstream=upstream)


def api_key(chat: ChatSection) -> str:
    """The key that may go to a base URL, as it is now; "" for none. Raises UsageError."""
    if chat.api_key:
        return chat.api_key
    if chat.api_key_file:
        return read_key_file(Path(chat.api_key_file).expanduser())
    return kept_key(user_folder(), chat.url)


def sync_settings(
    settings: Settings, *, dry_run: bool = False, prune: bool | None = None
) -> SyncSettings:
    """The part of the settings that an ingest needs."""
    names = (field.name for field in fields(LoadOptions))
    options = LoadOptions(**{name: getattr(settings.ingest, name) for name in names})
    if options.ocr and "ingest.max_seconds" not in settings.origins:
        # Text recognition takes seconds a page: the usual limit is for files of text.
        options = replace(options, max_seconds=_OCR_SECONDS)
    return SyncSettings(
        settings.index,
        options,
        settings.ingest.jobs,
        dry_run=dry_run,
        prune=prune,
        engine=settings.embedding.engine,
    )
