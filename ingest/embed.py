"""Texts to unit vectors: the default model on the fastest engine that is installed, or any
sentence-transformers model by name."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from ingest.config import DEFAULT_MODEL
from ingest.errors import EmbeddingError, UsageError
from ingest.minilm import DIMENSION, Engine, MiniLM, Weights, cores, numpy_engine
from ingest.minilm_openvino import openvino_engine
from ingest.minilm_torch import bfloat16_pays, torch_engine
from ingest.records import Matrix

OnProgress = Callable[[int], None]
"""Told how many of the texts are done."""

ENGINES: Mapping[str, Callable[[Weights], Engine]] = {
    "openvino": openvino_engine,
    "torch": torch_engine,
    "numpy": numpy_engine,
}
# Below so many characters numpy is done before the library would be imported.
_FEW_CHARACTERS = {"openvino": 12_000, "torch": 50_000, "numpy": 0}
_PROGRESS_TEXTS = 256
REMEMBERED_QUERIES = 256
"""Questions whose vectors an embedder holds: what is asked again is not embedded again."""


def _ignore(done: int) -> None:
    """No progress is shown."""


class Embedder(Protocol):
    """Texts to unit vectors; `name` is written into the store and must match it.

    `truncated` counts the tokens so far that did not fit the model's window.
    """

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def dimension(self) -> int:
        """The length of a vector."""

    @property
    def truncated(self) -> int:
        """Tokens so far that the model did not read."""

    def prepare(self) -> None:
        """Load what many texts need; without this call the first of them waits for it."""

    def embed_documents(self, texts: Sequence[str], on_progress: OnProgress = _ignore) -> Matrix:
        """Unit vectors of chunks, shape (n, dimension), in their order."""

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of a question, shape (dimension,)."""


class DefaultEmbedder:
    """all-MiniLM-L6-v2: numpy for questions and small edits, a faster engine for the bulk.

    `engine` is "auto" or a key of ENGINES; their vectors are interchangeable. Raises UsageError
    for another name and EmbeddingError for an engine that is not installed.
    """

    name = DEFAULT_MODEL
    dimension = DIMENSION

    def __init__(self, engine: str = "auto") -> None:
        chosen = next(filter(find_spec, ENGINES)) if engine == "auto" else engine
        _check_engine(chosen)
        self._few = _FEW_CHARACTERS[chosen] if engine == "auto" else 0
        self._small = MiniLM()
        # OpenVINO's calls hand over to threads of its own: more calls keep every core at work.
        self._bulk = MiniLM(ENGINES[chosen], cores() * (2 if chosen == "openvino" else 1))
        self._query = lru_cache(REMEMBERED_QUERIES)(self._small.embed_query)

    @property
    def truncated(self) -> int:
        """Tokens so far that the model did not read."""
        return self._small.truncated + self._bulk.truncated

    def prepare(self) -> None:
        """Load the fast engine."""
        self._bulk.prepare()

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of a question, shape (384,)."""
        return self._query(text)

    def embed_documents(self, texts: Sequence[str], on_progress: OnProgress = _ignore) -> Matrix:
        """Unit vectors of texts, shape (n, 384), in their order."""
        few = not self._bulk.loaded and sum(map(len, texts)) < self._few
        return (self._small if few else self._bulk).embed_documents(texts, on_progress)


def _check_engine(engine: str) -> None:
    if engine not in ENGINES:
        raise UsageError(
            f"there is no embedding engine {engine!r}",
            f"set `embedding.engine` to auto or one of {', '.join(ENGINES)}",
        )
    if not find_spec(engine):
        package = "ragcite[fast]" if engine == "openvino" else "ragcite"
        raise EmbeddingError(
            f"the embedding engine {engine!r} is not installed",
            f"run `pip install '{package}'`, or set `embedding.engine` to auto",
        )


class SentenceTransformerEmbedder:
    """A sentence-transformers model by its folder or hub name, in bfloat16 where that is faster.

    Documents and questions get the prompts that the model declares for them.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.truncated = 0

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self._model.get_embedding_dimension())

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        quiet: Any = transformers_logging
        quiet.disable_progress_bar()
        dtype = "bfloat16" if bfloat16_pays() else "float32"
        try:
            return SentenceTransformer(
                self.name, device="cpu", model_kwargs={"dtype": dtype}, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise EmbeddingError(
                f"cannot load the embedding model {self.name!r}: {error}".splitlines()[0],
                "set `embedding.model` to an installed model's folder, or remove the setting",
            ) from error

    def prepare(self) -> None:
        """Load the model."""
        _ = self._model

    def embed_documents(self, texts: Sequence[str], on_progress: OnProgress = _ignore) -> Matrix:
        """Unit vectors of texts, shape (n, dimension), in their order."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for begin in range(0, len(texts), _PROGRESS_TEXTS):
            part = list(texts[begin : begin + _PROGRESS_TEXTS])
            self.truncated += self._beyond_window(part)
            vectors[begin : begin + len(part)] = _unit(self._model.encode_document, part)
            on_progress(begin + len(part))
        return vectors

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of a question, shape (dimension,)."""
        vector: Matrix = _unit(self._model.encode_query, [text])[0]
        return vector

    def _beyond_window(self, texts: list[str]) -> int:
        """How many tokens of texts the model does not read."""
        window = self._model.max_seq_length or sys.maxsize
        encoded = self._model.tokenizer(texts, truncation=False, verbose=False)
        return sum(max(0, len(ids) - window) for ids in encoded["input_ids"])


def _unit(encode: Callable[..., Any], texts: list[str]) -> Matrix:
    """Encode texts; unit length is made here, for in bfloat16 it is only good to three digits."""
    encoded = encode(texts, convert_to_tensor=True, show_progress_bar=False)
    matrix: Matrix = encoded.float().numpy()
    unit: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit


def load_cross_encoder(name: str, setting: str) -> Any:
    """A sentence-transformers cross-encoder by its folder or hub name, which a setting gave.

    Raises EmbeddingError.
    """
    from sentence_transformers import CrossEncoder
    from transformers.utils import logging as transformers_logging

    quiet: Any = transformers_logging
    quiet.disable_progress_bar()
    try:
        return CrossEncoder(name, device="cpu", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise EmbeddingError(
            f"cannot load the model {name!r}: {error}".splitlines()[0],
            f"set `{setting}` to an installed model's folder, or remove the setting",
        ) from error


def open_embedder(model: str, engine: str = "auto") -> Embedder:
    """The embedder of a model name; nothing is loaded before the first text.

    `engine` computes the default model, and has no meaning for another.
    """
    return DefaultEmbedder(engine) if model == DEFAULT_MODEL else SentenceTransformerEmbedder(model)
