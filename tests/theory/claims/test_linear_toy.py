"""Claims about eq. 2: mutants of its recursion that they catch, and how the init shifts rates."""

import dataclasses
from fractions import Fraction

import pytest

from lora_theory.terms import Verdict
from lora_theory.theory import rules
from lora_theory.theory.claims import Exponents, derived
from lora_theory.theory.claims.linear_toy import claims
from lora_theory.theory.exponents import ONE, N, Step, classify, efficient
from lora_theory.theory.regions import lattice, predicted_class

CLAIMS = {claim.id: claim for claim in claims()}


def growing(residual):
    """Gradient descent on the linear toy with another residual in place of U = b s + 1."""

    def run(init, eta_a, eta_b):
        b, s = init
        while True:
            u = residual(b * s)
            deltas = {
                "delta1": eta_a * b * b * u * N,
                "delta2": eta_b * s * s * u,
                "delta3": eta_a * eta_b * u * u * b * s * N,
            }
            b, s = b + eta_b * s * u, s + eta_a * b * u * N
            yield Step(b * s, deltas, {"B": b, "Z_A": s})

    return dataclasses.replace(rules.LINEAR_GD, run=run)


RESIDUALS = {"U = 1": lambda f: ONE, "U = f² + 1": lambda f: f * f + ONE}


def disagreeing(rule, claim):
    """Cases of a claim about the map that another rule predicts otherwise."""
    cases = [c for c in claim.cases if isinstance(c, Exponents) and c.rule is rules.LINEAR_GD]
    return [c for c in cases if derived(dataclasses.replace(c, rule=rule)) != dict(c.predicted)]


@pytest.mark.parametrize("name", RESIDUALS)
def test_growth_past_the_boundary_tells_the_residual(name):
    """No point of the diagrams does, since U is Θ(1) until f has grown: boundary-gd must."""
    wrong = growing(RESIDUALS[name])
    found = {claim.id: disagreeing(wrong, claim) for claim in CLAIMS.values()}
    assert [claim for claim, cases in found.items() if cases] == ["boundary-gd"]
    assert {case.setting.init for case in found["boundary-gd"]} == {"A", "B"}
    for init in "AB":
        for c_a, c_b in lattice(6):
            asked = init, c_a, c_b
            assert predicted_class(wrong, *asked) == predicted_class(rules.LINEAR_GD, *asked)


def test_the_residual_itself_disagrees_nowhere():
    """Control: b s + 1 in the same words is the rule."""
    right = growing(lambda f: f + ONE)
    assert not any(disagreeing(right, claim) for claim in CLAIMS.values())


@pytest.mark.parametrize("init", ["A", "B"])
def test_the_shifted_pair_is_the_only_efficient_one(init):
    """By the case analysis over the whole plane, at every σ that is claimed."""
    cases = [c for c in CLAIMS["init-shift"].cases if c.setting.init == init]
    assert [c.setting.start for c in cases] == [Fraction(i, 8) for i in (-4, -2, -1, 0, 1, 2, 4)]
    for case in cases:
        start = rules.sized(init, case.setting.start)
        (region,) = efficient(rules.LINEAR_GD, start, inside=False)
        assert region.cell.dimension == 0
        assert region.cell.point() == {"c_a": case.setting.c_a, "c_b": case.setting.c_b}


def test_the_largest_stable_shared_rate_is_that_of_the_recursion():
    for case in CLAIMS["init-shift-shared"].cases[::2]:
        start, c = rules.sized("A", case.setting.start), case.setting.c_a
        for at, stable in ((c - 1, True), (c, True), (c + Fraction(1, 1000), False)):
            found = classify(rules.LINEAR_GD, start, {"c_a": at, "c_b": at})
            assert (found.verdict is not Verdict.UNSTABLE) == stable
