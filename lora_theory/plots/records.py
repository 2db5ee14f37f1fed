"""What the figures of the theory draw, as typed records that can be saved and read."""

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction

from lora_theory.terms import Outcome
from lora_theory.theory.regions import Area

# The name of an area of which no end of the case analysis is reached.
NOT_TOLD = "not told"


@dataclasses.dataclass(frozen=True)
class DrawnPoint:
    """A point (c_a, c_b): the predicted and the measured verdict (None: undecided).

    Attributes:
        predicted_t, measured_t: the t at which it becomes unstable, where it does.
        agrees: in the verdict and in t.
    """

    at: tuple[float, ...]
    predicted: str
    measured: str | None
    agrees: bool | None
    predicted_t: int | None = None
    measured_t: int | None = None


@dataclasses.dataclass(frozen=True)
class DrawnDiagram:
    """A phase diagram: predicted areas, measured points of a square lattice, row by row."""

    update: str
    init: str
    areas: tuple[Area, ...]
    points: tuple[DrawnPoint, ...] = ()


@dataclasses.dataclass(frozen=True)
class DrawnRule:
    """The predicted diagram of an update rule of one or two exponents.

    Attributes:
        name: in few words.
        init: "A", "B", "both", or "W*" (pretrained, for a rule without adapters).
        exponents: their names, as ("c_a", "c_b").
        areas: within `regions.BOX`; named `NOT_TOLD` where nothing is predicted.
        efficient: the efficient set in words, as "(−1, 0)" or "none".
    """

    name: str
    init: str
    exponents: tuple[str, ...]
    areas: tuple[Area, ...]
    efficient: str


@dataclasses.dataclass(frozen=True)
class DrawnExponent:
    """A measured number of a claim beside the predicted one, with the interval that decided.

    Attributes:
        claim: its id.
        kind: of which kind, a key of `differences.PANELS`.
        off, low, high: measured less predicted, and the ends of its interval; of several constants
            of the rates the one furthest off, and the ends of all intervals.
        margin: what counts as no difference.
        verdict: "holds", "fails" or "undecided".
        control: whether it is one of the claim's control, which must fail.
        small: the ends of what it is at small widths, over all constants; NaN if not known.
    """

    claim: str
    kind: str
    off: float
    low: float
    high: float
    margin: float
    verdict: Outcome
    control: bool = False
    small: tuple[float, float] = (math.nan, math.nan)


@dataclasses.dataclass(frozen=True)
class DrawnTraining:
    """How a layer is predicted to train under some rates: exponents of n.

    Attributes:
        method: "LoRA" or "LoRA+".
        init: "A" or "B".
        sizes: by name, of eta_A, eta_B, delta1, delta2, Z_A; None for exactly 0.
        verdict: a value of `terms.Verdict`.
    """

    method: str
    init: str
    sizes: Mapping[str, Fraction | None]
    verdict: str


@dataclasses.dataclass(frozen=True)
class Curve:
    """Slopes between neighbouring widths, with half their intervals; None where there is none."""

    label: str
    log2_widths: tuple[float, ...]
    slopes: tuple[float | None, ...]
    half_widths: tuple[float | None, ...]
    limit: float
