"""The readout and its hand-written gradients against autodiff."""

import functools

import jax
import numpy as np
import pytest

from lora_theory.models.relu_readout import relu_readout


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_readout_gradients_equal_autodiff_through_relu(rank):
    keys = jax.random.split(jax.random.key(2), 4)
    w, g = jax.random.normal(keys[0], (20,)), jax.random.normal(keys[3], (30,))
    b, h = jax.random.normal(keys[1], (20, rank)), jax.random.normal(keys[2], (rank, 30))

    def plain(w, b, h):
        return w @ jax.nn.relu(b @ h)

    @functools.partial(jax.jit, static_argnums=0)
    def outputs_and_gradients(function, *arguments):
        f, back = jax.vjp(function, *arguments)
        return f, back(g)

    f, gradients = outputs_and_gradients(relu_readout, w, b, h)
    f_plain, gradients_plain = outputs_and_gradients(plain, w, b, h)
    np.testing.assert_allclose(f, f_plain, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradients, gradients_plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
