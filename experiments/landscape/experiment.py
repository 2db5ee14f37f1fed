"""A landscape over (η_A, η_B): its config, its pieces of work, and the way to its report."""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.experiment import Arrays, Experiment, Part, Report
from experiments.lab.memory import Need, cores
from experiments.lab.schema import (
    ConfigError,
    drawing,
    integer,
    layout,
    number,
    one_of,
    optional,
    part,
    science,
)
from experiments.landscape import cost
from experiments.registry import ModelConfig
from lora_theory.stats.landscapes import AROUND, CURVES, Judge
from lora_theory.store.dataset import Layout
from lora_theory.store.files import ResultsError
from lora_theory.store.losses import check_diverged, check_losses

if TYPE_CHECKING:
    import jax
    from xarray import Dataset

    from lora_theory.train.devices import Policy
    from lora_theory.train.sweep import Problem

# Cells of a piece on cores: seconds of work at n = 100, and few enough slots idle at its end.
_PIECE_CELLS = 512
_PIECE_BYTES = 2**26  # Of losses: no piece on cores holds more, however many steps there are.
_MOST_PIECES = 10**6  # Each is a file for a time.


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Which task, and how many samples it has."""

    name: str | None = science(optional(one_of(*registry.TASKS)))
    n_train: int = science(integer(1, 10**7))
    n_test: int = science(integer(1, 10**7))


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The base of LoRA+."""

    name: str = science(one_of(*registry.OPTIMIZERS))


@dataclasses.dataclass(frozen=True)
class AxisConfig:
    """Rates of one factor: `points` of a logarithmic grid from low to high, times n^power."""

    points: int = science(integer(1, 4096))
    low: float = science(schema.rate())
    high: float = science(schema.rate())
    power: float = science(number(-10, 10))


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The grid of rates: what both axes have in common, and each axis."""

    points: int = science(integer(1, 4096))
    low: float = science(schema.rate())
    high: float = science(schema.rate())
    a: AxisConfig
    b: AxisConfig


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """How the sweep is laid on the machine; null means chosen by `devices.resolve_policy`."""

    policy: str | None = science(optional(one_of("cores", "batch")), chosen=True)
    micro_batch: int | None = science(optional(integer(1, 10**6)), chosen=True)
    sample_block: int | None = science(optional(integer(1, 10**8)), chosen=True)
    batch_bytes: int | None = science(optional(integer(1, 2**50)), chosen=True)
    devices: int | None = layout(optional(integer(1, 1024)))
    chunk: int | None = layout(optional(integer(1, 10**7)))
    coordinator: str | None = layout()
    processes: int | None = layout(optional(integer(1, 10**6)))
    process: int | None = layout(optional(integer(0, 10**6)))
    patience: int = layout(integer(1, 10**5))


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """What decides which cell is the best, at t = plot.late; other judges are shown beside it."""

    curve: str = drawing(one_of(*CURVES))
    quantile: float = drawing(number(0.01, 0.99))
    around: str = drawing(one_of(*AROUND))

    def judge(self) -> Judge:
        """The same as a judge."""
        return Judge(self.quantile, self.around)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """What the figure shows: the two times of the heatmaps, and the colour range at each."""

    early: int = drawing(integer(0, 10**9))
    late: int = drawing(integer(1, 10**9))
    early_cap: float | None = drawing(optional(schema.positive()))
    late_cap: float | None = drawing(optional(schema.positive()))
    dpi: int = drawing(integer(30, 1200))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandscapeConfig(schema.Common):
    """Everything that decides a landscape; see `conf/fig2.yaml` for the paper's values."""

    model: ModelConfig = schema.variant(registry.schemas())
    task: TaskConfig
    optimizer: OptimizerConfig
    grid: GridConfig
    loss: tuple[str, ...] = part(schema.some_of(*registry.LOSSES))
    seeds: schema.Seeds = science(schema.seeds())
    steps: int = science(integer(1, 10**9))
    engine: EngineConfig
    judge: JudgeConfig
    plot: PlotConfig

    def __post_init__(self) -> None:
        for name, axis in (("grid", self.grid), ("grid.a", self.grid.a), ("grid.b", self.grid.b)):
            _check_axis(name, axis)
        if self.plot.late > self.steps:
            raise ConfigError("plot.late", f"must be at most steps = {self.steps}", self.plot.late)


