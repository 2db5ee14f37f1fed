"""Landscape collapse: the exponents under which the maps of several widths fall on one another.

A map M_n(log η_A, log η_B), as the log of a judged loss, is given at several widths on one raw
grid. If everything moves as η_A ∝ n^c_a, η_B ∝ n^c_b, then

    M_n(log η_A + c_a log n, log η_B + c_b log n) does not depend on n.

Every cell of every width is compared with the place that (c_a, c_b) assigns to it at every other
width. The raw grid is the same for all: a window that moves with n would impose its own exponents.
"""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.stats.intervals import CONFIDENCE, drawn, few_seeds, resampled_seeds
from lora_theory.stats.landscapes import Landscape, checked
from lora_theory.stats.numbers import numbers

Exponents = tuple[float, float]
# What is said of a collapse: name -> weights of c_a and c_b. The sum alone is known where the map
# is one of η_A · η_B.
SAID: dict[str, Exponents] = {"c_a": (1.0, 0.0), "c_b": (0.0, 1.0), "c_a + c_b": (1.0, 1.0)}

_BOUND = 2.0  # Exponents from −2 to 2 are tried …
_STEPS = (0.25, 0.1, 0.04, 0.015, 0.005)  # … at first so far apart, then nearer to the best.
_NEAR = 1.0  # … of other draws of the seeds, so far from the best fit of all seeds.
_OVERLAP = 0.25  # Exponents that leave less than this share of the cells to compare are not tried.
_STEEP = 2.0  # A cell counts where the map is steeper than so many standard errors of its slope.
_PLACED = 0.05  # Cells: nearer than this, maps that are known on a grid can not be placed.
_FEWEST = 8  # With fewer cells that count a family is flat.


class Collapse(NamedTuple):
    """The exponents of a family of maps, and how well they make it collapse.

    Attributes:
        exponents: (c_a, c_b) of the best fit; NaN for a family that is flat throughout, and for an
            axis of one cell.
        low, high: their intervals over seeds; NaN where a width has one seed.
        left: scaling -> the share of the variance that it leaves, 0 for a perfect collapse, about
            1 for maps that have nothing in common: of "fit", "none" (0, 0), and what is given,
            all on the same cells. NaN where they have none in common.
        cells: how many cells count, over all widths.
        draws: (resamples, 2) the exponents of other draws of the seeds.
        seeds: of the width with the fewest.
        placed: the coarseness of either exponent, that of maps known on a grid.
        pinned: whether the window decides an exponent: the best fit, or that of more draws than
            the interval leaves out, lies on the border of what leaves enough cells to compare.
    """

    exponents: Exponents
    low: Exponents
    high: Exponents
    left: dict[str, float]
    cells: int
    draws: np.ndarray = np.empty((0, 2))
    seeds: int = 0
    placed: Exponents = (0.0, 0.0)
    pinned: tuple[bool, bool] = (False, False)

    def interval(
        self, weights: Exponents, confidence: float = CONFIDENCE
    ) -> tuple[float, float, float]:
        """w_a c_a + w_b c_b and its interval over the draws; NaN where there is none.

        Where the map is one of η_A · η_B, the sum is determined and neither exponent alone is.

        >>> draws = np.array([[-1.0, 0.0], [-0.5, -0.5], [0.0, -1.0]])
        >>> nothing = (np.nan, np.nan)
        >>> fit = Collapse((-0.5, -0.5), nothing, nothing, {}, 99, draws, seeds=10**4)
        >>> [[round(end, 2) for end in fit.interval(w, 0.5)] for w in ((1, 1), (1, 0))]
        [[-1.0, -1.0, -1.0], [-0.5, -0.75, -0.25]]
        """
        if np.shape(weights) != (2,):
            raise arguments.refusal("weights", "two, of c_a and of c_b", weights)
        known = np.where(np.array(weights) == 0, 0.0, self.exponents)  # 0 · NaN is no part of it.
        value = float(known @ weights)
        if not len(self.draws) or np.isnan(value):
            return value, np.nan, np.nan
        tail = (1 - arguments.between("confidence", confidence, 0, 1)) / 2
        ends = np.quantile(self.draws @ weights, (tail, 1 - tail))
        low, high = value + few_seeds(self.seeds, confidence) * (ends - value)
        coarse = float(np.dot(self.placed, np.abs(weights)))
        return value, float(low - coarse), float(high + coarse)

    def unknown(
        self, weights: Exponents, interval: tuple[float, float, float], widest: float = 1.0
    ) -> str:
        """Why w_a c_a + w_b c_b is not determined; empty if it is.

        Args:
            weights: w_a, w_b.
            interval: what `interval` gives for them.
            widest: an interval that is wider determines nothing.
        """
        value, low, high = interval
        if not np.isfinite(value):
            return f"flat: {self.cells} cells differ"
        if np.isnan(high - low):
            return "no interval over seeds"
        # Along a valley of the product the sum is known where one exponent alone is not.
        if all(pinned for pinned, w in zip(self.pinned, weights, strict=True) if w):
            return "the window allows no other"
        return f"the interval is {high - low:.2f} wide" if high - low > widest else ""

    def determined(self, widest: float = 1.0) -> tuple[bool, bool]:
        """Whether each exponent is determined; see `unknown`."""
        both = zip(self.exponents, self.low, self.high, strict=True)
        a, b = (
            not self.unknown(SAID[name], ends, widest)
            for name, ends in zip(("c_a", "c_b"), both, strict=True)
        )
        return a, b


