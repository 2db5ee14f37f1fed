"""What a landscape over (η_A, η_B) says: how a cell is judged, the best cells, the edge, flatness.

A cell is judged by a quantile over seeds in which a diverged run counts as ∞: it neither drops its
cell nor is averaged away. A judge may look at the 3 × 3 neighbourhood as well, since a rate that a
user can not hit within one cell is no optimum.

A grid may have a row and a column of rate 0, where one factor alone is trained, before those of
positive rates.
"""

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, get_args

import numpy as np

from lora_theory import arguments
from lora_theory.stats.intervals import quantile
from lora_theory.stats.numbers import numbers

if TYPE_CHECKING:
    from xarray import Dataset

CURVES = ("train_loss", "test_loss")
NEAR_BEST = 0.01  # The paper's red crosses: L / L* − 1 at most 1 %.

Around = Literal["cell", "median", "worst"]
AROUND: tuple[Around, ...] = get_args(Around)


class Landscape(NamedTuple):
    """The losses of a grid at one step.

    Attributes:
        losses: (S, G_a, G_b), ∞ where a run has diverged.
        start: (S,) the loss at t = 0, the same in all cells.
        eta_a, eta_b: the rates of each axis, ascending; the first may be 0.
    """

    losses: np.ndarray
    start: np.ndarray
    eta_a: np.ndarray
    eta_b: np.ndarray

    def of_seeds(self, places: np.ndarray | slice) -> "Landscape":
        """The same of some seeds."""
        return self._replace(losses=self.losses[places], start=self.start[places])

    @property
    def positive(self) -> "Landscape":
        """The same without the row and the column of rate 0."""
        a, b = self.eta_a > 0, self.eta_b > 0
        return self._replace(
            losses=self.losses[:, a][:, :, b], eta_a=self.eta_a[a], eta_b=self.eta_b[b]
        )

    @property
    def equal(self) -> np.ndarray:
        """Which cells have η_A = η_B > 0: (G_a, G_b), true or false."""
        close = np.isclose(self.eta_a[:, None], self.eta_b[None, :], rtol=1e-6, atol=0.0)
        return close & (self.eta_a > 0)[:, None]

    @property
    def diagonal(self) -> "Line":
        """The cells with η_A = η_B > 0."""
        i, j = np.nonzero(self.equal)
        return Line(self.losses[:, i, j], self.start, self.eta_a[i])

    @property
    def diverged(self) -> np.ndarray:
        """The share of seeds that have diverged: (G_a, G_b)."""
        return np.isinf(self.losses).mean(axis=0)


class Line(NamedTuple):
    """The losses of one shared rate at one step.

    Attributes:
        losses: (S, G), ∞ where a run has diverged.
        start: (S,) the loss at t = 0.
        eta: (G,) the rates η_A = η_B, positive, ascending.
    """

    losses: np.ndarray
    start: np.ndarray
    eta: np.ndarray

    def of_seeds(self, places: np.ndarray | slice) -> "Line":
        """The same of some seeds."""
        return self._replace(losses=self.losses[places], start=self.start[places])


_On = TypeVar("_On", bound=Landscape | Line)


def checked(name: str, at: _On) -> _On:
    """The same as arrays of numbers that fit each other.

    Raises:
        ValueError: shapes that do not fit, a loss that is NaN, rates that do not ascend from 0.

    >>> rates = np.array([1.0, 2.0])
    >>> checked("land", Landscape(np.ones((3, 2, 1)), np.ones(3), rates, rates))
    Traceback (most recent call last):
    ...
    ValueError: land.losses: must be of shape (seeds, 2, 2) (got an array of shape (3, 2, 1))
    """
    if not isinstance(at, Landscape | Line):
        raise arguments.refusal(name, "a Landscape or a Line", at)
    losses, start, *axes = (np.asarray(values, float) for values in at)
    for field, rates in zip(at._fields[2:], axes, strict=True):
        if rates.ndim != 1 or not (np.diff(rates) > 0).all() or not (rates >= 0).all():
            raise arguments.refusal(f"{name}.{field}", "rates that ascend from 0 or more", rates)
    sizes = tuple(rates.size for rates in axes)
    if losses.ndim != 1 + len(axes) or losses.shape[1:] != sizes or not len(losses):
        wanted = f"of shape (seeds, {', '.join(map(str, sizes))})"
        raise arguments.refusal(f"{name}.losses", wanted, losses)
    if not (losses >= 0).all():
        bad = "NaN" if np.isnan(losses).any() else f"{losses.min()}"
        raise ValueError(f"{name}.losses: must be at least 0, ∞ where a run diverged (got {bad})")
    if start.shape != (len(losses),):
        raise arguments.refusal(f"{name}.start", f"of shape ({len(losses)},)", start)
    return type(at)(losses, start, *axes)


