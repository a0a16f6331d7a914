"""Question to passages: two searches fused, a second look for what the first left open, copies
collapsed, neighbours joined."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ingest.config import DEFAULT_MODEL
from ingest.embed import Embedder
from ingest.filters import Filter
from ingest.store import Store
from ingest.types import Hit, StoredChunk
from ingest.words import latin_share, terms
from rag.grounding.verify import inverse_frequency
from rag.retrieval.fuse import Candidate, fuse
from rag.retrieval.hop import follow_up, linked, placed
from rag.retrieval.merge import Duplicate, collapse, join, read_joined
from rag.retrieval.query import Query, affordable, analyse
from rag.retrieval.rerank import Rerank
from rag.settings.config import RetrievalSection
from rag.types import Passage

_LEAST_MEANING = 0.1
"""The default model has read little but Latin letters: of other scripts it knows hardly a word,
and its cosine counts by the share of Latin letters in a question, but never less than this."""
_FETCHED = 3
"""Times as many chunks as passages are asked for: copies are collapsed, neighbours joined."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What was found for a question: passages in rank order, and how they came about."""

    passages: tuple[Passage, ...]
    query_vector: NDArray[np.float32]
    query: Query
    candidates: tuple[Candidate, ...]
    duplicates: tuple[Duplicate, ...]


@dataclass(frozen=True, slots=True)
class _Search:
    """What one question is searched with, in one snapshot of the store."""

    store: Store
    vector: NDArray[np.float32]
    alpha: float
    limit: int
    filters: tuple[Filter, ...]


def retrieve(
    question: str,
    store: Store,
    embedder: Embedder,
    settings: RetrievalSection,
    filters: Sequence[Filter] = (),
    rerank: Rerank | None = None,
) -> Retrieval:
    """The best `settings.k` passages for a question, best first; fewer where fewer match.

    With `rerank` they are the best by its scores of three times as many.
    """
    alpha = settings.alpha
    if embedder.name == DEFAULT_MODEL and alpha < 1:
        alpha *= max(_LEAST_MEANING, latin_share(question))
    limit = max(settings.candidates, settings.k)
    search = _Search(store, embedder.embed_query(question), alpha, limit, tuple(filters))
    with store.snapshot():
        query = analyse(question, store)
        candidates = _first_look(search, query)
        if settings.second_search and 0 < alpha < 1:  # one leg alone is asked for as it is
            candidates = _second_look(search, query, candidates)
        chunks = store.chunks([c.chunk_id for c in candidates[: _FETCHED * settings.k]])
        found, duplicates = collapse(candidates, chunks)
        found = join(found, settings.k * (_FETCHED if rerank else 1))
        texts = read_joined(found, store.slices)
    passages = [_passage(each.candidate, chunk) for each, chunk in zip(found, texts, strict=True)]
    if rerank and passages:
        scores = rerank(question, [f"{chunk.context}\n{chunk.text}" for chunk in texts])
        order = sorted(range(len(passages)), key=lambda i: -scores[i])
        passages = [passages[i] for i in order[: settings.k]]
    return Retrieval(renumber(passages), search.vector, query, tuple(candidates), duplicates)


def _passage(found: Candidate, chunk: StoredChunk) -> Passage:
    score = min(1.0, max(0.0, found.score))
    return Passage(0, chunk, score, found.cosine, found.dense_rank, found.lexical_rank)


def _first_look(search: _Search, query: Query) -> list[Candidate]:
    """Both legs for the question as it is, fused."""
    dense = search.store.dense(search.vector, search.limit, search.filters)
    lexical = search.store.lexical(query.searched, search.limit, search.filters)
    return _fused(search, query, dense, lexical)


def _fused(
    search: _Search, query: Query, dense: Sequence[Hit], lexical: Sequence[Hit]
) -> list[Candidate]:
    cosines = _cosines(search, dense, [hit.chunk_id for hit in lexical])
    return fuse(dense, lexical, cosines, search.alpha, query.weight)


def _second_look(search: _Search, query: Query, candidates: list[Candidate]) -> list[Candidate]:
    """The ranking, with what a second search adds to it where the first passage calls for one."""
    store, alpha = search.store, search.alpha
    if not candidates:
        return []
    first = candidates[0]
    follow = follow_up(query, first, store.chunks([first.chunk_id])[first.chunk_id])
    if follow is None:
        return candidates
    frequencies = store.document_frequencies(follow.terms)
    hits = store.lexical(affordable(frequencies), search.limit, search.filters)
    idf = inverse_frequency(frequencies, store.chunk_count)
    titles = {i: tuple(terms(title)) for i, title in store.titles(h.chunk_id for h in hits).items()}
    known = {candidate.chunk_id: candidate for candidate in candidates}
    new = [hit.chunk_id for hit in hits if hit.chunk_id not in known]
    cosines = _cosines(search, [], new)
    known |= {
        i: Candidate(i, alpha * cosine, cosine, 0.0, None, None) for i, cosine in cosines.items()
    }
    found = linked(follow, list(known.values()), hits, sum(map(idf, follow.terms)), titles)
    return placed(candidates, found)


def _cosines(search: _Search, dense: Sequence[Hit], others: Sequence[int]) -> dict[int, float]:
    """Cosines of dense hits and other chunks; of the latter from the stored vectors."""
    cosines = {hit.chunk_id: hit.score for hit in dense}
    missing = [chunk_id for chunk_id in others if chunk_id not in cosines]
    if missing:
        products = search.store.vectors(missing) @ search.vector
        cosines |= dict(zip(missing, products.tolist(), strict=True))
    return cosines


def renumber(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """The same passages numbered 1…n in their order."""
    return tuple(replace(passage, number=i) for i, passage in enumerate(passages, 1))