def log_losses(land: Landscape) -> np.ndarray:
    """log2 of the losses, (S, G_a, G_b), each at most that seed's loss at t = 0, as is a diverged
    run: finite everywhere.

    Raises:
        ValueError: the loss at t = 0 is finite in no seed.
    """
    land = checked("land", land)
    known = np.isfinite(land.start)
    if not known.any():
        raise ValueError("land: no seed has a finite loss at t = 0")
    start = np.where(known, land.start, land.start[known].max())
    capped = np.minimum(land.losses, start[:, None, None])
    return np.log2(np.maximum(capped, np.finfo(float).tiny))


def mean_map(logs: np.ndarray) -> np.ndarray:
    """The mean over seeds of bounded log losses: a diverged run counts as untrained.

    The edge of stability is sharp in each seed; averaged over seeds it lies between cells, where a
    median's jumps from one cell to the next: that costs a bias of a fraction of a cell over the
    whole range of widths.
    """
    return np.asarray(np.asarray(logs).mean(axis=0))


def collapse(
    logs: Sequence[np.ndarray],
    log2_widths: Sequence[float] | np.ndarray,
    *,
    steps: tuple[float, float] = (1.0, 1.0),
    given: Mapping[str, Exponents] | None = None,
    judge: Callable[[np.ndarray], np.ndarray] = mean_map,
    resamples: int = 200,
    confidence: float = CONFIDENCE,
) -> Collapse:
    """Fit (c_a, c_b) to the maps of several widths, with bootstrap intervals over seeds.

    The misfit is the mean square of M_n − M_n' over all cells that count, at all pairs of widths,
    a pair weighing 1 / (1/S_n + 1/S_n'), as its seeds tell;
    a cell counts where its map is not flat, compared with the noise of its slope over seeds
    (anything collapses where nothing changes). Between cells maps are interpolated linearly, which
    displaces an edge by some hundredths of a cell: intervals have that much in addition.

    Args:
        logs: a width each, (S, G_a, G_b), finite, as `log_losses` gives them; seeds are those of
            one list, of which a width with fewer has the beginning.
        log2_widths: (W,) log2 n, ascending, at least two.
        steps: log2 of the ratio of neighbouring rates on either axis.
        given: scalings by name that are compared with the fit, as {"theory": (-1, 0)}.
        judge: seeds' maps (S, G_a, G_b) -> one (G_a, G_b); `quantile` for the median's.
        resamples: draws of seeds, the same at all widths; without any there are no intervals.
        confidence: of the intervals.

    Raises:
        ValueError: fewer than two widths, widths that do not ascend, maps of different grids or
            that are not finite, a confidence outside of (0, 1).

    >>> a, b = np.meshgrid(np.arange(-12.0, 1), np.arange(-8.0, 5), indexing="ij")
    >>> def family(n):  # a basin that moves as n^−1, n^(1/2)
    ...     return (0.1 * (a + n) ** 2 + 0.1 * (b - 0.5 * n) ** 2)[None].repeat(6, axis=0)
    >>> collapse([family(n) for n in (3, 4, 5)], (3, 4, 5), resamples=2).exponents
    (-1.0, 0.5)
    """
    confidence = arguments.between("confidence", confidence, 0, 1)
    resamples = arguments.integer("resamples", resamples, 0)
    if np.shape(steps) != (2,):
        raise arguments.refusal("steps", "two, of η_A and of η_B", steps)
    steps = arguments.positive("steps", steps[0]), arguments.positive("steps", steps[1])
    widths, logs = numbers("log2_widths", log2_widths), list(logs)
    for name, exponents in (given or {}).items():
        if np.shape(exponents) != (2,) or not np.isfinite(exponents).all():
            raise arguments.refusal(f"given[{name!r}]", "a pair (c_a, c_b)", exponents)
    if len(widths) < 2 or not (np.diff(widths) > 0).all() or len(logs) != len(widths):
        raise ValueError(f"log2_widths: must be at least two and ascend (got {list(log2_widths)})")
    logs = [np.asarray(log, float) for log in logs]
    if not all(log.ndim == 3 and log.size and np.isfinite(log).all() for log in logs):
        raise ValueError("logs: must be finite, (S, G_a, G_b) at each width; see `log_losses`")
    if len({log.shape[1:] for log in logs}) > 1:
        raise ValueError("logs: all widths must have one grid")
    maps = np.stack([judge(log) for log in logs])
    steep = _steep(maps, logs)
    if steep.sum() < _FEWEST:
        nothing = (np.nan, np.nan)
        return Collapse(nothing, nothing, nothing, {}, int(steep.sum()))
    family = _Family(maps, steep, widths, steps, np.array([len(log) for log in logs]))
    best = family.fit()
    pinned = np.array(family.pinned(best))
    found, fewest = np.empty((0, 2)), min(len(log) for log in logs)
    if resamples and fewest > 1:
        draws = resampled_seeds(max(len(log) for log in logs), resamples)

        def refit(draw: np.ndarray) -> tuple[Exponents, tuple[bool, bool]]:
            other = family.of(np.stack([judge(drawn(log, draw)) for log in logs]))
            fitted = other.fit(best)
            return fitted, other.pinned(fitted)

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy lets other threads run.
            fits, borders = zip(*pool.map(refit, draws), strict=True)
        found = np.array(fits)
        pinned |= np.mean(borders, axis=0) > (1 - confidence) / 2
    scalings = {"fit": best, "none": (0.0, 0.0), **(given or {})}
    axes = np.where(np.array(maps.shape[1:]) > 1, 0.0, np.nan)  # One row says nothing of c_a.
    exponents = float(best[0] + axes[0]), float(best[1] + axes[1])
    nothing = (np.nan, np.nan)
    left, cells = family.variance_left(scalings), int(steep.sum())
    coarse_a, coarse_b = (_PLACED * step / float(widths[-1] - widths[0]) for step in steps)
    placed, border = (coarse_a, coarse_b), (bool(pinned[0]), bool(pinned[1]))
    fit = Collapse(exponents, nothing, nothing, left, cells, found, fewest, placed, border)
    _, low_a, high_a = fit.interval((1, 0), confidence)
    _, low_b, high_b = fit.interval((0, 1), confidence)
    return fit._replace(low=(low_a, low_b), high=(high_a, high_b))


