"""Claims about a LoRA layer under sign and Adam updates: Theorem 1, Assumption 1, shared rates."""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from lora_theory.theory.claims.linear_toy import DIAGONAL, EXACT, HALF, TWELFTH, TWO
from lora_theory.theory.claims.records import (
    INIT,
    PAPER,
    Claim,
    Exponents,
    Phase,
    Reduction,
    at,
    nearby,
)
from lora_theory.theory.rules import LAYER_RECTANGULAR

_LAYER: dict[str, str | None] = {
    "delta1_Z_B": "0",
    "delta2_Z_B": "0",
    "Z_A": "0",
    "B": "0",
    "Z_B": "0",
    "dZ_B": "0",
}
_UPDATES = (("sign", "Sign"), ("adam", "Adam"))


def claims() -> Iterator[Claim]:
    """Claims about the layer."""
    for update, words in _UPDATES:
        yield from _theorem(update, words)
    for update, words in _UPDATES:
        yield from _shared(update, words)
    yield _rectangular()


def _theorem(update: str, words: str) -> Iterator[Claim]:
    said = tuple(
        at("layer_map", update, init, TWO, t, samples=n, predicted=_LAYER)
        for init in "AB"
        for t, n in ((3, 1), (5, 1), (3, 3))
    )
    near: tuple[Exponents, ...] = ()
    far = "while residuals keep their signs (targets are far away), "
    if update == "adam":
        far = "with targets far away, where residuals keep their signs, and with targets Θ(1), "
        near = tuple(
            at("layer_map", update, init, TWO, t, near=True, predicted=_LAYER)
            for init in "AB"
            for t in (3, 5)
        )
    yield Claim(
        f"theorem1-{update}",
        f"{words} updates of a LoRA layer at η_A = Θ(1/n), η_B = Θ(1): {far}δ¹, δ², Z_A, B, Z_B "
        "and ΔZ_B = Θ(1), both inits, one sample and three",
        f"{PAPER}, Theorem 1 with Definitions 3 to 5",
        (*said, *near),
        "one rate where two are needed, (−1, −1) and (0, 0); rates a little off",
        (
            at("layer_map", update, "B", ("-1", "-1"), 3, predicted=_LAYER),
            at("layer_map", update, "A", ("0", "0"), 3, predicted=_LAYER),
            nearby(said[0], EXACT),
        ),
    )
    yield Claim(
        f"theorem1-shared-{update}",
        f"{words} updates of a LoRA layer with one rate n^c: no c in twelfths from −2 to 1 is "
        "efficient, from either init, while residuals keep their signs; the class of each",
        f"{PAPER}, Theorem 1",
        tuple(Phase(update, init, DIAGONAL, init, model="layer_map") for init in "AB"),
        "the classes of the other init; those of rates n^1/12 larger",
        (
            Phase(update, "A", DIAGONAL, "B", model="layer_map"),
            *(Phase(update, i, DIAGONAL, i, TWELFTH, "layer_map") for i in "AB"),
        ),
    )
    moves = [(init, t) for t in (1, 2, 4) for init in "AB"]
    assumed = tuple(
        at("layer_map", update, init, (c, "-1"), t, samples=n, dZ_A=_moved(init, t, c))
        for c in ("-3/2", "-1", "-1/2")
        for init, t in moves
        for n in (1, 3)
    )
    yield Claim(
        f"assumption1-{update}",
        f"g_A Z = Θ(n) for {words} updates: ΔZ_A = Θ(n · η_A) at three rates, from Init[2] from "
        "t = 1 on, from Init[1], where A rests at first, from t = 2 on; one sample and three",
        f"{PAPER}, Assumption 1",
        assumed,
        "a factor of n missing, ΔZ_A = Θ(η_A); rates a little off",
        (
            at("layer_map", update, "B", ("-1", "-1"), 1, dZ_A="-1"),
            at("layer_map", update, "A", ("-1", "-1"), 2, dZ_A="-1"),
            nearby(at("layer_map", update, "B", ("-1", "-1"), 1, dZ_A="0"), EXACT),
        ),
    )
    rates = tuple((Fraction(a), Fraction(b)) for a, b in (TWO, HALF, ("-1", "-1"), ("-1/2", "-1")))
    inits = ("A", "B", "both")
    reduced: list[Any] = [("layer", update, n, inits, rates) for n in (1, 3)]
    also = ""
    if update == "sign":  # Of the map of eq. 2, which has them too.
        reduced.append(("linear", update, 1, inits, rates))
        also = "; so is that of the linear toy"
    yield Claim(
        f"reduction-{update}",
        f"The layer under {words} updates is closed in Z_A and Bᵀw: the exact map is the layer in "
        "vectors, to rounding, of one sample and of three with entries ±1, at four rates and all "
        f"inits, t ≤ 3{also}",
        "Definition 1",
        tuple(Reduction(*one) for one in reduced),
        "‖z‖₁ one hundredth larger",
        tuple(dataclasses.replace(Reduction(*one), wrong="gram") for one in reduced),
    )


