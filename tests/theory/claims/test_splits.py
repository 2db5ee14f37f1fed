"""What depends on the split of B A: derived again, from how each optimizer treats a gradient."""

from fractions import Fraction

import pytest

from lora_theory.theory.claims import Split
from lora_theory.theory.claims.splits import claims

CLAIMS = {claim.id: claim for claim in claims()}
# Which G leave f, both factors random: G Gᵀ = I without an inverse, entries that stay entries.
TURNS = {"permutation", "rotation"}
ALLOWED = {
    "scaled_gd": TURNS | {"scale", "general"},
    "lora_rite": TURNS | {"scale", "general"},
    "gd": TURNS,
    "scaled_gd_damped": TURNS,
    "scaled_gd_hardly_damped": TURNS,
    "adafactor": {"permutation", "scale"},
    **{name: {"permutation"} for name in ("adam", "adamw", "lora_plus", "scaled_adamw")},
}
# From B = 0, of rank 1 after a step: no inverse, and no size.
FROM_INIT_1 = {
    "scaled_gd": TURNS | {"scale"},
    "lora_rite": TURNS | {"scale"},
    "adafactor": {"permutation"},
}


def same(case):
    allowed = ALLOWED if case.init == "both" else FROM_INIT_1
    return case.mixing in allowed[case.optimizer]


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_cases_are_right_and_every_control_is_wrong(claim):
    assert all(isinstance(case, Split) for case in (*claim.cases, *claim.control))
    for case in claim.cases:
        assert same(case) == (case.least is None)
    for case in claim.control:
        assert same(case) != (case.least is None)
    assert {case.model for case in claim.cases} == {"layer", "two_layer"}
    assert {case.init for case in claim.cases if case.model == "two_layer"} == {"both"}


def test_an_invariance_has_all_kinds_and_a_breach_a_threshold():
    for name, claim in CLAIMS.items():
        kind, _, optimizer = name.partition("-")
        of_both = {case.mixing for case in claim.cases if case.init == "both"}
        if kind == "split":
            assert {case.least for case in claim.cases} == {Fraction(1, 100)}
            assert (
                of_both == {"scale", "rotation", "general"} - ALLOWED[optimizer.replace("-", "_")]
            )
        elif optimizer != "adafactor-scale":
            assert of_both == {"scale", "rotation", "general"}
    assert sum(name.startswith("split-") for name in CLAIMS) == 7
    assert len(CLAIMS) == 10


def test_each_has_a_control_that_is_near():
    """One step from what is claimed: another G of the same optimizer, or nearly no damping."""
    for claim in CLAIMS.values():
        optimizers = {case.optimizer for case in claim.cases}
        near = {case.mixing for case in claim.control if case.optimizer in optimizers}
        assert near - {"B alone"}
