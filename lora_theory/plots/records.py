"""What the figures of the theory draw, as typed records that can be saved and read."""

import dataclasses

from lora_theory.theory.regions import Area


@dataclasses.dataclass(frozen=True)
class DrawnPoint:
    """A point (c_a, c_b): the predicted and the measured verdict (None: undecided)."""

    at: tuple[float, ...]
    predicted: str
    measured: str | None
    agrees: bool | None


@dataclasses.dataclass(frozen=True)
class DrawnDiagram:
    """A phase diagram: predicted areas, measured points of a square lattice, row by row."""

    update: str
    init: str
    areas: tuple[Area, ...]
    points: tuple[DrawnPoint, ...] = ()


@dataclasses.dataclass(frozen=True)
class DrawnExponent:
    """A measured exponent with half its interval, beside the predicted one, a fraction.

    Attributes:
        kind: "holds", "fails", "undecided", or "control" for one that was caught.
    """

    setting: str
    quantity: str
    predicted: str
    measured: float
    half_width: float
    kind: str


@dataclasses.dataclass(frozen=True)
class Curve:
    """Slopes between neighbouring widths, with half their intervals; None where there is none."""

    label: str
    log2_widths: tuple[float, ...]
    slopes: tuple[float | None, ...]
    half_widths: tuple[float | None, ...]
    limit: float
