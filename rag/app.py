"""From settings to held resources: an open store, its embedder and, if configured, a chat model."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from ingest.config import DEFAULT_MODEL
from ingest.embed import Embedder, open_embedder
from ingest.filters import Filter
from ingest.loaders.options import LoadOptions
from ingest.store import Store
from ingest.sync import SyncSettings
from rag.abstain import read_calibration
from rag.answer import ask, ask_stream
from rag.chat.chain import Link, ModelChain
from rag.chat.client import ChatModel, ChatSettings, OpenAIChat, Upstream
from rag.chat.embeddings import ApiEmbedder
from rag.chat.replies import KEPT_REPLIES, KeptReplies
from rag.chat.reuse import ReusingChat
from rag.config import OPENAI_URL, ChatSection, Settings, refuse_project_model, unasked_model
from rag.context import Question, Resources
from rag.grounding.judge import open_judge
from rag.preview import Preview, preview
from rag.retrieval.rerank import open_reranker
from rag.retrieval.retrieve import Retrieval, retrieve
from rag.types import Answer, Event

_OCR_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class App:
    """The system opened for questions; it serves any number of them."""

    resources: Resources

    @property
    def store(self) -> Store:
        """The open store."""
        return self.resources.store

    def ask(self, question: Question) -> Answer:
        """The whole answer. Raises the error behind an answer that failed."""
        return ask(question, self.resources)

    def ask_stream(self, question: Question) -> Iterator[Event]:
        """The answer as it comes, as typed events."""
        return ask_stream(question, self.resources)

    def preview(self, question: Question) -> Preview:
        """What the question would send to the chat API, and its cost; nothing is sent."""
        return preview(question, self.resources)

    def search(
        self, question: str, filters: Sequence[Filter] = (), k: int | None = None
    ) -> Retrieval:
        """The passages alone; `k` overrides the setting."""
        settings = self.resources.settings.retrieval
        if k is not None:
            settings = replace(settings, k=k)
        resources = self.resources
        return retrieve(
            question, self.store, resources.embedder, settings, filters, resources.rerank
        )


@contextmanager
def open_app(
    settings: Settings, store_folder: Path, instead: ChatModel | None = None
) -> Iterator[App]:
    """Open the store for reading, with the embedding model it was built with.

    `instead` stands in the place of the configured models.
    """
    with ExitStack() as held:
        store = held.enter_context(Store.open(store_folder))
        chat: ModelChain | None = None
        if settings.chat_configured:
            kept = KeptReplies(store_folder / KEPT_REPLIES, settings.cache.max_mb * 1_000_000)
            held.callback(kept.close)
            chat = open_chat(settings, kept if settings.cache.answers else None, instead)
            held.callback(chat.close)
        resources = Resources(
            store,
            own_embedder(settings, store.settings.model),
            settings,
            chat,
            open_judge(settings, chat),
            open_reranker(settings),
            read_calibration(store_folder),
            chat.facts if chat else None,
        )
        yield App(resources)


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
        same = own.base_url == settings.chat.base_url and not settings.key_withheld
        key = own.api_key or (settings.chat.api_key if same else "")
        return ApiEmbedder(OpenAIChat(ChatSettings(own.base_url, key, model)))
    return open_embedder(model, settings.embedding.engine)


def open_chat(
    settings: Settings, kept: KeptReplies | None = None, instead: ChatModel | None = None
) -> ModelChain:
    """The configured models; no connection is made before the first question.

    With `kept`, none of them is asked the same twice.
    """
    writer = replace(settings.chat, api_key="") if settings.key_withheld else settings.chat
    sections = [writer, *settings.fallbacks, *([settings.small] if settings.small else [])]
    upstreams: dict[str, Upstream] = {}
    for chat in sorted(sections, key=lambda chat: chat.concurrency):  # the fewest places count
        host = urlsplit(_url(chat)).netloc.rpartition("@")[2]
        upstreams.setdefault(_url(chat), Upstream(host, chat.concurrency))
    links = []
    for chat in sections:
        own = ChatSettings(_url(chat), chat.api_key, chat.model, rpm=chat.rpm, tpm=chat.tpm)
        client = OpenAIChat(own, upstream=upstreams[_url(chat)])
        asked = instead or client
        links.append(Link(chat, client, ReusingChat(asked, _url(chat), kept) if kept else asked))
    return ModelChain(links[:-1], links[-1]) if settings.small else ModelChain(links)


def _url(chat: ChatSection) -> str:
    return (chat.base_url or OPENAI_URL).rstrip("/")


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
