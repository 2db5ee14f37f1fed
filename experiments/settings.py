"""How a claim's setting is run: from (model, update, init, rates) to log-magnitudes over widths.

Rates are arguments of compiled functions, so that all settings of one model, update and init
share a compilation per width.
"""

import functools
import math
import zlib
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_theory import linear
from lora_theory.config import ClaimsConfig, ConfigError
from lora_theory.exponents import Class, Verdict
from lora_theory.predictions import Phase, Setting
from lora_theory.slopes import Table

if TYPE_CHECKING:
    from lora_theory.linear import Start, Trajectory

_MAP_STEPS = 8
_DELTAS_AT = 5  # t
# Half the distance between two points of the lattice in twelfths.
_TWELFTH_MARGIN = 1 / 24
# Width exponents of the one rate at which the rank is varied, by init: the optimum in n.
_RANK_RATES = {"A": -0.5, "B": -1.0}


def compiled_with(setting: Setting) -> tuple[Any, ...]:
    """What decides the compilation; settings of one such key should follow each other."""
    return setting.model, setting.update, setting.init, setting.start, setting.gamma


def measure(setting: Setting, cfg: ClaimsConfig) -> Table:
    """Run one setting at all widths (or ranks) and seeds."""
    return _measure_map(setting, cfg) if setting.model == "map" else _measure_model(setting, cfg)


def map_table(log2_widths: np.ndarray, run: "Trajectory") -> Table:
    """The scalar map's sizes as a table, t = 1 … T."""
    sizes = {"f": run.f[1:][..., 0], "B": run.b[1:], "Z_A": run.s[1:][..., 0]}
    sizes |= {f"delta{i + 1}": run.deltas[i][..., 0] for i in range(3)}
    logs = {name: np.moveaxis(size.log2(), 0, -1).swapaxes(0, 1) for name, size in sizes.items()}
    steps = np.arange(1, run.b.log.shape[0])
    return Table(log2_widths, steps, logs)


def _measure_map(setting: Setting, cfg: ClaimsConfig) -> Table:
    assert setting.c_a is not None
    widths = np.asarray(cfg.map_log2_widths)
    runs = linear.random_runs(
        widths,
        cfg.seeds.map,
        setting.init,  # type: ignore[arg-type]
        float(setting.c_a),
        float(setting.c_b),
        rng=np.random.default_rng(zlib.crc32(str(setting).encode())),
        update=setting.update,  # type: ignore[arg-type]
        s_0=float(setting.start),
    )
    update: Any = setting.update
    return map_table(widths, linear.trajectory(*runs, _MAP_STEPS, update=update))


def _measure_model(setting: Setting, cfg: ClaimsConfig) -> Table:
    from lora_theory.measure import EpsilonError, coordinate_check

    try:
        return coordinate_check(
            _setup(setting.model, setting.init, setting.start, setting.gamma, cfg.rank_width),
            _optimizer(setting.update, cfg.adam_eps),
            _rates(setting, cfg),
            cfg.ranks if setting.model == "rank" else cfg.widths,
            seeds=getattr(cfg.seeds, setting.model),
            steps=cfg.steps,
        )
    except EpsilonError as error:
        raise ConfigError("adam_eps", f"{error} ({setting})", cfg.adam_eps) from None


def _rates(setting: Setting, cfg: ClaimsConfig) -> Callable[[int], tuple[float, float]]:
    k = float(getattr(cfg.rates, setting.model) * setting.constant)
    if setting.model == "rank" and setting.update != "gd":
        k *= cfg.rank_width ** _RANK_RATES[setting.init]

    def rates(width: int) -> tuple[float, float]:
        eta_a = 0.0 if setting.c_a is None else k * float(width) ** float(setting.c_a)
        return eta_a, k * float(width) ** float(setting.c_b)

    return rates


@functools.cache
def _optimizer(update: str, eps: float) -> Callable[..., Any]:
    import optax

    from lora_theory.optim import lora_plus

    bases = {
        "gd": optax.sgd,
        "sign": optax.sign_sgd,
        "adam": functools.partial(optax.adam, eps=eps),
    }
    return functools.partial(lora_plus, base=bases[update])


@functools.cache
def _setup(
    model: str, init: Any, start: Fraction, gamma: Fraction, rank_width: int
) -> Callable[[int, Any], tuple[Any, Any, Any]]:
    """(width or rank, key) -> (model, x, y); one object a model, so that compilations are shared.

    Targets of the layer are far away (±100): its residual keeps its sign for the few steps that are
    taken, so that sign updates do not come back to where they started.
    """
    import jax
    import jax.numpy as jnp

    from lora_theory.data import sine_task
    from lora_theory.models import LayerToy, LinearToy, TwoLayerToy

    def batch(n: int, samples: int, target: float, key: Any) -> tuple[Any, Any]:
        key_x, key_y = jax.random.split(key)
        x = jax.random.normal(key_x, (n, samples))
        return x, target * jax.random.rademacher(key_y, (samples,), x.dtype)

    def linear_toy(n: int, key: Any) -> tuple[Any, Any, Any]:
        key_data, key_model = jax.random.split(key)
        return LinearToy(n, init=init, key=key_model), *batch(n, 1, 2.0, key_data)

    def layer(n: int, key: Any) -> tuple[Any, Any, Any]:
        key_data, key_model = jax.random.split(key)
        return LayerToy(n, 4, init=init, key=key_model), *batch(n, 4, 100.0, key_data)

    def two_layer(n: int, key: Any) -> tuple[Any, Any, Any]:
        key_data, key_model = jax.random.split(key)
        data = sine_task(5, 8, 1, key=key_data)
        return TwoLayerToy(5, n, 4, init=init, key=key_model), data.x_train, data.y_train

    def rank(r: int, key: Any) -> tuple[Any, Any, Any]:
        key_data, key_model = jax.random.split(key)
        toy = LayerToy(rank_width, r, alpha=1.0, gamma=float(gamma), init=init, key=key_model)
        toy.lora.lora_b[...] *= jnp.asarray(float(r) ** float(start), toy.lora.lora_b.dtype)
        return toy, *batch(rank_width, 4, 100.0, key_data)

    return {"linear": linear_toy, "layer": layer, "two_layer": two_layer, "rank": rank}[model]


