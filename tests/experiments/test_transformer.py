"""The worked example from end to end: what decides, what it says, the control, resuming."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.lab.command_line import load, main
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.transformer import Piece, Transformer, TransformerConfig, lines
from lora_theory.store.dataset import Results

ROOT = Path(__file__).parents[2]
SMALL = [
    "task.letters=4", "task.places=3", "task.n_test=200", "model.width=16", "model.heads=1",
    "training.steps=120", "training.batch=16", "training.warmup=6", "log2_rates=[-6,-4]",
    "ratios=[0,1,4]", "judge.small=-6", "judge.resamples=100", "dpi=30", "seeds=2",
]  # fmt: skip


def test_what_decides_stands_in_the_config():
    cfg = load("transformer", TransformerConfig)
    assert cfg.seeds == tuple(range(24))
    assert cfg.ratios == (0, 1, 4, 16, 64)
    assert cfg.log2 == list(range(-12, -3))
    judge = cfg.judge
    assert (judge.small, judge.margin, judge.confidence) == (-8, 0.01, 0.975)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted small run: its folders, and its results."""
    folder = tmp_path_factory.mktemp("transformer")
    return folder, computed(folder)


def computed(folder):
    """On one device: each compiles the program for itself."""
    folders = Folders(folder / "results", folder / "figures")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Transformer, "workers", lambda self: 1)
        conduct(Transformer(), load("transformer", TransformerConfig, SMALL), folders)
    return Results.load(folder / "results/transformer.npz").to_xarray()


def test_a_run_writes_table_and_picture(whole):
    folder, data = whole
    written = {path.name for path in folder.rglob("*.*") if not path.name.startswith(".")}
    assert written == {f"transformer.{kind}" for kind in ("npz", "csv", "md", "png", "pdf")}
    assert dict(data.sizes) == {"seed": 2, "ratio": 3, "log2_rate": 3}
    rows = (folder / "results/transformer.csv").read_text().splitlines()
    assert rows[0] == "seed,lambda,log2_eta,accuracy,test_loss"
    assert len(rows) == 1 + data.accuracy.size
    seed, ratio, rate, score, _ = rows[-1].split(",")
    assert (seed, ratio, rate) == ("1", "4", "-4")
    assert np.float32(score) == data.accuracy.values[-1, -1, -1]
    cell = f"{np.median(data.accuracy.values[:, 2, 0]):.3f}"
    assert re.search(
        rf"^\| 4 \| \**{cell}\** \|", (folder / "figures/transformer.md").read_text(), re.M
    )


