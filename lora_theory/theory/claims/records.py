"""What claims are made of: cases, each of which a measurement can refute, and what is around them.

The exponents of a case are what its source states (or what follows from a stated formula in a
line); each names the update rule from which `derived` derives them again, as the tests do. No JAX.
"""

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction

from lora_theory.terms import INIT_NAMES, Class, Init, Outcome, Setting
from lora_theory.theory import rules
from lora_theory.theory.escape import steps_per_log
from lora_theory.theory.exponents import Rule, derive, rational
from lora_theory.theory.regions import predicted_class
from lora_theory.theory.scalings import Moves, moves

PAPER = "LoRA+"
INIT = "arXiv 2406.08447"
MUA = "arXiv 2602.06204"
RSLORA = "arXiv 2312.03732"
REGRET = "LoRA Without Regret, 2025"
RITE = "arXiv 2410.20625"
SCALED = "arXiv 2402.02347"


@dataclasses.dataclass(frozen=True)
class Exponents:
    """Predicted exponents of one setting at step t, whatever the constants of the rates.

    Attributes:
        setting: what is run.
        t: the step.
        predicted: quantity -> exponent of n (of r, where the rank is varied); None means
            identically zero. "eta" is the rate, where the size of ΔZ_B is asked for.
        rule: the update rule from which they follow.
    """

    setting: Setting
    t: int
    predicted: Mapping[str, Fraction | None]
    rule: Rule


@dataclasses.dataclass(frozen=True)
class Phase:
    """The classes of points (c_a, c_b) are those predicted for the init `like` (and, to be wrong by
    little, for rates n^shift larger), whatever the constants of the rates.

    Attributes:
        model: "map", "layer_map" or "two_layer_limit".
        update, init: what is run.
        points: exponents (c_a, c_b).
        like, shift: what is predicted.
    """

    update: str
    init: str
    points: tuple[tuple[Fraction, Fraction], ...]
    like: str
    shift: Fraction = Fraction(0)
    model: str = "map"

    def classes(self) -> list[Class]:
        """The predicted class of every point."""
        rule = rules.RULES[self.model, self.update]
        shifted = [(c_a + self.shift, c_b + self.shift) for c_a, c_b in self.points]
        return [predicted_class(rule, self.like, *point) for point in shifted]


@dataclasses.dataclass(frozen=True)
class Escape:
    """Gradient descent of eq. 2 on the line c_a + c_b = −1 leaves its saddle after
    `theory.escape.steps_per_log` steps for each unit of ln n, seed by seed.

    Attributes:
        init: "A" or "B".
        c_b: the exponent of η_b.
        like: another one, for which that is predicted.
        wrong: what is predicted wrongly: "" for nothing, "root" for η_a η_b ‖x‖² without a root,
            "target" for 1 in place of `|y|`.
    """

    init: str
    c_b: Fraction
    like: Fraction | None = None
    wrong: str = ""

    @property
    def predicted(self) -> Mapping[str, Fraction]:
        """What is judged, by name: measured over predicted steps are 1."""
        return {"escape": Fraction(1)}

    def steps(self, product: float, y: float) -> float:
        """What is predicted of a seed, for each unit of ln n."""
        c_b = self.c_b if self.like is None else self.like
        product = product**2 if self.wrong == "root" else product
        return steps_per_log(float(c_b), product, 1.0 if self.wrong == "target" else y)

    def __str__(self) -> str:
        return f"map, gd, {INIT_NAMES[self.init]}, c_a + c_b = -1, c_b = {self.c_b}"


@dataclasses.dataclass(frozen=True)
class Reduction:
    """What an exact model says of a run is what the model in vectors does, to rounding.

    Attributes:
        model: "linear" or "layer", as it is trained in vectors.
        update: gd, sign or adam.
        samples: how many.
        inits: "A", "B", "both".
        rates: exponents (c_a, c_b) at which it is run.
        wrong: what the exact model is told wrongly: "" for nothing, "gram" that ‖x‖² (‖x‖₁) is one
            hundredth larger.
    """

    model: str
    update: str
    samples: int
    inits: tuple[str, ...]
    rates: tuple[tuple[Fraction, Fraction], ...]
    wrong: str = ""


@dataclasses.dataclass(frozen=True)
class Limit:
    """The limit of eq. 3 for wide nets has the sizes of the model in vectors at n = 1024.

    On average over seeds, and where rows of B move little: at the constants that are below
    1/2.

    Attributes:
        rates: exponents (c_a, c_b) at which both are run.
        steps: the t at which they are compared.
        wrong: log2 of a factor on the rates of the limit, which should be 0.
    """

    rates: tuple[Fraction, Fraction]
    steps: tuple[int, ...]
    wrong: Fraction = Fraction(0)

    @property
    def predicted(self) -> Mapping[str, Fraction]:
        """What is judged, by name: differences of mean log2 sizes are 0."""
        names = ("f", "delta1", "delta2", "dZ_A", "dB", "delta1_Z_B", "delta2_Z_B")
        return {f"{name}, t = {t}": Fraction(0) for name in names for t in self.steps}

    def __str__(self) -> str:
        factor = f", rates of the limit × 2^{self.wrong}" if self.wrong else ""
        return f"two_layer, gd, both random, ({self.rates[0]}, {self.rates[1]}){factor}"


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
class Split:
    """Training (B G, G⁻¹ A) gives the f_t of (B, A), to rounding; or it does not.

    Attributes:
        model, optimizer, init: what is trained.
        mixing: which G: "permutation" (signed), "rotation", "scale" (s I), "general"; or "B alone",
            a general one without its inverse on A.
        least: None where f_t is the same; else by how much it differs at least, in every seed, in
            units of `max |f|`.
    """

    model: str
    optimizer: str
    init: str
    mixing: str
    least: Fraction | None = None


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
Case = Exponents | Phase | Escape | Limit | Reduction | Identity | Symmetry | Split | Moving


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


