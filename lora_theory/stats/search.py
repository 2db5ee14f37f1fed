"""What two rates gain over one as a search, and as training time.

A search tries k cells of a family at random, without repeats, and keeps the best by the judged loss
on some seeds; what it is worth is the loss of that cell on other seeds. The expectation over all
searches is exact: among G cells, the one ranked j is the best of k with probability

    C(G − j, k − 1) / C(G, k).

Equal numbers of trials are compared, the plane of (η_A, η_B) with the line η_A = η_B.
"""

from typing import NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.stats.intervals import (
    CONFIDENCE,
    Interval,
    QuantileInterval,
    crossed,
    halves,
    quantile,
    share_interval,
)
from lora_theory.stats.landscapes import Judge, Landscape, Line, best_pair, checked, judging


class Search(NamedTuple):
    """Two rates against one, after k trials each.

    Attributes:
        trials: (K,) k = 1 … the cells of the line.
        plane, line: (K,) expected log2 loss on other seeds of the best of k.
        gain: line − plane, (K,), and its interval over seeds: positive where two rates are better.
    """

    trials: np.ndarray
    plane: np.ndarray
    line: np.ndarray
    gain: Interval


def chances(cells: int, trials: int) -> np.ndarray:
    """(G,) The probability that the cell ranked j = 1 … G is the best of k without repeats.

    >>> chances(4, 2).round(3).tolist()
    [0.5, 0.333, 0.167, 0.0]

    Raises:
        ValueError: more trials than cells, or none.
    """
    cells = arguments.integer("cells", cells)
    trials = arguments.integer("trials", trials, 1, cells)
    j = np.arange(1, cells)
    return np.asarray(
        trials / cells * np.cumprod(np.append(1.0, (cells - j - trials + 1) / (cells - j)).clip(0))
    )


def expected_best(judged: np.ndarray, values: np.ndarray, trials: int) -> np.ndarray:
    """The expected value of the cell that k random trials find.

    Args:
        judged: (G,) by which cells are ranked; of equal ones (as of diverged ones, ∞) any is the
            first, with equal chances.
        values: (…, G) what a cell is worth.
        trials: k.

    >>> expected_best(np.array([2.0, 1.0, np.inf]), np.array([20.0, 10.0, 90.0]), 2).round(3).item()
    13.333
    """
    judged, values = np.asarray(judged, float), np.asarray(values, float)
    if judged.ndim != 1 or np.isnan(judged).any():
        raise arguments.refusal("judged", "numbers (G,), ∞ for a diverged cell", judged)
    if values.shape[-1:] != judged.shape:
        raise arguments.refusal("values", f"of shape (…, {len(judged)})", values)
    ranks = chances(len(judged), trials)[None]
    return _expected(judged, np.atleast_2d(values), ranks)[0].reshape(values.shape[:-1])


