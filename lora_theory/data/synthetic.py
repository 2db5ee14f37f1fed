"""The synthetic tasks and their squared losses, in the one form that the engine trains on.

A task draws from the half of its key that is for data (`keys.data_half`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lora_theory import arguments
from lora_theory.arrays import Array, Float, Inputs, Outputs, PRNGKey
from lora_theory.keys import data_half


class Data(NamedTuple):
    """Training and test samples: inputs x (d, N) as columns, targets y (N,)."""

    x_train: Float[Array, "d N"]
    y_train: Float[Array, "N"]
    x_test: Float[Array, "d N_test"]
    y_test: Float[Array, "N_test"]


class Objective(NamedTuple):
    """Train and test loss as weighted squares over all N samples, training ones first.

        (L_train, L_test) = weight @ (f − target)² + offset

    A weight of 1/N on training columns and 0 on test columns costs less than slicing them apart.

    Attributes:
        target: (N,) what each output is compared with.
        weight: (2, N) weight of each squared residual in the train and in the test loss.
        offset: (2,) what is added to each loss.
    """

    target: Float[Array, "N"]
    weight: Float[Array, "2 N"]
    offset: Float[Array, "2"]

    def losses(self, f: Outputs) -> Float[Array, "2"]:
        """(L_train, L_test) of the outputs f (N,)."""
        return self.weight @ jnp.square(f - self.target) + self.offset


Loss = str | Callable[[Data], Objective]


def sine_task(inputs: int, n_train: int, n_test: int, *, key: PRNGKey) -> Data:
    """The task of Figure 2: x ~ N(0, I_d), y = sin(mean(x)) (appendix C.1.1).

    Args:
        inputs: d.
        n_train: training samples.
        n_test: test samples, drawn from the same law.
        key: PRNG key of the inputs.

    Returns:
        The samples; the variance of y is (1 − exp(−2/d)) / 2.

    >>> import jax
    >>> data = sine_task(5, 1000, 100, key=jax.random.key(0))
    >>> data.x_train.shape, data.y_test.shape
    ((5, 1000), (100,))
    """
    _check_sizes(inputs, n_train, n_test)
    x = jax.random.normal(data_half(key), (inputs, n_train + n_test))
    return _split(x, jnp.sin(x.mean(axis=0)), n_train)


def linear_task(inputs: int, n_train: int, n_test: int, *, key: PRNGKey) -> Data:
    """A task for the linear toy (eq. 2): x ~ N(0, I_n), y = vᵀx with v ~ N(0, I/n).

    Inputs have Θ(1) entries, so ‖x‖² = Θ(n), and targets are Θ(1), as the theory asks.

    Args:
        inputs: n.
        n_train: training samples; 1 is the setting of the propositions.
        n_test: test samples.
        key: PRNG key of the inputs and of v.

    >>> import jax
    >>> linear_task(64, 1, 1, key=jax.random.key(0)).x_train.shape
    (64, 1)
    """
    _check_sizes(inputs, n_train, n_test)
    key_x, key_v = jax.random.split(data_half(key))
    x = jax.random.normal(key_x, (inputs, n_train + n_test))
    v = jax.random.normal(key_v, (inputs,)) / jnp.sqrt(inputs)
    return _split(x, v @ x, n_train)


def signs_task(
    inputs: int, n_train: int, n_test: int, *, target: float = 1.0, key: PRNGKey
) -> Data:
    """Targets of one size and random sign: x ~ N(0, I_n), y = ± target, whatever x.

    Args:
        inputs: n.
        n_train: training samples.
        n_test: test samples.
        target: `|y|`.
        key: PRNG key of the inputs and of the signs.

    >>> import jax
    >>> abs(signs_task(64, 3, 1, target=2.0, key=jax.random.key(0)).y_train).tolist()
    [2.0, 2.0, 2.0]
    """
    _check_sizes(inputs, n_train, n_test)
    arguments.finite("target", target)
    key_x, key_y, key_test = jax.random.split(data_half(key), 3)
    key_x_test, key_y_test = jax.random.split(key_test)
    x_train = jax.random.normal(key_x, (inputs, n_train))
    x_test = jax.random.normal(key_x_test, (inputs, n_test))
    y_train = target * jax.random.rademacher(key_y, (n_train,), x_train.dtype)
    y_test = target * jax.random.rademacher(key_y_test, (n_test,), x_test.dtype)
    return Data(x_train, y_train, x_test, y_test)


def objective(data: Data, loss: Loss) -> Objective:
    """The loss of the outputs on [x_train, x_test].

    ===========  =======================  =======================
    loss         L(f)                     as weighted squares
    ===========  =======================  =======================
    "mse"        mean_i (f_i − y_i)²      target y
    "all_pairs"  mean_{i,j} (f_i − y_j)²  target ȳ, offset Var(y)
    ===========  =======================  =======================

    Args:
        data: the samples.
        loss: a name of `LOSSES`, or a function from the data to their `Objective`.

    Raises:
        ValueError: an unknown loss.

    >>> import jax
    >>> data = sine_task(5, 1000, 100, key=jax.random.key(0))
    >>> pairs = objective(data, "all_pairs")
    >>> best_constant = pairs.losses(pairs.target)
    >>> bool(abs(best_constant[0] - data.y_train.var()) < 1e-6)
    True
    """
    if callable(loss):
        return loss(data)
    data = Data(*map(jnp.asarray, data))
    for name in ("y_train", "y_test"):
        x, y = getattr(data, name.replace("y", "x")), getattr(data, name)
        if y.ndim != 1 or not y.size or y.size not in x.shape:
            wanted = f"(N,) for the N samples of an x of shape {x.shape}"
            raise ValueError(f"{name}: must have shape {wanted} (got {y.shape})")
    arguments.one_of("loss", loss, LOSSES)
    return LOSSES[loss](data)


def mse(data: Data) -> Objective:
    """mean_i (f_i − y_i)², over the training and over the test samples."""
    target = jnp.concatenate([data.y_train, data.y_test])
    return Objective(target, _weight(data), jnp.zeros(2))


def all_pairs(data: Data) -> Objective:
    """mean_{i,j} (f_i − y_j)² = mean_i (f_i − ȳ)² + Var(y).

    This project's hypothesis about the published Figure 2: what subtracting a vector (N,) from a
    column (N, 1) computes by broadcasting. Its floor is Var(y): a model that minimises it predicts
    the constant ȳ.
    """
    n_train, n_test = data.y_train.size, data.y_test.size
    target = jnp.concatenate(
        [jnp.full(n_train, data.y_train.mean()), jnp.full(n_test, data.y_test.mean())]
    )
    offset = jnp.stack([data.y_train.var(), data.y_test.var()])
    return Objective(target, _weight(data), offset)


LOSSES: dict[str, Callable[[Data], Objective]] = {"mse": mse, "all_pairs": all_pairs}


def _weight(data: Data) -> Float[Array, "2 N"]:
    n_train, n_test = data.y_train.size, data.y_test.size
    weight = jnp.zeros((2, n_train + n_test))
    return weight.at[0, :n_train].set(1 / n_train).at[1, n_train:].set(1 / n_test)


def _check_sizes(inputs: int, n_train: int, n_test: int) -> None:
    arguments.integer("inputs", inputs)
    arguments.integer("n_train", n_train)
    arguments.integer("n_test", n_test)


def _split(x: Inputs, y: Outputs, n_train: int) -> Data:
    return Data(x[:, :n_train], y[:n_train], x[:, n_train:], y[n_train:])