def _steep(maps: np.ndarray, logs: Sequence[np.ndarray]) -> np.ndarray:
    """Which cells (W, G_a, G_b) lie where their map is not flat, given the seeds' maps.

    The noise of a slope is the standard error of the seeds' own slopes.
    """
    slope, noise = np.zeros(maps.shape), np.zeros(maps.shape)
    for axis in (1, 2):
        if maps.shape[axis] > 1:
            slope += np.gradient(maps, axis=axis) ** 2
            for at, log in zip(noise, logs, strict=True):
                slopes = np.gradient(log, axis=axis)
                at += slopes.var(axis=0, ddof=min(1, len(log) - 1)) / len(log)
    return slope > np.maximum(_STEEP**2 * noise, 1e-12)


class _Family(NamedTuple):
    """Maps (W, G_a, G_b) of several widths, and which of their cells count."""

    maps: np.ndarray
    counts: np.ndarray
    widths: np.ndarray
    steps: tuple[float, float]
    seeds: np.ndarray

    def of(self, maps: np.ndarray) -> "_Family":
        """Other maps, the same cells."""
        return self._replace(maps=maps)

    def fit(self, near: Exponents | None = None) -> Exponents:
        """The exponents of least misfit, of all or of those near to some."""
        best, far = (np.zeros(2), _BOUND) if near is None else (np.array(near), _NEAR)
        reach = round(far / _STEPS[0])
        for step, following in zip(_STEPS, (*_STEPS[1:], _STEPS[-1]), strict=True):
            axes = [middle + step * np.arange(-reach, reach + 1) for middle in best]
            axis_a, axis_b = (axis[np.abs(axis) <= _BOUND + 1e-9] for axis in axes)
            misfit = self._misfit(axis_a, axis_b)
            i, j = np.unravel_index(np.argmin(misfit), misfit.shape)
            best = np.array([axis_a[i], axis_b[j]])
            reach = round(step / following)
        return round(float(best[0]), 3) + 0.0, round(float(best[1]), 3) + 0.0

    def pinned(self, at: Exponents) -> tuple[bool, bool]:
        """Whether either exponent lies on the border of those that leave enough to compare."""
        around = np.array([-_STEPS[-1], 0.0, _STEPS[-1]])
        misfit = self._misfit(at[0] + around, at[1] + around)
        lost = ~np.isfinite(misfit)
        ends = [abs(value) > _BOUND - _STEPS[-1] for value in at]
        a, b = lost[[0, 2], 1].any(), lost[1, [0, 2]].any()
        rows, columns = self.maps.shape[1:]
        return bool(rows > 1 and (a or ends[0])), bool(columns > 1 and (b or ends[1]))

    def variance_left(self, scalings: Mapping[str, Exponents]) -> dict[str, float]:
        """The misfit of each scaling in units of twice the variance, on cells that all compare."""
        left, _, _ = self._pairs()
        squares, valid = [], self.counts[left]
        for c_a, c_b in scalings.values():
            square, inside_a, inside_b = self._squares(np.array([c_a]), np.array([c_b]))
            squares.append(square[:, 0, :, 0])
            valid = valid & inside_a[:, 0, :, None] & inside_b[:, 0, None, :]
        if not valid.any():
            return dict.fromkeys(scalings, np.nan)
        unit = max(2 * float(self.maps[left][valid].var()), np.finfo(float).tiny)
        return {
            name: float(square[valid].mean()) / unit
            for name, square in zip(scalings, squares, strict=True)
        }

    def _misfit(self, c_a: np.ndarray, c_b: np.ndarray) -> np.ndarray:
        """Mean square difference over the cells that count, (K_a, K_b) for all pairs of exponents;
        ∞ without enough cells.
        """
        left, right, _ = self._pairs()
        square, inside_a, inside_b = self._squares(c_a, c_b)
        masks = self.counts[left], inside_a, inside_b
        counts, in_a, in_b = (np.asarray(mask, float) for mask in masks)
        # The difference of two maps has the variance of both, each over its number of seeds.
        weight = 1 / (1 / self.seeds[left] + 1 / self.seeds[right])
        weight /= weight.max()
        weighted = counts * weight[:, None, None]
        square *= weighted[:, None, :, None, :]
        total = np.einsum("pkil,pki->kl", np.einsum("pkilj,plj->pkil", square, in_b), in_a)
        count = ((in_a @ counts) @ in_b.swapaxes(1, 2)).sum(axis=0)
        weights = ((in_a @ weighted) @ in_b.swapaxes(1, 2)).sum(axis=0)
        enough = count >= max(1, _OVERLAP * self.counts.sum() * (len(self.widths) - 1))
        return np.where(enough, total / np.where(enough, weights, 1), np.inf)

    def _squares(
        self, c_a: np.ndarray, c_b: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(M_n − M_n')² for all pairs of exponents, (pairs, K_a, G_a, K_b, G_b), and which rows
        (pairs, K_a, G_a) and columns (pairs, K_b, G_b) have a partner.
        """
        left, right, lag = self._pairs()
        part_a, inside_a = self._parts(lag[:, None] * c_a / self.steps[0], 1)
        part_b, inside_b = self._parts(lag[:, None] * c_b / self.steps[1], 2)
        rows, columns = self.maps.shape[1:]
        # Linear interpolation along each axis in turn, as a product of matrices.
        other = part_a.reshape(len(lag), -1, rows) @ self.maps[right]
        other = other @ part_b.reshape(len(lag), -1, columns).swapaxes(1, 2)
        other = other.reshape(len(lag), len(c_a), rows, len(c_b), columns)
        other -= self.maps[left][:, None, :, None, :]
        return np.square(other, out=other), inside_a, inside_b

    def _pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All ordered pairs of widths, and log2 n' − log2 n."""
        pairs = np.array(list(itertools.permutations(range(len(self.widths)), 2)))
        left, right = pairs.T
        return left, right, self.widths[right] - self.widths[left]

    def _parts(self, shift: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Cells shifted by (pairs, K): the part that each cell of the axis has in the value there,
        (pairs, K, G, G), and whether they are inside, (pairs, K, G).
        """
        cells = np.arange(self.maps.shape[axis])
        place = shift[..., None] + cells
        place = np.where(np.abs(place - np.round(place)) < 1e-9, np.round(place), place)
        part = np.maximum(1 - np.abs(place[..., None] - cells), 0.0)
        return part, (place >= 0) & (place <= cells[-1])
