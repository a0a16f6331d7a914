"""Texts to vectors through an OpenAI-compatible API."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache, partial

import numpy as np

from ingest.embed import REMEMBERED_QUERIES
from ingest.errors import EmbeddingError
from ingest.records import Matrix
from rag.chat.client import OpenAIChat
from rag.chat.failures import Failed, Peer
from rag.chat.foreign import mappings
from rag.chat.wire import encodable, read_object
from rag.errors import ChatError, ChatRejected

_BATCH_TEXTS = 64
_CONNECTIONS = 4
_DEADLINE_S = 120.0
_HINT = "check embedding.base_url and embedding.model"


class ApiEmbedder:
    """The `Embedder` of a model behind an API. Its failures are EmbeddingError.

    `truncated` stays 0: what a server cuts off it does not say.
    """

    truncated = 0

    def __init__(self, client: OpenAIChat) -> None:
        self._client = client
        self.name = client.name
        self._query = lru_cache(REMEMBERED_QUERIES)(lambda text: self._embedded([text])[0])

    @cached_property
    def dimension(self) -> int:
        """The length of a vector, asked for with a first text."""
        return len(self.embed_query("dimension"))

    def prepare(self) -> None:
        """Nothing is loaded here."""

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of a question, shape (dimension,)."""
        vector: Matrix = self._query(text)
        return vector

    def embed_documents(
        self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None
    ) -> Matrix:
        """Unit vectors of texts, shape (n, dimension), in their order."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        batches = [texts[i : i + _BATCH_TEXTS] for i in range(0, len(texts), _BATCH_TEXTS)]
        parts: list[Matrix] = []
        pool = ThreadPoolExecutor(_CONNECTIONS)
        try:
            for part in pool.map(self._embedded, batches):
                parts.append(part)
                on_progress(sum(map(len, parts)))
        finally:
            pool.shutdown(cancel_futures=True)
        if len({part.shape[1] for part in parts}) > 1:
            raise self._wrong("vectors of different lengths")
        return np.concatenate(parts)

    def _embedded(self, texts: Sequence[str]) -> Matrix:
        inputs = [encodable(text) or " " for text in texts]
        body = {"model": self.name, "input": inputs, "encoding_format": "float"}
        read = partial(_vectors, count=len(texts))
        try:
            vectors = self._client.post("/embeddings", body, read, _DEADLINE_S, _HINT)
        except ChatError as error:
            raise EmbeddingError(error.message, error.hint) from error
        rows = np.array(vectors, np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise self._wrong("a vector without a direction")
        unit: Matrix = (rows / lengths).astype(np.float32)
        return unit

    def _wrong(self, given: str) -> EmbeddingError:
        return EmbeddingError(f"the model {self.name} gave {given}", _HINT)


def _vectors(raw: bytes, peer: Peer, count: int) -> list[list[float]]:
    """The vectors in a reply, one for each of `count` texts, in their order. Raises Failed."""
    rows = mappings(read_object(raw, peer).get("data"))
    rows.sort(key=lambda row: row["index"] if type(row.get("index")) is int else 0)
    vectors = [row.get("embedding") for row in rows]
    sound = [v for v in vectors if isinstance(v, list) and v and all(map(_is_number, v))]
    if len(vectors) != count or len(sound) != count or len({*map(len, sound)}) != 1:
        raise Failed(ChatRejected(f"{peer.host} sent no vector for each text", _HINT))
    return sound


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
