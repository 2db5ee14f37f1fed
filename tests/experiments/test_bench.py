"""The benchmark prints and saves what it is asked for; its numbers are not tested."""

import json
import sys

import pytest

from experiments import bench
from experiments.bench import BenchConfig
from experiments.lab.command_line import load, run_command
from experiments.landscape.experiment import LandscapeConfig


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
    assert "batch policy, forced on the CPU, n = 8" in printed
    assert "(one repeat)" in printed
    assert report["times_the_engine"]["engine, n = 8"]["median"] == 1


def bench_small(monkeypatch, tmp_path, load, seconds):
    """The benchmark with a load and with seconds that are given."""
    monkeypatch.setattr(bench, "load_average", lambda: load)

    def measure(candidates, repeats):
        return {c.name: seconds for c in candidates}, 1e9

    monkeypatch.setattr(bench, "measure", measure)
    arguments = [f"repeats={len(seconds)}", "cells=8", "steps=2", "widths=[8]", "fig2=false"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments, "points=4", f"out={tmp_path}"])
    run_command("bench", BenchConfig, bench.bench)
    return json.loads((tmp_path / "results/bench/bench.json").read_text())


@pytest.mark.parametrize(
    ("load", "seconds", "busy"),
    [(0.1, [1.0, 1.1], False), (4.0, [1.0, 1.1], True), (0.1, [1.0, 2.0], True)],
)
def test_a_busy_machine_is_said_to_be(load, seconds, busy, tmp_path, monkeypatch, capsys):
    report = bench_small(monkeypatch, tmp_path, load, seconds)
    assert ("the machine was busy" in capsys.readouterr().out) == busy
    assert report["load_average_before"] == load


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


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(("high", "whole"), [(1e-3, True), (1e3, False)])
def test_the_share_of_live_steps_is_whole_where_slots_are(devices, high, whole):
    """16 cells fill 8 slots of one or two devices; where runs diverge, the last slots are idle."""
    options = ["model.width=8", "task.n_train=20", "grid.points=4", "steps=30", "plot.early=1"]
    options += [f"grid.high={high}", f"engine.devices={devices}", "loss=mse", "seeds=1"]
    share = bench.live_share(load("fig2", LandscapeConfig, options))
    assert share == 1 if whole else 0 < share < 1
