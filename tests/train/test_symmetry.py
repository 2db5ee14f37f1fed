"""α/(pq), p A, q B with matching rates train the same f; what does not match is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_theory.data.synthetic import linear_task
from lora_theory.models.toys import LayerToy
from lora_theory.train.symmetry import Powers, _trajectories, symmetry_gap

# What each update needs, worked out by hand: gradients go as 1/p, gradient descent as p² η · 1/p.
RIGHT = {"gd": Powers(2, 0, 0), "sign": Powers(1, 0, 0), "adamw": Powers(1, -1, -1)}
EPS = 0.01


@pytest.fixture(autouse=True, scope="module")
def drawn_by_numpy():
    """In float32: JAX's draws would be compiled shape by shape. Those in float64 stay, of which
    some are known to bring B back to 0.
    """
    jax_normal = jax.random.normal

    def normal(key, shape=()):
        if jax.config.jax_enable_x64:
            return jax_normal(key, shape)
        words = np.asarray(jax.random.key_data(key)).tolist()
        return jnp.asarray(np.random.default_rng(words).standard_normal(shape), float)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "normal", normal)
        _trajectories.cache_clear()
        yield
        _trajectories.cache_clear()


@pytest.mark.parametrize("update", RIGHT)
@pytest.mark.parametrize("init", ["A", "B", "both"])
def test_powers_of_two_leave_every_bit(init, update):
    gap = symmetry_gap("layer", update, init, 8.0, 0.5, powers=RIGHT[update], eps=EPS)
    assert gap == 0


def test_the_two_layer_toy_has_it_too_where_it_moves():
    assert symmetry_gap("two_layer", "sign", "both", 2.0**20, 2.0**-9) == 0
    for init in ("A", "B"):
        with pytest.raises(ValueError, match=f"two_layer, sign, {init}: f does not move"):
            symmetry_gap("two_layer", "sign", init, 2.0**20, 2.0**-9)


def test_other_factors_round():
    gap = symmetry_gap("layer", "adamw", "A", 3.0, 0.7, powers=RIGHT["adamw"], eps=EPS)
    assert 0 < gap < 1e-5


@pytest.mark.parametrize(
    ("update", "wrong"),
    [
        ("gd", Powers(1, 0, 0)),
        ("sign", Powers(2, 0, 0)),
        ("adamw", Powers(1, 0, -1)),
        ("adamw", Powers(1, -1, 0)),
    ],
)
@pytest.mark.parametrize("init", ["A", "B", "both"])
def test_what_does_not_follow_p_and_q_is_seen(init, update, wrong):
    assert symmetry_gap("layer", update, init, 8.0, 0.5, powers=wrong, eps=EPS) > 1e-3


def test_adam_without_epsilon_is_0_over_0_where_b_is_0():
    with pytest.raises(ValueError, match="layer, adam, A: f is not finite"):
        symmetry_gap("layer", "adam", "A", 8.0, 0.5, eps=0.0)
    assert symmetry_gap("layer", "adam", "both", 8.0, 0.5, eps=0.0) == 0


def test_squared_gradients_that_underflow_break_it():
    """(1/p)² is below the smallest float32."""
    assert symmetry_gap("layer", "adamw", "both", 2.0**80, 0.5, powers=RIGHT["adamw"], eps=EPS) > 1


@pytest.mark.slow
def test_the_sign_of_a_rounding_is_a_sign():
    """From Init[1] sign updates bring entries of B back to 0: with p = 3, q = 0.7 beside it."""
    assert symmetry_gap("layer", "sign", "A", 3.0, 0.7, double=True) > 1e-3
    assert symmetry_gap("layer", "sign", "B", 3.0, 0.7, double=True) < 1e-12


def test_training_is_that_of_plain_numpy():
    """Sign updates from p A, q B again, without the library's training."""
    p, q = 3.0, 0.7
    found = _trajectories("layer", "sign", 1e-8, 8, 4, True, p, q, Powers())[2]
    # In the engine's precision, so that the draws are compiled once.
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        for seed in range(2):
            key = jax.random.key(seed)
            data = linear_task(64, 8, 1, key=key)
            toy = LayerToy(64, 4, init="both", key=key)
            a, b = p * np.asarray(toy.lora.lora_a[...]), q * np.asarray(toy.lora.lora_b[...])
            w, x, y = (np.asarray(v) for v in (toy.w_out[...], data.x_train, data.y_train))
            scale = 0.75 / (p * q)
            for t in range(4):
                f = scale * w @ b @ a @ x
                np.testing.assert_allclose(found[seed, t], f, rtol=1e-10)
                g = scale * np.outer(w, f - y) / 8
                da, db = np.sign(b.T @ g @ x.T), np.sign(g @ (a @ x).T)
                a, b = a - 0.005 * p * da, b - 0.1 * q * db
