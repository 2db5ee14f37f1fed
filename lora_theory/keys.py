"""The one rule from a seed to everything random: a key is folded with what it is for.

Seed i has the key `seed_key(i)`, whatever the width, the rates, the optimizer or the label of what
is run. One key may be given to everything of a problem: this library's tasks draw from its
`data_half`, its models from its `model_half`, its LoRA layers from `layer_key`, and what is drawn
by hand takes `data_key` or `model_key`; no two of these have anything in common. Whoever draws
twice from one of them splits it. (The scalar map, which needs no JAX, draws seed i from NumPy's
`default_rng(i)` by the same rule.)
"""

import jax

from lora_theory.arrays import Array, PRNGKey

# Far from the small numbers by which keys are split or counted.
_BY_HAND, _LAYER = 0x68616E64, 0x6C6F7261


def seed_key(seed: int | Array) -> PRNGKey:
    """The key from which all randomness of a seed comes: key(seed).

    >>> import jax
    >>> bool((jax.random.key_data(seed_key(3)) == jax.random.key_data(jax.random.key(3))).all())
    True
    """
    return jax.random.key(seed)


def data_half(key: PRNGKey) -> PRNGKey:
    """What this library's tasks draw from: the first of a split."""
    return jax.random.split(key)[0]


def model_half(key: PRNGKey) -> PRNGKey:
    """What this library's models draw from: the second of a split."""
    return jax.random.split(key)[1]


def data_key(key: PRNGKey) -> PRNGKey:
    """What data that are drawn by hand take.

    >>> bool(data_key(seed_key(3)) == model_key(seed_key(3)))
    False
    """
    return jax.random.fold_in(data_half(key), _BY_HAND)


def model_key(key: PRNGKey) -> PRNGKey:
    """What weights that are drawn by hand take, or `nnx.Rngs` of a network of one's own."""
    return jax.random.fold_in(model_half(key), _BY_HAND)


def layer_key(key: PRNGKey) -> PRNGKey:
    """What a LoRA layer that is given one key draws from."""
    return jax.random.fold_in(model_half(key), _LAYER)
