"""The one rule from a seed to everything random."""

import jax

from lora_theory.arrays import PRNGKey


def seed_key(seed: int) -> PRNGKey:
    """The key from which all randomness of a seed comes: key(seed).

    >>> import jax
    >>> bool((jax.random.key_data(seed_key(3)) == jax.random.key_data(jax.random.key(3))).all())
    True
    """
    return jax.random.key(seed)
