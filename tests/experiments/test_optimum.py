"""The run that says where the optimum lies: its config, and a small one from end to end."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.landscape.experiment import LandscapeConfig, rates
from experiments.optimum import Optimum
from lora_theory.plots import landscapes as plots
from lora_theory.stats.landscapes import Judge


def test_what_decides_stands_in_the_config():
    cfg = load("optimum", LandscapeConfig)
    assert cfg.judge.judge() == Judge(0.5, "cell")
    assert (cfg.judge.curve, cfg.plot.late, cfg.steps) == ("test_loss", 200, 200)
    assert cfg.seeds == tuple(range(96))
    assert cfg.model == load("fig2", LandscapeConfig).model


def test_the_grid_is_powers_of_2_with_equal_pairs():
    eta_a, eta_b = rates(load("optimum", LandscapeConfig))
    np.testing.assert_allclose(np.log2(eta_a), np.arange(-14, 5), atol=1e-12)
    np.testing.assert_array_equal(eta_a, eta_b)


@pytest.mark.slow
def test_another_judge_draws_the_same_results_otherwise(tmp_path, capsys, monkeypatch):
    small = ["model.width=12", "task.n_train=20", "task.n_test=8", "grid.points=4", "steps=6",
             "loss=mse", "plot.dpi=30", "seeds=2"]  # fmt: skip
    folders = Folders(tmp_path / "results", tmp_path / "figures")

    def shown(*judge):
        conduct(Optimum(), load("optimum", LandscapeConfig, [*small, *judge]), folders)
        return capsys.readouterr().out.splitlines()[0], (folders.results / "mse.npz").read_bytes()

    first, saved = shown()
    assert {path.name for path in folders.figures.iterdir()} == {
        f"optimum_mse{which}.{kind}" for which in ("", "_judges") for kind in ("png", "pdf")
    }
    for name in ("figure2", "judges_figure"):  # They have been drawn.
        monkeypatch.setattr(plots, name, lambda *arguments, **options: Figure())
    for judge, words in (
        ("judge.quantile=0.75", "test loss, 75 % quantile"),
        ("judge.around=worst", "test loss, median, worst of 3 × 3"),
        ("judge.curve=train_loss", "train loss, median"),
    ):
        said, kept = shown(judge)
        assert kept == saved
        assert said.startswith(first.split(", so that in")[0])
        assert said.endswith(f"decides: {words}")
