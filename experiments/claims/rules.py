"""The predicted diagrams of the further update rules, as they are drawn."""

from collections.abc import Iterable

from lora_theory.plots.records import NOT_TOLD, DrawnRule
from lora_theory.theory.exponents import solve
from lora_theory.theory.regions import efficient_in_words, in_box
from lora_theory.theory.variants import SHOWN, Shown

# Splits in a row: every rule but DoRA ends by then, of which they leave a wedge.
_MOST = 12


def diagrams(shown: Iterable[Shown] = SHOWN) -> list[DrawnRule]:
    """What the case analysis says of each rule, in some seconds; nothing is measured.

    Among the rules with one rate for both factors it is efficient under r × r preconditioning
    alone: n^−1 from Init[2]; from Init[1] all but Z_A stay O(1) at n^−1, and Z_A grows as n.

    >>> from lora_theory.theory.variants import LORA_FA_SIGN
    >>> (drawn,) = diagrams([Shown("LoRA-FA", LORA_FA_SIGN, "A")])
    >>> drawn.efficient, [area.name for area in drawn.areas if area.dimension == 0]
    ('none', ['B alone'])
    """
    found = []
    for name, rule, init in shown:
        regions = solve(rule, init, most=_MOST, rest=NOT_TOLD)
        areas, words = tuple(in_box(regions)), efficient_in_words(regions)
        found.append(DrawnRule(name, init, rule.exponents, areas, words))
    return found
