"""Embedding a batch of texts while the batch before it is committed: both cores stay at work."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Self

from ingest.embed import Embedder
from ingest.records import Vectors

Embedding = Future[Vectors]


class EmbedAhead:
    """Embeds one batch at a time in a thread of its own; a context manager.

    `show` is told, in that thread, how many texts of a batch are done. Leaving ends a batch under
    way: its vectors are not wanted any more.
    """

    def __init__(self, embedder: Embedder, show: Callable[[int], None]) -> None:
        self._embedder = embedder
        self._show = show
        self._pool = ThreadPoolExecutor(1, "embed-ahead")
        self._left = Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._pool.shutdown(cancel_futures=True)

    def prepare(self) -> None:
        """Begin to load the model, so that it is there once the first texts are."""
        self._pool.submit(self._embedder.prepare)

    def start(self, texts: Mapping[bytes, str], keys: Collection[bytes]) -> Embedding:
        """Begin to embed the texts of these keys."""
        return self._pool.submit(self._embed, {key: texts[key] for key in sorted(keys)})

    def _embed(self, texts: Mapping[bytes, str]) -> Vectors:
        if not texts:  # for which a model would be loaded in vain
            return {}
        rows = self._embedder.embed_documents(list(texts.values()), self._advance)
        return dict(zip(texts, rows, strict=True))

    def _advance(self, done: int) -> None:
        if self._left.is_set():
            raise InterruptedError("the run has ended")
        self._show(done)
