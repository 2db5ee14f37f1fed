"""All implementations train the same runs."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.benchmarks import candidates
from experiments.benchmarks.candidates import BenchConfig
from experiments.lab.command_line import load


@pytest.mark.slow
def test_all_implementations_train_the_same_run():
    """The plain step, 30 times, gives the engine's curve."""
    cfg = load("bench", BenchConfig, ["rate=1e-3", "steps=30", "cells=1"])
    step, params = candidates.plain_step(cfg, 20)
    losses = []
    for _ in range(31):
        params, loss = jax.jit(step)(params, 1e-3, 1e-3)
        losses.append(loss)
    curves = candidates.engine(dataclasses.replace(cfg, widths=(20,)), 20).run()
    # The plain step takes the test loss before its update, as the engine does.
    np.testing.assert_allclose(np.array(losses)[:, 0], curves.train_loss[0], rtol=2e-5)
    np.testing.assert_allclose(np.array(losses)[:, 1], curves.test_loss[0], rtol=2e-5)
    assert not np.allclose(curves.train_loss[0, 0], curves.train_loss[0, 30], rtol=1e-3)


def test_the_batch_policy_trains_them_too():
    cfg = load("bench", BenchConfig, ["rate=1e-3", "steps=10", "cells=16"])
    small = dataclasses.replace(cfg, widths=(20,))
    batch, cores = (make(small, 20) for make in (candidates.batch, candidates.engine))
    assert batch.name == "batch policy, forced on the CPU, n = 20"
    curves = batch.run()
    assert curves.train_loss.shape == (batch.runs, batch.steps)
    expected = np.broadcast_to(cores.run().train_loss[0], curves.train_loss.shape)
    np.testing.assert_allclose(curves.train_loss, expected, rtol=1e-4)