def identity_gap(contributions: tuple[str, ...], seeds: int) -> float:
    """max |Δf − Σ contributions| / |Δf| over seeds: one step of the linear toy, float64.

    Δf is what training does; the contributions are computed from the paper's formulas.
    """
    import jax
    import optax
    from flax import nnx

    from lora_theory.measure import half_mse
    from lora_theory.models import LinearToy
    from lora_theory.optim import lora_plus

    eta_a, eta_b = 0.01, 0.2
    gaps = []
    with jax.enable_x64(True):
        for seed in range(seeds):
            key_x, key_model = jax.random.split(jax.random.key(seed))
            x, y = jax.random.normal(key_x, (64, 1)), np.array([2.0])
            model = LinearToy(64, init="both", key=key_model)
            f = model(x)[0]
            b, s = model.lora.lora_b[0, 0], (model.lora.lora_a[...] @ x)[0, 0]
            u, square = f - y[0], (x**2).sum()
            formulas = {
                "delta1": -eta_a * b**2 * u * square,
                "delta2": -eta_b * s**2 * u,
                "delta3": eta_a * eta_b * u**2 * b * s * square,
            }
            optimizer = nnx.Optimizer(
                model, lora_plus(eta_a, eta_b, base=optax.sgd), wrt=nnx.LoRAParam
            )
            wrt = nnx.DiffState(0, nnx.LoRAParam)
            grads = nnx.grad(lambda m, x=x, y=y: half_mse(m(x), y), argnums=wrt)(model)
            optimizer.update(model, grads)
            df = model(x)[0] - f
            gaps.append(abs(float((df - sum(formulas[c] for c in contributions)) / df)))
    return max(gaps)


def measured_classes(case: Phase, cfg: ClaimsConfig) -> list[Class | None]:
    """The class of every point as the scalar map shows it; None where the seeds do not decide."""
    points = np.array([[float(c) for c in point] for point in case.points])
    widths = np.asarray(cfg.map_log2_widths)
    update: Any = case.update
    init: Any = case.init
    runs: Start = linear.random_runs(
        widths,
        cfg.seeds.lattice,
        init,
        points[:, 0],
        points[:, 1],
        rng=np.random.default_rng(0),
        update=update,
    )
    steps = cfg.lattice_steps if case.update == "gd" else _DELTAS_AT
    run = linear.trajectory(*runs, steps, update=update)
    sizes = {"f": run.f[1:][..., 0], "B": run.b[-1], "Z_A": run.s[-1][..., 0]}
    # Contributions early on: a run that learns converges, and then nothing moves any more.
    sizes |= {f"delta{i + 1}": run.deltas[i, _DELTAS_AT - 1][..., 0] for i in range(2)}
    bounds = {name: _bounds(size.log2(), widths, cfg.confidence) for name, size in sizes.items()}
    return [
        _measured_class({name: (low[..., i], high[..., i]) for name, (low, high) in bounds.items()})
        for i in range(len(points))
    ]


def _bounds(logs: np.ndarray, widths: np.ndarray, confidence: float) -> tuple[Any, Any]:
    """Intervals of the exponents (…, points) of log-magnitudes (…, points, S, W)."""
    from scipy.special import stdtrit

    x = widths - widths.mean()
    zero = np.isneginf(logs).all(axis=(-1, -2))
    half = stdtrit(logs.shape[-2] - 1, (1 + confidence) / 2) / math.sqrt(logs.shape[-2])
    with np.errstate(
        invalid="ignore"
    ):  # A run that is exactly 0 here and not there decides nothing.
        slopes = logs @ (x / (x @ x))
        spread = half * slopes.std(axis=-1, ddof=1)
        low, high = slopes.mean(axis=-1) - spread, slopes.mean(axis=-1) + spread
    return np.where(zero, -np.inf, low), np.where(zero, -np.inf, high)


def _measured_class(bounds: dict[str, tuple[np.ndarray, np.ndarray]]) -> Class | None:
    """Definitions 3 to 5 on measured intervals: above, at or below exponent 0?"""
    low, high = bounds["f"]
    for t in range(len(low)):
        if low[t] > _TWELFTH_MARGIN:
            return Class(Verdict.UNSTABLE, t + 1)
        if not high[t] < _TWELFTH_MARGIN:
            return None
    learns = []
    for name in ("delta1", "delta2"):
        low, high = bounds[name]
        if low > -_TWELFTH_MARGIN and high < _TWELFTH_MARGIN:
            learns.append(True)
        elif high < -_TWELFTH_MARGIN or low > _TWELFTH_MARGIN:
            learns.append(False)
        else:
            return None
    if all(learns):
        calm = all(bounds[name][1] < _TWELFTH_MARGIN for name in ("B", "Z_A"))
        return Class(Verdict.EFFICIENT if calm else Verdict.INSIDE)
    if not any(learns):
        return Class(Verdict.NO_LEARNING)
    return Class(Verdict.A_ALONE if learns[0] else Verdict.B_ALONE)
