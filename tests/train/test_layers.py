"""LoRA layers of both kinds, seen alike: factors, multiplier, and what they read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory import LoRA
from lora_theory.train.layers import inputs, layers, scale_factors, split_factors

KEY = jax.random.key(0)
Z = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 6)), "float32")


class Net(nnx.Module):
    def __init__(self):
        self.blocks = nnx.List([LoRA(6, 5, 2, alpha=8.0, init="both", axis=-1, key=KEY)])
        self.linear = nnx.LoRALinear(5, 4, lora_rank=3, rngs=nnx.Rngs(0))
        self.own = nnx.LoRA(4, 2, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.own(self.linear(self.blocks[0](x)))


def test_layers_have_the_papers_shapes():
    found = layers(Net())
    shapes = {path: (layer.a.shape, layer.b.shape, layer.scale) for path, layer in found.items()}
    assert shapes == {
        ("blocks", 0): ((2, 6), (5, 2), 4.0),
        ("linear", "lora"): ((3, 5), (4, 3), 1.0),
        ("own",): ((2, 4), (3, 2), 1.0),
    }


def test_a_layers_factors_are_what_it_computes_with():
    net = Net()
    net.own.lora_b[...] = jnp.ones((2, 3))
    for module, path in ((net.blocks[0], ("blocks", 0)), (net.own, ("own",))):
        layer = layers(net)[path]
        z = jax.random.normal(KEY, (layer.a.shape[1],))
        expected = layer.scale * layer.b @ (layer.a @ z)
        np.testing.assert_allclose(module(z), expected, rtol=1e-5, atol=1e-6)


def test_inputs_are_the_columns_that_each_layer_reads_and_the_model_is_as_before():
    net = Net()
    before = nnx.graphdef(net)
    read = inputs(net, Z)
    hidden = net.blocks[0](Z)
    np.testing.assert_allclose(read["blocks", 0], Z.reshape(6, 6).T)
    np.testing.assert_allclose(read["linear", "lora"], hidden.reshape(6, 5).T, rtol=1e-5)
    np.testing.assert_allclose(read["own",], net.linear(hidden).reshape(6, 4).T, rtol=1e-5)
    assert nnx.graphdef(net) == before
    assert type(net.own) is nnx.LoRA


def test_all_factors_are_split_from_the_rest():
    _, a, b, rest = split_factors(Net())
    shapes = [sorted(v.shape for v in jax.tree.leaves(part)) for part in (a, b, rest)]
    assert shapes == [[(2, 6), (4, 2), (5, 3)], [(2, 3), (3, 4), (5, 2)], [(4,), (5, 4)]]


@pytest.mark.parametrize(("by_a", "by_b"), [(0.0, 2.0), (3.0, 1.0)])
def test_factors_are_scaled_in_every_layer(by_a, by_b):
    net, other = Net(), Net()
    scale_factors(other, by_a, by_b)
    for path, layer in layers(net).items():
        np.testing.assert_allclose(layers(other)[path].a, by_a * layer.a, rtol=1e-6)
        np.testing.assert_allclose(layers(other)[path].b, by_b * layer.b, rtol=1e-6)


def test_what_layers_share_is_scaled_once():
    net = Net()
    net.tied = nnx.LoRA(4, 2, 3, rngs=nnx.Rngs(2))
    net.tied.lora_a = net.own.lora_a
    before = np.asarray(net.own.lora_a[...])
    scale_factors(net, 2.0, 1.0)
    np.testing.assert_array_equal(net.own.lora_a[...], 2 * before)


class Scaled(nnx.LoRA):
    """α/r in a call of its own: its Z_B is not that of its factors."""

    def __call__(self, x):
        return 16 * super().__call__(x)


class Shifted(LoRA):
    def __call__(self, z):
        return super().__call__(z) + 1


@pytest.mark.parametrize(
    "make", [lambda: Scaled(4, 2, 3, rngs=nnx.Rngs(1)), lambda: Shifted(4, 3, 2, key=KEY)]
)
def test_layers_that_compute_otherwise_are_refused(make):
    net = Net()
    net.own = make()
    with pytest.raises(ValueError, match=r"LoRA layer own must compute as LoRA does .*of its own"):
        layers(net)
