"""How far the numbers of a benchmark can be trusted: the spread over its repeats, and whether the
machine was busy with something else.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lora_theory import arguments

_OTHERS = 0.5  # Of one core, over the last minute: more than a desktop at rest takes.
_STEADY = 1.3  # Of the engine's slowest repeat to its fastest.


class Times(NamedTuple):
    """How many times as long as the engine's a run and step takes: over repeats."""

    median: float
    least: float
    most: float
    repeats: int

    def __str__(self) -> str:
        if self.repeats == 1:
            return f"{self.median:.1f} (one repeat)"
        return f"{self.median:.1f} ({self.least:.1f} to {self.most:.1f})"


def times(costs: Mapping[str, Sequence[float]], first: str) -> dict[str, Times]:
    """Ratios to the first candidate, each within one repeat, so that slow drifts cancel.

    Args:
        costs: name -> seconds of a run and step in each repeat, in the order of repeats.
        first: the name of what the others are compared with.

    Raises:
        ValueError: a time that is not a positive number, of which there are no ratios.

    >>> str(times({"engine": [1.0, 2.0, 1.0], "loop": [8.0, 16.0, 10.0]}, "engine")["loop"])
    '8.0 (8.0 to 10.0)'
    """
    found = {}
    for name, seconds in costs.items():
        for second in seconds:
            arguments.positive(f"costs[{name!r}]", second)
    for name, seconds in costs.items():
        ratios = np.asarray(seconds, float) / np.asarray(costs[first], float)
        ends = float(np.median(ratios)), float(ratios.min()), float(ratios.max())
        found[name] = Times(*ends, ratios.size)
    return found


def load_average() -> float | None:
    """How many processes ran or waited to, over the last minute; None where none says it."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none.
        return None


def warning(load: float | None, seconds: Sequence[float]) -> str | None:
    """One line if the machine was busy, or if that can not be told; None if there is no sign of it.

    Args:
        load: the load average before the benchmark began.
        seconds: of one candidate, in every repeat.

    >>> warning(0.1, [1.0, 1.05, 1.1])
    >>> warning(2.34, [1.0, 1.9])
    'warning: the machine was busy (load average 2.3 before the start; the engine took from 1.00 \
to 1.90 s a repeat): neither times nor ratios are those of an idle one'
    """
    unknown = _unknown(load, seconds)
    if unknown:
        return f"warning: {'; '.join(unknown)}: whether the machine was busy can not be told"
    signs = []
    if load is not None and load > _OTHERS:
        signs.append(f"load average {load:.1f} before the start")
    least, most = min(seconds), max(seconds)
    if most > _STEADY * least:
        signs.append(f"the engine took from {least:.2f} to {most:.2f} s a repeat")
    if not signs:
        return None
    words = f"the machine was busy ({'; '.join(signs)})"
    return f"warning: {words}: neither times nor ratios are those of an idle one"


def _unknown(load: float | None, seconds: Sequence[float]) -> list[str]:
    """What can not be compared with anything."""
    words = [] if load is None or math.isfinite(load) else ["no number for the load average"]
    odd = [second for second in seconds if not (math.isfinite(second) and second > 0)]
    return words + [f"the engine took {second:g} s in a repeat" for second in odd[:1]]
