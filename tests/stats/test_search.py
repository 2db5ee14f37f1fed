"""Two rates against one: exact expectations, steps to reach a loss, seeds' own optima."""

import itertools

import numpy as np
import pytest

from lora_theory.stats.landscapes import Judge, Landscape
from lora_theory.stats.search import (
    chances,
    expected_best,
    larger_b,
    log_values,
    search,
    speed_up,
    steps_to_reach,
)

INF = np.inf
RATES = 2.0 ** np.arange(-3, 0)


def land(losses, rates=RATES, start=8.0):
    losses = np.asarray(losses, float)
    return Landscape(losses, np.full(len(losses), start), rates, rates)


def noisy(rng, seeds, off_diagonal=1.0):
    """Losses of which those with η_B > η_A are so much lower."""
    losses = 2.0 ** (
        1 + 0.4 * rng.normal(size=(seeds, 3, 3)) + 0.3 * rng.normal(size=(seeds, 1, 1))
    )
    losses[:, 0, 1:] *= off_diagonal
    losses[:, 2, 2] = INF
    return land(losses)


# --- Expectations ---


def by_enumeration(judged, values, trials):
    """The mean over all sets of k cells of what the best of each is worth; ties are shared."""
    worth = []
    for some in itertools.combinations(range(len(judged)), trials):
        least = min(judged[g] for g in some)
        ties = [values[g] for g in some if judged[g] == least]
        worth.append(sum(ties) / len(ties))
    return sum(worth) / len(worth)


@pytest.mark.parametrize("trials", range(1, 8))
def test_expectations_are_those_of_all_searches(trials):
    rng = np.random.default_rng(trials)
    judged, values = rng.permutation(7).astype(float), rng.normal(size=7)
    found = expected_best(judged, values, trials)
    assert found == pytest.approx(by_enumeration(judged, values, trials))
    # Control: with replacement it is something else.
    ranked = values[np.argsort(judged)]
    repeated = np.diff(1 - (1 - np.arange(8) / 7) ** trials) @ ranked
    assert trials == 1 or found != pytest.approx(repeated)


@pytest.mark.parametrize("trials", range(1, 7))
def test_ties_are_shared(trials):
    judged = np.array([INF, 1.0, 2.0, 2.0, INF, INF])
    values = np.random.default_rng(0).normal(size=(4, 6))
    found = expected_best(judged, values, trials)
    np.testing.assert_allclose(found, [by_enumeration(judged, at, trials) for at in values])


def test_chances():
    for cells, trials in ((1, 1), (5, 2), (441, 21), (441, 441)):
        found = chances(cells, trials)
        assert found.sum() == pytest.approx(1)
        assert found[0] == pytest.approx(trials / cells)
        assert (found[cells - trials + 1 :] == 0).all()
    for trials in (0, 6):
        with pytest.raises(ValueError, match="trials"):
            chances(5, trials)


def test_values_are_bounded_by_the_start():
    losses, start = np.array([[1.0, INF, 64.0]]), np.array([8.0])
    assert log_values(losses, start).tolist() == [[0, 3, 3]]
    assert log_values(losses, start, penalty=4.0).tolist() == [[0, 5, 5]]


# --- The search ---


