"""Which optimizers depend on how B A is split: beside plain NumPy, and what is broken is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_theory.adapters.factors import Direction, over_pairs
from lora_theory.adapters.recipe import Recipe
from lora_theory.data.synthetic import linear_task
from lora_theory.keys import model_key
from lora_theory.models.toys import LayerToy
from lora_theory.train import splits
from lora_theory.train.splits import mixed, split_gaps

MIXINGS = ("permutation", "rotation", "scale", "general")


def test_what_multiplies_the_factors_is_what_it_is_called():
    g, inverse = zip(*(mixed(name, jax.random.key(7)) for name in MIXINGS), strict=True)
    for one, other in zip(g, inverse, strict=True):
        np.testing.assert_allclose(one @ other, np.eye(4), atol=1e-12)
    permutation, rotation, scale, general = g
    for turn in (permutation, rotation):
        np.testing.assert_allclose(turn @ turn.T, np.eye(4), atol=1e-12)
    assert sorted(np.abs(permutation).ravel()) == [0] * 12 + [1] * 4
    assert np.abs(rotation).max() < 1
    np.testing.assert_array_equal(scale, 3 * np.eye(4))
    assert np.abs(general @ general.T - np.eye(4)).max() > 0.1
    np.testing.assert_array_equal(mixed("B alone", jax.random.key(7))[1], np.eye(4))


@pytest.mark.slow
def test_scaled_gradient_descent_is_that_of_plain_numpy():
    """From (B, A) and from (B G, G⁻¹ A), without the library's training."""
    for mixing in ("none", "general"):
        found = splits._trajectories("layer", "scaled_gd", 4)["both", mixing]
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            for seed in range(2):
                key = jax.random.key(seed)
                data = linear_task(64, 8, 1, key=key)
                toy = LayerToy(64, 4, init="both", key=key)
                a, b = np.asarray(toy.lora.lora_a[...]), np.asarray(toy.lora.lora_b[...])
                w, x, y = (np.asarray(v) for v in (toy.w_out[...], data.x_train, data.y_train))
                if mixing == "general":
                    g = np.asarray(jax.random.normal(model_key(key), (4, 4)))
                    a, b = np.linalg.solve(g, a), b @ g
                for t in range(4):
                    f = w @ b @ a @ x
                    np.testing.assert_allclose(found[seed, t], f, rtol=1e-9)
                    g_w = np.outer(w, f - y) @ x.T / 8
                    da, db = (
                        np.linalg.solve(b.T @ b, b.T @ g_w),
                        np.linalg.solve(a @ a.T, a @ g_w.T).T,
                    )
                    a, b = a - da, b - db


@pytest.mark.parametrize(
    ("optimizer", "same"),
    [
        ("scaled_gd", {"permutation", "rotation", "scale", "general"}),
        ("gd", {"permutation", "rotation"}),
        ("adam", {"permutation"}),
        ("adafactor", {"permutation", "scale"}),
    ],
)
def test_which_splits_leave_f(optimizer, same):
    for mixing in MIXINGS:
        gaps = split_gaps("layer", optimizer, "both", mixing)
        assert gaps.max() < 1e-10 if mixing in same else gaps.min() > 0.01
    assert split_gaps("layer", optimizer, "both", "B alone").min() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lora_rite", "scaled_gd"])
def test_a_factor_of_rank_1_allows_no_general_one(optimizer):
    for mixing in MIXINGS[:3]:
        assert split_gaps("layer", optimizer, "A", mixing).max() < 1e-8
    assert split_gaps("layer", optimizer, "A", "general").min() > 1e-4


def broken(eta):
    """Scaled gradient descent in which each factor has its own inverse, not its partner's."""

    def update(a, b, g_a, g_b, state):
        own_a, own_b = jnp.linalg.inv(a @ a.T), jnp.linalg.inv(b.T @ b)
        return own_a @ g_a, g_b @ own_b, state

    rule = over_pairs(Direction(lambda a, b: (), update), Recipe(eta_a=eta, eta_b=eta))
    return optax.chain(rule, optax.sgd(eta))


@pytest.mark.slow
def test_a_broken_optimizer_is_caught(monkeypatch):
    monkeypatch.setitem(splits._OPTIMIZERS, "broken", broken)
    monkeypatch.setitem(splits._RATES, "broken", (0.05, 0.05))
    assert split_gaps("layer", "broken", "both", "rotation").max() < 1e-8  # Both inverses turn.
    assert split_gaps("layer", "broken", "both", "scale").min() > 1e-3


def test_of_what_does_not_move_or_diverges_nothing_is_said(monkeypatch):
    with pytest.raises(ValueError, match="two_layer, gd, A: f does not move"):
        split_gaps("two_layer", "gd", "A", "scale")
    monkeypatch.setitem(splits._OPTIMIZERS, "wild", optax.sgd)
    monkeypatch.setitem(splits._RATES, "wild", (1e30, 1e30))
    with pytest.raises(ValueError, match="layer, wild, both: f is not finite"):
        split_gaps("layer", "wild", "both", "scale")
    with pytest.raises(KeyError):
        split_gaps("layer", "sgd", "both", "scale")
