"""Is an exact model the trained one? Both on the same draws, size by size."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import registry
from experiments.claims import vectors
from experiments.lab.schema import ConfigError
from lora_theory.exact import layer_map, scalar_map
from lora_theory.exact.signed_log import SignedLog
from lora_theory.terms import Setting
from lora_theory.theory.claims import Reduction

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

WIDTHS = (64, 256)
SEEDS = 4
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
    setup = vectors.setup(case.model, options)
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
                steps=cfg.steps,
            )
        except EpsilonError as error:
            raise ConfigError("adam_eps", f"{error} ({case.model}, {init})", cfg.adam_eps) from None
        for w, width in enumerate(WIDTHS):
            eta = np.array([vectors.rates(*one)(width) for one in at]).T
            for s, seed in enumerate(seeds):
                with jax.enable_x64(True):
                    drawn = jax.device_get(setup(width, seed_key(seed)))
                exact = _exact(case, drawn, vectors.start(init)(width), eta, cfg.steps)
                names = exact.keys() & tables[0].logs.keys()
                trained = {n: np.stack([table.logs[n][w, s] for table in tables]) for n in names}
                worst = max(worst, *_gaps(exact, trained))
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
        gram = SignedLog.of(x.T @ x * (_OFF if case.wrong else 1))
        b_0, s_0 = SignedLog.of(b[:1, :1]), SignedLog.of((a @ x)[None])
        both = [rate[:, None, None] for rate in rates]
        found = scalar_map.trajectory(b_0, s_0, y, gram, both[0], both[1], steps, update=update)
        return {name: size[:, 0, 0] for name, size in scalar_map.logs(found).items()}
    w = np.asarray(model.w_out[...], float)
    begin = layer_map.start_of(a, b, w, x, y, 1.0, 1.0, model.lora.scale)
    begin = begin._replace(eta_a=rates[0], eta_b=rates[1])
    if case.wrong:
        begin = begin._replace(weights=begin.weights * _OFF)
    return layer_map.logs(layer_map.trajectory(begin, steps, update=update))


def _gaps(exact: Mapping[str, np.ndarray], trained: Mapping[str, np.ndarray]) -> Iterator[float]:
    """Of each size; what rounding hides in vectors is left out."""
    for name, log in trained.items():
        hidden = np.isnan(log)
        logs = np.where(hidden, 0, log), np.where(hidden, 0, exact[name])
        largest = np.maximum(*logs)
        if name.startswith("delta"):
            largest = np.maximum(largest, trained["Z_B" if name.endswith("_Z_B") else "f"])
        largest = np.where(np.isneginf(largest), 0, largest)
        yield float(np.max(np.abs(2.0 ** (logs[0] - largest) - 2.0 ** (logs[1] - largest))))
