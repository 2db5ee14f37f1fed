"""Covariances of a random ReLU function against sums over rows, and how its gradients are drawn."""

import numpy as np
import pytest

from lora_theory.exact.random_relu import JITTER, Field, direction, norm, pairs

ROWS = 400_000
ANGLES = [0.0, 1e-3, 0.4, np.pi / 2, 2.5, np.pi]
ALL = np.full((1, 1), True)


def rows(rank=3):
    return np.random.default_rng(0).normal(size=(ROWS, rank))


def two(angle):
    """Directions (1, 3) at an angle."""
    h, p = np.array([[1.0, 0.0, 0.0]]), np.array([[np.cos(angle), np.sin(angle), 0.0]])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    return h @ turn, p @ turn


def moments(h, p):
    """E of B Bᵀ and of 1 where both gates are open, and of φ(B·h) φ(B·p), over rows B."""
    b = rows()
    open_ = ((b @ h[0] > 0) & (b @ p[0] > 0)).astype(float)
    relu = np.maximum(b @ h[0], 0) * np.maximum(b @ p[0], 0)
    return (b * open_[:, None]).T @ b / ROWS, open_.mean(), relu.mean()


@pytest.mark.parametrize("angle", ANGLES)
def test_formulas_are_means_over_rows(angle):
    h, p = two(angle)
    pair, (cov, gates, kernel) = pairs(h, p), moments(h, p)
    margin = 5 * np.sqrt(3 / ROWS)  # Of a square of a normal number, 5 standard errors.
    assert pair.angle[0, 0] == pytest.approx(angle, abs=1e-12)
    np.testing.assert_allclose(pair.covariance(ALL), cov, atol=margin)
    assert pair.open()[0, 0] == pytest.approx(gates, abs=margin)
    assert pair.kernel()[0, 0] == pytest.approx(kernel, abs=margin)


def test_a_covariance_of_gates_alone_is_not_that_of_gradients():
    """Control: κ0 I, which lacks what the gates know of B."""
    h, p = two(2.5)
    pair = pairs(h, p)
    assert np.abs(pair.open()[0, 0] * np.eye(3) - moments(h, p)[0]).max() > 0.05


@pytest.mark.parametrize("angle", ANGLES)
def test_the_function_is_homogeneous(angle):
    """hᵀ Cov(∇G(h), ∇G(p)) p is the covariance of G(h) and G(p)."""
    h, p = two(angle)
    pair = pairs(h, p)
    both = h[0] @ pair.covariance(ALL) @ p[0]
    assert both == pytest.approx(pair.kernel()[0, 0], abs=1e-14)


@pytest.mark.parametrize("angle", [0.1, 1.0, 2.5])
def test_slope_is_the_gradient_of_the_gates_kernel(angle):
    h, p = two(angle)

    def value(at):
        return float(at @ p[0] * pairs(direction(at[None]), p).open()[0, 0])

    step = 1e-6
    numeric = [(value(h[0] + step * e) - value(h[0] - step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(pairs(h, p).slope(p)[0, 0], numeric, atol=1e-8)
    half = pairs(h, p).open()[0, 0] * p[0]
    assert np.abs(half - numeric).max() > 1e-2 or abs(np.cos(angle)) < 0.1  # Control: no angle.


@pytest.mark.parametrize("angle", [0.4, 2.5])
def test_rows_that_are_trained_turn_the_gradient_by_the_slope(angle):
    """Rows move by Θ(n^−1/2), so gates of n^1/2 rows flip: together as much as all the rest."""
    rng, n, draws = np.random.default_rng(4), 20_000, 100
    h, p = two(angle)
    turns = []
    for _ in range(draws):
        b, w = rng.normal(size=(n, 3)), rng.normal(size=n) / np.sqrt(n)
        moved = b + (w * (b @ p[0] > 0))[:, None] * p
        turns.append([w * (at @ h[0] > 0) @ at for at in (b, moved)])
    turn = np.subtract(*np.moveaxis(turns, 1, 0)[::-1])
    gap = np.abs(turn.mean(axis=0) - pairs(h, p).slope(p)[0, 0])
    margin = 4 * turn.std(axis=0) / np.sqrt(draws) + 1 / np.sqrt(n)
    assert (gap < margin).all()
    flat = pairs(h, p).open()[0, 0] * p[0]  # Control: as though no gate did.
    assert (np.abs(turn.mean(axis=0) - flat) > margin).any()


def test_at_a_kink_the_slope_is_the_mean_of_both_sides():
    h, _ = two(1.0)
    np.testing.assert_allclose(pairs(h, h).slope(h)[0, 0], h[0] / 2, atol=1e-15)


def drawn(seeds, fresh=None):
    """∇G at three points, the last two after the first: (seeds, 3, 2)."""
    rng = np.random.default_rng(2)
    one, more = direction(rng.normal(size=(1, 2))), direction(rng.normal(size=(2, 2)))
    field, normals = Field(), rng.normal(size=(seeds, 6))
    fresh = np.full(2, True) if fresh is None else fresh
    first = field.gradients([pairs(one, one)], np.full(1, True), normals[:, :2])
    rest = field.gradients([pairs(more, one), pairs(more, more)], fresh, normals[:, 2:])
    return np.concatenate([one, more]), np.concatenate([first, rest], axis=-2)


def test_gradients_that_are_drawn_one_after_the_other_have_their_covariance():
    points, found = drawn(40_000)
    flat = found.reshape(len(found), -1)
    wanted = pairs(points, points).covariance(np.full((3, 3), True))
    np.testing.assert_allclose(flat.T @ flat / len(flat), wanted, atol=5 * np.sqrt(0.5 / len(flat)))


def test_points_that_are_not_fresh_have_no_part():
    """Control and use: the middle point's gradients are independent of the others'."""
    points, found = drawn(40_000, np.array([False, True]))
    flat = found.reshape(len(found), -1)
    cov = flat.T @ flat / len(flat)
    wanted = pairs(points, points).covariance(np.full((3, 3), True))
    assert np.abs(cov[2:4, :2]).max() < 5 * np.sqrt(0.5 / len(flat))
    assert np.abs(wanted[2:4, :2]).max() > 0.1
    np.testing.assert_allclose(cov[4:, :2], wanted[4:, :2], atol=5 * np.sqrt(0.5 / len(flat)))


def test_points_that_coincide_are_drawn_alike():
    """Jitter is what they differ by: its root, and not more."""
    h, _ = two(1.0)
    points = np.concatenate([h, h])
    normals = np.random.default_rng(3).normal(size=(100, 6))
    g = Field().gradients([pairs(points, points)], np.full(2, True), normals)
    assert np.abs(g[:, 0] - g[:, 1]).max() < 10 * np.sqrt(JITTER)


def test_lengths_and_directions_need_no_squares():
    h = np.array([[3e-250, 4e-250], [3e250, 4e250]])
    np.testing.assert_allclose(norm(h), [5e-250, 5e250])
    np.testing.assert_allclose(direction(h), [[0.6, 0.8], [0.6, 0.8]])
