"""The predicted phase diagram: the class of a point (c_a, c_b), and the regions of the plane."""

import dataclasses
import functools
from collections.abc import Iterable
from fractions import Fraction

from lora_theory import arguments
from lora_theory.terms import Class, Verdict
from lora_theory.theory import exponents
from lora_theory.theory.exponents import Region, Rule, Sizes
from lora_theory.theory.polyhedra import Cell

# The box of (c_a, c_b) in which regions are drawn.
BOX = (Fraction(-13, 6), Fraction(7, 6))


@dataclasses.dataclass(frozen=True)
class Area:
    """A predicted region within a box.

    Attributes:
        name: the verdict; of the unstable ones "unstable at once" where f grows at t = 1.
        dimension: 2 for an area, 1 for a line, 0 for a point.
        corners: its corners (c_a, c_b), in no order; of one exponent its ends (c,).
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
    return in_box(exponents.solve(rule, init))


def in_box(regions: Iterable[Region]) -> list[Area]:
    """What `exponents.solve` found of one or two exponents, within `BOX`."""
    found = []
    for region in regions:
        cell = region.cell.within(*BOX)
        if cell is None:
            continue
        name = region.answer
        if isinstance(name, Class):
            at_once = name.verdict is Verdict.UNSTABLE and name.from_t == 1
            name = "unstable at once" if at_once else name.verdict.value
        corners = tuple(tuple(float(c) for c in corner) for corner in cell.corners())
        found.append(Area(name, cell.dimension, corners))
    return found


def efficient_in_words(regions: Iterable[Region]) -> str:
    """The efficient set of what `exponents.solve` found: points, lines, or none.

    >>> from lora_theory.theory.rules import LAYER_SIGN, LINEAR_GD
    >>> efficient_in_words(exponents.solve(LINEAR_GD, "A"))
    '(−1, 0)'
    >>> efficient_in_words(exponents.solve(exponents.shared(LAYER_SIGN), "A"))
    'none'
    """
    cells = [r.cell for r in regions if r.answer == Class(Verdict.EFFICIENT)]
    return " and ".join(map(_cell_in_words, cells)) or "none"


def _cell_in_words(cell: Cell) -> str:
    if cell.dimension or len(cell.names) == 1:
        return str(cell).replace("-", "−")
    return f"({', '.join(str(c) for c in cell.point().values())})".replace("-", "−")


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
