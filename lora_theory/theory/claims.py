"""Every claim as data: what is said, where, in which setting, and the exponents that follow.

The exponents here are what the sources state (or what follows from a stated formula in a line);
each case names the update rule from which `derived` derives them again, as the tests do. No JAX.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from fractions import Fraction

from lora_theory.terms import INIT_NAMES, Class, Init, Outcome, Setting
from lora_theory.theory import rules
from lora_theory.theory.exponents import Rule, derive, rational
from lora_theory.theory.regions import lattice, predicted_class
from lora_theory.theory.scalings import SHARED, Moves, moves

PAPER = "LoRA+"
INIT = "arXiv 2406.08447"
MUA = "arXiv 2602.06204"
RSLORA = "arXiv 2312.03732"
REGRET = "LoRA Without Regret, 2025"


@dataclasses.dataclass(frozen=True)
class Exponents:
    """Predicted exponents of one setting at step t; None means identically zero.

    Attributes:
        setting: what is run.
        t: the step.
        predicted: quantity -> exponent of n (of r, where the rank is varied).
        rule: the update rule from which they follow.
    """

    setting: Setting
    t: int
    predicted: Mapping[str, Fraction | None]
    rule: Rule


@dataclasses.dataclass(frozen=True)
class Phase:
    """The classes of points (c_a, c_b) of the scalar map are those predicted for the init `like`
    (and, to be wrong by little, for rates n^shift larger).
    """

    update: str
    init: str
    points: tuple[tuple[Fraction, Fraction], ...]
    like: str
    shift: Fraction = Fraction(0)

    def classes(self) -> list[Class]:
        """The predicted class of every point."""
        rule = rules.RULES["map", self.update]
        shifted = [(c_a + self.shift, c_b + self.shift) for c_a, c_b in self.points]
        return [predicted_class(rule, self.like, *point) for point in shifted]


@dataclasses.dataclass(frozen=True)
class Identity:
    """Δf = Σ of the contributions, to rounding; each from its formula in the paper."""

    contributions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Symmetry:
    """Training α/(pq) with p A and q B gives the f_t of α with A and B.

    Bit for bit if p and q are powers of two, to rounding otherwise.

    Attributes:
        model, update, init: what is trained.
        p, q: factors of the initial A and B.
        rate, eps, decay: powers of p (A) and q (B) by which η, Adam's ε and AdamW's weight decay
            are multiplied.
    """

    model: str
    update: str
    init: str
    p: Fraction
    q: Fraction
    rate: int
    eps: int = -1
    decay: int = -1

    @property
    def exact(self) -> bool:
        """Whether p and q are powers of two, by which a float is multiplied without rounding."""
        terms = (term for factor in (self.p, self.q) for term in factor.as_integer_ratio())
        return all(term & (term - 1) == 0 for term in terms)


@dataclasses.dataclass(frozen=True)
class Family:
    """Landscapes of the loss over (η_A, η_B) at several widths: of which model, update and init."""

    model: str
    update: str
    init: Init

    @property
    def moves(self) -> Moves:
        """How they are predicted to move.

        Raises:
            ValueError: nothing is predicted.
        """
        found = moves(self.model, self.update, self.init)
        if found is None:
            raise ValueError(f"{self}: nothing is predicted")
        return found

    def __str__(self) -> str:
        return f"{self.model}, {self.update}, {INIT_NAMES[self.init]}"


@dataclasses.dataclass(frozen=True)
class Collapsing:
    """The maps of a family fall on one another with η_A ∝ n^c_a, η_B ∝ n^c_b.

    Attributes:
        family: which.
        exponents: (c_a, c_b).
        alone: whether each is determined, or c_a + c_b alone.
    """

    family: Family
    exponents: tuple[Fraction, Fraction]
    alone: bool = True

    @property
    def predicted(self) -> Mapping[str, Fraction]:
        """What is judged, by name."""
        c_a, c_b = self.exponents
        return {"c_a": c_a, "c_b": c_b} if self.alone else {"c_a + c_b": c_a + c_b}


@dataclasses.dataclass(frozen=True)
class Placed:
    """A place of a family's landscapes moves as n^exponent; its name is one of `Moves.places`."""

    family: Family
    place: str
    exponent: Fraction

    @property
    def predicted(self) -> Mapping[str, Fraction]:
        """What is judged, by name."""
        return {self.place: self.exponent}


