"""Where the optimum of a landscape may lie, and what choosing it is worth on other seeds.

The uncertainty of an argmin is a set of cells, not an interval: in a flat valley every cell is an
optimum. `unbeaten` gives a set that contains all true optima with the stated probability.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import bdtr

from lora_theory import arguments
from lora_theory.stats.intervals import (
    CONFIDENCE,
    Interval,
    crossed,
    fewest_seeds,
    quantile,
    resampled_seeds,
)
from lora_theory.stats.landscapes import (
    Cell,
    Judge,
    Landscape,
    best_equal_pair,
    best_pair,
    checked,
    judging,
    papers_mean,
)
from lora_theory.stats.numbers import numbers
from lora_theory.terms import Outcome

_FLIPS = 500
_TOGETHER = 2**16  # Flips × pairs that are compared together: more would only take memory.


def unbeaten(
    losses: np.ndarray, judge: Judge, *, confidence: float = CONFIDENCE
) -> np.ndarray | None:
    """The cells of which no other is better, as far as these seeds can tell: (…) true or false.

    Let θ be the judged loss of the best cell. It is not known, so that many are tried. Under each,
    cell c is beaten by c' if in more seeds c lies above θ and c' below than the other way round;
    seeds in which both lie above, or below, are ties. z = (difference of counts) / √(their sum).
    A cell is also compared with θ itself: above it lie S (1 − q) seeds of an optimum, so that many
    more beat the cell, and many less beat θ. How large z becomes by chance among all is seen by
    changing the sign of whole seeds at random, which keeps what cells have in common. Cells that
    lose by more are left out, and the rest is compared again, until nothing changes. The set has
    the cells that are left under any θ: under a single one, that of the sample, a cell that varies
    little would be beaten by one that varies much and is no better.

    Args:
        losses: (S, …) of the cells that compete, ∞ where a run diverged.
        judge: what makes a cell good.
        confidence: with which probability all true optima are in the set.

    Returns:
        Which cells are in the set; None if so few seeds have none, or if no cell is finite.

    >>> rng = np.random.default_rng(0)
    >>> losses = np.array([1.0, 1.0, 2.0, np.inf]) + 0.1 * rng.normal(size=(20, 4))
    >>> unbeaten(losses[..., None], Judge())[:, 0].tolist()
    [True, True, False, False]
    """
    losses = _known(losses)
    seen = judging(judge).seen(losses)
    shape, q = seen.shape[1:], judge.quantile
    seen = seen.reshape(len(seen), -1)
    seen = seen[np.lexsort(seen.T)]  # Signs belong to places: any order of seeds is one.
    if len(seen) < fewest_seeds(q, confidence):
        return None
    judged = quantile(seen, q)
    if not np.isfinite(judged).any():
        return None
    found = np.zeros(seen.shape[1], bool)
    for theta in _thetas(seen, judged, q, confidence):
        found |= _not_beaten(np.stack([seen > theta, seen >= theta]), q, confidence)
    return found.reshape(shape)


def _known(losses: np.ndarray) -> np.ndarray:
    losses = numbers("losses", losses, 2)
    if np.isnan(losses).any():
        raise ValueError("losses: must be ∞ where a run diverged (got NaN)")
    return losses


def unbeaten_equal(
    land: Landscape, judge: Judge, *, confidence: float = CONFIDENCE
) -> np.ndarray | None:
    """The same among the cells with η_A = η_B alone: (G_a, G_b); None also if there are none."""
    land, judge = checked("land", land), judging(judge)
    equal = land.equal
    if not equal.any():
        return None
    alone = Judge(judge.quantile)  # Neighbourhoods are those in the plane.
    found = unbeaten(judge.seen(land.losses)[:, equal], alone, confidence=confidence)
    if found is None:
        return None
    cells = np.zeros(equal.shape, bool)
    cells[equal] = found
    return cells


def _thetas(seen: np.ndarray, judged: np.ndarray, q: float, confidence: float) -> np.ndarray:
    """What the best cell's judged loss may be: judged losses of cells, the lowest most densely.

    At most the least upper end of any cell's interval (Bonferroni over cells).
    """
    seeds, cells = seen.shape
    ordered = np.sort(seen, axis=0)
    missed = 1 - bdtr(np.arange(seeds, dtype=float), seeds, q)
    ends = np.flatnonzero(missed <= (1 - confidence) / 2 / cells)
    most = float(ordered[ends[0]].min()) if ends.size else np.inf
    thetas = np.unique(np.append(judged[judged <= most], most))
    thetas = thetas[np.isfinite(thetas)]
    places = np.unique(np.append(2 ** np.arange(len(thetas).bit_length()) - 1, len(thetas) - 1))
    return np.asarray(thetas[places])


def _not_beaten(above: np.ndarray, q: float, confidence: float) -> np.ndarray:
    """Which cells neither others nor θ beat, given which lie above θ, and which above or at θ:
    (2, S, cells); none if one of them beats θ.
    """
    flips = _flips(above.shape[1])
    patterns, which = np.unique(above, axis=2, return_inverse=True)
    kept = np.arange(patterns.shape[2])
    while kept.size:
        most, theta, chance = _largest_z(patterns[..., kept].astype(np.float32), q, flips)
        critical = np.quantile(chance, confidence, method="higher") + 1e-4
        if theta > critical:
            return np.zeros(above.shape[2], bool)
        good = most <= critical
        if good.all():
            break
        kept = kept[good]
    return np.isin(which.ravel(), kept)


def _flips(seeds: int) -> np.ndarray:
    """Signs (F, S): all up to a common sign, or so many at random; the first is the data."""
    if 2 ** (seeds - 1) <= _FLIPS:
        bits = np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds)
        return (1 - 2 * (bits & 1)).astype(np.float32)
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (_FLIPS, seeds))
    signs[0] = 1
    return signs


def _largest_z(
    above: np.ndarray, q: float, flips: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """The largest z with which each cell is beaten, and θ, and that of all under each flip.

    The loser of a pair counts where it lies above θ, the winner where it lies above or at θ.
    """
    strict, weak = above
    own = (above - (1 - q)) / np.sqrt(len(strict) * q * (1 - q))
    each_own, chance = own.sum(axis=1), np.abs(flips @ own).max(axis=(0, 2))
    loses, wins = strict.sum(axis=0)[:, None], weak.sum(axis=0)
    # One over the root of how many seeds tell a pair apart.
    weight = 1 / np.sqrt(np.maximum(loses + wins - 2 * (strict.T @ weak), 1))
    most = np.maximum(((loses - wins) * weight).max(axis=1), each_own[0])
    flipped, batch = flips @ above, max(1, _TOGETHER // weight.size)
    for k in range(0, len(flips), batch):
        some = slice(k, k + batch)
        z = (flipped[0, some, :, None] - flipped[1, some, None, :]) * weight
        chance[some] = np.maximum(chance[some], z.max(axis=(1, 2)))
    return most, float(-each_own[1].min()), chance


def cloud(losses: np.ndarray, judge: Judge | None, resamples: int = 400) -> np.ndarray:
    """How often each cell is the best when seeds are drawn with replacement: (G_a, G_b), sum 1.

    A picture of how far an argmin jumps, and no interval: in a flat valley it covers nothing.

    Args:
        losses: (S, G_a, G_b), ∞ where a run diverged.
        judge: what makes a cell good; None for the paper's mean.
        resamples: how many draws.
    """
    losses = _known(losses)
    seen = losses if judge is None else judging(judge).seen(losses)
    counts = np.zeros(losses.shape[1:])
    for draw in resampled_seeds(len(seen), resamples):
        drawn = seen[draw]
        judged = papers_mean(drawn) if judge is None else quantile(drawn, judge.quantile)
        if np.isfinite(judged).any():
            counts[np.unravel_index(np.argmin(judged), counts.shape)] += 1
    return counts / max(counts.sum(), 1)


class Gain(NamedTuple):
    """What two rates gain over one on seeds that did not choose them.

    Attributes:
        best, equal: the best pair and the best equal pair of the seeds that chose.
        losses: (S', 2) of both on the other seeds; a diverged run counts as `penalty` times the
            loss at t = 0.
        diverged: how many of the other seeds diverge, under each.
    """

    best: Cell
    equal: Cell
    losses: np.ndarray
    diverged: tuple[int, int]

    @property
    def differences(self) -> np.ndarray:
        """Best − best equal, (S',): negative where two rates are better than one."""
        return self.losses[:, 0] - self.losses[:, 1]


def gain(
    land: Landscape, chosen_on: np.ndarray, judge: Judge, *, penalty: float = 1.0
) -> Gain | None:
    """Choose both pairs on some seeds, judge them on the others.

    Pairs judged on the seeds that chose them look better than they are, and most so next to the
    edge of stability.

    Args:
        land: the landscape.
        chosen_on: (S,) true for the seeds that choose.
        judge: by what they choose.
        penalty: what a diverged run counts, in losses at t = 0.

    Returns:
        None where a line or the plane is ∞ throughout, or nobody is left to judge.
    """
    land, chosen_on = checked("land", land), np.asarray(chosen_on)
    if chosen_on.dtype != bool or chosen_on.shape != land.start.shape:
        wanted = f"true or false for each of {len(land.start)} seeds"
        raise arguments.refusal("chosen_on", wanted, chosen_on)
    arguments.positive("penalty", penalty)
    few = land.of_seeds(chosen_on)
    others = land.of_seeds(~chosen_on)
    if not chosen_on.any() or chosen_on.all():
        return None
    judged = judging(judge).judge(few.losses)
    best, equal = best_pair(few, judged), best_equal_pair(few, judged)
    if best is None or equal is None:
        return None
    columns = np.stack([others.losses[:, cell.i, cell.j] for cell in (best, equal)], axis=1)
    lost = np.isinf(columns)
    counted = np.where(lost, penalty * others.start[:, None], columns)
    return Gain(best, equal, counted, (int(lost[:, 0].sum()), int(lost[:, 1].sum())))


def regret(
    land: Landscape,
    judge: Judge,
    *,
    ratio: float = 1.0,
    resamples: int = 400,
    confidence: float = CONFIDENCE,
) -> Interval:
    """What one rate costs: ρ = log10 L(best with η_B = ratio · η_A) − log10 L(best of all pairs).

    Either half of the seeds chooses both pairs, and the other compares them, seed by seed
    (`crossed`); ρ is the median over seeds. A diverged run counts as ∞: as large as another one,
    and larger than any loss.

    Args:
        land: the landscape; rates of 0 do not compete.
        judge: by what pairs are chosen.
        ratio: λ of the one rate.
        resamples: draws of seeds for the interval.
        confidence: of the interval.

    Returns:
        ρ and its interval; NaN where all cells, or all of that ratio, diverge in half of the seeds.

    Raises:
        ValueError: fewer than two seeds, or no cells of that ratio.

    >>> rates = np.array([1.0, 2.0])
    >>> losses = np.tile([[10.0, 1.0], [9.0, 10.0]], (6, 1, 1))
    >>> land = Landscape(losses, np.full(6, 20.0), rates, rates)
    >>> [float(regret(land, Judge(), ratio=at).mean.round(2)) for at in (1, 2, 0.5)]
    [1.0, 0.0, 0.95]
    """
    land, judge = checked("land", land).positive, judging(judge)
    along = land._replace(eta_b=land.eta_b / arguments.positive("ratio", ratio))
    if not along.equal.any():
        raise ValueError(f"ratio: must be that of some cells of the grid (got {ratio:g})")

    def lost(chooses: np.ndarray, compares: np.ndarray) -> np.ndarray:
        judged = judge.judge(land.losses[chooses])
        best, equal = best_pair(along, judged), best_equal_pair(along, judged)
        if best is None or equal is None:
            return np.full(len(compares), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = [np.log10(land.losses[compares, at.i, at.j]) for at in (equal, best)]
            return np.where(logs[0] == logs[1], 0.0, logs[0] - logs[1])

    return crossed(
        lost, len(land.losses), statistic=_median, resamples=resamples, confidence=confidence
    )


def nearly_optimal(found: Interval, margin: float) -> Outcome:
    """Whether one rate is enough: it costs at most the margin.

    holds: the whole interval lies at or below the margin; fails: all of it is above; undecided:
    neither, or there is no interval.

    >>> ends = [(-0.1, 0.05), (0.2, np.inf), (0.05, 0.3), (np.nan, np.nan)]
    >>> [nearly_optimal(Interval(*map(np.array, (0.0, *end))), 0.1) for end in ends]
    ['holds', 'fails', 'undecided', 'undecided']
    """
    margin = arguments.at_least("margin", margin, 0)
    if found.high <= margin:
        return "holds"
    return "fails" if found.low > margin else "undecided"


def _median(values: np.ndarray) -> np.ndarray:
    """Of the last axis; NaN if one is."""
    return np.asarray(np.nan if np.isnan(values).any() else quantile(values))