def _moved(init: str, t: int, c: str) -> str | None:
    return None if (init, t) == ("A", 1) else str(Fraction(c) + 1)


def _shared(update: str, words: str) -> Iterator[Claim]:
    said = at(
        *("layer_map", update, "A", HALF, 3),
        delta1_Z_B="0",
        delta2_Z_B="0",
        Z_A="1/2",
        dZ_B="0",
    )
    yield Claim(
        f"init1-shared-{update}",
        f"One rate n^−1/2, {words}, Init[1]: δ¹, δ² = Θ(1) with Z_A = Θ(n^1/2) "
        "(internal instability)",
        INIT,
        (said, *_also(said, update, "A", HALF)),
        "two rates, (−1, 0), where Z_A = Θ(1); rates a little off",
        (
            at("layer_map", update, "A", TWO, 3, delta1_Z_B="0", delta2_Z_B="0", Z_A="1/2"),
            nearby(said, EXACT),
        ),
    )
    said = at(
        *("layer_map", update, "B", ("-1", "-1"), 3),
        delta1_Z_B="0",
        delta2_Z_B="-1",
        dB="-1",
        dZ_B="0",
    )
    yield Claim(
        f"init2-shared-{update}",
        f"One rate n^−1, {words}, Init[2]: A learns alone, B is undertrained, δ² = Θ(1/n)",
        INIT,
        (said, *_also(said, update, "B", ("-1", "-1"))),
        "two rates, (−1, 0), where B is trained; rates a little off",
        (
            at("layer_map", update, "B", TWO, 3, delta1_Z_B="0", delta2_Z_B="-1"),
            nearby(said, EXACT),
        ),
    )
    asked = {init: at("layer_map", update, init, None, 2, eta=c) for init, c in _ASKED}
    yield Claim(
        f"largest-rate-{update}",
        f"The one rate at which {words} moves Z_B by as much as is asked for, at t = 2, goes as "
        "n^−1/2 from Init[1], as n^−1 from Init[2]",
        INIT,
        tuple(asked.values()),
        "the laws exchanged; exponents a little off",
        (
            at("layer_map", update, "A", None, 2, eta="-1"),
            at("layer_map", update, "B", None, 2, eta="-1/2"),
            *(nearby(case, EXACT) for case in asked.values()),
        ),
    )


_ASKED = (("A", "-1/2"), ("B", "-1"))


def _words(case: Exponents) -> dict[str, str | None]:
    return {name: None if e is None else str(e) for name, e in case.predicted.items()}


def _also(said: Exponents, update: str, init: str, rates: tuple[str, str]) -> Iterator[Exponents]:
    """The same later; under Adam with targets Θ(1) too."""
    words = _words(said)
    yield at("layer_map", update, init, rates, 5, predicted=words)
    if update == "adam":
        yield at("layer_map", update, init, rates, 3, near=True, predicted=words)


def _rectangular() -> Claim:
    def case(
        update: str, init: str, rates: tuple[str, str], inputs: str, outputs: str
    ) -> Exponents:
        sizes = {"inputs": inputs, "outputs": outputs, "predicted": _LAYER}
        return at("layer_map", update, init, rates, 3, rule=LAYER_RECTANGULAR, **sizes)  # type: ignore[arg-type]

    shapes = (("1", "1/2"), ("1/2", "1"))
    said = tuple(
        case(update, init, (f"-{inputs}", "0"), inputs, outputs)
        for update, _ in _UPDATES
        for init in "AB"
        for inputs, outputs in shapes
    )
    return Claim(
        "rectangular",
        "Of a layer with n_in inputs and n_out outputs η_A = Θ(1/n_in), η_B = Θ(1) is efficient, "
        "whatever n_out: sign and Adam updates, n_out = n_in^1/2 and n_in²",
        "recursion of Theorem 1",
        said,
        "η_A = Θ(1/n_out); rates a little off",
        (
            *(case("adam", "A", (f"-{outputs}", "0"), i, outputs) for i, outputs in shapes),
            nearby(said[0], EXACT),
        ),
    )
