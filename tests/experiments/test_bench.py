"""The benchmark's implementations train the same runs; its numbers are not tested."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest

from experiments import bench
from experiments.bench import BenchConfig
from experiments.lab.command_line import load, run_command


def test_all_implementations_train_the_same_run():
    """The plain step, 30 times, gives the engine's curve."""
    cfg = load("bench", BenchConfig, ["rate=1e-3", "steps=30", "cells=1"])
    step, params = bench.plain_step(cfg, 20)
    losses = []
    for _ in range(31):
        params, loss = jax.jit(step)(params, 1e-3, 1e-3)
        losses.append(loss)
    curves = bench.engine(dataclasses.replace(cfg, widths=(20,)), 20).run()
    # The plain step takes the test loss before its update, as the engine does.
    np.testing.assert_allclose(np.array(losses)[:, 0], curves.train_loss[0], rtol=2e-5)
    np.testing.assert_allclose(np.array(losses)[:, 1], curves.test_loss[0], rtol=2e-5)
    assert not np.allclose(curves.train_loss[0, 0], curves.train_loss[0, 30], rtol=1e-3)


def test_the_benchmark_prints_and_saves_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "PRODUCT", 64)
    arguments = ["repeats=1", "cells=8", "steps=2", "widths=[8]", "fig2=false", "points=4"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments, f"out={tmp_path}"])
    run_command("bench", BenchConfig, bench.bench)
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "results/bench/bench.json").read_text())
    for name, cost in report["microseconds_per_run_and_step"].items():
        assert name in printed
        assert cost > 0
    assert "PyTorch loop" in printed


@pytest.mark.parametrize("bad", ["widths=[]", "widths=[2]", "repeats=0", "rate=0", "widths=[a]"])
def test_bad_settings_are_refused(bad, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", bad])
    with pytest.raises(SystemExit) as stop:
        run_command("bench", BenchConfig, bench.bench)
    assert stop.value.code == 2
    assert bad.partition("=")[0] in capsys.readouterr().err


def test_the_growth_of_cost_is_a_slope_of_logarithms():
    costs = {"engine, n = 64": 2.0, "engine, n = 256": 8.0, "engine, n = 128": 2.0}
    assert bench.growth(costs, (64, 256, 128)) == {
        "64 to 128": 0.0,
        "128 to 256": 2.0,
        "64 to 256": 1.0,
    }
    assert bench.growth(costs, (64,)) == {}
