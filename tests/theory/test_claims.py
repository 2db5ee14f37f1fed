"""Every stated exponent again, from the update rules: statement and recursion agree."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from lora_theory.theory import rules
from lora_theory.theory.claims import (
    Carried,
    Collapsing,
    Exponents,
    Family,
    Phase,
    Placed,
    Symmetry,
    claims,
    derived,
)
from lora_theory.theory.exponents import ONE, N, Step
from lora_theory.theory.regions import lattice, predicted_class
from lora_theory.theory.scalings import moves

ROOT = Path(__file__).parents[2]
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
    found = {claim.id: disagreeing(wrong, claim) for claim in CLAIMS}
    assert [claim for claim, cases in found.items() if cases] == ["boundary-gd"]
    assert {case.setting.init for case in found["boundary-gd"]} == {"A", "B"}
    for init in "AB":
        for c_a, c_b in lattice(6):
            asked = init, c_a, c_b
            assert predicted_class(wrong, *asked) == predicted_class(rules.LINEAR_GD, *asked)


def test_the_residual_itself_disagrees_nowhere():
    """Control: b s + 1 in the same words is the rule."""
    right = growing(lambda f: f + ONE)
    assert not any(disagreeing(right, claim) for claim in CLAIMS)


# Degree of an update in its gradient, which goes as 1/p: with η ∝ p^(1 + degree) A moves as p.
DEGREES = {"gd": 1, "sign": 0, "adam": 0, "adamw": 0}
FELT = {"gd": ("rate",), "sign": ("rate",), "adam": ("rate", "eps")}
FELT["adamw"] = ("rate", "eps", "decay")


def test_symmetries_are_those_of_the_update_and_their_controls_break_one_thing():
    found = [claim for claim in CLAIMS if claim.id.startswith("symmetry-")]
    assert {claim.id for claim in found} == {f"symmetry-{update}" for update in DEGREES}
    for claim in found:
        update = claim.id.removeprefix("symmetry-")
        right = {"rate": 1 + DEGREES[update], "eps": -1, "decay": -(1 + DEGREES[update])}
        for case, wrong in ((c, c in claim.control) for c in (*claim.cases, *claim.control)):
            assert isinstance(case, Symmetry)
            assert case.update == update
            broken = [name for name in FELT[update] if getattr(case, name) != right[name]]
            assert len(broken) == wrong
        assert {case.init for case in claim.cases if case.exact} == {"A", "B", "both"}
        assert {case.exact for case in claim.cases} == {True, False}


@pytest.mark.parametrize(
    ("p", "q", "exact"),
    [("8", "1/2", True), ("1", "1/1024", True), ("3", "1/2", False), ("2", "1/3", False)],
)
def test_powers_of_two_are_exact(p, q, exact):
    assert Symmetry("layer", "sign", "A", Fraction(p), Fraction(q), 1).exact == exact


MOVING = Collapsing | Placed | Carried


def test_claims_about_landscapes_say_what_is_predicted_and_their_controls_something_else():
    found = [c for c in CLAIMS if isinstance(c.cases[0], MOVING)]
    assert len(found) == 8
    for claim in found:
        assert claim.recorded == "holds"
        for case, wrong in ((c, c in claim.control) for c in (*claim.cases, *claim.control)):
            assert case.family == claim.cases[0].family
            known = moves(case.family.model, case.family.update, case.family.init)
            if isinstance(case, Placed):
                assert (case.exponent == known.places[case.place]) != wrong
            elif isinstance(case, Collapsing):
                assert case.alone == known.alone
                right = known.collapse if known.alone else sum(known.collapse)
                said = case.exponents if known.alone else sum(case.exponents)
                assert (said == right) != wrong
            else:
                assert (case.exponents == known.collapse) != wrong
                assert case.shared == wrong


def test_the_landscapes_are_the_toy_and_a_layer_with_both_inits():
    families = [case.family for c in CLAIMS for case in c.cases if isinstance(case, Collapsing)]
    assert families == [
        Family("two_layer", "gd", "both"),
        Family("feature_layer", "adam", "A"),
        Family("feature_layer", "adam", "B"),
    ]
    with pytest.raises(ValueError, match="two_layer, sign, Init\\[1\\]: nothing is predicted"):
        _ = Family("two_layer", "sign", "A").moves


def test_ids_are_unique_and_reasons_are_given():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    for claim in CLAIMS:
        assert claim.cases
        assert bool(claim.reason) == (claim.recorded == "fails")


def test_the_list_has_what_it_must_have():
    """Propositions, theorem, assumption, boundaries, shared rates, toys, ranks, symmetries."""
    ids = {claim.id for claim in CLAIMS}
    assert {
        *(f"prop{k}-init{i}" for k in (1, 2) for i in (1, 2)),
        *(
            f"{name}-{update}"
            for name in ("theorem1", "assumption1")
            for update in ("sign", "adam")
        ),
        *(f"phase-{update}-init{i}" for update in ("gd", "sign") for i in (1, 2)),
        *("sum-of-deltas", "boundary-gd", "boundary-sign", "shared-rate-f"),
        *("init1-shared-adam", "init2-shared-adam", "two-layer-efficient", "two-layer-others"),
        *("rank-init1", "rank-init2", "rank-gd"),
        *(f"symmetry-{update}" for update in DEGREES),
        *(f"{what}-two-layer" for what in ("collapse", "edge", "transfer")),
        *(f"{what}-adam-init1" for what in ("collapse", "edge", "transfer")),
        *("collapse-adam-init2", "edge-adam-init2"),
    } <= ids


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
