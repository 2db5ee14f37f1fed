"""Claims about the linear toy (eq. 2): Propositions 1 and 2, their proofs, what they rest on."""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from lora_theory.theory.claims.records import (
    PAPER,
    Claim,
    Escape,
    Exponents,
    Identity,
    Phase,
    Reduction,
    at,
    nearby,
)
from lora_theory.theory.regions import lattice

EXACT = Fraction(1, 50)  # The margin of what is solved exactly.
EFFICIENT: dict[str, str | None] = {"f": "0", "delta1": "0", "delta2": "0", "delta3": "0"}
DIAGONAL = tuple((Fraction(i, 12), Fraction(i, 12)) for i in range(-24, 13))
TWELFTH = Fraction(1, 12)
TWO, HALF = ("-1", "0"), ("-1/2", "-1/2")
# A twelfth below a boundary, once sign updates have settled.
_FROZEN: dict[str, str | None] = {"f": "-1/12", "delta1": "-1/12", "delta2": "-1/12"}
# Exponents σ of aᵀx (Init[1]) or b (Init[2]) at the start.
_SHIFTS = tuple(Fraction(i, 8) for i in (-4, -2, -1, 0, 1, 2, 4))


def claims() -> Iterator[Claim]:
    """Claims about gradient descent and sign updates of eq. 2."""
    yield from _propositions()
    yield from _starts()
    yield from _boundaries()


def _propositions() -> Iterator[Claim]:
    for init, number, f in (("A", 1, "-1/2"), ("B", 2, "1/2")):
        said = at("map", "gd", init, HALF, 1, f=f)
        yield Claim(
            f"prop1-init{number}",
            f"Gradient descent with one rate n^c, Init[{number}]: no c is efficient, of those in "
            f"twelfths from −2 to 1; −1/2, which the δ-conditions ask for, gives f = Θ(n^{f}) at "
            "t = 1",
            f"{PAPER}, Proposition 1",
            (Phase("gd", init, DIAGONAL, init), said),
            "init of the wrong variance (the random factor starts at n^1/4); rates a little "
            "larger; the classes of rates n^1/12 larger",
            (
                at("map", "gd", init, HALF, 1, start="1/4", f=f),
                nearby(said, EXACT),
                Phase("gd", init, DIAGONAL, init, TWELFTH),
            ),
        )
    for init, number in (("A", 1), ("B", 2)):
        said = at("map", "gd", init, TWO, 2, predicted=EFFICIENT)
        yield Claim(
            f"prop2-init{number}",
            f"η_a = Θ(1/n), η_b = Θ(1) is efficient under gradient descent, Init[{number}]: "
            "f, δ¹, δ², δ³ = Θ(1) for t > 1, of one sample and of four",
            f"{PAPER}, Proposition 2",
            (
                said,
                at("map", "gd", init, TWO, 5, predicted=EFFICIENT),
                at("map", "gd", init, TWO, 2, samples=4, predicted=EFFICIENT),
                at("map", "gd", init, TWO, 4, samples=4, predicted=EFFICIENT),
            ),
            "one rate where two are needed, (−1, −1); rates a little off",
            (
                at("map", "gd", init, ("-1", "-1"), 2, predicted=EFFICIENT),
                nearby(said, EXACT),
            ),
        )
    c = Fraction(1, 4)
    rates = ((-1, 0), (-2 * c, -2 * c), (-3 * c, -3 * c), (-4 * c, -4 * c), (-4 * c, -c))
    pairs = tuple((Fraction(a), Fraction(b)) for a, b in rates)
    reduced: list[Any] = [("linear", "gd", n, ("A", "B", "both"), pairs) for n in (1, 2)]
    reduced.append(("layer", "gd", 1, ("A", "B"), pairs))
    yield Claim(
        "reduction-gd",
        "The exact map is the linear toy in vectors, to rounding: at (−1, 0), at one rate and "
        "elsewhere, of all inits, one sample and two, t ≤ 3; so what is said of the map is said of "
        "it. A LoRA layer of one sample and a one-sided init has the same map",
        "eq. 2",
        tuple(Reduction(*one) for one in reduced),
        "‖x‖² one hundredth larger",
        tuple(dataclasses.replace(Reduction(*one), wrong="gram") for one in reduced),
    )
    yield Claim(
        "sum-of-deltas",
        "Δf = δ¹ + δ² + δ³ with δ¹ = −η_a b² U ‖x‖², δ² = −η_b (aᵀx)² U, "
        "δ³ = η_a η_b U² b (aᵀx) ‖x‖²: an identity of algebra, which tests the code alone",
        f"{PAPER}, section 3.1",
        (Identity(("delta1", "delta2", "delta3")),),
        "δ³ left out",
        (Identity(("delta1", "delta2")),),
    )
    said = at("map", "gd", "A", ("-3/4", "-3/4"), 5, f="-3/4", Z_A="0")
    yield Claim(
        "shared-rate-f",
        "Gradient descent with one rate, Init[1], c ≤ −1/2: f = Θ(n^c), so nothing is learned",
        f"{PAPER}, proof of Proposition 1",
        (
            *(at("map", "gd", "A", (c, c), 5, f=c, Z_A="0") for c in ("-1/2", "-1")),
            said,
            at("map", "gd", "A", HALF, 3, samples=4, f="-1/2", Z_A="0"),
        ),
        "two rates instead of one, (−1, 0); rates a little off",
        (at("map", "gd", "A", TWO, 5, f="-1/2", Z_A="0"), nearby(said, EXACT)),
    )


