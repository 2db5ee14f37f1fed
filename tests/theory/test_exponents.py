"""The γ-calculus: its algebra, rules of one's own, and what is refused in words."""

import collections
import dataclasses
import itertools
import math
import random
from fractions import Fraction
from typing import NamedTuple

import pytest

from lora_theory.terms import Verdict
from lora_theory.theory.exponents import (
    ONE,
    ZERO,
    N,
    Rule,
    RuleError,
    Step,
    classify,
    derive,
    efficient,
    first_unstable,
    rational,
    solve,
    width_rates,
)
from lora_theory.theory.rules import (
    LINEAR_GD,
    processed,
    starts,
)

NOTHING = {"A": ()}  # Rules that start from constants of their own.


def cells(regions):
    return [str(region.cell) for region in regions]


def lora_fa(start, eta_b):
    b, z_a = start
    while True:
        db = eta_b * processed(z_a)
        b = b + db
        deltas = {"delta1": ZERO, "delta2": db * z_a, "delta3": ZERO}
        yield Step(b * z_a, deltas, {"B": b, "Z_A": z_a})


def full_fine_tuning(start, eta):
    (z,) = start
    while True:
        dz = eta * N
        z = z + dz
        yield Step(z, {"delta1": dz}, {})


def test_lora_fa_never_is_efficient():
    rule = Rule("LoRA-FA", lora_fa, ("c_b",), width_rates("eta_b"), starts("A", "B"))
    assert efficient(rule, "A") == []
    assert [str(r) for r in solve(rule, "A") if r.cell.dimension == 0] == ["B alone: c_b = 0"]
    # With A = 0 for ever nothing moves, whatever the rate.
    assert [str(r) for r in solve(rule, "B")] == ["stable, no feature learning: everywhere"]


def test_full_fine_tuning_is_efficient_at_one_rate():
    rule = Rule("full", full_fine_tuning, ("c",), width_rates("eta"), {"W*": (1,)})
    assert cells(efficient(rule, "W*")) == ["c = -1"]


@pytest.mark.parametrize(
    "bad",
    [
        lambda n: n - n,
        lambda n: -n,
        lambda n: n**n,
        lambda n: 2**n,
        lambda n: n * -2.0,
        lambda n: n + "1",
        lambda n: n / 0,
        lambda n: n * float("nan"),
        lambda n: n * True,
        lambda n: __import__("math").exp(n),
        lambda n: __import__("math").log(n),
        lambda n: abs(n),
        lambda n: n if n > ONE else ONE,
        lambda n: ZERO**-1,
        lambda n: -3,
        lambda n: None,
        lambda n: n if n == "n" else ONE,
    ],
)
def test_rules_that_are_not_polynomial_are_refused(bad):
    def run(start, eta):
        while True:
            yield Step(bad(N), {"delta1": ONE}, {})

    rule = Rule("bad", run, ("c",), width_rates("eta"), NOTHING)
    with pytest.raises(RuleError):
        classify(rule, "A", {"c": 0})
    with pytest.raises(RuleError):
        solve(rule, "A")


@pytest.mark.parametrize("value", [0.5, float("nan"), "half", "1/0", None, True, 1j])
def test_exponents_that_are_not_rational_are_refused(value):
    with pytest.raises(ValueError, match="c_a: must be rational"):
        rational(value, "c_a")
    with pytest.raises(ValueError, match="c_a: must be rational"):
        classify(LINEAR_GD, "A", {"c_a": value, "c_b": 0})
    with pytest.raises(ValueError, match="must be rational"):
        N**value


def test_unknown_init_and_missing_exponents_are_named():
    with pytest.raises(ValueError, match="init: must be one of A, B"):
        classify(LINEAR_GD, "both", {"c_a": 0, "c_b": 0})
    with pytest.raises(ValueError, match=r"needs c_a, c_b \(got c_a\)"):
        classify(LINEAR_GD, "A", {"c_a": 0})


def test_equal_exponents_give_equal_sizes():
    one = derive(LINEAR_GD, "A", {"c_a": -1, "c_b": 0}, 3)
    assert one == derive(LINEAR_GD, "A", {"c_a": "-1", "c_b": Fraction(0)}, 3)
    assert one != derive(LINEAR_GD, "A", {"c_a": -1, "c_b": -1}, 3)


