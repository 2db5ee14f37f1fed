"""Landscapes over widths and ranks: pieces of work, and the data set they make up."""

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
from experiments.lab.memory import Need, cores
from experiments.landscape import cost
from experiments.landscape.experiment import (
    batch_bytes_of,
    devices_of,
    drawn,
    halved,
    policy_of,
)
from experiments.landscape.memory import needs
from experiments.registry import ModelConfig
from experiments.scaling import coordinates
from experiments.scaling.config import (
    CHECK,
    ScalingConfig,
    SweepConfig,
    kept_steps,
    line_cells,
    plane_cells,
    rates,
)
from experiments.scaling.coordinates import Check
from experiments.scaling.families import preconditioned
from lora_theory.stats.landscapes import CURVES
from lora_theory.store.dataset import Layout, assemble
from lora_theory.store.losses import check_losses
from lora_theory.store.provenance import Provenance

if TYPE_CHECKING:
    from xarray import Dataset

    from lora_theory.train.sweep import Problem

BLOCKS = ("A", "B", "both")
ENDS = ("least", "largest")
_SHAPE = (1, len(BLOCKS), len(ENDS))
# Core-seconds that the programs of one width take to compile, and the coordinate check of one,
# which is little else; runs and steps for one product with the Hessian. Measured on a virtual
# machine, AMD EPYC.
_COMPILING, _COMPILING_CURVATURE, _CHECKING = 1.5, 4.5, 4.4
_PRODUCT = 25


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
        if cfg.seeds is None:  # Which then follow from those of the part.
            del found["seeds"]
        return found

    def plan(self, cfg: ScalingConfig) -> list[Part[Piece | Check]]:
        """Seeds of one width after those of another, which share a compilation."""
        parts: list[Part[Piece | Check]] = [
            Part(
                name,
                {_name(piece): piece for piece in _pieces(name, sweep, cfg)},
                {"sweep": schema.plain(sweep)},
            )
            for name, sweep in cfg.sweeps.items()
        ]
        parts.append(Part(CHECK, {CHECK: Check()}, {CHECK: schema.plain(cfg.coordinates)}))
        return [part for part in parts if cfg.part is None or part.name in cfg.part]

    def memory(self, cfg: ScalingConfig) -> list[Need]:
        """What the widest piece of the largest sweep holds."""
        names = [part.name for part in self.plan(cfg) if part.name != CHECK]
        each = [_needs(name, cfg) for name in names]
        return max(each, key=lambda needs: sum(need.bytes for need in needs), default=[])

    def tables(
        self, part: Part[Piece | Check], cfg: ScalingConfig
    ) -> Mapping[str, Collection[str]]:
        """What it uses of the registry's tables."""
        of = cfg.coordinates if part.name == CHECK else cfg.sweeps[part.name]
        used = {
            "MODELS": [of.model],
            "TASKS": [of.task.name or registry.MODELS[of.model].task],
            "LOSSES": [] if part.name == CHECK else ["mse"],
            "OPTIMIZERS": [of.optimizer] if isinstance(of.optimizer, str) else of.optimizer,
            "PROBES": [],
        }
        return {f"experiments.registry:{table}": names for table, names in used.items()}

    def start(self, cfg: ScalingConfig) -> dict[str, Any]:
        """The devices, and which policy the engine has there."""
        devices_of(cfg.engine)
        first = next(iter(cfg.sweeps.values()))
        policy = policy_of(cfg.engine, first.model, first.widths[0], first.task)
        return {"engine": {"policy": policy.name, **batch_bytes_of(cfg.engine, policy.name)}}

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
            seen = piece.seed in cfg.seeds_of(sweep)[: sweep.curvature.seeds]
            found["curvature"] = (
                _curvature(problem, piece, cfg) if seen else np.full(_SHAPE, np.nan)
            )
        return found

    def core_seconds(self, piece: Piece | Check, cfg: ScalingConfig) -> float:
        """Its runs in the plane and along the line, the curvature, its share of compiling."""
        if isinstance(piece, Check):
            return _CHECKING * len(cfg.coordinates.widths)
        sweep, model = cfg.sweeps[piece.sweep], model_of(cfg.sweeps[piece.sweep], piece)
        runs = len(plane_cells(sweep)) + len(line_cells(sweep))
        found = cost.core_seconds(model, sweep.task, piece.optimizer, runs, cfg.steps)
        programs = _COMPILING
        if sweep.curvature.seeds:
            programs += _COMPILING_CURVATURE
        if piece.seed in cfg.seeds_of(sweep)[: sweep.curvature.seeds]:
            products = len(BLOCKS) * sweep.curvature.iterations
            found += _PRODUCT * products * cost.run_and_step(model, sweep.task)
        return found + programs / len(cfg.seeds_at(sweep, piece.width))

    def halved(self, piece: Piece | Check, cfg: ScalingConfig) -> ScalingConfig | None:
        """With half as many cells that step together at this width."""
        if isinstance(piece, Check):
            return None
        sweep = cfg.sweeps[piece.sweep]
        engine = halved(cfg.engine, policy_of(cfg.engine, sweep.model, piece.width, sweep.task))
        return None if engine is None else dataclasses.replace(cfg, engine=engine)

    def group(self, piece: Piece | Check) -> Piece | Check:
        """Seeds share a compilation."""
        return piece if isinstance(piece, Check) else piece._replace(seed=0)

    def layout(self, part: Part[Piece | Check], cfg: ScalingConfig) -> Layout:
        """Losses over everything that the sweep varies; `ran` says what was run."""
        if part.name == CHECK:
            return coordinates.layout(cfg.coordinates, cfg.seeds_of(cfg.coordinates))
        sweep = cfg.sweeps[part.name]
        eta_a, eta_b, eta = rates(sweep)
        coords: dict[str, Any] = {
            "optimizer": list(sweep.optimizer),
            "init": list(sweep.init),
            "r": sweep.rank,
            "gamma": sweep.gamma,
            "rho": sweep.rho,
            "n": sweep.widths,
            "seed": cfg.seeds_of(sweep),
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

    def check(
        self,
        part: Part[Piece | Check],
        arrays: Arrays,
        cfg: ScalingConfig,
        piece: Piece | Check | None = None,
    ) -> None:
        """Curves as training gives them, of what the plan says that it ran."""
        if part.name == CHECK:
            coordinates.check(arrays)
            return
        sweep, ran = cfg.sweeps[part.name], arrays["ran"]
        asked = np.ones(1, bool) if piece is not None else _asked(sweep, cfg)
        if (ran != asked).any():
            raise ValueError("ran: not what the config asks for")
        for names in (CURVES, tuple(f"line_{curve}" for curve in CURVES)):
            if names[0] in arrays:
                lengths = check_losses(names, [arrays[name] for name in names])
                if lengths[~ran].any():
                    raise ValueError(f"{names[0]}: losses of what was not run")
        if sweep.curvature.seeds:
            least, largest = np.moveaxis(arrays["curvature"], -1, 0)
            if (least > largest).any():
                raise ValueError("curvature: the least is above the largest")

    def keep(
        self,
        part: Part[Piece | Check],
        pieces: Mapping[str, Callable[[], Arrays]],
        cfg: ScalingConfig,
        path: Path,
        provenance: Provenance,
    ) -> None:
        """A data set of all widths; where a width has fewer seeds, `ran` is false."""
        if part.name == CHECK:
            super().keep(part, pieces, cfg, path, provenance)
            return
        sweep, made = cfg.sweeps[part.name], self.layout(part, cfg)
        whole = dataclasses.replace(cfg, seeds=schema.Seeds(cfg.seeds_of(sweep)))
        names = map(_name, _pieces(part.name, sweep, whole))
        nothing = functools.partial(_nothing, made)
        assemble(path, made, provenance, [pieces.get(name, nothing) for name in names])

    def report(self, part: Part[Piece | Check], results: "Dataset", cfg: ScalingConfig) -> Report:
        """What the sweep says, in words and figures."""
        from experiments.scaling import report

        if part.name == CHECK:
            return report.of_coordinates(results, self.name)
        return report.of_sweep(part.name, results, cfg, self.name)


def _needs(name: str, cfg: ScalingConfig) -> list[Need]:
    """What the engine holds for the widest piece of a sweep, by the fields of the sweep."""
    sweep = cfg.sweeps[name]
    model = registry.model_config(
        sweep.model, init=sweep.init[0], weight=sweep.weight,
        width=max(sweep.widths), rank=max(sweep.rank),
    )  # fmt: skip
    cells = len(plane_cells(sweep)) + len(line_cells(sweep))
    devices = cfg.engine.devices or cores()
    fields = {
        "model.width": f"sweeps.{name}.widths",
        "model.rank": f"sweeps.{name}.rank",
        "task.n_train": f"sweeps.{name}.task.n_train",
        "task.n_test": f"sweeps.{name}.task.n_test",
        "grid.points": f"sweeps.{name}.log2_a",
    }
    return [
        need._replace(sides=[(fields.get(field, field), size) for field, size in need.sides])
        for need in needs(model, sweep.task, cfg.engine, cfg.steps, cells, devices)
    ]


def model_of(sweep: SweepConfig, piece: Piece) -> ModelConfig:
    """The config of the model of one piece."""
    varied = piece._asdict()
    return registry.model_config(sweep.model, alpha=1.0, weight=sweep.weight, **varied)


def _problem(piece: Piece, cfg: ScalingConfig) -> "Problem":
    from lora_theory.keys import seed_key

    sweep = cfg.sweeps[piece.sweep]
    problem: Problem = drawn(model_of(sweep, piece), sweep.task)(seed_key(piece.seed))
    return problem


def _curvature(problem: "Problem", piece: Piece, cfg: ScalingConfig) -> np.ndarray:
    """The ends of the spectrum in A, B and both: (1, blocks, ends)."""
    from lora_theory.train.curvature import Adam, curvature

    asked = cfg.sweeps[piece.sweep].curvature
    adam = None
    if preconditioned(piece.optimizer):
        adam = Adam(asked.eta / piece.width, asked.eta, asked.steps, eps=cfg.adam_eps)
    loss = registry.resolve(registry.LOSSES["mse"])
    found = curvature(problem, loss=loss, iterations=asked.iterations, adam=adam)
    return np.array([[(at.low, at.high) for at in (found.a, found.b, found.both)]])


def _pieces(name: str, sweep: SweepConfig, cfg: ScalingConfig) -> Iterator[Piece]:
    """In the order of the data set."""
    for optimizer, init, rank, gamma, rho, width in itertools.product(
        sweep.optimizer, sweep.init, sweep.rank, sweep.gamma, sweep.rho, sweep.widths
    ):
        for seed in cfg.seeds_at(sweep, width):
            yield Piece(name, optimizer, init, rank, gamma, rho, width, seed)


def _asked(sweep: SweepConfig, cfg: ScalingConfig) -> np.ndarray:
    """Which seeds are run at which width: (W, S)."""
    counts = np.array([len(cfg.seeds_at(sweep, width)) for width in sweep.widths])
    return np.arange(counts.max()) < counts[:, None]


def _name(piece: Piece) -> str:
    named = zip(piece._fields[1:], piece[1:], strict=True)
    return ",".join(f"{field}={value}" for field, value in named)


def _nothing(layout: Layout) -> Arrays:
    """A piece that was not run."""
    return {
        name: np.full((1, *layout.inner(name)), False if dtype == "bool" else np.nan, dtype)
        for name, (_, dtype) in layout.variables.items()
    }
