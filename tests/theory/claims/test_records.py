"""Every stated exponent again, from the update rules: statement and recursion agree; controls that
are wrong, some by little.
"""

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from lora_theory.theory.claims import (
    Carried,
    Collapsing,
    Exponents,
    Phase,
    Placed,
    Reduction,
    Symmetry,
    claims,
    derived,
)
from lora_theory.theory.claims.records import at, nearby
from lora_theory.theory.rules import LAYER_RECTANGULAR

ROOT = Path(__file__).parents[3]
CLAIMS = claims()
CASES = [
    pytest.param(claim, case, id=f"{claim.id}: {case.setting} t={case.t}")
    for claim in CLAIMS
    for case in claim.cases
    if isinstance(case, Exponents)
]


@pytest.mark.parametrize(("claim", "case"), CASES)
def test_statement_and_recursion_agree_unless_recorded_otherwise(claim, case):
    agrees = derived(case) == dict(case.predicted)
    assert agrees == (claim.recorded == "holds")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_control_is_wrong_or_differs_from_the_claim(claim):
    assert claim.control
    assert claim.wrong
    for case in claim.control:
        assert case not in claim.cases
        if isinstance(case, Exponents):
            assert derived(case) != dict(case.predicted)
        if isinstance(case, Phase):
            right = dataclasses.replace(case, like=case.init, shift=Fraction(0))
            assert case.classes() != right.classes()


# Margins of the config, by what is judged.
MARGINS = {"rank_map": Fraction(1, 20), "two_layer": Fraction(1, 10)}
EXACT = Fraction(1, 50)


def off(case):
    """How far a case is from what follows from its rule, in margins."""
    if case.setting.asked:  # Of a rate no exponent follows: another one is stated.
        right = next(dict(c.predicted) for c in ASKED if (c.setting, c.t) == (case.setting, case.t))
    else:
        right = derived(case)
    known = [
        name for name, said in case.predicted.items() if (said is None) == (right[name] is None)
    ]
    gaps = [abs((case.predicted[name] or 0) - (right[name] or 0)) for name in known]
    margin = MARGINS.get(case.setting.model, EXACT)
    return max(gaps) / margin if len(known) == len(case.predicted) else Fraction(1000)


ASKED = [
    case
    for claim in CLAIMS
    for case in claim.cases
    if isinstance(case, Exponents) and case.setting.asked and claim.recorded == "holds"
]
IN_EXPONENTS = [
    claim
    for claim in CLAIMS
    if any(isinstance(case, Exponents) for case in claim.cases) and claim.recorded == "holds"
]


@pytest.mark.parametrize("claim", IN_EXPONENTS, ids=lambda c: c.id)
def test_a_claim_of_exponents_has_a_control_that_is_off_by_one_and_a_half_to_two_margins(claim):
    found = [off(case) for case in claim.control if isinstance(case, Exponents)]
    assert any(Fraction(3, 2) <= gap <= 2 for gap in found), [float(gap) for gap in found]


@pytest.mark.parametrize(
    ("p", "q", "exact"),
    [("8", "1/2", True), ("1", "1/1024", True), ("3", "1/2", False), ("2", "1/3", False)],
)
def test_powers_of_two_are_exact(p, q, exact):
    assert Symmetry("layer", "sign", "A", Fraction(p), Fraction(q), 1).exact == exact


def test_ids_are_unique_and_reasons_are_given():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    for claim in CLAIMS:
        assert claim.cases
        assert bool(claim.reason) == (claim.recorded == "fails")


def test_unknown_ids_are_named():
    with pytest.raises(ValueError, match=r"prop1-init1, .*\(got prop9\)"):
        claims(("prop1-init1", "prop9"))


def test_the_table_has_every_claim_with_the_verdict_on_record():
    table = (ROOT / "figures" / "claims.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    found = {row.split("`")[1]: row for row in rows}
    for claim in CLAIMS:
        assert f"**{claim.recorded}**" in found[claim.id], claim.id
        assert found[claim.id].endswith(": fails |"), claim.id
    assert list(found) == [claim.id for claim in CLAIMS]
    held = sum(claim.recorded == "holds" for claim in CLAIMS)
    counts = f"{len(CLAIMS)} claims: {held} hold, {len(CLAIMS) - held} fail, 0 undecided"
    assert f"**{counts}; {len(CLAIMS)} controls, all caught.**" in table


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_other_control_is_off_by_at_most_two_margins_too_if_it_has_one(claim):
    """A twelfth is 2 margins of 1/24; half an exponent 2 of 1/4; a reduction's is far off."""
    for case in claim.control:
        if isinstance(case, Phase) and case.like == case.init:
            assert case.shift == Fraction(1, 12)
        if isinstance(case, Placed):
            (said,) = (c.exponent for c in claim.cases)
            assert abs(case.exponent - said) == Fraction(1, 2)
        if isinstance(case, Reduction):
            assert case.wrong
            assert dataclasses.replace(case, wrong="") in claim.cases
    assert not any(
        isinstance(case, Carried | Collapsing) and case in claim.cases for case in claim.control
    )


def test_rates_that_are_wrong_by_little_move_what_is_predicted_by_little():
    case = at("layer_map", "sign", "A", ("-1", "0"), 3, delta1_Z_B="0", Z_A="0")
    for margin in (Fraction(1, 50), Fraction(1, 10)):
        moved = nearby(case, margin)
        assert moved.predicted == case.predicted
        sizes = derived(moved)
        assert Fraction(3, 2) * margin <= max(abs(s) for s in sizes.values()) <= 2 * margin


def test_nothing_is_near_where_rates_are_not_felt():
    case = at("layer_map", "sign", "A", ("-1", "0"), 1, Z_A="0")  # A rests at t = 1.
    with pytest.raises(ValueError, match="no rates at which what is predicted is"):
        nearby(case, Fraction(1, 50))


@pytest.mark.parametrize("wrong", ["1/100", "-1/10", "1/4"])
def test_a_rate_is_derived_where_the_move_is_as_large_as_asked_and_nowhere_else(wrong):
    right = at("layer_map", "adam", "A", None, 2, eta="-1/2")
    assert derived(right) == {"eta": Fraction(-1, 2)}
    other = dataclasses.replace(right, predicted={"eta": Fraction(-1, 2) + Fraction(wrong)})
    assert derived(other) == {"eta": None}


def test_of_a_layer_that_is_not_square_the_inputs_count():
    sizes = {"inputs": "1/2", "outputs": "2", "Z_A": "0", "B": "0"}
    for c_a, right in (("-1/2", True), ("-1", False), ("-2", False)):
        case = at("layer_map", "sign", "B", (c_a, "0"), 3, rule=LAYER_RECTANGULAR, **sizes)
        assert (derived(case) == dict(case.predicted)) == right
