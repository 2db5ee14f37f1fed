"""Is an exact model the trained one? Both on the same draws, size by size.

Of the limit of eq. 3 for wide nets on draws of its own, on average.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import registry
from experiments.claims import exact, vectors
from experiments.lab.schema import ConfigError
from lora_theory.exact import layer_map, scalar_map, two_layer_limit
from lora_theory.exact.signed_log import SignedLog
from lora_theory.terms import Setting
from lora_theory.theory.claims import Limit, Reduction

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

WIDTHS = (100,)
STEPS = 3
SEEDS = 4
LIMIT_WIDTH = 1024
_OFF = 1.01  # By what ‖x‖² is wrong in the control.


def gap(case: Reduction, cfg: "ClaimsConfig") -> float:
    """The largest difference of any size, at every init, rate, constant, width, seed and step.

    Of a contribution to f, or to Z_B, relative to the larger of it and of that: in vectors what is
    exactly 0 may be rounding of it. Of everything else relative to itself.
    """
    import jax

    from lora_theory.keys import seed_key
    from lora_theory.train.coordinates import EpsilonError, Variant, coordinate_checks

    options = {**registry.PROBES[case.model].task_options, "n_train": case.samples}
    setup: Any = vectors.setup(case.model, options)
    if case.model == "layer" and case.samples > 1:  # Else it does not close.
        setup = _Signed(setup)
    seeds = vectors.own_seeds(range(SEEDS), repr(case))
    at = [
        (Setting(case.model, case.update, case.inits[0], *rates), k_a, k_b)
        for rates in case.rates
        for k_a, k_b in cfg.constants.pairs
    ]
    worst = 0.0
    for init in case.inits:
        try:
            tables = coordinate_checks(
                setup,
                registry.optimizer(case.update, cfg.adam_eps),
                [Variant(vectors.rates(*one), vectors.start(init)) for one in at],
                WIDTHS,
                seeds=seeds,
                steps=STEPS,
            )
        except EpsilonError as error:
            raise ConfigError("adam_eps", f"{error} ({case.model}, {init})", cfg.adam_eps) from None
        for w, width in enumerate(WIDTHS):
            eta = np.array([vectors.rates(*one)(width) for one in at]).T
            for s, seed in enumerate(seeds):
                with jax.enable_x64(True):
                    drawn = jax.device_get(setup(width, seed_key(seed)))
                solved = _exact(case, drawn, vectors.start(init)(width), eta, STEPS)
                names = solved.keys() & tables[0].logs.keys()
                trained = {n: np.stack([table.logs[n][w, s] for table in tables]) for n in names}
                worst = max(worst, *_gaps(solved, trained))
    return worst


def _exact(
    case: Reduction,
    drawn: tuple[Any, Any, Any],
    start: tuple[float, float],
    eta: np.ndarray,
    steps: int,
) -> dict[str, np.ndarray]:
    """(rates, T) log2 sizes by the exact model of what is drawn: model, x, y."""
    model, x, y = drawn
    x, y = np.asarray(x, float), np.asarray(y, float)
    a = start[0] * np.asarray(model.lora.lora_a[...], float)
    b = start[1] * np.asarray(model.lora.lora_b[...], float)
    update: Any = case.update
    rates = [SignedLog.of(rate) for rate in eta]
    if case.model == "linear":  # With axes of seeds and widths, of one each.
        size = np.abs(x).sum() * np.ones((1, 1)) if update == "sign" else x.T @ x
        gram = SignedLog.of(size * (_OFF if case.wrong else 1))
        b_0, s_0 = SignedLog.of(b[:1, :1]), SignedLog.of((a @ x)[None])
        both = [rate[:, None, None] for rate in rates]
        run = scalar_map.trajectory(b_0, s_0, y, gram, both[0], both[1], steps, update=update)
        return {name: size[:, 0, 0] for name, size in scalar_map.logs(run).items()}
    w = np.asarray(model.w_out[...], float)
    if update == "gd":
        gram = SignedLog.of(x.T @ x * (_OFF if case.wrong else 1))
        v, z_a = np.linalg.norm(b.T @ w), np.linalg.norm(a @ x)
        found = exact.descent(
            SignedLog.of(np.full((1, 1), v)),
            SignedLog.of(np.full((1, 1, 1), z_a)),
            y,
            gram,
            [rate[:, None, None] for rate in rates],
            SignedLog.of(w @ w),
            model.lora.scale,
            steps,
        )
        names = ("f", "delta1", "delta2", "delta3")
        return {name: found[name][:, 0, 0] for name in names}
    begin = layer_map.start_of(a, b, w, x, y, 1.0, 1.0, model.lora.scale)
    begin = begin._replace(eta_a=rates[0], eta_b=rates[1])
    if case.wrong:
        begin = begin._replace(weights=begin.weights * _OFF)
    return layer_map.logs(layer_map.trajectory(begin, steps, update=update))


def _gaps(solved: Mapping[str, np.ndarray], trained: Mapping[str, np.ndarray]) -> Iterator[float]:
    """Of each size; what rounding hides in vectors is left out."""
    for name, log in trained.items():
        hidden = np.isnan(log)
        logs = np.where(hidden, 0, log), np.where(hidden, 0, solved[name])
        largest = np.maximum(*logs)
        if name.startswith("delta"):
            largest = np.maximum(largest, trained["Z_B" if name.endswith("_Z_B") else "f"])
        largest = np.where(np.isneginf(largest), 0, largest)
        yield float(np.max(np.abs(2.0 ** (logs[0] - largest) - 2.0 ** (logs[1] - largest))))


@dataclasses.dataclass(frozen=True)
class _Signed:
    """A setup whose inputs are ±1."""

    setup: registry.Setup

    def __call__(self, width: int, key: Any) -> tuple[Any, Any, Any]:
        import jax.numpy as jnp

        model, x, y = self.setup(width, key)
        return model, jnp.sign(x), y


# --- The limit of eq. 3 for wide nets ---


def lazy_pairs(cfg: "ClaimsConfig") -> list[tuple[float, float]]:
    """The constants at which rows of B move little at `LIMIT_WIDTH`."""
    return [pair for pair in cfg.constants.pairs if max(pair) < 0.5]


def limit_sizes(cases: Sequence[Limit], cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """(1 + cases, pairs, S) log2 sizes of the model in vectors, and of each limit, by what is
    compared; of cases that differ in what is wrong alone.
    """
    from lora_theory.train.coordinates import Variant, coordinate_checks

    case, pairs, seeds = cases[0], lazy_pairs(cfg), cfg.seeds["limit"]
    setting, steps = Setting("two_layer", "gd", "both", *case.rates, samples=8), max(case.steps)
    tables = coordinate_checks(
        vectors.setup("two_layer", {"n_train": setting.samples, "n_test": 1}),
        registry.optimizer("gd"),
        [Variant(vectors.rates(setting, *pair), vectors.start("both")) for pair in pairs],
        [LIMIT_WIDTH],
        seeds=vectors.own_seeds(seeds, f"limit {setting}"),
        steps=steps,
    )
    k_a, k_b = np.array(pairs).T
    limits = [
        two_layer_limit.random_runs(
            np.log2([LIMIT_WIDTH]),
            seeds,
            *map(float, one.rates),
            k_a=k_a * 2.0 ** float(one.wrong),
            k_b=k_b * 2.0 ** float(one.wrong),
            samples=setting.samples,
            steps=steps,
            stream=repr(one),
        )
        for one in cases
    ]
    found = {}
    for name in case.predicted:
        quantity, t = name.split(", t = ")
        trained = np.stack([table.logs[quantity][0, :, int(t) - 1] for table in tables])
        limit = [sizes[quantity][:, 0, :, int(t) - 1] for sizes in limits]
        found[name] = np.stack([trained, *limit])
    return found
