"""One rule from a seed to everything random."""

import jax
import numpy as np

from lora_theory.train.keys import seed_key


def test_seeds_have_different_keys_and_each_the_same_again():
    data = [tuple(np.asarray(jax.random.key_data(seed_key(i)))) for i in (*range(100), 7)]
    assert len(set(data)) == 100
    assert data[7] == data[-1]
