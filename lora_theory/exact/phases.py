"""The phase diagram as maps show it: the class of every (c_a, c_b), measured.

The linear toy and sign updates of a layer on the scalar map, the two-layer toy on its limit.

Definitions 3 to 5 on intervals over seeds; nothing of the theory is imported. How near to a line
on which two terms of the map are of one order a point may lie, without lying on it, decides the
margin, the least width and the number of steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.exact import two_layer_limit
from lora_theory.exact.scalar_map import random_runs, trajectory
from lora_theory.stats.intervals import mean_interval
from lora_theory.stats.numbers import numbers
from lora_theory.stats.slopes import slope_weights
from lora_theory.terms import Class, Verdict

# Contributions are taken here: a run that learns converges, and then nothing moves any more.
_DELTAS_AT = 5  # t
# No exponent further from 0 than half a twelfth is taken for 0, whatever else the point allows.
_MOST = 1 / 24
# A term n^d below the largest counts for nothing if n^d is 2^64: the constants of both, and t² of
# such terms, are far nearer.
_BITS = 64
_ROUNDING = 1e-12  # Of exponents, which are floats: what is as near to a line lies on it.


class Bounds(NamedTuple):
    """Ends of the intervals of exponents, (…, points); −inf where a size is exactly 0."""

    low: np.ndarray
    high: np.ndarray


class Needs(NamedTuple):
    """What it takes to tell the class of each point, (points,).

    Attributes:
        margin: below which an exponent is 0: half the distance to the nearest line, at most 1/24.
        log2_width: the least log2 n.
        steps: the least T.
    """

    margin: np.ndarray
    log2_width: np.ndarray
    steps: np.ndarray


def needs(points: np.ndarray, update: str, init: str) -> Needs:
    """What it takes to tell the classes of points: how near the lines are on which one changes.

    A line is where two terms of the map are of one order: c_a + 1 = 0 (‖x‖² η_a), c_b = 0 (η_b),
    c_a + c_b + 1 = 0 (their product), and under gradient descent f = n^(e + k (c_a + c_b + 1)) at
    t = k + 1, e = c_b (Init[1]) or c_a + 1 (Init[2]): where that is 0. Every exponent that decides
    is 0 or at least as far from 0 as the nearest line that the point is not on.

    Args:
        points: (points, 2) exponents (c_a, c_b).
        update: "gd" or "sign".
        init: "A" or "B".

    >>> found = needs(np.array([[-78 / 77, 0.0], [-0.5, -5 / 12]]), "gd", "A")
    >>> [float(v) for v in (1 / found.margin).round(6)], found.log2_width.tolist()
    ([154.0, 24.0], [4928.0, 768.0])
    >>> found.steps.tolist()
    [5, 7]
    """
    arguments.one_of("update", update, ("gd", "sign"))
    arguments.one_of("init", init, ("A", "B"))
    points = _pairs(points)
    a, b = points[:, 0] + 1, points[:, 1]
    growth, first = a + b, b if init == "A" else a
    lines, steps = [a, b, growth], np.full(len(points), _DELTAS_AT)
    if update == "gd":
        later = (growth > _ROUNDING) & (first < -_ROUNDING)
        k = np.where(later, -first, 0.0) / np.where(later, growth, 1.0)
        k = np.where(np.abs(first + np.round(k) * growth) < _ROUNDING, np.round(k), np.floor(k))
        lines += [np.where(later, first + at * growth, 0.0) for at in (k, k + 1)]
        steps = np.where(later, np.maximum(k + 2, _DELTAS_AT), _DELTAS_AT).astype(int)
    return _needs(lines, steps)


def _needs(lines: list[np.ndarray], steps: np.ndarray) -> Needs:
    away = np.abs(np.stack(lines))
    nearest = np.where(away < _ROUNDING, np.inf, away).min(axis=0)
    log2_width = np.ceil(_BITS / nearest - 1e-6)  # Of 1/12 as a float it is 768, not a bit more.
    return Needs(np.minimum(nearest / 2, _MOST), log2_width, steps)


def _pairs(points: np.ndarray) -> np.ndarray:
    points = numbers("points", points, 2)
    if points.shape[1:] != (2,):
        raise arguments.refusal("points", "pairs (c_a, c_b), (points, 2)", points)
    return points


def _ascending(log2_widths: np.ndarray) -> np.ndarray:
    log2_widths = numbers("log2_widths", log2_widths)
    if log2_widths.ndim != 1 or len(log2_widths) < 2 or (np.diff(log2_widths) <= 0).any():
        raise arguments.refusal("log2_widths", "at least two, ascending", log2_widths)
    return log2_widths


def measured_classes(
    points: np.ndarray,
    update: str,
    init: str,
    *,
    log2_widths: np.ndarray,
    seeds: Sequence[int],
    steps: int,
    confidence: float,
    stream: str = "",
) -> list[Class | None]:
    """The class of every point; None where the seeds do not decide.

    An exponent counts as 0 within the margin that `needs` has for the point.

    Args:
        points: (points, 2) exponents (c_a, c_b).
        update: "gd" or "sign"; sign updates freeze, so that few steps decide.
        init: "A" or "B".
        log2_widths: (W,) log2 n.
        seeds: (S,) which.
        steps: T.
        confidence: of the interval of each exponent.
        stream: of the draws; see `scalar_map.random_runs`.

    Raises:
        ValueError: points that are no pairs, or lie too near to a line for these widths or steps;
            fewer than two widths or 5 steps, a confidence outside of (0, 1).

    >>> corner = np.array([[-1.0, 0.0], [1.0, 1.0]])
    >>> widths = np.array([1000.0, 2000.0, 4000.0])
    >>> found = measured_classes(corner, "gd", "A", log2_widths=widths, seeds=range(8), steps=6,
    ...                          confidence=0.95)
    >>> [str(cls) for cls in found]
    ['efficient', 'unstable from t = 1']
    """
    asked = needs(points, update, init)
    points, log2_widths = _pairs(points), _ascending(log2_widths)
    steps = arguments.integer("steps", steps, _DELTAS_AT if update == "gd" else 1)
    arguments.between("confidence", confidence, 0, 1)
    _check_seen(points, asked, log2_widths[0], steps)
    update_: Any = update
    init_: Any = init
    runs = random_runs(
        log2_widths,
        seeds,
        init_,
        points[:, 0],
        points[:, 1],
        update=update_,
        stream=stream,
    )
    run = trajectory(*runs, steps if update == "gd" else _DELTAS_AT, update=update_)
    sizes = {"f": run.f[1:][..., 0], "B": run.b[-1], "Z_A": run.s[-1][..., 0]}
    sizes |= {f"delta{i + 1}": run.deltas[i, _DELTAS_AT - 1][..., 0] for i in range(2)}
    logs = {name: size.log2() for name, size in sizes.items()}
    return classes(logs, log2_widths, asked.margin, confidence)


def two_layer_classes(
    points: np.ndarray,
    *,
    k_a: float,
    k_b: float,
    log2_widths: np.ndarray,
    seeds: Sequence[int],
    steps: int,
    confidence: float,
    stream: str = "",
) -> list[Class | None]:
    """The class of every point for the two-layer toy under gradient descent, both factors random.

    Lines on which a class changes are c_a = −1 and c_b = 0; δ are taken at t = T. The map holds f
    in float64, so that widths must keep n^(c_a + c_b + 1) within 2^900 or so.

    Args:
        points: (points, 2) exponents (c_a, c_b).
        k_a, k_b: constants of the rates.
        log2_widths: (W,) log2 n, at least 64 over the distance to the nearest line.
        seeds: (S,) which.
        steps: T, at least 2.
        confidence: of the interval of each exponent.
        stream: of the draws; see `two_layer_limit.random_runs`.

    Raises:
        ValueError: points that are no pairs, or lie too near to a line for these widths; fewer than
            two widths or steps, a confidence outside of (0, 1).

    >>> points, widths = np.array([[-1.0, 0.0], [-1.5, 0.0]]), np.array([200.0, 300.0])
    >>> found = two_layer_classes(points, k_a=0.2, k_b=0.2, log2_widths=widths, seeds=range(8),
    ...                           steps=2, confidence=0.95)
    >>> [str(cls) for cls in found]
    ['efficient', 'B alone']
    """
    points, log2_widths = _pairs(points), _ascending(log2_widths)
    steps = arguments.integer("steps", steps, 2)
    arguments.between("confidence", confidence, 0, 1)
    asked = _needs([points[:, 0] + 1, points[:, 1]], np.full(len(points), 2))
    _check_seen(points, asked, log2_widths[0], steps)
    runs = two_layer_limit.random_runs(
        log2_widths, seeds, *points.T, k_a=k_a, k_b=k_b, steps=steps, stream=stream
    )
    sizes = {name: runs[name].swapaxes(1, 2) for name in ("f", "B", "Z_A", "delta1", "delta2")}
    logs = {name: size[..., -1] for name, size in sizes.items()}
    logs["f"] = np.moveaxis(sizes["f"], -1, 0)
    return classes(logs, log2_widths, asked.margin, confidence)


def classes(
    logs: Mapping[str, np.ndarray], log2_widths: np.ndarray, margin: np.ndarray, confidence: float
) -> list[Class | None]:
    """The class of every point by Definitions 3 to 5; None where the seeds do not decide.

    Args:
        logs: `log2 |v|`: f (T, points, S, W) at t = 1 … T; B, Z_A, delta1 and delta2, (points, S,
            W), at one t.
        log2_widths: (W,) log2 n.
        margin: (points,) below which an exponent is 0.
        confidence: of the interval of each exponent.

    >>> flat = np.zeros((1, 2, 3))
    >>> logs = dict.fromkeys(("B", "Z_A", "delta1", "delta2"), flat) | {"f": flat[None]}
    >>> [str(cls) for cls in classes(logs, np.array([6.0, 7.0, 8.0]), np.array([0.1]), 0.95)]
    ['efficient']
    """
    bounds = {name: _bounds(log, log2_widths, confidence) for name, log in logs.items()}
    return [
        _class({name: Bounds(low[..., i], high[..., i]) for name, (low, high) in bounds.items()}, m)
        for i, m in enumerate(margin.tolist())
    ]


def _check_seen(points: np.ndarray, asked: Needs, log2_width: float, steps: int) -> None:
    """Refuse points whose class can not be told: to guess it would be to guess wrong."""
    for name, least, got in (
        ("log2_widths", asked.log2_width, log2_width),
        ("steps", asked.steps, steps),
    ):
        if len(least) and got < least.max():
            at = ", ".join(f"{c:g}" for c in points[least.argmax()])
            raise ValueError(
                f"{name}: must be at least {least.max():.0f} to tell the class of ({at}), "
                f"near which it changes (got {got:g})"
            )


def _bounds(logs: np.ndarray, log2_widths: np.ndarray, confidence: float) -> Bounds:
    """Intervals of the exponents (…, points) of log-magnitudes (…, points, S, W)."""
    zero = np.isneginf(logs).all(axis=(-1, -2))
    # A run that is exactly 0 here and not there decides nothing.
    with np.errstate(invalid="ignore"):
        slopes = logs @ slope_weights(log2_widths)
        _, low, high = mean_interval(slopes, confidence, axis=-1)
    return Bounds(np.where(zero, -np.inf, low), np.where(zero, -np.inf, high))


def _class(bounds: dict[str, Bounds], margin: float) -> Class | None:
    """Definitions 3 to 5 on measured intervals: above, at or below exponent 0?"""
    low, high = bounds["f"]
    for t in range(len(low)):
        if low[t] > margin:
            return Class(Verdict.UNSTABLE, t + 1)
        if not high[t] < margin:
            return None
    learns = []
    for name in ("delta1", "delta2"):
        low, high = bounds[name]
        if low > -margin and high < margin:
            learns.append(True)
        elif high < -margin or low > margin:
            learns.append(False)
        else:
            return None
    if all(learns):
        return _inside([bounds["B"], bounds["Z_A"]], margin)
    if not any(learns):
        return Class(Verdict.NO_LEARNING)
    return Class(Verdict.A_ALONE if learns[0] else Verdict.B_ALONE)


def _inside(sizes: list[Bounds], margin: float) -> Class | None:
    """Efficient or not within: one that grows decides, and so do all that do not."""
    if any(size.low > margin for size in sizes):
        return Class(Verdict.INSIDE)
    return Class(Verdict.EFFICIENT) if all(size.high < margin for size in sizes) else None
