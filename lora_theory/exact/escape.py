"""How long gradient descent of the linear toy takes to leave its saddle, by the exact map.

On the line c_a + c_b = −1 nothing is learned at any fixed t, and all is after some steps more for
each power of n. No prediction is imported here.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.exact.scalar_map import CONSTANT, random_runs
from lora_theory.exact.signed_log import finite
from lora_theory.stats.numbers import numbers
from lora_theory.stats.slopes import slope_weights

# log2 of the smallest size that is kept, with its residual, without loss of digits.
_SMALLEST = -960


class Escape(NamedTuple):
    """When runs leave, and what of each seed decides it.

    Attributes:
        steps: (…, S, W) the first t at which `|f|` has the level; −1 where it has not in all steps.
        product: (…, S) k_a k_b ‖x‖²/n, with the factors of each seed.
        y: (S,) targets.
    """

    steps: np.ndarray
    product: np.ndarray
    y: np.ndarray


def widest(c_b: float) -> float:
    """log2 of the largest n at which n^(−|c_b|/2) is kept without loss of digits.

    >>> widest(-0.5)
    3840.0
    """
    return 2 * -_SMALLEST / abs(c_b)


def escape_steps(
    log2_widths: np.ndarray,
    seeds: Sequence[int],
    c_b: float,
    *,
    k_a: np.ndarray | float = CONSTANT,
    k_b: np.ndarray | float = CONSTANT,
    init: Literal["A", "B"] = "A",
    off: float = 0.0,
    level: float = 0.5,
    stream: str = "",
    most: int = 100_000,
) -> Escape:
    """The first t at which `|f_t| ≥ level · |y|`, with η_a = k_a n^(off−1−c_b), η_b = k_b n^c_b.

    By the map itself, in float64 and in variables that leave no power of n in it:
    β = b n^(−c_b/2) and σ = s n^(c_b/2) have β σ = f and

        β' = β − k_b σ U,    σ' = σ − k_a (‖x‖²/n) n^off β U,    U = β σ − y .

    n is in their start alone: σ_0 = s_0 n^(c_b/2) (Init[1]), β_0 = b_0 n^(−c_b/2) (Init[2]).

    Args:
        log2_widths: (W,) log2 n.
        seeds: (S,) which; their draws are those of `scalar_map.random_runs`.
        c_b: the exponent of η_b, below 0 (Init "A") or above it ("B"): there is a saddle to leave.
        k_a, k_b: (…,) constants of the rates, broadcast together.
        init: "A" or "B".
        off: c_a + c_b + 1: how far the rates are off the line.
        level: of `|f|`, in units of `|y|`.
        stream: of the draws.
        most: after so many steps a run that has not left never does.

    Raises:
        ValueError: a c_b without a saddle, or widths at which n^(−`|c_b|`/2) leaves float64.

    >>> found = escape_steps([100.0, 200.0, 400.0], range(3), -0.5)
    >>> found.steps.shape, bool((np.diff(found.steps) > 0).all())
    ((3, 3), True)
    """
    arguments.one_of("init", init, ("A", "B"))
    log2_widths = finite("log2_widths", numbers("log2_widths", log2_widths))
    c_b, off = arguments.finite("c_b", c_b), arguments.finite("off", off)
    if c_b == 0 or (c_b < 0) != (init == "A"):
        raise arguments.refusal("c_b", f"{'below' if init == 'A' else 'above'} 0", c_b)
    level, most = arguments.positive("level", level), arguments.integer("most", most)
    small = -abs(c_b) / 2 * log2_widths
    if log2_widths.max() > widest(c_b):
        wanted = f"at most {widest(c_b):g} at c_b = {c_b:g}"
        raise arguments.refusal("log2_widths", wanted, float(log2_widths.max()))
    # At n = 1, where rates are their constants and ‖x‖² is ‖x‖²/n; the widths are a last axis.
    runs = random_runs(
        np.zeros(1), seeds, init, 0.0, 0.0, k_a=k_a, k_b=k_b, update="gd", stream=stream
    )
    start, y = runs.s[..., 0] if init == "A" else runs.b, runs.y[..., 0]
    rate_b = runs.eta_b.value()
    rate_a = (runs.eta_a * runs.gram[..., 0, 0]).value()
    moved = start.value() * 2.0**small
    beta, sigma = (0 * moved, moved) if init == "A" else (moved, 0 * moved)
    steps = _first(beta, sigma, y, rate_a * 2.0 ** (off * log2_widths), rate_b, level, most)
    return Escape(steps, (rate_a * rate_b)[..., 0], y[:, 0])


def _first(
    beta: np.ndarray,
    sigma: np.ndarray,
    y: np.ndarray,
    rate_a: np.ndarray,
    rate_b: np.ndarray,
    level: float,
    most: int,
) -> np.ndarray:
    """The first t of each run at which `|β σ|` ≥ level · `|y|`; runs that have left are let go."""
    given = np.broadcast_arrays(beta, sigma, y, rate_a, rate_b)
    steps = np.full(given[0].shape, -1)
    beta, sigma, y, rate_a, rate_b = (array.ravel() for array in given)
    inside, enough = np.arange(steps.size), level * np.abs(y)
    for t in range(1, most + 1):
        u = beta * sigma - y
        beta, sigma = beta - rate_b * sigma * u, sigma - rate_a * beta * u
        left = np.abs(beta * sigma) >= enough
        if left.any():
            steps.ravel()[inside[left]] = t
            kept = (array[~left] for array in (inside, enough, beta, sigma, y, rate_a, rate_b))
            inside, enough, beta, sigma, y, rate_a, rate_b = kept
        if not inside.size:
            break
    return steps


def escape_slopes(log2_widths: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Steps more for each unit of ln n: the least-squares slope of every seed.

    Args:
        log2_widths: (W,) log2 n, at least two, ascending.
        steps: (…, S, W) as `escape_steps` has them.

    Returns:
        (…, S); NaN of a seed that does not leave at some width.

    >>> escape_slopes([0.0, 1.0], np.array([[5, 6], [5, -1]])).round(3).tolist()
    [1.443, nan]
    """
    log2_widths = finite("log2_widths", numbers("log2_widths", log2_widths))
    if log2_widths.ndim != 1 or len(log2_widths) < 2 or (np.diff(log2_widths) <= 0).any():
        raise arguments.refusal("log2_widths", "at least two, ascending", log2_widths)
    steps = numbers("steps", steps)
    if steps.shape[-1] != len(log2_widths):
        raise arguments.refusal("steps", f"of shape (…, {len(log2_widths)})", steps)
    slopes: Any = steps @ slope_weights(log2_widths * np.log(2))
    return np.where((steps < 0).any(axis=-1), np.nan, slopes)
