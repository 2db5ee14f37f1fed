"""Figure 2: loss over (η_A, η_B) of the two-layer toy, and the curves of the two best pairs.

python -m experiments.fig2                            # the paper's setting, both losses
python -m experiments.fig2 model.width=256 loss=mse   # elsewhere: runs/fig2/model.width=256
python -m experiments.fig2 -m model.width=64,128,256
python -m experiments.fig2 replot=true                # only draw
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.command_line import main
from experiments.lab.experiment import Arrays, Experiment, Part, Report
from experiments.lab.schema import ConfigError, drawing, integer, layout, optional, part, science
from experiments.registry import ModelConfig
from lora_theory.stats import landscapes
from lora_theory.stats.intervals import mean_interval
from lora_theory.store.dataset import Layout, config_of

if TYPE_CHECKING:
    import jax
    from xarray import Dataset

    from lora_theory.stats.landscapes import Cell
    from lora_theory.train.devices import Policy
    from lora_theory.train.sweep import Problem

    Pairs = dict[str, Cell | None]

_PIECE_BYTES = 2**26  # No piece holds more, however many steps there are.


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Which task, and how many samples it has."""

    name: str | None = science(optional(schema.one_of(*registry.TASKS)))
    n_train: int = science(integer(1, 10**7))
    n_test: int = science(integer(1, 10**7))


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The base of LoRA+."""

    name: str = science(schema.one_of(*registry.OPTIMIZERS))


@dataclasses.dataclass(frozen=True)
class AxisConfig:
    """Rates of one factor: `points` of a logarithmic grid from low to high, times n^power."""

    points: int = science(integer(1, 4096))
    low: float = science(schema.rate())
    high: float = science(schema.rate())
    power: float = science(schema.number(-10, 10))


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

    policy: str | None = science(optional(schema.one_of("cores", "batch")), chosen=True)
    micro_batch: int | None = science(optional(integer(1, 10**6)), chosen=True)
    sample_block: int | None = science(optional(integer(1, 10**8)), chosen=True)
    devices: int | None = layout(optional(integer(1, 1024)))
    chunk: int = layout(integer(1, 10**7))


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """What the figure shows: the two times of the heatmaps, and the colour range at each."""

    early: int = drawing(integer(0, 10**9))
    late: int = drawing(integer(1, 10**9))
    early_cap: float | None = drawing(optional(schema.positive()))
    late_cap: float | None = drawing(optional(schema.positive()))
    dpi: int = drawing(integer(30, 1200))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fig2Config(schema.Common):
    """Everything that decides Figure 2; see `conf/fig2.yaml` for the paper's values."""

    model: ModelConfig = schema.variant(registry.schemas())
    task: TaskConfig
    optimizer: OptimizerConfig
    grid: GridConfig
    loss: tuple[str, ...] = part(schema.some_of(*registry.LOSSES))
    seeds: schema.Seeds = science(schema.seeds())
    steps: int = science(integer(1, 10**9))
    engine: EngineConfig
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