def test_a_search_is_that_of_plain_loops():
    at = noisy(np.random.default_rng(0), 5)
    found = search(at, resamples=3)
    logs = np.log2(np.minimum(at.losses, 8.0))
    even, odd = [0, 2, 4], [1, 3]
    plane = [(i, j) for i in range(3) for j in range(3)]
    for k in (1, 2, 3):
        worth = {}
        for name, cells in (("plane", plane), ("line", [(0, 0), (1, 1), (2, 2)])):
            total = 0.0
            for chooses, judges in ((even, odd), (odd, even)):
                judged = []
                for i, j in cells:
                    ordered = sorted(at.losses[s, i, j] for s in chooses)
                    judged.append(
                        (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
                    )
                for s in judges:
                    total += by_enumeration(judged, [logs[s, i, j] for i, j in cells], k)
            worth[name] = total / 5
        assert found.trials[k - 1] == k
        assert found.plane[k - 1] == pytest.approx(worth["plane"])
        assert found.line[k - 1] == pytest.approx(worth["line"])
        assert found.gain.mean[k - 1] == pytest.approx(worth["line"] - worth["plane"])


def test_two_rates_gain_where_they_are_better():
    rng = np.random.default_rng(0)
    better, same = (search(noisy(rng, 24, by), resamples=60).gain for by in (0.1, 1.0))
    assert (better.low[1:] > 0).all()
    assert not (same.low[1:] > 0).any()
    assert same.low[0] > 0  # More of the line diverges: one trial is safer in the plane.


def test_intervals_of_gains_cover():
    """Of 30 families, against the mean of many; fewer than 25 would happen once in 300 times."""
    gains = [search(noisy(np.random.default_rng(k), 12), resamples=0).gain.mean for k in range(400)]
    truth, covered = np.mean(gains, axis=0), np.zeros(3)
    for k in range(30):
        gain = search(noisy(np.random.default_rng(k), 12), resamples=60).gain
        covered += (gain.low <= truth) & (truth <= gain.high)
    assert (covered >= 25).all()


def test_rates_of_0_are_no_trials():
    at = noisy(np.random.default_rng(0), 6)
    losses = np.full((6, 4, 4), 1e-9)
    losses[:, 1:, 1:] = at.losses
    with_0 = land(losses, np.concatenate([[0.0], RATES]))
    np.testing.assert_array_equal(search(with_0, resamples=2).plane, search(at, resamples=2).plane)


def test_a_search_that_is_none():
    at = noisy(np.random.default_rng(0), 4)
    with pytest.raises(ValueError, match="no shared rates"):
        search(at._replace(eta_b=3 * RATES))
    with pytest.raises(ValueError, match="two"):
        search(at.of_seeds(slice(1)))


# --- Training time ---


def test_steps_to_reach():
    steps = np.array([0, 10, 30, 40])
    curves = np.array(
        [
            [8.0, 4.0, 1.0, 0.5],  # 2 half way from 10 to 30.
            [8.0, 4.0, 3.0, INF],  # Never.
            [1.0, 9.0, 9.0, 9.0],  # There at the start.
            [INF, INF, 1.0, 1.0],  # Nothing to interpolate.
            [8.0, 2.0, 8.0, 2.0],  # The first time counts.
            [8.0, 4.0, 0.0, 0.0],
        ]
    )
    found = steps_to_reach(steps, curves, np.full(6, 2.0))
    np.testing.assert_allclose(found[:5], [20, INF, 0, 30, 10])
    assert 10 < found[5] < 11
    assert steps_to_reach(steps, curves[1:2], np.array([INF])).tolist() == [0]


def power_law(seeds, fast=2.0):
    """Losses 2^(−t / 10), with η_B > η_A faster, at rates of three sizes."""
    steps = np.arange(0, 41, 10)
    speed = np.array([[0.5, fast, 0.2], [0.4, 1.0, 0.3], [0.1, 0.1, 0.1]])
    hard = 1 + 0.1 * np.arange(seeds)[:, None, None, None]
    curves = hard * 2.0 ** (-speed[None, :, :, None] * steps / 10)
    return land(curves[..., -1]), curves, steps


@pytest.mark.parametrize("fast", [1.25, 2.0, 4.0])
def test_the_speed_up_of_a_known_one(fast):
    at, curves, steps = power_law(9, fast)
    found = speed_up(at, curves, steps, resamples=20)
    np.testing.assert_allclose(found.steps, 40 / fast)
    np.testing.assert_allclose(found.ratio, fast)
    np.testing.assert_allclose(found.median, 40 / fast)


def test_what_is_never_reached_has_no_speed_up():
    at, curves, steps = power_law(8)
    chosen = curves.copy()
    chosen[2:, 0, 1, 1:] = INF  # In the runs, not in what chose.
    found = speed_up(at, chosen, steps, resamples=20)
    assert np.isinf(found.steps).sum() == 6
    assert found.ratio.value == 0
    assert np.isinf(found.median.high)
    nothing = at._replace(losses=np.full_like(at.losses, INF))
    assert speed_up(nothing, curves, steps) is None


# --- Own optima ---


def test_seeds_with_a_larger_rate_of_b():
    losses = np.full((10, 3, 3), 5.0)
    for s in range(7):
        losses[s, 0, 1 + s % 2] = 1.0
    losses[7, 1, 1] = losses[8, 2, 0] = 1.0
    losses[9] = INF
    found = larger_b(land(losses))
    assert found[:4] == (7, 1, 1, 1)
    assert found.share == 7 / 8
    assert found.low < 0.5 < found.high  # 7 of 8 say little.
    assert larger_b(land(np.tile(losses[:1], (20, 1, 1)))).low > 0.8
    alone = larger_b(land(np.tile(losses[7:8], (3, 1, 1))))
    assert alone.equal == 3
    assert np.isnan(alone.share)
    assert (alone.low, alone.high) == (0, 1)


def test_a_judge_may_be_another():
    at = noisy(np.random.default_rng(0), 12)
    careful, median = (search(at, judge=Judge(q), resamples=0).plane for q in (0.75, 0.5))
    assert careful[0] == pytest.approx(median[0])  # One trial chooses nothing.
    assert (careful[1:] != median[1:]).all()
