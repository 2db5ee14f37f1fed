"""Is one rate enough once A and B precondition each other? Landscapes under rivals of LoRA+.

python -m experiments.preconditioning               # as `make preconditioning`
python -m experiments.preconditioning seeds=32..63  # elsewhere: runs/preconditioning/seeds=32..63
python -m experiments.preconditioning replot=true   # only judge and draw
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.command_line import main
from experiments.lab.experiment import Arrays, Experiment, Part, Report
from experiments.lab.memory import Need, cores
from experiments.lab.schema import ConfigError, drawing, integer, number, one_of, positive, science
from experiments.landscape import cost
from experiments.landscape.experiment import (
    EngineConfig,
    TaskConfig,
    batch_bytes_of,
    devices_of,
    drawn,
    halved,
    pairs,
    policy_of,
    powers_of_2,
)
from experiments.registry import ModelConfig
from lora_theory.stats.intervals import Interval
from lora_theory.stats.landscapes import (
    CURVES,
    Cell,
    Judge,
    Landscape,
    best_equal_pair,
    best_pair,
)
from lora_theory.stats.optima import nearly_optimal, regret
from lora_theory.store.dataset import Layout
from lora_theory.terms import INIT_NAMES, INITS, Outcome

if TYPE_CHECKING:
    from xarray import Dataset

_CAREFUL = Judge(0.75)
_NAMES = {
    "gd": "gradient descent",
    "scaled_gd": "scaled GD",
    "adam": "Adam",
    "scaled_adamw": "scaled AdamW",
    "lora_rite": "LoRA-RITE",
}
# Core-seconds of a run and step for the singular values of both factors: each, and for each n.
# Measured at n = 64 and 256, rank 4, on a virtual machine, AMD EPYC.
_SINGULAR = {"scaled_gd": (8e-6, 5e-8), "scaled_adamw": (8e-6, 5e-8), "lora_rite": (2e-5, 8e-8)}
_COMPILING = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """A model, and the optimizers that train it, each with the ends of its rates in powers of 2."""

    model: str = science(one_of(*registry.MODELS))
    init: str = science(one_of(*INITS))
    log2_rates: dict[str, tuple[int, ...]] = science()

    def __post_init__(self) -> None:
        for name, ends in self.log2_rates.items():
            where, within = f"log2_rates.{name}", schema.interval(-60, 60)
            if name not in registry.OPTIMIZERS:
                raise ConfigError(where, schema.unknown_key(name, list(registry.OPTIMIZERS)), ends)
            if not within.accepts(ends):
                raise ConfigError(where, within.allowed, ends)


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """What decides; see conf/preconditioning.yaml."""

    curve: str = drawing(one_of(*CURVES))
    margin: float = drawing(positive())
    control: float = drawing(positive())
    confidence: float = drawing(number(0.5, 0.999))
    resamples: int = drawing(integer(100, 10**5))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreconditioningConfig(schema.Common):
    """Everything that decides the comparison."""

    width: int = science(integer(1, 10**5))
    rank: int = science(integer(1, 10**4))
    task: TaskConfig
    toys: dict[str, ToyConfig] = science()
    seeds: schema.Seeds = science(schema.seeds(2))
    steps: int = science(integer(1, 10**6))
    engine: EngineConfig
    judge: JudgeConfig
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        sizes = {high - low for toy in self.toys.values() for low, high in toy.log2_rates.values()}
        if len(sizes) != 1:
            raise ConfigError("toys", "must have grids of one size", sorted(sizes))

    @property
    def points(self) -> int:
        """How many rates an axis has."""
        return len(self.rates(self.panels[0]))

    @property
    def panels(self) -> "list[Panel]":
        """Toys, and optimizers of each."""
        return [Panel(toy, name) for toy, at in self.toys.items() for name in at.log2_rates]

    def rates(self, panel: "Panel") -> np.ndarray:
        """The rates of A, and of B."""
        return powers_of_2(self.toys[panel.toy].log2_rates[panel.optimizer])

    def model(self, toy: str) -> ModelConfig:
        """The config of a toy's model."""
        at = self.toys[toy]
        return registry.model_config(at.model, init=at.init, width=self.width, rank=self.rank)


