"""The phase diagram as exact models show it: the class of every (c_a, c_b), measured.

The linear toy, and sign updates of r = 1, on the scalar map; the layer on its own; the two-layer
toy on its limit for wide nets.

Definitions 3 to 5 on intervals over seeds; nothing of the theory is imported. How near to a line
on which two terms of the map are of one order a point may lie, without lying on it, decides the
margin, the least width and the number of steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.exact import layer_map, scalar_map, two_layer_limit
from lora_theory.exact.scalar_map import CONSTANT
from lora_theory.stats.intervals import mean_interval
from lora_theory.stats.numbers import numbers
from lora_theory.stats.slopes import slope_weights
from lora_theory.terms import Class, Verdict

# Contributions are taken here: a run that learns converges, and then nothing moves any more.
_DELTAS_AT = 5  # t
# No exponent further from 0 than half a twelfth is taken for 0, whatever else the point allows.
_MOST = 1 / 24
# A term n^d below the largest counts for nothing if n^d is 2^64: the constants of both, and t² of
# such terms, are far nearer. (Not those of f in t steps of large rates: see `needs`.)
_BITS = 64
# The largest log2 of k_a k_b k of a seed is this more than that of the given k_a k_b k.
_FACTORS = 1.5
# What has grown to 2^8, at the least width and later than a point needs, has done so by constants.
_GROWN = 8
_ROUNDING = 1e-12  # Of exponents, which are floats: what is as near to a line lies on it.


class Bounds(NamedTuple):
    """Ends of the intervals of exponents at some t, (…, T); −inf where a size is exactly 0."""

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


def needs(
    points: np.ndarray, update: str, init: str, *, k_a: float = CONSTANT, k_b: float = CONSTANT
) -> Needs:
    """What it takes to tell the classes of points: how near the lines are on which one changes.

    A line is where two terms of the map are of one order: c_a + 1 = 0 (‖x‖² η_a), c_b = 0 (η_b),
    c_a + c_b + 1 = 0 (their product), and under gradient descent f = n^(e + k (c_a + c_b + 1)) at
    t = k + 1, e = c_b (Init[1]) or c_a + 1 (Init[2]): where that is 0. Every exponent that decides
    is 0 or at least as far from 0 as the nearest line that the point is not on.

    Constants count where f has k steps to grow: by (k_a k_b k)^k, which n has to outdo if it is
    large. (Where it is small f is only further below y, as its exponent says.)

    Args:
        points: (points, 2) exponents (c_a, c_b).
        update: "gd" or "sign".
        init: "A" or "B".
        k_a, k_b: constants of the rates.

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
    constant = arguments.positive("k_a", k_a) * arguments.positive("k_b", k_b) * CONSTANT
    a_step = max(0.0, np.log2(constant) + _FACTORS)
    lines, steps = [a, b, growth], np.full(len(points), _DELTAS_AT)
    bits = np.full(len(points), float(_BITS))
    if update == "gd":
        later = (growth > _ROUNDING) & (first < -_ROUNDING)
        k = np.where(later, -first, 0.0) / np.where(later, growth, 1.0)
        k = np.where(np.abs(first + np.round(k) * growth) < _ROUNDING, np.round(k), np.floor(k))
        lines += [np.where(later, first + at * growth, 0.0) for at in (k, k + 1)]
        steps = np.where(later, np.maximum(k + 2, _DELTAS_AT), _DELTAS_AT).astype(int)
        bits = bits + np.where(later, k + 1, 0) * a_step
    return _needs(lines, steps, bits)


