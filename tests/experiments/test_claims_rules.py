"""The diagrams of the further rules: every one is told, and says what the theory says."""

from fractions import Fraction

import pytest
from plots.readable import assert_readable

from experiments.claims.rules import diagrams
from lora_theory.plots.records import NOT_TOLD
from lora_theory.plots.rules import rule_diagrams
from lora_theory.terms import Verdict
from lora_theory.theory.exponents import classify
from lora_theory.theory.variants import SHOWN

EFFICIENT = {
    "momentum": "(−1, 0)",
    "weight decay λ = Θ(1)": "(−1, 0)",
    "A and B in turns, GD": "(−1, 0)",
    "A and B in turns, sign": "(−1, 0)",
    "DoRA, η_m = Θ(1)": "(−1, 0)",
    "layer, sign updates": "(−1, 0)",
    "two layers, GD": "(−1, 0)",
    "two layers, sign": "(−1, −1/2)",
    "LoRA-FA, gradient descent": "none",
    "LoRA-FA, sign updates": "none",
    "full fine-tuning, gradient descent": "c = −1",
    "one rate, gradient descent": "none",
    "one rate, sign updates": "none",
    ("weight decay λ = n^1/4", "A"): "none",
    ("weight decay λ = n^1/4", "B"): "(−1, −1/4)",
    ("r × r preconditioning", "A"): "(−1, 0)",
    ("r × r preconditioning", "B"): "(−1, −1)",
    ("one rate, r × r preconditioning", "A"): "none",
    ("one rate, r × r preconditioning", "B"): "c = −1",
}


@pytest.fixture(scope="module")
def drawn():
    return diagrams()


@pytest.mark.slow
def test_each_rule_is_efficient_where_it_is_by_hand(drawn):
    """`tests/theory/test_variants.py` derives them."""
    for shown, found in zip(SHOWN, drawn, strict=True):
        wanted = EFFICIENT.get(shown.name) or EFFICIENT[shown.name, shown.init]
        assert found.efficient == wanted, shown


@pytest.mark.slow
def test_of_dora_alone_something_is_not_told(drawn):
    left = {at.name for at in drawn for area in at.areas if area.name == NOT_TOLD}
    assert left == {"DoRA, η_m = Θ(1)"}


@pytest.mark.slow
def test_the_middle_of_every_area_has_its_verdict(drawn):
    for shown, found in zip(SHOWN, drawn, strict=True):
        for area in found.areas:
            if area.name == NOT_TOLD:
                continue
            corners = [[Fraction(c).limit_denominator(10**4) for c in at] for at in area.corners]
            middle = [sum(axis) / len(axis) for axis in zip(*corners, strict=True)]
            at = dict(zip(shown.rule.exponents, middle, strict=True))
            cls = classify(shown.rule, shown.init, at)
            at_once = cls.verdict is Verdict.UNSTABLE and cls.from_t == 1
            name = "unstable at once" if at_once else cls.verdict.value
            assert name == area.name, (shown.name, shown.init, at)


@pytest.mark.slow
def test_the_figure_can_be_read(drawn):
    assert_readable(rule_diagrams(drawn))


def test_a_rule_of_no_init_that_it_has_is_refused():
    with pytest.raises(ValueError, match="init: must be one of A"):
        diagrams([SHOWN[-1]._replace(init="both")])