class Piece(NamedTuple):
    """Some cells of one seed under one loss."""

    loss: str
    seed: int
    start: int
    stop: int


class Landscape(Experiment[LandscapeConfig, Piece, "Dataset"]):
    """One part, and one results file, a loss; a piece is some cells of one seed."""

    schema = LandscapeConfig

    def plan(self, cfg: LandscapeConfig) -> list[Part[Piece]]:
        """Cells in the order of the results' memory: seed, η_A, η_B."""
        cells, size = cfg.grid.a.points * cfg.grid.b.points, _piece_cells(cfg)
        if (count := len(cfg.seeds) * math.ceil(cells / size)) > _MOST_PIECES:
            raise ConfigError("seeds", f"must leave at most {_MOST_PIECES} pieces of work", count)
        places = [
            (seed, start, min(start + size, cells))
            for seed in cfg.seeds
            for start in range(0, cells, size)
        ]
        return [
            Part(
                loss,
                {f"seed={i},cells={j}-{k}": Piece(loss, i, j, k) for i, j, k in places},
                {"loss": loss},
            )
            for loss in cfg.loss
        ]

    def memory(self, cfg: LandscapeConfig) -> list[Need]:
        """What the engine holds for one piece."""
        from experiments.landscape.memory import needs

        devices = cfg.engine.devices or cores()
        return needs(cfg.model, cfg.task, cfg.engine, cfg.steps, _piece_cells(cfg), devices)

    def tables(self, part: Part[Piece], cfg: LandscapeConfig) -> Mapping[str, Collection[str]]:
        """What it uses of the registry's tables."""
        used = {
            "MODELS": [cfg.model.name],
            "TASKS": [cfg.task.name or registry.MODELS[cfg.model.name].task],
            "LOSSES": [part.name],
            "OPTIMIZERS": [cfg.optimizer.name],
            "PROBES": [],
        }
        return {f"experiments.registry:{table}": names for table, names in used.items()}

    def start(self, cfg: LandscapeConfig) -> dict[str, Any]:
        """The devices and the engine's policy."""
        devices_of(cfg.engine)
        policy = policy_of(cfg.engine, cfg.model.name, cfg.model.width, cfg.task)._asdict()
        name = policy.pop("name")
        return {"engine": {"policy": name, **policy, **batch_bytes_of(cfg.engine, name)}}

    def run(self, piece: Piece, cfg: LandscapeConfig) -> Arrays:
        """Losses of the cells at every step, where runs diverged, and the floors of the losses."""
        from lora_theory.data.synthetic import objective
        from lora_theory.train import sweep

        problem = _problem(cfg.model, cfg.task, piece.seed)
        loss = registry.resolve(registry.LOSSES[piece.loss])
        curves = sweep.sweep_cells(
            problem,
            cells(cfg)[piece.start : piece.stop],
            optimizer=registry.optimizer(cfg.optimizer.name),
            loss=loss,
            steps=cfg.steps,
            policy=policy_of(cfg.engine, cfg.model.name, cfg.model.width, cfg.task),
            devices=devices_of(cfg.engine),
        )
        floors = np.asarray(objective(problem.data, loss).offset, np.float32)
        each = (piece.stop - piece.start, 1)
        train_floor, test_floor = np.tile(floors, each).T
        return curves._asdict() | {"train_floor": train_floor, "test_floor": test_floor}

    def halved(self, piece: Piece, cfg: LandscapeConfig) -> LandscapeConfig | None:
        """With half as many cells that step together."""
        policy = policy_of(cfg.engine, cfg.model.name, cfg.model.width, cfg.task)
        engine = halved(cfg.engine, policy)
        return None if engine is None else dataclasses.replace(cfg, engine=engine)

    def units(self, piece: Piece) -> int:
        """Runs."""
        return piece.stop - piece.start

    def core_seconds(self, piece: Piece, cfg: LandscapeConfig) -> float:
        """All its runs at once."""
        return cost.core_seconds(
            cfg.model, cfg.task, cfg.optimizer.name, self.units(piece), cfg.steps
        )

    def marks(self, arrays: Arrays) -> Mapping[str, int]:
        """How many runs diverged."""
        return {"diverged": int((arrays["diverged_at"] >= 0).sum()) if arrays else 0}

    def layout(self, part: Part[Piece], cfg: LandscapeConfig) -> Layout:
        """Losses over seeds, rates and steps."""
        eta_a, eta_b = rates(cfg)
        cell = ("seed", "eta_a", "eta_b")
        coords: dict[str, Any] = {
            "eta_a": eta_a,
            "eta_b": eta_b,
            "seed": cfg.seeds,
            "step": range(cfg.steps + 1),
        }
        variables: dict[str, tuple[tuple[str, ...], str]] = {
            **dict.fromkeys(CURVES, ((*cell, "step"), "float32")),
            "diverged_at": (cell, "int32"),
            **dict.fromkeys(("train_floor", "test_floor"), (("seed",), "float32")),
        }
        return Layout(coords, variables, cell)

    def check(
        self, part: Part[Piece], arrays: Arrays, cfg: LandscapeConfig, piece: Piece | None = None
    ) -> None:
        """Curves as training gives them, and where they diverge; floors below which no loss is."""
        lengths = check_losses(CURVES, [arrays[name] for name in CURVES])
        check_diverged(arrays["diverged_at"], lengths, cfg.steps + 1)
        for name in ("train_floor", "test_floor"):
            if not (np.isfinite(arrays[name]) & (arrays[name] >= 0)).all():
                raise ValueError(f"{name}: must be finite and at least 0")

    def report(self, part: Part[Piece], results: "Dataset", cfg: LandscapeConfig) -> Report:
        """The figures of one loss, and what they say in words."""
        from experiments.landscape import report
        from lora_theory.plots.landscapes import figure2, judges_figure

        if part.name == "all_pairs" and "train_floor" not in results:
            raise ResultsError("all_pairs.npz: saved without the loss's floors; run it anew")
        plot, judge, curve = cfg.plot, cfg.judge.judge(), cfg.judge.curve
        published = report.published(results, plot.late)
        figure = figure2(
            results,
            early=plot.early,
            late=plot.late,
            judge=judge,
            curve=curve,
            early_cap=plot.early_cap,
            late_cap=plot.late_cap,
            published={name: (p.eta_a, p.eta_b) for name, p in published.items()},
        )
        beside = judges_figure(results, curve=curve, t=plot.late)
        return Report(
            report.lines(results, curve, plot.late, judge),
            {f"{self.name}_{part.name}": figure, f"{self.name}_{part.name}_judges": beside},
        )


