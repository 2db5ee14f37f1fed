"""The words that both wings speak, theory and measurement: names, classes and settings. No JAX.

======  =================  =========  =======
init    in the paper       A          B
======  =================  =========  =======
"A"     Init[1]            N(0, 1/n)  0
"B"     Init[2]            0          N(0, 1)
"both"  the two-layer toy  N(0, 1/n)  N(0, 1)
======  =================  =========  =======

========  ===============================================
weight    pretrained W* under the two-layer toy's adapter
========  ===============================================
"zero"    0, as in eq. 3
"random"  N(0, 1/n)
========  ===============================================

===============  ===========================
update           a step of
===============  ===========================
"gd"             full-batch gradient descent
"sign"           its sign
"adam", "adamw"  Adam's processed gradient
===============  ===========================
"""

import dataclasses
import enum
from fractions import Fraction
from typing import Literal, NamedTuple, get_args

Init = Literal["A", "B", "both"]
INITS: tuple[Init, ...] = get_args(Init)
INIT_NAMES: dict[str, str] = {"A": "Init[1]", "B": "Init[2]", "both": "both random"}

Pretrained = Literal["zero", "random"]
PRETRAINED: tuple[Pretrained, ...] = get_args(Pretrained)

Outcome = Literal["holds", "fails", "undecided"]


class Verdict(enum.Enum):
    """What exponents say about training (Definitions 3 to 5)."""

    UNSTABLE = "unstable"
    NO_LEARNING = "stable, no feature learning"
    A_ALONE = "A alone"
    B_ALONE = "B alone"
    INSIDE = "efficient, but unstable inside"
    EFFICIENT = "efficient"


class Class(NamedTuple):
    """A verdict; of an unstable run the first t at which f is not O(1), or None if it is late."""

    verdict: Verdict
    from_t: int | None = None

    def __str__(self) -> str:
        if self.verdict is not Verdict.UNSTABLE:
            return self.verdict.value
        return f"unstable from t = {self.from_t}" if self.from_t else "unstable later"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a claim speaks of and a measurement runs.

    Attributes:
        model: one that is solved exactly, "map" (eq. 2, at any width), "layer_map" (a LoRA layer,
            n to n, under a 1/n readout, at any width), "rank_map" (the same over ranks at one
            width, where exponents are those of r), "two_layer_limit" (eq. 3 for wide nets); or one
            that is trained in vectors, a probe of the experiments' registry.
        update: gd, sign or adam.
        init: "A" (Init[1]), "B" (Init[2]) or "both".
        c_a, c_b: η_a = k_a n^c_a, η_b = k_b n^c_b (of r for "rank_map"), at constants k_a, k_b that
            a claim must not depend on.
        start: aᵀx (or b) starts at n^start instead of 1 ("map"), B at r^start ("rank_map").
        gamma: of the multiplier r^−γ ("rank_map").
        c_n: exponent of the fixed n in both rates ("rank_map").
        samples: how many.
        inputs, outputs: of a layer that is not square, n^inputs to n^outputs ("layer_map").
        near: whether targets are Θ(1), so that residuals may change their signs; those of
            "layer_map" and "rank_map" are so far away otherwise that none does.
        asked: the rates are not given but follow: what moves Z_B by a constant that is asked for
            (k_a/k_b is their ratio); c_a and c_b then say nothing.
    """

    model: str
    update: str
    init: str
    c_a: Fraction = Fraction(0)
    c_b: Fraction = Fraction(0)
    start: Fraction = Fraction(0)
    gamma: Fraction = Fraction(0)
    c_n: Fraction = Fraction(0)
    samples: int = 1
    inputs: Fraction = Fraction(1)
    outputs: Fraction = Fraction(1)
    asked: bool = False
    near: bool = False

    @property
    def base(self) -> str:
        """What is varied: n, or r."""
        return "r" if self.model == "rank_map" else "n"

    def __str__(self) -> str:
        rates = "ΔZ_B asked for" if self.asked else f"({self.c_a}, {self.c_b})"
        extra = f", γ = {self.gamma}" if self.model == "rank_map" else ""
        extra += f", start {self.base}^{self.start}" if self.start else ""
        extra += f", {self.samples} samples" if self.samples > 1 else ""
        extra += ", targets Θ(1)" if self.near else ""
        if (self.inputs, self.outputs) != (1, 1):
            extra += f", n^{self.inputs} to n^{self.outputs}"
        return f"{self.model}, {self.update}, {INIT_NAMES[self.init]}, {rates}{extra}"
