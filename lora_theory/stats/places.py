"""Places in one landscape: its optima, and its edges of stability, as log2 of rates.

Grids are coarse, one power of 2 a cell, and an argmin moves by whole cells. The place of an
optimum is therefore the centre of the cells near it, weighed by

    w = max(0, 1 − log2(L / L*) / τ),    τ = 1/4,

that is of all up to 19 % above the best, and an edge is interpolated in the share of seeds that
have diverged. On families of known exponents (13 to 48 seeds, edges that scatter by half a cell,
noise of 10 to 30 %) all estimates are unbiased, and the exponents over 2^6 … 2^12 scatter by .03
to .08 with this one, by .05 to .1 with the centre of the 5 % region or a parabola through the best
cell and its neighbours, by .05 to .13 with the best cell alone.
"""

from typing import Literal, NamedTuple

import numpy as np

from lora_theory.stats.landscapes import Judge, Landscape, Line, checked, judging, near_best

Quantity = Literal["eta_a", "eta_b", "ratio", "equal", "edge A", "edge B", "edge equal"]
OPTIMA: tuple[Quantity, ...] = ("eta_a", "eta_b", "ratio", "equal")
EDGES: tuple[Quantity, ...] = ("edge A", "edge B", "edge equal")
NAMES: dict[Quantity, str] = {
    "eta_a": "η_A*",
    "eta_b": "η_B*",
    "ratio": "λ*",
    "equal": "shared η*",
    "edge A": "edge along A",
    "edge B": "edge along B",
    "edge equal": "edge, η_A = η_B",
}
REGIONS = (0.01, 0.05)  # L / L* − 1 of the regions that are reported; the last must be inside.
_TAU = 0.25

SIDES = {-2: "{} = 0", -1: "the least {}", 1: "the largest {}"}
AXES = ("η_A", "η_B", "η")
AXES_OF: dict[Quantity, tuple[int, ...]] = {
    "eta_a": (0,),
    "eta_b": (1,),
    "ratio": (0, 1),
    "equal": (2,),
}


class Reading(NamedTuple):
    """What one sample of seeds says of one landscape.

    Attributes:
        places: log2 of all quantities, in the order of `OPTIMA` and `EDGES`: NaN for an optimum
            where all runs diverged, −∞ for an edge below the least positive rate, ∞ for one
            beyond the last.
        sides: on which side of the grid the best cell lies, on the axes η_A, η_B and η (the shared
            rate): a key of `SIDES`, 0 inside.
    """

    places: tuple[float, ...]
    sides: tuple[int, ...]


class Near(NamedTuple):
    """The best cells and what is nearly as good.

    Attributes:
        best: log2 of each optimum's quantity (in the order of `OPTIMA`) in the best cell, −∞ for a
            rate of 0.
        regions: its (low, high) in the cells within each of `REGIONS` of the best.
        touched: of each axis, the sides of the grid that the last region reaches.
    """

    best: tuple[float, ...]
    regions: tuple[tuple[tuple[float, float], ...], ...]
    touched: tuple[frozenset[int], ...]


def read(land: Landscape, line: Line, judge: Judge) -> Reading:
    """Where everything lies.

    Args:
        land: the landscape.
        line: the shared rates.
        judge: what makes a cell good. An edge is where its loss turns to ∞: where the share
            1 − q of the seeds has diverged, at this rate or a smaller one.

    >>> rates = 2.0 ** np.arange(-4, 1)
    >>> losses = np.where(np.add.outer(rates, rates) > 0.6, np.inf, 1 / np.add.outer(rates, rates))
    >>> land = Landscape(losses[None].repeat(2, axis=0), np.full(2, 9.0), rates, rates)
    >>> [round(place, 2) for place in read(land, land.diagonal, Judge()).places]
    [-2.43, -2.43, 0.0, -2.0, -0.5, -0.5, -1.5]
    """
    land, line, judge = checked("land", land), checked("line", line), judging(judge)
    judged, shared = judge.judge(land.losses), judge.judge(line.losses[:, :, None])
    centre_a, centre_b = _centre(judged, land.eta_a, land.eta_b)
    centre, _ = _centre(shared, line.eta, np.ones(1))
    edges = (
        (land.losses[:, :, 0], land.eta_a),
        (land.losses[:, 0, :], land.eta_b),
        (line.losses, line.eta),
    )
    level = 1 - judge.quantile
    places = (centre_a, centre_b, centre_b - centre_a, centre)
    i, j = _best(judged) or (None, None)
    k, _ = _best(shared) or (None, None)
    axes = ((i, land.eta_a), (j, land.eta_b), (k, line.eta))
    return Reading(
        (*places, *(_edge(*at, level) for at in edges)),
        tuple(0 if place is None else int(_sides(rates)[place]) for place, rates in axes),
    )


