"""A small config of the budgets."""

import pytest

from experiments.budget.config import BudgetConfig
from experiments.lab.command_line import load

SMALL = [
    "task.letters=4", "task.places=3", "task.n_test=50", "model.width=8", "model.heads=1",
    "model.rank=2", "training.steps=20", "training.batch=8", "training.warmup=2", "octaves=2",
    "toys.two_layer.width=16", "toys.two_layer.steps=5", "toys.feature_layer.width=16",
    "toys.feature_layer.steps=5", "judge.resamples=100", "dpi=30", "seeds=2",
    *(f"lowest.{task}.suggested=-1" for task in ("transformer", "two_layer", "feature_layer")),
]  # fmt: skip


@pytest.fixture(scope="session")
def small():
    """The config, and with more on the command line."""
    return lambda *more: load("budget", BudgetConfig, [*SMALL, *more])
