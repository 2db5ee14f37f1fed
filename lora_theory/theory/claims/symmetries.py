"""Claims about the exact symmetry of α, init and rates."""

from collections.abc import Iterator
from fractions import Fraction

from lora_theory.theory.claims.records import REGRET, Claim, Symmetry


def claims() -> Iterator[Claim]:
    """Of four updates, in powers of p and q.

    Gradients go as −1, and rates as what turns their update into 1.
    """
    powers_of_two, others = (Fraction(8), Fraction(1, 2)), (Fraction(3), Fraction(7, 10))
    # Below a ReLU, with W* = 0, neither one-sided init ever moves.
    settings = (("layer", "A"), ("layer", "B"), ("layer", "both"), ("two_layer", "both"))

    def of(update: str, rate: int, eps: int = -1, decay: int = -1) -> tuple[Symmetry, ...]:
        exact = tuple(
            Symmetry(model, update, init, *powers_of_two, rate, eps, decay)
            for model, init in settings
        )
        # From Init[1] sign updates bring B back to 0, or beside it: there rounding has a sign.
        rounded = tuple(
            Symmetry(model, update, "both", *others, rate, eps, decay) for model, _ in settings[2:]
        )
        return exact + rounded

    for update, words, right, wrong, broken in (
        ("sign", "Sign updates", "η → pη, qη", "η → p²η, q²η", {"rate": 2}),
        ("adam", "Adam", "η → pη, qη and ε → ε/p, ε/q", "ε as it was", {"eps": 0}),
        (
            "adamw",
            "AdamW",
            "η → pη, qη, and ε and the decays divided by p, q",
            "the decays as they were",
            {"decay": 0},
        ),
        ("gd", "Gradient descent", "η → p²η, q²η", "η → pη, qη", {"rate": 1}),
    ):
        rate = 2 if update == "gd" else 1
        yield Claim(
            f"symmetry-{update}",
            f"{words}: α → α/(pq), A → pA, B → qB with {right} leaves every f_t as it is, bit for "
            "bit if p, q are powers of two",
            REGRET if update != "gd" else "symmetry of Definition 1",
            of(update, rate),
            wrong,
            of(update, **{"rate": rate} | broken),
        )