def _piece_cells(cfg: LandscapeConfig) -> int:
    """How many cells a piece of work has; where the config does not say, all have about the same.

    In a batch a seed's, or if their losses are too many, no fewer than fill its slots.
    """
    engine, cells = cfg.engine, cfg.grid.a.points * cfg.grid.b.points
    most = max(1, _PIECE_BYTES // (8 * (cfg.steps + 1)))
    if engine.chunk is not None:
        return min(engine.chunk, most, cells)
    if engine.policy == "batch":
        count = max(1, cells // max(most, engine.micro_batch or 1))
    else:
        count = math.ceil(cells / min(most, _PIECE_CELLS))
    return math.ceil(cells / count)


def rates(cfg: LandscapeConfig) -> tuple[np.ndarray, np.ndarray]:
    """The rates of A and of B: evenly spaced in log η, times a power of n."""
    n = float(cfg.model.width)
    eta_a, eta_b = (
        np.geomspace(axis.low, axis.high, axis.points) * n**axis.power
        for axis in (cfg.grid.a, cfg.grid.b)
    )
    return eta_a, eta_b


def cells(cfg: LandscapeConfig) -> np.ndarray:
    """All pairs (η_A, η_B), η_B running fastest: (cells, 2)."""
    return pairs(*rates(cfg))


def pairs(eta_a: np.ndarray, eta_b: np.ndarray) -> np.ndarray:
    """All pairs of two axes, η_B running fastest: (cells, 2)."""
    return np.stack(np.meshgrid(eta_a, eta_b, indexing="ij"), axis=-1).reshape(-1, 2)


def powers_of_2(ends: tuple[int, ...], per_octave: int = 1) -> np.ndarray:
    """Rates 2^(k / per_octave) from 2^ends[0] to 2^ends[1], both included.

    >>> powers_of_2((-1, 1)).tolist()
    [0.5, 1.0, 2.0]
    """
    low, high = ends
    return np.asarray(2.0 ** (np.arange(low * per_octave, high * per_octave + 1) / per_octave))


@functools.lru_cache(maxsize=2)
def _problem(model: ModelConfig, task: TaskConfig, seed: int) -> "Problem":
    from lora_theory.keys import seed_key

    return drawn(model, task)(seed_key(seed))


@functools.cache
def drawn(model: ModelConfig, task: TaskConfig) -> Any:
    """key -> problem, compiled: op by op, forty small compilations would take two seconds."""
    import jax

    options = {"n_train": task.n_train, "n_test": task.n_test}
    return jax.jit(registry.draw(model, task.name, options))


def devices_of(engine: EngineConfig) -> "list[jax.Device]":
    """The devices that a config asks for, numerics pinned, the other hosts there.

    Raises:
        ConfigError: there are not so many, or no such hosts.
    """
    from lora_theory.train import devices, hosts

    devices.pin_numerics()
    try:
        if engine.coordinator is not None:
            which = (engine.coordinator, engine.processes, engine.process)
            hosts.join(*which, patience=engine.patience)
        return devices.start_devices(engine.devices)
    except ValueError as error:
        field, _, allowed = str(error).partition(" (got")[0].partition(": ")
        if field not in ("devices", "coordinator", "processes", "process"):
            raise
        raise ConfigError(f"engine.{field}", allowed, getattr(engine, field)) from None


def policy_of(engine: EngineConfig, model: str, width: int, task: TaskConfig) -> "Policy":
    """The engine's policy for a model at one width, every null of the config resolved."""
    from lora_theory.train.devices import resolve_policy

    return resolve_policy(
        width,
        task.n_train + task.n_test,
        name=engine.policy,
        micro_batch=engine.micro_batch,
        sample_block=engine.sample_block,
        batch_bytes=engine.batch_bytes,
        gate=registry.MODELS[model].gate,
    )


def halved(engine: EngineConfig, policy: "Policy") -> EngineConfig | None:
    """The engine with half of a policy's micro-batch; None where that is one already."""
    from lora_theory.train import devices

    half = devices.halved(policy)
    return None if half is None else dataclasses.replace(engine, micro_batch=half.micro_batch)


def batch_bytes_of(engine: EngineConfig, policy: str) -> dict[str, int]:
    """What of a batch's memory is to be recorded: nothing on cores, which know no such bound."""
    from lora_theory.train.devices import free_batch_bytes

    return {"batch_bytes": engine.batch_bytes or free_batch_bytes()} if policy == "batch" else {}


def _check_axis(name: str, axis: GridConfig | AxisConfig) -> None:
    if axis.low > axis.high or (axis.low == axis.high and axis.points > 1):
        raise ConfigError(f"{name}.high", f"must be above {name}.low = {axis.low:g}", axis.high)
    if axis.points > 1 and math.log(axis.high / axis.low) / (axis.points - 1) < 1e-5:
        raise ConfigError(
            f"{name}.points", "must leave neighbouring rates 0.001 % apart", axis.points
        )


registry.offer_models()
