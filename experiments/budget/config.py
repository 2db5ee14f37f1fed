"""What decides the table of budgets; values and reasons stand in conf/budget.yaml."""

import dataclasses

from experiments.budget.ways import ARMS, grid_of
from experiments.finetuning import ModelConfig, TaskConfig, TrainingConfig
from experiments.lab import schema
from experiments.lab.schema import (
    ConfigError,
    drawing,
    integer,
    number,
    one_of,
    science,
)
from lora_theory.terms import INITS

TRANSFORMER = "transformer"
TOYS = ("two_layer", "feature_layer")  # Those of the registry that `FullLayer` knows.


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    """A toy, its sine task and how it is trained: full batches, mean-squared error."""

    inputs: int = science(integer(1, 10**6))
    width: int = science(integer(1, 10**4))
    rank: int = science(integer(1, 10**4))
    init: str = science(one_of(*INITS))
    base: str = science(one_of("sgd", "adam", "adamw"))
    steps: int = science(integer(1, 10**6))
    n_train: int = science(integer(1, 10**6))
    n_test: int = science(integer(1, 10**6))


@dataclasses.dataclass(frozen=True)
class SuggestConfig:
    """How `suggest_rates` probes."""

    kappa: float = science(schema.positive())
    step: float = science(schema.positive())


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """What decides; see conf/budget.yaml."""

    trials: int = drawing(integer(1, 10**4))
    margin: float = drawing(number(0, 1))
    toys_margin: float = drawing(number(0, 10))
    confidence: float = drawing(number(0.5, 0.999))
    resamples: int = drawing(integer(100, 10**5))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetConfig(schema.Common):
    """Everything that decides the table."""

    task: TaskConfig
    model: ModelConfig
    training: TrainingConfig
    toys: dict[str, ToyConfig] = science()
    octaves: int = science(integer(2, 60))
    lowest: dict[str, dict[str, int]] = science()
    suggest: dict[str, SuggestConfig] = science()
    probing: int = science(integer(2, 10**4))
    seeds: schema.Seeds = science(schema.seeds(2))
    aside: int = science(integer(1, 10**6))
    judge: JudgeConfig
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        if not set(self.toys) <= set(TOYS):
            raise ConfigError("toys", f"must be of {', '.join(TOYS)}", list(self.toys))
        for name, toy in self.toys.items():
            if toy.rank > toy.width:
                raise ConfigError(f"toys.{name}.rank", f"must be at most {toy.width}", toy.rank)
        if {seed + self.aside for seed in self.seeds} & set(self.seeds):
            words = "must lead from every seed to one that is none of seeds"
            raise ConfigError("aside", words, self.aside)
        if self.probing > self.training.steps:
            most = f"must be at most training.steps = {self.training.steps}"
            raise ConfigError("probing", most, self.probing)
        _same_names("suggest", self.suggest, self.tasks)
        _same_names("lowest", self.lowest, self.tasks)
        for task, lowest in self.lowest.items():
            _same_names(f"lowest.{task}", lowest, {grid_of(arm) for arm in ARMS})
            for arm, low in lowest.items():
                if not -60 <= low <= 60:
                    raise ConfigError(f"lowest.{task}.{arm}", "must be from -60 to 60", low)
                if ARMS[arm].ratio is None and not -self.octaves < low < 0:
                    words = f"must be from {1 - self.octaves} to -1, for the multiples 1/2 and 1"
                    raise ConfigError(f"lowest.{task}.{arm}", words, low)

    @property
    def tasks(self) -> list[str]:
        """The transformer, and the toys."""
        return [TRANSFORMER, *self.toys]

    def log2_rates(self, task: str, arm: str) -> list[int]:
        """log2 η_A of an arm; of suggested rates log2 of the multiples."""
        low = self.lowest[task][grid_of(arm)]
        return list(range(low, low + self.octaves))


def _same_names(field: str, given: dict, names: "set[str] | list[str]") -> None:
    if set(given) != set(names):
        raise ConfigError(field, f"must have {', '.join(sorted(names))}", sorted(given))
