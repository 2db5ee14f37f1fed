"""δ¹, δ², δ³ by moving one factor at a time, of this library's layers and of Flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory import LoRA
from lora_theory.adapters.layer import EmbeddingFactor
from lora_theory.train.contributions import deltas


class Net(nnx.Module):
    """y = (B₂ A₂ + W) tanh((B₁ A₁) x): any of the layers may be of either kind."""

    def __init__(self, kinds, seed):
        keys = jax.random.split(jax.random.key(seed), 2)
        self.layers = nnx.List([make(kind, key) for kind, key in zip(kinds, keys, strict=True)])

    def __call__(self, x):
        return self.layers[1](jnp.tanh(self.layers[0](x))).sum(axis=-1)


def make(kind, key):
    if kind == "ours":
        return LoRA(6, 6, 2, init="both", axis=-1, key=key)
    if kind == "linear":
        layer = nnx.LoRALinear(6, 6, lora_rank=2, rngs=nnx.Rngs(0))
        layer.lora.lora_b[...] = jax.random.normal(key, (2, 6))
        layer.lora.lora_a[...] = jax.random.normal(jax.random.fold_in(key, 1), (6, 2))
        return layer
    layer = nnx.LoRA(6, 2, 6, rngs=nnx.Rngs(key))
    layer.lora_b[...] = jax.random.normal(key, (2, 6))
    return layer


X = jnp.asarray(np.random.default_rng(7).normal(size=(5, 6)), "float32")
KINDS = [(one, two) for one in ("ours", "flax", "linear") for two in ("ours", "flax")]


def moved(before, after, side):
    """`before` with one side's factors, or both, those of `after`: layer by layer, by hand."""
    model = nnx.clone(before)
    for old, new in zip(model.layers, after.layers, strict=True):
        old, new = getattr(old, "lora", old), getattr(new, "lora", new)
        if "a" in side:
            old.lora_a[...] = new.lora_a[...]
        if "b" in side:
            old.lora_b[...] = new.lora_b[...]
    return np.asarray(model(X))


@pytest.mark.parametrize("kinds", KINDS)
def test_deltas_are_those_of_moving_factors_by_hand(kinds):
    before, after = Net(kinds, 0), Net(kinds, 1)
    f, one, two, both = (moved(before, after, side) for side in ("", "a", "b", "ab"))
    found = deltas(before, after, X)
    np.testing.assert_allclose(found.delta1, one - f, atol=1e-5)
    np.testing.assert_allclose(found.delta2, two - f, atol=1e-5)
    np.testing.assert_allclose(found.delta3, both - one - two + f, atol=1e-5)
    assert np.abs(found.delta3).max() > 1e-2  # Control: without the third they do not add up.


@pytest.mark.parametrize("kinds", [("ours", "flax")])
def test_a_factor_that_does_not_move_contributes_exactly_nothing(kinds):
    before, after = Net(kinds, 0), Net(kinds, 1)
    for old, new in zip(before.layers, after.layers, strict=True):
        new.lora_a[...] = old.lora_a[...]
    found = deltas(before, after, X)
    assert (np.asarray(found.delta1) == 0).all()
    assert (np.asarray(found.delta3) == 0).all()
    assert (np.asarray(found.delta2) != 0).all()


class Embedded(nnx.Module):
    def __init__(self):
        self.lora = LoRA(6, 6, 2, init="both", axis=-1, key=jax.random.key(0))
        self.table = EmbeddingFactor(jnp.ones((6, 6)))

    def __call__(self, x):
        return self.lora(x @ self.table[...])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nnx.Linear(6, 6, rngs=nnx.Rngs(0)), "before: must have a LoRA layer"),
        (Embedded, "model: table must be A or B of a LoRA layer .* .got EmbeddingFactor"),
    ],
)
def test_what_has_no_factors_or_others_besides_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        deltas(model(), model(), X)


class Fourfold(Net):
    def __call__(self, x):
        return (super().__call__(x),) * 4


def test_outputs_that_are_several_arrays_are_refused():
    model = Fourfold(("ours", "ours"), 0)
    with pytest.raises(ValueError, match=r"before: must give one array of outputs .got tuple"):
        deltas(model, model, X)


def test_factors_of_another_rank_are_refused():
    one, other = Net(("ours", "ours"), 0), Net(("ours", "ours"), 1)
    other.layers[0] = LoRA(6, 6, 1, init="both", axis=-1, key=jax.random.key(3))
    with pytest.raises(ValueError, match="after: must have factors of the shapes"):
        deltas(one, other, X)
