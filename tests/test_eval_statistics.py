"""Intervals and rank statistics, against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import statistics

shares = st.floats(min_value=0, max_value=1)


def test_auroc_counts_ties_half():
    """Of four pairs, two are ordered right, one wrong, and one is a tie."""
    scores, positives = [0.9, 0.4, 0.4, 0.5], [True, True, False, False]

    assert statistics.auroc(scores, positives) == (1 + 1 + 0.5 + 0) / 4


def test_auroc_needs_both_classes():
    """With positives alone there is nothing to tell apart."""
    assert statistics.auroc([0.1, 0.9], [True, True]) is None
    assert statistics.class_interval([0.1, 0.9], [True, True], statistics.auroc) is None


@given(st.lists(st.tuples(shares, st.booleans()), min_size=2, max_size=40))
def test_auroc_is_the_share_of_ordered_pairs(rows):
    """The rank form equals the definition over all pairs."""
    wanted = [score for score, positive in rows if positive]
    others = [score for score, positive in rows if not positive]
    pairs = [(a > b) + (a == b) / 2 for a in wanted for b in others]
    expected = sum(pairs) / len(pairs) if pairs else None

    actual = statistics.auroc([score for score, _ in rows], [positive for _, positive in rows])

    assert actual == (None if expected is None else pytest.approx(expected))


def test_mean_interval_is_near_the_normal_one():
    """For 100 rows with a mean of .9, the bootstrap agrees with 1.96 standard errors."""
    values = [1.0] * 90 + [0.0] * 10

    low, high = statistics.mean_interval(values)

    assert low == pytest.approx(0.9 - 0.059, abs=0.015)
    assert high == pytest.approx(0.9 + 0.059, abs=0.015)


def test_mean_interval_is_deterministic():
    """The same values give the same interval; another seed gives another one."""
    values = list(np.linspace(0, 1, 37))

    assert statistics.mean_interval(values) == statistics.mean_interval(values)
    assert statistics.mean_interval(values) != statistics.mean_interval(values, seed=1)


def test_large_sets_are_drawn_in_blocks():
    """A set larger than a block gives the narrow interval its size deserves."""
    values = np.arange(3_000) % 2

    low, high = statistics.mean_interval(values.tolist())

    assert 0.5 - low == pytest.approx(1.96 * 0.5 / np.sqrt(3_000), abs=0.003)
    assert high - 0.5 == pytest.approx(1.96 * 0.5 / np.sqrt(3_000), abs=0.003)


@given(st.lists(shares, min_size=1, max_size=30))
def test_intervals_stay_within_the_values(values):
    """No interval reaches beyond the least and the greatest value, and none is upside down."""
    for low, high in (
        statistics.mean_interval(values),
        statistics.quantile_interval(values, 0.5),
    ):
        assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12


def test_no_values_have_no_interval():
    """An empty sample is refused instead of yielding NaN."""
    with pytest.raises(ValueError, match="at least one"):
        statistics.mean_interval([])
    with pytest.raises(ValueError, match="at least one"):
        statistics.smallest_detectable_drop([])
    assert statistics.expected_calibration_error([], []) is None


def test_paired_interval_sees_what_unpaired_ones_hide():
    """A steady small gain on very different questions is significant once they are paired."""
    before = [float(value) for value in range(20)]
    after = [value + 0.1 + 0.01 * (value % 2) for value in before]

    low, high = statistics.paired_interval(before, after)

    assert 0.1 <= low <= high <= 0.11 + 1e-9
    assert statistics.mean_interval(before)[1] > statistics.mean_interval(after)[0]


def test_paired_interval_refuses_unequal_lengths():
    """Rows that are not the same questions cannot be paired."""
    with pytest.raises(ValueError, match="2 != 1"):
        statistics.paired_interval([1.0, 0.0], [1.0])


def test_smallest_detectable_drop_of_the_textbook_case():
    """100 rows of which 90 are right detect a drop of 5.9 points."""
    assert round(statistics.smallest_detectable_drop([1.0] * 90 + [0.0] * 10), 3) == 0.059


def test_calibration_error_by_hand():
    """Two bins: .9 said and 1 seen on two rows, .1 said and .5 seen on two rows."""
    error = statistics.expected_calibration_error([0.9, 0.9, 0.1, 0.1], [1, 1, 0, 1])

    assert error == pytest.approx(0.5 * 0.1 + 0.5 * 0.4)


def test_certain_and_right_is_calibrated():
    """A confidence of exactly 1 falls into the last bin, not beyond it."""
    assert statistics.expected_calibration_error([1.0, 0.0], [True, False]) == 0.0


def test_class_interval_pairs_the_scores_of_a_row():
    """The interval of a difference is narrow where two scores err on the same rows."""
    better = [0.5, 0.7, 0.8, 0.9] * 10 + [0.1, 0.2, 0.4, 0.6] * 10
    worse = [score if score < 0.9 else 0.3 for score in better]
    positives = [True] * 40 + [False] * 40

    def gain(rows, marks):
        return statistics.auroc(rows[:, 0], marks) - statistics.auroc(rows[:, 1], marks)

    low, high = statistics.class_interval(list(zip(better, worse)), positives, gain)
    alike = statistics.class_interval(list(zip(better, better)), positives, gain)

    assert 0 < low < high < 0.3
    assert alike == (0, 0)


def test_class_interval_holds_the_estimate():
    """The interval of a good but not perfect separation lies around it, below 1."""
    scores = [0.5, 0.7, 0.8, 0.9] * 10 + [0.1, 0.2, 0.4, 0.6] * 10
    positives = [True] * 40 + [False] * 40

    area = statistics.auroc(scores, positives)
    low, high = statistics.class_interval(scores, positives, statistics.auroc)

    assert 0.8 < low < area < high < 1
