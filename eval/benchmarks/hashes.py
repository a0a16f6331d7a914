"""Vectors made of hashes: as large as real ones, and made in no time. For trials of the store."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ingest.config import DEFAULT_MODEL


class HashEmbedder:
    """Unit vectors that depend on a text alone; `calls` counts the texts it was given."""

    name = DEFAULT_MODEL
    truncated = 0

    def __init__(self, dimension: int = 384, name: str = DEFAULT_MODEL) -> None:
        self.dimension = dimension
        self.name = name
        self.calls = 0

    def prepare(self) -> None:
        """Nothing to load."""

    def embed_documents(
        self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None
    ) -> NDArray[np.float32]:
        """One vector a text, shape (n, dimension)."""
        self.calls += len(texts)
        seeds = (int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") for t in texts)
        rows = [np.random.default_rng(seed).standard_normal(self.dimension) for seed in seeds]
        matrix = np.array(rows, np.float32).reshape(-1, self.dimension)
        on_progress(len(texts))
        unit: NDArray[np.float32] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        return unit

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of one text, shape (dimension,)."""
        vector: NDArray[np.float32] = self.embed_documents([text])[0]
        return vector
