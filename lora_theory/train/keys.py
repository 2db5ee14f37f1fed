"""The one rule from a seed to everything random.

Seed i has the key `seed_key(i)`, whatever the width, the rates, the optimizer or the label of what
is run; what draws from it splits it, and never uses a key twice. Data and model of a problem take
the two halves of its key. (The scalar map, which needs no JAX, draws seed i from NumPy's
`default_rng(i)` by the same rule.)
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
