"""What claims say of models that are solved exactly: their sizes at any width, at every constant.

Nothing is compiled here and no prediction is read. A setting is run at each pair of constants of
the rates, at widths at which no crossover is left, and again from small widths on, where it is
seen how far each crossover reaches.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.claims import vectors
from lora_theory.exact import layer_map, scalar_map, two_layer_limit
from lora_theory.exact.signed_log import SignedLog
from lora_theory.stats.slopes import slope_weights
from lora_theory.terms import Setting

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

MODELS = ("map", "layer_map", "rank_map", "two_layer_limit")
STEPS = {"map": 8, "layer_map": 5, "rank_map": 4, "two_layer_limit": 3}
ASKED_AT = 2  # The t at which ΔZ_B is as large as asked: the first at which both factors move it.
_SECANTS = 60  # At most, to the rate that moves Z_B as asked,
_ROOT = 1e-8  # and how well log2 of it is known.
_SPARSE = 2  # The rank has an axis of its own; of widths on the way every second is enough.


class Runs(NamedTuple):
    """At which widths and constants a setting is run.

    Attributes:
        log2_widths: (W,) log2 n.
        seeds: (S,) which.
        k_a, k_b: (C,) constants of the rates; of what is asked for, √(k_a k_b) is the size.
    """

    log2_widths: np.ndarray
    seeds: tuple[int, ...]
    k_a: np.ndarray
    k_b: np.ndarray


def measure(setting: Setting, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """log2 of every size of a setting, and its slopes on the way there.

    Returns:
        quantity -> (C, W, S, T) log2 sizes at the widths (ranks) that decide, and
        "way " + quantity -> (C, K, T) slopes of their means over seeds between small widths.
    """
    k_a, k_b = np.array(cfg.constants.pairs).T
    seeds = tuple(cfg.seeds[setting.model])
    decide = Runs(decisive(setting, cfg), seeds, k_a, k_b)
    small = Runs(way(setting, cfg), seeds[: cfg.way_seeds], k_a, k_b)
    if setting.model == "rank_map":
        found = _over_ranks(setting, decide, cfg)
        sizes = {name: log[:, 0] for name, log in found.items()}
        slow = _over_ranks(setting, small, cfg)
        slopes = {name: _slopes(np.log2(ranks(setting, cfg)), log) for name, log in slow.items()}
    else:
        sizes = logs(setting, decide)
        pairs = [slice(i, i + 2) for i in range(len(small.log2_widths) - 1)]
        slopes = {
            name: np.stack([_slopes(small.log2_widths[w], log[:, w]) for w in pairs], axis=1)
            for name, log in logs(setting, small).items()
        }
    return sizes | {f"way {name}": found for name, found in slopes.items()}


def decisive(setting: Setting, cfg: "ClaimsConfig") -> np.ndarray:
    """log2 n where a setting is judged; one, where the rank is varied."""
    if setting.model == "rank_map":
        return np.array(cfg.exact_log2_widths[:1])
    limit = setting.model == "two_layer_limit"
    return np.array(cfg.limit_log2_widths if limit else cfg.exact_log2_widths)


def way(setting: Setting, cfg: "ClaimsConfig") -> np.ndarray:
    """log2 n on the way there."""
    if setting.model != "rank_map":
        return np.array(cfg.way_log2_widths)
    least = 1 + math.log2(max(ranks(setting, cfg)))
    # With the widest, for which no rank is too large.
    sparse = cfg.way_log2_widths[::-_SPARSE][::-1]
    return np.array([w for w in sparse if w >= least])


def ranks(setting: Setting, cfg: "ClaimsConfig") -> tuple[int, ...]:
    """Of what the rank is varied: under gradient descent it costs nothing."""
    return cfg.descent_ranks if setting.update == "gd" else cfg.ranks


def starts_of_windows(setting: Setting, cfg: "ClaimsConfig") -> np.ndarray:
    """log2 of the least width of every slope on the way."""
    widths = way(setting, cfg)
    return widths if setting.model == "rank_map" else widths[:-1]


def _slopes(log2_sizes: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """(C, …, T) slopes over the axis of sizes of the means over seeds, (C, …, sizes, S, T)."""
    with np.errstate(invalid="ignore"):
        return np.einsum("w,...wt->...t", slope_weights(log2_sizes), logs.mean(axis=-2))


def _over_ranks(setting: Setting, runs: Runs, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """(C, W, R, S, T): as `logs`, at each rank."""
    found = [logs(setting, runs, rank) for rank in ranks(setting, cfg)]
    return {name: np.stack([sizes[name] for sizes in found], axis=2) for name in found[0]}


def logs(setting: Setting, runs: Runs, rank: int | None = None) -> dict[str, np.ndarray]:
    """(C, W, S, T) log2 sizes at given widths, of a rank where that is varied."""
    steps, update = STEPS[setting.model], setting.update
    given: dict[str, Any] = {
        "log2_widths": runs.log2_widths,
        "seeds": runs.seeds,
        "c_a": float(setting.c_a),
        "c_b": float(setting.c_b),
        "k_a": runs.k_a,
        "k_b": runs.k_b,
        "samples": setting.samples,
        "stream": str(setting),
    }
    if setting.model == "two_layer_limit":
        return two_layer_limit.random_runs(**given, steps=steps)
    given["init"] = setting.init
    if setting.model == "map":
        start = scalar_map.random_runs(**given, update=update, s_0=float(setting.start))  # type: ignore[arg-type]
        # Equal sign updates that overshoot would be taken back, to a start of exactly 0.
        uneven = scalar_map.uneven(steps) if update == "sign" else None
        run = scalar_map.trajectory(*start, steps, update=update, schedule=uneven)  # type: ignore[arg-type]
        return scalar_map.logs(run)
    if rank is not None:
        given |= _of_rank(setting, rank, given)
        if update == "gd":
            return _descent(setting, given)
    given |= {"inputs": float(setting.inputs), "outputs": float(setting.outputs)}
    given["target"] = 1.0 if setting.near else layer_map.FAR
    if setting.asked:
        return {"eta": _asked(setting, given)}
    begin = layer_map.random_starts(**given)
    return layer_map.logs(layer_map.trajectory(begin, steps, update=update))  # type: ignore[arg-type]


def _of_rank(setting: Setting, rank: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is other at a rank: rates n^c r^e, a multiplier r^−γ, and a B that starts at r^start."""
    more, c_n = rank ** float(setting.c_b), float(setting.c_n)
    return {
        "k_a": more * given["k_a"],
        "k_b": more * given["k_b"],
        "c_a": c_n,
        "c_b": c_n,
        "rank": rank,
        "multiplier": rank ** -float(setting.gamma),
        "b_size": rank ** float(setting.start),
    }