class Panel(NamedTuple):
    """A toy under an optimizer."""

    toy: str
    optimizer: str

    def __str__(self) -> str:
        return f"{self.toy}, {self.optimizer}"


class Piece(NamedTuple):
    """All rates of one seed in a panel."""

    panel: Panel
    seed: int


class Preconditioning(Experiment[PreconditioningConfig, Piece, "Dataset"]):
    """One part; a piece is the whole grid of one seed."""

    name = "preconditioning"
    schema = PreconditioningConfig

    def plan(self, cfg: PreconditioningConfig) -> list[Part[Piece]]:
        """Seeds of a panel one after another, which share a compilation."""
        pieces = {
            f"{panel}, seed={seed}": Piece(panel, seed)
            for panel in cfg.panels
            for seed in cfg.seeds
        }
        return [Part(self.name, pieces)]

    def memory(self, cfg: PreconditioningConfig) -> list[Need]:
        """What the engine holds for the largest piece."""
        from experiments.landscape.memory import needs

        devices, cells = cfg.engine.devices or cores(), cfg.points**2
        each = [
            needs(cfg.model(toy), cfg.task, cfg.engine, cfg.steps, cells, devices)
            for toy in cfg.toys
        ]
        return max(each, key=lambda needs: sum(need.bytes for need in needs))

    def tables(
        self, part: Part[Piece], cfg: PreconditioningConfig
    ) -> Mapping[str, Collection[str]]:
        """What it uses of the registry's tables."""
        models = {toy.model for toy in cfg.toys.values()}
        used = {
            "MODELS": models,
            "TASKS": {cfg.task.name or registry.MODELS[model].task for model in models},
            "LOSSES": ["mse"],
            "OPTIMIZERS": {panel.optimizer for panel in cfg.panels},
            "PROBES": [],
        }
        return {f"experiments.registry:{table}": names for table, names in used.items()}

    def start(self, cfg: PreconditioningConfig) -> dict[str, Any]:
        """The devices, and which policy the engine has there."""
        devices_of(cfg.engine)
        policy = policy_of(cfg.engine, next(iter(cfg.toys.values())).model, cfg.width, cfg.task)
        return {"engine": {"policy": policy.name, **batch_bytes_of(cfg.engine, policy.name)}}

    def run(self, piece: Piece, cfg: PreconditioningConfig) -> Arrays:
        """Losses at the start and after the last step, NaN of a run that diverged."""
        from lora_theory.keys import seed_key
        from lora_theory.train.sweep import sweep_cells

        toy, rates = piece.panel.toy, cfg.rates(piece.panel)
        curves = sweep_cells(
            drawn(cfg.model(toy), cfg.task)(seed_key(piece.seed)),
            pairs(rates, rates),
            optimizer=registry.optimizer(piece.panel.optimizer),
            loss=registry.resolve(registry.LOSSES["mse"]),
            steps=cfg.steps,
            policy=policy_of(cfg.engine, cfg.toys[toy].model, cfg.width, cfg.task),
            devices=devices_of(cfg.engine),
        )
        shape = (1, len(rates), len(rates), 2)
        return {name: getattr(curves, name)[:, [0, -1]].reshape(shape) for name in CURVES}

    def halved(self, piece: Piece, cfg: PreconditioningConfig) -> PreconditioningConfig | None:
        """With half as many cells that step together."""
        model = cfg.toys[piece.panel.toy].model
        engine = halved(cfg.engine, policy_of(cfg.engine, model, cfg.width, cfg.task))
        return None if engine is None else dataclasses.replace(cfg, engine=engine)

    def core_seconds(self, piece: Piece, cfg: PreconditioningConfig) -> float:
        """All its runs, and its share of compiling."""
        optimizer, runs = piece.panel.optimizer, cfg.points**2
        found = cost.core_seconds(cfg.model(piece.panel.toy), cfg.task, optimizer, runs, cfg.steps)
        each, of_width = _SINGULAR.get(optimizer, (0.0, 0.0))
        singular = (each + of_width * cfg.width) * runs * cfg.steps
        return found + singular + _COMPILING / len(cfg.seeds)

    def group(self, piece: Piece) -> Panel:
        """Seeds share a compilation."""
        return piece.panel

    def layout(self, part: Part[Piece], cfg: PreconditioningConfig) -> Layout:
        """Losses over panels, seeds and places of rates on the axes of each panel."""
        coords: dict[str, Any] = {
            "panel": [str(panel) for panel in cfg.panels],
            "seed": cfg.seeds,
            "a": range(cfg.points),
            "b": range(cfg.points),
            "step": [0, cfg.steps],
        }
        return Layout(coords, dict.fromkeys(CURVES, (tuple(coords), "float32")), ("panel", "seed"))

    def check(
        self,
        part: Part[Piece],
        arrays: Arrays,
        cfg: PreconditioningConfig,
        piece: Piece | None = None,
    ) -> None:
        """Losses that are at least 0, and NaN where a run diverged."""
        for name in CURVES:
            losses = arrays[name]
            if not np.isfinite(losses[..., 0]).all():
                raise ValueError(f"{name}: must be finite at the start")
            if not (np.isnan(losses) | (np.isfinite(losses) & (losses >= 0))).all():
                raise ValueError(f"{name}: must be at least 0, NaN where a run diverged")

    def report(self, part: Part[Piece], results: "Dataset", cfg: PreconditioningConfig) -> Report:
        """The table of regrets, and the maps."""
        from lora_theory.plots.grids import Shown, grid_figure

        losses = results[cfg.judge.curve].values.astype(float)
        found = [judged(panel, losses[i], cfg) for i, panel in enumerate(cfg.panels)]
        said = lines(found, cfg)
        rows: dict[str, list[Shown]] = {}
        for at in found:
            words = f"{_NAMES.get(at.panel.optimizer, at.panel.optimizer)}\n{_short(at, cfg)}"
            rows.setdefault(_row(at.panel.toy, cfg), []).append(Shown(words, at.land))
        title = (
            f"{_setting(cfg)}\n"
            + r"$\rho=\log_{10}$ of the loss at the best one rate over that at "
            f"the best pair, chosen on other seeds; up to {cfg.judge.margin:g} one rate is enough"
        )
        return Report(
            said,
            {self.name: grid_figure(rows, Judge(), what=_curve(cfg), title=title)},
            kept={f"{self.name}.md": "\n".join([_TITLE, "", *said]) + "\n"},
        )


