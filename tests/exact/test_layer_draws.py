"""Laws of the draws, against moments by hand; what they share over widths, ranks and seeds."""

import numpy as np
import pytest

from lora_theory.exact.layer_draws import (
    _means,
    _patterns,
    draws_of,
    log2_size,
    random_inputs,
    random_outputs,
)

SEEDS = range(4000)


def log2(*widths):
    return np.log2(np.array(widths, float))[:, None]


def normal(value, mean, spread):
    """The mean of draws (W, S) is that of the law within five standard errors of each."""
    off = (value.mean(axis=1) - mean) * np.sqrt(value.shape[1]) / spread
    assert np.abs(off).max() < 5, off


@pytest.mark.parametrize("widths", [(2, 7, 64), (257, 300, 5000)])
def test_sums_over_normal_numbers_have_their_moments(widths):
    """Means, variances and the covariance of mean |x| and mean x²."""
    draws, n = draws_of(SEEDS, "", 1, 1), np.array(widths)[:, None]
    absolute, square = _means(draws.z, draws.z_rest, log2(*widths))
    mean, variance = np.sqrt(2 / np.pi), 1 - 2 / np.pi
    normal(absolute, mean, np.sqrt(variance / n[:, 0]))
    normal(square, 1, np.sqrt(2 / n[:, 0]))
    for product, wanted in (
        (n * (absolute - mean) ** 2, variance),
        (n * (square - 1) ** 2, 2.0),
        (n * (square - 1) * (absolute - mean), mean),
    ):
        np.testing.assert_allclose(product.mean(axis=1), wanted, rtol=0.25)
    assert (absolute > 0).all()
    assert (absolute**2 <= square + 1e-12).all()


def test_below_257_entries_the_sums_are_those_of_the_entries():
    draws = draws_of(range(5), "", 1, 1)
    absolute, square = _means(draws.z, draws.z_rest, log2(7, 256))
    np.testing.assert_allclose(absolute[0], np.abs(draws.z[:, :7]).mean(axis=1))
    np.testing.assert_allclose(square[1], (draws.z**2).mean(axis=1))


@pytest.mark.parametrize("width", [3, 64, 1000, 2.0**200])
def test_b_has_the_gram_matrix_of_normal_columns(width):
    """BᵀB / n has mean I and variances (1 + δ_ij) / n, and Bᵀw has its own and covariances."""
    rank = 2
    v, aligned, across, w_norm = random_outputs(draws_of(SEEDS, "", rank, 1), log2(width))
    v, aligned, across = v.value()[0], aligned.value()[0], across.value()[0]
    gram = aligned[:, :, None] * aligned[:, None, :] + np.einsum("smi,smj->sij", across, across)
    root = np.sqrt(width)
    np.testing.assert_allclose(gram.mean(axis=0), np.eye(rank), atol=0.06 * np.sqrt(3 / width))
    if width < 2**40:  # Else floats have no room for it beside 1.
        np.testing.assert_allclose(gram.var(axis=0) * width, 1 + np.eye(rank), rtol=0.2)
    # Bᵀw ~ N(0, |w|²), |w|² = 1/n on average; its covariance with Bᵀ sign(w)/n is ‖w‖₁/n.
    np.testing.assert_allclose((v * root).var(axis=0), 1, rtol=0.15)
    together = (v * aligned).mean(axis=0) * width
    np.testing.assert_allclose(together, np.sqrt(2 / np.pi), rtol=0.15)
    assert float(w_norm.value().mean()) == pytest.approx(np.sqrt(2 / np.pi), rel=0.03)


def test_a_readout_that_had_nothing_to_do_with_b_is_seen():
    """Control: with the draws of other seeds Bᵀw and Bᵀ sign(w) are independent."""
    one, other = (random_outputs(draws_of(SEEDS, at, 2, 1), log2(64)) for at in ("", "other"))
    together = (one[0].value() * other[1].value()).mean(axis=(0, 1)) * 64
    assert np.abs(together).max() < 0.1


def test_a_wide_b_of_few_rows_has_no_larger_rank():
    """n = 3 rows of r = 3 columns: q and two rows across."""
    _, aligned, across, _ = random_outputs(draws_of(range(20), "", 3, 1), log2(3))
    rows = np.concatenate([aligned.value()[0][:, None], across.value()[0]], axis=1)
    assert (np.linalg.matrix_rank(rows) == 3).all()
    _, _, across, _ = random_outputs(draws_of(range(20), "", 3, 1), log2(2))
    assert (np.linalg.matrix_rank(across.value()[0]) == 1).all()


@pytest.mark.parametrize("width", [5, 64, 1000])
def test_patterns_are_those_of_fair_signs(width):
    draws = draws_of(SEEDS, "", 2, 3)
    z_a, patterns, weights, units = random_inputs(draws, log2(width))
    counts = (weights * units.value()[..., None]).sum(axis=-2)[0]
    np.testing.assert_allclose(counts.sum(axis=1), width)
    assert counts.min() >= -1e-9
    overlap = counts @ (patterns[0] * patterns[1])  # z_1 · z_2 ~ a sum of n signs
    normal(overlap[None], 0, np.sqrt(width))
    assert overlap.var() == pytest.approx(width, rel=0.15)
    if width < 257:
        np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
    # Z_A's covariance over samples is theirs.
    z = z_a.value()[0, :, 0]
    products = width * z[:, 0] * z[:, 1] * np.sign(overlap)
    assert products.mean() == pytest.approx(np.abs(overlap).mean(), abs=5 * products.std() / 63)


def test_one_sample_is_seen_through_its_norms():
    z_a, patterns, weights, units = random_inputs(draws_of(SEEDS, "", 2, 1), log2(9, 2000))
    assert patterns.tolist() == [[1.0]]
    norm = (weights * units.value()[..., None])[..., 0, 0]
    normal(norm / np.array([[9], [2000]]), np.sqrt(2 / np.pi), np.sqrt(0.37 / np.array([9, 2000])))
    np.testing.assert_allclose(z_a.value().var(axis=(1, 2, 3)), 1, rtol=0.1)


def test_all_patterns_are_there_once_up_to_a_sign():
    for samples in (1, 2, 5):
        patterns = _patterns(samples).T
        both = np.concatenate([patterns, -patterns])
        assert len(np.unique(both, axis=0)) == 2**samples


def test_a_seed_is_the_same_at_every_rank_and_in_no_other_stream():
    low, high, other = (draws_of([1, 2], *at) for at in (("", 2, 1), ("", 8, 1), ("x", 2, 1)))
    for name in ("signs", "z", "z_rest", "w", "w_rest"):
        np.testing.assert_array_equal(getattr(low, name), getattr(high, name))
    assert not np.isin(low.w, other.w).any()
    assert len(np.unique(low.w)) == low.w.size


def test_sizes_are_integers_where_floats_have_them():
    found = np.exp2(log2_size(np.array([2.0, 3.7, 51.0])))
    np.testing.assert_allclose(found, [4, 13, 2.0**51])
    assert log2_size(np.array([3999.5])) == 3999.5
