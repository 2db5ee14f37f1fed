"""Gains of tuned settings: no bias on noise, intervals that cover, verdicts by a margin."""

import numpy as np
import pytest

from lora_theory.stats.intervals import Interval
from lora_theory.stats.tuning import gain, gains, tuned


def noisy(rng, seeds, settings, best=0.0):
    """Scores of settings that are all 0 but the first, with noise that a seed shares or not."""
    scores = 0.1 * rng.normal(size=(seeds, settings))
    scores[:, 0] += best
    return scores


def test_the_best_setting_has_the_highest_median_whatever_one_seed_says():
    scores = np.array([[0.5, 0.4], [0.5, 0.4], [0.5, 0.4], [0.5, 9.0], [0.5, 0.4], [0.5, 0.4]])
    found = tuned(scores)
    assert (found.place, found.border) == (0, True)
    assert scores.mean(axis=0).argmax() == 1  # Control: the mean is moved by it.
    np.testing.assert_allclose(found.score, [0.5, 0.5, 0.5])


@pytest.mark.parametrize(("place", "border"), [(0, True), (1, False), (2, True)])
def test_a_best_setting_at_the_end_of_a_row_is_said(place, border):
    assert tuned(np.tile(np.eye(3)[place], (6, 1))).border is border


def test_many_useless_settings_gain_nothing_over_few():
    """On the seeds that choose, the best of 30 is far above the best of 3."""
    rng = np.random.default_rng(0)
    honest, naive = [], []
    for _ in range(200):
        many, few = noisy(rng, 24, 30), noisy(rng, 24, 3)
        honest.append(float(gain(many, few, resamples=0).mean))
        naive.append(float(tuned(many).score.value - tuned(few).score.value))
    error = np.std(honest) / np.sqrt(len(honest))
    assert abs(np.mean(honest)) < 4 * error
    assert np.mean(naive) > 8 * error  # Control.


def test_a_gain_is_found_and_its_interval_covers_it():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(100):
        found = gain(noisy(rng, 24, 9, 0.5), noisy(rng, 24, 3, 0.2), resamples=200)
        covered.append(float(found.low) <= 0.3 <= float(found.high))
    assert np.mean(covered) > 0.88


def test_seeds_are_compared_with_themselves():
    """What a seed has in common with itself does not widen the interval."""
    rng = np.random.default_rng(2)
    common = 5 * rng.normal(size=(24, 1))
    one, other = noisy(rng, 24, 3, 0.5) + common, noisy(rng, 24, 3, 0.5) + common
    paired = gain(one, other, resamples=200)
    assert paired.high - paired.low < 0.5
    mixed = gain(one, other[::-1], resamples=200)  # Control: other seeds.
    assert mixed.high - mixed.low > 2


def test_both_halves_choose_for_themselves():
    """Even seeds know one best setting, odd ones another: none has what it chose."""
    scores = np.tile([[1.0, 0.0], [0.0, 1.0]], (6, 1))
    assert float(gain(scores, np.zeros((12, 1)), resamples=0).mean) == 0
    assert float(gain(scores[::2], np.zeros((6, 1)), resamples=0).mean) == 1


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.011, 0.2, "holds"), (0.01, 0.2, "undecided"), (-0.3, 0.01, "fails"),
     (-0.3, 0.011, "undecided"), (np.nan, np.nan, "undecided")],
)  # fmt: skip
def test_a_gain_is_decided_by_its_whole_interval(low, high, outcome):
    ends = [np.array(end) for end in (0.0, low, high)]
    assert gains(Interval(*ends), 0.01) == outcome


def test_few_seeds_decide_nothing():
    found = gain(np.ones((4, 2)), np.zeros((4, 2)), resamples=50)
    assert float(found.mean) == 1
    assert gains(found, 0.01) == "undecided"


@pytest.mark.parametrize("scores", [np.ones(3), np.ones((2, 3, 1)), np.ones((3, 0))])
def test_other_shapes_are_refused(scores):
    with pytest.raises(ValueError, match="scores: must be"):
        tuned(scores)


def test_sides_of_other_seeds_are_refused():
    with pytest.raises(ValueError, match="others: must have the 6 seeds of scores"):
        gain(np.ones((6, 2)), np.ones((7, 2)))