def _asked(setting: Setting, given: Mapping[str, Any]) -> np.ndarray:
    """(C, W, S, T) log2 of the rate √(η_A η_B) at which ΔZ_B of step T is as large as asked."""
    k_a, k_b = given["k_a"], given["k_b"]
    ratio = {"k_a": np.sqrt(k_a / k_b), "k_b": np.sqrt(k_b / k_a), "c_a": 0.0, "c_b": 0.0}
    start = layer_map.random_starts(**{**given, **ratio})
    size = np.log2(np.sqrt(k_a * k_b))[:, None, None]

    def excess(log2_eta: np.ndarray) -> np.ndarray:
        factor = SignedLog.two_to(log2_eta)
        moved = start._replace(eta_a=start.eta_a * factor, eta_b=start.eta_b * factor)
        run = layer_map.trajectory(moved, ASKED_AT, update=setting.update)  # type: ignore[arg-type]
        return layer_map.logs(run)["dZ_B"][..., -1] - size

    shape = (len(k_a), len(given["log2_widths"]), len(given["seeds"]))
    found = np.full((*shape, ASKED_AT), np.nan)
    # From above every root, and where f is still far from the targets.
    found[..., -1] = _root(excess, np.full(shape, 12.0), np.full(shape, 14.0))
    return found


def _root(
    excess: Callable[[np.ndarray], np.ndarray], near: np.ndarray, far: np.ndarray
) -> np.ndarray:
    """The roots of functions that grow by 1 to 2 where their argument does by 1, from two points;
    NaN where they are not found.

    log2 of a sum of η and η² is such a function of log2 η; secants find its root.
    """
    at_far, at_near = excess(far), excess(near)
    for _ in range(_SECANTS):
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.nan_to_num((at_far - at_near) / (far - near), nan=1.0)
        step = at_near / np.clip(slope, 1, 2)
        far, at_far, near = near, at_near, near - step
        if (np.abs(step) < _ROOT).all():
            break
        at_near = excess(near)
    return np.where(np.abs(step) < _ROOT, near, np.nan)


def descent(
    v: SignedLog,
    z_a: SignedLog,
    y: np.ndarray,
    gram: SignedLog,
    rates: Sequence[SignedLog],
    row: SignedLog,
    scale: float,
    steps: int,
) -> dict[str, np.ndarray]:
    """log2 sizes of f and its contributions under gradient descent of a layer of one sample.

    f = s vᵀZ_A with v = Bᵀw. From a one-sided init v' = v − η_B s ‖w‖² U Z_A and
    Z_A' = Z_A − η_A s ‖Z‖² U v stay on the line of the factor that is random. Along it b = s v and
    Z_A are eq. 2, with s² ‖w‖² η_B in place of η_b.

    Args:
        v: (…, S, W) its length; 0 from Init[1].
        z_a: (…, S, W, 1) the length of Z_A; 0 from Init[2].
        y: the target.
        gram: (…, S, W, 1, 1) ‖Z‖².
        rates: η_A and η_B.
        row: ‖w‖².
        scale: s.
        steps: T.
    """
    eta_a, eta_b = rates
    run = scalar_map.trajectory(v * scale, z_a, y, gram, eta_a, eta_b * row * scale**2, steps)
    return scalar_map.logs(run)


def _descent(setting: Setting, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """`descent` of random layers: what is random starts at the length of r normal numbers."""
    of_map = ("log2_widths", "seeds", "init", "c_a", "c_b", "k_a", "k_b", "stream")
    start = scalar_map.random_runs(**{name: given[name] for name in of_map})
    own = vectors.own_seeds(given["seeds"], f"lengths of {setting}")
    normals = [np.random.default_rng(seed).normal(size=given["rank"]) for seed in own]
    length = SignedLog.of(np.linalg.norm(normals, axis=-1)[:, None])
    one = start.b + start.s[..., 0]  # The random factor, of one number.
    longer = length / (one * one) ** 0.5
    row = SignedLog.two_to(-given["log2_widths"])
    v, z_a = start.b * longer * row**0.5, start.s * longer[..., None]
    rates, scale = (start.eta_a, start.eta_b), given["multiplier"]
    return descent(v, z_a, start.y, start.gram, rates, row, scale, STEPS[setting.model])
