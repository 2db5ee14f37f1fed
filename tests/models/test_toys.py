"""The toy models against their formulas, and Δf = δ¹ + δ² + δ³ for the linear one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory.keys import model_half
from lora_theory.models.toys import FeatureLayerToy, LayerToy, LinearToy, TwoLayerToy


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 9, 16])  # Unrolled up to 8, matrix product beyond.
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_two_layer_forward_is_the_formula(rank, gamma):
    model = TwoLayerToy(5, 32, rank, alpha=3.0, gamma=gamma, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 40))
    w_in, w_out, a, b = (
        np.asarray(v[...], np.float64)
        for v in (model.w_in, model.w_out, model.lora.lora_a, model.lora.lora_b)
    )
    z = np.maximum(w_in @ np.asarray(x, np.float64), 0)
    expected = w_out @ np.maximum(3.0 * rank**-gamma * (b @ (a @ z)), 0)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    wrong = w_out @ np.maximum(rank**-gamma * (b @ (a @ z)), 0)  # Control: α left out.
    assert np.abs(model(x) - wrong).max() > 1e-2


def float64(variable):
    return np.asarray(variable[...], np.float64)


def pretrained(n=32, **options):
    options = {"weight": "random", "init": "both"} | options
    return TwoLayerToy(5, n, 4, key=jax.random.key(0), **options)


def test_a_pretrained_weight_stands_below_the_activation():
    model = pretrained(alpha=3.0)
    x = jax.random.normal(jax.random.key(1), (5, 40))
    w_in, w_out, w_star, a, b = map(
        float64,
        (model.w_in, model.w_out, model.lora.weight, model.lora.lora_a, model.lora.lora_b),
    )
    z = np.maximum(w_in @ np.asarray(x, np.float64), 0)
    expected = w_out @ np.maximum((w_star + 3.0 / 4 * b @ a) @ z, 0)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    hidden = model.preactivation(model.features(x))
    np.testing.assert_allclose(hidden, (w_star + 3.0 / 4 * b @ a) @ z, rtol=1e-4, atol=1e-4)
    wrong = w_out @ np.maximum(3.0 / 4 * b @ a @ z, 0)  # Control: W* left out.
    assert np.abs(model(x) - wrong).max() > 1e-2


def test_no_step_multiplies_with_the_pretrained_weight():
    """Features hold the product: the readout does not look at W* again."""
    model, x = pretrained(), jax.random.normal(jax.random.key(1), (5, 40))
    before, z = model(x), model.features(x)
    model.lora.weight[...] = jnp.full((32, 32), jnp.nan)
    np.testing.assert_array_equal(model.readout(z), before)
    assert jnp.isnan(model(x)).any()


def test_a_pretrained_weight_has_a_key_of_its_own_and_moves_no_other():
    n = 512
    models = [pretrained(n, weight=weight) for weight in ("zero", "random")]
    for path in ("w_in", "w_out", "lora.lora_a", "lora.lora_b"):
        plain, below = (functools.reduce(getattr, path.split("."), model) for model in models)
        np.testing.assert_array_equal(plain[...], below[...], path)
    assert models[0].lora.weight is None
    w_star = float64(models[1].lora.weight)
    assert abs(n * w_star.var() - 1) < 4 * np.sqrt(2 / n**2)
    key = model_half(jax.random.key(0))
    drawn = [jax.random.key_data(k).tolist() for k in jax.random.split(key, 3)]
    own = [jax.random.fold_in(key, i) for i in range(4)]
    expected = jax.random.normal(own[3], (n, n)) / jnp.sqrt(n)
    np.testing.assert_array_equal(models[1].lora.weight[...], expected)
    taken = [jax.random.key_data(k).tolist() in drawn for k in own]
    assert taken == [True, True, True, False]  # Control: the first three are those of the split.


@pytest.mark.parametrize("init", ["A", "B"])
def test_one_random_factor_moves_only_above_a_pretrained_weight(init):
    """φ'(0) = 0: with W* = 0 the gradients of both factors are exactly zero."""
    x = jax.random.normal(jax.random.key(1), (5, 40))
    moved = {}
    for weight in ("zero", "random"):
        graph, trained, rest = nnx.split(pretrained(weight=weight, init=init), nnx.LoRAParam, ...)
        gradient = jax.grad(lambda p, g=graph, r=rest: nnx.merge(g, p, r)(x).sum())(trained)
        moved[weight] = {
            name: bool(jnp.any(gradient["lora"][name][...] != 0)) for name in ("lora_a", "lora_b")
        }
    assert not any(moved["zero"].values())
    assert moved["random"] == {"lora_a": init == "B", "lora_b": init == "A"}


def layers(**options):
    """A layer toy of each kind, the features of its inputs, and the inputs."""
    options = {"init": "both", "alpha": 3.0, "key": jax.random.key(0)} | options
    feature = FeatureLayerToy(5, 32, 4, **options)
    x = jax.random.normal(jax.random.key(1), (5, 40))
    z = np.maximum(float64(feature.w_in) @ np.asarray(x, np.float64), 0)
    plain_x = jax.random.normal(jax.random.key(2), (32, 40))
    return [(feature, z, x), (LayerToy(32, 4, **options), np.asarray(plain_x, float), plain_x)]


