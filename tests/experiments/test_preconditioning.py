"""Landscapes under rivals of LoRA+: what decides, a small run from end to end, what is said."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from experiments.preconditioning import (
    Panel,
    Piece,
    Preconditioning,
    PreconditioningConfig,
    judged,
    lines,
)
from lora_theory.stats.optima import nearly_optimal
from lora_theory.store.dataset import Results

ROOT = Path(__file__).parents[2]
SMALL = [
    "width=16", "rank=2", "task.n_train=8", "task.n_test=8", "steps=6", "seeds=2", "dpi=30",
    "judge.resamples=100", "judge.control=2", "~toys.init1", "~toys.init2",
    "~toys.two_layer.log2_rates.adam", "~toys.two_layer.log2_rates.scaled_adamw",
    "~toys.two_layer.log2_rates.scaled_gd", "toys.two_layer.log2_rates.gd=[-8,-5]",
    "toys.two_layer.log2_rates.lora_rite=[-5,-2]",
]  # fmt: skip


def config(*overrides):
    return load("preconditioning", PreconditioningConfig, list(overrides))


def test_what_decides_stands_in_the_config():
    cfg = config()
    assert (cfg.width, cfg.steps, cfg.seeds) == (256, 20, tuple(range(64)))
    judge = cfg.judge
    assert (judge.curve, judge.margin, judge.control) == ("test_loss", 0.1, 256)
    assert judge.confidence == 0.95
    optimizers = ["gd", "scaled_gd", "adam", "scaled_adamw", "lora_rite"]
    assert cfg.panels == [Panel(toy, name) for toy in cfg.toys for name in optimizers]
    assert [(toy.model, toy.init) for toy in cfg.toys.values()] == [
        ("two_layer", "both"), ("feature_layer", "A"), ("feature_layer", "B"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("toys.init1.log2_rates.gd=[-9,8]", "toys: must have grids of one size"),
        ("toys.init1.log2_rates.gd=[9,-9]", "must be two ascending integers from -60 to 60"),
        ("+toys.init1.log2_rates.sdg=[-9,9]", "sdg"),
        ("judge.curve=loss", "judge.curve: must be one of train_loss, test_loss"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(override, words):
    with pytest.raises(ConfigError, match=words) as refused:
        config(override)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted small run: its folder."""
    return computed(tmp_path_factory.mktemp("preconditioning"))


def computed(folder):
    folders = Folders(folder / "results", folder / "figures")
    conduct(Preconditioning(), config(*SMALL), folders)
    return folder


