"""Claims about landscapes of the loss over (η_A, η_B): how they move with the width."""

from collections.abc import Iterator
from fractions import Fraction

from lora_theory.theory.claims.records import Carried, Claim, Collapsing, Family, Placed
from lora_theory.theory.scalings import SHARED


def claims() -> Iterator[Claim]:
    """All that `scalings` predicts of three families and small sizes tell.

    The best shared rate is not among it: at these sizes it moves with t as much as with n.
    """
    two_layer = Family("two_layer", "gd", "both")
    init1, init2 = (Family("feature_layer", "adam", init) for init in ("A", "B"))
    half, whole = SHARED["one rate n^−1/2"], SHARED["one rate n^−1"]
    constant = (Fraction(0), Fraction(0))
    names = {
        two_layer: ("two-layer", "Two-layer toy, both factors random, gradient descent"),
        init1: ("adam-init1", "A LoRA layer on frozen features, Adam, Init[1]"),
        init2: ("adam-init2", "A LoRA layer on frozen features, Adam, Init[2]"),
    }

    def power(c: Fraction) -> str:
        return f"n^{c}".replace("-", "−")

    def rates(c_a: Fraction, c_b: Fraction) -> str:
        return f"η_A ∝ {power(c_a)}, η_B " + (f"∝ {power(c_b)}" if c_b else "constant")

    for family, shared, wrong in (
        (two_layer, whole, "n^−1"),
        (init1, half, "n^−1/2"),
        (init2, whole, "n^−1"),
    ):
        name, words = names[family]
        c_a, c_b = family.moves.collapse
        alone = family.moves.alone
        how = rates(c_a, c_b)
        if not alone:
            how = f"c_a + c_b = {c_a + c_b}, whatever c_a − c_b".replace("-", "−")
        yield Claim(
            f"collapse-{name}",
            f"{words}: landscapes of the loss over (η_A, η_B) fall on one another with {how}",
            family.moves.source,
            (Collapsing(family, family.moves.collapse, alone),),
            f"one rate {wrong}; landscapes that stay where they are",
            (Collapsing(family, shared, alone), Collapsing(family, constant, alone)),
        )
    for family, (wrong_c, _) in ((two_layer, half), (init1, whole), (init2, whole)):
        name, words = names[family]
        exponent = family.moves.places["edge equal"]
        yield Claim(
            f"edge-{name}",
            f"{words}: one rate η_A = η_B trains up to Θ({power(exponent)})",
            family.moves.source,
            (Placed(family, "edge equal", exponent),),
            f"up to Θ({power(wrong_c)})",
            (Placed(family, "edge equal", wrong_c),),
        )
    for family in (two_layer, init1):
        name, words = names[family]
        yield Claim(
            f"transfer-{name}",
            f"{words}: rates tuned at the least width and carried as "
            f"{rates(*family.moves.collapse)} are as good at the largest as those tuned there, or "
            "nearly so",
            family.moves.source,
            (Carried(family, family.moves.collapse),),
            "one rate that is carried as it is",
            (Carried(family, constant, shared=True),),
        )
