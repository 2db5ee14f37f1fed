"""What a landscape over (η_A, η_B) says: seed means, best cells, how flat the optimum is.

A landscape is an `xarray.Dataset` with train_loss and test_loss (seed, eta_a, eta_b, step), NaN
from the step on at which a run diverged, and diverged_at (seed, eta_a, eta_b).
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from xarray import Dataset

CURVES = ("train_loss", "test_loss")
NEAR_BEST = 0.01  # The paper's red crosses: L / L* − 1 at most 1 %.


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


def seed_mean(data: "Dataset", curve: str, t: int) -> np.ndarray:
    """Mean over seeds of `curve` at step t, (G_a, G_b); NaN where any seed has diverged by t."""
    return np.asarray(data[curve].values[..., t], np.float64).mean(axis=0)


def best_pair(data: "Dataset", loss: np.ndarray) -> Cell | None:
    """The cell of least loss in a map (G_a, G_b); None if every cell diverged."""
    return _best(data, loss)


def best_equal_pair(data: "Dataset", loss: np.ndarray) -> Cell | None:
    """The cell of least loss among those with η_A = η_B; None if all of them diverged."""
    equal = data.eta_a.values[:, None] == data.eta_b.values[None, :]
    return _best(data, np.where(equal, loss, np.nan))


def near_best(loss: np.ndarray) -> np.ndarray:
    """Which cells of a map are within 1 % of its best: L / L* − 1 ≤ 0.01.

    >>> near_best(np.array([[1.0, 1.005], [1.02, np.nan]])).tolist()
    [[True, True], [False, False]]
    """
    if np.isnan(loss).all():
        return np.zeros(loss.shape, bool)
    return loss <= (1 + NEAR_BEST) * np.nanmin(loss)


def curve(data: "Dataset", name: str, cell: Cell) -> np.ndarray:
    """The curves (S, T + 1) of one cell."""
    return np.asarray(data[name].values[:, cell.i, cell.j])


def seed_ratios(data: "Dataset", name: str, t: int) -> np.ndarray:
    """λ of each seed's own best cell at step t, (S,); NaN for a seed that diverged everywhere."""
    ratios = [_best(data, np.asarray(data[name].values[s, ..., t])) for s in range(data.seed.size)]
    return np.array([np.nan if cell is None else cell.ratio for cell in ratios])


def held_out(data: "Dataset", t: int) -> np.ndarray:
    """Test losses (S, 2) of the best and of the best equal pair, each chosen without the seed
    on which it is judged; NaN where it diverges there. Needs two seeds.

    Pairs chosen and judged on the same seeds look better than they are, and most so where the
    optimum lies next to the edge of stability.
    """
    losses = np.asarray(data.test_loss.values[..., t], np.float64)
    judged = np.full((data.seed.size, 2), np.nan)
    for s in range(data.seed.size):
        others = np.delete(losses, s, axis=0).mean(axis=0)
        for k, choose in enumerate((best_pair, best_equal_pair)):
            cell = choose(data, others)
            if cell is not None:
                judged[s, k] = losses[s, cell.i, cell.j]
    return judged


def ratio_range(data: "Dataset", loss: np.ndarray) -> tuple[float, float]:
    """The least and the largest λ among the cells within 1 % of the best."""
    i, j = np.nonzero(near_best(loss))
    ratios = data.eta_b.values[j] / data.eta_a.values[i]
    return (float(ratios.min()), float(ratios.max())) if ratios.size else (np.nan, np.nan)


def diverged_share(data: "Dataset", t: int) -> float:
    """Share of runs (seed, η_A, η_B) that have diverged by step t."""
    diverged_at = data.diverged_at.values
    return float(((diverged_at >= 0) & (diverged_at <= t)).mean())


def _best(data: "Dataset", loss: np.ndarray) -> Cell | None:
    if np.isnan(loss).all():
        return None
    i, j = map(int, np.unravel_index(np.nanargmin(loss), loss.shape))
    edges = (i in (0, loss.shape[0] - 1)) or (j in (0, loss.shape[1] - 1))
    return Cell(i, j, float(data.eta_a[i]), float(data.eta_b[j]), float(loss[i, j]), edges)