def derived(case: Exponents) -> dict[str, Fraction | None]:
    """The exponents of a case again, by running its rule; None for identically zero.

    >>> from lora_theory.theory.claims import claims
    >>> case = claims(("theorem1-sign",))[0].cases[0]
    >>> derived(case) == dict(case.predicted)
    True
    """
    if case.setting.asked:
        return {"eta": _asked(case)}
    return {name: size for name, size in _derived(case).items() if name in case.predicted}


def _derived(case: Exponents, **given: Fraction) -> dict[str, Fraction | None]:
    """Every size at t by the rule, at the setting's rates or at others."""
    setting = case.setting
    if setting.base == "r":
        at = {"c": setting.c_n, "e": setting.c_b, "gamma": setting.gamma} | given
        known = "B, variance 1/r" if setting.start else setting.init
        sizes = derive(case.rule, known, at, case.t)[-1]
        return {name: size.rho for name, size in sizes.items()}
    at = {"c_a": setting.c_a, "c_b": setting.c_b} | given
    if "inputs" in case.rule.exponents:
        at["inputs"] = setting.inputs
    init = rules.sized(setting.init, setting.start)
    sizes = derive(case.rule, init, at, case.t)[-1]
    return {name: size.gamma for name, size in sizes.items()}


def _asked(case: Exponents) -> Fraction | None:
    """The stated exponent of the rate, if ΔZ_B is Θ(1) there, and neither above nor below."""
    stated = case.predicted["eta"]
    assert stated is not None
    little = Fraction(1, 100)
    found = []
    for c in (stated - little, stated, stated + little):
        given = {"e": c} if case.setting.base == "r" else {"c_a": c, "c_b": c}
        found.append(_derived(case, **given)["dZ_B"])
    below, at, above = (Fraction(-1000) if size is None else size for size in found)
    return stated if below < 0 == at < above else None


def at(
    model: str,
    update: str,
    init: str,
    rates: tuple[str, str] | None,
    t: int,
    *,
    rule: Rule | None = None,
    samples: int = 1,
    predicted: Mapping[str, str | None] | None = None,
    start: str = "0",
    gamma: str = "0",
    c_n: str = "0",
    inputs: str = "1",
    outputs: str = "1",
    near: bool = False,
    **also: str | None,
) -> Exponents:
    """A case, with exponents as strings; a predicted None is identically zero.

    Args:
        model, update, init: of the setting, as are the other fields of `Setting`.
        rates: (c_a, c_b); None where ΔZ_B is asked for, and the rate "eta" is predicted.
        t: the step.
        rule: that of the model and the update, unless another is given.
        predicted, also: quantity -> its exponent.

    >>> at("map", "gd", "A", ("-1", "0"), 2, f="0").predicted
    {'f': Fraction(0, 1)}
    """
    c_a, c_b = (rational(c) for c in rates or ("0", "0"))
    setting = Setting(
        model,
        update,
        init,
        c_a,
        c_b,
        start=rational(start),
        gamma=rational(gamma),
        c_n=rational(c_n),
        samples=samples,
        inputs=rational(inputs),
        outputs=rational(outputs),
        asked=rates is None,
        near=near,
    )
    said = {**(predicted or {}), **also}
    values = {name: None if e is None else rational(e) for name, e in said.items()}
    return Exponents(setting, t, values, rule or rules.RULES[model, update])


def nearby(case: Exponents, margin: Fraction) -> Exponents:
    """The same prediction at rates that are wrong by so little that the largest change of what is
    predicted is 1.5 to 2 margins.

    Raises:
        ValueError: no such rates are found.

    >>> case = at("map", "gd", "A", ("-1", "0"), 2, f="0", delta2="0")
    >>> str(nearby(case, Fraction(1, 50)).setting)
    'map, gd, Init[1], (-1, -7/200)'
    """
    setting = case.setting
    if setting.asked:
        (eta,) = case.predicted.values()
        assert eta is not None
        return dataclasses.replace(case, predicted={"eta": eta + Fraction(7, 4) * margin})
    for off in (Fraction(sign * 7, parts) * margin for parts in (4, 8, 16) for sign in (-1, 1)):
        for move_a, move_b in ((0, 1), (1, 0), (1, 1)):
            c_a, c_b = setting.c_a + move_a * off, setting.c_b + move_b * off
            moved = dataclasses.replace(
                case, setting=dataclasses.replace(setting, c_a=c_a, c_b=c_b)
            )
            if Fraction(3, 2) * margin <= _change(case, _derived(moved)) <= 2 * margin:
                return moved
    raise ValueError(f"{setting}: no rates at which what is predicted is 1.5 to 2 margins off")


def _change(case: Exponents, sizes: Mapping[str, Fraction | None]) -> float:
    """How far the sizes are from those of a case at most; infinitely, if one becomes or is no more
    exactly 0.
    """
    pairs = [(said, sizes[name]) for name, said in case.predicted.items()]
    return max(
        math.inf if (a is None) != (b is None) else float(abs((a or 0) - (b or 0)))
        for a, b in pairs
    )
