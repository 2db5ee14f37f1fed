"""The coordinate check of a LoRA layer under three scalings of the rates: sizes over widths."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.schema import ConfigError, Rule, integer, number, one_of, science
from experiments.landscape.experiment import TaskConfig
from lora_theory.store.layout import Layout

if TYPE_CHECKING:
    from experiments.scaling.config import ScalingConfig

_LARGEST = 1024  # log2 of the largest float.
INITS = ("A", "B")
SCALINGS: dict[str, tuple[float, float]] = {
    "one rate n^−1/2": (-0.5, -0.5),
    "one rate n^−1": (-1.0, -1.0),
    "η_A ∝ 1/n, η_B constant": (-1.0, 0.0),
}
SIZES = (
    *("f", "delta1", "delta2", "delta3", "A", "B", "Z_A", "Z_B", "dA", "dB", "dZ_A", "dZ_B"),
    *("delta1_Z_B", "delta2_Z_B", "delta3_Z_B"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoordinatesConfig:
    """A coordinate check at the rates η_A = eta n^c_a, η_B = eta n^c_b."""

    model: str = science(one_of(*registry.MODELS))
    task: TaskConfig
    optimizer: str = science(one_of(*registry.OPTIMIZERS))
    rank: int = science(integer(1, 10**5))
    gamma: float = science(number(-10, 10))
    widths: tuple[int, ...] = science(
        Rule(
            "must be at least three ascending integers from 2 to 1000000",
            lambda v: len(v) > 2 and v[0] > 1 and v[-1] <= 10**6 and list(v) == sorted(set(v)),
        )
    )
    seeds: int = science(integer(2, 10**5))
    steps: int = science(integer(1, 100))
    eta: float = science(schema.rate())

    def __post_init__(self) -> None:
        if self.rank > self.widths[0]:
            at_most = f"must be at most the least width = {self.widths[0]}"
            raise ConfigError("coordinates.rank", at_most, self.rank)


class Check(NamedTuple):
    """All of it: scalings and inits share a compilation a width."""


def layout(asked: CoordinatesConfig, seeds: Sequence[int]) -> Layout:
    """log2 of sizes over inits, scalings, widths, seeds and steps; −∞ for what is exactly 0."""
    coords: dict[str, Any] = {
        "init": list(INITS),
        "rates": list(SCALINGS),
        "n": asked.widths,
        "seed": seeds,
        "t": range(1, asked.steps + 1),
    }
    return Layout(
        coords, dict.fromkeys(SIZES, (tuple(coords), "float64")), stacked=("init", "rates")
    )


def check(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse sizes that no float has; what overflowed is infinite.

    Raises:
        ValueError: what is wrong, by name.
    """
    for name in SIZES:
        if ((arrays[name] > _LARGEST) & (arrays[name] < np.inf)).any():
            raise ValueError(f"{name}: larger than any number")


def measure(cfg: "ScalingConfig") -> dict[str, np.ndarray]:
    """The sizes, of each init and scaling in turn."""
    from lora_theory.train.coordinates import Variant, coordinate_checks

    asked = cfg.coordinates
    tables = coordinate_checks(
        _setup(asked),
        registry.optimizer(asked.optimizer, cfg.adam_eps),
        [
            Variant(_rates(asked.eta, *powers), _start(init))
            for init in INITS
            for powers in SCALINGS.values()
        ],
        asked.widths,
        seeds=cfg.seeds_of(asked),
        steps=asked.steps,
    )
    return {name: np.stack([table.logs[name] for table in tables]) for name in SIZES}


def _rates(eta: float, c_a: float, c_b: float) -> Any:
    return lambda n: (eta * n**c_a, eta * n**c_b)


def _start(init: str) -> Any:
    """Of both factors drawn, which stays."""
    return lambda n: (1.0, 0.0) if init == "A" else (0.0, 1.0)


def _setup(asked: CoordinatesConfig) -> registry.Setup:
    """(width, key) -> (model, x, y), both factors drawn."""
    options = {"rank": asked.rank, "gamma": asked.gamma, "alpha": 1.0, "init": "both"}
    config = registry.model_config(asked.model, width=asked.widths[0], **options)
    task = {"n_train": asked.task.n_train, "n_test": asked.task.n_test}
    return registry.setup(config, "width", asked.task.name, task)
