"""Fine-tuning of a small transformer: what decides it, and the program that trains at all rates.

The training itself stands in `lora_theory.train.finetune`.
"""

import dataclasses
import functools
import queue
from collections.abc import Callable
from typing import Any

from experiments.lab import schema
from experiments.lab.memory import Need
from experiments.lab.schema import ConfigError, integer, science

# Seconds of one core that a step takes for each token, block and hidden unit: a · (1, n, places).
# Measured on pieces at n = 64 and 128, of 16 and 32 places, on a virtual machine, AMD EPYC.
_COSTS = (1.13e-8, 5.3e-10, 3.7e-10)


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Sequences to look up in."""

    letters: int = science(integer(2, 10**5))
    places: int = science(integer(1, 10**4))
    n_test: int = science(integer(1, 10**6))


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The transformer."""

    width: int = science(integer(1, 10**4))
    heads: int = science(integer(1, 10**3))
    blocks: int = science(integer(1, 100))
    rank: int = science(integer(1, 10**4))

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError("model.heads", f"must divide model.width = {self.width}", self.heads)
        if self.rank > self.width:
            raise ConfigError(
                "model.rank", f"must be at most model.width = {self.width}", self.rank
            )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How it is trained."""

    steps: int = science(integer(2, 10**6))
    batch: int = science(integer(1, 10**6))
    warmup: int = science(integer(0, 10**6))
    clip: float = science(schema.positive())

    def __post_init__(self) -> None:
        if self.warmup >= self.steps:
            words = f"must be below training.steps = {self.steps}"
            raise ConfigError("training.warmup", words, self.warmup)


def needs(task: TaskConfig, model: ModelConfig, training: TrainingConfig) -> list[Need]:
    """The sequences, and the largest activations of a step."""
    steps, batch = ("training.steps", training.steps), ("training.batch", training.batch)
    places, width = ("task.places", task.places), ("model.width", model.width)
    tests = ("task.n_test", task.n_test)
    return [
        Need("the training sequences", [steps, batch, places]),
        Need("the hidden units", [tests, places, width], copies=4),
        Need("the hidden units", [batch, places, width], copies=4 * model.blocks),
        Need("the attention", [tests, places, places], copies=model.heads),
    ]


def core_seconds(task: TaskConfig, model: ModelConfig, training: TrainingConfig) -> float:
    """Of one run; a test sequence takes a third of what a training sequence does."""
    n, places = model.width, task.places + 1
    sequences = training.steps * training.batch + task.n_test / 3
    units = sequences * places * model.blocks * n
    return units * (_COSTS[0] + _COSTS[1] * n + _COSTS[2] * places)


@functools.cache
def free_devices() -> "queue.LifoQueue[Any]":
    """Devices that no thread is using; the one used last comes first, for it has the program."""
    from lora_theory.train.devices import pin_numerics, start_devices

    pin_numerics()
    free: queue.LifoQueue[Any] = queue.LifoQueue()
    for device in start_devices():
        free.put(device)
    return free


@functools.cache
def program(
    task: TaskConfig,
    model: ModelConfig,
    training: TrainingConfig,
    optimizer: Callable[..., Any] | None = None,
) -> Any:
    """(key, rates, ratio) -> test accuracy and loss of each rate, compiled once for all.

    Args:
        task, model, training: what decides a run.
        optimizer: what makes it, as `finetune.lora_optimizer` does, which it is without one.
    """
    import jax
    import jax.numpy as jnp

    from lora_theory.train.finetune import accuracy, cross_entropy, lora_optimizer, train

    make = lora_optimizer if optimizer is None else optimizer

    def runs(key: Any, rates: Any, ratio: Any) -> Any:
        tokens, answers, tests = sequences(task, training, key)

        def one(rate: Any) -> Any:
            net = network(task, model, key)
            warmup, clip = training.warmup, training.clip
            losses = train(
                net, tokens, answers, rate, ratio, warmup=warmup, clip=clip, optimizer=make
            )
            loss = cross_entropy(net, *tests)
            finite = jnp.isfinite(losses).all() & jnp.isfinite(loss)
            score = accuracy(net, *tests)
            return jnp.where(finite, score, 0.0), jnp.where(finite, loss, jnp.nan)

        return jax.lax.map(one, rates)

    return jax.jit(runs)


def sequences(task: TaskConfig, training: TrainingConfig, key: Any) -> tuple[Any, Any, Any]:
    """Tokens and answers, a mini-batch a step, and the pair of them that tests."""
    from lora_theory.data.lookup import lookup_task

    samples = training.steps * training.batch
    data = lookup_task(task.letters, task.places, samples, task.n_test, key=key)
    tokens, answers = (
        at.reshape(training.steps, training.batch, *at.shape[1:])
        for at in (data.x_train, data.y_train)
    )
    return tokens, answers, (data.x_test, data.y_test)


def network(task: TaskConfig, model: ModelConfig, key: Any) -> Any:
    """The transformer of a key."""
    from lora_theory.models.transformer import Transformer

    sizes = dataclasses.asdict(model)
    return Transformer(task.letters + task.places, task.places + 1, task.letters, **sizes, key=key)
