"""LoRA+ on the lists of arrays of Keras's stateless API, with JAX below."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from lora_theory import keras_labels, lora_plus

ETA, RATIO, ETA_EMBEDDING = 1e-3, 16.0, 1e-5
X = jax.random.randint(jax.random.key(0), (8, 7), 0, 20)
Y = jnp.cos(X[:, :1] * jnp.arange(1.0, 7.0))
GROUPS = {
    "embed/lora_embeddings_a": "embedding",
    "embed/lora_embeddings_b": "embedding",
    "query/bias": "no_decay",  # Of shape (heads, head).
    "query/lora_kernel_a": "A",
    "query/lora_kernel_b": "B",
    "norm/gamma": "no_decay",
    "norm/beta": "no_decay",
    "dense/bias": "no_decay",
    "dense/lora_kernel_a": "A",
    "dense/lora_kernel_b": "B",
}


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((7,), dtype="int32")
    x = keras.layers.Embedding(20, 10, name="embed")(inputs)
    query = keras.layers.EinsumDense("btd,dnh->btnh", (None, 3, 4), bias_axes="nh", name="query")
    x = keras.layers.Reshape((7, 12))(query(x))
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(6, name="dense")(x))
    for name in ("embed", "query", "dense"):
        layer = model.get_layer(name)
        # B starts at random, so that A has a gradient in the first step, too.
        layer.enable_lora(2, b_initializer="he_uniform")
    return model


def values(variables):
    return [variable.value for variable in variables]


def trainer(model, tx):
    """A compiled step on the lists of the stateless API."""
    frozen = values(model.non_trainable_variables)

    def loss_of(trained):
        predicted, _ = model.stateless_call(trained, frozen, X)
        return ((predicted - Y) ** 2).mean()

    @jax.jit
    def step(trained, state):
        loss, grads = jax.value_and_grad(loss_of)(trained)
        updates, state = tx.update(grads, state, trained)
        return optax.apply_updates(trained, updates), state, loss, updates

    return step


def test_every_variable_has_its_group(model):
    paths = [variable.path for variable in model.trainable_variables]
    assert dict(zip(paths, keras_labels(model.trainable_variables), strict=True)) == GROUPS


def test_a_kernel_is_refused_by_its_path(model):
    with pytest.raises(ValueError, match=r"query\.kernel|embed\.embeddings"):
        keras_labels(model.variables)


def test_arrays_without_paths_are_refused(model):
    with pytest.raises(ValueError, match="no label"):
        lora_plus(ETA, ratio=RATIO).init(values(model.trainable_variables))


def test_it_trains(model, same_bits):
    labels = keras_labels(model.trainable_variables)
    tx = lora_plus(ETA, ratio=RATIO, eta_embedding=ETA_EMBEDDING, labels=labels)
    before = values(model.non_trainable_variables)
    trained = values(model.trainable_variables)
    state, step, losses = tx.init(trained), trainer(model, tx), []
    for t in range(40):
        trained, state, loss, updates = step(trained, state)
        losses.append(float(loss))
        if t == 0:
            rates = {"A": ETA, "B": RATIO * ETA, "no_decay": RATIO * ETA}
            rates["embedding"] = ETA_EMBEDDING
            sizes = [float(jnp.abs(update).max()) for update in updates]
            expected = [rates[label] for label in labels]
            np.testing.assert_allclose(sizes, expected, rtol=2e-3)
    assert losses[-1] < 0.7 * losses[0]

    for variable, value in zip(model.trainable_variables, trained, strict=True):
        variable.assign(value)
    assert float(((model(X) - Y) ** 2).mean()) == pytest.approx(losses[-1], rel=0.1)
    same_bits(values(model.non_trainable_variables), before)


def test_labels_in_another_order_train_otherwise(model):
    labels = keras_labels(model.trainable_variables)
    sizes = []
    for given in (labels, labels[::-1]):
        tx = lora_plus(ETA, ratio=RATIO, labels=given)
        trained = values(model.trainable_variables)
        *_, updates = trainer(model, tx)(trained, tx.init(trained))
        sizes.append([float(jnp.abs(update).max()) for update in updates])
    assert not np.allclose(*sizes, rtol=1e-2)