class Fig2(Experiment[Fig2Config, Piece, "Dataset"]):
    """One part, and one results file, a loss; a piece is some cells of one seed."""

    name = "fig2"
    schema = Fig2Config

    def plan(self, cfg: Fig2Config) -> list[Part[Piece]]:
        """Cells in the order of the results' memory: seed, η_A, η_B."""
        cells = cfg.grid.a.points * cfg.grid.b.points
        size = max(1, min(cfg.engine.chunk, _PIECE_BYTES // (8 * (cfg.steps + 1))))
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

    def start(self, cfg: Fig2Config) -> dict[str, Any]:
        """The devices and the engine's policy."""
        _devices(cfg)
        policy = _policy(cfg)._asdict()
        return {"engine": {"policy": policy.pop("name"), **policy}}

    def run(self, piece: Piece, cfg: Fig2Config) -> Arrays:
        """Losses of the cells at every step, and where runs diverged."""
        from lora_theory.train import sweep

        curves = sweep.sweep_cells(
            _problem(cfg.model, cfg.task, piece.seed),
            cells(cfg)[piece.start : piece.stop],
            optimizer=registry.optimizer(cfg.optimizer.name),
            loss=registry.resolve(registry.LOSSES[piece.loss]),
            steps=cfg.steps,
            policy=_policy(cfg),
            devices=_devices(cfg),
        )
        return curves._asdict()

    def units(self, piece: Piece) -> int:
        """Runs."""
        return piece.stop - piece.start

    def marks(self, arrays: Arrays) -> Mapping[str, int]:
        """How many runs diverged."""
        return {"diverged": int((arrays["diverged_at"] >= 0).sum()) if arrays else 0}

    def layout(self, part: Part[Piece], cfg: Fig2Config) -> Layout:
        """Losses over seeds, rates and steps."""
        eta_a, eta_b = rates(cfg)
        cell = ("seed", "eta_a", "eta_b")
        coords: dict[str, Any] = {
            "eta_a": eta_a,
            "eta_b": eta_b,
            "seed": cfg.seeds,
            "step": range(cfg.steps + 1),
        }
        losses = dict.fromkeys(landscapes.CURVES, ((*cell, "step"), "float32"))
        return Layout(coords, losses | {"diverged_at": (cell, "int32")}, cell)

    def report(self, part: Part[Piece], results: "Dataset", cfg: Fig2Config) -> Report:
        """The figure of one loss, and its table."""
        from lora_theory.plots.landscapes import figure2

        plot = cfg.plot
        figure = figure2(
            results,
            early=plot.early,
            late=plot.late,
            early_cap=plot.early_cap,
            late_cap=plot.late_cap,
        )
        lines = table(results, min(plot.early, plot.late), plot.late)
        return Report(lines, {f"fig2_{part.name}": figure})


def rates(cfg: Fig2Config) -> tuple[np.ndarray, np.ndarray]:
    """The rates of A and of B: evenly spaced in log η, times a power of n."""
    n = float(cfg.model.width)
    eta_a, eta_b = (
        np.geomspace(axis.low, axis.high, axis.points) * n**axis.power
        for axis in (cfg.grid.a, cfg.grid.b)
    )
    return eta_a, eta_b


def cells(cfg: Fig2Config) -> np.ndarray:
    """All pairs (η_A, η_B), η_B running fastest: (cells, 2)."""
    return np.stack(np.meshgrid(*rates(cfg), indexing="ij"), axis=-1).reshape(-1, 2)


@functools.lru_cache(maxsize=2)
def _problem(model: ModelConfig, task: TaskConfig, seed: int) -> "Problem":
    from lora_theory.train.keys import seed_key

    return _drawn(model, task)(seed_key(seed))


@functools.cache
def _drawn(model: ModelConfig, task: TaskConfig) -> Any:
    """key -> problem, compiled: op by op, forty small compilations would take two seconds."""
    import jax

    options = {"n_train": task.n_train, "n_test": task.n_test}
    return jax.jit(registry.draw(model, task.name, options))


def _devices(cfg: Fig2Config) -> "list[jax.Device]":
    from lora_theory.train import devices

    devices.pin_numerics()
    try:
        return devices.start_devices(cfg.engine.devices)
    except ValueError as error:
        allowed = str(error).removeprefix("devices: ").partition(" (got")[0]
        raise ConfigError("engine.devices", allowed, cfg.engine.devices) from None


def _policy(cfg: Fig2Config) -> "Policy":
    """The engine's policy, every null of the config resolved."""
    from lora_theory.train.devices import resolve_policy

    engine, samples = cfg.engine, cfg.task.n_train + cfg.task.n_test
    return resolve_policy(
        cfg.model.width,
        samples,
        name=engine.policy,
        micro_batch=engine.micro_batch,
        sample_block=engine.sample_block,
    )


def _check_axis(name: str, axis: GridConfig | AxisConfig) -> None:
    if axis.low > axis.high or (axis.low == axis.high and axis.points > 1):
        raise ConfigError(f"{name}.high", f"must be above {name}.low = {axis.low:g}", axis.high)
    if axis.points > 1 and math.log(axis.high / axis.low) / (axis.points - 1) < 1e-5:
        raise ConfigError(
            f"{name}.points", "must leave neighbouring rates 0.001 % apart", axis.points
        )


class Published(NamedTuple):
    """What the paper's Figure 2 says, at t = 200; losses read off the curves."""

    eta_a: float
    eta_b: float
    test_loss: str


# The caption prints the best pair in the other order; text and figure say η_B ≫ η_A.
PUBLISHED = {
    "best": Published(1.29e-4, 2.78, "0.17-0.18"),
    "best equal": Published(2.15e-2, 2.15e-2, "about 0.18"),
}


def table(data: "Dataset", early: int, late: int) -> list[str]:
    """Best and best equal pair at both times, the published ones, and how sure we are."""
    config, seeds = config_of(data), data.seed.size
    lines = [
        f"{config['loss']}: {config['model']['name']}, n = {config['model']['width']}, "
        f"{seeds} seeds; {landscapes.diverged_share(data, late):.0%} of runs diverged; "
        "pairs chosen by mean test loss; ± is half a 95 % interval over seeds",
        f"{'t':>5}  {'pair':<12}{'η_A':>10}{'η_B':>10}{'λ':>10}{'train loss':>18}{'test loss':>18}",
    ]
    for t in dict.fromkeys((early, late)):
        loss = landscapes.seed_mean(data, "test_loss", t)
        pairs = {
            "best": landscapes.best_pair(data, loss),
            "best equal": landscapes.best_equal_pair(data, loss),
        }
        lines += [_row(data, t, name, cell) for name, cell in pairs.items()]
    published = PUBLISHED if _is_papers(config, late) else {}
    lines += [
        f"{'':>5}  {'published':<12}{pair.eta_a:>10.3g}{pair.eta_b:>10.3g}"
        f"{pair.eta_b / pair.eta_a:>10.3g}{'':>18}{pair.test_loss:>18}  ({name}, t = 200)"
        for name, pair in published.items()
    ]
    return lines + _doubts(data, late, loss, pairs)


def _is_papers(config: dict[str, Any], late: int) -> bool:
    """Whether the published values speak of this setting; grid and seeds may differ."""
    model = config["model"]
    toy = (model["name"], model["width"]) == ("two_layer", 100)
    return toy and config["optimizer"]["name"] == "gd" and late == 200


def _row(data: "Dataset", t: int, name: str, cell: "Cell | None") -> str:
    if cell is None:
        return f"{t:>5}  {name:<12}  every run diverged"
    losses = [
        mean_interval(landscapes.curve(data, curve, cell)[:, t]) for curve in landscapes.CURVES
    ]
    shown = "".join(f"{f'{v.mean:.4f} ± {v.high - v.mean:.4f}':>18}" for v in losses)
    border = "  on the border of the grid: no optimum" if cell.on_border else ""
    rates = f"{cell.eta_a:>10.3g}{cell.eta_b:>10.3g}{cell.ratio:>10.3g}"
    return f"{t:>5}  {name:<12}{rates}{shown}{border}"


def _doubts(data: "Dataset", late: int, loss: "np.ndarray", pairs: "Pairs") -> list[str]:
    """How flat and how certain the optimum is, as far as these seeds can tell."""
    if None in pairs.values() or data.seed.size < 2:
        return []
    low, high = landscapes.ratio_range(data, loss)
    own = ", ".join(f"{ratio:.3g}" for ratio in landscapes.seed_ratios(data, "test_loss", late))
    chosen = [landscapes.curve(data, "test_loss", c)[:, late] for c in pairs.values() if c]
    judged = landscapes.held_out(data, late)
    lost = np.isnan(judged).sum(axis=0)
    finite = judged[~np.isnan(judged).any(axis=1)]
    lines = [
        f"λ within 1 % of the best: {low:.3g} to {high:.3g}; λ of each seed's own best: {own}",
        f"best − best equal, on the seeds that chose them: {_gap(chosen[0] - chosen[1])}",
    ]
    if len(finite) > 1:
        lines.append(
            f"best − best equal, each on a seed held out: {_gap(finite[:, 0] - finite[:, 1])}"
        )
    lines.append(
        f"of {len(judged)} held-out seeds, the best pair diverges on {lost[0]}, "
        f"the best equal pair on {lost[1]}"
    )
    return [f"{'':>7}{line}" for line in lines]


def _gap(differences: "np.ndarray") -> str:
    gap = mean_interval(differences)
    return f"{gap.mean:+.4f} ± {gap.high - gap.mean:.4f} ({len(differences)} seeds, paired)"


registry.offer_models()

if __name__ == "__main__":
    main(Fig2())
