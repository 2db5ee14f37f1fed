"""The exact symmetries: those of each update, and controls that break one thing."""

from lora_theory.theory.claims import Symmetry
from lora_theory.theory.claims.symmetries import claims

# Degree of an update in its gradient, which goes as 1/p: with η ∝ p^(1 + degree) A moves as p.
DEGREES = {"gd": 1, "sign": 0, "adam": 0, "adamw": 0}
FELT = {"gd": ("rate",), "sign": ("rate",), "adam": ("rate", "eps")}
FELT["adamw"] = ("rate", "eps", "decay")


def test_symmetries_are_those_of_the_update_and_their_controls_break_one_thing():
    found = list(claims())
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
