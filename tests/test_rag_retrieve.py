"""Fusion: scores, not ranks; ties and duplicates settled the same way every time."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.types import Hit
from rag.retrieve import fuse

hits = st.dictionaries(st.integers(1, 40), st.floats(0, 1), max_size=20)


def ranked(scores: dict[int, float]) -> list[Hit]:
    return [Hit(i, s) for i, s in sorted(scores.items(), key=lambda item: (-item[1], item[0]))]


@given(hits, hits, st.floats(0, 1))
def test_every_hit_is_ranked_once(
    dense: dict[int, float], lexical: dict[int, float], alpha: float
) -> None:
    """Each hit of a leg that counts appears once, best first, with its rank in each leg."""
    cosines = dict.fromkeys(lexical, 0.1) | dense

    fused = fuse(ranked(dense), ranked(lexical), cosines, alpha)

    expected = (set(dense) if alpha > 0 else set()) | (set(lexical) if alpha < 1 else set())
    assert [c.chunk_id for c in fused] == [
        c.chunk_id for c in sorted(fused, key=lambda c: (-c.score, c.chunk_id))
    ]
    assert {c.chunk_id for c in fused} == expected
    assert len(fused) == len(expected)
    for candidate in fused:
        assert (candidate.dense_rank is not None) == (candidate.chunk_id in dense)
        assert (candidate.lexical_rank is not None) == (candidate.chunk_id in lexical)


def test_score_is_the_weighted_sum() -> None:
    """alpha·cosine + (1 - alpha)·bm25/max, with the true cosine for lexical hits."""
    fused = fuse([Hit(1, 0.8)], [Hit(2, 10.0), Hit(1, 5.0)], {1: 0.8, 2: 0.5}, 0.6)

    assert [(c.chunk_id, round(c.score, 6)) for c in fused] == [(2, 0.7), (1, 0.68)]


def test_one_leg_alone_keeps_its_order() -> None:
    """alpha 1 is the dense ranking, alpha 0 the lexical one."""
    dense, lexical = [Hit(1, 0.9), Hit(2, 0.1)], [Hit(3, 7.0), Hit(1, 2.0)]
    cosines = {1: 0.9, 2: 0.1, 3: 0.95}

    assert [c.chunk_id for c in fuse(dense, lexical, cosines, 1.0)] == [1, 2]
    assert [c.chunk_id for c in fuse(dense, lexical, cosines, 0.0)] == [3, 1]


def test_nothing_found_is_nothing() -> None:
    """Two empty legs give no candidate."""
    assert fuse([], [], {}, 0.7) == []
