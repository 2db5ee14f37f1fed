"""Landscapes over widths and ranks: config, pieces of work, and the data set they make up."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.experiment import Arrays, Experiment, Part, Report
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
from experiments.landscape.experiment import (
    EngineConfig,
    TaskConfig,
    devices_of,
    drawn,
    pairs,
    policy_of,
    powers_of_2,
)
from experiments.registry import ModelConfig
from experiments.scaling import coordinates
from experiments.scaling.coordinates import Check, CoordinatesConfig
from lora_theory.stats.landscapes import CURVES
from lora_theory.store.dataset import Layout, assemble
from lora_theory.store.provenance import Provenance
from lora_theory.terms import INITS

if TYPE_CHECKING:
    from xarray import Dataset

    from lora_theory.train.sweep import Problem

BLOCKS = ("A", "B", "both")
ENDS = ("least", "largest")
_SHAPE = (1, len(BLOCKS), len(ENDS))
_CHECK = "coordinates"  # The part that is no sweep.
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
            lambda v: len(v) > 0 and v[0] >= 2 and all(a < b for a, b in itertools.pairwise(v)),
        )
    )
    seeds: tuple[int, ...] = science(
        Rule(
            "must be integers from 1 to 100000, none larger than the one before",
            lambda v: len(v) > 0 and v[-1] >= 1 and all(a >= b for a, b in itertools.pairwise(v)),
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingConfig(schema.Common):
    """Which sweeps, and what decides; see `conf/width.yaml`."""

    part: tuple[str, ...] | None = part(
        Rule(
            f"must be null or a list of different sweeps, or {_CHECK}",
            lambda v: v is None or _different(v),
        )
    )
    sweeps: dict[str, SweepConfig] = science()
    coordinates: CoordinatesConfig
    first_seed: int = science(integer(0, 2**30))
    steps: int = science(integer(2, 10**6))
    times: tuple[int, ...] = science(ascending(1))
    adam_eps: float = science(positive())
    engine: EngineConfig
    decide: DecideConfig
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        if not self.sweeps:
            raise ConfigError("sweeps", "must be at least one", "{}")
        for name, sweep in self.sweeps.items():
            _check_sweep(f"sweeps.{name}", sweep)
        if _CHECK in self.sweeps:
            raise ConfigError("sweeps", f"must not have the name {_CHECK}", _CHECK)
        for field, names, known in (
            ("part", self.part or (), (*self.sweeps, _CHECK)),
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


class Piece(NamedTuple):
    """All cells of one seed at one width."""

    sweep: str
    optimizer: str
    init: str
    rank: int
    gamma: float
    rho: float
    width: int
    seed: int


class Scaling(Experiment[ScalingConfig, Piece | Check, "Dataset"]):
    """One part, and one results file, a sweep, whose pieces are one seed at one width each; and
    one part of one piece, the coordinate check.
    """

    schema = ScalingConfig

    def science(self, cfg: ScalingConfig, *, settled: bool = True) -> dict[str, Any]:
        """All but the sweeps and the check, of which each part has its own."""
        found = super().science(cfg, settled=settled)
        del found["sweeps"], found["coordinates"]
        return found

    def plan(self, cfg: ScalingConfig) -> list[Part[Piece | Check]]:
        """Seeds of one width after those of another, which share a compilation."""
        parts: list[Part[Piece | Check]] = [
            Part(
                name,
                {_name(piece): piece for piece in _pieces(name, sweep, cfg.first_seed)},
                {"sweep": schema.plain(sweep)},
            )
            for name, sweep in cfg.sweeps.items()
        ]
        parts.append(Part(_CHECK, {_CHECK: Check()}, {_CHECK: schema.plain(cfg.coordinates)}))
        return [part for part in parts if cfg.part is None or part.name in cfg.part]

    def tables(
        self, part: Part[Piece | Check], cfg: ScalingConfig
    ) -> Mapping[str, Collection[str]]:
        """What it uses of the registry's tables."""
        of = cfg.coordinates if part.name == _CHECK else cfg.sweeps[part.name]
        used = {
            "MODELS": [of.model],
            "TASKS": [of.task.name or registry.MODELS[of.model].task],
            "LOSSES": [] if part.name == _CHECK else ["mse"],
            "OPTIMIZERS": [of.optimizer] if isinstance(of.optimizer, str) else of.optimizer,
            "PROBES": [],
        }
        return {f"experiments.registry:{table}": names for table, names in used.items()}

    def start(self, cfg: ScalingConfig) -> dict[str, Any]:
        """The devices, and which policy the engine has there."""
        devices_of(cfg.engine)
        first = next(iter(cfg.sweeps.values()))
        policy = policy_of(cfg.engine, first.model, first.widths[0], first.task)
        return {"engine": {"policy": policy.name}}

    def run(self, piece: Piece | Check, cfg: ScalingConfig) -> Arrays:
        """Losses at the kept steps in the plane and along the line, and the curvature."""
        if isinstance(piece, Check):
            return coordinates.measure(cfg)
        from lora_theory.train import sweep as engine

        sweep = cfg.sweeps[piece.sweep]
        problem = _problem(piece, cfg)
        plane, line = plane_cells(sweep), line_cells(sweep)
        curves = engine.sweep_cells(
            problem,
            np.concatenate([plane, line]),
            optimizer=registry.optimizer(piece.optimizer, cfg.adam_eps),
            loss=registry.resolve(registry.LOSSES["mse"]),
            steps=cfg.steps,
            policy=policy_of(cfg.engine, sweep.model, piece.width, sweep.task),
            devices=devices_of(cfg.engine),
        )
        kept = kept_steps(cfg)
        eta_a, eta_b, _ = rates(sweep)
        found: dict[str, np.ndarray] = {"ran": np.ones(1, bool)}
        for curve in CURVES:
            losses = getattr(curves, curve)[None][..., kept]
            if plane.size:
                shape = (1, len(eta_a), len(eta_b), len(kept))
                found[curve] = losses[:, : len(plane)].reshape(shape)
            if line.size:
                found[f"line_{curve}"] = losses[:, len(plane) :]
        if sweep.curvature.seeds:
            seen = piece.seed - cfg.first_seed < sweep.curvature.seeds
            found["curvature"] = (
                _curvature(problem, piece, cfg) if seen else np.full(_SHAPE, np.nan)
            )
        return found

    def group(self, piece: Piece | Check) -> Piece | Check:
        """Seeds share a compilation."""
        return piece if isinstance(piece, Check) else piece._replace(seed=0)

    def layout(self, part: Part[Piece | Check], cfg: ScalingConfig) -> Layout:
        """Losses over everything that the sweep varies; `ran` says what was run."""
        if part.name == _CHECK:
            return coordinates.layout(cfg.coordinates, cfg.first_seed)
        sweep = cfg.sweeps[part.name]
        eta_a, eta_b, eta = rates(sweep)
        coords: dict[str, Any] = {
            "optimizer": list(sweep.optimizer),
            "init": list(sweep.init),
            "r": sweep.rank,
            "gamma": sweep.gamma,
            "rho": sweep.rho,
            "n": sweep.widths,
            "seed": range(cfg.first_seed, cfg.first_seed + max(sweep.seeds)),
        }
        stacked = tuple(coords)
        coords["step"] = kept_steps(cfg)
        variables: dict[str, tuple[tuple[str, ...], str]] = {"ran": (stacked, "bool")}
        if eta_a.size:
            coords |= {"eta_a": eta_a, "eta_b": eta_b}
            dims = (*stacked, "eta_a", "eta_b", "step")
            variables |= dict.fromkeys(CURVES, (dims, "float32"))
        if eta.size:
            coords["eta"] = eta
            names = [f"line_{curve}" for curve in CURVES]
            variables |= dict.fromkeys(names, ((*stacked, "eta", "step"), "float32"))
        if sweep.curvature.seeds:
            coords |= {"block": list(BLOCKS), "end": list(ENDS)}
            variables["curvature"] = ((*stacked, "block", "end"), "float64")
        order = [*stacked, "eta_a", "eta_b", "eta", "step", "block", "end"]
        return Layout({d: coords[d] for d in order if d in coords}, variables, stacked)

    def keep(
        self,
        part: Part[Piece | Check],
        pieces: Mapping[str, Callable[[], Arrays]],
        cfg: ScalingConfig,
        path: Path,
        provenance: Provenance,
    ) -> None:
        """A data set of all widths; where a width has fewer seeds, `ran` is false."""
        if part.name == _CHECK:
            super().keep(part, pieces, cfg, path, provenance)
            return
        sweep, made = cfg.sweeps[part.name], self.layout(part, cfg)
        whole = dataclasses.replace(sweep, seeds=(max(sweep.seeds),) * len(sweep.seeds))
        names = map(_name, _pieces(part.name, whole, cfg.first_seed))
        nothing = functools.partial(_nothing, made)
        assemble(path, made, provenance, [pieces.get(name, nothing) for name in names])

    def report(self, part: Part[Piece | Check], results: "Dataset", cfg: ScalingConfig) -> Report:
        """What the sweep says, in words and figures."""
        from experiments.scaling import report

        if part.name == _CHECK:
            return report.of_coordinates(results, self.name)
        return report.of_sweep(part.name, results, cfg, self.name)


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