def test_lora_learns_the_task_and_the_head_alone_does_not(whole):
    """The control: at λ = 0 B stays 0."""
    best = whole[1].accuracy.max("log2_rate").values
    assert (best[:, 1:].max(axis=1) > 0.8).all()
    assert (best[:, 0] < 0.65).all()


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch):
    run, done = Transformer.run, []

    def stopped(self, piece, cfg):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(piece)
        return run(self, piece, cfg)

    with monkeypatch.context() as patched:
        patched.setattr(Transformer, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            computed(tmp_path)
    assert not (tmp_path / "results/transformer.npz").exists()

    def counted(self, piece, cfg):
        done.append(piece)
        return run(self, piece, cfg)

    monkeypatch.setattr(Transformer, "run", counted)
    computed(tmp_path)
    assert sorted(done) == [Piece(seed, ratio) for seed in (0, 1) for ratio in (0, 1, 4)]
    for name in ("results/transformer.npz", "results/transformer.csv", "figures/transformer.png"):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


# --- What is said ---


def said(*better, seeds=12, **judge):
    """The lines of scores that are 0.5 but at (ratio, rate) -> score."""
    cfg = load("transformer", TransformerConfig, SMALL)
    cfg = dataclasses.replace(cfg, judge=dataclasses.replace(cfg.judge, **judge))
    scores = 0.5 + 1e-4 * np.random.default_rng(0).random((seeds, 3, 3))
    for i, k, score in better:
        scores[:, i, k] = score
    return lines(scores, 0, cfg)


@pytest.mark.parametrize(
    ("better", "tuned", "small"),
    [
        ([(2, 1, 0.9), (1, 1, 0.7)], "confirmed", "not confirmed"),
        ([(2, 0, 0.9), (1, 1, 0.9)], "not confirmed", "confirmed"),
        ([(2, 1, 0.6), (1, 1, 0.9)], "not confirmed", "not confirmed"),
    ],
)
def test_the_two_comparisons_are_said_each_for_itself(better, tuned, small):
    verdicts = [line for line in said(*better) if "a gain above 0.01 is" in line]
    assert [re.findall(r"\*\*(.*)\*\*", line) for line in verdicts] == [[tuned], [small]]
    assert verdicts[0].startswith("- Each at its best rate")
    assert "η = 2^-6" in verdicts[1]


def test_few_seeds_are_undecided():
    assert sum("**undecided**" in line for line in said((2, 1, 0.9), seeds=4)) == 2


def test_a_best_rate_at_the_border_is_said():
    text = "\n".join(said((1, 1, 0.9), (2, 2, 0.9)))
    assert re.search(r"^\| 1 \| 2\^-5 \| 0.900", text, re.M)
    assert re.search(r"^\| 4 \| 2\^-4, at the border of the grid \| 0.900", text, re.M)


def test_the_fair_comparison_is_named():
    assert "The first is the fair comparison." in "\n".join(said())


def test_the_page_shows_the_code_and_the_table_as_they_are():
    page = (ROOT / "docs/training.md").read_text().split("## A worked example")[1]
    (block,) = re.findall(r"^```\n(.*?)^```$", page, re.M | re.S)
    assert block in (ROOT / "lora_theory/train/finetune.py").read_text()
    kept = (ROOT / "figures/transformer.md").read_text()
    title, _, table = kept.partition("\n\n")
    assert title.startswith("# ")
    assert table in page
    verdicts = [line for line in kept.splitlines() if "a gain above" in line]
    assert [re.findall(r"\*\*(.*)\*\*", at) for at in verdicts] == [["undecided"], ["confirmed"]]


# --- What is refused ---


@pytest.mark.parametrize("bad", [
    "ratios=[1,4]", "ratios=[0,1]", "ratios=[0,1,4,2]", "ratios=[0,2,4]", "seeds=1",
    "log2_rates=[-4,-4]", "judge.small=-20", "model.heads=3", "model.rank=65", "training.clip=0",
    "training.warmup=300", "task.letters=1",
])  # fmt: skip
def test_bad_settings_are_refused_in_one_line(bad, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["transformer", bad])
    with pytest.raises(SystemExit) as stop:
        main(Transformer())
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {bad.partition('=')[0]}: must")


@pytest.mark.parametrize(
    ("accuracy", "loss", "words"),
    [
        (0.5, 0.3, None), (0.0, np.nan, None), (0.5, np.nan, "accuracy: must be 0"),
        (0.503, 0.3, "accuracy: must be shares"), (1.5, 0.3, "accuracy: must be shares"),
        (0.5, -1.0, "test_loss"), (0.5, np.inf, "test_loss"),
    ],
)  # fmt: skip
def test_values_that_no_run_gives_are_refused(accuracy, loss, words):
    cfg = load("transformer", TransformerConfig, SMALL)
    arrays = {
        name: np.array([[[value]]]) for name, value in (("accuracy", accuracy), ("test_loss", loss))
    }
    if words is None:
        Transformer().check(None, arrays, cfg)
        return
    with pytest.raises(ValueError, match=words):
        Transformer().check(None, arrays, cfg)


@pytest.mark.slow
def test_a_diverged_run_counts_0(monkeypatch):
    """At a rate of 2^60 what float32 holds is left at once."""
    cfg = load("transformer", TransformerConfig, [*SMALL, "log2_rates=[58,60]", "judge.small=58"])
    found = Transformer().run(Piece(0, 4.0), cfg)
    assert (found["accuracy"] == 0).all()
    assert np.isnan(found["test_loss"]).all()
    Transformer().check(None, found, cfg)