def test_a_rule_may_ask_whether_powers_are_equal():
    """On unknown exponents as on numbers: what is learned at the rate n^−1 and at no other."""

    def run(start, eta):
        while True:
            delta = ONE if eta * N == ONE else ZERO
            yield Step(delta, {"delta1": delta}, {})

    rule = Rule("equal", run, ("c",), width_rates("eta"), NOTHING)
    assert cells(efficient(rule, "A")) == ["c = -1"]
    assert [classify(rule, "A", {"c": c}).verdict.value for c in (-2, -1, 0)] == [
        "stable, no feature learning",
        "efficient",
        "stable, no feature learning",
    ]


def chain(links):
    """Sizes that feed each other in a row: the last one grows only after as many steps."""

    def run(start, eta):
        sizes = [ONE] + [ZERO] * (links - 1)
        while True:
            for i in range(links - 1, 0, -1):
                sizes[i] = sizes[i] + eta * sizes[i - 1]
            yield Step(sizes[-1], {"delta1": ONE}, {})

    return run


@pytest.mark.parametrize("links", [2, 8, 30])
def test_a_long_chain_is_followed_to_its_end(links):
    """f feels the rate only after as many steps as the chain has links."""
    rule = Rule("chain", chain(links), ("c",), width_rates("eta"), NOTHING)
    assert classify(rule, "A", {"c": 1}).verdict is Verdict.UNSTABLE
    assert classify(rule, "A", {"c": 0}).verdict is Verdict.EFFICIENT
    assert first_unstable(rule, "A", {"c": 1}) == links - 1


def test_instability_is_dated_up_to_the_step_that_the_rule_names():
    early, late = (
        Rule("chain", chain(8), ("c",), width_rates("eta"), NOTHING, settled=settled)
        for settled in (4, 10)
    )
    assert str(classify(early, "A", {"c": 1})) == "unstable later"
    assert str(classify(late, "A", {"c": 1})) == "unstable from t = 7"


@pytest.mark.parametrize("deltas", [{}, {"delta_1": ZERO}, {"delta3": ONE}])
def test_steps_without_contributions_are_refused(deltas):
    def run(start, eta):
        while True:
            yield Step(ONE, deltas, {})

    rule = Rule("none", run, ("c",), width_rates("eta"), NOTHING)
    with pytest.raises(RuleError, match="deltas: must be delta1"):
        classify(rule, "A", {"c": 0})


class Huge(NamedTuple):
    """A positive number, or 0, as its logarithm to base 2: brute force, without any exponents."""

    log2: float

    def __add__(self, other):
        low, high = sorted((self.log2, other.log2))
        return Huge(
            high + math.log2(1 + 2 ** max(low - high, -1000.0)) if low > -math.inf else high
        )

    def __mul__(self, other):
        return Huge(self.log2 + other.log2)

    def to(self, q):
        return Huge(self.log2 * float(q))


@dataclasses.dataclass
class Recursion:
    """x_i' = [x_i +] Σ_j n^e_j Π_k x_k^q_k, drawn at random, with f the last size.

    Attributes:
        starts: exponents at the start; None for exactly zero.
        kept: of every size, whether it is added to.
        sums: of every size, its terms as (e, q_1, …).
    """

    starts: list
    kept: list
    sums: list

    @classmethod
    def drawn(cls, random, powers):
        size = random.choice([1, 2, 2, 3])

        def quarter(low, high):
            return Fraction(random.randint(4 * low, 4 * high), 4)

        starts = [random.choice([quarter(-2, 0), quarter(-2, 0), None]) for _ in range(size)]
        kept = [random.random() < 0.7 for _ in range(size)]
        sums = [
            [
                (quarter(-2, 1), *(random.choice(powers) for _ in range(size)))
                for _ in range(random.choice([1, 2]))
            ]
            for _ in range(size)
        ]
        return cls(starts, kept, sums)

    def powers(self, start, eta):
        sizes = [ZERO if e is None else N**e for e in self.starts]
        while True:
            sizes = [
                sum(
                    (math.prod((x**q for x, q in zip(sizes, qs, strict=True) if q), start=N**e))
                    for e, *qs in terms
                )
                + (size if kept else 0)
                for size, kept, terms in zip(sizes, self.kept, self.sums, strict=True)
            ]
            yield Step(sizes[-1], {"delta1": sizes[-1]}, {})

    def logs(self, log2_n):
        sizes = [Huge(-math.inf if e is None else float(e) * log2_n) for e in self.starts]
        while True:
            new = []
            for size, kept, terms in zip(sizes, self.kept, self.sums, strict=True):
                total = size if kept else Huge(-math.inf)
                for e, *qs in terms:
                    term = Huge(float(e) * log2_n)
                    for x, q in zip(sizes, qs, strict=True):
                        term = term * x.to(q) if q else term
                    total = total + term
                new.append(total)
            sizes = new
            yield sizes[-1].log2

    def slopes(self, steps):
        small, large = (itertools.islice(self.logs(2.0**k), steps) for k in (14, 15))
        return [
            None if low == high == -math.inf else (high - low) / 2.0**14
            for low, high in zip(small, large, strict=True)
        ]

    @property
    def rule(self):
        return Rule("drawn", self.powers, ("c",), width_rates("eta"), NOTHING)


