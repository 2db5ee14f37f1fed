"""Claims about the rank: the published laws, both factors, both inits, more than one step."""

from fractions import Fraction

import pytest

from lora_theory.theory.claims import Exponents
from lora_theory.theory.claims.rank import claims

CLAIMS = {claim.id: claim for claim in claims()}


@pytest.mark.parametrize(("name", "init", "start"), [
    ("rank-init1", "A", 0), ("rank-init2", "B", Fraction(-1, 2)), ("rank-init2-unit-law", "B", 0),
])  # fmt: skip
def test_rates_that_are_asked_for_go_as_those_that_are_given(name, init, start):
    cases = [c.setting for c in CLAIMS[name].cases]
    given = {s.gamma: s.c_b for s in cases if not s.asked}
    asked = {c.setting.gamma: c.predicted["eta"] for c in CLAIMS[name].cases if c.setting.asked}
    assert set(given) == {Fraction(0), Fraction(1, 2), Fraction(1)}
    assert given == asked
    assert {(s.init, s.start) for s in cases} == {(init, start)}


def test_gradient_descent_is_claimed_of_both_factors_inits_and_several_steps():
    cases = [c for c in CLAIMS["rank-gd"].cases if isinstance(c, Exponents)]
    assert {(c.setting.init, c.t) for c in cases} == {(i, t) for i in "AB" for t in (1, 2, 4)}
    assert {name for c in cases for name in c.predicted} == {"delta1", "delta2"}
    for case in cases:
        first = "delta2" if case.setting.init == "A" else "delta1"
        assert case.predicted[first] == 1 - 2 * case.setting.gamma
