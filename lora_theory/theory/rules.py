"""The update rules of the theory, each as the recursion of its sizes; see `exponents.Rule`.

Other optimizers and parametrisations of an adapter are in `variants`.

================================  ================================================================
rule                              what it follows
================================  ================================================================
`LINEAR_GD`                       gradient descent on the linear toy (eq. 2; Propositions 1 and 2)
`LAYER_SIGN`                      sign or Adam updates of a LoRA layer (Theorem 1)
`LAYER_RECTANGULAR`               the same for a layer that is not square
`TWO_LAYER_GD`, `TWO_LAYER_SIGN`  the two-layer toy with both factors random (eq. 3)
`RANK_SIGN`, `RANK_GD`            exponents of the rank r under a multiplier r^−γ
================================  ================================================================
"""

from collections.abc import Iterator
from typing import Any

from lora_theory.theory.exponents import Rule, Step, width_rates
from lora_theory.theory.powers import ONE, ZERO, N, Power, R, Unknown, rational

Start = tuple[Power, Power]
#: Sizes of (B, Z_A) at the start: Init[1], Init[2], and both random.
START: dict[str, Start] = {"A": (ZERO, ONE), "B": (ONE, ZERO), "both": (ONE, ONE)}


def sized(init: str, start: Any = 0) -> str | Start:
    """An init whose random factor starts at n^start instead of 1.

    >>> sized("A", "1/4")
    (0, n^1/4)
    """
    if not start:
        return init
    b, z_a = START[init]
    size = N ** rational(start)
    return b * size, z_a * size


def starts(*names: str) -> dict[str, Start]:
    """Some of `START`, for the inits that a rule knows by name."""
    return {name: START[name] for name in names}


def processed(gradient: Power) -> Power:
    """Entries of a sign or Adam update: Θ(1) whatever the gradient, but 0 where it is exactly 0."""
    return gradient / gradient if gradient.compare(ZERO) > 0 else ZERO


def _of_z_b(deltas: dict[str, Power]) -> dict[str, Power]:
    """Of a layer alone f stands for Z_B: its contributions are those to Z_B."""
    return {f"{name}_Z_B": delta for name, delta in deltas.items()}


def _linear_gd(start: Start, eta_a: Power, eta_b: Power) -> Iterator[Step]:
    """Eq. 2 with ‖x‖² = Θ(n) and y = Θ(1): b' = b − η_b s U, s' = s − η_a ‖x‖² b U, f = b s."""
    b, s = start
    while True:
        u = b * s + ONE
        deltas = {
            "delta1": eta_a * b * b * u * N,
            "delta2": eta_b * s * s * u,
            "delta3": eta_a * eta_b * u * u * b * s * N,
        }
        b, s = b + eta_b * s * u, s + eta_a * b * u * N
        yield Step(b * s, deltas, {"B": b, "Z_A": s})


def _layer_sign(start: Start, eta_a: Power, eta_b: Power, inputs: Power = N) -> Iterator[Step]:
    """Processed gradients with Θ(1) entries and g_A Z = Θ(n) (Assumption 1); f stands for Z_B.

    Of a layer that is not square it is the number of inputs that counts: how many outputs there
    are is felt in no coordinate of Z_B.
    """
    b, z_a = start
    while True:
        # A's gradient is Bᵀ dZ̄ Zᵀ and B's is dZ̄ Z_Aᵀ: zero as long as the other factor is.
        dz_a, db = eta_a * inputs * processed(b), eta_b * processed(z_a)
        deltas = {"delta1": b * dz_a, "delta2": db * z_a, "delta3": db * dz_a}
        b, z_a = b + db, z_a + dz_a
        dz_b = deltas["delta1"] + deltas["delta2"] + deltas["delta3"]
        moves = {"dZ_A": dz_a, "dB": db, "dZ_B": dz_b}
        yield Step(
            b * z_a, deltas, {"B": b, "Z_A": z_a}, {"Z_B": b * z_a} | moves | _of_z_b(deltas)
        )


def _two_layer_gd(start: Start, eta_a: Power, eta_b: Power) -> Iterator[Step]:
    """Eq. 3: with S = Bᵀ dZ̄ / U, f = S·Z_A, and W_out of size n^−1/2 in B's gradient alone."""
    b, z_a = start
    s = ONE
    while True:
        u = s * z_a + ONE
        dz_a, db, ds = eta_a * N * s * u, eta_b * N ** "-1/2" * z_a * u, eta_b * z_a * u
        deltas = {"delta1": s * dz_a, "delta2": ds * z_a, "delta3": ds * dz_a}
        other = {"delta1_Z_B": b * dz_a, "delta2_Z_B": db * z_a, "dB": db}
        b, s, z_a = b + db, s + ds, z_a + dz_a
        yield Step(s * z_a, deltas, {"B": b, "Z_A": z_a, "Z_B": b * z_a}, other)


def _two_layer_sign(start: Start, eta_a: Power, eta_b: Power) -> Iterator[Step]:
    """Eq. 3 with sign updates: ΔB is aligned with W_out, so it moves S by n · n^−1/2 η_b."""
    b, z_a = start
    s = ONE
    while True:
        dz_a, db = eta_a * N, eta_b
        ds = db * N * N ** "-1/2"
        deltas = {"delta1": s * dz_a, "delta2": ds * z_a, "delta3": ds * dz_a}
        other = {"delta1_Z_B": b * dz_a, "delta2_Z_B": db * z_a, "dB": db}
        b, s, z_a = b + db, s + ds, z_a + dz_a
        yield Step(s * z_a, deltas, {"B": b, "Z_A": z_a, "Z_B": b * z_a}, other)


