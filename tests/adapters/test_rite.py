"""LoRA-RITE against Algorithm 1 in plain NumPy, with the QR and the polar decomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lora_theory.adapters.rite import corrected, rite

R, N, M = 3, 7, 5


def draws(steps, seed=0):
    """Factors and gradients of some steps, those of no loss: the algorithm is told both."""
    rng = np.random.default_rng(seed)
    shapes = ((R, N), (M, R), (R, N), (M, R))
    return [[rng.normal(size=shape) for shape in shapes] for _ in range(steps)]


def qr(y):
    return np.linalg.qr(y)


def polar(y):
    u, s, vt = np.linalg.svd(y, full_matrices=False)
    return u @ vt, vt.T @ np.diag(s) @ vt


def algorithm(sequence, side, decompose, b1=0.9, b2=0.999, eps=1e-6):
    """Directions of one factor, in the paper's notation: X (rows, r), and Y of Z = X Yᵀ."""
    basis = first = second = None
    escaped, made = 0.0, []
    for t, (a, b, g_a, g_b) in enumerate(sequence, 1):
        partner, gradient = (b, g_a.T) if side == "a" else (a.T, g_b)
        u, r = decompose(partner)
        g = gradient @ np.linalg.inv(r)
        turn = np.zeros((R, R)) if basis is None else u.T @ basis
        old = np.zeros((R, R)) if second is None else second
        moved = turn @ old @ turn.T
        loss = (np.linalg.eigvalsh(old) - np.linalg.eigvalsh(moved)).max()
        if b2 is None:
            second, escaped, beta = moved + g.T @ g, escaped + max(loss, 0), b1
        else:
            keep, beta = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in (b2, b1))
            second = keep * moved + (1 - keep) * g.T @ g / len(g)
            escaped = keep * (escaped + max(loss, 0))
        values, vectors = np.linalg.eigh(second)
        s = g @ (vectors / (np.sqrt(values + escaped) + eps)) @ vectors.T
        first = (1 - beta) * s + (0 if first is None else beta * first @ turn.T)
        basis = u
        made.append(first @ np.linalg.inv(r).T)
    return made


@pytest.mark.parametrize("decompose", [qr, polar])
@pytest.mark.parametrize("b2", [0.999, 0.5, None])
def test_directions_are_those_of_algorithm_1(b2, decompose):
    sequence = draws(6)
    with jax.enable_x64(True):
        direction = rite(0.9, b2, 1e-6)
        state = direction.init(*map(jnp.asarray, sequence[0][:2]))
        moves = []
        for step in sequence:
            *move, state = direction.update(*map(jnp.asarray, step), state)
            moves.append(move)
    for side, k in (("a", 0), ("b", 1)):
        for move, wanted in zip(moves, algorithm(sequence, side, decompose, b2=b2), strict=True):
            mine = np.asarray(move[k]).T if side == "a" else np.asarray(move[k])
            np.testing.assert_allclose(mine, wanted, rtol=1e-8, atol=1e-10)
    assert float(state.a.escaped) > 0  # The basis has turned.


@pytest.mark.slow
def test_a_partner_of_zeros_gives_no_move_and_leaves_no_trace():
    first, second = ([jnp.asarray(value) for value in step] for step in draws(2))
    a, _, g_a, g_b = first
    direction = rite(0.9, 0.999, 0.0)
    zero = jnp.zeros((M, R))
    state = direction.init(a, zero)
    move_a, move_b, state = direction.update(a, zero, 0.0 * g_a, g_b, state)
    assert not move_a.any()
    assert jnp.isfinite(move_b).all()
    assert move_b.any()
    for left in jax.tree.leaves(state.a):
        assert not left.any()
    move_a, _, _ = direction.update(*second, state)
    assert jnp.isfinite(move_a).all()
    assert move_a.any()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 3), (4,)])
def test_layers_of_a_scan_are_each_their_own(shape):
    rng = np.random.default_rng(1)
    of = lambda *size: jnp.asarray(rng.normal(size=(*shape, *size)), "float32")  # noqa: E731
    a, b, g_a, g_b = of(R, N), of(M, R), of(R, N), of(M, R)
    direction = rite(0.9, 0.999, 1e-6)
    *moves, _ = direction.update(a, b, g_a, g_b, direction.init(a, b))
    at = (1,) * len(shape)
    alone = direction.init(a[at], b[at])
    *wanted, _ = direction.update(a[at], b[at], g_a[at], g_b[at], alone)
    for move, one in zip(moves, wanted, strict=True):
        np.testing.assert_allclose(move[at], one, rtol=2e-4, atol=2e-5)


def test_a_corrected_decay_averages_over_the_steps_so_far():
    """m_t = Σ β^(t−k) x_k / Σ β^(t−k), as Adam's m̂_t."""
    values, decay, mean = [3.0, -1.0, 4.0, 1.0], 0.8, 0.0
    for t, value in enumerate(values, 1):
        keep = float(corrected(decay, t))
        mean = keep * mean + (1 - keep) * value
        weights = decay ** np.arange(t - 1, -1, -1)
        assert mean == pytest.approx(weights @ values[:t] / weights.sum(), rel=1e-5)


@pytest.mark.parametrize("double", [True, False])
def test_a_gradient_of_lower_rank_is_not_filled_up_with_rounding(double):
    """One output alone is read, so g_B has rank 1 and so has B, which starts at 0: the rounding of
    a second direction, made as large as the first one, would move A by its inverse.
    """
    rng = np.random.default_rng(2)
    with jax.enable_x64(double):
        a, read, x = (jnp.asarray(rng.normal(size=size)) for size in ((R, N), (M,), (N,)))
        b, direction = jnp.zeros((M, R), a.dtype), rite(0.9, 0.999, 1e-6)
        state = direction.init(a, b)
        for _ in range(8):
            g_a, g_b = jnp.outer(read @ b, x), jnp.outer(read, a @ x)
            move_a, move_b, state = direction.update(a, b, g_a, g_b, state)
            a, b = a - 0.01 * move_a, b - 0.01 * move_b
    sigma = np.linalg.svd(np.asarray(b), compute_uv=False)
    assert sigma[1] < 1e-3 * sigma[0]
    assert np.abs(np.asarray(a)).max() < 10
