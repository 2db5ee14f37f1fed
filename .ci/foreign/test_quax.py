"""LoRA+ on quax's example, where `b` meets the input: the letters are the other way round."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest
import quax
from quax.examples import lora

from lora_theory import lora_plus

ETA, RATIO = 1e-3, 16.0
X = jax.random.normal(jax.random.key(0), (16, 10))
Y = jnp.sin(X[:, :6])


def model_and_factors():
    """The model, and which of its leaves are factors."""
    model = eqx.nn.MLP(10, 6, 8, 1, key=jax.random.key(1))
    model = lora.loraify(model, rank=2, key=jax.random.key(2))
    factors = jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "name", None) in ("a", "b"), model
    )
    return model, factors


def train(tx, steps):
    model, factors = model_and_factors()
    trained, rest = eqx.partition(model, factors)

    def loss_of(trained):
        outputs = quax.quaxify(lambda model: jax.vmap(model)(X))(eqx.combine(trained, rest))
        return ((outputs - Y) ** 2).mean()

    @jax.jit
    def step(trained, state):
        loss, grads = jax.value_and_grad(loss_of)(trained)
        updates, state = tx.update(grads, state, trained)
        return optax.apply_updates(trained, updates), state, loss, updates

    state, losses = tx.init(trained), []
    for _ in range(steps):
        trained, state, loss, updates = step(trained, state)
        losses.append(float(loss))
    return losses, updates


def test_a_gets_eta_b():
    _, updates = train(lora_plus(ETA, ratio=RATIO, base=optax.adam, labels="quax"), 2)
    _, plain = train(optax.adam(ETA), 2)
    for layer, other in zip(updates.layers, plain.layers, strict=True):
        assert float(jnp.abs(layer.weight.b).max()) <= 1.01 * float(jnp.abs(other.weight.b).max())
        assert float(jnp.abs(layer.weight.a).max()) > 4 * float(jnp.abs(other.weight.a).max())


def test_the_loss_falls():
    losses, _ = train(lora_plus(ETA, ratio=RATIO, labels="quax"), 60)
    assert losses[-1] < 0.8 * losses[0]


def test_letters_alone_are_refused():
    model, factors = model_and_factors()
    with pytest.raises(ValueError, match="no label"):
        lora_plus(ETA, ratio=RATIO).init(eqx.filter(model, factors))
