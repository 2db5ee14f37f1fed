"""LoRA+ on an NNX model to which qwix has added its factors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import qwix
from flax import nnx

from lora_theory import lora_plus

ETA, RATIO = 1e-4, 16.0
X = jax.random.normal(jax.random.key(0), (8, 5, 10))
Y = jnp.cos(3 * X[..., :6])


class Model(nnx.Module):
    """Attention, a dense layer and an einsum: the three forms that qwix adapts differently."""

    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(
            num_heads=3, in_features=10, qkv_features=12, out_features=8, decode=False, rngs=rngs
        )
        self.dense = nnx.Linear(8, 14, rngs=rngs)
        self.einsum = nnx.Einsum("btd,dnh->btnh", (14, 2, 3), rngs=rngs)

    def __call__(self, x):
        y = self.einsum(jnp.tanh(self.dense(self.attention(x))))
        return y.reshape(*y.shape[:-2], 6)


def adapted(**rule):
    """B starts at random, so that A has a gradient in the first step, too."""
    provider = qwix.LoraProvider(
        module_path=".*", rank=2, alpha=4.0, lora_b_initializer=jax.nn.initializers.normal(), **rule
    )
    return qwix.apply_lora_to_model(Model(nnx.Rngs(0)), provider, X, rngs=nnx.Rngs(1))


def loss_of(model):
    return ((model(X) - Y) ** 2).mean()


@nnx.jit
def step(model, optimizer):
    wrt = nnx.DiffState(0, optimizer.wrt)
    loss, grads = nnx.value_and_grad(loss_of, argnums=wrt)(model)
    return loss, optimizer.update(model, grads)


def train(tx, steps, wrt=nnx.LoRAParam, **rule):
    model = adapted(**rule)
    optimizer = nnx.Optimizer(model, tx, wrt=wrt)
    done = [step(model, optimizer) for _ in range(steps)]
    return model, [float(loss) for loss, _ in done], [updates for _, updates in done]


def largest(updates, suffix):
    found = [u for path, u in nnx.to_flat_state(updates) if path[-1].endswith(suffix)]
    assert len(found) == 6  # Query, key, value and output of attention, dense, einsum.
    return np.array([jnp.abs(u).max() for u in found])


def test_the_first_step_of_b_is_ratio_times_that_of_a():
    _, _, (updates,) = train(lora_plus(ETA, ratio=RATIO), steps=1)
    np.testing.assert_allclose(largest(updates, "_lora_a"), ETA, rtol=2e-3)
    np.testing.assert_allclose(largest(updates, "_lora_b"), RATIO * ETA, rtol=2e-3)


def test_with_one_rate_it_is_not():
    _, _, (updates,) = train(optax.adamw(ETA), steps=1)
    np.testing.assert_allclose(largest(updates, "_lora_b"), ETA, rtol=2e-3)


@pytest.mark.parametrize("rule", [{}, {"weight_qtype": "int8"}], ids=["lora", "qlora"])
def test_the_loss_falls_and_the_base_stays(rule, same_bits):
    model, losses, _ = train(lora_plus(1e-3, ratio=RATIO), steps=40, **rule)
    assert losses[-1] < 0.7 * losses[0]
    frozen = nnx.Not(nnx.LoRAParam)
    same_bits(nnx.state(model, frozen), nnx.state(adapted(**rule), frozen))
    with pytest.raises(AssertionError):
        same_bits(nnx.state(model, nnx.LoRAParam), nnx.state(adapted(**rule), nnx.LoRAParam))


def by_hand(eta_a, eta_b):
    """Two optimizers, each leaf named by hand."""

    def groups(params):
        state = nnx.to_flat_state(params)
        return nnx.from_flat_state([(path, path[-1][-1]) for path, _ in state])

    return optax.multi_transform({"a": optax.adamw(eta_a), "b": optax.adamw(eta_b)}, groups)


def test_it_is_two_optimizers_bit_for_bit(same_bits):
    plus, hand = (
        train(tx, steps=5)[2] for tx in (lora_plus(ETA, ratio=RATIO), by_hand(ETA, RATIO * ETA))
    )
    same_bits(plus, hand)
    with pytest.raises(AssertionError):
        same_bits(plus, train(by_hand(RATIO * ETA, ETA), steps=5)[2])


COMPOSED = {
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), lora_plus(1e-3, ratio=RATIO)),
    "steps": lambda: optax.MultiSteps(lora_plus(1e-3, ratio=RATIO), 2),
    "injected": lambda: optax.inject_hyperparams(lora_plus)(1e-3, ratio=RATIO),
    "schedule": lambda: lora_plus(optax.cosine_decay_schedule(1e-3, 100), ratio=RATIO),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_with_optax(name):
    _, losses, _ = train(COMPOSED[name](), steps=40)
    assert losses[-1] < 0.8 * losses[0]


def factors(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "_lora_" in jax.tree_util.keystr(path), params
    )


def rest(params):
    return jax.tree.map(lambda factor: not factor, factors(params))


def test_masked_over_the_whole_model(same_bits):
    """The mask keeps LoRA+ from the base, whose kernels no rule could label."""
    plus = lora_plus(1e-3, ratio=RATIO)
    tx = optax.chain(optax.masked(plus, factors), optax.masked(optax.set_to_zero(), rest))
    model, losses, _ = train(tx, steps=40, wrt=nnx.Param)
    assert losses[-1] < 0.8 * losses[0]
    frozen = nnx.Not(nnx.LoRAParam)
    same_bits(nnx.state(model, frozen), nnx.state(adapted(), frozen))
    with pytest.raises(ValueError, match="kernel"):
        train(plus, steps=1, wrt=nnx.Param)


def test_the_rate_of_the_last_step_is_in_the_state():
    model = adapted()
    schedule = optax.linear_schedule(ETA, 0.0, 10)
    optimizer = nnx.Optimizer(model, lora_plus(schedule, ratio=RATIO), wrt=nnx.LoRAParam)
    for t in range(3):
        step(model, optimizer)
        rate = optimizer.opt_state.hyperparams["learning_rate"][...]
        assert float(rate) == pytest.approx(float(schedule(t)), rel=1e-6)
    assert isinstance(optimizer.opt_state, tuple)
