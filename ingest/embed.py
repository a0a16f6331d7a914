"""Texts to unit vectors: the default model locally, or any sentence-transformers model by name."""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.config import DEFAULT_MODEL
from ingest.errors import EmbeddingError
from ingest.minilm import MiniLM
from ingest.wordpieces import model_folder

Matrix = NDArray[np.float32]

_FEW_CHARACTERS = 40_000
"""Below this much text the numpy pass is done before torch would be imported (5 s)."""

_BATCH = 32
_PROBE_ROUNDS = 10


class Embedder(Protocol):
    """Texts to unit vectors; `name` is written into the store and must match it."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def dimension(self) -> int:
        """The length of a vector."""

    @property
    def truncated(self) -> int: ...

    def embed_documents(self, texts: Sequence[str], on_progress: Any = None) -> Matrix:
        """Unit vectors of chunks, shape (n, dimension)."""

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of a question, shape (dimension,)."""


class SentenceTransformerEmbedder:
    """A sentence-transformers model, in bfloat16 where this processor is faster with it.

    `path` is a local folder, or a hub name that the user chose; the hub is never contacted for
    the default model.
    """

    def __init__(self, name: str, path: str | None = None) -> None:
        self.name = name
        self._path = path or name

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self._model.get_embedding_dimension())

    @cached_property
    def _model(self) -> Any:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        if self.name == DEFAULT_MODEL:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # its files are all here
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        quiet: Any = transformers_logging
        quiet.disable_progress_bar()

        dtype = torch.bfloat16 if _bfloat16_pays(torch) else torch.float32
        try:
            return SentenceTransformer(
                self._path, device="cpu", model_kwargs={"dtype": dtype}, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise EmbeddingError(
                f"cannot load the embedding model {self.name!r}: {error}".splitlines()[0],
                "set `embedding.model` to an installed model's folder, or remove the setting",
            ) from error

    def embed_documents(self, texts: Sequence[str], on_progress: Any = None) -> Matrix:
        """Unit vectors of texts, shape (n, dimension)."""
        vectors = self._model.encode(
            list(texts),
            batch_size=_BATCH,
            convert_to_tensor=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        matrix: Matrix = vectors.float().numpy()
        # Normalised once more: unit length in bfloat16 is only good to three digits.
        unit: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        return unit

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of one text, shape (dimension,)."""
        vector: Matrix = self.embed_documents([text])[0]
        return vector


class DefaultEmbedder:
    """all-MiniLM-L6-v2: numpy for questions and small edits, torch for the bulk of an ingest."""

    name = DEFAULT_MODEL
    dimension = MiniLM.dimension
    truncated = 0

    def __init__(self) -> None:
        self._small = MiniLM()

    @cached_property
    def _large(self) -> SentenceTransformerEmbedder:
        return SentenceTransformerEmbedder(DEFAULT_MODEL, str(model_folder()))

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of a question, shape (384,)."""
        return self._small.embed_query(text)

    def embed_documents(self, texts: Sequence[str], on_progress: Any = None) -> Matrix:
        """Unit vectors of texts, shape (n, 384)."""
        if "_large" not in self.__dict__ and sum(map(len, texts)) < _FEW_CHARACTERS:
            return self._small.embed_documents(texts)
        return self._large.embed_documents(texts)


def open_embedder(model: str, engine: str = "auto") -> Embedder:
    """The embedder of a model name; nothing is loaded before the first text."""
    return DefaultEmbedder() if model == DEFAULT_MODEL else SentenceTransformerEmbedder(model)


def _bfloat16_pays(torch: Any) -> bool:
    """Time one layer's product in both formats: 30 ms that decide a factor of 2 to 3."""
    from time import perf_counter

    def seconds(dtype: Any) -> float:
        left, right = (torch.ones(shape, dtype=dtype) for shape in ((1024, 384), (384, 1536)))
        left @ right  # the first call pays for one-time set-up
        start = perf_counter()
        for _ in range(_PROBE_ROUNDS):
            left @ right
        return perf_counter() - start

    return seconds(torch.bfloat16) < seconds(torch.float32) * 0.8