def judged_alike(land: Landscape | Line) -> Landscape | Line:
    """The same, where a run that ends above its loss at t = 0 counts as diverged.

    Sign and Adam updates rarely overflow: beyond the edge of stability they only train badly.
    """
    land = checked("land", land)
    start = land.start.reshape(-1, *[1] * (land.losses.ndim - 1))
    return land._replace(losses=np.where(land.losses > start, np.inf, land.losses))


def landscape(data: "Dataset", curve: str, t: int) -> Landscape:
    """One curve of a data set at step t.

    Args:
        data: with train_loss and test_loss (seed, eta_a, eta_b, step), NaN from the step on at
            which a run diverged; train_floor and test_floor (seed,), where a loss has a floor.
        curve: of `CURVES`; what is judged is its excess over that seed's own floor.
        t: which step.
    """
    arguments.one_of("curve", curve, CURVES)
    values = data[curve].values
    t = arguments.integer("t", t, 0, values.shape[-1] - 1)
    losses = _excess(data, curve, values[..., t])
    return Landscape(
        losses, _excess(data, curve, values[:, 0, 0, 0]), data.eta_a.values, data.eta_b.values
    )


def curve(data: "Dataset", name: str, cell: "Cell") -> np.ndarray:
    """The curves (S, T + 1) of one cell, above the loss's floor, ∞ from where they diverged."""
    return _excess(data, name, data[name].values[:, cell.i, cell.j])


def _excess(data: "Dataset", name: str, values: np.ndarray) -> np.ndarray:
    """Losses (S, …) above each seed's floor, where the data set has floors; ∞ for NaN."""
    excess = np.asarray(values, np.float64)
    if (floor := name.replace("loss", "floor")) in data:
        floors = np.asarray(data[floor].values, np.float64)
        excess = np.maximum(excess - floors.reshape(-1, *[1] * (excess.ndim - 1)), 0.0)
    return np.where(np.isfinite(excess), excess, np.inf)


@dataclasses.dataclass(frozen=True)
class Judge:
    """What a cell is worth: a quantile over seeds, of the cell or of its 3 × 3 neighbourhood.

    Attributes:
        quantile: over seeds; 0.5 for the median, 0.75 for the careful.
        around: "cell", or what stands for a cell in each seed: the "median" or the "worst" loss
            of the cell and its neighbours in the grid.

    >>> losses = np.array([[[1.0, 2.0, np.inf]], [[3.0, 2.0, np.inf]], [[5.0, 2.0, 4.0]]])
    >>> Judge().judge(losses).tolist(), Judge(around="worst").judge(losses).tolist()
    ([[3.0, 2.0, inf]], [[3.0, inf, inf]])
    >>> print(Judge(0.75, "worst"))
    75 % quantile, worst of 3 × 3
    """

    quantile: float = 0.5
    around: Around = "cell"

    def __post_init__(self) -> None:
        arguments.between("quantile", self.quantile, 0, 1)
        arguments.one_of("around", self.around, AROUND)

    def seen(self, losses: np.ndarray) -> np.ndarray:
        """What stands for each cell in each seed: (S, G_a, G_b)."""
        losses = np.asarray(losses, float)
        return losses if self.around == "cell" else _neighbourhood(losses, self.around)

    def judge(self, losses: np.ndarray) -> np.ndarray:
        """The map (G_a, G_b) of losses (S, G_a, G_b)."""
        return quantile(self.seen(losses), self.quantile)

    def __str__(self) -> str:
        share = "median" if self.quantile == 0.5 else f"{100 * self.quantile:g} % quantile"
        return share if self.around == "cell" else f"{share}, {self.around} of 3 × 3"


def judging(judge: Judge) -> Judge:
    """The judge, if it is one."""
    if not isinstance(judge, Judge):
        raise arguments.refusal("judge", "a Judge", judge)
    return judge


JUDGES = (Judge(), Judge(0.75), Judge(0.5, "median"), Judge(0.5, "worst"))


def papers_mean(losses: np.ndarray) -> np.ndarray:
    """The mean over seeds, as in the paper: ∞ as soon as one seed diverged.

    A biased judge: each new seed moves its optimum away from the edge of stability.
    """
    return np.asarray(numbers("losses", losses).mean(axis=0))


