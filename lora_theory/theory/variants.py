"""Rules beside those of the paper: other optimizers, other parametrisations of an adapter.

=====================================  ===========================================================
rule                                   what it follows
=====================================  ===========================================================
`HEAVY_BALL`                           gradient descent with momentum, on the linear toy
`WEIGHT_DECAY`                         gradient descent with decoupled weight decay n^d, on it
`ALTERNATING_GD`, `ALTERNATING_SIGN`   A and B updated in turns, on the linear toy and on a layer
`LORA_FA_GD`, `LORA_FA_SIGN`           A frozen, on the linear toy and on a layer
`FULL_GD`                              full fine-tuning of the linear toy
`SCALED_GD`                            gradients preconditioned r × r, on the linear toy
`DORA_GD`                              DoRA with three rates (A, B, magnitude), on the linear toy
=====================================  ===========================================================

The linear toy is f = b aᵀx with ‖x‖² = Θ(n), U = f − y and y = Θ(1) (eq. 2); s = aᵀx. Sizes have no
sign: what the equations take away is added below.
"""

from collections.abc import Iterator
from typing import NamedTuple

from lora_theory.theory.exponents import Rule, Step, fixed, shared, width_rates
from lora_theory.theory.powers import ONE, ZERO, N, Power, Unknown
from lora_theory.theory.rules import (
    LAYER_SIGN,
    LINEAR_GD,
    TWO_LAYER_GD,
    TWO_LAYER_SIGN,
    Start,
    processed,
    starts,
)


def _moved(b: Power, s: Power, db: Power, ds: Power) -> tuple[Power, Power, Step]:
    """b, s and what is yielded after they have moved by db and ds; f = b s."""
    deltas = {"delta1": b * ds, "delta2": db * s, "delta3": db * ds}
    b, s = b + db, s + ds
    return b, s, Step(b * s, deltas, {"B": b, "Z_A": s})


def _heavy_ball(start: Start, eta_a: Power, eta_b: Power) -> Iterator[Step]:
    """Momentum β = Θ(1), with the velocities v of b and w of s:

    v' = β v + s U,  b' = b − η_b v',    w' = β w + ‖x‖² b U,  s' = s − η_a w' .
    """
    b, s = start
    v, w = ZERO, ZERO
    while True:
        u = b * s + 1
        v, w = v + s * u, w + N * b * u
        b, s, step = _moved(b, s, eta_b * v, eta_a * w)
        yield step


def _weight_decay(start: Start, eta_a: Power, eta_b: Power, decay: Power) -> Iterator[Step]:
    """Decoupled weight decay λ, the same for both factors, as in AdamW:

    b' = (1 − η_b λ) b − η_b s U,  s' = (1 − η_a λ) s − η_a ‖x‖² b U .

    What decays counts among the contributions: from Init[2] B may move f by its decay alone.
    """
    b, s = start
    while True:
        u = b * s + 1
        b, s, step = _moved(b, s, eta_b * (s * u + decay * b), eta_a * (N * b * u + decay * s))
        yield step


def _alternating_gd(start: Start, eta_a: Power, eta_b: Power) -> Iterator[Step]:
    """A at t = 1, 3, …, B at t = 2, 4, …: s' = s − η_a ‖x‖² b U, then b' = b − η_b s' U'."""
    b, s = start
    while True:
        b, s, step = _moved(b, s, ZERO, eta_a * N * b * (b * s + 1))
        yield step
        b, s, step = _moved(b, s, eta_b * s * (b * s + 1), ZERO)
        yield step


def _alternating_sign(start: Start, eta_a: Power, eta_b: Power) -> Iterator[Step]:
    """A at t = 1, 3, …, B at t = 2, 4, …, with sign updates: ΔZ_A = Θ(n) η_A, ΔB = Θ(1) η_B.

    A factor rests as long as the other one is exactly zero. f stands for Z_B.
    """
    b, z_a = start
    while True:
        b, z_a, step = _moved(b, z_a, ZERO, eta_a * N * processed(b))
        yield step
        b, z_a, step = _moved(b, z_a, eta_b * processed(z_a), ZERO)
        yield step


def _lora_fa_gd(start: Start, eta_b: Power) -> Iterator[Step]:
    """A stays as it was drawn: b' = b − η_b s U."""
    b, s = start
    while True:
        db = eta_b * s * (b * s + 1)
        b = b + db
        yield Step(b * s, {"delta2": db * s}, {"B": b, "Z_A": s})


