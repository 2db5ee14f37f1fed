"""Claims about the two-layer toy (eq. 3), both factors random as in the paper."""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction

from lora_theory.theory.claims.linear_toy import EFFICIENT, EXACT, HALF, TWO
from lora_theory.theory.claims.records import PAPER, Claim, Exponents, Limit, Phase, at, nearby
from lora_theory.theory.regions import lattice

_VECTORS = Fraction(1, 10)  # The margin of what is trained in vectors.


def claims() -> Iterator[Claim]:
    """Claims about eq. 3: by its large-n limit, and where that does not reach in vectors."""

    def limit(rates: tuple[str, str], t: int = 1, **predicted: str | None) -> Exponents:
        return at("two_layer_limit", "gd", "both", rates, t, samples=8, predicted=predicted)

    def vectors(**predicted: str | None) -> Exponents:
        return at("two_layer", "gd", "both", TWO, 1, samples=8, predicted=predicted)

    efficient = tuple(limit(TWO, t, **EFFICIENT) for t in (1, 2, 3))
    yield Claim(
        "two-layer-efficient",
        "Two-layer toy with both factors random, gradient descent at (−1, 0): "
        "δ¹, δ², δ³ of f = Θ(1)",
        f"{PAPER}, section 3.3 and appendix C.1.1",
        efficient,
        "one rate, (−1, −1); rates a little off",
        (limit(("-1", "-1"), 1, **EFFICIENT), nearby(efficient[0], EXACT)),
    )
    others = (
        limit(HALF, delta1="1/2", delta2="-1/2", delta3="0"),
        limit(("-1", "-1"), delta1="0", delta2="-1", delta3="-1"),
        limit(("0", "0"), delta1="1", delta2="0", delta3="1"),
    )
    yield Claim(
        "two-layer-others",
        "Two-layer toy, gradient descent at t = 1: δ¹ = Θ(n^(c_a+1)), δ² = Θ(n^c_b), "
        "δ³ = Θ(n^(c_a+c_b+1)) at (−1/2, −1/2), (−1, −1), (0, 0)",
        "recursion for eq. 3",
        others,
        "the linear toy's exponents (B = 0 at the start); rates a little off",
        (
            limit(HALF, delta1=None, delta2="-1/2", delta3=None),
            nearby(others[1], EXACT),
        ),
    )
    quarters = lattice(4)
    yield Claim(
        "phase-two-layer",
        "The phase diagram of the two-layer toy, gradient descent, both factors random: the class "
        "of every (c_a, c_b) in quarters from −2 to 1, and the t at which it becomes unstable",
        "recursion for eq. 3",
        (Phase("gd", "both", quarters, "both", model="two_layer_limit"),),
        "the same diagram for rates n^1/12 larger",
        (Phase("gd", "both", quarters, "both", Fraction(1, 12), "two_layer_limit"),),
    )
    limits = Limit((Fraction(-1), Fraction(0)), (1, 2))
    yield Claim(
        "limit-two-layer",
        "The limit for wide nets, on which claims above are judged, is the toy in vectors: at "
        "n = 1024, (−1, 0), t = 1 and 2, sizes agree on average, at constants below 1/2",
        "derived for this project, not proven",
        (limits,),
        "rates of the limit 2^0.9 times as large",
        (dataclasses.replace(limits, wrong=Fraction(9, 10)),),
    )
    coordinates = vectors(delta1_Z_B="0", delta2_Z_B="0")
    yield Claim(
        "two-layer-coordinates",
        "Two-layer toy at (−1, 0): B's contribution to the coordinates of Z_B is Θ(1) too, "
        "as Definition 5 asks",
        f"{PAPER}, Definition 5 for eq. 3",
        (coordinates,),
        "A's contribution is taken for Θ(n^−1/2)",
        (vectors(delta1_Z_B="-1/2"),),
        recorded="fails",
        reason="W_out ~ N(0, 1/n) makes B's gradient Θ(n^−1/2) a coordinate: B's move is "
        "spread over n rows and adds up to Θ(1) in f alone",
    )
    lazy = vectors(delta2_Z_B="-1/2", dB="-1/2")
    yield Claim(
        "two-layer-lazy-rows",
        "Two-layer toy at (−1, 0): B moves Z_B by Θ(n^−1/2) per coordinate and f by Θ(1)",
        "recursion for eq. 3",
        (lazy, limit(TWO, 1, delta2="0"), limit(TWO, 3, delta2="0")),
        "the layer's exponents (Theorem 1); rates a little off",
        (vectors(delta2_Z_B="0", dB="0"), nearby(lazy, _VECTORS)),
    )
    readout = at("two_layer", "sign", "both", TWO, 1, samples=8, delta2="1/2", delta2_Z_B="0")
    yield Claim(
        "readout-not-mup",
        "Sign updates on the two-layer toy with its W_out ~ N(0, 1/n) at (−1, 0): f = Θ(n^1/2), "
        "since ΔB is aligned with W_out; Theorem 1 speaks of Z_B, not of this f",
        "recursion for eq. 3 with sign updates",
        (readout,),
        "f = Θ(1), as under a 1/n readout; rates a little off",
        (
            at("two_layer", "sign", "both", TWO, 1, samples=8, delta2="0"),
            nearby(readout, _VECTORS),
        ),
    )
