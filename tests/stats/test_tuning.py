"""Gains of tuned settings: no bias on noise, intervals that cover, verdicts by a margin; budgets of
trials against all draws one by one.
"""

import itertools

import numpy as np
import pytest

from lora_theory.stats.intervals import Interval
from lora_theory.stats.tuning import best_of, better, chances, gain, gains, tuned


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


# --- The best of k trials ---


def by_hand(scores, k):
    """How likely each setting is kept, by all draws of k and all orders of equals, one by one."""
    found = np.zeros(len(scores))
    draws = list(itertools.combinations(range(len(scores)), min(k, len(scores))))
    for draw in draws:
        best = max(scores[i] for i in draw)
        equal = [i for i in draw if scores[i] == best]
        for i in equal:
            found[i] += 1 / len(equal) / len(draws)
    return found


@pytest.mark.parametrize("row", [
    [0.3, 0.1, 0.9, 0.5, 0.7], [0.0, 0.0, 0.9, 0.0, 0.9], [0.2, 0.2, 0.2, 0.2, 0.2],
    [-1.0, 0.0, 0.0, 3.0, -1.0], [0.5],
])  # fmt: skip
def test_chances_are_those_of_all_draws(row):
    trials = [1, 2, 3, 4, 5, 9]
    found = chances(np.array([row, row[::-1]]), trials)
    assert found.shape == (2, len(trials), len(row))
    for k, shares in zip(trials, found[0], strict=True):
        np.testing.assert_allclose(shares, by_hand(row, k), atol=1e-12)
    np.testing.assert_allclose(found[1], found[0][:, ::-1], atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=-1), 1)


def test_many_settings_have_chances_too():
    found = chances(np.arange(500.0)[None], [1, 36, 499, 500])[0]
    np.testing.assert_allclose(found.sum(axis=-1), 1)
    np.testing.assert_allclose(found[1, -1], 36 / 500)
    assert found[3, -1] == pytest.approx(1)


def kept_by_hand(scores, k):
    """The mean held-out score over all halves, tuning seeds, draws and orders of equals."""
    even, odd = scores[::2], scores[1::2]
    values = []
    for tuning, others in ((even, odd), (odd, even)):
        shares = np.mean([by_hand(row, k) for row in tuning], axis=0)
        values += [shares @ row for row in others]
    return np.mean(values)


def test_the_best_of_k_is_scored_on_seeds_that_did_not_choose():
    rng = np.random.default_rng(5)
    ways = [rng.integers(0, 4, (6, size)) / 4 for size in (4, 2)]
    found = best_of(ways, [1, 2, 3, 4, 7], resamples=10)
    expected = [[kept_by_hand(way, k) for k in (1, 2, 3, 4, 7)] for way in ways]
    np.testing.assert_allclose(found.mean, expected, atol=1e-12)
    against = best_of(ways, [2], against=1, resamples=10)
    np.testing.assert_allclose(against.mean[:, 0], found.mean[:, 1] - found.mean[1, 1])


def test_one_trial_is_the_mean_of_all_settings():
    scores = np.random.default_rng(6).random((8, 5))
    np.testing.assert_allclose(best_of([scores], [1], resamples=5).mean, [[scores.mean()]])


def test_noise_gains_nothing_by_trials():
    """Control: on the seeds that choose, it does."""
    rng = np.random.default_rng(7)
    found, naive = [], []
    for _ in range(100):
        scores = noisy(rng, 12, 9)
        found.append(float(best_of([scores], [9], resamples=0).mean[0, 0]))
        naive.append(scores.max(axis=1).mean())
    assert abs(np.mean(found)) < 4 * np.std(found) / 10
    assert np.mean(naive) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_intervals_cover_the_difference(paired):
    """Of two peaks of noisy scores, whose expected scores 200 000 seeds say."""
    rng = np.random.default_rng(8)

    def ways(seeds):
        common = 0.2 * rng.normal(size=(2, seeds, 1))
        one = [0.0, 0.5, 0.8, 0.3] + common[0] + 0.1 * rng.normal(size=(seeds, 4))
        other = [0.0, 0.7, 0.6] + common[0 if paired else 1] + 0.1 * rng.normal(size=(seeds, 3))
        return [one, other]

    true = best_of(ways(200_000), [2], against=1, resamples=0).mean[0, 0]
    covered = []
    for _ in range(400):
        found = best_of(ways(24), [2], against=1, resamples=300)
        covered.append(found.low[0, 0] <= true <= found.high[0, 0])
    assert 0.91 < np.mean(covered) < 0.99


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.011, 0.2, "better"), (0.01, 0.2, "undecided"), (-0.2, -0.011, "worse"),
     (-0.2, -0.01, "undecided"), (-0.01, 0.01, "no difference beyond the margin"),
     (-0.011, 0.01, "undecided"), (np.nan, np.nan, "undecided")],
)  # fmt: skip
def test_a_verdict_is_of_the_whole_interval(low, high, verdict):
    assert better(Interval(*map(np.array, (0.0, low, high))), 0.01) == verdict


def test_budgets_refuse_what_they_can_not_use():
    good = np.ones((6, 2))
    with pytest.raises(ValueError, match=r"ways\[1\]: must have the 6 seeds"):
        best_of([good, np.ones((5, 2))], [1])
    with pytest.raises(ValueError, match="trials: must be an integer of at least 1"):
        best_of([good], [0])
    with pytest.raises(ValueError, match="against: must be an integer from 0 to 0"):
        best_of([good], [1], against=1)
    with pytest.raises(ValueError, match="two halves need at least two"):
        best_of([good[:1]], [1])


def test_the_median_gain_is_that_of_most_seeds():
    """One seed of six loses all; the mean shows it, the median does not."""
    scores, others = np.full((6, 1), 0.9), np.full((6, 1), 0.5)
    scores[4] = 0
    mean, median = (gain(scores, others, median=at, resamples=50).mean for at in (False, True))
    assert mean == pytest.approx((5 * 0.4 - 0.5) / 6)
    assert median == pytest.approx(0.4)
