"""The benchmark's implementations train the same runs; its numbers are not tested."""

import json
import sys

import numpy as np
import pytest

from experiments import bench, cli
from lora_theory.config import BenchConfig


def test_all_implementations_train_the_same_run():
    """The plain step, 30 times, gives the engine's curve."""
    import jax

    from lora_theory.sweep import start_devices, sweep_cells

    step, params = bench.plain_step(20)
    losses = []
    for _ in range(31):
        params, loss = jax.jit(step)(params, 1e-3, 1e-2)
        losses.append(loss)
    fig2 = bench.setting(20)
    from experiments import grid
    from lora_theory.sweep import seed_key

    curves = sweep_cells(
        grid.problem_of(fig2, seed_key(0)),
        np.array([[1e-3, 1e-2]]),
        optimizer=grid.optimizer_of("sgd"),
        loss="mse",
        steps=30,
        policy=grid.policy_of(fig2),
        devices=start_devices(1),
    )
    # The plain step takes the test loss before its update, as the engine does.
    np.testing.assert_allclose(np.array(losses)[:, 0], curves.train_loss[0], rtol=2e-5)
    np.testing.assert_allclose(np.array(losses)[:, 1], curves.test_loss[0], rtol=2e-5)


def test_the_benchmark_prints_and_saves_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "PRODUCT", 64)
    arguments = ["repeats=1", "cells=8", "steps=2", "widths=[8]", "fig2=false"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments, f"out={tmp_path}"])
    cli.main("bench", BenchConfig, bench.bench)
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
        cli.main("bench", BenchConfig, bench.bench)
    assert stop.value.code == 2
    assert bad.partition("=")[0] in capsys.readouterr().err
