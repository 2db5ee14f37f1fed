"""What decides stands in the config, and what can not be run is refused in one line."""

import sys

import pytest

from experiments.budget.config import BudgetConfig
from experiments.budget.experiment import Budget
from experiments.budget.ways import ARMS, grid_of
from experiments.finetuning import ModelConfig, TaskConfig, TrainingConfig
from experiments.lab.command_line import load, main


def test_what_decides_stands_in_the_config():
    cfg = load("budget", BudgetConfig)
    assert cfg.seeds == tuple(range(24))
    judge = cfg.judge
    assert (judge.trials, judge.margin, judge.toys_margin, judge.confidence) == (
        9,
        0.01,
        0.05,
        0.95,
    )
    assert cfg.tasks == ["transformer", "two_layer", "feature_layer"]
    assert cfg.octaves == 9


def test_the_transformer_is_the_worked_example():
    """Read from its file, since no script imports another."""
    cfg = load("budget", BudgetConfig)
    assert cfg.task == TaskConfig(letters=16, places=16, n_test=500)
    assert cfg.model == ModelConfig(width=64, heads=2, blocks=1, rank=4)
    assert cfg.training == TrainingConfig(steps=300, batch=32, warmup=30, clip=1.0)


def test_arms_have_as_many_rates_and_those_of_their_grid():
    cfg = load("budget", BudgetConfig)
    for task in cfg.tasks:
        for arm in ARMS:
            rates = cfg.log2_rates(task, arm)
            assert len(rates) == 9
            assert rates == cfg.log2_rates(task, grid_of(arm))


def refusal(bad, monkeypatch, capsys):
    """The one line that a bad setting ends in."""
    monkeypatch.setattr(sys, "argv", ["budget", bad])
    with pytest.raises(SystemExit) as stop:
        main(Budget())
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize("bad", [
    "seeds=1", "octaves=1", "aside=0", "aside=1", "judge.trials=0", "judge.margin=-1",
    "model.heads=3",
    "toys.two_layer.rank=257", "toys.two_layer.base=muon", "toys.two_layer.init=C",
    "lowest.two_layer.lora=-61", "lowest.two_layer.lora=0.5", "lowest.two_layer.suggested=0",
    "lowest.transformer.suggested=-9", "probing=301", "suggest.two_layer.kappa=0",
    "training.warmup=300",
])  # fmt: skip
def test_bad_settings_are_refused_in_one_line(bad, monkeypatch, capsys):
    assert refusal(bad, monkeypatch, capsys).startswith(f"{bad.partition('=')[0]}: must")


@pytest.mark.parametrize(("bad", "words"), [
    ("~lowest.two_layer.lora", "lowest.two_layer: must have b_rests, "),
    ("~lowest.two_layer", "lowest: must have feature_layer, transformer, two_layer"),
    ("+lowest.two_layer.muon=3", "lowest.two_layer: must have b_rests, "),
    ("+toys.linear=${toys.two_layer}", "toys: must be of two_layer, feature_layer"),
])  # fmt: skip
def test_arms_and_tasks_are_those_that_there_are(bad, words, monkeypatch, capsys):
    assert refusal(bad, monkeypatch, capsys).startswith(words)