@pytest.mark.slow
def test_a_run_writes_table_and_picture_and_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch):
    written = {path.name for path in whole.rglob("*.*") if not path.name.startswith(".")}
    assert written == {f"preconditioning.{kind}" for kind in ("npz", "md", "png", "pdf")}
    data = Results.load(whole / "results/preconditioning.npz").to_xarray()
    assert dict(data.sizes) == {"panel": 2, "seed": 2, "a": 4, "b": 4, "step": 2}
    assert list(data.panel.values) == ["two_layer, gd", "two_layer, lora_rite"]
    start, end = np.moveaxis(data.train_loss.values, -1, 0)
    assert (start == start[..., :1, :1]).all()
    assert (end.min(axis=(2, 3)) < start[..., 0, 0]).all()
    run, done = Preconditioning.run, []

    def stopped(self, piece, cfg):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(piece)
        return run(self, piece, cfg)

    with monkeypatch.context() as patched:
        patched.setattr(Preconditioning, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            computed(tmp_path)

    def counted(self, piece, cfg):
        done.append(piece)
        return run(self, piece, cfg)

    monkeypatch.setattr(Preconditioning, "run", counted)
    computed(tmp_path)
    panels = config(*SMALL).panels
    assert sorted(done) == sorted(Piece(panel, seed) for panel in panels for seed in (0, 1))
    for name in ("results/preconditioning.npz", "figures/preconditioning.md"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


# --- What is said ---


def found(*exponents, seeds=24):
    """A panel each, whose valley is at log2 η_B − log2 η_A = k and log2 η_A + log2 η_B = −8."""
    cfg = config(*SMALL, "judge.control=4", "toys.two_layer.log2_rates.gd=[-8,0]",
                 "toys.two_layer.log2_rates.lora_rite=[-8,0]")  # fmt: skip
    panel, made = cfg.panels[0], []
    log2 = np.arange(-8, 1)
    noise = 0.01 * np.random.default_rng(0).normal(size=(seeds, 9, 9))
    for k in exponents:
        logs = np.abs(log2[:, None] + log2[None] + 8) + 2 * np.abs(log2[None] - log2[:, None] - k)
        losses = np.stack([np.full_like(noise, 2.0**9), 2.0 ** (logs / 4 + noise)], axis=-1)
        losses[:, -1, -1, 1] = np.nan
        made.append(judged(panel, losses, cfg))
    return made, cfg


def test_one_rate_is_enough_on_the_diagonal_and_not_beside_it():
    made, cfg = found(0, 2)
    rows = [line for line in lines(made, cfg) if line.startswith("| two-layer")]
    verdicts = [re.findall(r"\*\*(\w+)\*\*", row) for row in rows]
    assert verdicts == [["holds"], ["fails"]]
    controls = [row.rstrip(" |").rpartition("]: ")[2] for row in rows]
    assert controls == ["caught", "caught"]  # Of the second at λ = 1/4 alone: 4 is right for it.
    assert [nearly_optimal(at, 0.1) for at in made[1].controls] == ["fails", "holds"]


def test_a_valley_that_is_flat_across_both_lines_is_said():
    made, cfg = found(0)
    flat = made[0]._replace(controls=(made[0].regret,) * 2)
    (row,) = [line for line in lines([flat], cfg) if line.startswith("| two-layer")]
    assert row.endswith(": not caught |")
    assert "**undecided**" in row


def test_the_best_pairs_are_said():
    made, cfg = found(0, 2)
    rows = [line for line in lines(made, cfg) if line.startswith("| two-layer")]
    assert "(−4, −4)" in rows[0]
    assert "(−5, −3)" in rows[1]


def test_few_seeds_decide_nothing():
    made, cfg = found(0, 2, seeds=4)
    assert sum("**undecided**" in line for line in lines(made, cfg)) == 2


def test_a_best_pair_on_the_border_is_said():
    made, cfg = found(0, 8)
    assert any("at the border" in line for line in lines(made, cfg))
    assert lines(made, cfg)[-1].startswith("- The best pair lies on the border")
    inside = [line for line in lines(made[:1], cfg) if "border" in line]
    assert inside == []


def test_losses_that_no_training_gives_are_refused():
    cfg = config(*SMALL)
    study = Preconditioning()
    (part,) = study.plan(cfg)
    good = {name: np.ones((1, 4, 4, 2), "f4") for name in ("train_loss", "test_loss")}
    study.check(part, good, cfg)
    for bad, words in ((-1.0, "at least 0"), (np.inf, "at least 0")):
        broken = good | {"test_loss": np.where([False, True], bad, good["test_loss"])}
        with pytest.raises(ValueError, match=f"test_loss: must be {words}"):
            study.check(part, broken, cfg)
    started = good | {"train_loss": np.where([True, False], np.nan, good["train_loss"])}
    with pytest.raises(ValueError, match="train_loss: must be finite at the start"):
        study.check(part, started, cfg)


def test_costs_grow_with_what_is_to_do():
    cfg, study = config(), Preconditioning()
    piece = Piece(Panel("two_layer", "gd"), 0)
    dearer = piece._replace(panel=Panel("two_layer", "lora_rite"))
    assert study.core_seconds(dearer, cfg) > study.core_seconds(piece, cfg)
    longer = dataclasses.replace(cfg, steps=40)
    assert study.core_seconds(piece, longer) > study.core_seconds(piece, cfg)


def test_the_page_says_what_the_table_says():
    page = (ROOT / "docs/training.md").read_text().split("## Rivals without λ")[1]
    told = re.findall(
        r"(−?\d\.\d\d)\s+\[(−?\d\.\d\d), (−?\d\.\d\d)\]", page.split("## A worked")[0]
    )
    table = (ROOT / "figures/preconditioning.md").read_text().replace("+", "")
    assert len(told) == 10
    assert [at for at in told if "{} [{}, {}]".format(*at) not in table] == []
    rows = [row for row in table.splitlines() if "scaled GD" in row and "feature" in row]
    assert ["**holds**" in row for row in rows] == [True, True]
