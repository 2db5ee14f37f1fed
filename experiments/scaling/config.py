"""What a sweep over widths and ranks is made of: its config, its rates, the steps that are kept."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.schema import (
    ConfigError,
    Rule,
    ascending,
    drawing,
    integer,
    number,
    one_of,
    part,
    positive,
    science,
    some_of,
)
from experiments.landscape.experiment import EngineConfig, TaskConfig, pairs, powers_of_2
from experiments.scaling.coordinates import CoordinatesConfig
from lora_theory.stats.landscapes import CURVES
from lora_theory.terms import INITS

CHECK = "coordinates"  # The part that is no sweep.
_KEPT = 40  # About so many steps of a run are kept, evenly spaced in log t.
_ENDS = schema.optional(schema.interval(-60, 60))  # Of an axis in powers of 2.


def _several(rule: Rule) -> Rule:
    """A list of different values, each of which the rule accepts."""
    return Rule(
        f"must be a list of different values, each of which {rule.allowed}",
        lambda v: len(v) > 0 and len(set(v)) == len(v) and all(map(rule.accepts, v)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurvatureConfig:
    """Ends of the Hessian's spectrum at the start; under Adam after some small steps, as Adam
    preconditions it: at the rates η_A = eta / n, η_B = eta.
    """

    seeds: int = science(integer(0, 10**6))
    iterations: int = science(integer(2, 1000))
    steps: int = science(integer(1, 10**6))
    eta: float = science(schema.rate())


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """One model on one raw grid, over widths, ranks, inits and optimizers.

    Rates are 2^k for whole k from log2_a[0] to log2_a[1], and 0; along the line η_A = η_B they are
    2^(k/2) from 2^line[0] to 2^line[1]. A width with S seeds has the first S of one list.
    """

    model: str = science(one_of(*registry.MODELS))
    task: TaskConfig
    optimizer: tuple[str, ...] = science(some_of(*registry.OPTIMIZERS))
    init: tuple[str, ...] = science(some_of(*INITS))
    rank: tuple[int, ...] = science(_several(integer(1, 10**5)))
    gamma: tuple[float, ...] = science(_several(number(-10, 10)))
    rho: tuple[float, ...] = science(_several(number(-10, 10)))
    weight: str = science(one_of("zero", "random"))
    widths: tuple[int, ...] = science(
        Rule(
            "must be ascending integers from 2 to 1000000",
            lambda v: len(v) > 0 and v[0] >= 2 and v[-1] <= 10**6 and list(v) == sorted(set(v)),
        )
    )
    seeds: tuple[int, ...] = science(
        Rule(
            "must be integers from 2 to 100000, none larger than the one before",
            lambda v: len(v) > 0 and v[-1] >= 2 and v[0] <= 10**5 and _falling(v),
        )
    )
    log2_a: tuple[int, ...] | None = science(_ENDS)
    log2_b: tuple[int, ...] | None = science(_ENDS)
    line: tuple[int, ...] | None = science(_ENDS)
    curvature: CurvatureConfig

    def seeds_of(self, width: int) -> int:
        """How many seeds a width has."""
        return self.seeds[self.widths.index(width)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecideConfig:
    """What decides the verdicts; written before the runs that it judges."""

    sweep: str = drawing()
    curve: str = drawing(one_of(*CURVES))
    t: int = drawing(integer(1, 10**9))
    collapse_margin: float = drawing(positive())
    place_margin: float = drawing(positive())
    quantile: float = drawing(number(0.01, 0.99))
    widest: float = drawing(positive())
    resamples: int = drawing(integer(20, 10**5))
    confidence: float = drawing(number(0.5, 0.9999))

    @property
    def beside(self) -> int:
        """Draws for what is shown beside what decides."""
        return self.resamples // 4

    def __post_init__(self) -> None:
        # The ends of an interval lie among the draws: of few, it comes out too narrow.
        fewest = math.ceil(8 / (1 - self.confidence) - 1e-9)
        if self.resamples < fewest:
            needed = f"must be at least {fewest} for decide.confidence = {self.confidence:g}"
            raise ConfigError("decide.resamples", needed, self.resamples)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingConfig(schema.Common):
    """Which sweeps, and what decides; see `conf/width.yaml`."""

    part: tuple[str, ...] | None = part(
        Rule(
            f"must be null or a list of different sweeps, or {CHECK}",
            lambda v: v is None or _different(v),
        )
    )
    sweeps: dict[str, SweepConfig] = science()
    coordinates: CoordinatesConfig
    first_seed: int = science(integer(0, 2**30))
    seeds: schema.Seeds | None = science(schema.optional(schema.seeds(2)), default=None)
    steps: int = science(integer(2, 10**6))
    times: tuple[int, ...] = science(ascending(1))
    adam_eps: float = science(schema.rate())
    engine: EngineConfig
    decide: DecideConfig
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        if not self.sweeps:
            raise ConfigError("sweeps", "must be at least one", "{}")
        for name, sweep in self.sweeps.items():
            _check_sweep(f"sweeps.{name}", sweep, counted=self.seeds is None)
        if CHECK in self.sweeps:
            raise ConfigError("sweeps", f"must not have the name {CHECK}", CHECK)
        for field, names, known in (
            ("part", self.part or (), (*self.sweeps, CHECK)),
            ("decide.sweep", (self.decide.sweep,), tuple(self.sweeps)),
        ):
            for name in names:
                if name not in known:
                    raise ConfigError(field, f"must be among {', '.join(known)}", name)
        if self.times[-1] > self.steps:
            raise ConfigError("times", f"must be at most steps = {self.steps}", list(self.times))
        if self.decide.t not in self.times:
            listed = ", ".join(map(str, self.times))
            raise ConfigError("decide.t", f"must be among times = {listed}", self.decide.t)

    def seeds_at(self, sweep: SweepConfig, width: int) -> tuple[int, ...]:
        """The seeds of one width of a sweep; all widths have the same where `seeds` says which."""
        return self.seeds or self._first(sweep.seeds_of(width))

    def seeds_of(self, part: SweepConfig | CoordinatesConfig) -> tuple[int, ...]:
        """All seeds of a sweep, or of the coordinate check."""
        counts = part.seeds
        return self.seeds or self._first(counts if isinstance(counts, int) else max(counts))

    def _first(self, count: int) -> tuple[int, ...]:
        return tuple(range(self.first_seed, self.first_seed + count))


def rates(sweep: SweepConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rates of A and of B, 0 first, and those along the line; empty where there are none."""
    axes = [
        np.array([]) if ends is None else np.append(0.0, powers_of_2(ends))
        for ends in (sweep.log2_a, sweep.log2_b)
    ]
    line = np.array([]) if sweep.line is None else powers_of_2(sweep.line, 2)
    return axes[0], axes[1], line


