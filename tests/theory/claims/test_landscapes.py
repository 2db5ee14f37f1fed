"""Claims about landscapes say what `scalings` predicts, and their controls something else."""

import pytest

from lora_theory.theory.claims import Carried, Collapsing, Family, Placed
from lora_theory.theory.claims.landscapes import claims
from lora_theory.theory.scalings import moves

CLAIMS = list(claims())
MOVING = Collapsing | Placed | Carried


def test_claims_about_landscapes_say_what_is_predicted_and_their_controls_something_else():
    assert len(CLAIMS) == 8
    for claim in CLAIMS:
        assert isinstance(claim.cases[0], MOVING)
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
