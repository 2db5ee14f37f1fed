"""Slots and queues against plain loops, with runs that are known in advance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_theory.train.conveyor import convey, deal, in_order, rows_of

STEPS = 12


def begin(rate):
    return {"t": jnp.int32(0), "x": rate[0]}, (jnp.zeros(3),)


def step(rate, run):
    """A run whose losses say which it is and how far: it breaks at the t that its η_B is."""
    params, (state,) = run
    first = jnp.where(params["t"] == rate[1], jnp.inf, params["x"] + state[0])
    losses = jnp.stack([first, 100 * rate[0] + params["t"]])
    return losses, ({"t": params["t"] + 1, "x": params["x"] + 1}, (state + rate[0],))


def expected(cells):
    t = np.arange(STEPS + 1)
    losses = np.stack(np.broadcast_arrays(cells[:, :1] * (1 + t) + t, 100 * cells[:, :1] + t), -1)
    ends = np.where(cells[:, 1] <= STEPS, cells[:, 1], -1).astype(np.int32)
    losses[(ends[:, None] >= 0) & (t >= ends[:, None])] = np.nan
    return losses, ends


@functools.partial(jax.jit, static_argnums=2)
def on_one_device(rates, length, slots):
    return convey(begin, step, rates, length, slots=slots, steps=STEPS)


def conveyed(cells, slots, devices):
    queues = deal(cells, slots, devices)
    made = [on_one_device(queues.rates[k], queues.length[k], slots) for k in range(devices)]
    logs, runs = (np.stack(part) for part in zip(*made, strict=True))
    return queues, logs, runs


def drawn(count, kind):
    """Different rates, and the t at which each run breaks."""
    rng = np.random.default_rng(count)
    breaks = {
        "all run": np.full(count, 1000),
        "all break at once": np.zeros(count),
        "all break": rng.integers(0, STEPS, count),
        "some break": np.where(rng.random(count) < 0.5, rng.integers(0, STEPS + 1, count), 1000),
    }[kind]
    return np.stack([rng.permutation(count) + 1, breaks], axis=1).astype(float)


@pytest.mark.parametrize("kind", ["all run", "all break at once", "all break", "some break"])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
@pytest.mark.parametrize(("slots", "devices"), [(1, 1), (3, 1), (3, 2), (64, 1), (2, 8)])
def test_every_cell_has_its_own_curve(kind, count, slots, devices):
    cells = drawn(count, kind)
    queues, logs, runs = conveyed(cells, slots, devices)
    losses, diverged_at = in_order(logs, runs, queues.cell, STEPS)
    wanted, ends = expected(cells)
    np.testing.assert_array_equal(losses, wanted)
    np.testing.assert_array_equal(diverged_at, ends)
    assert diverged_at.dtype == np.int32


def test_a_cell_in_anothers_place_would_be_seen():
    """Control: no two cells of a test have the same curve."""
    wanted, _ = expected(drawn(40, "all run"))
    assert len({curve.tobytes() for curve in wanted}) == 40


@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize("slots", [1, 3, 8])
@pytest.mark.parametrize("devices", [1, 2])
def test_no_slot_waits_while_there_are_cells(count, slots, devices):
    """As many rows as the plain rule takes: the next cell goes to the slot that is free first."""
    cells = drawn(count, "some break")
    queues, _, runs = conveyed(cells, slots, devices)
    lengths = np.minimum(cells[:, 1], STEPS).astype(int) + 1
    rows = rows_of(cells, lengths, slots, devices)
    assert [mine[:-1, 2].max() for mine in runs] == rows
    # Control: in lockstep, as many as the longest of each slots full.
    each = [lengths[mine[mine >= 0]] for mine in queues.cell]
    lockstep = sum(of[k : k + slots].max() for of in each for k in range(0, len(of), slots))
    assert sum(rows) < lockstep if 1 < slots < count / devices else sum(rows) == lockstep


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 9, 100])
def test_every_cell_is_in_one_queue_and_small_rates_come_first(devices, count):
    cells = np.random.default_rng(0).uniform(size=(count, 2))
    queues = deal(cells, 4, devices)
    dealt = queues.cell[queues.cell >= 0]
    assert sorted(dealt.tolist()) == list(range(count))
    assert queues.length.tolist() == (queues.cell >= 0).sum(axis=1).tolist()
    assert queues.length.max() - queues.length.min() <= 1
    assert queues.cell.shape[1] % 4 == 0
    for device in range(devices):
        mine = cells[queues.cell[device, : queues.length[device]]]
        np.testing.assert_array_equal(queues.rates[device, : len(mine)], mine.astype(np.float32))
        assert (np.diff(mine.prod(axis=1)) >= 0).all()