def _lora_fa_sign(start: Start, eta_b: Power) -> Iterator[Step]:
    """A stays as it was drawn: ΔB = Θ(1) η_B unless Z_A is exactly zero. f stands for Z_B."""
    b, z_a = start
    while True:
        db = eta_b * processed(z_a)
        b = b + db
        yield Step(b * z_a, {"delta2": db * z_a}, {"B": b, "Z_A": z_a})


def _full_gd(start: tuple[Power], eta: Power) -> Iterator[Step]:
    """f = wᵀx with w' = w − η U x, so f' = f − η ‖x‖² U: one matrix, one rate."""
    (f,) = start
    while True:
        df = eta * N * (f + 1)
        f = f + df
        yield Step(f, {"delta1": df}, {})


def _scaled_gd(start: tuple[Power, Power, Power], eta_a: Power, eta_b: Power) -> Iterator[Step]:
    """ΔA = −η_A (BᵀB)⁻¹ g_A, ΔB = −η_B g_B (A Aᵀ)⁻¹, undamped; the inverse of 0 is 0.

    With r = 1 the inverses are 1/b² and 1/‖a‖²; q = ‖a‖ is the third size:

        s' = s − η_a ‖x‖² U / b,   b' = b − η_b s U / q²,   a' = a − (η_a U / b) x .

    Along x alone a is of the size Δs/‖x‖, so q' = q + n^−1/2 Δs.
    """
    b, s, q = start
    while True:
        u = b * s + 1
        ds = eta_a * N * u / b if b != ZERO else ZERO
        db = eta_b * s * u / q**2 if q != ZERO else ZERO
        q = q + N ** "-1/2" * ds
        b, s, step = _moved(b, s, db, ds)
        yield step._replace(other={"norm_A": q})


def _dora_gd(
    start: tuple[Power, Power, Power, Power], eta_a: Power, eta_b: Power, eta_m: Power
) -> Iterator[Step]:
    """f = m vᵀx/‖v‖ with v = w₀ + b a, and ‖v‖ as a constant in the gradients of a and b:

        h = vᵀx/‖v‖,  m' = m − η_m h U,  b' = b − η_b (m/‖v‖) s U,  s' = s − η_a (m/‖v‖) ‖x‖² b U .

    w₀ᵀx and ‖w₀‖ are Θ(1), so ‖v‖ = Θ(1 + b q) with q = ‖a‖, q' = q + n^−1/2 Δs. Contributions are
    those to f = m h with the norm after the move; that of m alone is delta_m, a factor which
    Definition 5 does not ask for.
    """
    b, s, q, m = start
    norm, h = 1 + b * q, (1 + b * s) / (1 + b * q)
    while True:
        u = m * h + 1
        ds, db, dm = eta_a * N * b * u * m / norm, eta_b * s * u * m / norm, eta_m * h * u
        moved_q, moved_b = q + N ** "-1/2" * ds, b + db
        deltas = {
            "delta1": m * b * ds / (1 + b * moved_q),
            "delta2": m * db * s / (1 + moved_b * q),
            "delta3": m * db * ds / (1 + moved_b * moved_q),
        }
        delta_m = dm * h
        b, s, q, m = moved_b, s + ds, moved_q, m + dm
        norm = 1 + b * q
        h = (1 + b * s) / norm
        yield Step(
            m * h, deltas, {"B": b, "Z_A": s, "magnitude": m}, {"delta_m": delta_m, "norm_A": q}
        )


def _decaying_rates(c_a: Unknown, c_b: Unknown, d: Unknown) -> dict[str, Power]:
    return {"eta_a": c_a.of(N), "eta_b": c_b.of(N), "decay": d.of(N)}