def _neighbourhood(losses: np.ndarray, around: Around) -> np.ndarray:
    """The median or the worst of each cell's neighbourhood; at a border of what there is of it."""
    if losses.ndim != 3:
        raise arguments.refusal("losses", "of shape (S, G_a, G_b)", losses)
    padded = np.pad(losses, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    ordered = np.sort(windows.reshape(*losses.shape, 9), axis=-1)  # NaN, which is no cell, last.
    count = (~np.isnan(ordered)).sum(axis=-1, keepdims=True)
    places = (
        (count - 1,) if around == "worst" else ((count - 1) // 2, count // 2)
    )  # of the largest, or of the two in the middle
    found = [np.take_along_axis(ordered, place, axis=-1)[..., 0] for place in places]
    return np.asarray(sum(found) / len(found))


class Cell(NamedTuple):
    """One pair of rates, chosen from a map.

    Attributes:
        i, j: its place on the axes eta_a and eta_b.
        eta_a, eta_b: its rates.
        loss: that of the map.
        on_border: whether it lies on the edge of the grid, where an optimum is none: the last
            rate, the least positive one, or 0.
    """

    i: int
    j: int
    eta_a: float
    eta_b: float
    loss: float
    on_border: bool

    @property
    def ratio(self) -> float:
        """λ = η_B / η_A; ∞ where A is not trained, NaN where neither is."""
        if self.eta_a > 0:
            return self.eta_b / self.eta_a
        return math.inf if self.eta_b > 0 else math.nan


def best_pair(land: Landscape, judged: np.ndarray) -> Cell | None:
    """The cell of least loss in a map (G_a, G_b); None if it is ∞ everywhere."""
    judged = np.asarray(judged, float)
    if judged.shape != (len(land.eta_a), len(land.eta_b)) or np.isnan(judged).any():
        wanted = f"a map of {len(land.eta_a)} × {len(land.eta_b)} cells, ∞ where runs diverged"
        raise arguments.refusal("judged", wanted, judged)
    if not np.isfinite(judged).any():
        return None
    i, j = map(int, np.unravel_index(np.argmin(judged), judged.shape))
    places = ((i, land.eta_a), (j, land.eta_b))
    border = any(at <= np.argmax(rates > 0) or at == len(rates) - 1 for at, rates in places)
    return Cell(i, j, float(land.eta_a[i]), float(land.eta_b[j]), float(judged[i, j]), border)


def best_equal_pair(land: Landscape, judged: np.ndarray) -> Cell | None:
    """The cell of least loss among those with η_A = η_B > 0; None if it is ∞ on all of them."""
    return best_pair(land, np.where(land.equal, judged, np.inf))


def near_best(judged: np.ndarray, within: float = NEAR_BEST) -> np.ndarray:
    """Which cells of a map are within so much of its best: L / L* − 1 ≤ within.

    >>> near_best(np.array([[1.0, 1.005], [1.02, np.inf]])).tolist()
    [[True, True], [False, False]]
    """
    judged, within = np.asarray(judged, float), arguments.at_least("within", within, 0)
    if np.isnan(judged).any():
        raise ValueError("judged: must be ∞ where runs diverged (got NaN)")
    best = judged.min(initial=np.inf)
    return np.isfinite(judged) & (judged <= (1 + within) * best)


def edge(land: Landscape, along: Literal["A", "B", "equal"]) -> np.ndarray:
    """The edge of stability of each seed along a line of cells, (S,).

    Between the first rate at which the run has diverged and the one before (their geometric
    mean); ∞ if it never diverges, 0 if it does at all positive rates.

    Args:
        land: the landscape.
        along: "A": at the least η_B, which is 0 where the grid has it; "B": at the least η_A;
            "equal": η_A = η_B.
    """
    arguments.one_of("along", along, ("A", "B", "equal"))
    land = checked("land", land)
    if along == "equal":
        line, _, rates = land.diagonal
    else:
        line = land.losses[:, :, 0] if along == "A" else land.losses[:, 0, :]
        rates = land.eta_a if along == "A" else land.eta_b
    middle = [0.0, *(float(np.sqrt(a * b)) for a, b in itertools.pairwise(rates)), np.inf]
    broken = np.concatenate([np.isinf(line), np.ones((len(line), 1), bool)], axis=1)
    return np.array(middle)[broken.argmax(axis=1)] if len(rates) else np.full(len(line), np.nan)


def cell_size(land: Landscape) -> float:
    """The area of a cell of positive rates, in decades²."""
    land = checked("land", land)
    steps = [np.diff(np.log10(rates[rates > 0])) for rates in (land.eta_a, land.eta_b)]
    return float(np.prod([step.mean() if step.size else 1.0 for step in steps]))


def flatness(land: Landscape, within: float) -> np.ndarray:
    """The area within so much of each seed's own best, (S,), in decades²: cells × their size.

    A needle has the area of one cell; cells of rate 0 may be the best and have no area.
    """
    land = checked("land", land)
    area = np.outer(land.eta_a > 0, land.eta_b > 0)
    return cell_size(land) * np.array([near_best(at, within)[area].sum() for at in land.losses])
