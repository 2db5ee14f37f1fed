"""Claims about the layer: which mutants of its recursion they catch."""

import dataclasses
from fractions import Fraction

import pytest

from lora_theory.theory import rules
from lora_theory.theory.claims import Exponents, Phase, derived
from lora_theory.theory.claims.layer import claims
from lora_theory.theory.exponents import N, Step, efficient, shared
from lora_theory.theory.powers import ZERO

CLAIMS = {claim.id: claim for claim in claims()}


def mutant(moved):
    """The layer's recursion with another ΔZ_A, from (η_A, η_B, B)."""

    def run(start, eta_a, eta_b):
        b, z_a = start
        while True:
            dz_a, db = moved(eta_a, eta_b, b), eta_b * rules.processed(z_a)
            deltas = {"delta1": b * dz_a, "delta2": db * z_a, "delta3": db * dz_a}
            b, z_a = b + db, z_a + dz_a
            dz_b = deltas["delta1"] + deltas["delta2"] + deltas["delta3"]
            other = {f"{name}_Z_B": delta for name, delta in deltas.items()}
            other |= {"dZ_A": dz_a, "dB": db, "dZ_B": dz_b, "Z_B": b * z_a}
            yield Step(b * z_a, deltas, {"B": b, "Z_A": z_a}, other)

    return dataclasses.replace(rules.LAYER_SIGN, run=run)


MUTANTS = {
    "it is right": lambda eta_a, eta_b, b: eta_a * N * rules.processed(b),
    "g_A Z = Θ(1)": lambda eta_a, eta_b, b: eta_a * rules.processed(b),
    "g_A Z = Θ(n^1/2)": lambda eta_a, eta_b, b: eta_a * N ** "1/2" * rules.processed(b),
    "A moves at t = 1": lambda eta_a, eta_b, b: eta_a * N,
    "A never moves": lambda eta_a, eta_b, b: ZERO,
}


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize("update", ["sign", "adam"])
def test_assumption_1_tells_how_a_moves(name, update):
    rule, cases = mutant(MUTANTS[name]), CLAIMS[f"assumption1-{update}"].cases
    wrong = [c for c in cases if derived(dataclasses.replace(c, rule=rule)) != dict(c.predicted)]
    assert bool(wrong) == (name != "it is right")


@pytest.mark.parametrize("init", ["A", "B"])
def test_no_shared_rate_is_efficient_by_the_case_analysis(init):
    assert efficient(shared(rules.LAYER_SIGN), init) == []
    for update in ("sign", "adam"):
        (case,) = (c for c in CLAIMS[f"theorem1-shared-{update}"].cases if c.init == init)
        assert isinstance(case, Phase)
        assert all(c_a == c_b for c_a, c_b in case.points)
        assert {Fraction(-1, 2), Fraction(-1)} <= {c_a for c_a, _ in case.points}


def test_what_is_claimed_of_rectangular_layers_is_claimed_of_both_shapes():
    cases = [c for c in CLAIMS["rectangular"].cases if isinstance(c, Exponents)]
    assert {(c.setting.inputs, c.setting.outputs) for c in cases} == {
        (Fraction(1), Fraction(1, 2)),
        (Fraction(1, 2), Fraction(1)),
    }
    assert {c.setting.init for c in cases} == {"A", "B"}
