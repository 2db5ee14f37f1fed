"""The plan of a landscape: every cell of every seed once, in the order of the data set."""

import math

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.fig2 import Fig2
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError, Role, roles
from experiments.landscape import report
from experiments.landscape.experiment import LandscapeConfig, cells, rates
from lora_theory.store.dataset import Results
from lora_theory.train import sweep


@pytest.mark.parametrize("chunk", ["null", 1, 7, 128])
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


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        ([], [424, 424, 424, 424, 420]),  # 2116 cells, of which a piece has up to 512.
        (["engine.chunk=1000"], [1000, 1000, 116]),
        (["grid.points=22"], [484]),
        (["grid.points=23"], [265, 264]),
        (["engine.policy=batch", "engine.micro_batch=1024"], [2116]),
        (["engine.policy=batch", "engine.micro_batch=1024", "engine.chunk=8", "grid.points=3"],
         [8, 1]),
        (["engine.policy=batch", "engine.micro_batch=100", "steps=9999"], [1058, 1058]),
        # A batch is full, also where its losses are many.
        (["engine.policy=batch", "engine.micro_batch=1024", "steps=99999"], [1058, 1058]),
        (["engine.policy=batch", "engine.micro_batch=3000", "steps=99999"], [2116]),
        (["steps=99999"], [82] * 25 + [66]),
    ],
)  # fmt: skip
def test_pieces_are_even_and_those_of_a_batch_fill_it(overrides, sizes):
    cfg = load("fig2", LandscapeConfig, ["seeds=1", "loss=mse", *overrides])
    (part,) = Fig2().plan(cfg)
    assert [piece.stop - piece.start for piece in part.pieces.values()] == sizes


def test_a_batchs_bytes_are_recorded_and_nothing_of_them_on_cores(monkeypatch):
    monkeypatch.setattr("lora_theory.train.devices.free_batch_bytes", lambda: 2**30)

    def chosen(*overrides):
        return Fig2().start(load("fig2", LandscapeConfig, list(overrides)))["engine"]

    assert "batch_bytes" not in chosen("engine.policy=cores")
    found = chosen("engine.policy=batch", "model.width=1000")
    assert (found["batch_bytes"], found["micro_batch"]) == (2**30, 61)
    given = chosen("engine.policy=batch", "model.width=1000", "engine.batch_bytes=100000000")
    assert (given["batch_bytes"], given["micro_batch"]) == (10**8, 5)


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
        (["seeds=1000000"], r"seeds: must leave at most 1000000 pieces of work \(got 5000000\)"),
        (["engine.devices=1024"], "engine.devices: must be at most"),
    ],
)  # fmt: skip
def test_what_can_not_run_here_is_refused_before_a_folder_is_made(overrides, said, tmp_path):
    cfg = load("fig2", LandscapeConfig, overrides)
    with pytest.raises(ConfigError, match=f"^{said}"):
        conduct(Fig2(), cfg, Folders(tmp_path / "results", tmp_path / "figures"))
    assert not list(tmp_path.iterdir())


SMALL = (
    "model.width=16", "task.n_train=20", "task.n_test=8", "steps=6", "plot.early=2",
    "grid.points=7", "seeds=2", "loss=mse", "plot.dpi=30",
    "engine.policy=batch", "engine.devices=2",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fits", [16, 5, 1])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(fits, tmp_path, monkeypatch, capsys):
    """Memory of a device that is full is forced; what comes of it is asked for by hand besides."""
    monkeypatch.setattr(report, "lines", lambda *of: [])
    monkeypatch.setattr("lora_theory.plots.landscapes.figure2", lambda *of, **more: Figure())
    monkeypatch.setattr("lora_theory.plots.landscapes.judges_figure", lambda *of, **more: Figure())
    original, tried = sweep.sweep_cells, []

    def full(problem, cells, *, policy, **more):
        tried.append(policy.micro_batch)
        if policy.micro_batch > fits:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to")
        return original(problem, cells, policy=policy, **more)

    def run(name, *overrides):
        cfg = load("fig2", LandscapeConfig, [*SMALL, *overrides])
        conduct(Fig2(), cfg, Folders(tmp_path / name, tmp_path / f"{name}_figures"))
        return Results.load(tmp_path / name / "mse.npz")

    smaller = 16 // 2 ** math.ceil(math.log2(16 / fits))
    asked = run("asked", f"engine.micro_batch={smaller}")
    monkeypatch.setattr(sweep, "sweep_cells", full)
    found = run("found", "engine.micro_batch=16")
    halvings = [16 // 2**k for k in range(5) if 16 // 2**k >= smaller]
    assert tried == [*halvings, smaller]  # The second seed begins where the first one ended.
    for name, array in asked.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert found.config["engine"]["micro_batch"] == 16
    if fits == 16:
        assert "smaller" not in found.config
        return
    mixed = found.config["smaller"]
    assert len(mixed) == 2
    assert all(of == {"engine.micro_batch": smaller} for of in mixed.values())
    said = (
        f"2 of its pieces did not fit in memory and were computed with engine.micro_batch={smaller}"
    )
    assert said in capsys.readouterr().err