def model_of(sweep: SweepConfig, piece: Piece) -> ModelConfig:
    """The config of the model of one piece: what its schema has of what the sweep varies."""
    build = registry.MODELS[sweep.model].schema
    varied: dict[str, Any] = {
        "width": piece.width,
        "init": piece.init,
        "rank": piece.rank,
        "alpha": 1.0,
        "gamma": piece.gamma,
        "rho": piece.rho,
        "weight": sweep.weight,
    }
    known = {field.name for field in dataclasses.fields(build)}
    return build(name=sweep.model, **{k: v for k, v in varied.items() if k in known})


def _problem(piece: Piece, cfg: ScalingConfig) -> "Problem":
    from lora_theory.train.keys import seed_key

    sweep = cfg.sweeps[piece.sweep]
    problem: Problem = drawn(model_of(sweep, piece), sweep.task)(seed_key(piece.seed))
    return problem


def _curvature(problem: "Problem", piece: Piece, cfg: ScalingConfig) -> np.ndarray:
    """The ends of the spectrum in A, B and both: (1, blocks, ends)."""
    from lora_theory.train.curvature import Adam, curvature

    asked = cfg.sweeps[piece.sweep].curvature
    adam = None
    if piece.optimizer == "adam":
        adam = Adam(asked.eta / piece.width, asked.eta, asked.steps, eps=cfg.adam_eps)
    loss = registry.resolve(registry.LOSSES["mse"])
    found = curvature(problem, loss=loss, iterations=asked.iterations, adam=adam)
    return np.array([[(at.low, at.high) for at in (found.a, found.b, found.both)]])


