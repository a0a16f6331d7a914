"""Question to passages: a dense and a lexical ranking, fused by score.

Scores are fused, not ranks: alpha·cosine + (1 - alpha)·bm25/max keeps how much better the best
hit is, which reciprocal rank fusion (Cormack et al. 2009) throws away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ingest.embed import Embedder
from ingest.filters import Filter
from ingest.store import Store
from ingest.types import Hit, StoredChunk
from ingest.words import terms
from rag.config import RetrievalSection
from rag.types import Passage


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that at least one leg returned; `bm25` is 0 where the lexical leg did not."""

    chunk_id: int
    score: float
    cosine: float
    bm25: float
    dense_rank: int | None
    lexical_rank: int | None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A chunk left out because a better ranked one holds the same text."""

    source: str
    of: str


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What was found for a question: passages in rank order, and how they came about."""

    passages: tuple[Passage, ...]
    query_vector: NDArray[np.float32]
    terms: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    duplicates: tuple[Duplicate, ...]


def retrieve(
    question: str,
    store: Store,
    embedder: Embedder,
    settings: RetrievalSection,
    filters: Sequence[Filter] = (),
) -> Retrieval:
    """The best `settings.k` passages for a question, best first; fewer where fewer match."""
    query_terms = tuple(dict.fromkeys(terms(question)))
    query_vector = embedder.embed_query(question)
    limit = max(settings.candidates, settings.k)
    with store.snapshot():
        dense = store.dense(query_vector, limit, filters)
        lexical = store.lexical(query_terms, limit, filters) if query_terms else []
        cosines = _cosines(store, query_vector, dense, lexical)
        candidates = fuse(dense, lexical, cosines, settings.alpha)
        # Twice as many as asked for: duplicates among them are collapsed.
        chunks = store.chunks([c.chunk_id for c in candidates[: 2 * settings.k]])
    kept, duplicates = _collapse(candidates, chunks)
    passages = tuple(
        Passage(number, chunks[c.chunk_id], c.score, c.cosine, c.dense_rank, c.lexical_rank)
        for number, c in enumerate(kept[: settings.k], 1)
    )
    return Retrieval(passages, query_vector, query_terms, tuple(candidates), duplicates)


def fuse(
    dense: Sequence[Hit], lexical: Sequence[Hit], cosines: Mapping[int, float], alpha: float
) -> list[Candidate]:
    """Merge two rankings by weighted score, best first; ties go to the smaller chunk id.

    `cosines` holds the true cosine of every hit of either ranking.
    """
    dense_ranks = {hit.chunk_id: rank for rank, hit in enumerate(dense, 1)}
    lexical_ranks = {hit.chunk_id: rank for rank, hit in enumerate(lexical, 1)}
    bm25 = {hit.chunk_id: hit.score for hit in lexical}
    highest = max(bm25.values(), default=0.0) or 1.0
    # A weight of nothing for the lexical leg leaves the dense ranking as it is, and vice versa.
    chunk_ids = (dense_ranks if alpha > 0 else {}) | (lexical_ranks if alpha < 1 else {})
    candidates = [
        Candidate(
            chunk_id,
            alpha * max(0.0, cosines[chunk_id]) + (1 - alpha) * bm25.get(chunk_id, 0.0) / highest,
            cosines[chunk_id],
            bm25.get(chunk_id, 0.0),
            dense_ranks.get(chunk_id),
            lexical_ranks.get(chunk_id),
        )
        for chunk_id in chunk_ids
    ]
    return sorted(candidates, key=lambda c: (-c.score, c.chunk_id))


def _cosines(
    store: Store, query: NDArray[np.float32], dense: Sequence[Hit], lexical: Sequence[Hit]
) -> dict[int, float]:
    """Cosines of all hits; those the dense leg did not return come from the stored vectors."""
    cosines = {hit.chunk_id: hit.score for hit in dense}
    missing = [hit.chunk_id for hit in lexical if hit.chunk_id not in cosines]
    if missing:
        cosines |= dict(zip(missing, (store.vectors(missing) @ query).tolist(), strict=True))
    return cosines


def _collapse(
    candidates: Sequence[Candidate], chunks: Mapping[int, StoredChunk]
) -> tuple[list[Candidate], tuple[Duplicate, ...]]:
    """Keep the best ranked of chunks with equal text; the others are named, not shown."""
    first: dict[int, StoredChunk] = {}
    kept: list[Candidate] = []
    duplicates: list[Duplicate] = []
    for candidate in candidates:
        chunk = chunks.get(candidate.chunk_id)
        if chunk is None:  # beyond those fetched
            continue
        if chunk.vector_id in first:
            duplicates.append(Duplicate(chunk.source, first[chunk.vector_id].source))
        else:
            first[chunk.vector_id] = chunk
            kept.append(candidate)
    return kept, tuple(duplicates)


def renumber(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """The same passages numbered 1…n in their order."""
    return tuple(replace(passage, number=i) for i, passage in enumerate(passages, 1))
