"""The rate at which something that grows with it, as long as training holds, has a given value."""

import math
from collections.abc import Callable

_SMALL = -30.0  # log2 of a rate that is surely small.
_LOWEST, _HIGHEST = -60.0, 20.0
NOTHING = 1e-5  # Rounding of single precision.
_CLOSE = 0.05  # Octaves to which a condition is met.


def reach(
    rate: str, name: str, target: float, value: Callable[[float], float], near: float
) -> float:
    """log2 of a rate at which a value that grows from 0 is the target, before it falls again.

    A search that starts beyond the top of such a value finds nothing, and is begun anew below.

    Raises:
        ValueError: no rate reaches it.
    """
    try:
        return _searched(rate, name, target, value, near)
    except ValueError:
        if near <= _SMALL:
            raise
    return _searched(rate, name, target, value, _SMALL)


def _searched(
    rate: str, name: str, target: float, value: Callable[[float], float], near: float
) -> float:
    at, found = near, value(2**near)
    low, high = (-math.inf, 0.0), (math.inf, math.inf)
    best = at, -math.inf if found == math.inf else found
    while not abs(_octaves(found, target)) <= _CLOSE:
        if found < target:
            low = at, found
        else:  # Or not finite.
            high = at, found
        if math.isinf(high[0]):
            at += 8.0 if found <= 0 else min(max(-_octaves(found, target), 0.25), 8.0)
        elif math.isinf(low[0]):
            at -= min(max(_octaves(found, target) + 1, 1.0), 8.0) if found < math.inf else 4.0
        else:
            at = _between_logs(low, high, target)
        narrow = high[0] - low[0] < _CLOSE
        if narrow and math.isfinite(high[1]):
            if _octaves(high[1], target) > 1:
                raise ValueError(_jumped(rate, name, target, low, high))
            return high[0]
        overshot = math.isinf(high[0]) and _past(found, best[1])
        if narrow or overshot or not _LOWEST < at < _HIGHEST:
            raise ValueError(_unreached(rate, name, target, *best))
        found = value(2**at)
        if found < math.inf and not found <= best[1]:
            best = at, found
    return at


def _octaves(value: float, target: float) -> float:
    """log2 value / target; NaN or ∞ where there is none."""
    return math.log2(value / target) if 0 < value < math.inf else math.copysign(math.inf, value)


def _past(value: float, best: float) -> bool:
    """Whether a larger rate has lost most of what a smaller one reached: it overshoots."""
    return best > 0 and value < best / 4


def _between_logs(low: tuple[float, float], high: tuple[float, float], target: float) -> float:
    """Where a power of the rate through both ends is the target, not too close to either."""
    share = 0.5
    if low[1] > 0 and math.isfinite(high[1]):
        share = _octaves(target, low[1]) / _octaves(high[1], low[1])
    return low[0] + (high[0] - low[0]) * min(max(share, 0.1), 0.9)


def _unreached(rate: str, name: str, target: float, best: float, at_best: float) -> str:
    if math.isnan(at_best):
        return f"loss: must have a gradient in some layer at the start (got none, at any {rate})"
    if at_best == -math.inf:
        return (
            f"optimizer: must train at some {rate} (got a loss that more than doubles, or is not "
            f"finite, at all that were tried, down to {2**best:.3g})"
        )
    if at_best >= target:
        return (
            f"{name}: must be what some {rate} gives (got {target:g}, and more at any rate, "
            f"{at_best:.3g} at {rate} = {2**best:.3g}); ask for more"
        )
    if at_best <= NOTHING:
        return (
            f"optimizer: must move the factor that {rate} trains (got no move at any rate; is it "
            "frozen, by labels or groups, or is the optimizer none of (η_A, η_B)?)"
        )
    return (
        f"{name}: must be below what some {rate} reaches before the loss doubles, {at_best:.3g} at "
        f"{rate} = {2**best:.3g} (got {target:g}); ask for less"
    )


def _jumped(
    rate: str, name: str, target: float, low: tuple[float, float], high: tuple[float, float]
) -> str:
    return (
        f"{name}: must be what some {rate} gives, and not lie where it jumps, from {low[1]:.3g} to "
        f"{high[1]:.3g} at {rate} = {2 ** high[0]:.3g} (got {target:g}); ask for more or for less"
    )
