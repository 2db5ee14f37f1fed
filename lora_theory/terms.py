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
        model: "map" (the scalar map of eq. 2, at any width), or a probe of the experiments'
            registry: "linear" (eq. 2 in vectors), "layer" (a LoRA layer, n to n, with a 1/n
            readout), "two_layer" (eq. 3), "rank" (the layer at one width over ranks, where
            exponents are those of r).
        update: gd, sign or adam.
        init: "A" (Init[1]), "B" (Init[2]) or "both".
        c_a, c_b: η_a = k_a n^c_a, η_b = k_b n^c_b (of r for "rank"; c_a None: A is frozen).
        start: aᵀx (or b) starts at n^start instead of 1 ("map"), B at r^start ("rank").
        gamma: of the multiplier r^−γ ("rank").
        constant: factor on both rates: past a crossover, γ does not see it.
        c_n: exponent of the fixed n in both rates ("rank").
    """

    model: str
    update: str
    init: str
    c_a: Fraction | None
    c_b: Fraction
    start: Fraction = Fraction(0)
    gamma: Fraction = Fraction(0)
    constant: Fraction = Fraction(1)
    c_n: Fraction = Fraction(0)

    @property
    def base(self) -> str:
        """What is varied: n, or r."""
        return "r" if self.model == "rank" else "n"

    def __str__(self) -> str:
        rates = f"({'-' if self.c_a is None else self.c_a}, {self.c_b})"
        extra = f", γ = {self.gamma}" if self.model == "rank" else ""
        extra += f", start {self.base}^{self.start}" if self.start else ""
        extra += f", rates × {self.constant}" if self.constant != 1 else ""
        return f"{self.model}, {self.update}, {INIT_NAMES[self.init]}, {rates}{extra}"