def _starts() -> Iterator[Claim]:
    """How the rates depend on the size of the random factor at the start, n^σ."""
    said = at("map", "gd", "A", HALF, 2, start="1/4", predicted=EFFICIENT)
    yield Claim(
        "init-scale",
        "Proposition 1 rests on aᵀx = Θ(1): with aᵀx = Θ(n^1/4) the shared rate n^−1/2 gives "
        "f, δ¹, δ², δ³ = Θ(1), by the symmetry (b, s) → (b/κ, κ s)",
        "symmetry of eq. 2",
        (said, at("map", "gd", "A", HALF, 5, start="1/4", predicted=EFFICIENT)),
        "the paper's init, aᵀx = Θ(1); rates a little off",
        (at("map", "gd", "A", HALF, 5, predicted=EFFICIENT), nearby(said, EXACT)),
    )
    pairs = tuple(_efficient_from(init, sigma) for init in "AB" for sigma in _SHIFTS)
    yield Claim(
        "init-shift",
        "With the random factor at n^σ the efficient pair is (−1 + 2σ, −2σ) from Init[1], "
        "(−1 − 2σ, 2σ) from Init[2]: σ = −1/2, −1/4, −1/8, 0, 1/8, 1/4, 1/2",
        "symmetry of eq. 2",
        pairs,
        "(−1, 0) at σ = 1/8, of either init; rates a little off",
        (
            *(at("map", "gd", i, TWO, 3, start="1/8", predicted=EFFICIENT) for i in "AB"),
            nearby(pairs[0], EXACT),
        ),
    )
    largest = tuple(_shared_from(sigma, off) for sigma in _SHIFTS for off in (0, TWELFTH))
    yield Claim(
        "init-shift-shared",
        "From Init[1] with aᵀx = Θ(n^σ) the largest stable shared rate is n^c, "
        "c = min(−1/2, −2σ), with f = Θ(n^(c+2σ)); past it, at c + 1/12, f is Θ(n^1/12) at once "
        "where c = −2σ, and grows by n^1/6 a step where c = −1/2",
        "recursion of eq. 2",
        largest,
        "c = −1/2 whatever σ: at σ = 1/2; rates a little off",
        (
            at("map", "gd", "A", HALF, 2, start="1/2", f="0"),
            nearby(largest[0], EXACT),
        ),
    )


