"""Intervals cover as often as they say."""

import numpy as np
import pytest

from lora_theory.stats.intervals import mean_interval, resampled_seeds, student


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
