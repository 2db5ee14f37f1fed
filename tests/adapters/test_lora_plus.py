"""LoRA+ against the plain base, the official grouping, and its refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.models.toys import TwoLayerToy

BASES = {"gd": optax.sgd, "sign": optax.sign_sgd, "adam": optax.adam, "adamw": optax.adamw}
PARAMS = {
    name: jnp.asarray(np.random.default_rng(k).normal(size=shape), "float32")
    for k, (name, shape) in enumerate({"lora_a": (3, 8), "lora_b": (8, 3), "bias": 8}.items())
}


def train(tx, params, steps=5):
    """Updates of `steps` steps on a fixed sequence of gradients."""
    state, history = tx.init(params), []
    update = jax.jit(tx.update)
    for t in range(steps):
        grads = jax.tree.map(lambda p, t=t: jnp.cos(3 * p + t), params)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        history.append(updates)
    return history, state


def assert_same_bits(left, right):
    for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("rate", [1e-4, 0.3, 2.0])
def test_ratio_one_is_the_base_bit_for_bit(base, rate):
    # A base with decay decays biases, too; LoRA+ does so only where labels say it.
    labels = {"lora_a": "A", "lora_b": "B", "bias": "B"} if base is optax.adamw else None
    for rates in ({"ratio": 1.0}, {"eta_b": rate}):
        tx = lora_plus(rate, **rates, base=base, labels=labels)
        assert_same_bits(train(tx, PARAMS)[0], train(base(rate), PARAMS)[0])


def test_ratio_two_is_not_the_base():
    plus, plain = (
        train(tx, PARAMS)[0] for tx in (lora_plus(0.1, ratio=2.0, base=optax.sgd), optax.sgd(0.1))
    )
    with pytest.raises(AssertionError):
        assert_same_bits(plus, plain)


@pytest.mark.parametrize("base", [optax.sgd, optax.sign_sgd])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0, 16.0, 2.0**20])  # Powers of 2 scale exactly.
def test_updates_of_b_are_exactly_ratio_times_the_base(base, ratio):
    grads = jax.tree.map(jnp.cos, PARAMS)
    plain = base(0.125)
    plus = lora_plus(0.125, ratio=ratio, base=base)
    expected, _ = plain.update(grads, plain.init(PARAMS), PARAMS)
    updates, _ = plus.update(grads, plus.init(PARAMS), PARAMS)
    assert_same_bits(updates["lora_a"], expected["lora_a"])
    for name in ("lora_b", "bias"):
        assert_same_bits(updates[name], ratio * expected[name])


@pytest.mark.parametrize("ratio", [3.0, 16.0])
def test_updates_of_b_under_adam_are_ratio_times_the_base(ratio):
    plain, plus = (
        train(tx, PARAMS, steps=1)[0][0]
        for tx in (optax.adam(0.1), lora_plus(0.1, ratio=ratio, base=optax.adam))
    )
    for name, factor in (("lora_a", 1.0), ("lora_b", ratio), ("bias", ratio)):
        # Adam's bias correction is compiled once a group and may round differently.
        np.testing.assert_allclose(plus[name], factor * plain[name], rtol=3e-7)


def test_two_rates_and_a_ratio_are_the_same():
    left = train(lora_plus(0.1, 0.8, base=optax.adam), PARAMS)[0]
    right = train(lora_plus(0.1, ratio=8.0, base=optax.adam), PARAMS)[0]
    assert_same_bits(left, right)


def test_no_weight_decay_on_one_dimensional_parameters():
    base = functools.partial(optax.adamw, weight_decay=0.5)
    updates = train(lora_plus(0.1, 0.1, base=base), PARAMS)[0]
    decayed, free = train(base(0.1), PARAMS)[0], train(optax.adam(0.1), PARAMS)[0]
    for name in ("lora_a", "lora_b"):
        np.testing.assert_allclose(updates[0][name], decayed[0][name], rtol=1e-6)
    np.testing.assert_allclose(updates[0]["bias"], free[0]["bias"], rtol=1e-6)
    assert np.abs(updates[0]["bias"] - decayed[0]["bias"]).max() > 1e-3


def test_frozen_leaves_get_no_update_and_no_state():
    params = PARAMS | {"kernel": jnp.ones((8, 8))}
    labels = {"lora_a": "A", "lora_b": "B", "bias": "no_decay", "kernel": "frozen"}
    tx = lora_plus(0.1, 0.2, base=optax.adam, labels=labels)
    history, state = train(tx, params)
    assert all((updates["kernel"] == 0).all() for updates in history)
    assert (8, 8) not in {leaf.shape for leaf in jax.tree.leaves(state)}
    assert any((updates["lora_a"] != 0).any() for updates in history)


@pytest.mark.parametrize("rates", [{}, {"eta_b": 0.1, "ratio": 2.0}])
def test_one_of_rate_and_ratio(rates):
    with pytest.raises(ValueError, match="eta_b, ratio: must be one of the two"):
        lora_plus(0.1, **rates)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["eta_a", "eta_b", "eta_embedding"])
def test_senseless_rates_are_refused(bad, field):
    rates = {"eta_a": 0.1, "eta_b": 0.1, "eta_embedding": 0.1} | {field: bad}
    with pytest.raises(ValueError, match=f"{field}: must be"):
        lora_plus(**rates)


def quadratic(model, x):
    return (model(x) ** 2).mean() + (model(x) - 1.0).mean()


AS_SHIPPED = {
    "LoRA": lambda: nnx.LoRA(5, 2, 3, rngs=nnx.Rngs(0)),
    "LoRALinear": lambda: nnx.LoRALinear(5, 3, lora_rank=2, rngs=nnx.Rngs(0)),
    "Sequential": lambda: nnx.Sequential(
        nnx.LoRALinear(5, 4, lora_rank=2, rngs=nnx.Rngs(0)),
        nnx.LoRALinear(4, 3, lora_rank=2, rngs=nnx.Rngs(1)),
    ),
}


@pytest.mark.parametrize("name", AS_SHIPPED)
@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_layers_as_flax_ships_them_train_in_one_line(name, base):
    model = AS_SHIPPED[name]()
    optimizer = nnx.Optimizer(model, lora_plus(0.01, ratio=4.0, base=base), wrt=nnx.LoRAParam)
    x = jnp.ones((7, 5))
    kernels = jax.tree.map(jnp.copy, nnx.state(model, nnx.Not(nnx.LoRAParam)))

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(quadratic, argnums=nnx.DiffState(0, nnx.LoRAParam))(
            model, x
        )
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert_same_bits(nnx.state(model, nnx.Not(nnx.LoRAParam)), kernels)


def test_rates_are_traceable():
    """One compilation serves a whole grid of rates."""
    compiled = 0

    @jax.jit
    def first_update(eta_a, eta_b):
        nonlocal compiled
        compiled += 1
        tx = lora_plus(eta_a, eta_b, base=optax.adam)
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0]

    for eta in (1e-3, 1e-2, 1e-1):
        updates = first_update(eta, 2 * eta)
        assert float(jnp.abs(updates["lora_a"]).max()) == pytest.approx(eta, rel=1e-3)
    assert compiled == 1


def test_schedules():
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    history = train(lora_plus(schedule, ratio=2.0, base=optax.sgd), PARAMS)[0]
    plain = train(lora_plus(1.0, 2.0, base=optax.sgd), PARAMS, steps=1)[0]
    assert_same_bits(history[0], plain[0])
    assert (history[4]["lora_a"] == 0).all()


def test_the_toy_model_trains_only_its_factors():
    model = TwoLayerToy(5, 16, 2, key=jax.random.key(0))
    labels = dict(nnx.to_flat_state(lora_labels(nnx.state(model))))
    assert labels == {
        ("w_in",): "frozen",
        ("w_out",): "frozen",
        ("lora", "lora_a"): "A",
        ("lora", "lora_b"): "B",
    }


@pytest.mark.parametrize("ratio", [float("nan"), -4.0, float("inf")])
@pytest.mark.parametrize("rate", [0.1, lambda count: 0.1])
def test_a_senseless_ratio_is_refused_with_a_schedule_too(rate, ratio):
    with pytest.raises(ValueError, match="ratio: must be a finite number of at least 0"):
        lora_plus(rate, ratio=ratio)
