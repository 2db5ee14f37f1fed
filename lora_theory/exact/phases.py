"""The phase diagram as the scalar map shows it: the class of every (c_a, c_b), measured.

Definitions 3 to 5 on intervals over seeds; nothing of the theory is imported.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.exact.scalar_map import random_runs, trajectory
from lora_theory.stats.intervals import mean_interval
from lora_theory.stats.numbers import numbers
from lora_theory.stats.slopes import slope_weights
from lora_theory.terms import Class, Verdict

# Contributions are taken here: a run that learns converges, and then nothing moves any more.
_DELTAS_AT = 5  # t
# Half the distance between two points of the lattice in twelfths.
_MARGIN = 1 / 24


class Bounds(NamedTuple):
    """Ends of the intervals of exponents, (…, points); −inf where a size is exactly 0."""

    low: np.ndarray
    high: np.ndarray


def measured_classes(
    points: np.ndarray,
    update: str,
    init: str,
    *,
    log2_widths: np.ndarray,
    seeds: Sequence[int],
    steps: int,
    confidence: float,
) -> list[Class | None]:
    """The class of every point; None where the seeds do not decide.

    Args:
        points: (points, 2) exponents (c_a, c_b).
        update: "gd" or "sign"; sign updates freeze, so that few steps decide.
        init: "A" or "B".
        log2_widths: (W,) log2 n.
        seeds: (S,) which.
        steps: T; an instability that shows later is not seen.
        confidence: of the interval of each exponent.

    Raises:
        ValueError: points that are no pairs, fewer than two widths or 5 steps, a confidence outside
            of (0, 1).

    >>> corner = np.array([[-1.0, 0.0], [1.0, 1.0]])
    >>> widths = np.array([1000.0, 2000.0, 4000.0])
    >>> found = measured_classes(corner, "gd", "A", log2_widths=widths, seeds=range(8), steps=6,
    ...                          confidence=0.95)
    >>> [str(cls) for cls in found]
    ['efficient', 'unstable from t = 1']
    """
    points, log2_widths = numbers("points", points, 2), numbers("log2_widths", log2_widths)
    if points.shape[1:] != (2,):
        raise arguments.refusal("points", "pairs (c_a, c_b), (points, 2)", points)
    if log2_widths.ndim != 1 or len(log2_widths) < 2 or (np.diff(log2_widths) <= 0).any():
        raise arguments.refusal("log2_widths", "at least two, ascending", log2_widths)
    steps = arguments.integer("steps", steps, _DELTAS_AT if update == "gd" else 1)
    arguments.between("confidence", confidence, 0, 1)
    update_: Any = update
    init_: Any = init
    runs = random_runs(
        log2_widths,
        seeds,
        init_,
        points[:, 0],
        points[:, 1],
        update=update_,
    )
    run = trajectory(*runs, steps if update == "gd" else _DELTAS_AT, update=update_)
    sizes = {"f": run.f[1:][..., 0], "B": run.b[-1], "Z_A": run.s[-1][..., 0]}
    sizes |= {f"delta{i + 1}": run.deltas[i, _DELTAS_AT - 1][..., 0] for i in range(2)}
    bounds = {name: _bounds(size.log2(), log2_widths, confidence) for name, size in sizes.items()}
    return [
        _class({name: Bounds(low[..., i], high[..., i]) for name, (low, high) in bounds.items()})
        for i in range(len(points))
    ]


def _bounds(logs: np.ndarray, log2_widths: np.ndarray, confidence: float) -> Bounds:
    """Intervals of the exponents (…, points) of log-magnitudes (…, points, S, W)."""
    zero = np.isneginf(logs).all(axis=(-1, -2))
    # A run that is exactly 0 here and not there decides nothing.
    with np.errstate(invalid="ignore"):
        slopes = logs @ slope_weights(log2_widths)
        _, low, high = mean_interval(slopes, confidence, axis=-1)
    return Bounds(np.where(zero, -np.inf, low), np.where(zero, -np.inf, high))


def _class(bounds: dict[str, Bounds]) -> Class | None:
    """Definitions 3 to 5 on measured intervals: above, at or below exponent 0?"""
    low, high = bounds["f"]
    for t in range(len(low)):
        if low[t] > _MARGIN:
            return Class(Verdict.UNSTABLE, t + 1)
        if not high[t] < _MARGIN:
            return None
    learns = []
    for name in ("delta1", "delta2"):
        low, high = bounds[name]
        if low > -_MARGIN and high < _MARGIN:
            learns.append(True)
        elif high < -_MARGIN or low > _MARGIN:
            learns.append(False)
        else:
            return None
    if all(learns):
        calm = all(bounds[name].high < _MARGIN for name in ("B", "Z_A"))
        return Class(Verdict.EFFICIENT if calm else Verdict.INSIDE)
    if not any(learns):
        return Class(Verdict.NO_LEARNING)
    return Class(Verdict.A_ALONE if learns[0] else Verdict.B_ALONE)
