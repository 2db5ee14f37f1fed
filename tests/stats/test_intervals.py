"""Intervals cover as often as they say."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from lora_theory.stats.intervals import (
    crossed,
    few_seeds,
    fewest_seeds,
    halves,
    mean_interval,
    quantile,
    quantile_interval,
    resampled_seeds,
    share_interval,
    student,
)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_intervals_cover_the_mean_as_often_as_they_say(seeds):
    draws = np.random.default_rng(0).normal(3.0, 2.0, (seeds, 20_000))
    centre = mean_interval(draws)
    covered = ((centre.low <= 3.0) & (centre.high >= 3.0)).mean()
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 20_000)


def test_normal_quantiles_would_not_cover():
    """Control: ± 1.96 standard errors of three seeds cover far less than 95 %."""
    draws = np.random.default_rng(0).normal(0.0, 1.0, (3, 20_000))
    half = 1.96 * draws.std(axis=0, ddof=1) / np.sqrt(3)
    assert (np.abs(draws.mean(axis=0)) <= half).mean() < 0.85


def test_one_seed_has_no_interval():
    centre = mean_interval(np.ones((1, 4)))
    assert np.isnan(centre.low).all()
    assert (centre.mean == 1).all()


def test_the_axis_of_seeds_can_be_any():
    draws = np.random.default_rng(0).normal(size=(4, 7))
    for one, other in zip(mean_interval(draws), mean_interval(draws.T, axis=1), strict=True):
        np.testing.assert_allclose(one, other)


def test_student_approaches_the_normal_quantile():
    assert student(10**6) == pytest.approx(1.96, abs=1e-3)
    assert student(2) > 12


def test_resampled_seeds_are_drawn_with_replacement():
    draws = resampled_seeds(50, 200)
    assert draws.min() >= 0
    assert draws.max() == 49
    # A draw of S of S with replacement leaves out 1/e of them.
    left_out = np.mean([50 - len(set(row)) for row in draws.tolist()]) / 50
    assert left_out == pytest.approx(np.exp(-1), abs=0.02)


# --- Quantiles ---

REPEATS = 10_000


def with_infinity(rng, shape):
    """A third of samples diverge: the median is the ¾ quantile of the rest, the ¾ quantile ∞."""
    return np.where(rng.random(shape) < 1 / 3, np.inf, rng.normal(size=shape))


def with_ties(rng, shape):
    return np.round(rng.normal(size=shape))


# A law, how to draw from it, its median and 75 % quantile.
LAWS = {
    "normal": (lambda rng, shape: rng.normal(3, 2, shape), *stats.norm(3, 2).ppf([0.5, 0.75])),
    "Cauchy": (lambda rng, shape: rng.standard_cauchy(shape), *stats.cauchy.ppf([0.5, 0.75])),
    "with ∞": (with_infinity, stats.norm.ppf(0.75), np.inf),
    "ties": (with_ties, 0.0, 1.0),
}


@pytest.mark.parametrize("seeds", [6, 13, 15, 64])
@pytest.mark.parametrize("law", LAWS)
def test_quantile_intervals_cover_whatever_the_law(law, seeds):
    draw, *truths = LAWS[law]
    draws = draw(np.random.default_rng(1), (seeds, REPEATS))
    for q, truth in zip((0.5, 0.75), truths, strict=True):
        found = quantile_interval(draws, q)
        if q == 0.75 and seeds < 13:
            assert np.isnan(found.low).all()
            assert np.isnan(found.high).all()
            continue
        covered = ((found.low <= truth) & (truth <= found.high)).mean()
        assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / REPEATS)


@pytest.mark.parametrize(("seeds", "low", "high"), [(6, 1, 6), (15, 4, 12), (64, 24, 41)])
def test_the_ends_are_those_of_the_tables_of_the_sign_test(seeds, low, high):
    found = quantile_interval(np.random.default_rng(0).permutation(seeds) + 1.0)
    assert (found.low, found.high) == (low, high)


@pytest.mark.parametrize(("q", "confidence"), [(0.5, 0.95), (0.75, 0.95), (0.9, 0.9), (0.2, 0.99)])
def test_the_ends_are_the_nearest_that_the_binomial_law_allows(q, confidence):
    """By exact fractions: one order statistic nearer would miss too often."""
    exact, tail = Fraction(str(q)), (1 - Fraction(str(confidence))) / 2
    for seeds in range(1, 70):
        chance = [math.comb(seeds, k) * exact**k * (1 - exact) ** (seeds - k) for k in range(seeds)]
        below = [sum(chance[: k + 1]) for k in range(seeds)]
        lows = [k for k in range(seeds) if below[k] <= tail]
        highs = [k for k in range(seeds) if 1 - below[k] <= tail]
        found = quantile_interval(np.arange(float(seeds)), q, confidence)
        if lows and highs:
            assert (found.low, found.high) == (lows[-1], highs[0])
            assert seeds >= fewest_seeds(q, confidence)
        else:
            assert np.isnan([found.low, found.high]).all()
            assert seeds < fewest_seeds(q, confidence)


def test_a_bootstrap_of_six_does_not_cover_the_ends_it_claims():
    """Control: percentiles of resampled medians."""
    draws = np.random.default_rng(2).normal(size=(6, 2000))
    resampled = np.median(draws[resampled_seeds(6, 200)], axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    assert ((low <= 0) & (high >= 0)).mean() < 0.93


@pytest.mark.parametrize("q", ["0.5", "0.75", "0.1", "0.7", "0.55", "0.95"])
def test_quantiles_are_order_statistics(q):
    """By exact fractions: the sample where S q lies, or the mean of both beside an integer."""
    share = Fraction(q)
    rng = np.random.default_rng(0)
    for seeds in [*range(1, 25), 100]:
        samples = rng.normal(size=seeds)
        ordered, place = sorted(samples.tolist()), share * seeds
        expected = ordered[math.ceil(place) - 1]
        if place.denominator == 1 and place < seeds:
            expected = (ordered[int(place) - 1] + ordered[int(place)]) / 2
        assert quantile(samples, float(q)) == expected


def test_infinity_is_never_averaged_away():
    samples = np.array([1.0, 2.0, np.inf, np.inf])
    assert quantile(samples) == np.inf
    assert quantile(samples[:3]) == 2
    found = quantile_interval(np.repeat(samples, 4))
    assert (found.low, found.high) == (1.0, np.inf)
    assert np.isinf(quantile_interval(np.full((6, 2), np.inf)).low).all()


def test_the_order_of_samples_is_no_matter():
    samples = np.random.default_rng(0).normal(size=(15, 4))
    for one, other in zip(
        quantile_interval(samples), quantile_interval(samples[::-1]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_few_samples_have_a_quantile_and_no_interval(seeds):
    found = quantile_interval(np.ones((seeds, 2)))
    assert (found.value == 1).all()
    assert np.isnan([found.low, found.high]).all()


# --- Shares ---


@pytest.mark.parametrize(("hits", "of"), [(0, 5), (5, 5), (3, 7), (24, 48)])
def test_intervals_of_shares_are_exact(hits, of):
    found = share_interval(hits, of, 0.9)
    exact = stats.binomtest(hits, of).proportion_ci(0.9, method="exact")
    assert found == pytest.approx((exact.low, exact.high))
    assert share_interval(0, 0) == (0, 1)


# --- Halves that choose for one another ---


def flat(rng, seeds=16, cells=30):
    """Cells that are equally good, but noisy: the best of some is nothing special on others."""
    return rng.normal(size=(seeds, cells))


def chosen(values):
    """value(choosing, valuing): the value of the least cell."""

    def value(choosing, valuing):
        return values[valuing, values[choosing].mean(axis=0).argmin()]

    return value


def test_halves_share_no_seed():
    for seeds in (2, 5, 8):
        even, odd = halves(seeds)
        assert sorted([*even, *odd]) == list(range(seeds))
        assert abs(len(even) - len(odd)) <= 1
    seen = []
    crossed(lambda one, other: seen.append((one, other)) or other.astype(float), 9, resamples=20)
    assert all(not set(one) & set(other) for one, other in seen)
    assert len(seen) == 42
    with pytest.raises(ValueError, match="two"):
        crossed(chosen(np.ones((1, 2))), 1)


def test_what_is_valued_on_other_seeds_is_not_flattered():
    found = [crossed(chosen(flat(np.random.default_rng(k))), 16, resamples=0) for k in range(200)]
    means = np.array([at.mean for at in found])
    assert abs(means.mean()) < 3 * means.std() / np.sqrt(200)
    # Control: on the seeds that chose it looks better than it is.
    own = [flat(np.random.default_rng(k)).mean(axis=0).min() for k in range(200)]
    assert np.mean(own) < -0.3
    assert all(np.isnan([at.low, at.high]).all() for at in found)


def noisy_valley(key, seeds=16):
    """Twelve cells of two kinds, of which the better is not always found."""
    values = np.random.default_rng(key).normal(size=(seeds, 12))
    return values + np.where(np.arange(12) < 6, 0.0, 0.8)


def test_the_choice_belongs_to_the_interval():
    """Of 40 of 95 %; fewer than 35 would happen once in 70 times."""
    truth = np.mean([crossed(chosen(noisy_valley(k)), 16, resamples=0).mean for k in range(400)])
    covered = 0
    for k in range(40):
        found = crossed(chosen(noisy_valley(k)), 16, resamples=60)
        covered += found.low <= truth <= found.high
    assert covered >= 35


def test_infinite_and_missing_values_stay_what_they_are():
    steps = np.where(np.arange(12) < 2, 10.0, np.inf)
    never = crossed(lambda one, other: steps[other], 12, statistic=quantile, resamples=40)
    assert never.mean == never.high == np.inf
    mixed = np.where(np.arange(12) < 8, 10.0, np.inf)
    found = crossed(lambda one, other: mixed[other], 12, statistic=quantile, resamples=200)
    assert (found.mean, found.low, found.high) == (10, 10, np.inf)

    def gone(one, other):  # In the draws without the first seed.
        return np.full(len(other), 1.0 if 0 in (*one, *other) else np.nan)

    lost = crossed(gone, 12, resamples=100)
    assert lost.mean == 1
    assert np.isnan([lost.low, lost.high]).all()


def test_few_seeds_are_stretched():
    assert few_seeds(8) == pytest.approx(
        stats.t.ppf(0.975, 7) / stats.norm.ppf(0.975) * (8 / 7) ** 0.5
    )
    assert few_seeds(8, 0.99) > few_seeds(8)


@pytest.mark.parametrize(("seeds", "known"), [(2, False), (3, False), (5, False), (6, True)])
def test_halves_of_fewer_than_three_seeds_have_no_interval(seeds, known):
    """Two seeds are drawn anew to the same two, and an interval of width 0 would hold anything."""
    values = np.random.default_rng(0).normal(size=(seeds, 4))
    found = crossed(chosen(values), seeds, resamples=40)
    assert np.isfinite(found.mean)
    assert (found.low < found.high) == known
