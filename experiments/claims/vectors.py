"""What claims say of models that are trained in vectors: their sizes over widths.

Rates and starts are arguments of compiled functions, so that all settings of one model and update
share a compilation a width, and all updates of a model that of its draws.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import registry
from experiments.lab.schema import ConfigError
from lora_theory.terms import Setting

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

_SEEDS = 2**31  # No seed of a probe is that large.


def measure(setting: Setting, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """(C, W, S, T) log2 of every size of a setting, at each pair of constants of the rates."""
    from lora_theory.train.coordinates import EpsilonError, Variant, coordinate_checks

    probe = registry.PROBES[setting.model]
    variants = [
        Variant(rates(setting, k_a, k_b), start(setting.init)) for k_a, k_b in cfg.constants.pairs
    ]
    try:
        tables = coordinate_checks(
            setup(setting.model, {**probe.task_options, "n_train": setting.samples}),
            registry.optimizer(setting.update, cfg.adam_eps),
            variants,
            cfg.widths,
            seeds=own_seeds(cfg.seeds[setting.model], str(setting)),
            steps=cfg.steps,
        )
    except EpsilonError as error:
        raise ConfigError("adam_eps", f"{error} ({setting})", cfg.adam_eps) from None
    return {name: np.stack([table.logs[name] for table in tables]) for name in tables[0].logs}


def own_seeds(seeds: Sequence[int], name: str) -> list[int]:
    """The seeds of one setting: those of the config, moved by a number that follows from its name.

    So that what is found of one setting says nothing of another, and is found again.
    """
    room = _SEEDS - max(seeds)
    digest = hashlib.sha256(name.encode()).digest()
    return [seed + int.from_bytes(digest[:8], "big") % room for seed in seeds]


def rates(setting: Setting, k_a: float, k_b: float) -> Callable[[int], tuple[float, float]]:
    """width -> (k_a n^c_a, k_b n^c_b)."""
    c_a, c_b = float(setting.c_a), float(setting.c_b)
    return lambda width: (k_a * float(width) ** c_a, k_b * float(width) ** c_b)


def start(init: str) -> Callable[[int], tuple[float, float]]:
    """By what A and B are multiplied, both being drawn: by 0 in Init[1] or Init[2]."""
    return lambda width: (float(init != "B"), float(init != "A"))


def setup(name: str, task_options: Mapping[str, Any]) -> registry.Setup:
    """(width, key) -> (model, x, y), both factors drawn."""
    probe = registry.PROBES[name]
    config = registry.MODELS[probe.model].schema(name=probe.model, init="both", **probe.options)
    return registry.setup(config, "width", probe.task, task_options)
