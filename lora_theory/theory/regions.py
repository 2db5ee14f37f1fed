"""The predicted phase diagram: the class of a point (c_a, c_b), and the regions of the plane."""

import dataclasses
import functools
from fractions import Fraction

from lora_theory import arguments
from lora_theory.terms import Class, Verdict
from lora_theory.theory import exponents
from lora_theory.theory.exponents import Rule, Sizes

# The box of (c_a, c_b) in which regions are drawn.
BOX = (Fraction(-13, 6), Fraction(7, 6))


@dataclasses.dataclass(frozen=True)
class Area:
    """A predicted region within a box.

    Attributes:
        name: the verdict; of the unstable ones "unstable at once" where f grows at t = 1.
        dimension: 2 for an area, 1 for a line, 0 for a point.
        corners: its corners (c_a, c_b), in no order.
    """

    name: str
    dimension: int
    corners: tuple[tuple[float, ...], ...]


def areas(rule: Rule, init: str | Sizes) -> list[Area]:
    """The predicted regions of one diagram within `BOX`.

    >>> from lora_theory.theory.rules import LINEAR_GD
    >>> [area.corners for area in areas(LINEAR_GD, "A") if area.name == "efficient"]
    [((-1.0, 0.0),)]
    """
    found = []
    for region in exponents.solve(rule, init):
        cell = region.cell.within(*BOX)
        if cell is None:
            continue
        verdict, from_t = region.answer
        at_once = verdict is Verdict.UNSTABLE and from_t == 1
        corners = tuple(tuple(float(c) for c in corner) for corner in cell.corners())
        name = "unstable at once" if at_once else verdict.value
        found.append(Area(name, cell.dimension, corners))
    return found


@functools.cache
def predicted_class(rule: Rule, init: str | Sizes, c_a: Fraction, c_b: Fraction) -> Class:
    """The class of one point, with the exact first t of instability.

    >>> from lora_theory.theory.rules import LINEAR_GD
    >>> str(predicted_class(LINEAR_GD, "A", Fraction(-1, 2), Fraction(-5, 12)))
    'unstable from t = 7'
    """
    at = {"c_a": c_a, "c_b": c_b}
    found = exponents.classify(rule, init, at)
    if found.verdict is Verdict.UNSTABLE:
        return Class(found.verdict, exponents.first_unstable(rule, init, at))
    return found


def lattice(step: int, low: int = -2, high: int = 1) -> tuple[tuple[Fraction, Fraction], ...]:
    """All points (c_a, c_b) with coordinates in 1/step from low to high.

    >>> len(lattice(12))
    1369
    """
    step = arguments.integer("step", step)
    axis = [Fraction(i, step) for i in range(low * step, high * step + 1)]
    return tuple((c_a, c_b) for c_a in axis for c_b in axis)
