"""The LoRA layer: formula, initialisations, merge, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory.adapters.layer import FactorA, FactorB, Frozen, LoRA
from lora_theory.keys import layer_key

KEY = jax.random.key(0)


@pytest.mark.parametrize("init", ["A", "B", "both"])
@pytest.mark.parametrize("gamma", [0.5, 1.0])
@pytest.mark.parametrize("with_weight", [False, True])
def test_forward_and_merge_are_the_formula(init, gamma, with_weight):
    weight = jax.random.normal(jax.random.key(1), (6, 10)) if with_weight else None
    layer = LoRA(10, 6, 4, alpha=8.0, gamma=gamma, init=init, weight=weight, key=KEY)
    layer.lora_a[...] += 0.1
    layer.lora_b[...] += 0.1
    w_star = np.zeros((6, 10)) if weight is None else np.asarray(weight)
    w = w_star + 8.0 * 4**-gamma * np.asarray(layer.lora_b[...]) @ np.asarray(layer.lora_a[...])
    z = jax.random.normal(jax.random.key(2), (10, 3))
    np.testing.assert_allclose(layer.merged(), w, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer(z), w @ np.asarray(z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("init", ["A", "B"])
def test_one_factor_starts_at_zero_and_the_update_with_it(init):
    layer = LoRA(2000, 50, 4, init=init, key=KEY)
    a, b = np.asarray(layer.lora_a[...]), np.asarray(layer.lora_b[...])
    random, zero, variance = (a, b, 1 / 2000) if init == "A" else (b, a, 1.0)
    assert (zero == 0).all()
    assert abs(random.var() / variance - 1) < 4 * np.sqrt(2 / random.size)
    assert (np.asarray(layer(jnp.ones((2000, 1)))) == 0).all()


@pytest.mark.parametrize("rho", [-1.0, -0.5, 0.0, 1.0])
def test_a_random_b_has_variance_r_to_the_rho(rho):
    """ρ = 0 leaves the bits of a draw as they are."""
    key_b = jax.random.split(layer_key(KEY))[1]
    drawn = np.asarray(jax.random.normal(key_b, (2000, 9)))
    for init in ("B", "both"):
        b = np.asarray(LoRA(9, 2000, 9, init=init, rho=rho, key=KEY).lora_b[...])
        np.testing.assert_allclose(b, 9 ** (rho / 2) * drawn, rtol=0 if rho == 0 else 1e-6)
        assert abs(b.var() / 9**rho - 1) < 4 * np.sqrt(2 / b.size)
    a = LoRA(9, 2000, 9, init="A", rho=rho, key=KEY).lora_a[...]
    np.testing.assert_array_equal(a, LoRA(9, 2000, 9, init="A", key=KEY).lora_a[...])


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("alpha", [None, 8.0])
def test_what_one_output_sees_is_its_row_of_the_plain_product(axis, alpha):
    layer = LoRA(10, 6, 4, alpha=alpha, gamma=0.5, init="both", axis=axis, key=KEY)
    w, z = jax.random.normal(jax.random.key(1), (6,)), jax.random.normal(jax.random.key(2), (10, 3))
    seen = layer.seen_by(w, z if axis == 0 else z.T)
    a, b, v = (np.asarray(m, np.float64) for m in (layer.lora_a[...], layer.lora_b[...], w))
    plain = v @ (b @ (a @ np.asarray(z, np.float64)))
    scale = 1.0 if alpha is None else 4.0
    np.testing.assert_allclose(seen, scale * plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen, w @ (layer(z) if axis == 0 else layer(z.T).T), rtol=1e-3)
    assert np.abs(seen - 1.1 * scale * plain).max() > 1e-2  # Control.


def test_factors_have_types_of_their_own():
    layer = LoRA(4, 4, 2, weight=jnp.eye(4), key=KEY)
    assert type(layer.lora_a) is FactorA
    assert type(layer.lora_b) is FactorB
    assert type(layer.weight) is Frozen
    assert issubclass(FactorA, nnx.LoRAParam)
    assert not issubclass(Frozen, nnx.Param)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 4, "out_features": 3, "rank": 4}, r"rank: must be at most .* 3 \(got 4\)"),
        ({"in_features": 0, "out_features": 3, "rank": 1}, "at least 1"),
        ({"in_features": 4, "out_features": 3, "rank": 0}, "at least 1"),
        ({"in_features": 4, "out_features": 4, "rank": 2, "weight": jnp.ones((4, 3))}, "weight:"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LoRA(**arguments, key=KEY)


def test_key_has_no_default():
    with pytest.raises(TypeError, match="key"):
        LoRA(4, 4, 2)


@pytest.mark.parametrize("option", ["alpha", "gamma", "rho"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_multipliers_that_are_no_numbers_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}: must be"):
        LoRA(8, 8, 2, **{"alpha": 1.0} | {option: value}, key=jax.random.key(0))


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_alpha_that_turns_the_update_off_or_around_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha: must be positive"):
        LoRA(8, 8, 2, alpha=alpha, key=jax.random.key(0))


@pytest.mark.parametrize("with_weight", [False, True])
def test_samples_first_is_the_transpose_of_samples_as_columns(with_weight):
    weight = jax.random.normal(jax.random.key(1), (6, 10)) if with_weight else None
    columns, rows = (
        LoRA(10, 6, 4, alpha=8.0, init="both", weight=weight, axis=axis, key=KEY)
        for axis in (0, -1)
    )
    z = jax.random.normal(jax.random.key(2), (10, 3))
    np.testing.assert_allclose(rows(z.T), columns(z).T, rtol=1e-5, atol=1e-5)
    batch = jnp.stack([z.T, 2 * z.T])  # Any number of leading axes.
    np.testing.assert_allclose(rows(batch)[1], 2 * columns(z).T, rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match="z: must be of 10 features"):  # Control: the other axis.
        rows(z)


def test_an_axis_in_the_middle_is_refused():
    with pytest.raises(ValueError, match=r"axis: must be 0 or -1 \(got 1\)"):
        LoRA(4, 4, 2, axis=1, key=KEY)


@pytest.mark.parametrize(
    ("axis", "shape", "message"),
    [
        (0, (5, 3), "z: must be of 6 features on axis 0 .got an array of shape .5, 3"),
        (0, (6, 6, 1), "z: must be a matrix, its features on axis 0"),
        (-1, (6, 5), "z: must be of 6 features on axis -1"),
        (0, (), "z: must be of 6 features on axis 0"),
    ],
)
def test_inputs_of_another_shape_are_refused(axis, shape, message):
    layer = LoRA(6, 4, 2, axis=axis, key=KEY)
    calls = (layer, layer.down, lambda z: layer.seen_by(jnp.ones(4), z))
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(jnp.ones(shape))
    assert LoRA(6, 4, 2, key=KEY)(jnp.ones(6)).shape == (4,)
    assert LoRA(6, 4, 2, axis=-1, key=KEY)(jnp.ones((2, 3, 6))).shape == (2, 3, 4)
