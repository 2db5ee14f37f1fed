"""The one rule from a seed to everything random: a key is folded with what it is for.

Seed i has the key `seed_key(i)`, whatever the width, the rates, the optimizer or the label of what
is run. Every task draws from the half `data_key` of the key that it is given, every model and LoRA
layer from the half `model_key`: so data and model may be given one key, and nothing of the one is
anything of the other. Whoever draws by hand splits a key, and never uses one twice. (The scalar
map, which needs no JAX, draws seed i from NumPy's `default_rng(i)` by the same rule.)
"""

import jax

from lora_theory.arrays import Array, PRNGKey


def seed_key(seed: int | Array) -> PRNGKey:
    """The key from which all randomness of a seed comes: key(seed).

    >>> import jax
    >>> bool((jax.random.key_data(seed_key(3)) == jax.random.key_data(jax.random.key(3))).all())
    True
    """
    return jax.random.key(seed)


def data_key(key: PRNGKey) -> PRNGKey:
    """The half of a key from which data are drawn: the first of a split.

    >>> bool(data_key(seed_key(3)) == model_key(seed_key(3)))
    False
    """
    return jax.random.split(key)[0]


def model_key(key: PRNGKey) -> PRNGKey:
    """The half of a key from which weights are drawn: the second of a split."""
    return jax.random.split(key)[1]