def plane_cells(sweep: SweepConfig) -> np.ndarray:
    """All pairs (η_A, η_B) of the plane, η_B running fastest: (cells, 2)."""
    eta_a, eta_b, _ = rates(sweep)
    return pairs(eta_a, eta_b)


def line_cells(sweep: SweepConfig) -> np.ndarray:
    """The pairs (η, η) of the line: (cells, 2)."""
    return np.repeat(rates(sweep)[2][:, None], 2, axis=1)


def kept_steps(cfg: ScalingConfig) -> np.ndarray:
    """Which steps are kept: 0, the reported ones, and others evenly spaced in log t."""
    spaced = np.round(np.geomspace(1, cfg.steps, _KEPT)).astype(int)
    return np.unique([0, *cfg.times, *spaced])


def _different(values: tuple[Any, ...]) -> bool:
    return len(values) > 0 and len(set(values)) == len(values)


def _check_sweep(name: str, sweep: SweepConfig, *, counted: bool) -> None:
    if counted and len(sweep.seeds) != len(sweep.widths):
        count = f"must have one count a width, {len(sweep.widths)} in all"
        raise ConfigError(f"{name}.seeds", count, list(sweep.seeds))
    if (sweep.log2_a is None) != (sweep.log2_b is None):
        raise ConfigError(f"{name}.log2_b", "must be given with log2_a, or neither", sweep.log2_b)
    if sweep.log2_a is None and sweep.line is None:
        raise ConfigError(f"{name}.line", "must be given where there is no plane", None)
    if sweep.log2_a is not None and sweep.line is None and not _shared(sweep):
        raise ConfigError(f"{name}.line", "must be given where the axes share no two rates", None)
    if max(sweep.rank) > sweep.widths[0]:
        at_most = f"must be at most the least width = {sweep.widths[0]}"
        raise ConfigError(f"{name}.rank", at_most, list(sweep.rank))
    if len(sweep.widths) < 2 and len(sweep.rank) < 2:
        several = "must be at least two where there is one rank"
        raise ConfigError(f"{name}.widths", several, list(sweep.widths))
    _check_model(name, sweep)


def _check_model(name: str, sweep: SweepConfig) -> None:
    """Refuse what the model does not have, and what it does not take."""
    known = registry.knows(sweep.model)
    for field in ("rank", "gamma", "rho"):
        if field not in known and len(getattr(sweep, field)) > 1:
            one = f"must be one value: model {sweep.model} has none"
            raise ConfigError(f"{name}.{field}", one, list(getattr(sweep, field)))
    if "weight" not in known and sweep.weight != "zero":
        raise ConfigError(f"{name}.weight", f"must be zero for {sweep.model}", sweep.weight)
    for init in sweep.init:
        try:
            registry.model_config(
                sweep.model, init=init, weight=sweep.weight, width=sweep.widths[0],
                rank=sweep.rank[0], gamma=sweep.gamma[0], rho=sweep.rho[0],
            )  # fmt: skip
        except ConfigError as error:
            field = error.field.removeprefix("model.")
            raise ConfigError(f"{name}.{field}", error.allowed, error.value) from None


def _shared(sweep: SweepConfig) -> bool:
    """Whether the axes have a line of one rate, which takes two of them besides 0."""
    eta_a, eta_b, _ = rates(sweep)
    return len(np.intersect1d(eta_a, eta_b)) > 2


def _falling(values: tuple[int, ...]) -> bool:
    return all(a >= b for a, b in itertools.pairwise(values))
