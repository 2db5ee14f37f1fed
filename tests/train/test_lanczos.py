"""Ends of spectra against dense matrices, also where plain Lanczos or power iteration fails."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_theory.train.lanczos import Ends, ends

D = 60
# Name: spectrum, and how many products must do.
SPECTRA = {
    "spread": (np.linspace(-1, 2, D), D),
    "pair": (np.r_[-5.0, 5.0, np.linspace(-1, 1, D - 2)], 25),
    "pair of almost equal size": (np.r_[-5.0, 5.001, np.linspace(-1, 1, D - 2)], 25),
    "multiple ends": (np.r_[[-2.0] * 7, [3.0] * 9, np.zeros(D - 16)], 4),
    "multiple ends, after a breakdown": (np.r_[[-2.0] * 7, [3.0] * 9, np.zeros(D - 16)], 25),
    "low rank": (np.r_[-4.0, 1.0, 2.0, np.zeros(D - 3)], 25),
    "low rank, just enough": (np.r_[-4.0, 1.0, 2.0, np.zeros(D - 3)], 4),
    "all equal": (np.full(D, -3.0), 25),
    "all equal, all of it": (np.full(D, -3.0), D),
    "one end far away": (np.r_[1e4, np.linspace(-1, 0, D - 1)], 25),
    "small": (1e-25 * np.linspace(-1, 2, D), D),
}


def rotated(values):
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((len(values), len(values))))[0]
    return jnp.asarray((q * values) @ q.T, jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def compiled(matrix, iterations):
    def product(v):
        return jnp.matmul(matrix, v, precision="highest")

    return ends(product, len(matrix), iterations=iterations)


def found(matrix, iterations):
    return Ends(*map(float, compiled(matrix, iterations)))


@pytest.mark.parametrize("name", SPECTRA)
def test_ends_equal_those_of_the_dense_matrix(name):
    values, iterations = SPECTRA[name]
    one = found(rotated(values), iterations)
    size = np.abs(values).max()
    # float32: a few roundings of the largest eigenvalue.
    assert abs(one.low - values.min()) < 2e-6 * size
    assert abs(one.high - values.max()) < 2e-6 * size
    assert max(one.low_residual, one.high_residual) < 5e-6 * size


def test_too_few_products_are_seen_in_the_residual():
    values = SPECTRA["spread"][0]
    few = found(rotated(values), 4)
    assert few.low - values.min() > 1e-3
    assert values.max() - few.high > 1e-3
    for end, residual in ((few.low, few.low_residual), (few.high, few.high_residual)):
        assert np.abs(values - end).min() < residual
        assert residual > 1e-2


def test_zero_is_exactly_zero():
    zero = found(np.zeros((D, D), np.float32), 4)
    assert zero.zero
    assert zero == (0, 0, 0, 0)
    assert not found(np.eye(D, dtype=np.float32) * np.float32(1e-30), 4).zero


def test_what_the_start_does_not_see_is_found_after_a_breakdown():
    """H = u uᵀ with u orthogonal to the start: the first product is 0 to rounding."""
    start, u = (np.random.default_rng(seed).standard_normal(D) for seed in (0, 1))
    u -= start * (u @ start) / (start @ start)
    u /= np.linalg.norm(u)
    matrix = jnp.asarray(np.outer(u, u), jnp.float32)
    assert np.abs(matrix @ jnp.asarray(start, jnp.float32)).max() < 1e-5
    assert abs(found(matrix, 4).high - 1) < 2e-6


def test_one_dimension():
    """More iterations than dimensions are as many."""
    assert found(np.full((1, 1), -7, np.float32), 5)[:2] == (-7, -7)


def test_a_batch_gives_what_each_gives_alone():
    matrices = [rotated(np.linspace(-1, k, D)) for k in (1.0, 2.0)]
    batch = jax.vmap(lambda matrix: compiled(matrix, 4))(np.stack(matrices))
    alone = np.array([compiled(matrix, 4) for matrix in matrices]).T
    np.testing.assert_allclose(batch, alone, rtol=1e-4)
    assert alone[1, 0] < 1.1 < alone[1, 1]


def test_what_is_not_finite_has_no_ends():
    assert np.isnan(found(np.full((D, D), np.nan, np.float32), 4).high)