def _efficient_from(init: str, sigma: Fraction) -> Exponents:
    shift = 2 * sigma if init == "A" else -2 * sigma
    rates = str(-1 + shift), str(-shift)
    return at("map", "gd", init, rates, 3, start=str(sigma), predicted=EFFICIENT)


def _shared_from(sigma: Fraction, off: Fraction | int) -> Exponents:
    """At c + off: past c = −2σ f grows at once, past c = −1/2 by g a step."""
    c = min(Fraction(-1, 2), -2 * sigma) + off
    t = 1 if c + 2 * sigma > 0 else 2
    f = c + 2 * sigma + (t - 1) * max(Fraction(0), 2 * c + 1)
    return at("map", "gd", "A", (str(c), str(c)), t, start=str(sigma), f=str(f))


def _boundaries() -> Iterator[Claim]:
    twelfths = lattice(12)
    for update, words in (("gd", "gradient descent"), ("sign", "sign updates")):
        for init, other, number in (("A", "B", 1), ("B", "A", 2)):
            yield Claim(
                f"phase-{update}-init{number}",
                f"The phase diagram of {words}, Init[{number}]: the class of every (c_a, c_b) in "
                "twelfths from −2 to 1, and the t at which it becomes unstable",
                f"{PAPER}, Propositions 1 and 2"
                if update == "gd"
                else f"{PAPER}, Theorem 1 and its recursions",
                (Phase(update, init, twelfths, init),),
                f"the diagram of Init[{3 - number}]; the same diagram for rates n^1/12 larger",
                (
                    Phase(update, init, twelfths, other),
                    Phase(update, init, twelfths, init, TWELFTH),
                ),
            )
    below = {"f": "-1/12", "delta1": "-1/6", "delta2": "-1/12", "delta3": "-1/6"}
    said = at("map", "gd", "A", ("-1", "-1/12"), 8, predicted=below)
    yield Claim(
        "boundary-gd",
        "Gradient descent, both sides of each boundary: f = Θ(n^c_b) past c_b = 0; Init[1] with "
        "c_a + c_b = −1 ± 1/12: f = Θ(n^(c_b + (t−1)g)), or n^c_b for ever; Init[2]: "
        "f = Θ(n^(c_a+1)); past it, where both factors grow, the exponent of f becomes three times "
        "itself plus g = c_a + c_b + 1 at each step, those of b and aᵀx twice their own and c_b, "
        "c_a + 1 more, and the other's",
        f"{PAPER}, Proposition 2 (c_a + c_b = −1 is necessary)",
        (
            at("map", "gd", "A", ("-1", "1/12"), 1, f="1/12", B="1/12", Z_A="0"),
            at("map", "gd", "A", ("-1", "1/12"), 2, f="1/3", B="1/6", Z_A="1/6"),
            at("map", "gd", "A", ("-1", "1/12"), 4, f="10/3", B="5/3", Z_A="5/3"),
            said,
            at("map", "gd", "A", ("-1/2", "-5/12"), 6, f="0"),
            at("map", "gd", "A", ("-1/2", "-5/12"), 7, f="1/12"),
            at("map", "gd", "A", ("-1/2", "-5/12"), 8, f="1/3"),
            at("map", "gd", "A", ("-1/2", "-7/12"), 8, f="-7/12", delta1="-2/3", delta2="-7/12"),
            at("map", "gd", "A", ("-13/12", "0"), 8, f="0", delta1="-1/12", delta2="0"),
            at("map", "gd", "B", ("-11/12", "-1"), 1, f="1/12"),
            at("map", "gd", "B", ("-11/12", "-1"), 8, f="5/6"),
            at("map", "gd", "B", ("-13/12", "0"), 8, f="-1/12", delta1="-1/12", delta2="-1/6"),
            at("map", "gd", "B", ("-1", "-1/12"), 8, f="0", delta1="0", delta2="-1/12"),
        ),
        "the sides exchanged; growth of a residual U that stays 1, and of U = f² + 1; rates a "
        "little off",
        (
            at("map", "gd", "A", ("-1/2", "-7/12"), 7, f="1/12"),
            at("map", "gd", "A", ("-1", "1/12"), 4, f="1/3"),
            at("map", "gd", "A", ("-1", "1/12"), 4, f="13"),
            nearby(said, EXACT),
        ),
    )
    said = at("map", "sign", "A", ("-7/12", "-1/2"), 4, f="-1/12", Z_A="5/12")
    yield Claim(
        "boundary-sign",
        "Sign updates at rates that differ a little from step to step, both sides of each boundary "
        "(f stands for Z_B): exponents do not grow with t",
        f"{PAPER}, Theorem 1 and its recursions",
        (
            at("map", "sign", "A", ("-1", "1/12"), 1, f="1/12"),
            *(at("map", "sign", "A", ("-1", "-1/12"), t, predicted=_FROZEN) for t in (3, 6)),
            *(at("map", "sign", "A", ("-5/12", "-1/2"), t, f="1/12") for t in (2, 5)),
            said,
            at("map", "sign", "B", ("-11/12", "-1"), 1, f="1/12"),
            *(at("map", "sign", "B", ("-13/12", "0"), t, predicted=_FROZEN) for t in (3, 6)),
        ),
        "a factor of n missing, γ[A_t Z] = γ[η_A]; rates a little off",
        (
            at("map", "sign", "A", ("-7/12", "-1/2"), 4, f="-1/12", Z_A="-7/12"),
            nearby(said, EXACT),
        ),
    )
    escapes = {init: Escape(init, Fraction(sign, 4)) for init, sign in (("A", -1), ("B", 1))}
    deeper = {init: Escape(init, Fraction(sign, 3)) for init, sign in (("A", -1), ("B", 1))}
    little = 1 + Fraction(7, 4) * EXACT
    yield Claim(
        "escape",
        "On the line c_a + c_b = −1, at c_b = ±1/4, ±1/3, gradient descent leaves its saddle, "
        "where f = Θ(n^−|c_b|), after |c_b| / (2 ln(1 + √(k_a k_b ‖x‖²/n) |y|)) steps for each "
        "unit of ln n, by seed: "
        "no feature learning at any fixed t, from either init",
        "recursion of eq. 2 (Proposition 2 asks for c_b = 0)",
        (*escapes.values(), *deeper.values()),
        "no root; 1 in place of |y|; c_b a little off",
        tuple(
            dataclasses.replace(escape, **wrong)
            for escape in escapes.values()
            for wrong in ({"wrong": "root"}, {"wrong": "target"}, {"like": little * escape.c_b})
        ),
    )
    half_line = at("map", "sign", "A", ("-3/4", "-1/4"), 4, delta1="0", delta2="0", Z_A="1/4")
    yield Claim(
        "half-line",
        "By the δ-criterion from t = 3 on a half-line is efficient: sign updates at rates that "
        "differ a little from step to step, Init[1], c_a + c_b = −1, c_b < 0 has δ = Θ(1) (t = 3, "
        "4, 6), but Z_A = Θ(n^(c_a+1)); there uniqueness in Theorem 1 rests on Z_A = O(1). At "
        "t = 2 δ² is still Θ(n^c_b)",
        f"{PAPER}, Theorem 1 with Definition 3",
        (
            at("map", "sign", "A", ("-3/4", "-1/4"), 2, f="0", delta1="0", delta2="-1/4"),
            half_line,
            *(
                at("map", "sign", "A", ("-3/4", "-1/4"), t, delta1="0", delta2="0", Z_A="1/4")
                for t in (3, 6)
            ),
            at("map", "sign", "A", ("0", "-1"), 4, f="0", delta1="0", delta2="0", Z_A="1"),
            at("map", "sign", "B", ("-5/4", "1/4"), 4, f="0", delta1="0", delta2="0", B="1/4"),
        ),
        "Z_A = O(1) on the half-line; rates a little off",
        (
            at("map", "sign", "A", ("-3/4", "-1/4"), 4, delta1="0", delta2="0", Z_A="0"),
            nearby(half_line, EXACT),
        ),
    )
