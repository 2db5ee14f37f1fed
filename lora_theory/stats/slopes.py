"""Slopes of log-magnitudes over widths with their errors: what turns runs at several widths into a
measured exponent.

Only numbers here: no model, no prediction and no JAX.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from lora_theory.stats.intervals import resampled_seeds, student

Statistic = Literal["mean", "median"]
_RESAMPLES = 400
_LEFT_OUT = 0.05  # Of all seeds at most.


class Slope(NamedTuple):
    """A measured exponent: the slope of `log2 |v|` against log2 n.

    A seed counts at all widths or at none: one that is exactly 0, or lost to rounding, at one width
    is left out everywhere, else the widths would be of different seeds. Those that are left out
    are no random ones (what is 0 is small), so they may bias the rest: at most 5 % of seeds may be
    left out, else there is no slope; and by as much as the slope would move if all of them had the
    lowest, or the highest, slope of the seeds that are kept (`bias`) the interval is longer at
    either end. What can not be bounded is a left-out seed further out than every other.

    Attributes:
        value: the slope; NaN if it can not be had (see `note`).
        error: its standard error over seeds.
        seeds: how many seeds it rests on.
        zero: v is exactly 0 in every run: "identically zero", which has no slope.
        note: why there is no slope, or what was left out; empty otherwise.
        bias: how far the seeds that were left out could move the slope; 0 of none.
    """

    value: float
    error: float
    seeds: int
    zero: bool = False
    note: str = ""
    bias: float = 0.0

    def half_width(self, confidence: float) -> float:
        """Half the two-sided Student-t interval, and the bias that may be."""
        return student(self.seeds, confidence) * self.error + self.bias

    def __str__(self) -> str:
        if self.zero:
            return "identically zero"
        return self.note if math.isnan(self.value) else f"{self.value:+.3f} ± {self.error:.3f}"


def fit(log2_widths: np.ndarray, logs: np.ndarray, statistic: Statistic = "mean") -> Slope:
    """Least-squares slope of `log2 |v|` against log2 n, with its standard error over seeds.

    Every seed has a slope of its own, so the error of their mean is their spread / √S, whatever
    the runs of one seed have in common and however much the spread depends on the width. The
    median over seeds is fitted for heavy tails; its error is a bootstrap over seeds.

    Args:
        log2_widths: (W,) at least three.
        logs: (W, S) `log2 |v|`, at least two seeds: −inf where v is exactly 0, inf where it
            overflowed, NaN where it could not be measured.
        statistic: "mean" or "median" of the logarithms over seeds.

    Raises:
        ValueError: too few widths or seeds, or an unknown statistic.

    >>> str(fit(np.array([6.0, 7.0, 8.0]), np.array([[6.0, 6.2], [7.0, 7.2], [8.0, 8.2]])))
    '+1.000 ± 0.000'
    >>> str(fit(np.array([6.0, 7.0, 8.0]), np.full((3, 2), -np.inf)))
    'identically zero'
    """
    _check_widths(log2_widths)
    if logs.shape[1] < 2:
        raise ValueError(f"seeds: an error needs at least two (got {logs.shape[1]})")
    if statistic not in ("mean", "median"):
        raise ValueError(f"statistic: must be mean or median (got {statistic!r})")
    return _fit(log2_widths, logs, statistic)


def _check_widths(log2_widths: np.ndarray) -> None:
    if not (np.diff(log2_widths) > 0).all():
        raise ValueError(f"widths: must ascend (got log2 n = {list(log2_widths)})")
    if len(log2_widths) < 3:
        raise ValueError(f"widths: a slope needs at least three (got {len(log2_widths)})")


def successive_slope(log2_widths: np.ndarray, logs: np.ndarray) -> Slope:
    """The slope between two widths; of one seed, or where it can not be had, a note says why.

    Args:
        log2_widths: (2,) ascending.
        logs: (2, S) `log2 |v|`.

    >>> successive_slope(np.array([6.0, 7.0]), np.zeros((2, 1))).note
    'one seed: no error'
    """
    return _fit(log2_widths, logs, "mean")


def of_one_seed(log2_widths: np.ndarray, logs: np.ndarray) -> str:
    """The slope of a single seed, which has no error, or why there is none, in words.

    Args:
        log2_widths: (W,) at least three.
        logs: (W,) `log2 |v|`.

    Raises:
        ValueError: too few widths.

    >>> widths = np.array([6.0, 7.0, 8.0])
    >>> of_one_seed(widths, -widths), of_one_seed(widths, np.full(3, -np.inf))
    ('-1.000', 'identically zero')
    """
    _check_widths(log2_widths)
    if np.isfinite(logs).all():
        return f"{slope_weights(log2_widths) @ logs:+.3f}"
    return str(_fit(log2_widths, logs[:, None], "mean"))


def slope_weights(log2_widths: np.ndarray) -> np.ndarray:
    """(W,) weights whose product with logarithms at these widths is their least-squares slope.

    >>> float(slope_weights(np.array([6.0, 7.0, 8.0])) @ np.array([1.0, 3.0, 5.0]))
    2.0
    """
    x = log2_widths - log2_widths.mean()
    return x / (x @ x)


def _fit(log2_widths: np.ndarray, logs: np.ndarray, statistic: Statistic) -> Slope:
    seeds = logs.shape[1]
    if np.isneginf(logs).all():
        return Slope(math.nan, math.nan, seeds, zero=True)
    why = _left_out(logs)
    note = "; ".join(f"{words} in {share:.0%} of seeds" for words, share in why.items() if share)
    kept = logs[:, np.isfinite(logs).all(axis=0)]
    if seeds < 2:
        note = note and "; ".join(words for words, share in why.items() if share)
        return Slope(math.nan, math.nan, seeds, note=note or "one seed: no error")
    if why["overflow"] or sum(why.values()) > _LEFT_OUT or kept.shape[1] < 2:
        return Slope(math.nan, math.nan, seeds, note=note)
    weights = slope_weights(log2_widths)
    if statistic == "mean":
        error = (weights @ kept).std(ddof=1) / kept.shape[1] ** 0.5
    else:
        draws = resampled_seeds(kept.shape[1], _RESAMPLES)
        error = (weights @ np.median(kept[:, draws], axis=2)).std(ddof=1)
    value = _value(weights, kept, statistic)
    left_out = seeds - kept.shape[1]
    bias = _bias(weights, kept, left_out, statistic)
    if left_out:
        note = f"{left_out} seeds left out: {note}, which may move it by {bias:.1g}"
    return Slope(value, float(error), kept.shape[1], note=note, bias=bias)


def _value(weights: np.ndarray, logs: np.ndarray, statistic: Statistic) -> float:
    middle = logs.mean(axis=1) if statistic == "mean" else np.median(logs, axis=1)
    return float(weights @ middle)


def _bias(weights: np.ndarray, kept: np.ndarray, left_out: int, statistic: Statistic) -> float:
    """How far the slope moves if all that was left out is as the lowest, or the highest, seed."""
    if not left_out:
        return 0.0
    slopes, value = weights @ kept, _value(weights, kept, statistic)
    moved = []
    for seed in (slopes.argmin(), slopes.argmax()):
        filled = np.concatenate([kept, np.repeat(kept[:, [seed]], left_out, axis=1)], axis=1)
        moved.append(abs(_value(weights, filled, statistic) - value))
    return max(moved)


def _left_out(logs: np.ndarray) -> dict[str, float]:
    """Of seeds that have no logarithm at some width: why not, and which share of all."""
    overflow = np.isposinf(logs).any(axis=0)
    rounding = np.isnan(logs).any(axis=0) & ~overflow
    zero = np.isneginf(logs).any(axis=0) & ~overflow & ~rounding
    names = ("overflow", "not measured (rounding)", "exactly 0")
    return {
        name: float(at.mean()) for name, at in zip(names, (overflow, rounding, zero), strict=True)
    }
