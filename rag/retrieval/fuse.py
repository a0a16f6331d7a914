"""Two rankings made one: the cosine of meaning and BM25 over words, each on a scale of its own.

Scores are added, not ranks: how much better the best hit is counts, which reciprocal rank fusion
(Cormack et al. 2009) throws away. BM25 has no upper end that all questions share; it is divided by
what a chunk of mean length would get that holds every word of the question, so that a question
whose words nobody uses does not make the best of a bad lot look like a good one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ingest.types import Hit

_K1 = 1.2  # of SQLite's BM25; a word that fills a chunk gets k1 + 1 times its idf
_HELD = 0.8  # a chunk that holds every word a time or two reaches so much of that


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that at least one leg returned; `bm25` is 0 where the lexical leg did not."""

    chunk_id: int
    score: float
    cosine: float
    bm25: float
    dense_rank: int | None
    lexical_rank: int | None


def fuse(
    dense: Sequence[Hit],
    lexical: Sequence[Hit],
    cosines: Mapping[int, float],
    alpha: float,
    weight: float,
) -> list[Candidate]:
    """Merge two rankings by weighted score, best first; ties go to the smaller chunk id.

    `cosines` holds the true cosine of every hit of either ranking; `weight` is what the question's
    words weigh together (the sum of their idf).
    """
    dense_ranks = {hit.chunk_id: rank for rank, hit in enumerate(dense, 1)}
    lexical_ranks = {hit.chunk_id: rank for rank, hit in enumerate(lexical, 1)}
    bm25 = {hit.chunk_id: hit.score for hit in lexical}
    # A weight of nothing for the lexical leg leaves the dense ranking as it is, and vice versa.
    chunk_ids = (dense_ranks if alpha > 0 else {}) | (lexical_ranks if alpha < 1 else {})
    candidates = [
        Candidate(
            chunk_id,
            alpha * cosines[chunk_id]
            + (1 - alpha) * relative_bm25(bm25.get(chunk_id, 0.0), weight),
            cosines[chunk_id],
            bm25.get(chunk_id, 0.0),
            dense_ranks.get(chunk_id),
            lexical_ranks.get(chunk_id),
        )
        for chunk_id in chunk_ids
    ]
    return ranked(candidates)


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates by score, best first; ties go to the smaller chunk id."""
    return sorted(candidates, key=lambda c: (-c.score, c.chunk_id))


def relative_bm25(score: float, weight: float) -> float:
    """A BM25 score as a share of what holding all the words gives: about 0 to 1."""
    highest = weight * (_K1 + 1) * _HELD
    return score / highest if highest > 0 else 0.0
