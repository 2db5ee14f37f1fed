"""The one test of equivalence: is a measured exponent the predicted one, within a margin?"""

import math
from typing import NamedTuple

from scipy.special import stdtr

from lora_theory import arguments
from lora_theory.stats.numbers import numbers
from lora_theory.stats.slopes import Slope
from lora_theory.terms import Outcome


class Comparison(NamedTuple):
    """What a measurement says about a predicted exponent.

    Attributes:
        verdict: "holds", "fails" or "undecided".
        seeds_needed: of an undecided one, about how many seeds would decide it (None if no
            number would).
    """

    verdict: Outcome
    seeds_needed: int | None = None


def compare(
    slope: Slope, predicted: float | None, *, margin: float, confidence: float
) -> Comparison:
    """Test of equivalence: is the exponent within `margin` of the predicted one?

    holds: the whole interval lies within the margin (two one-sided tests, each at level
    (1 − confidence)/2); fails: the whole interval lies outside; undecided: neither. Seeds that were
    left out widen the interval by the bias they may be, which more seeds do not shrink.

    Args:
        slope: what was measured.
        predicted: the exponent, or None for "identically zero".
        margin: the largest difference that counts as none.
        confidence: of the two-sided interval.

    Raises:
        ValueError: a margin below 0, a confidence outside of (0, 1), or a prediction that is not
            finite.

    >>> compare(Slope(0.02, 0.01, 100), 0.0, margin=0.1, confidence=0.95)
    Comparison(verdict='holds', seeds_needed=None)
    >>> compare(Slope(0.02, 0.1, 100), 0.0, margin=0.1, confidence=0.95)
    Comparison(verdict='undecided', seeds_needed=616)
    """
    if not isinstance(slope, Slope):
        raise arguments.refusal("slope", "a Slope", slope)
    margin, half = arguments.at_least("margin", margin, 0), slope.half_width(confidence)
    if predicted is not None:
        predicted = arguments.finite("predicted", predicted)
    if math.isnan(slope.value) and not slope.zero:  # An overflow says nothing, of zeros neither.
        return Comparison("undecided")
    if slope.zero or predicted is None:
        return Comparison("holds" if slope.zero and predicted is None else "fails")
    return _decide(abs(slope.value - predicted), half, margin, slope.seeds, slope.bias)


def undecided_from(slope: Slope, predicted: float | None, *, margin: float) -> float:
    """The least level 1 − confidence at which `compare` still says "holds": its p-value.

    2 P(T > (margin − `|slope − predicted|` − bias) / error), T of Student's law.

    Args:
        slope: what was measured.
        predicted: the exponent, or None for "identically zero".
        margin: the largest difference that counts as none.

    Returns:
        1 of what holds at no level, 0 of what is known without an error.

    >>> slope = Slope(0.02, 0.03, 40)
    >>> level = undecided_from(slope, 0.0, margin=0.1)
    >>> [compare(slope, 0.0, margin=0.1, confidence=1 - k * level).verdict for k in (1.01, 0.99)]
    ['holds', 'undecided']
    """
    margin = arguments.at_least("margin", margin, 0)
    if slope.zero or predicted is None:
        return 0.0 if slope.zero and predicted is None else 1.0
    room = margin - abs(slope.value - arguments.finite("predicted", predicted)) - slope.bias
    if not (room >= 0 and math.isfinite(slope.error)):
        return 1.0
    return 2 * float(stdtr(slope.seeds - 1, -room / slope.error)) if slope.error else 0.0


def within(
    low: float, high: float, predicted: float, margin: float, *, seeds: int | None = None
) -> Comparison:
    """The same test for an interval, whatever it comes from: a bootstrap, a collapse.

    holds: the whole interval lies within the margin; fails: the whole outside; undecided:
    neither, or NaN. Of several at once, the caller gives each its confidence (Bonferroni).

    Args:
        low, high: the two-sided interval of the exponent.
        predicted: the exponent.
        margin: the largest difference that counts as none.
        seeds: how many it rests on; without them none are asked for. How many are needed supposes
            that the interval keeps its middle and shrinks as 1/√S: what does not shrink so, as
            the coarseness of a grid, needs a finer grid.

    Raises:
        ValueError: an interval whose ends are in the wrong order, a margin below 0, or a prediction
            that is not finite.

    >>> within(-1.06, -0.97, -1.0, 0.1).verdict, within(-0.6, -0.4, -1.0, 0.1).verdict
    ('holds', 'fails')
    >>> within(-1.25, -0.75, -1.0, 0.125, seeds=24)
    Comparison(verdict='undecided', seeds_needed=96)
    """
    predicted = arguments.finite("predicted", predicted)
    margin = arguments.at_least("margin", margin, 0)
    for name, end in (("low", low), ("high", high)):
        if numbers(name, end, 0).ndim:
            raise arguments.refusal(name, "a number", end)
    if seeds is not None:
        arguments.integer("seeds", seeds, 0)
    if low > high:
        raise ValueError(f"low: must not be above high (got {low}, {high})")
    return _decide(abs((low + high) / 2 - predicted), (high - low) / 2, margin, seeds)


def _decide(
    gap: float, half: float, margin: float, seeds: int | None, bias: float = 0.0
) -> Comparison:
    """From the distance of the middle to the prediction, and half the interval, bias included."""
    if not math.isfinite(gap + half):
        return Comparison("undecided")
    if gap + half <= margin:
        return Comparison("holds")
    if gap - half > margin:
        return Comparison("fails")
    room = abs(margin - gap) - bias
    if not seeds or room <= 0:
        return Comparison("undecided")
    return Comparison("undecided", math.ceil(seeds * ((half - bias) / room) ** 2))
