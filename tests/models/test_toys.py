"""The toy models against their formulas, and Δf = δ¹ + δ² + δ³ for the linear one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory.models.toys import LinearToy, TwoLayerToy


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
