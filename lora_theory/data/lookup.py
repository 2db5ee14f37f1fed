"""Sequences to be looked up in: the last token names a place, and the answer is what stands there.

The task draws from the half of its key that is for data (`keys.data_half`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lora_theory import arguments
from lora_theory.arrays import Array, Int, PRNGKey
from lora_theory.keys import data_half


class Sequences(NamedTuple):
    """Training and test sequences, samples first, and the answer to each."""

    x_train: Int[Array, "N L"]
    y_train: Int[Array, "N"]
    x_test: Int[Array, "N_test L"]
    y_test: Int[Array, "N_test"]


def lookup_task(letters: int, places: int, n_train: int, n_test: int, *, key: PRNGKey) -> Sequences:
    """Random letters x_0 … x_{P−1} of V, then a token V + p that names a place; y = x_p.

    Letters and places are uniform and independent. Without looking at one place rather than
    another, the best answer is the most frequent letter: right in E[max_v #{i: x_i = v}] / P of
    the sequences (0.19 for V = P = 16), and in 1/V by guessing.

    Args:
        letters: V.
        places: P; a sequence has L = P + 1 tokens, from 0 to V + P − 1.
        n_train: training sequences.
        n_test: test sequences, drawn from the same law.
        key: PRNG key of the sequences.

    >>> import jax
    >>> data = lookup_task(16, 12, 100, 10, key=jax.random.key(0))
    >>> data.x_train.shape, data.y_test.shape
    ((100, 13), (10,))
    """
    letters = arguments.integer("letters", letters)
    places = arguments.integer("places", places)
    n_train = arguments.integer("n_train", n_train)
    total = n_train + arguments.integer("n_test", n_test)
    key_letters, key_place = jax.random.split(data_half(key))
    x = jax.random.randint(key_letters, (total, places), 0, letters)
    p = jax.random.randint(key_place, (total, 1), 0, places)
    y = jnp.take_along_axis(x, p, axis=1)[:, 0]
    x = jnp.concatenate([x, letters + p], axis=1)
    return Sequences(x[:n_train], y[:n_train], x[n_train:], y[n_train:])
