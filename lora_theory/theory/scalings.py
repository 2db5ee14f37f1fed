"""How landscapes over (η_A, η_B) are predicted to move with the width: exponents in n, as data.

They are exponents of the loss at a fixed t, from the size of f in the recursions of
`lora_theory.theory.rules`; where a paper says the same, it is named.
"""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction

from lora_theory import arguments
from lora_theory.terms import Init

PAPER = "LoRA+, Propositions 1, 2"
THEOREM = "LoRA+, Theorem 1"
RECURSION = "recursion"


@dataclasses.dataclass(frozen=True)
class Moves:
    """How one family of landscapes moves with n.

    Attributes:
        collapse: (c_a, c_b): maps over (n^−c_a η_A, n^−c_b η_B) fall on one another.
        alone: whether c_a − c_b is determined as well, or c_a + c_b alone: the map is then one of
            η_A · η_B, whatever λ.
        places: exponents of optima and edges by name; what is not there is not predicted: an edge
            along a factor that never moves, an optimum in a valley.
        curvature: exponents of the largest eigenvalue in A, in B, in both, and of the ratio of A to
            B; None where a block is exactly 0. Of Adam as it preconditions after some small steps
            at (−1, 0).
        source: of the prediction.
    """

    collapse: tuple[Fraction, Fraction]
    places: Mapping[str, Fraction]
    curvature: Mapping[str, Fraction | None]
    source: str
    alone: bool = True


def _moves(
    c_a: str,
    c_b: str,
    source: str,
    curvature: Mapping[str, str | None],
    places: Mapping[str, str],
    *,
    alone: bool = True,
) -> Moves:
    return Moves(
        (Fraction(c_a), Fraction(c_b)),
        {name: Fraction(e) for name, e in places.items()},
        {name: None if e is None else Fraction(e) for name, e in curvature.items()},
        source,
        alone,
    )


_TWO = {"eta_a": "-1", "eta_b": "0", "ratio": "1"}

# Both random: η_A n bounds ΔZ_A, and with it the shared rate. Init[1]: A rests where B does, and
# one rate is stable up to n^−1/2. Init[2]: as with both random, B rests where A does. One-sided,
# the joint Hessian has the pair ± |residual| n^1/2 as well.
_TWO_LAYER_GD: dict[str, Moves] = {
    "both": _moves(
        "-1",
        "0",
        PAPER,
        {"A": "1", "B": "0", "both": "1", "ratio": "1"},
        {**_TWO, "equal": "-1", "edge A": "-1", "edge B": "0", "edge equal": "-1"},
    ),
    "A": _moves(
        "-1",
        "0",
        PAPER,
        {"A": None, "B": "0", "both": "1/2"},
        {**_TWO, "equal": "-1/2", "edge B": "0", "edge equal": "-1/2"},
    ),
    "B": _moves(
        "-1",
        "0",
        PAPER,
        {"A": "1", "B": None, "both": "1"},
        {**_TWO, "equal": "-1", "edge A": "-1", "edge equal": "-1"},
    ),
}
# Init[1]: f = w (ΔB) (A Z + ΔA Z) = Θ(η_B (1 + n η_A)). Init[2]: f = w (B + ΔB) ΔA Z with
# w B = Θ(n^−1/2), so Θ((n^−1/2 + η_B) n η_A), which n^1/2 η_A and n^1/2 η_B decide. As Adam
# preconditions, A's block is Θ(n |w B|) and B's Θ(|Z_A|).
_LAYER: dict[str, Moves] = {
    "A": _moves(
        "-1",
        "0",
        THEOREM,
        {"A": "1", "B": "0", "ratio": "1"},
        {**_TWO, "equal": "-1/2", "edge B": "0", "edge equal": "-1/2"},
    ),
    "B": _moves(
        "-1/2",
        "-1/2",
        RECURSION,
        {"A": "1/2", "B": "0", "ratio": "1/2"},
        {"equal": "-1/2", "edge A": "-1/2", "edge equal": "-1/2"},
        alone=False,
    ),
}
_MOVES: dict[tuple[str, str], Mapping[str, Moves]] = {
    ("two_layer", "gd"): _TWO_LAYER_GD,
    **{("feature_layer", update): _LAYER for update in ("sign", "adam")},
}
SHARED: Mapping[str, tuple[Fraction, Fraction]] = {
    "one rate n^−1/2": (Fraction(-1, 2), Fraction(-1, 2)),
    "one rate n^−1": (Fraction(-1), Fraction(-1)),
}
"""Scalings of one shared rate, with which the collapse is compared."""


