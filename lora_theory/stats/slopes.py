"""Log-magnitudes over widths and seeds, and the slopes fitted to them with their errors: what turns
runs at several widths into a measured exponent.

Only numbers here: no model, no prediction and no JAX.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from lora_theory.stats.intervals import resampled_seeds, student

Statistic = Literal["mean", "median"]
_RESAMPLES = 400
# A mean of logarithms over the seeds that are not exactly 0 is biased if many are left out.
_ZERO_SHARE = 0.05


class Slope(NamedTuple):
    """A measured exponent: the slope of log2 |v| against log2 n.

    Attributes:
        value: the slope; NaN if it can not be had (see `note`).
        error: its standard error over seeds.
        seeds: how many seeds it rests on.
        zero: v is exactly 0 in every run: "identically zero", which has no slope.
        note: why there is no slope, or what was left out; empty otherwise.
    """

    value: float
    error: float
    seeds: int
    zero: bool = False
    note: str = ""

    def half_width(self, confidence: float) -> float:
        """Half the two-sided Student-t interval."""
        return student(self.seeds, confidence) * self.error

    def __str__(self) -> str:
        if self.zero:
            return "identically zero"
        return self.note if math.isnan(self.value) else f"{self.value:+.3f} ± {self.error:.3f}"


@dataclasses.dataclass(frozen=True)
class Table:
    """log2 |v| of every quantity v, width, seed and step.

    Attributes:
        log2_widths: (W,) log2 n, ascending.
        steps: (T,) the values of t.
        logs: quantity -> (W, S, T) log2 |v|: −inf where v is exactly 0, NaN where it overflowed.
    """

    log2_widths: np.ndarray
    steps: np.ndarray
    logs: Mapping[str, np.ndarray]

    def columns(self) -> dict[str, np.ndarray]:
        """The same as one tidy table: a row per width, seed, t and quantity."""
        widths, seeds, steps = next(iter(self.logs.values())).shape
        w, s, t = (i.ravel() for i in np.indices((widths, seeds, steps)))
        count = len(self.logs)
        return {
            "log2_width": np.tile(self.log2_widths[w], count),
            "seed": np.tile(s, count),
            "t": np.tile(self.steps[t], count),
            "quantity": np.repeat(list(self.logs), w.size),
            "log2_magnitude": np.concatenate([logs.ravel() for logs in self.logs.values()]),
        }

    def slope(self, quantity: str, t: int, statistic: Statistic = "mean") -> Slope:
        """The exponent of one quantity at step t; see `fit`.

        Raises:
            ValueError: an unknown quantity or step, or too few widths or seeds.
        """
        return fit(self.log2_widths, self._at(quantity, t), statistic)

    def successive(self, quantity: str, t: int) -> list[Slope]:
        """Slopes between neighbouring widths: a crossover is seen approaching its limit."""
        logs = self._at(quantity, t)
        pairs = range(len(self.log2_widths) - 1)
        return [_fit(self.log2_widths[i : i + 2], logs[i : i + 2], "mean") for i in pairs]

    def summary(self, statistic: Statistic = "mean") -> str:
        """Slopes ± standard errors: a line per quantity, a column per step."""
        seeds = next(iter(self.logs.values())).shape[1]
        name = max(len(quantity) for quantity in self.logs)
        n = [f"2^{w:g}" for w in (self.log2_widths[0], self.log2_widths[-1])]
        head = " ".join(f"{f't = {t}':>18}" for t in self.steps)
        lines = [
            f"exponents in n = {n[0]} … {n[1]}, {seeds} seeds, ± standard error",
            f"{'':<{name}} {head}",
        ]
        for quantity in self.logs:
            slopes = (str(self.slope(quantity, int(t), statistic)) for t in self.steps)
            lines.append(f"{quantity:<{name}} " + " ".join(f"{s:>18}" for s in slopes))
        return "\n".join(lines)

    def _at(self, quantity: str, t: int) -> np.ndarray:
        if quantity not in self.logs:
            raise ValueError(f"quantity: must be one of {', '.join(self.logs)} (got {quantity!r})")
        if t not in self.steps:
            raise ValueError(f"t: must be one of {', '.join(map(str, self.steps))} (got {t})")
        return self.logs[quantity][..., int(np.flatnonzero(self.steps == t)[0])]


def fit(log2_widths: np.ndarray, logs: np.ndarray, statistic: Statistic = "mean") -> Slope:
    """Least-squares slope of log2 |v| against log2 n, with its standard error over seeds.

    Every seed has a slope of its own, so the error of their mean is their spread / √S, whatever
    the runs of one seed have in common and however much the spread depends on the width. The
    median over seeds is fitted for heavy tails; its error is a bootstrap over seeds.

    Args:
        log2_widths: (W,) at least three.
        logs: (W, S) log2 |v|, at least two seeds.
        statistic: "mean" or "median" of the logarithms over seeds.

    Raises:
        ValueError: too few widths or seeds, or an unknown statistic.

    >>> str(fit(np.array([6.0, 7.0, 8.0]), np.array([[6.0, 6.2], [7.0, 7.2], [8.0, 8.2]])))
    '+1.000 ± 0.000'
    >>> str(fit(np.array([6.0, 7.0, 8.0]), np.full((3, 2), -np.inf)))
    'identically zero'
    """
    if not (np.diff(log2_widths) > 0).all():
        raise ValueError(f"widths: must ascend (got log2 n = {list(log2_widths)})")
    if len(log2_widths) < 3:
        raise ValueError(f"widths: a slope needs at least three (got {len(log2_widths)})")
    if logs.shape[1] < 2:
        raise ValueError(f"seeds: an error needs at least two (got {logs.shape[1]})")
    if statistic not in ("mean", "median"):
        raise ValueError(f"statistic: must be mean or median (got {statistic!r})")
    return _fit(log2_widths, logs, statistic)


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
    if not (logs < np.inf).all():  # NaN and +inf: an overflow somewhere.
        lost = float((~(logs < np.inf)).any(axis=0).mean())
        return Slope(math.nan, math.nan, seeds, note=f"overflow in {lost:.0%} of seeds")
    zero = np.isneginf(logs).any(axis=0)
    if zero.mean() > _ZERO_SHARE or seeds - zero.sum() < 2:
        note = f"exactly 0 in {zero.mean():.0%} of seeds"
        return Slope(math.nan, math.nan, seeds, note=note)
    note = f"{int(zero.sum())} seeds exactly 0, left out" if zero.any() else ""
    logs = logs[:, ~zero]
    kept = logs.shape[1]
    weights = slope_weights(log2_widths)
    if statistic == "mean":
        slopes = weights @ logs
        return Slope(float(slopes.mean()), float(slopes.std(ddof=1) / kept**0.5), kept, note=note)
    draws = resampled_seeds(kept, _RESAMPLES)
    resampled = weights @ np.median(logs[:, draws], axis=2)
    value = float(weights @ np.median(logs, axis=1))
    return Slope(value, float(resampled.std(ddof=1)), kept, note=note)
