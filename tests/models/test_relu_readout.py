"""The readout and its hand-written gradients against autodiff."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_theory.models.relu_readout import relu_readout


@pytest.mark.parametrize("with_offset", [False, True])
@pytest.mark.parametrize("rank", [1, 4, 9])
def test_readout_gradients_equal_autodiff_through_relu(rank, with_offset):
    keys = jax.random.split(jax.random.key(2), 5)
    w, g = jax.random.normal(keys[0], (20,)), jax.random.normal(keys[3], (30,))
    b, h = jax.random.normal(keys[1], (20, rank)), jax.random.normal(keys[2], (rank, 30))
    arguments = (w, b, h, jax.random.normal(keys[4], (20, 30)))[: 4 if with_offset else 3]

    def plain(w, b, h, offset=0.0):
        return w @ jax.nn.relu(b @ h + offset)

    @functools.partial(jax.jit, static_argnums=0)
    def outputs_and_gradients(function, *arguments):
        f, back = jax.vjp(function, *arguments)
        return f, back(g)

    f, gradients = outputs_and_gradients(relu_readout, *arguments)
    f_plain, gradients_plain = outputs_and_gradients(plain, *arguments)
    np.testing.assert_allclose(f, f_plain, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradients, gradients_plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_gate_is_that_of_the_whole_preactivation():
    """Control: with C beside the activation instead of inside, the same numbers give another f."""
    w, b, h = jnp.array([1.0, 1.0]), jnp.array([[1.0], [-1.0]]), jnp.array([[2.0]])
    offset = jnp.array([[-3.0], [5.0]])  # C + BH = (−1, 3): both gates turn.
    assert relu_readout(w, b, h, offset).tolist() == [3.0]
    assert (relu_readout(w, b, h) + w @ offset).tolist() == [4.0]
