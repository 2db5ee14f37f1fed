"""The plan of a landscape: every cell of every seed once, in the order of the data set."""

import numpy as np
import pytest

from experiments.fig2 import Fig2
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError, Role, roles
from experiments.landscape.experiment import LandscapeConfig, cells, rates


@pytest.mark.parametrize("chunk", [1, 7, 128])
def test_pieces_are_all_cells_of_all_seeds_in_order(chunk):
    options = ["grid.a.points=3", "grid.b.points=5", "seeds=4..6", f"engine.chunk={chunk}"]
    cfg = load("fig2", LandscapeConfig, options)
    for part in Fig2().plan(cfg):
        ran = [(p.seed, k) for p in part.pieces.values() for k in range(p.start, p.stop)]
        assert ran == [(seed, k) for seed in (4, 5, 6) for k in range(15)]
        assert {piece.loss for piece in part.pieces.values()} == {part.name}
        layout = Fig2().layout(part, cfg)
        assert layout.shape("test_loss") == (3, 3, 5, cfg.steps + 1)
        assert layout.shape("test_floor") == (3,)
        layout.check()


def test_cells_are_pairs_in_the_order_of_the_axes():
    cfg = load("fig2", LandscapeConfig, ["grid.a.points=3", "grid.b.points=2"])
    eta_a, eta_b = rates(cfg)
    expected = [(a, b) for a in eta_a for b in eta_b]
    np.testing.assert_array_equal(cells(cfg), expected)


def test_what_judges_decides_no_result():
    found = roles(LandscapeConfig)
    judging = {role for name, role in found.items() if name.startswith(("judge.", "plot."))}
    assert judging == {Role.DRAWING}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.width=1000000", "model.inputs=1000000"], "model.width: must fit in memory: W_in"),
        (["model.weight=random", "model.width=1000000"], r"model.width: must fit in memory: W\*"),
        (["task.n_train=10000000", "model.width=10000"], "task.n_train: must fit in memory: the f"),
        (["engine.micro_batch=1000000", "model.width=10000"], "engine.micro_batch: must fit in m"),
        (["steps=1000000000", "grid.points=1", "seeds=1", "plot.late=1"], "(steps: must fit|out:)"),
        (["engine.sample_block=1101"], "engine.sample_block: must be null or 1100 here"),
        (["seeds=1000000"], r"seeds: must leave at most 1000000 pieces of work \(got 17000000\)"),
        (["engine.devices=1024"], "engine.devices: must be at most"),
    ],
)  # fmt: skip
def test_what_can_not_run_here_is_refused_before_a_folder_is_made(overrides, said, tmp_path):
    cfg = load("fig2", LandscapeConfig, overrides)
    with pytest.raises(ConfigError, match=f"^{said}"):
        conduct(Fig2(), cfg, Folders(tmp_path / "results", tmp_path / "figures"))
    assert not list(tmp_path.iterdir())