@dataclasses.dataclass(frozen=True)
class Carried:
    """Rates tuned at the least width and carried as n^p, n^q are nearly as good as those tuned at
    the largest.

    Attributes:
        family: which.
        exponents: (p, q).
        shared: whether there is one rate, η_A = η_B, tuned along the line.
    """

    family: Family
    exponents: tuple[Fraction, Fraction]
    shared: bool = False

    @property
    def predicted(self) -> Mapping[str, Fraction]:
        """What is judged, by name: log2 loss of carried over tuned is at most a margin."""
        return {"lost": Fraction(0)}


Moving = Collapsing | Placed | Carried
Case = Exponents | Phase | Identity | Symmetry | Moving


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim, its check and its negative control.

    Attributes:
        id: short name, for the command line.
        statement: in words.
        source: paper, proposition or equation.
        cases: what is measured; the claim holds if all of them do.
        wrong: in words, what is wrong with the control.
        control: the same check with that, which must come out as "fails".
        recorded: the verdict on record, "holds" or "fails".
        reason: why a claim of the literature fails here; empty for one that holds.
    """

    id: str
    statement: str
    source: str
    cases: tuple[Case, ...]
    wrong: str
    control: tuple[Case, ...]
    recorded: Outcome = "holds"
    reason: str = ""


def claims(ids: tuple[str, ...] | None = None) -> list[Claim]:
    """All claims, or those with the given ids.

    Raises:
        ValueError: an unknown id, by name.

    >>> [claim.id for claim in claims(("theorem1-sign",))]
    ['theorem1-sign']
    """
    known = {claim.id: claim for claim in _claims()}
    for name in ids or ():
        if name not in known:
            raise ValueError(f"must be among {', '.join(known)} (got {name})")
    return [known[name] for name in (known if ids is None else ids)]


def derived(case: Exponents) -> dict[str, Fraction | None]:
    """The exponents of a case again, by running its rule; None for identically zero.

    >>> case = claims(("theorem1-sign",))[0].cases[0]
    >>> derived(case) == dict(case.predicted)
    True
    """
    setting = case.setting
    if setting.base == "r":
        at = {"c": setting.c_n, "e": setting.c_b, "gamma": setting.gamma}
        init = "B, variance 1/r" if setting.start else setting.init
        sizes = derive(case.rule, init, at, case.t)[-1]
        return {name: sizes[name].rho for name in case.predicted}
    rates = {"c_a": setting.c_a, "c_b": setting.c_b}
    sizes = derive(case.rule, rules.sized(setting.init, setting.start), rates, case.t)[-1]
    return {name: sizes[name].gamma for name in case.predicted}


def _at(
    model: str,
    update: str,
    init: str,
    rates: tuple[str | None, str],
    t: int,
    *,
    start: str | None = None,
    gamma: str | None = None,
    constant: str | None = None,
    c_n: str | None = None,
    rule: str | None = None,
    **predicted: str | None,
) -> Exponents:
    """A case, with exponents as strings; a predicted None is identically zero.

    The rule is that of the model and the update, unless one of `rules` is named.
    """
    setting = Setting(
        model,
        update,
        init,
        None if rates[0] is None else rational(rates[0]),
        rational(rates[1]),
        start=rational(start or 0),
        gamma=rational(gamma or 0),
        constant=rational(constant or 1),
        c_n=rational(c_n or 0),
    )
    values = {name: None if e is None else rational(e) for name, e in predicted.items()}
    return Exponents(
        setting, t, values, getattr(rules, rule) if rule else rules.RULES[model, update]
    )


_EFFICIENT: dict[str, str | None] = {"f": "0", "delta1": "0", "delta2": "0", "delta3": "0"}
_LAYER: dict[str, str | None] = {"delta1_Z_B": "0", "delta2_Z_B": "0", "Z_A": "0", "B": "0"}
_DIAGONAL = tuple((Fraction(i, 12), Fraction(i, 12)) for i in range(-24, 13))
_TWELFTH = Fraction(1, 12)
_TWO, _HALF = ("-1", "0"), ("-1/2", "-1/2")


def _claims() -> Iterator[Claim]:
    yield from _linear_toy()
    yield from _boundaries()
    yield from _layer()
    yield from _two_layer()
    yield from _rank()
    yield from _symmetries()
    yield from _landscapes()


def _linear_toy() -> Iterator[Claim]:
    for init, number, f in (("A", 1, "-1/2"), ("B", 2, "1/2")):
        yield Claim(
            f"prop1-init{number}",
            f"Gradient descent with one rate n^c, Init[{number}]: no c is efficient; the only c "
            f"that the δ-conditions allow, −1/2, gives f = Θ(n^{f}) at t = 1",
            f"{PAPER}, Proposition 1",
            (Phase("gd", init, _DIAGONAL, init), _at("map", "gd", init, _HALF, 1, f=f)),
            "init of the wrong variance (the random factor starts at n^1/4); the classes of rates "
            "n^1/12 larger",
            (
                _at("map", "gd", init, _HALF, 1, start="1/4", f=f),
                Phase("gd", init, _DIAGONAL, init, _TWELFTH),
            ),
        )
    for init, number in (("A", 1), ("B", 2)):
        yield Claim(
            f"prop2-init{number}",
            f"η_a = Θ(1/n), η_b = Θ(1) is efficient under gradient descent, Init[{number}]: "
            "f, δ¹, δ², δ³ = Θ(1) for t > 1",
            f"{PAPER}, Proposition 2",
            (
                *(_at("map", "gd", init, _TWO, t, **_EFFICIENT) for t in (2, 5)),
                _at("linear", "gd", init, _TWO, 2, **_EFFICIENT),
            ),
            "one rate where two are needed: (−1, −1)",
            (_at("linear", "gd", init, ("-1", "-1"), 2, **_EFFICIENT),),
        )
    yield Claim(
        "sum-of-deltas",
        "Δf = δ¹ + δ² + δ³ with δ¹ = −η_a b² U ‖x‖², δ² = −η_b (aᵀx)² U, "
        "δ³ = η_a η_b U² b (aᵀx) ‖x‖²",
        f"{PAPER}, section 3.1",
        (Identity(("delta1", "delta2", "delta3")),),
        "δ³ left out",
        (Identity(("delta1", "delta2")),),
    )
    yield Claim(
        "shared-rate-f",
        "Gradient descent with one rate, Init[1], c ≤ −1/2: f = Θ(n^c), so nothing is learned",
        f"{PAPER}, proof of Proposition 1",
        (
            *(_at("map", "gd", "A", (c, c), 5, f=c, Z_A="0") for c in ("-1/2", "-3/4", "-1")),
            _at("linear", "gd", "A", ("-3/4", "-3/4"), 3, f="-3/4", Z_A="0"),
        ),
        "two rates instead of one: (−1, 0)",
        (_at("map", "gd", "A", _TWO, 5, f="-1/2", Z_A="0"),),
    )
    yield Claim(
        "init-scale",
        "Proposition 1 rests on aᵀx = Θ(1): with aᵀx = Θ(n^1/4) the shared rate n^−1/2 gives "
        "f, δ¹, δ², δ³ = Θ(1), by the symmetry (b, s) → (b/κ, κ s)",
        "symmetry of eq. 2",
        tuple(_at("map", "gd", "A", _HALF, t, start="1/4", **_EFFICIENT) for t in (2, 5)),
        "the paper's init, aᵀx = Θ(1)",
        (_at("map", "gd", "A", _HALF, 5, **_EFFICIENT),),
    )


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
                    Phase(update, init, twelfths, init, _TWELFTH),
                ),
            )
    yield Claim(
        "boundary-gd",
        "Gradient descent, both sides of each boundary: f = Θ(n^c_b) past c_b = 0; Init[1] with "
        "c_a + c_b = −1 ± 1/12: f = Θ(n^(c_b + (t−1)g)), or n^c_b for ever; Init[2]: "
        "f = Θ(n^(c_a+1)); past it, where both factors grow, the exponent of f becomes three times "
        "itself plus g = c_a + c_b + 1 at each step",
        f"{PAPER}, Proposition 2 (c_a + c_b = −1 is necessary)",
        (
            _at("map", "gd", "A", ("-1", "1/12"), 1, f="1/12"),
            _at("map", "gd", "A", ("-1", "1/12"), 2, f="1/3"),
            _at("map", "gd", "A", ("-1", "1/12"), 4, f="10/3"),
            _at("map", "gd", "A", ("-1", "-1/12"), 8, f="-1/12", delta1="-1/6", delta2="-1/12"),
            _at("map", "gd", "A", ("-1/2", "-5/12"), 6, f="0"),
            _at("map", "gd", "A", ("-1/2", "-5/12"), 7, f="1/12"),
            _at("map", "gd", "A", ("-1/2", "-5/12"), 8, f="1/3"),
            _at("map", "gd", "A", ("-1/2", "-7/12"), 8, f="-7/12", delta1="-2/3", delta2="-7/12"),
            _at("map", "gd", "A", ("-13/12", "0"), 8, f="0", delta1="-1/12", delta2="0"),
            _at("map", "gd", "B", ("-11/12", "-1"), 1, f="1/12"),
            _at("map", "gd", "B", ("-11/12", "-1"), 8, f="5/6"),
            _at("map", "gd", "B", ("-13/12", "0"), 8, f="-1/12", delta1="-1/12", delta2="-1/6"),
            _at("map", "gd", "B", ("-1", "-1/12"), 8, f="0", delta1="0", delta2="-1/12"),
        ),
        "the sides exchanged; growth of a residual U that stays 1, and of U = f² + 1",
        (
            _at("map", "gd", "A", ("-1/2", "-7/12"), 7, f="1/12"),
            _at("map", "gd", "A", ("-1", "1/12"), 4, f="1/3"),
            _at("map", "gd", "A", ("-1", "1/12"), 4, f="13"),
        ),
    )
    yield Claim(
        "boundary-sign",
        "Sign updates, both sides of each boundary (f stands for Z_B): exponents do not grow "
        "with t",
        f"{PAPER}, Theorem 1 and its recursions",
        (
            _at("map", "sign", "A", ("-1", "1/12"), 1, f="1/12"),
            _at("map", "sign", "A", ("-1", "-1/12"), 4, f="-1/12", delta1="-1/12", delta2="-1/12"),
            _at("map", "sign", "A", ("-5/12", "-1/2"), 2, f="1/12"),
            _at("map", "sign", "A", ("-7/12", "-1/2"), 4, f="-1/12", Z_A="5/12"),
            _at("map", "sign", "B", ("-11/12", "-1"), 1, f="1/12"),
            _at("map", "sign", "B", ("-13/12", "0"), 4, f="-1/12", delta1="-1/12", delta2="-1/12"),
        ),
        "a factor of n missing: γ[A_t Z] = γ[η_A]",
        (_at("map", "sign", "A", ("-7/12", "-1/2"), 4, f="-1/12", Z_A="-7/12"),),
    )


def _layer() -> Iterator[Claim]:
    for update, words in (("sign", "Sign"), ("adam", "Adam")):
        yield Claim(
            f"theorem1-{update}",
            f"{words} updates of a LoRA layer at η_A = Θ(1/n), η_B = Θ(1): δ¹, δ², Z_A, B = Θ(1), "
            "both inits",
            f"{PAPER}, Theorem 1",
            tuple(_at("layer", update, init, _TWO, 3, **_LAYER) for init in "AB"),
            "one rate where two are needed: (−1, −1) and (0, 0)",
            (
                _at("layer", update, "B", ("-1", "-1"), 3, **_LAYER),
                _at("layer", update, "A", ("0", "0"), 3, **_LAYER),
            ),
        )
        yield Claim(
            f"assumption1-{update}",
            f"g_A Z = Θ(n) for {words} updates: ΔZ_A = Θ(n · η_A), measured at three rates",
            f"{PAPER}, Assumption 1",
            tuple(
                _at("layer", update, "B", (c, "-1"), 1, dZ_A=dz)
                for c, dz in (("-1", "0"), ("-1/2", "1/2"), ("0", "1"))
            ),
            "a factor of n missing: ΔZ_A = Θ(η_A)",
            (_at("layer", update, "B", ("-1", "-1"), 1, dZ_A="-1"),),
        )
    yield Claim(
        "half-line",
        "By the δ-criterion from t = 3 on a half-line is efficient: Init[1], sign, c_a + c_b = −1, "
        "c_b < 0 has δ = Θ(1), but Z_A = Θ(n^(c_a+1)); there uniqueness in Theorem 1 rests on "
        "Z_A = O(1). At t = 2 δ² is still Θ(n^c_b)",
        f"{PAPER}, Theorem 1 with Definition 3",
        (
            _at("map", "sign", "A", ("-3/4", "-1/4"), 2, f="0", delta1="0", delta2="-1/4"),
            _at("map", "sign", "A", ("-3/4", "-1/4"), 3, f="0", delta1="0", delta2="0", Z_A="1/4"),
            _at("map", "sign", "A", ("0", "-1"), 4, f="0", delta1="0", delta2="0", Z_A="1"),
            _at("map", "sign", "B", ("-5/4", "1/4"), 4, f="0", delta1="0", delta2="0", B="1/4"),
        ),
        "Z_A = O(1) on the half-line",
        (_at("map", "sign", "A", ("-3/4", "-1/4"), 4, delta1="0", delta2="0", Z_A="0"),),
    )
    yield Claim(
        "init1-shared-adam",
        "One rate n^−1/2 with Adam, Init[1]: δ¹, δ² = Θ(1) with Z_A = Θ(n^1/2) "
        "(internal instability)",
        INIT,
        (
            _at("layer", "adam", "A", _HALF, 3, delta1_Z_B="0", delta2_Z_B="0", Z_A="1/2"),
            _at("map", "sign", "A", _HALF, 4, f="0", delta1="0", delta2="0", Z_A="1/2"),
        ),
        "two rates, (−1, 0), where Z_A = Θ(1)",
        (_at("layer", "adam", "A", _TWO, 3, delta1_Z_B="0", delta2_Z_B="0", Z_A="1/2"),),
    )
    yield Claim(
        "init2-shared-adam",
        "One rate n^−1 with Adam, Init[2]: A learns alone, B is undertrained, δ² = Θ(1/n)",
        INIT,
        (
            _at("layer", "adam", "B", ("-1", "-1"), 3, delta1_Z_B="0", delta2_Z_B="-1", dB="-1"),
            _at("map", "sign", "B", ("-1", "-1"), 4, f="0", delta1="0", delta2="-1"),
        ),
        "two rates, (−1, 0), where B is trained",
        (_at("layer", "adam", "B", _TWO, 3, delta1_Z_B="0", delta2_Z_B="-1"),),
    )


def _two_layer() -> Iterator[Claim]:
    def at(
        rates: tuple[str, str], t: int = 1, constant: str | None = None, **predicted: str | None
    ) -> Exponents:
        return _at("two_layer", "gd", "both", rates, t, constant=constant, **predicted)

    yield Claim(
        "two-layer-efficient",
        "Two-layer toy with both factors random, gradient descent at (−1, 0): "
        "δ¹, δ², δ³ of f = Θ(1)",
        f"{PAPER}, section 3.3 and appendix C.1.1",
        (at(_TWO, 1, **_EFFICIENT), at(_TWO, 2, **_EFFICIENT)),
        "one rate, (−1, −1)",
        (at(("-1", "-1"), 1, **_EFFICIENT),),
    )
    yield Claim(
        "two-layer-others",
        "Two-layer toy, gradient descent at t = 1: δ¹ = Θ(n^(c_a+1)), δ² = Θ(n^c_b), "
        "δ³ = Θ(n^(c_a+c_b+1)) at (−1/2, −1/2), (−1, −1), (0, 0)",
        "recursion for eq. 3",
        (
            # Where ΔZ_A = Θ(n^1/2), δ¹ changes its constant as it passes Z_A: measure past that.
            at(_HALF, constant="64", delta1="1/2", delta2="-1/2", delta3="0"),
            at(("-1", "-1"), delta1="0", delta2="-1", delta3="-1"),
            at(("0", "0"), delta1="1", delta2="0", delta3="1"),
        ),
        "the linear toy's exponents (B = 0 at the start)",
        (at(_HALF, constant="64", delta1=None, delta2="-1/2", delta3=None),),
    )
    yield Claim(
        "two-layer-coordinates",
        "Two-layer toy at (−1, 0): B's contribution to the coordinates of Z_B is Θ(1) too, "
        "as Definition 5 asks",
        f"{PAPER}, Definition 5 for eq. 3",
        (at(_TWO, 1, delta1_Z_B="0", delta2_Z_B="0"),),
        "A's contribution is taken for Θ(n^−1/2)",
        (at(_TWO, 1, delta1_Z_B="-1/2"),),
        recorded="fails",
        reason="W_out ~ N(0, 1/n) makes B's gradient Θ(n^−1/2) a coordinate: B's move is "
        "spread over n rows and adds up to Θ(1) in f alone",
    )
    yield Claim(
        "two-layer-lazy-rows",
        "Two-layer toy at (−1, 0): B moves Z_B by Θ(n^−1/2) per coordinate and f by Θ(1)",
        "recursion for eq. 3",
        (at(_TWO, 1, delta1_Z_B="0", delta2_Z_B="-1/2", dB="-1/2", delta2="0"),),
        "the layer's exponents (Theorem 1)",
        (at(_TWO, 1, delta2_Z_B="0", dB="0"),),
    )
    yield Claim(
        "readout-not-mup",
        "Sign updates on the two-layer toy with its W_out ~ N(0, 1/n) at (−1, 0): f = Θ(n^1/2), "
        "since ΔB is aligned with W_out; Theorem 1 speaks of Z_B, not of this f",
        "recursion for eq. 3 with sign updates",
        (_at("two_layer", "sign", "both", _TWO, 1, delta2="1/2", delta2_Z_B="0"),),
        "f = Θ(1), as under a 1/n readout",
        (_at("two_layer", "sign", "both", _TWO, 1, delta2="0"),),
    )


def _rank() -> Iterator[Claim]:
    def at(
        init: str, e: str, gamma: str, start: str | None = None, **predicted: str | None
    ) -> Exponents:
        # Init[1]'s optimum in n rests on ΔZ_A = Θ(n^1/2) being larger than Z_A at the start.
        optimum = {"constant": "16", "c_n": "-1/2"} if init == "A" else {"c_n": "-1"}
        return _at(
            "rank", "adam", init, (e, e), 2, start=start, gamma=gamma, **optimum, **predicted
        )

    gammas = ("0", "1/2", "1")

    def unit(*exponents: str) -> tuple[Exponents, ...]:
        """B ~ N(0, 1) at each γ."""
        return tuple(
            at("B", e, gamma, dZ_B="0") for gamma, e in zip(gammas, exponents, strict=True)
        )

    yield Claim(
        "rank-init1",
        "Multiplier r^−γ, Init[1], Adam, one rate: ΔZ_B does not depend on r where "
        "η ∝ n^−1/2 r^−(1−γ)/2, at γ = 0, 1/2, 1",
        MUA,
        tuple(
            at("A", e, gamma, dZ_B="0")
            for gamma, e in zip(gammas, ("-1/2", "-1/4", "0"), strict=True)
        ),
        "η independent of r at γ = 0, 1/2",
        (at("A", "0", "0", dZ_B="0"), at("A", "0", "1/2", dZ_B="0")),
    )
    yield Claim(
        "rank-init2",
        "Multiplier r^−γ, Init[2] with B ~ N(0, 1/r), Adam, one rate: ΔZ_B does not depend on r "
        "where η ∝ n^−1 r^γ, at γ = 0, 1/2, 1 and r^(1+γ) ≤ n",
        MUA,
        tuple(at("B", gamma, gamma, start="-1/2", dZ_B="0") for gamma in gammas),
        "η independent of r at γ = 1; B ~ N(0, 1) at γ = 0, 1/2",
        (at("B", "0", "1", start="-1/2", dZ_B="0"), *unit(*gammas)[:2]),
    )
    yield Claim(
        "rank-init2-unit",
        "The same with this project's Init[2], B ~ N(0, 1): η ∝ n^−1 r^γ",
        MUA,
        unit(*gammas),
        "η ∝ n^−1 r^(γ+1/2)",
        (at("B", "3/2", "1", dZ_B="0"),),
        recorded="fails",
        reason="the law comes out with B ~ N(0, 1/r) (rank-init2); with B ~ N(0, 1) a sum of r "
        "random products is r^1/2 larger, and η ∝ n^−1 r^(γ−1/2) keeps ΔZ_B",
    )
    yield Claim(
        "rank-init2-unit-law",
        "Init[2] with B ~ N(0, 1): η ∝ n^−1 r^(γ−1/2) at γ = 0, 1/2, 1",
        "recursion of the rank exponents",
        unit("-1/2", "0", "1/2"),
        "η ∝ n^−1 r^γ",
        unit(*gammas),
    )
    yield Claim(
        "rank-gd",
        "Gradient descent of B is rank-stable at γ = 1/2: δ² = Θ(r^(1−2γ)) at a rate that does not "
        "depend on r",
        RSLORA,
        tuple(
            _at("rank", "gd", "A", (None, "0"), 1, gamma=gamma, delta2_Z_B=rho, delta1_Z_B=None)
            for gamma, rho in (("1/2", "0"), ("1", "-1"))
        ),
        "γ = 1, the multiplier α/r, taken for rank-stable",
        (_at("rank", "gd", "A", (None, "0"), 1, gamma="1", delta2_Z_B="0"),),
    )


def _symmetries() -> Iterator[Claim]:
    """In powers of p and q: gradients go as −1, and rates as what turns their update into 1."""
    powers_of_two, others = (Fraction(8), Fraction(1, 2)), (Fraction(3), Fraction(7, 10))
    # Below a ReLU, with W* = 0, neither one-sided init ever moves.
    settings = (("layer", "A"), ("layer", "B"), ("layer", "both"), ("two_layer", "both"))

    def of(update: str, rate: int, eps: int = -1, decay: int = -1) -> tuple[Symmetry, ...]:
        exact = tuple(
            Symmetry(model, update, init, *powers_of_two, rate, eps, decay)
            for model, init in settings
        )
        # From Init[1] sign updates bring B back to 0, or beside it: there rounding has a sign.
        rounded = tuple(
            Symmetry(model, update, "both", *others, rate, eps, decay) for model, _ in settings[2:]
        )
        return exact + rounded

    for update, words, right, wrong, broken in (
        ("sign", "Sign updates", "η → pη, qη", "η → p²η, q²η", {"rate": 2}),
        ("adam", "Adam", "η → pη, qη and ε → ε/p, ε/q", "ε as it was", {"eps": 0}),
        (
            "adamw",
            "AdamW",
            "η → pη, qη, and ε and the decays divided by p, q",
            "the decays as they were",
            {"decay": 0},
        ),
        ("gd", "Gradient descent", "η → p²η, q²η", "η → pη, qη", {"rate": 1}),
    ):
        rate = 2 if update == "gd" else 1
        yield Claim(
            f"symmetry-{update}",
            f"{words}: α → α/(pq), A → pA, B → qB with {right} leaves every f_t as it is, bit for "
            "bit if p, q are powers of two",
            REGRET if update != "gd" else "symmetry of Definition 1",
            of(update, rate),
            wrong,
            of(update, **{"rate": rate} | broken),
        )


def _landscapes() -> Iterator[Claim]:
    """All that `scalings` predicts of three families and small sizes tell.

    The best shared rate is not among it: at these sizes it moves with t as much as with n.
    """
    two_layer = Family("two_layer", "gd", "both")
    init1, init2 = (Family("feature_layer", "adam", init) for init in ("A", "B"))
    half, whole = SHARED["one rate n^−1/2"], SHARED["one rate n^−1"]
    constant = (Fraction(0), Fraction(0))
    names = {
        two_layer: ("two-layer", "Two-layer toy, both factors random, gradient descent"),
        init1: ("adam-init1", "A LoRA layer on frozen features, Adam, Init[1]"),
        init2: ("adam-init2", "A LoRA layer on frozen features, Adam, Init[2]"),
    }

    def power(c: Fraction) -> str:
        return f"n^{c}".replace("-", "−")

    def rates(c_a: Fraction, c_b: Fraction) -> str:
        return f"η_A ∝ {power(c_a)}, η_B " + (f"∝ {power(c_b)}" if c_b else "constant")

    for family, shared, wrong in (
        (two_layer, whole, "n^−1"),
        (init1, half, "n^−1/2"),
        (init2, whole, "n^−1"),
    ):
        name, words = names[family]
        c_a, c_b = family.moves.collapse
        alone = family.moves.alone
        how = rates(c_a, c_b)
        if not alone:
            how = f"c_a + c_b = {c_a + c_b}, whatever c_a − c_b".replace("-", "−")
        yield Claim(
            f"collapse-{name}",
            f"{words}: landscapes of the loss over (η_A, η_B) fall on one another with {how}",
            family.moves.source,
            (Collapsing(family, family.moves.collapse, alone),),
            f"one rate {wrong}; landscapes that stay where they are",
            (Collapsing(family, shared, alone), Collapsing(family, constant, alone)),
        )
    for family, (wrong_c, _) in ((two_layer, half), (init1, whole), (init2, whole)):
        name, words = names[family]
        exponent = family.moves.places["edge equal"]
        yield Claim(
            f"edge-{name}",
            f"{words}: one rate η_A = η_B trains up to Θ({power(exponent)})",
            family.moves.source,
            (Placed(family, "edge equal", exponent),),
            f"up to Θ({power(wrong_c)})",
            (Placed(family, "edge equal", wrong_c),),
        )
    for family in (two_layer, init1):
        name, words = names[family]
        yield Claim(
            f"transfer-{name}",
            f"{words}: rates tuned at the least width and carried as "
            f"{rates(*family.moves.collapse)} are as good at the largest as those tuned there, or "
            "nearly so",
            family.moves.source,
            (Carried(family, family.moves.collapse),),
            "one rate that is carried as it is",
            (Carried(family, constant, shared=True),),
        )