def moves(model: str, update: str, init: Init) -> Moves | None:
    """What is predicted for a family; None if nothing is.

    Args:
        model: a name of the experiments' registry: "two_layer" (eq. 3; one-sided inits with a
            random W*), "feature_layer" (a LoRA layer on frozen features with a 1/n readout).
        update: "gd", "sign" or "adam".
        init: "A" (Init[1]), "B" (Init[2]) or "both".

    >>> found = moves("feature_layer", "adam", "A")
    >>> [str(c) for c in found.collapse], str(found.places["equal"])
    (['-1', '0'], '-1/2')
    >>> moves("two_layer", "sign", "both") is None
    True
    """
    return _MOVES.get((model, update), {}).get(init)


def rank_law(init: Init, gamma: float, rho: float) -> Fraction:
    """The exponent in r of the shared rate at which ΔZ_B does not depend on r (Adam or sign).

    =======  ============  ===================
    init     B's variance  η*
    =======  ============  ===================
    Init[1]  0             n^−1/2 r^−(1 − γ)/2
    Init[2]  1/r           n^−1 r^γ
    Init[2]  1             n^−1 r^(γ − 1/2)
    =======  ============  ===================

    Args:
        init: "A" or "B".
        gamma: of the multiplier r^−γ.
        rho: of B's variance r^ρ.

    Raises:
        ValueError: another init.

    >>> str(rank_law("A", 0.5, 0)), str(rank_law("B", 1, -1)), str(rank_law("B", 1, 0))
    ('-1/4', '1', '1/2')
    """
    power, spread = _powers(init, gamma, rho)
    if init == "A":
        return -(1 - power) / 2
    return power - (1 + spread) / 2


def best_rank_law(init: Init, gamma: float, rho: float) -> Fraction:
    """The exponent in r of the shared rate at which f, and the loss, do not depend on r.

    Under Init[1] that of `rank_law`. Under Init[2] the loss sees B's start through w·B₀, which is
    Θ(n^−1/2 r^(ρ/2)) in each of r terms that Adam or sign updates add with one sign:

        f = Θ(r^(1 − γ) (n^−1/2 r^(ρ/2) + η) n η),

    so η = Θ(n^−1/2 r^e) with the smaller of the exponents of either term, as r → ∞:
    e = min(γ − 1 − ρ/2, (γ − 1)/2). What ΔZ_B asks for, n^−1 r^(γ − (1 + ρ)/2), is far below.

    Args:
        init: "A" or "B".
        gamma: of the multiplier r^−γ.
        rho: of B's variance r^ρ.

    Raises:
        ValueError: another init.

    >>> [str(best_rank_law("B", gamma, rho)) for gamma, rho in ((0, 0), (0.5, -1), (1, -1))]
    ['-1', '-1/4', '0']
    """
    power, spread = _powers(init, gamma, rho)
    together = (power - 1) / 2
    return together if init == "A" else min(power - 1 - spread / 2, together)


def _powers(init: Init, gamma: float, rho: float) -> tuple[Fraction, Fraction]:
    if init not in ("A", "B"):
        raise ValueError(f'init: must be "A" or "B" (got {init!r})')
    power, spread = arguments.finite("gamma", gamma), arguments.finite("rho", rho)
    return Fraction(power).limit_denominator(100), Fraction(spread).limit_denominator(100)
