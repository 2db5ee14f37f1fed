"""The engine: trains every (seed, η_A, η_B) of a grid, on however many devices there are.

A call computes the features Z once, not once a step. Cells are dealt to the devices, each of which
steps a micro-batch of them together; where a run ends or diverges, the next takes its place. What
is stepped depends on the micro-batch, not on the grid or the number of devices, so a cell's curve
has the same bits alone, in any grid and on any number of devices.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from lora_theory.arrays import Array, Float
from lora_theory.data.synthetic import Loss, objective
from lora_theory.train.conveyor import convey, deal, in_order
from lora_theory.train.devices import Policy
from lora_theory.train.problems import Problem, check_problem, check_run, checked_cells
from lora_theory.train.programs import program

__all__ = ["Curves", "Problem", "sweep_cells"]

Optimizer = Callable[[Any, Any], optax.GradientTransformation]


class Curves(NamedTuple):
    """Losses of some cells of one seed, NaN from the step on at which a run diverged.

    Attributes:
        train_loss: (cells, T + 1) after t = 0 … T updates.
        test_loss: (cells, T + 1).
        diverged_at: (cells,) first t at which a loss is not finite; −1 for never.
    """

    train_loss: np.ndarray
    test_loss: np.ndarray
    diverged_at: np.ndarray


def sweep_cells(
    problem: Problem,
    cells: Float[np.ndarray, "cells 2"],
    *,
    optimizer: Optimizer,
    loss: Loss,
    steps: int,
    policy: Policy,
    devices: list[jax.Device],
    axis: int = 0,
    trainable: Any = None,
) -> Curves:
    """Train one seed's problem at every (η_A, η_B) in `cells` by full-batch descent.

    Args:
        problem: model and data of the seed.
        cells: (cells, 2) pairs (η_A, η_B).
        optimizer: (η_A, η_B) -> optax transformation, of traceable rates. Calls share what they
            have compiled; see `train.programs`.
        loss: "mse" or "all_pairs".
        steps: T, updates per run.
        policy: from `resolve_policy`.
        devices: from `start_devices`.
        axis: where the features of x and Z are: 0 (samples are columns), or -1 (samples first).
        trainable: an NNX filter of what is trained, all else being frozen; without one, LoRA
            factors, which then have to be all the parameters that the model has.

    Returns:
        Losses at every step t = 0 … T and where runs diverged, in the order of `cells`.

    Raises:
        ValueError: an argument that is none (by name), or a model that would not be trained as
            it looks: no factors, factors within `features` or that `readout` does not use.

    >>> import jax, numpy as np, optax
    >>> from lora_theory.data.synthetic import sine_task
    >>> from lora_theory.models.toys import TwoLayerToy
    >>> from lora_theory.adapters.lora_plus import lora_plus
    >>> from lora_theory.train.devices import resolve_policy, start_devices
    >>> data = sine_task(5, 64, 16, key=jax.random.key(0))
    >>> problem = Problem(TwoLayerToy(5, 32, 4, key=jax.random.key(1)), data)
    >>> curves = sweep_cells(
    ...     problem, np.array([[1e-3, 1e-1], [10.0, 10.0]]),
    ...     optimizer=lambda a, b: lora_plus(a, b, base=optax.sgd), loss="mse", steps=20,
    ...     policy=resolve_policy(32, 80), devices=start_devices(1))
    >>> curves.train_loss.shape, bool(curves.train_loss[0, 20] < curves.train_loss[0, 0])
    ((2, 21), True)
    >>> curves.diverged_at.tolist()[0], curves.diverged_at.tolist()[1] > 0
    (-1, True)
    """
    cells = checked_cells(cells)
    check_run(steps, policy, devices, axis)
    check_problem(problem, axis, trainable)
    graph, trained, frozen, z = _prepare(problem, axis, trainable)
    goal = objective(problem.data, loss)
    queues = deal(cells, policy.micro_batch, len(devices))
    train = program(
        _training, graph, optimizer, steps, policy, tuple(devices), axis, model=problem.model
    )
    # Diverged runs are results, also where NaN are looked for.
    with jax.debug_nans(False), jax.debug_infs(False):
        made = train(trained, frozen, z, goal, queues.rates, queues.length)
        logs, runs = jax.device_get(made)
    losses, diverged_at = in_order(logs, runs, queues.cell, steps)
    return Curves(losses[..., 0], losses[..., 1], diverged_at)


def _prepare(problem: Problem, axis: int, trainable: Any) -> tuple[Any, Any, Any, Array]:
    """Split the model into what trains and what does not, and compute the features once."""
    data = problem.data
    x = jnp.concatenate([data.x_train, data.x_test], axis=_samples(axis))
    with jax.default_matmul_precision("highest"):
        z = problem.model.features(x)
    parts: Any = nnx.split(problem.model, nnx.LoRAParam if trainable is None else trainable, ...)
    return *parts, z


def _samples(axis: int) -> int:
    """The axis of samples, features being on `axis`."""
    return 1 if axis == 0 else 0


def _training(
    graph: Any,
    optimizer: Optimizer,
    steps: int,
    policy: Policy,
    devices: tuple[jax.Device, ...],
    axis: int,
) -> Callable[..., tuple[Array, Array]]:
    """The compiled sweep of a fixed model structure; rates, data and weights are arguments."""
    mesh = Mesh(np.array(devices), ("grid",))
    split, whole = PartitionSpec("grid"), PartitionSpec()

    def train(
        trained: Any, frozen: Any, z: Array, goal: Any, rates: Array, length: Array
    ) -> tuple[Array, Array]:
        gradient = _gradient(graph, frozen, _blocks(z, goal, policy.sample_block, axis))

        def begin(rate: Array) -> tuple[Any, Any]:
            return trained, optimizer(rate[0], rate[1]).init(trained)

        def step(rate: Array, run: tuple[Any, Any]) -> tuple[Array, tuple[Any, Any]]:
            params, state = run
            losses, grads = gradient(params)
            updates, state = optimizer(rate[0], rate[1]).update(grads, state, params)
            return losses, (optax.apply_updates(params, updates), state)

        made = convey(begin, step, rates[0], length[0], slots=policy.micro_batch, steps=steps)
        return made[0][None], made[1][None]

    sharded = jax.shard_map(
        train,
        mesh=mesh,
        in_specs=(whole, whole, whole, whole, split, split),
        out_specs=split,
        check_vma=False,
    )

    def precise(*args: Any) -> tuple[Array, Array]:
        with jax.default_matmul_precision(policy.precision):
            return sharded(*args)

    # A product shared between threads may be cut differently on another machine; cores are
    # busy with their own micro-batches anyway.
    options = {"xla_cpu_multi_thread_eigen": False} if devices[0].platform == "cpu" else None
    return jax.jit(precise, compiler_options=options)


def _blocks(z: Array, goal: Any, size: int, axis: int) -> tuple[Any, ...]:
    """Features, targets and weights cut into blocks of samples, padded with weight 0."""
    samples = goal.target.size
    count = math.ceil(samples / size)

    def cut(array: Array, along: int) -> Array:
        padding = [(0, 0)] * array.ndim
        padding[along] = (0, count * size - samples)
        padded = jnp.pad(array, padding)
        shape = (*array.shape[:along], count, size, *array.shape[along + 1 :])
        return jnp.moveaxis(padded.reshape(shape), along, 0)

    weight = cut(goal.weight, goal.weight.ndim - 1)
    return cut(z, _samples(axis)), cut(goal.target, 0), weight, goal.offset


def _gradient(graph: Any, frozen: Any, blocks: tuple[Any, ...]) -> Callable[[Any], Any]:
    """params -> ((2,) losses, gradient of the train loss), summed over blocks of samples."""
    z, target, weight, offset = blocks

    def partial_losses(params: Any, block: tuple[Array, ...]) -> tuple[Array, Array]:
        z_k, target_k, weight_k = block
        f = nnx.merge(graph, params, frozen).readout(z_k)
        losses = weight_k @ jnp.square(f - target_k)
        return losses[0], losses

    value_and_grad = jax.value_and_grad(partial_losses, has_aux=True)

    def whole(params: Any) -> tuple[Array, Any]:
        if z.shape[0] == 1:
            (_, losses), gradient = value_and_grad(params, (z[0], target[0], weight[0]))
            return losses + offset, gradient

        def add(total: Any, block: tuple[Array, ...]) -> tuple[Any, None]:
            (_, losses), gradient = value_and_grad(params, block)
            return jax.tree.map(jnp.add, total, (losses, gradient)), None

        start = (offset, jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add, start, (z, target, weight))[0]

    return whole