HALVES = [Fraction(0), Fraction(0), Fraction(1), Fraction(1, 2), Fraction(1, 3), Fraction(2)]
WHOLE = [Fraction(0), Fraction(0), Fraction(1), Fraction(1)]


@pytest.mark.parametrize("seed", range(150))
def test_exponents_are_the_slopes_of_brute_force(seed):
    drawn = Recursion.drawn(random.Random(seed), HALVES)
    algebra = [sizes["f"].gamma for sizes in derive(drawn.rule, "A", {"c": 0}, 6)]
    for gamma, slope in zip(algebra, drawn.slopes(6), strict=True):
        assert slope == (None if gamma is None else pytest.approx(float(gamma), abs=1e-3))


# f is exactly 0 for ever there, while two sizes that it never meets grow faster and faster.
UNTOLD = 35


@pytest.mark.parametrize("seed", [seed for seed in range(150) if seed != UNTOLD])
def test_stability_is_that_of_brute_force_in_the_long_run(seed):
    """400 updates of sizes that grow, if they do, by n^1/24 a round or more."""
    drawn = Recursion.drawn(random.Random(1000 + seed), WHOLE)
    slopes = drawn.slopes(400)
    grown = any(slope is not None and slope > 1e-2 for slope in slopes)
    found = classify(drawn.rule, "A", {"c": 0}).verdict
    assert (found is Verdict.UNSTABLE) == grown
    if not grown:
        learns = all(slope is not None and abs(slope) < 1e-2 for slope in slopes[-12:])
        assert (found is Verdict.EFFICIENT) == learns


def test_what_can_not_be_told_is_refused():
    drawn = Recursion.drawn(random.Random(1000 + UNTOLD), WHOLE)
    with pytest.raises(
        RuleError, match=r"still change after .* does not tell what becomes of them"
    ):
        classify(drawn.rule, "A", {"c": 0})


def test_drawn_recursions_are_of_every_kind():
    """Control: no answer fits all of the draws above."""
    found = collections.Counter(
        classify(Recursion.drawn(random.Random(1000 + seed), WHOLE).rule, "A", {"c": 0}).verdict
        for seed in range(150)
        if seed != UNTOLD
    )
    assert set(found) == {Verdict.UNSTABLE, Verdict.NO_LEARNING, Verdict.EFFICIENT}
    assert min(found.values()) > 5


def test_a_limit_of_splits_that_is_none_is_refused():
    for most in (0, 1.5, None):
        with pytest.raises(ValueError, match="most: must be an integer of at least 1"):
            solve(LINEAR_GD, "A", most=most)


def test_rules_that_end_need_half_the_splits_that_are_allowed():
    """7 in the plane; weight decay, in three exponents, 12 (tested with the variants)."""
    assert len(solve(LINEAR_GD, "A", most=7)) == len(solve(LINEAR_GD, "A"))
    with pytest.raises(RuleError, match="after 6 splits in a row"):
        solve(LINEAR_GD, "A", most=6)


def test_what_is_left_undecided_has_the_answer_that_is_given_for_it():
    found = solve(LINEAR_GD, "A", most=2, rest="left")
    whole = list(map(str, solve(LINEAR_GD, "A")))
    assert "left" in {region.answer for region in found}
    for region in found:
        if region.answer != "left":
            assert classify(LINEAR_GD, "A", region.cell.point()) == region.answer
    assert list(map(str, solve(LINEAR_GD, "A", rest="left"))) == whole
