"""The γ-calculus: its algebra, rules of one's own, and what is refused in words."""

from fractions import Fraction

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
