"""The one interval of a mean over seeds (Student's t), and the one bootstrap over seeds."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean over seeds with its two-sided confidence interval."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def student(seeds: int, confidence: float = CONFIDENCE) -> float:
    """t: a mean over S seeds is known to ± t standard errors, t = t_{S−1} at (1 + confidence)/2.

    >>> round(student(3), 3)
    4.303
    """
    return float(stdtrit(seeds - 1, (1 + confidence) / 2))


def mean_interval(
    samples: np.ndarray, confidence: float = CONFIDENCE, *, axis: int = 0
) -> Interval:
    """Mean over one axis (seeds) and its interval: mean ± t_{S−1} · s / √S.

    One seed has no interval: low and high are NaN.

    >>> centre = mean_interval(np.array([[1.0], [2.0], [3.0]]))
    >>> [float(v[0].round(3)) for v in centre]
    [2.0, -0.484, 4.484]
    """
    samples = np.asarray(samples, np.float64)
    seeds = samples.shape[axis]
    mean = samples.mean(axis=axis)
    if seeds < 2:
        return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    half = student(seeds, confidence) * samples.std(axis=axis, ddof=1) / np.sqrt(seeds)
    return Interval(mean, mean - half, mean + half)


def resampled_seeds(seeds: int, resamples: int) -> np.ndarray:
    """(resamples, S) places of seeds, drawn with replacement; the same draws in every call.

    >>> resampled_seeds(3, 2).shape
    (2, 3)
    """
    return np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
