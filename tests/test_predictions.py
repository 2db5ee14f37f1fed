"""Every stated exponent again, from the update rules: statement and recursion agree."""

import dataclasses
import doctest
from fractions import Fraction
from pathlib import Path

import pytest

from lora_theory import exponents, predictions, rules
from lora_theory.exponents import N, Rule, derive
from lora_theory.predictions import Exponents, Phase, claims

CLAIMS = claims()
CASES = [
    pytest.param(claim, case, id=f"{claim.id}: {case.setting} t={case.t}")
    for claim in CLAIMS
    for case in claim.cases
    if isinstance(case, Exponents)
]
# Names that a layer's quantities have in its rule, where f stands for Z_B.
LAYER_NAMES = {f"delta{i}_Z_B": f"delta{i}" for i in (1, 2, 3)} | {"dB": "dB", "dZ_A": "dZ_A"}


def started(rule, init, start, monkeypatch):
    """The rule with the random factor at n^start."""
    size = N**start
    zero = exponents.ZERO
    monkeypatch.setitem(rules.START, "broken", (zero, size) if init == "A" else (size, zero))
    return Rule(rule.name, rule.run, rule.exponents, rule.rates, ("broken",)), "broken"


def recursion(case, monkeypatch):
    """quantity -> exponent, by running the rule of the case."""
    setting = case.setting
    if setting.model == "rank":
        return rank_recursion(case)
    two_layer = {"gd": rules.TWO_LAYER_GD, "sign": rules.TWO_LAYER_SIGN}
    known = two_layer if setting.model == "two_layer" else predictions.RULES
    rule, init = known[setting.update], setting.init
    if setting.start:
        rule, init = started(rule, init, setting.start, monkeypatch)
    at = {"c_a": setting.c_a, "c_b": setting.c_b}
    sizes = derive(rule, init, at, case.t)[-1]
    names = LAYER_NAMES if setting.model == "layer" else {}
    found = {}
    for name in case.predicted:
        if name == "dB" and setting.model == "layer":
            found[name] = setting.c_b  # A sign update has entries of size η_B.
        else:
            found[name] = sizes[names.get(name, name)].gamma
    return found


def rank_recursion(case):
    setting = case.setting
    gd = setting.update == "gd"
    unit = setting.init == "B" and not setting.start
    c = 0 if gd else {"A": Fraction(-1, 2), "B": Fraction(-1)}[setting.init]
    rule = rules.RANK_GD if gd else rules.RANK_SIGN
    at = {"c": c, "e": setting.c_b, "gamma": setting.gamma}
    sizes = derive(rule, "B unit" if unit else setting.init, at, case.t)[-1]
    found = {}
    for name in case.predicted:
        power = sizes[LAYER_NAMES.get(name, name)]
        assert power.gamma in (None, 0)  # At the optimum in n only r is left.
        found[name] = power.rho
    return found


@pytest.mark.parametrize(("claim", "case"), CASES)
def test_statement_and_recursion_agree_unless_recorded_otherwise(claim, case, monkeypatch):
    agrees = recursion(case, monkeypatch) == dict(case.predicted)
    assert agrees == (claim.recorded == "holds")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_control_is_wrong_or_differs_from_the_claim(claim, monkeypatch):
    assert claim.control
    assert claim.wrong
    for case in claim.control:
        assert case not in claim.cases
        if isinstance(case, Exponents):
            assert recursion(case, monkeypatch) != dict(case.predicted)
        if isinstance(case, Phase):
            right = dataclasses.replace(case, like=case.init, shift=Fraction(0))
            assert case.classes() != right.classes()


def test_ids_are_unique_and_reasons_are_given():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    for claim in CLAIMS:
        assert claim.cases
        assert bool(claim.reason) == (claim.recorded == "fails")


def test_the_list_has_what_it_must_have():
    """Propositions, theorem, assumption, boundaries, shared rates, the toys, the ranks."""
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
    } <= ids


def test_unknown_ids_are_named():
    with pytest.raises(ValueError, match=r"prop1-init1, .*\(got prop9\)"):
        claims(("prop1-init1", "prop9"))


def test_lattice_has_the_corners_and_the_efficient_point():
    points = predictions.lattice(12)
    assert len(points) == 37**2
    assert {(-2, -2), (1, 1), (-1, 0)} <= set(points)


def test_the_readme_has_every_claim_with_the_verdict_on_record():
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    found = {row.split("`")[1]: row for row in rows}
    for claim in CLAIMS:
        assert f"**{claim.recorded}**" in found[claim.id], claim.id
        assert found[claim.id].endswith(": fails |"), claim.id
    assert set(found) == {claim.id for claim in CLAIMS}


def test_the_readme_examples_run():
    results = doctest.testfile(
        str(Path(__file__).parent.parent / "README.md"), module_relative=False
    )
    assert results.attempted >= 5
    assert results.failed == 0
