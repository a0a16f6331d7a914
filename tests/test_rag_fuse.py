"""Fusion: scores, not ranks; each leg on its own scale; ties settled the same way every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.types import Hit
from rag.retrieval.fuse import fuse, relative_bm25

hits = st.dictionaries(st.integers(1, 40), st.floats(0, 1), max_size=20)


def by_score(scores: dict[int, float]) -> list[Hit]:
    return [Hit(i, s) for i, s in sorted(scores.items(), key=lambda item: (-item[1], item[0]))]


@given(hits, hits, st.floats(0, 1))
def test_every_hit_is_ranked_once(
    dense: dict[int, float], lexical: dict[int, float], alpha: float
) -> None:
    """Each hit of a leg that counts appears once, best first, with its rank in each leg."""
    cosines = dict.fromkeys(lexical, 0.1) | dense

    fused = fuse(by_score(dense), by_score(lexical), cosines, alpha, weight=10.0)

    expected = (set(dense) if alpha > 0 else set()) | (set(lexical) if alpha < 1 else set())
    assert [c.chunk_id for c in sorted(fused, key=lambda c: (-c.score, c.chunk_id))] == [
        c.chunk_id for c in fused
    ]
    assert expected == {c.chunk_id for c in fused}
    assert len(expected) == len(fused)
    for candidate in fused:
        assert (candidate.chunk_id in dense) == (candidate.dense_rank is not None)
        assert (candidate.chunk_id in lexical) == (candidate.lexical_rank is not None)


def test_score_is_the_weighted_sum() -> None:
    """alpha·cosine + (1 - alpha)·(BM25 as a share), with the true cosine for lexical hits."""
    fused = fuse([Hit(1, 0.8)], [Hit(2, 8.8), Hit(1, 4.4)], {1: 0.8, 2: 0.5}, 0.6, weight=5.0)

    assert [(c.chunk_id, round(c.score, 6)) for c in fused] == [(2, 0.7), (1, 0.68)]


def test_the_best_of_a_bad_lot_stays_bad() -> None:
    """A question of which hardly a word is found gives a low score even to its best hit."""
    (poor,) = fuse([], [Hit(1, 2.0)], {1: 0.1}, 0.5, weight=50.0)
    (rich,) = fuse([], [Hit(1, 2.0)], {1: 0.1}, 0.5, weight=1.0)

    assert poor.score < 0.1 < rich.score


def test_one_leg_alone_keeps_its_order() -> None:
    """alpha 1 is the dense ranking, alpha 0 the lexical one, whatever its scores."""
    dense, lexical = [Hit(1, 0.9), Hit(2, 0.1)], [Hit(3, 700.0), Hit(1, 600.0)]
    cosines = {1: 0.9, 2: 0.1, 3: 0.95}

    assert [c.chunk_id for c in fuse(dense, lexical, cosines, 1.0, 4.0)] == [1, 2]
    assert [c.chunk_id for c in fuse(dense, lexical, cosines, 0.0, 4.0)] == [3, 1]


def test_nothing_found_is_nothing() -> None:
    """Two empty legs give no candidate, and a question without words no share."""
    assert fuse([], [], {}, 0.7, 0.0) == []
    assert relative_bm25(0.0, 0.0) == pytest.approx(0.0)
