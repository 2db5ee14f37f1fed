"""What a grid of runs says: seed means, best cells and their errors, how flat the optimum is."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from lora_theory.results import Results

CURVES = ("train_loss", "test_loss")
NEAR_BEST = 0.01  # The paper's red crosses: L / L* − 1 at most 1 %.
CONFIDENCE = 0.95


class Cell(NamedTuple):
    """One pair of rates, chosen from a map of seed means.

    Attributes:
        i, j: its place on the axes eta_a and eta_b.
        eta_a, eta_b: its rates.
        loss: mean over seeds of the loss by which it was chosen.
        on_border: whether it lies on the edge of the grid, where an optimum is none.
    """

    i: int
    j: int
    eta_a: float
    eta_b: float
    loss: float
    on_border: bool

    @property
    def ratio(self) -> float:
        """λ = η_B / η_A."""
        return self.eta_b / self.eta_a


class Interval(NamedTuple):
    """A mean over seeds with its two-sided confidence interval (Student's t)."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def seed_mean(results: Results, curve: str, t: int) -> np.ndarray:
    """Mean over seeds of `curve` at step t, (G_a, G_b); NaN where any seed has diverged by t."""
    return np.asarray(getattr(results, curve)[..., t], np.float64).mean(axis=0)


def best_pair(results: Results, loss: np.ndarray) -> Cell | None:
    """The cell of least loss in a map (G_a, G_b); None if every cell diverged."""
    return _best(results, loss)


def best_equal_pair(results: Results, loss: np.ndarray) -> Cell | None:
    """The cell of least loss among those with η_A = η_B; None if all of them diverged."""
    equal = results.eta_a[:, None] == results.eta_b[None, :]
    return _best(results, np.where(equal, loss, np.nan))


def near_best(loss: np.ndarray) -> np.ndarray:
    """Which cells of a map are within 1 % of its best: L / L* − 1 ≤ 0.01.

    >>> near_best(np.array([[1.0, 1.005], [1.02, np.nan]])).tolist()
    [[True, True], [False, False]]
    """
    if np.isnan(loss).all():
        return np.zeros(loss.shape, bool)
    return loss <= (1 + NEAR_BEST) * np.nanmin(loss)


def interval(samples: np.ndarray) -> Interval:
    """Mean over the first axis (seeds) and its 95 % interval: mean ± t_{S−1} · s / √S.

    One seed has no interval: low and high are NaN.

    >>> centre = interval(np.array([[1.0], [2.0], [3.0]]))
    >>> [float(v[0].round(3)) for v in centre]
    [2.0, -0.484, 4.484]
    """
    seeds = samples.shape[0]
    samples = np.asarray(samples, np.float64)
    mean = samples.mean(axis=0)
    if seeds < 2:
        return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    half = stdtrit(seeds - 1, (1 + CONFIDENCE) / 2) * samples.std(axis=0, ddof=1) / np.sqrt(seeds)
    return Interval(mean, mean - half, mean + half)


def curve(results: Results, name: str, cell: Cell) -> np.ndarray:
    """The curves (S, T + 1) of one cell."""
    return np.asarray(getattr(results, name)[:, cell.i, cell.j])


def seed_ratios(results: Results, name: str, t: int) -> np.ndarray:
    """λ of each seed's own best cell at step t, (S,); NaN for a seed that diverged everywhere."""
    ratios = [
        _best(results, np.asarray(getattr(results, name)[s, ..., t]))
        for s in range(len(results.seed))
    ]
    return np.array([np.nan if cell is None else cell.ratio for cell in ratios])


def held_out(results: Results, t: int) -> np.ndarray:
    """Test losses (S, 2) of the best and of the best equal pair, each chosen without the seed
    on which it is judged; NaN where it diverges there. Needs two seeds.

    Pairs chosen and judged on the same seeds look better than they are, and most so where the
    optimum lies next to the edge of stability.
    """
    losses = np.asarray(results.test_loss[..., t], np.float64)
    judged = np.full((len(results.seed), 2), np.nan)
    for s in range(len(results.seed)):
        others = np.delete(losses, s, axis=0).mean(axis=0)
        for k, choose in enumerate((best_pair, best_equal_pair)):
            cell = choose(results, others)
            if cell is not None:
                judged[s, k] = losses[s, cell.i, cell.j]
    return judged


def ratio_range(results: Results, loss: np.ndarray) -> tuple[float, float]:
    """The least and the largest λ among the cells within 1 % of the best."""
    i, j = np.nonzero(near_best(loss))
    ratios = results.eta_b[j] / results.eta_a[i]
    return (float(ratios.min()), float(ratios.max())) if ratios.size else (np.nan, np.nan)


def diverged_share(results: Results, t: int) -> float:
    """Share of runs (seed, η_A, η_B) that have diverged by step t."""
    return float(((results.diverged_at >= 0) & (results.diverged_at <= t)).mean())


def _best(results: Results, loss: np.ndarray) -> Cell | None:
    if np.isnan(loss).all():
        return None
    i, j = map(int, np.unravel_index(np.nanargmin(loss), loss.shape))
    edges = (i in (0, loss.shape[0] - 1)) or (j in (0, loss.shape[1] - 1))
    return Cell(i, j, float(results.eta_a[i]), float(results.eta_b[j]), float(loss[i, j]), edges)
