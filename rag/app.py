"""From settings to held resources: an open store, its embedder and, if configured, a chat model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ingest.config import DEFAULT_MODEL
from ingest.embed import Embedder, open_embedder
from ingest.filters import Filter
from ingest.loaders.options import LoadOptions
from ingest.store import Store
from ingest.sync import SyncSettings
from rag.abstain import read_calibration
from rag.answer import ask, ask_stream
from rag.chat.client import ChatSettings, OpenAIChat
from rag.chat.embeddings import ApiEmbedder
from rag.config import OPENAI_URL, Settings, refuse_project_model, unasked_model
from rag.context import Question, Resources, look_up, stand_alone, term_weights
from rag.grounding.judge import open_judge
from rag.preview import Preview, preview
from rag.retrieval.rerank import open_reranker
from rag.retrieval.retrieve import Retrieval
from rag.types import Answer, Event, Message

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
def open_app(settings: Settings, store_folder: Path) -> Iterator[App]:
    """Open the store for reading, with the embedding model it was built with."""
    with Store.open(store_folder) as store:
        embedder = own_embedder(settings, store.settings.model)
        chat = open_chat(settings) if settings.chat_configured else None
        try:
            resources = Resources(
                store,
                embedder,
                settings,
                chat,
                open_judge(settings, chat),
                open_reranker(settings),
                read_calibration(store_folder),
            )
            yield App(resources)
        finally:
            if chat is not None:
                chat.close()


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


def open_chat(settings: Settings) -> OpenAIChat:
    """The configured chat API; no connection is made before the first question."""
    return OpenAIChat(
        ChatSettings(
            base_url=settings.chat.base_url or OPENAI_URL,
            api_key="" if settings.key_withheld else settings.chat.api_key,
            model=settings.chat.model,
        )
    )


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