# --- What is said ---

_TITLE = "# Landscapes of toys whose factors precondition each other"


class Found(NamedTuple):
    """What was found in a panel.

    Attributes:
        panel: which.
        land: its losses at the last step.
        best, equal: the best pair and the best with η_A = η_B, by the median of all seeds.
        regret, careful: of η_A = η_B, chosen by the median and by the 75 % quantile.
        controls: of η_A = λ η_B and η_B = λ η_A, the λ of the control.
    """

    panel: Panel
    land: Landscape
    best: Cell | None
    equal: Cell | None
    regret: Interval
    careful: Interval
    controls: tuple[Interval, Interval]

    def caught(self, margin: float) -> bool:
        """Whether the judge sees that one of the controls is not enough."""
        return "fails" in [nearly_optimal(control, margin) for control in self.controls]

    def verdict(self, margin: float) -> Outcome:
        """Whether one rate is enough; undecided in a valley in which controls are as good."""
        return nearly_optimal(self.regret, margin) if self.caught(margin) else "undecided"


def judged(panel: Panel, losses: np.ndarray, cfg: PreconditioningConfig) -> Found:
    """Judge losses (S, G, G, 2) of a panel, at t = 0 and after the last step."""
    rates, judge = cfg.rates(panel), cfg.judge
    ended = np.where(np.isfinite(losses[..., 1]), losses[..., 1], np.inf)
    land = Landscape(ended, losses[:, 0, 0, 0], rates, rates)
    options: Any = {"resamples": judge.resamples, "confidence": judge.confidence}
    medians = Judge().judge(land.losses)
    return Found(
        panel,
        land,
        best_pair(land, medians),
        best_equal_pair(land, medians),
        regret(land, Judge(), **options),
        regret(land, _CAREFUL, **options),
        (
            regret(land, Judge(), ratio=1 / judge.control, **options),
            regret(land, Judge(), ratio=judge.control, **options),
        ),
    )


