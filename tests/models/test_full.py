"""A toy whose layer trains as a whole: the function of the toy at the start, and all of W moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory.models.full import FullLayer
from lora_theory.models.toys import FeatureLayerToy, TwoLayerToy

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(4), (5, 6))
TOYS = {
    "zero": lambda: TwoLayerToy(5, 16, 2, key=KEY),
    "random": lambda: TwoLayerToy(5, 16, 2, weight="random", key=KEY),
    "scaled": lambda: TwoLayerToy(5, 16, 2, alpha=8.0, key=KEY),
    "layer": lambda: FeatureLayerToy(5, 16, 2, init="both", key=KEY),
    "layer, B = 0": lambda: FeatureLayerToy(5, 16, 2, init="A", key=KEY),
}


@pytest.mark.parametrize("name", TOYS)
def test_it_starts_as_the_toy_that_it_is_made_of(name):
    toy = TOYS[name]()
    np.testing.assert_allclose(FullLayer(toy)(X), toy(X), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["zero", "layer"])
def test_it_is_the_formula(name):
    toy = TOYS[name]()
    full = FullLayer(toy)
    w_in, w_out, weight = (np.asarray(at[...]) for at in (toy.w_in, toy.w_out, full.weight))
    hidden = weight @ np.maximum(w_in @ X, 0)
    expected = w_out @ (np.maximum(hidden, 0) if name == "zero" else hidden)
    np.testing.assert_allclose(full(X), expected, rtol=1e-4, atol=1e-6)


def test_the_whole_weight_is_trained_and_nothing_else():
    full = FullLayer(TOYS["layer, B = 0"]())
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(full, nnx.Param))]
    assert paths == [("weight",)]
    gradient = nnx.grad(lambda model: jnp.sum(model(X)))(full)
    assert np.linalg.matrix_rank(np.asarray(gradient["weight"][...])) == 1
    assert (np.asarray(gradient["weight"][...]) != 0).any(axis=1).all()
