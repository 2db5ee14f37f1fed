"""The plan of a landscape: every cell of every seed once, in the order of the data set."""

import numpy as np
import pytest

from experiments.fig2 import Fig2
from experiments.lab.command_line import load
from experiments.lab.schema import Role, roles
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
