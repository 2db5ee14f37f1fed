"""Runs of different lengths in a fixed number of slots, as on a conveyor.

A device has a queue of cells and steps its slots together; a slot whose run has ended, at t = T or
where a loss is not finite, takes the next cell. What is stepped is always of one shape, so that a
cell's curve has the same bits whatever its slot, its neighbours and its place in the queue.

All slots are logged at each step, in one piece of memory; `in_order` cuts that into curves.
"""

import heapq
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lora_theory.arrays import Array


class Queues(NamedTuple):
    """What each device has to do.

    Attributes:
        rates: (devices, capacity + 1, 2) of the cells in its queue, then of anything; the last
            are the rates of a slot without a cell. The capacity is whole slots full.
        length: (devices,) cells in the queue.
        cell: (devices, capacity) which they are; −1 behind them.
    """

    rates: np.ndarray
    length: np.ndarray
    cell: np.ndarray


class _Line(NamedTuple):
    """A device at work: how many rows are logged and cells taken, of each slot its cell, first row
    and run, what is logged, and of each cell its slot, first row and the row behind its last.
    """

    row: Any
    taken: Any
    cell: Any
    first: Any
    run: Any
    log: Any
    runs: Any


def deal(cells: np.ndarray, slots: int, devices: int) -> Queues:
    """Queues of about the same length.

    Small rates come first: theirs are the long runs, and those that diverge early fill the gaps
    which these leave at the end.

    Args:
        cells: (cells, 2) pairs (η_A, η_B).
        slots: of each device.
        devices: how many there are.

    >>> deal(np.array([[1.0, 4.0], [1.0, 2.0], [1.0, 3.0]]), 2, 2).cell.tolist()
    [[1, 0], [2, -1]]
    """
    order = np.argsort(cells.prod(axis=1), kind="stable")
    capacity = math.ceil(len(cells) / (slots * devices)) * slots
    rates = np.ones((devices, capacity + 1, 2), np.float32)
    cell = np.full((devices, capacity), -1)
    for device in range(devices):
        queue = order[device::devices]
        rates[device, : len(queue)] = cells[queue]
        cell[device, : len(queue)] = queue
    return Queues(rates, (cell >= 0).sum(axis=1, dtype=np.int32), cell)


def rows_of(cells: np.ndarray, lengths: np.ndarray, slots: int, devices: int) -> list[int]:
    """How many steps of all slots each device takes, if the runs of the cells have these lengths.

    The next cell goes to the slot that is free first.

    >>> rows_of(np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]), np.array([9, 2, 4]), 2, 1)
    [9]
    """
    rows = []
    queues = deal(cells, slots, devices)
    for queue, length in zip(queues.cell, queues.length, strict=True):
        free = [0] * slots
        for cell in queue[:length]:
            heapq.heapreplace(free, free[0] + int(lengths[cell]))
        rows.append(max(free))
    return rows


def convey(
    begin: Callable[[Array], Any],
    step: Callable[[Array, Any], tuple[Array, Any]],
    rates: Array,
    length: Array,
    *,
    slots: int,
    steps: int,
) -> tuple[Array, Array]:
    """Run all cells of one device's queue.

    Args:
        begin: rate -> a run at t = 0.
        step: rate, run -> (its two losses, the run one step on).
        rates, length: of the device, as `deal` makes them.
        slots: runs that step together.
        steps: T.

    Returns:
        The losses of all slots at each step, (rows, slots, 2), and of each cell its slot, its
        first row and the row behind its last, (capacity + 1, 3).
    """
    nobody = len(rates) - 1

    def work(at: _Line) -> _Line:
        now = rates[at.cell]

        def advance(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            row, _, run, log = carry
            losses, run = jax.vmap(step)(now, run)
            log = jax.lax.dynamic_update_index_in_dim(log, losses, row, 0)
            ended = ~jnp.isfinite(losses).all(axis=1) | (row - at.first == steps)
            return row + 1, ended & (at.cell < nobody), run, log

        start = (at.row, jnp.zeros(slots, bool), at.run, at.log)
        row, ended, run, log = jax.lax.while_loop(lambda carry: ~carry[1].any(), advance, start)
        where = jnp.stack([jnp.arange(slots), at.first, jnp.broadcast_to(row, slots)], axis=1)
        following = at.taken + jnp.cumsum(ended) - 1
        cell = jnp.where(ended, jnp.where(following < length, following, nobody), at.cell)

        def renewed(new: Array, old: Array) -> Array:
            return jnp.where(ended.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return _Line(
            row,
            at.taken + ended.sum(),
            cell,
            jnp.where(ended, row, at.first),
            jax.tree.map(renewed, jax.vmap(begin)(rates[cell]), run),
            log,
            at.runs.at[at.cell].set(where),
        )

    cell = jnp.where(jnp.arange(slots) < length, jnp.arange(slots), nobody)
    start = _Line(
        row=jnp.int32(0),
        taken=jnp.minimum(slots, length),
        cell=cell,
        first=jnp.zeros(slots, jnp.int32),
        run=jax.vmap(begin)(rates[cell]),
        # Enough if every run is a whole one; shorter ones never take more rows together.
        log=jnp.zeros((nobody // slots * (steps + 1), slots, 2)),
        runs=jnp.zeros((nobody + 1, 3), jnp.int32),
    )
    final = jax.lax.while_loop(lambda at: (at.cell < nobody).any(), work, start)
    return final.log, final.runs


def in_order(
    logs: np.ndarray, runs: np.ndarray, cell: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """The losses of each cell, (cells, T + 1, 2), NaN from the t on at which one is not finite; and
    that t, −1 for never.

    Args:
        logs: (devices, rows, slots, 2) as `convey` logs them.
        runs: (devices, capacity + 1, 3).
        cell: (devices, capacity), as `deal` has it.
        steps: T.
    """
    device, place = np.nonzero(cell >= 0)
    slot, first, behind = runs[device, place].T
    t = np.arange(steps + 1)
    rows = np.minimum(first[:, None] + t, behind[:, None] - 1)
    losses = logs[device[:, None], rows, slot[:, None]]
    broken = ~np.isfinite(losses[:, -1]).all(axis=1)
    diverged_at = np.where(broken, behind - first - 1, -1).astype(np.int32)
    losses[broken[:, None] & (t >= diverged_at[:, None])] = np.nan
    back = np.argsort(cell[device, place])
    return losses[back], diverged_at[back]