@pytest.mark.parametrize("which", [0, 1])
def test_layers_and_their_gradients_are_the_plain_product(which):
    model, z, x = layers()[which]
    w_out, a, b = map(float64, (model.w_out, model.lora.lora_a, model.lora.lora_b))
    expected = w_out @ (3.0 / 4 * b @ (a @ z))
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    wrong = w_out @ (b @ (a @ z))  # Control: α r^−γ left out.
    assert np.abs(model(x) - wrong).max() > 1e-2
    graph, trained, rest = nnx.split(model, nnx.LoRAParam, ...)
    gradient = jax.grad(lambda p: nnx.merge(graph, p, rest)(x).sum())(trained)["lora"]
    ones = np.ones(40)
    np.testing.assert_allclose(
        gradient["lora_a"][...], 3.0 / 4 * np.outer(b.T @ w_out, z @ ones), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        gradient["lora_b"][...], 3.0 / 4 * np.outer(w_out, a @ z @ ones), rtol=1e-4, atol=1e-4
    )


def test_a_layers_readout_is_one_over_n():
    model = FeatureLayerToy(5, 4096, 4, init="A", key=jax.random.key(3))
    for variable, variance in ((model.w_in, 1.0), (model.w_out, 4096.0**-2)):
        values = float64(variable).ravel()
        assert abs(values.var() / variance - 1) < 4 * np.sqrt(2 / values.size)


@pytest.mark.parametrize("make", [LayerToy, FeatureLayerToy, TwoLayerToy])
def test_rho_reaches_the_layer(make):
    sizes = (32, 16) if make is LayerToy else (5, 32, 16)
    b, small = (
        make(*sizes, init="both", rho=rho, key=jax.random.key(0)).lora.lora_b[...]
        for rho in (0.0, -1.0)
    )
    np.testing.assert_array_equal(small, b / 4)


def test_initial_variances():
    n = 4096
    model = TwoLayerToy(5, n, 4, init="both", key=jax.random.key(3))
    expected = {"w_in": 1.0, "w_out": 1 / n, "lora_a": 1 / n, "lora_b": 1.0}
    parts = {
        "w_in": model.w_in,
        "w_out": model.w_out,
        "lora_a": model.lora.lora_a,
        "lora_b": model.lora.lora_b,
    }
    for name, variance in expected.items():
        values = np.asarray(parts[name][...], np.float64).ravel()
        # The variance of k normal draws has a relative standard error of √(2/k).
        assert abs(values.var() / variance - 1) < 4 * np.sqrt(2 / values.size), name
        assert abs(values.mean()) < 4 * np.sqrt(variance / values.size), name


def test_only_the_factors_train():
    model = TwoLayerToy(5, 16, 2, key=jax.random.key(0))
    trained = nnx.to_flat_state(nnx.state(model, nnx.Param))
    assert {path for path, _ in trained} == {("lora", "lora_a"), ("lora", "lora_b")}


@pytest.mark.parametrize("init", ["A", "B", "both"])
@pytest.mark.parametrize("n", [4, 64, 1024])
@pytest.mark.parametrize(("eta_a", "eta_b"), [(1e-4, 0.3), (1e-3, 1e-3), (1e-5, 0.7)])
def test_linear_update_is_the_sum_of_its_three_terms(init, n, eta_a, eta_b):
    """Δf = δ¹ + δ² + δ³ (section 3.2) with L = ½ (f − y)², to rounding error in float64."""
    with jax.enable_x64(True):
        model = LinearToy(n, init=init, key=jax.random.key(4))
        graph, params = nnx.split(model)
        params = jax.tree.map(lambda v: v.astype(jnp.float64), params)
        x = jax.random.normal(jax.random.key(5), (n, 1), jnp.float64)
        y = 1.0
        for _ in range(5):
            model = nnx.merge(graph, params)
            a, b = np.asarray(model.lora.lora_a[...])[0], float(model.lora.lora_b[0, 0])
            f = float(model(x)[0])
            u, s, norm = f - y, float(a @ np.asarray(x)[:, 0]), float((x**2).sum())
            terms = (
                -eta_a * b**2 * u * norm,
                -eta_b * s**2 * u,
                eta_a * eta_b * u**2 * b * s * norm,
            )

            def loss(p):
                return 0.5 * ((nnx.merge(graph, p)(x)[0] - y) ** 2)

            grads = jax.grad(loss)(params)
            params["lora"]["lora_a"][...] -= eta_a * grads["lora"]["lora_a"][...]
            params["lora"]["lora_b"][...] -= eta_b * grads["lora"]["lora_b"][...]
            moved = float(nnx.merge(graph, params)(x)[0]) - f
            scale = abs(f) + sum(map(abs, terms))
            assert abs(moved - sum(terms)) < 1e-13 * n * max(scale, 1.0)
            # Control: the identity fails without its third term wherever that term is visible.
            if abs(terms[2]) > 1e-9 * scale:
                assert abs(moved - sum(terms[:2])) > 1e-10 * scale