def _pieces(name: str, sweep: SweepConfig, first_seed: int) -> Iterator[Piece]:
    """In the order of the data set."""
    for optimizer, init, rank, gamma, rho, width in itertools.product(
        sweep.optimizer, sweep.init, sweep.rank, sweep.gamma, sweep.rho, sweep.widths
    ):
        for seed in range(first_seed, first_seed + sweep.seeds_of(width)):
            yield Piece(name, optimizer, init, rank, gamma, rho, width, seed)


def _name(piece: Piece) -> str:
    named = zip(piece._fields[1:], piece[1:], strict=True)
    return ",".join(f"{field}={value}" for field, value in named)


def _nothing(layout: Layout) -> Arrays:
    """A piece that was not run."""
    return {
        name: np.full((1, *layout.inner(name)), False if dtype == "bool" else np.nan, dtype)
        for name, (_, dtype) in layout.variables.items()
    }


def _different(values: tuple[Any, ...]) -> bool:
    return len(values) > 0 and len(set(values)) == len(values)


def _check_sweep(name: str, sweep: SweepConfig) -> None:
    if len(sweep.seeds) != len(sweep.widths):
        count = f"must have one count a width, {len(sweep.widths)} in all"
        raise ConfigError(f"{name}.seeds", count, list(sweep.seeds))
    if (sweep.log2_a is None) != (sweep.log2_b is None):
        raise ConfigError(f"{name}.log2_b", "must be given with log2_a, or neither", sweep.log2_b)
    if sweep.log2_a is None and sweep.line is None:
        raise ConfigError(f"{name}.line", "must be given where there is no plane", None)
    if max(sweep.rank) > sweep.widths[0]:
        at_most = f"must be at most the least width = {sweep.widths[0]}"
        raise ConfigError(f"{name}.rank", at_most, list(sweep.rank))
