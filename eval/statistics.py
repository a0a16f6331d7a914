"""Intervals and rank statistics over scores. Every random draw has a fixed seed."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ClassStatistic = Callable[[ArrayLike, ArrayLike], float | None]
"""A statistic of scores and of which rows are positive."""

SEED = 20
RESAMPLES = 2_000
# Resamples are drawn in blocks of about this many numbers, to bound the memory of a large set.
_BLOCK = 2_000_000
# For statistics that take one resample at a time.
_SLOW_RESAMPLES = 500
_NORMAL_95 = 1.96


def mean_interval(values: Sequence[float], seed: int = SEED) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of the mean (Efron 1979).

    Raises ValueError for no values; one value, or equal ones, give an interval of no width.
    """
    return statistic_interval(values, lambda rows: rows.mean(axis=1), seed)


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile at a share in 0..1, interpolated linearly."""
    return float(np.quantile(values, share))


def quantile_interval(
    values: Sequence[float], share: float, seed: int = SEED
) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of the quantile at a share in 0..1."""
    return statistic_interval(values, lambda rows: np.quantile(rows, share, axis=1), seed)


def statistic_interval(
    values: Sequence[float],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seed: int = SEED,
) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of a statistic of one resample a row."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("an interval needs at least one value")
    if np.ptp(array) == 0:
        return float(array[0]), float(array[0])
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // array.size)
    drawn = [
        statistic(array[random.integers(0, array.size, (min(block, RESAMPLES - done), array.size))])
        for done in range(0, RESAMPLES, block)
    ]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return float(low), float(high)


def paired_interval(
    before: Sequence[float], after: Sequence[float], seed: int = SEED
) -> tuple[float, float]:
    """The 95 % interval of the mean change, `after[i] - before[i]` being the same question's.

    Raises ValueError where the lengths differ.
    """
    if len(before) != len(after):
        raise ValueError(f"paired values differ in length: {len(before)} != {len(after)}")
    return mean_interval([new - old for old, new in zip(before, after, strict=True)], seed)


def smallest_detectable_drop(values: Sequence[float]) -> float:
    """The half-width of the normal 95 % interval of the mean: a smaller drop is noise here.

    100 rows with a mean of .9 right give .059. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("a detectable drop needs at least one value")
    return float(_NORMAL_95 * np.std(values) / np.sqrt(len(values)))


def auroc(scores: ArrayLike, positives: ArrayLike) -> float | None:
    """The chance that a positive scores above a negative, ties counting half.

    None where one of the two classes is missing.
    """
    values = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(positives, dtype=bool)
    negatives = np.sort(values[~labels])
    wanted = values[labels]
    if not negatives.size or not wanted.size:
        return None
    below = np.searchsorted(negatives, wanted, side="left")
    not_above = np.searchsorted(negatives, wanted, side="right")
    return float((below + not_above).sum() / (2 * negatives.size * wanted.size))


def class_interval(
    scores: ArrayLike,
    positives: ArrayLike,
    statistic: ClassStatistic,
    seed: int = SEED,
) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of a statistic of scores and labels, drawn class by class.

    Scores are one a row, or several, shape (n, k): then a row's are drawn together, and the
    statistic may be a difference. None where one of the two classes is missing.
    """
    values = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(positives, dtype=bool)
    wanted, others = values[labels], values[~labels]
    if not len(wanted) or not len(others):
        return None
    random = np.random.default_rng(seed)
    marks = np.repeat([True, False], [len(wanted), len(others)])
    drawn = [
        statistic(
            np.concatenate(
                [random.choice(wanted, len(wanted)), random.choice(others, len(others))]
            ),
            marks,
        )
        for _ in range(_SLOW_RESAMPLES)
    ]
    low, high = np.quantile(np.asarray(drawn, dtype=np.float64), [0.025, 0.975])
    return float(low), float(high)


def expected_calibration_error(
    confidences: ArrayLike, outcomes: ArrayLike, bins: int = 10
) -> float | None:
    """Mean gap between confidence and outcome over equal-width bins, weighted by their size.

    Naeini et al. 2015. Confidences lie in 0..1. None for no values.
    """
    stated = np.asarray(confidences, dtype=np.float64)
    observed = np.asarray(outcomes, dtype=np.float64)
    if stated.size == 0:
        return None
    index = np.minimum((stated * bins).astype(int), bins - 1)
    gaps = np.abs(
        np.bincount(index, stated, minlength=bins) - np.bincount(index, observed, minlength=bins)
    )
    return float(gaps.sum() / stated.size)