def near(land: Landscape, line: Line, judge: Judge) -> Near:
    """The best cells, and the regions within 1 % and 5 % of them."""
    land, line, judge = checked("land", land), checked("line", line), judging(judge)
    judged, shared = judge.judge(land.losses), judge.judge(line.losses[:, :, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_a, log_b, log = (np.log2(rates) for rates in (land.eta_a, land.eta_b, line.eta))
        ratios = log_b - log_a[:, None]  # NaN where neither factor is trained.
    maps = (
        (np.broadcast_to(log_a[:, None], judged.shape), judged),
        (np.broadcast_to(log_b, judged.shape), judged),
        (ratios, judged),
        (log[:, None], shared),
    )
    best = (_best(at) for _, at in maps)
    last, last_shared = _within(judged, REGIONS[-1]), _within(shared, REGIONS[-1])
    touched = (
        (land.eta_a, last.any(axis=1)),
        (land.eta_b, last.any(axis=0)),
        (line.eta, last_shared.any(axis=1)),
    )
    return Near(
        tuple(
            np.nan if at is None else float(logs[at])
            for at, (logs, _) in zip(best, maps, strict=True)
        ),
        tuple(tuple(_range(logs[_within(at, by)]) for by in REGIONS) for logs, at in maps),
        tuple(frozenset(map(int, _sides(rates)[on])) - {0} for rates, on in touched),
    )


def _best(judged: np.ndarray) -> tuple[int, int] | None:
    if not np.isfinite(judged).any():
        return None
    i, j = np.unravel_index(np.argmin(judged), judged.shape)
    return int(i), int(j)


def _within(judged: np.ndarray, by: float) -> np.ndarray:
    return near_best(judged, by) if judged.size else np.zeros(judged.shape, bool)


def _centre(judged: np.ndarray, eta_a: np.ndarray, eta_b: np.ndarray) -> tuple[float, float]:
    """log2 of the rates in the middle of the cells of positive rates that are nearly the best."""
    a, b = eta_a > 0, eta_b > 0
    judged = judged[a][:, b]
    if not np.isfinite(judged).any():
        return np.nan, np.nan
    logs = np.log2(np.maximum(judged, np.finfo(float).tiny))
    weights = np.maximum(1 - (logs - logs.min()) / _TAU, 0.0)
    total = weights.sum()
    centre_a = weights.sum(axis=1) @ np.log2(eta_a[a]) / total
    return float(centre_a), float(weights.sum(axis=0) @ np.log2(eta_b[b]) / total)


def _edge(losses: np.ndarray, rates: np.ndarray, level: float) -> float:
    """log2 of the rate at which this share of seeds has diverged; −∞ below the least positive
    rate, ∞ beyond the last.
    """
    positive = rates > 0
    if not positive.any():
        return np.nan
    broken = np.maximum.accumulate(np.isinf(losses[:, positive]), axis=1).mean(axis=0)
    at, logs = int(np.argmax(broken >= level)), np.log2(rates[positive])
    if broken[-1] < level:
        return np.inf
    if at == 0:
        return float(logs[0]) if broken[0] == level else -np.inf
    part = (level - broken[at - 1]) / (broken[at] - broken[at - 1])
    return float(logs[at - 1] + part * (logs[at] - logs[at - 1]))


def _sides(rates: np.ndarray) -> np.ndarray:
    """On which side of the grid each rate lies: a key of `SIDES`, 0 inside."""
    sides = np.where(rates > 0, 0, -2)
    sides[-1:] = 1
    sides[np.flatnonzero(rates > 0)[:1]] = -1
    return sides


def _range(logs: np.ndarray) -> tuple[float, float]:
    """Least and largest, of what is a number."""
    known = logs[~np.isnan(logs)]
    return (float(known.min()), float(known.max())) if known.size else (np.nan, np.nan)
