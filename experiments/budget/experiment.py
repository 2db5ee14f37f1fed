"""The table of budgets: its pieces of work, and the way to its report."""

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import finetuning
from experiments.budget.config import TRANSFORMER, BudgetConfig
from experiments.budget.ways import ARMS
from experiments.lab.experiment import Arrays, Experiment, Part, Report
from experiments.lab.memory import Need
from experiments.registry import OPTIMIZERS
from lora_theory.store.dataset import Layout

if TYPE_CHECKING:
    from xarray import Dataset

# Core-seconds of an arm's run, the mean over arms: of the transformer in units of one of LoRA, of a
# toy for each step and million of width × samples. Measured on a virtual machine, AMD EPYC.
_ARMS_COST = 1.3
_TOY_COST = 3e-3


class Piece(NamedTuple):
    """All arms of one seed, one after the other, so that their seconds can be compared."""

    task: str
    seed: int


class Budget(Experiment[BudgetConfig, Piece, "Dataset"]):
    """A piece is a seed of a task."""

    name = "budget"
    schema = BudgetConfig

    def plan(self, cfg: BudgetConfig) -> list[Part[Piece]]:
        """Tasks, and seeds of each."""
        pieces = {
            f"task={task},seed={seed}": Piece(task, seed)
            for task in cfg.tasks
            for seed in cfg.seeds
        }
        return [Part(self.name, pieces)]

    def memory(self, cfg: BudgetConfig) -> list[Need]:
        """Those of the transformer, and the largest activations of a toy."""
        toys = [
            Need(
                "the hidden units",
                [(f"toys.{name}.width", toy.width), (f"toys.{name}.n_train", toy.n_train)],
                copies=4 * cfg.octaves,
            )
            for name, toy in cfg.toys.items()
        ]
        return [*finetuning.needs(cfg.task, cfg.model, cfg.training), *toys]

    def tables(self, part: Part[Piece], cfg: BudgetConfig) -> Mapping[str, Collection[str]]:
        """What it uses of the registry's tables."""
        used = {
            "MODELS": list(cfg.toys),
            "TASKS": ["sine"],
            "LOSSES": [],
            "OPTIMIZERS": [arm.optimizer for arm in ARMS.values() if arm.optimizer in OPTIMIZERS],
            "PROBES": [],
        }
        return {f"experiments.registry:{table}": names for table, names in used.items()}

    def start(self, cfg: BudgetConfig) -> dict[str, Any]:
        """Devices; which of them runs a piece changes no bit."""
        finetuning.free_devices()
        return {}

    def workers(self) -> int:
        """One thread a device."""
        return finetuning.free_devices().qsize()

    def group(self, piece: Piece) -> int:
        """Seeds run side by side; what is compiled for one is kept for all."""
        return piece.seed

    def core_seconds(self, piece: Piece, cfg: BudgetConfig) -> float:
        """All arms at all rates; compiling, a minute or two a process, is left out."""
        runs = len(ARMS) * cfg.octaves
        if piece.task == TRANSFORMER:
            return _ARMS_COST * runs * finetuning.core_seconds(cfg.task, cfg.model, cfg.training)
        toy = cfg.toys[piece.task]
        return _TOY_COST * runs * toy.steps * toy.width * (toy.n_train + toy.n_test) / 1e6

    def run(self, piece: Piece, cfg: BudgetConfig) -> Arrays:
        """Scores and losses of all arms at all rates; λ of each, what its rates are multiples of,
        and the seconds it took.
        """
        devices = finetuning.free_devices()
        device = devices.get()
        try:
            made = [_run(piece, name, cfg, device) for name in ARMS]
        finally:
            devices.put(device)
        return {
            name: np.stack([arm[name] for arm in made])[None].astype(np.float32) for name in made[0]
        }

    def layout(self, part: Part[Piece], cfg: BudgetConfig) -> Layout:
        """Over tasks, seeds, arms, and the rates of each arm, lowest first."""
        coords: dict[str, Any] = {
            "task": cfg.tasks,
            "seed": list(cfg.seeds),
            "arm": list(ARMS),
            "octave": list(range(cfg.octaves)),
        }
        each = ("task", "seed", "arm")
        dims: dict[str, tuple[str, ...]] = {
            "score": (*each, "octave"),
            "test_loss": (*each, "octave"),
        }
        dims |= dict.fromkeys(("ratio", "unit", "seconds"), each)
        variables = {name: (along, "float32") for name, along in dims.items()}
        return Layout(coords, variables, ("task", "seed"))

    def check(
        self,
        part: Part[Piece],
        arrays: Arrays,
        cfg: BudgetConfig,
        piece: Piece | None = None,
    ) -> None:
        """Scores are at least 0, losses too or none, and a score is 0 where there is none."""
        score, loss = arrays["score"], arrays["test_loss"]
        if not (np.isfinite(score) & (score >= 0)).all():
            raise ValueError("score: must be finite and at least 0")
        if not (np.isnan(loss) | (np.isfinite(loss) & (loss >= 0))).all():
            raise ValueError("test_loss: must be at least 0, NaN where a run diverged")
        if (score[np.isnan(loss)] != 0).any():
            raise ValueError("score: must be 0 where a run diverged")
        if not (arrays["ratio"] >= 0).all():
            raise ValueError("ratio: must be at least 0")
        for name in ("unit", "seconds"):
            if not (arrays[name] > 0).all():
                raise ValueError(f"{name}: must be above 0")

    def report(self, part: Part[Piece], results: "Dataset", cfg: BudgetConfig) -> Report:
        """The tables, what they say in words, and the picture."""
        from experiments.budget.report import report

        return report(results, cfg)


def _run(piece: Piece, name: str, cfg: BudgetConfig, device: Any) -> dict[str, Any]:
    """One arm at all its rates."""
    from experiments.budget.runs import scores, suggested

    arm = ARMS[name]
    seed = piece.seed + cfg.aside if arm.aside else piece.seed
    unit, ratio = 1.0, arm.ratio
    if ratio is None:
        unit, ratio = suggested(piece.task, seed, cfg, device)
    rates = unit * np.exp2(np.array(cfg.log2_rates(piece.task, name), float))
    start = time.perf_counter()
    found = scores(piece.task, arm, seed, ratio, rates, cfg, device)
    seconds = time.perf_counter() - start
    return {**found._asdict(), "ratio": ratio, "unit": unit, "seconds": seconds}