def _rank_sign(start: Start, eta: Power, multiplier: Power) -> Iterator[Step]:
    """Sign updates of a layer with multiplier r^−γ and one rate.

    Sums over the r coordinates add up (r) where a factor has moved, since sign updates align
    ΔB_ij with Z_A,j and ΔZ_A,j with B_ij; against a random B they do not (r^1/2).
    """
    random_b, z_a = start
    moved_b = ZERO
    f = ZERO
    while True:
        dz_a, db = eta * N * processed(random_b + moved_b), eta * processed(z_a)
        deltas = {
            "delta1": multiplier * (random_b * R ** "1/2" + moved_b * R) * dz_a,
            "delta2": multiplier * R * db * z_a,
            "delta3": multiplier * R * db * dz_a,
        }
        moved_b, z_a = moved_b + db, z_a + dz_a
        f = f + deltas["delta1"] + deltas["delta2"] + deltas["delta3"]
        dz_b = deltas["delta1"] + deltas["delta2"] + deltas["delta3"]
        yield Step(f, deltas, {"B": random_b + moved_b, "Z_A": z_a}, {"dZ_B": dz_b})


def _rank_gd(start: Start, eta: Power, multiplier: Power) -> Iterator[Step]:
    """Gradient descent of a layer with multiplier s = r^−γ, one rate, and a 1/n readout w.

    With v = Bᵀw and f = s vᵀ Z_A: v' = v − η s ‖w‖² U Z_A, Z_A' = Z_A − η s ‖Z‖² U v. Each factor
    moves along the other, so that the sums over r coordinates add up; B stands for v.
    """
    v, z_a = start
    f = ZERO
    while True:
        u = f + ONE
        dv, dz_a = eta * multiplier * z_a * u / N, eta * N * multiplier * v * u
        deltas = {
            "delta1": multiplier * R * v * dz_a,
            "delta2": multiplier * R * dv * z_a,
            "delta3": multiplier * R * dv * dz_a,
        }
        v, z_a = v + dv, z_a + dz_a
        f = f + deltas["delta1"] + deltas["delta2"] + deltas["delta3"]
        yield Step(f, deltas, {"B": v, "Z_A": z_a})


def _rank_rates(c: Unknown, e: Unknown, gamma: Unknown) -> dict[str, Power]:
    return {"eta": c.of(N) * e.of(R), "multiplier": gamma.of(R**-1)}


def _rectangular_rates(c_a: Unknown, c_b: Unknown, inputs: Unknown) -> dict[str, Power]:
    return width_rates("eta_a", "eta_b")(c_a=c_a, c_b=c_b) | {"inputs": inputs.of(N)}


_TWO_RATES = (("c_a", "c_b"), width_rates("eta_a", "eta_b"))
_ONE_SIDED, _BOTH = starts("A", "B"), starts("both")
#: Gradient descent on the linear toy (eq. 2; Propositions 1 and 2).
LINEAR_GD = Rule("gradient descent on the linear toy", _linear_gd, *_TWO_RATES, _ONE_SIDED)
#: Sign or Adam updates of a LoRA layer (Theorem 1); "both" has no B or A of zero at the start.
LAYER_SIGN = Rule("sign or Adam on a LoRA layer", _layer_sign, *_TWO_RATES, _ONE_SIDED | _BOTH)
#: The same for a layer of n^inputs inputs.
LAYER_RECTANGULAR = Rule(
    "sign or Adam on a LoRA layer, n^inputs inputs",
    _layer_sign,
    ("c_a", "c_b", "inputs"),
    _rectangular_rates,
    _ONE_SIDED,
)
#: Gradient descent on the two-layer toy with both factors random (eq. 3).
TWO_LAYER_GD = Rule("gradient descent on the two-layer toy", _two_layer_gd, *_TWO_RATES, _BOTH)
#: Sign updates of the two-layer toy with both factors random (eq. 3).
TWO_LAYER_SIGN = Rule("sign updates of the two-layer toy", _two_layer_sign, *_TWO_RATES, _BOTH)
_RANK = (("c", "e", "gamma"), _rank_rates)
#: Exponents of the rank r under a multiplier r^−γ: sign or Adam updates, one rate.
RANK_SIGN = Rule(
    "sign or Adam, one rate, multiplier r^−γ",
    _rank_sign,
    *_RANK,
    _ONE_SIDED | {"B, variance 1/r": (R ** "-1/2", ZERO)},
)
#: Exponents of the rank r under a multiplier r^−γ: gradient descent, one rate; B stands for Bᵀw.
RANK_GD = Rule(
    "gradient descent, one rate, multiplier r^−γ",
    _rank_gd,
    *_RANK,
    {"A": (ZERO, ONE), "B": (N ** "-1/2", ZERO)},
)

# Which rule belongs to a setting, by model and update.
RULES: dict[tuple[str, str], Rule] = {
    ("map", "gd"): LINEAR_GD,
    ("map", "sign"): LAYER_SIGN,
    ("linear", "gd"): LINEAR_GD,
    ("layer_map", "sign"): LAYER_SIGN,
    ("layer_map", "adam"): LAYER_SIGN,
    ("layer", "sign"): LAYER_SIGN,
    ("layer", "adam"): LAYER_SIGN,
    ("two_layer_limit", "gd"): TWO_LAYER_GD,
    ("two_layer", "gd"): TWO_LAYER_GD,
    ("two_layer", "sign"): TWO_LAYER_SIGN,
    ("rank_map", "sign"): RANK_SIGN,
    ("rank_map", "adam"): RANK_SIGN,
    ("rank_map", "gd"): RANK_GD,
}