def _expected(judged: np.ndarray, values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The same for values (S, G) under the chances (K, G) of several k: (K, S)."""
    order = np.argsort(judged, kind="stable")
    _, ties, counts = np.unique(judged[order], return_inverse=True, return_counts=True)
    firsts = np.cumsum(counts) - counts
    shared = (np.add.reduceat(ranks, firsts, axis=1) / counts)[:, ties]
    return np.asarray(shared @ values[:, order].T)


def log_values(losses: np.ndarray, start: np.ndarray, penalty: float = 1.0) -> np.ndarray:
    """log2 of losses (S, …), each at most `penalty` times that seed's loss at t = 0, as is a
    diverged run: at 1 it counts as untrained.
    """
    losses, start = np.asarray(losses, float), np.asarray(start, float)
    if not (losses >= 0).all() or start.shape not in ((), losses.shape[:1]):
        wanted = "at least 0, ∞ where a run diverged, and one start a seed"
        raise arguments.refusal("losses, start", wanted, (losses.shape, start.shape))
    most = penalty * np.reshape(start, (-1, *[1] * (losses.ndim - 1)))
    return np.asarray(np.log2(np.maximum(np.minimum(losses, most), np.finfo(float).tiny)))


def search(
    land: Landscape,
    line: Line | None = None,
    judge: Judge | None = None,
    *,
    penalty: float = 1.0,
    resamples: int = 200,
    confidence: float = CONFIDENCE,
) -> Search:
    """The gain of two rates over one after k trials each, for k = 1 … the cells of the line.

    Either half of the seeds chooses for the other (`crossed`), so that each seed judges once.

    Args:
        land: the landscape; rates of 0 are no trials.
        line: the shared rates; the landscape's diagonal by default.
        judge: by what a search chooses; the median over seeds by default.
        penalty: what a run counts at most, in losses at t = 0.
        resamples: draws of seeds for the interval.
        confidence: of the interval.

    Raises:
        ValueError: fewer than two seeds, or no shared rates.
    """
    land = checked("land", land)
    line = land.diagonal if line is None else checked("line", line)
    if len(line.losses) != len(land.losses):
        wanted = f"of the {len(land.losses)} seeds of the landscape"
        raise arguments.refusal("line.losses", wanted, line.losses)
    land, judge = land.positive, judging(judge or Judge())
    arguments.positive("penalty", penalty)
    seeds, cells = line.losses.shape
    if not cells:
        raise ValueError("line: there are no shared rates")
    trials = np.arange(1, min(cells, land.losses[0].size) + 1)
    alone = Judge(judge.quantile)  # Neighbourhoods are those in the plane and on the line.
    families = []
    for losses in (line.losses[:, :, None], land.losses):
        seen = judge.seen(losses).reshape(seeds, -1)
        ranks = np.stack([chances(seen.shape[1], int(k)) for k in trials])
        values = log_values(losses.reshape(seeds, -1), land.start, penalty)
        families.append((seen, values, ranks))

    def both(choosing: np.ndarray, judging: np.ndarray) -> np.ndarray:
        """(2, K, judging seeds) of the line and of the plane."""
        return np.stack(
            [
                _expected(alone.judge(seen[choosing]), values[judging], ranks)
                for seen, values, ranks in families
            ]
        )

    def gained(choosing: np.ndarray, judging: np.ndarray) -> np.ndarray:
        equal, plane = both(choosing, judging)
        return np.asarray(equal - plane)

    gain = crossed(gained, seeds, resamples=resamples, confidence=confidence)
    equal, plane = crossed(both, seeds, resamples=0).mean
    return Search(trials, plane, equal, gain)


# --- Training time ---


class SpeedUp(NamedTuple):
    """How much sooner the best pair reaches the final loss of the best shared rate.

    Attributes:
        steps: (S,) the steps that each seed needs; ∞ if it never gets there.
        median: of the steps, with its interval over seeds.
        ratio: T / steps of the median, with its interval: 0 if it never gets there.
    """

    steps: np.ndarray
    median: QuantileInterval
    ratio: QuantileInterval


def steps_to_reach(steps: np.ndarray, curves: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The first t at which each curve is at its target, log-linear in t between kept steps: (S,).

    Args:
        steps: (K,) the kept t, ascending.
        curves: (S, K) losses, ∞ from where a run diverged.
        targets: (S,) losses to be reached; ∞ if it is never.

    >>> steps_to_reach(np.array([0, 10, 20]), np.array([[8.0, 2.0, 1.0]]), np.array([4.0])).tolist()
    [5.0]
    """
    steps, curves, targets = (np.asarray(at, float) for at in (steps, curves, targets))
    if curves.ndim != 2 or steps.shape != curves.shape[1:] or targets.shape != curves.shape[:1]:
        shapes = steps.shape, curves.shape, targets.shape
        wanted = "of shapes (K,), (S, K) and (S,)"
        raise ValueError(f"steps, curves, targets: must be {wanted} (got {shapes})")
    if not (np.diff(steps) > 0).all():
        raise arguments.refusal("steps", "ascending", steps)
    if np.isnan(curves).any() or np.isnan(targets).any():
        raise ValueError("curves, targets: must be numbers, ∞ where a run diverged (got NaN)")
    tiny = np.finfo(float).tiny
    logs, aims = np.log2(np.maximum(curves, tiny)), np.log2(np.maximum(targets, tiny))
    below = logs <= aims[:, None]
    after = below.argmax(axis=1)
    found = np.full(len(curves), np.inf)
    for s in np.flatnonzero(below.any(axis=1)):
        k = after[s]
        # From ∞ nothing is interpolated: a run that is there has been there at the later step.
        inside = k > 0 and np.isfinite(logs[s, k - 1])
        part = (logs[s, k - 1] - aims[s]) / (logs[s, k - 1] - logs[s, k]) if inside else 1.0
        found[s] = steps[k - 1] + part * (steps[k] - steps[k - 1]) if k else steps[0]
    return found


def speed_up(
    land: Landscape,
    curves: np.ndarray,
    steps: np.ndarray,
    judge: Judge | None = None,
    line: Line | None = None,
    *,
    resamples: int = 200,
    confidence: float = CONFIDENCE,
) -> SpeedUp | None:
    """T / t, where t is when the best pair has the loss that the best shared rate has at T.

    Both are chosen by one half of the seeds on the losses at T, and run on the other; the halves
    take turns (`crossed`). A shared rate that has diverged is reached at the first kept step.

    Args:
        land: the landscape at T = steps[-1].
        curves: (S, G_a, G_b, K) its losses at the kept steps.
        steps: (K,) the kept t, ascending.
        judge: by what they choose; the median over seeds by default.
        line: the shared rates at T; the landscape's diagonal by default.
        resamples: draws of seeds for the intervals.
        confidence: of the intervals.

    Returns:
        None where half of the seeds has no finite cell in the plane or on the line.

    Raises:
        ValueError: fewer than two seeds.
    """
    land = checked("land", land)
    line = land.diagonal if line is None else checked("line", line)
    judge, seeds = judging(judge or Judge()), len(land.losses)

    def needed(choosing: np.ndarray, running: np.ndarray) -> np.ndarray:
        few = land.of_seeds(choosing)
        best = best_pair(few, judge.judge(few.losses))
        equal = judge.judge(line.losses[choosing][:, :, None])[:, 0]
        if best is None or not np.isfinite(equal).any():
            return np.full(len(running), np.nan)
        targets = line.losses[running, np.argmin(equal)]
        return steps_to_reach(steps, curves[running, best.i, best.j], targets)

    def median(values: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(values).any(), np.nan, quantile(values))

    even, odd = halves(seeds)
    each = np.empty(seeds)
    each[odd], each[even] = needed(even, odd), needed(odd, even)
    if np.isnan(each).any():
        return None
    value, low, high = crossed(
        needed, seeds, statistic=median, resamples=resamples, confidence=confidence
    )
    # Its low end is reflected at the value, and may lie below any number of steps.
    found = QuantileInterval(value, np.maximum(low, 0.0), high)
    with np.errstate(divide="ignore"):
        ends = (steps[-1] / np.asarray(at) for at in (found.value, found.high, found.low))
        return SpeedUp(each, found, QuantileInterval(*ends))


# --- Each seed's own optimum ---


class LargerB(NamedTuple):
    """How many seeds have their own best at η_B > η_A.

    Attributes:
        larger, equal, smaller: how many seeds have η_B* > η_A*, η_B* = η_A*, η_B* < η_A*.
        diverged: how many have no finite cell.
        share: of "larger" among those that are not equal; NaN if all are.
        low, high: its exact binomial interval.
    """

    larger: int
    equal: int
    smaller: int
    diverged: int
    share: float
    low: float
    high: float


def larger_b(land: Landscape, *, confidence: float = CONFIDENCE) -> LargerB:
    """The share of seeds with their own best η_B* > η_A*, of those that are not on the diagonal.

    >>> losses = np.array([[[3.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [2.0, 3.0]]])
    >>> found = larger_b(Landscape(losses, np.full(2, 9.0), np.array([1, 2]), np.array([1, 2])))
    >>> found.larger, found.equal, found.smaller, found.share
    (1, 1, 0, 1.0)
    """
    land = checked("land", land)
    best = [best_pair(land, losses) for losses in land.losses]
    found = [cell for cell in best if cell is not None]
    ties = [bool(land.equal[cell.i, cell.j]) or cell.eta_a == cell.eta_b for cell in found]
    larger = sum(cell.eta_b > cell.eta_a and not tie for cell, tie in zip(found, ties, strict=True))
    smaller = len(found) - sum(ties) - larger
    of = larger + smaller
    ends = share_interval(larger, of, confidence)
    share = larger / of if of else np.nan
    return LargerB(larger, sum(ties), smaller, len(best) - len(found), share, *ends)
