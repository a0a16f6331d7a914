"""Nearest vectors by the exact scan that serves most stores.

It and ingest/chroma.py are alike: all vectors have unit length, and an id stands for one vector for
ever. Adding it again changes nothing, and neither does deleting an unknown one, so both can be
replayed after a crash.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ingest.records import Matrix
from ingest.types import Hit

Ids = NDArray[np.int64]
IdList = Sequence[int] | Ids


class ExactIndex:
    """Every vector in one array, compared one by one: exact, and nothing to keep on disk."""

    def __init__(self, dimension: int) -> None:
        self.ids: Ids = np.empty(0, np.int64)  # ascending
        self.vectors: Matrix = np.empty((0, dimension), np.float32)  # in the order of the ids

    def add(self, ids: IdList, vectors: Matrix) -> None:
        """Add rows; ids that are there already keep their vector."""
        fresh = np.asarray(ids, np.int64)
        if not len(self.ids) and bool((np.diff(fresh) > 0).all()):
            # A store that is loaded for the first time: nothing to merge, nothing to copy.
            self.ids, self.vectors = fresh, vectors
            return
        # Of an id that comes twice unique names the first row, which is the one already here.
        self.ids, first = np.unique(np.concatenate([self.ids, fresh]), return_index=True)
        self.vectors = np.concatenate([self.vectors, vectors])[first]

    def delete(self, ids: IdList) -> None:
        """Forget these ids; unknown ones are ignored."""
        kept = ~np.isin(self.ids, np.asarray(ids, np.int64))
        if not kept.all():
            self.ids, self.vectors = self.ids[kept], self.vectors[kept]

    def search(self, vector: Matrix, limit: int) -> list[Hit]:
        """The highest cosines first; equal ones in the order of their ids."""
        return nearest(self.ids, self.vectors, vector, limit)

    def count(self) -> int:
        """How many ids the index holds."""
        return len(self.ids)


def nearest(ids: Ids, vectors: Matrix, vector: Matrix, limit: int) -> list[Hit]:
    """The `limit` rows with the highest cosine to `vector`; ties go to the smaller id."""
    if limit <= 0 or not len(ids):
        return []
    scores = vectors @ np.asarray(vector, np.float32)
    candidates = np.arange(len(ids))
    if limit < len(ids):
        # All that reach the limit-th best score, so that a tie at the border is settled by id.
        border = np.partition(scores, len(ids) - limit)[len(ids) - limit]
        candidates = np.flatnonzero(scores >= border)
    order = candidates[np.lexsort((ids[candidates], -scores[candidates]))][:limit]
    return [Hit(int(ids[row]), min(1.0, float(scores[row]))) for row in order]