def _needs(lines: list[np.ndarray], steps: np.ndarray, bits: np.ndarray | float) -> Needs:
    away = np.abs(np.stack(lines))
    nearest = np.where(away < _ROUNDING, np.inf, away).min(axis=0)
    log2_width = np.ceil(bits / nearest - 1e-6)  # Of 1/12 as a float it is 768, not a bit more.
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
    k_a: float = CONSTANT,
    k_b: float = CONSTANT,
    stream: str = "",
) -> list[Class | None]:
    """The class of every point; None where the seeds do not decide.

    An exponent counts as 0 within the margin that `needs` has for the point.

    Args:
        points: (points, 2) exponents (c_a, c_b).
        update: "gd" or "sign"; sign updates freeze, so that few steps decide. Their rates vary a
            little from step to step (`uneven`).
        init: "A" or "B".
        log2_widths: (W,) log2 n.
        seeds: (S,) which.
        steps: T.
        confidence: of the interval of each exponent.
        k_a, k_b: constants of the rates.
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
    asked = needs(points, update, init, k_a=k_a, k_b=k_b)
    points, log2_widths = _pairs(points), _ascending(log2_widths)
    steps = arguments.integer("steps", steps, _DELTAS_AT if update == "gd" else 1)
    arguments.between("confidence", confidence, 0, 1)
    _check_seen(points, asked, log2_widths[0], steps)
    options: Any = {"k_a": k_a, "k_b": k_b, "update": update, "stream": stream}
    runs = scalar_map.random_runs(log2_widths, seeds, init, *points.T, **options)  # type: ignore[arg-type]
    if update == "sign":  # Equal steps that overshoot would be taken back, and f exactly 0.
        uneven = scalar_map.uneven(_DELTAS_AT)
        run = scalar_map.trajectory(*runs, _DELTAS_AT, update="sign", schedule=uneven)
    else:
        run = scalar_map.trajectory(*runs, steps)
    logs = scalar_map.logs(run)
    told = _told(logs["f"][:, 0], asked.steps)
    return classes(logs, log2_widths, asked.margin, confidence, deltas_at=_DELTAS_AT, told=told)


def layer_classes(
    points: np.ndarray,
    update: str,
    init: str,
    *,
    k_a: float = CONSTANT,
    k_b: float = CONSTANT,
    log2_widths: np.ndarray,
    seeds: Sequence[int],
    confidence: float,
    stream: str = "",
) -> list[Class | None]:
    """The class of every point for a LoRA layer of one sample, under sign or Adam updates.

    As `measured_classes` of sign updates, with Z_B and contributions to it for f and its own.

    Args:
        update: "sign" or "adam".
        points, init, k_a, k_b, log2_widths, seeds, confidence, stream: see `measured_classes`.

    Raises:
        ValueError: as `measured_classes`.

    >>> points, widths = np.array([[-1.0, 0.0], [-0.5, -0.5]]), np.array([200.0, 300.0])
    >>> found = layer_classes(points, "adam", "A", log2_widths=widths, seeds=range(8),
    ...                       confidence=0.95)
    >>> [str(cls) for cls in found]
    ['efficient', 'efficient, but unstable inside']
    """
    arguments.one_of("update", update, ("sign", "adam"))
    asked = needs(points, "sign", init, k_a=k_a, k_b=k_b)
    points, log2_widths = _pairs(points), _ascending(log2_widths)
    arguments.between("confidence", confidence, 0, 1)
    _check_seen(points, asked, log2_widths[0], _DELTAS_AT)
    options: Any = {"k_a": k_a, "k_b": k_b, "target": layer_map.FAR, "stream": stream}
    start = layer_map.random_starts(log2_widths, seeds, init, *points.T, **options)  # type: ignore[arg-type]
    sizes = layer_map.logs(layer_map.trajectory(start, _DELTAS_AT, update=update))  # type: ignore[arg-type]
    names = {"f": "Z_B", "B": "B", "Z_A": "Z_A", "delta1": "delta1_Z_B", "delta2": "delta2_Z_B"}
    logs = {name: sizes[of_layer] for name, of_layer in names.items()}
    return classes(logs, log2_widths, asked.margin, confidence, deltas_at=_DELTAS_AT)


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
    asked = _needs([points[:, 0] + 1, points[:, 1]], np.full(len(points), 2), _BITS)
    _check_seen(points, asked, log2_widths[0], steps)
    logs = two_layer_limit.random_runs(
        log2_widths, seeds, *points.T, k_a=k_a, k_b=k_b, steps=steps, stream=stream
    )
    return classes(logs, log2_widths, asked.margin, confidence, deltas_at=steps)


def classes(
    logs: Mapping[str, np.ndarray],
    log2_widths: np.ndarray,
    margin: np.ndarray,
    confidence: float,
    *,
    deltas_at: int,
    told: np.ndarray | None = None,
) -> list[Class | None]:
    """The class of every point by Definitions 3 to 5; None where the seeds do not decide.

    Args:
        logs: f, B, Z_A, delta1, delta2 -> (points, W, S, T) `log2 |v|` at t = 1 … T.
        log2_widths: (W,) log2 n.
        margin: (points,) below which an exponent is 0.
        confidence: of the interval of each exponent.
        deltas_at: the t at which contributions are taken.
        told: (points,) up to which t f is looked at; T if not given. B and Z_A are taken there.

    >>> flat = np.zeros((1, 3, 2, 1))
    >>> logs = dict.fromkeys(("f", "B", "Z_A", "delta1", "delta2"), flat)
    >>> widths, margin = np.array([6.0, 7.0, 8.0]), np.array([0.1])
    >>> [str(cls) for cls in classes(logs, widths, margin, 0.95, deltas_at=1)]
    ['efficient']
    """
    steps = logs["f"].shape[-1]
    told = np.full(len(margin), steps) if told is None else told
    at = {"f": slice(None), "B": slice(None), "Z_A": slice(None)}
    deltas = dict.fromkeys(("delta1", "delta2"), slice(deltas_at - 1, deltas_at))
    bounds = {
        name: _bounds(logs[name][..., t], log2_widths, confidence)
        for name, t in (at | deltas).items()
    }
    found = []
    for i, point_margin in enumerate(margin.tolist()):
        last = slice(told[i] - 1, told[i])
        taken = {"f": slice(told[i]), "B": last, "Z_A": last} | dict.fromkeys(deltas, slice(None))
        mine = {name: Bounds(*(end[i, taken[name]] for end in bounds[name])) for name in bounds}
        found.append(_class(mine, point_margin))
    return found


def _told(logs: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Up to which t the widths tell whether f grows in n: (points,).

    A run past the edge of stability grows by constants at any width, and for ever: what is far
    below at t = 10 is not at t = 60, and in the end rounding is all there is.

    Args:
        logs: (points, S, T) log2 of f at the least width.
        least: (points,) the t up to which a point is looked at whatever f does.
    """
    steps = logs.shape[-1]
    grown = (logs > _GROWN).any(axis=-2) & (np.arange(1, steps + 1) >= least[:, None])
    return np.where(grown.any(axis=-1), grown.argmax(axis=-1) + 1, steps)


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
    """Intervals of the exponents (points, T) of log-magnitudes (points, W, S, T)."""
    zero = np.isneginf(logs).all(axis=(1, 2))
    # A run that is exactly 0 here and not there decides nothing.
    with np.errstate(invalid="ignore"):
        slopes = np.einsum("w,pwst->pst", slope_weights(log2_widths), logs)
        _, low, high = mean_interval(slopes, confidence, axis=1)
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
        low, high = (end[0] for end in bounds[name])
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
    if any(size.low[0] > margin for size in sizes):
        return Class(Verdict.INSIDE)
    return Class(Verdict.EFFICIENT) if all(size.high[0] < margin for size in sizes) else None
