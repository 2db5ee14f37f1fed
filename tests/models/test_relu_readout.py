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


MIXED = [
    ("float32", "float32", "float64", "float64"),  # A float32 model on data of double precision.
    ("float32", "bfloat16", "float32", "bfloat16"),  # Factors of half precision.
]


@pytest.mark.parametrize("types", MIXED)
@pytest.mark.parametrize("with_offset", [False, True])
def test_a_gradient_has_the_type_of_its_argument(types, with_offset):
    with jax.enable_x64(True):
        shapes = [(6,), (6, 2), (2, 5), (6, 5)][: 4 if with_offset else 3]
        arguments = [jax.ShapeDtypeStruct(*at) for at in zip(shapes, types, strict=False)]
        every = tuple(range(len(arguments)))
        loss = jax.grad(lambda *at: relu_readout(*at).sum(), argnums=every)
        assert [g.dtype for g in jax.eval_shape(loss, *arguments)] == list(types[: len(every)])


def test_derivatives_forward_and_twice_are_those_through_relu():
    keys = jax.random.split(jax.random.key(4), 8)
    shapes = [(6,), (6, 2), (2, 5), (6, 5)]
    at, to = (
        [jax.random.normal(key, shape) for key, shape in zip(some, shapes, strict=True)]
        for some in (keys[:4], keys[4:])
    )

    def twice(function):  # The derivative along `to`, and its own gradient.
        def along(*at):
            return jax.jvp(function, at, tuple(to))[1].sum()

        return jax.jit(jax.value_and_grad(along, argnums=(0, 1, 2, 3)))(*at)

    plain = twice(lambda w, b, h, c: w @ jax.nn.relu(b @ h + c))
    for ours, theirs in zip(
        jax.tree.leaves(twice(relu_readout)), jax.tree.leaves(plain), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_nothing_as_large_as_the_gate_is_kept_beside_it():
    w, b, h = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((60,), (60, 2), (2, 500)))
    for kept in (
        lambda w, b, h: jax.vjp(relu_readout, w, b, h)[1],
        lambda w, b, h: jax.vjp(functools.partial(relu_readout, w), b, h)[1],
    ):
        shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(kept, w, b, h))]
        assert shapes.count((60, 500)) == 1
