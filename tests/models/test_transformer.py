"""The transformer against plain NumPy, head by head and token by token."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory.adapters.layer import Frozen
from lora_theory.models.transformer import Attention, Transformer


def float64(variable):
    return np.asarray(variable[...], np.float64)


def filled(make):
    """A module of which every leaf is noise, B and the scales of norms too; nothing is compiled."""
    model, rng = nnx.eval_shape(make), np.random.default_rng(0)
    for _, leaf in nnx.to_flat_state(nnx.state(model)):
        shape = leaf.shape
        noise = rng.normal(size=shape) / np.sqrt(shape[-1])
        leaf.set_value(jnp.asarray(noise, jnp.float32))
    return model


called = nnx.jit(lambda model, x: model(x))


def adapted(layer, x):
    """(W* + B A) x, of a token."""
    return (float64(layer.weight) + float64(layer.lora_b) @ float64(layer.lora_a)) @ x


def attended(layer, x, power=0.5):
    """Attention over the tokens x (L, n)."""
    length, width = x.shape
    size = width // layer.heads
    q, v = (np.array([adapted(at, token) for token in x]) for at in (layer.query, layer.value))
    k = x @ float64(layer.key.kernel)
    read = np.zeros((length, width))
    for h in range(layer.heads):
        mine = slice(h * size, (h + 1) * size)
        for i in range(length):
            weights = np.exp([q[i, mine] @ k[j, mine] / size**power for j in range(length)])
            for j in range(length):
                read[i, mine] += weights[j] / weights.sum() * v[j, mine]
    return read @ float64(layer.out.kernel)


@functools.cache
def attention():
    layer = filled(lambda: Attention(12, 3, 2, key=jax.random.key(0)))
    return layer, np.asarray(jax.random.normal(jax.random.key(1), (2, 5, 12)))


def test_attention_is_the_formula():
    layer, x = attention()
    np.testing.assert_allclose(
        called(layer, jnp.asarray(x)), [attended(layer, at) for at in x], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("wrong", [
    lambda layer, x: attended(layer, x, power=1.0),  # d_h in place of √d_h
    lambda layer, x: attended(layer, x[::-1])[::-1][[1, 0, 2, 3, 4]],  # another order of tokens
    lambda layer, x: x @ float64(layer.out.kernel),  # no attention
])  # fmt: skip
def test_other_formulas_are_not_attention(wrong):
    layer, x = attention()
    assert np.abs(called(layer, jnp.asarray(x))[0] - wrong(layer, x[0])).max() > 1e-2


def normed(layer, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return centred / spread * float64(layer.scale) + float64(layer.bias)


def test_the_transformer_is_the_formula():
    model = filled(lambda: small(blocks=2))
    tokens = jax.random.randint(jax.random.key(1), (3, 5), 0, 7)
    for row, logits in zip(np.asarray(tokens), called(model, tokens), strict=True):
        x = float64(model.embed.embedding)[row] + float64(model.place.embedding)
        for block in model.blocks:
            x = x + attended(block.attention, normed(block.norms[0], x))
            hidden = np.maximum(normed(block.norms[1], x) @ float64(block.up.kernel), 0)
            x = x + hidden @ float64(block.down.kernel)
        expected = normed(model.norm, x[-1]) @ float64(model.head.kernel)
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
        first = normed(model.norm, x[0]) @ float64(model.head.kernel)  # Control: another token.
        assert np.abs(logits - first).max() > 1e-2


def small(blocks=1, seed=0):
    sizes = {"width": 12, "heads": 3, "blocks": blocks, "rank": 2}
    return Transformer(7, 5, 4, **sizes, key=jax.random.key(seed))


@nnx.jit  # Draw by draw it would compile for seconds.
def fresh():
    return small()


def test_adapters_start_at_the_frozen_weights():
    layer = fresh().blocks[0].attention
    for adapter in (layer.query, layer.value):
        np.testing.assert_array_equal(adapter.merged(), adapter.weight[...])
        assert isinstance(adapter.weight, Frozen)
        assert float(jnp.abs(adapter.lora_a[...]).min()) > 0


def test_no_two_weights_are_the_same_draw():
    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(nnx.state(fresh()))]
    drawn = [leaf for leaf in leaves if np.unique(leaf).size > 2]
    assert len(drawn) == 3 + 2 * 2 + 2 + 2  # Embeddings and head; W* and A, K, out, MLP.
    firsts = {float(leaf[0] / np.abs(leaf).max()) for leaf in drawn}
    assert len(firsts) == len(drawn)


@pytest.mark.parametrize("tokens", [jnp.zeros((3, 4), int), jnp.zeros((3, 6), int)])
def test_sequences_of_another_length_are_refused(tokens):
    with pytest.raises(ValueError, match="tokens: must be sequences"):
        fresh()(tokens)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match=r"heads: must divide the width 12 \(got 5\)"):
        Transformer(7, 5, 4, width=12, heads=5, blocks=1, rank=2, key=jax.random.key(0))
