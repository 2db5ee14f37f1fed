"""Claims about eq. 3: what is said of f and what of the coordinates of Z_B."""

from fractions import Fraction

from lora_theory.theory.claims.two_layer import claims

CLAIMS = {claim.id: claim for claim in claims()}


def test_what_fails_and_what_holds_of_b_differ_by_the_rows_over_which_its_move_is_spread():
    fails, holds = CLAIMS["two-layer-coordinates"], CLAIMS["two-layer-lazy-rows"]
    assert (fails.recorded, holds.recorded) == ("fails", "holds")
    said, right = fails.cases[0].predicted, holds.cases[0].predicted
    assert said["delta2_Z_B"] - right["delta2_Z_B"] == Fraction(1, 2)
    assert fails.cases[0].setting == holds.cases[0].setting


def test_several_steps_are_claimed():
    assert {case.t for case in CLAIMS["two-layer-efficient"].cases} == {1, 2, 3}