_TWO_RATES = (("c_a", "c_b"), width_rates("eta_a", "eta_b"))
_B_ALONE = (("c_b",), width_rates("eta_b"), starts("A"))
_ONE_SIDED = starts("A", "B")
#: Heavy-ball momentum on the linear toy: a velocity has the size of the latest gradient, so all
#: exponents are those of gradient descent.
HEAVY_BALL = Rule("momentum on the linear toy", _heavy_ball, *_TWO_RATES, _ONE_SIDED)
#: Weight decay n^d on the linear toy, decoupled: stable if η_A n^d and η_B n^d are O(1) as well.
WEIGHT_DECAY = Rule(
    "weight decay on the linear toy",
    _weight_decay,
    ("c_a", "c_b", "d"),
    _decaying_rates,
    _ONE_SIDED,
)
#: Gradient descent on A and B in turns, on the linear toy.
ALTERNATING_GD = Rule(
    "gradient descent on A and B in turns", _alternating_gd, *_TWO_RATES, _ONE_SIDED
)
#: Sign updates of A and B in turns, on a layer.
ALTERNATING_SIGN = Rule(
    "sign updates of A and B in turns", _alternating_sign, *_TWO_RATES, _ONE_SIDED | starts("both")
)
#: LoRA-FA on the linear toy.
LORA_FA_GD = Rule("LoRA-FA on the linear toy", _lora_fa_gd, *_B_ALONE)
#: LoRA-FA on a layer, under sign or Adam updates.
LORA_FA_SIGN = Rule("LoRA-FA on a layer, sign updates", _lora_fa_sign, *_B_ALONE)
#: Full fine-tuning of the linear toy, from f = Θ(1) (a pretrained w) or from w = 0.
FULL_GD = Rule(
    "full fine-tuning of the linear toy",
    _full_gd,
    ("c",),
    width_rates("eta"),
    {"W*": (ONE,), "0": (ZERO,)},
)
#: Preconditioned r × r: one rate n^−1 is efficient, from Init[1] with Z_A = Θ(n) inside.
SCALED_GD = Rule(
    "r × r preconditioning on the linear toy",
    _scaled_gd,
    *_TWO_RATES,
    {"A": (ZERO, ONE, ONE), "B": (ONE, ZERO, ZERO)},
)
#: DoRA on the linear toy, sizes (B, Z_A, ‖a‖, m) at the start. Where f grows slowly, divided by a
#: norm, no end can be told for all rates at once, and `solve` refuses or, with `rest`, leaves a
#: wedge above c_a + c_b = −1: points, and lines (`fixed`), are decided.
DORA_GD = Rule(
    "DoRA on the linear toy",
    _dora_gd,
    ("c_a", "c_b", "c_m"),
    width_rates("eta_a", "eta_b", "eta_m"),
    {"A": (ZERO, ONE, ONE, ONE), "B": (ONE, ZERO, ZERO, ONE)},
)


class Shown(NamedTuple):
    """A rule whose diagram is drawn beside those of the paper.

    Attributes:
        name: in few words.
        rule: with one or two unknown exponents.
        init: a name of its `inits`.
    """

    name: str
    rule: Rule
    init: str


#: What is drawn of the further rules: planes (c_a, c_b), and below them lines of one exponent.
#: Weight decay is drawn at the largest λ that leaves (−1, 0) efficient, and at a larger one; DoRA
#: at the largest c_m that does, at which its magnitude learns.
SHOWN = (
    Shown("momentum", HEAVY_BALL, "A"),
    Shown("weight decay λ = Θ(1)", fixed(WEIGHT_DECAY, d=0), "A"),
    Shown("weight decay λ = n^1/4", fixed(WEIGHT_DECAY, d="1/4"), "A"),
    Shown("weight decay λ = n^1/4", fixed(WEIGHT_DECAY, d="1/4"), "B"),
    Shown("A and B in turns, GD", ALTERNATING_GD, "A"),
    Shown("A and B in turns, sign", ALTERNATING_SIGN, "A"),
    Shown("r × r preconditioning", SCALED_GD, "A"),
    Shown("r × r preconditioning", SCALED_GD, "B"),
    Shown("DoRA, η_m = Θ(1)", fixed(DORA_GD, c_m=0), "A"),
    Shown("layer, sign updates", LAYER_SIGN, "both"),
    Shown("two layers, GD", TWO_LAYER_GD, "both"),
    Shown("two layers, sign", TWO_LAYER_SIGN, "both"),
    Shown("LoRA-FA, gradient descent", LORA_FA_GD, "A"),
    Shown("LoRA-FA, sign updates", LORA_FA_SIGN, "A"),
    Shown("full fine-tuning, gradient descent", FULL_GD, "W*"),
    Shown("one rate, gradient descent", shared(LINEAR_GD), "A"),
    Shown("one rate, gradient descent", shared(LINEAR_GD), "B"),
    Shown("one rate, sign updates", shared(LAYER_SIGN), "A"),
    Shown("one rate, sign updates", shared(LAYER_SIGN), "B"),
    Shown("one rate, r × r preconditioning", shared(SCALED_GD), "A"),
    Shown("one rate, r × r preconditioning", shared(SCALED_GD), "B"),
)