def lines(found: list[Found], cfg: PreconditioningConfig) -> list[str]:
    """The table, and what decides, as Markdown."""
    judge = cfg.judge
    return [
        f"{_setting(cfg)}.",
        "",
        "ρ is log10 of the loss at the best rate η_A = η_B over that at the best pair, in the "
        "median over seeds; either half of the seeds chooses both, by the median, and the other "
        "half compares them. A diverged run counts as ∞. One rate is enough if all of the "
        f"{judge.confidence:.0%} interval (bootstrap over seeds) is at most {judge.margin:g}, and "
        f"not if all of it is above. The control is the same for η_A = {judge.control:g} η_B and "
        f"for η_B = {judge.control:g} η_A: one of them must not be enough, or the valley is too "
        "flat to tell, and undecided.",
        "",
        "| toy | optimizer | log2 (η_A, η_B) of the best | loss | log2 of the best one rate | loss "
        "| ρ | one rate is enough | ρ by the 75 % quantile | control |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_table_row(at, cfg) for at in found),
        "",
        *(f"- {line}" for line in _borders(found)),
    ]


def _table_row(at: Found, cfg: PreconditioningConfig) -> str:
    margin = cfg.judge.margin
    cells = (
        _row(at.panel.toy, cfg),
        _NAMES.get(at.panel.optimizer, at.panel.optimizer),
        *_pair(at.best),
        *_pair(at.equal, one=True),
        _shown(at.regret),
        f"**{at.verdict(margin)}**",
        _shown(at.careful),
        f"{'; '.join(map(_shown, at.controls))}: {'' if at.caught(margin) else 'not '}caught",
    )
    return "| " + " | ".join(cells) + " |"


def _pair(cell: Cell | None, *, one: bool = False) -> tuple[str, str]:
    if cell is None:
        return "diverged everywhere", "∞"
    a, b = (f"{np.log2(rate):.0f}".replace("-", "−") for rate in (cell.eta_a, cell.eta_b))
    where = a if one else f"({a}, {b})"
    return where + (", at the border" if cell.on_border else ""), f"{cell.loss:.3g}"


def _borders(found: list[Found]) -> list[str]:
    """Where a better pair may lie beyond the grid."""
    lie = [str(at.panel) for at in found if at.best is None or at.best.on_border]
    return [f"The best pair lies on the border of the grid of {'; '.join(lie)}."] if lie else []


def _shown(found: Interval) -> str:
    if np.isnan(found.low):
        return f"{_signed(found.mean)} (no interval)"
    return "{} [{}, {}]".format(*map(_signed, found))


def _short(at: Found, cfg: PreconditioningConfig) -> str:
    return rf"$\rho$ = {_signed(at.regret.mean)}, {at.verdict(cfg.judge.margin)}"


def _signed(value: np.ndarray) -> str:
    """Two decimals, and no −0.00."""
    return f"{np.round(float(value), 2) + 0.0:+.2f}".replace("-", "−").replace("inf", "∞")


def _row(toy: str, cfg: PreconditioningConfig) -> str:
    at = cfg.toys[toy]
    return f"{at.model.replace('_', '-')}, {INIT_NAMES[at.init]}"


def _curve(cfg: PreconditioningConfig) -> str:
    return cfg.judge.curve.replace("_", " ")


def _setting(cfg: PreconditioningConfig) -> str:
    return (
        f"{_curve(cfg).capitalize()} after {cfg.steps} steps, median over {len(cfg.seeds)} seeds; "
        f"n = {cfg.width}, rank {cfg.rank}, {cfg.task.n_train} samples"
    )


if __name__ == "__main__":
    main(Preconditioning())
