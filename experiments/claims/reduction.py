"""Is an exact model the trained one? Both on the same draws, size by size."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import registry
from experiments.claims import vectors
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

    Of a contribution to f relative to the larger of it and f, of which it is a difference; of
    everything else relative to itself.
    """
    import jax

    from lora_theory.keys import seed_key
    from lora_theory.train.coordinates import Variant, coordinate_checks

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
        tables = coordinate_checks(
            setup,
            registry.optimizer(case.update, cfg.adam_eps),
            [Variant(vectors.rates(*one), vectors.start(init)) for one in at],
            WIDTHS,
            seeds=seeds,
            steps=cfg.steps,
        )
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
    if case.model == "linear":
        gram = x.T @ x * (_OFF if case.wrong else 1)
        numbers = (b[0, 0], (a @ x)[0], y, gram, *eta)
        begin = [v if i == 2 else SignedLog.of(v) for i, v in enumerate(numbers)]
        run: Any = scalar_map.trajectory(*begin, steps, update=update)  # type: ignore[arg-type]
        return {name: log[..., 0, 0, :] for name, log in scalar_map.logs(run).items()}
    w = np.asarray(model.w_out[...], float)
    begin = layer_map.start_of(a, b, w, x, y, *eta, model.lora.scale)
    if case.wrong:
        begin = begin._replace(weights=begin.weights * _OFF)
    run = layer_map.trajectory(begin, steps, update=update)
    return {name: log[..., 0, 0, :] for name, log in layer_map.logs(run).items()}


def _gaps(exact: Mapping[str, np.ndarray], trained: Mapping[str, np.ndarray]) -> Iterator[float]:
    """Of each size; what rounding hides in vectors is left out."""
    for name, log in trained.items():
        hidden = np.isnan(log)
        logs = np.where(hidden, 0, log), np.where(hidden, 0, exact[name])
        zero = [np.isneginf(v) for v in logs]
        if (zero[0] != zero[1]).any():
            yield np.inf
        largest = np.maximum(*logs)
        if name in ("delta1", "delta2", "delta3"):
            largest = np.maximum(largest, trained["f"])
        with np.errstate(invalid="ignore"):
            sizes = [np.where(zero[0], 0, 2.0 ** (v - largest)) for v in logs]
        yield float(np.max(np.abs(sizes[0] - sizes[1])))
