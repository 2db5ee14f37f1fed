"""Carried rates on landscapes that are known, and widths that are better or not."""

import numpy as np
import pytest

from lora_theory.stats.controls import family
from lora_theory.stats.landscapes import Line
from lora_theory.stats.scaling import Sweep
from lora_theory.stats.transfer import Rule, transfer, wider

WIDTHS = (6, 7, 8)
RATES = 2.0 ** np.arange(-8, 1)
INF = np.inf


def moving(truth, key=0, seeds=(8, 8, 8), **noise):
    return family(WIDTHS, (RATES, RATES), seeds, truth, key, **noise)


def lines(power, eta, seeds=8):
    """Shared rates of which log2 η = −4 + power (log2 n − 7) is the best: a parabola around it."""
    found = []
    for n in WIDTHS:
        distance = np.log2(eta) + 4 - power * (n - 7)
        losses = np.tile(2.0 ** (0.25 * distance**2 - 3), (seeds, 1))
        found.append(Line(np.where(distance > 2, INF, losses), np.ones(seeds), eta))
    return tuple(found)


@pytest.mark.parametrize("truth", [(-1, 0), (0, 0), (-1, 1)])
def test_the_right_rule_loses_nothing(truth):
    sweep = moving(truth, noise=0.0, scatter=0.0)
    for at in transfer(sweep, Rule(*truth), resamples=5):
        assert at.gap == ""
        np.testing.assert_allclose(at.lost, 0)
        assert at.carried == at.tuned
    wrong = transfer(sweep, Rule(truth[0], truth[1] - 1), resamples=5)
    assert [at.lost.mean for at in wrong] == pytest.approx([0.125, 0.5])  # (Δ log2 η)² / 8
    assert [at.log2_width for at in wrong] == [7, 8]


def test_half_a_cell_is_a_gap_in_the_plane_and_none_on_a_finer_line():
    sweep = moving((-0.5, -0.5), noise=0.0, scatter=0.0)
    found = transfer(sweep, Rule(-0.5, -0.5), resamples=5)
    assert [at.gap == "" for at in found] == [False, True]
    assert "between the rates" in found[0].gap
    assert np.isnan(found[0].lost.mean)
    shared = Rule(-0.5, -0.5, shared=True)
    assert "between the rates" in transfer(sweep, shared, resamples=5)[0].gap
    fine = sweep._replace(lines=lines(-0.5, 2.0 ** np.arange(-8, 0.1, 0.5)))
    for at in transfer(fine, shared, resamples=5):
        assert at.gap == ""
        np.testing.assert_allclose(at.lost, 0)
        assert at.carried[0][0] == at.carried[0][1] == -3.5 - (at.log2_width - 6) / 2
    kept = transfer(fine, Rule(0, 0, shared=True), resamples=5)
    assert [at.lost.mean for at in kept] == pytest.approx([0.25 * 0.25, 0.25])


def test_beyond_the_grid_and_diverged_are_named():
    sweep = moving((0, 0), noise=0.0, scatter=0.0)
    found = transfer(sweep, Rule(-4, 0), resamples=5)
    assert [at.gap for at in found] == ["", "2^-12 lies beyond the grid"]
    gone = sweep.lands[0]._replace(losses=np.full((8, 9, 9), INF))
    found = transfer(Sweep(sweep.log2_widths, (gone, *sweep.lands[1:])), Rule(0, 0), resamples=5)
    assert {at.gap for at in found} == {"all runs diverged"}
    with pytest.raises(ValueError, match="one exponent"):
        transfer(sweep, Rule(-1, 0, shared=True))


def test_a_carried_pair_that_diverges_counts_as_untrained():
    sweep = moving((-1, 0), noise=0.0, scatter=0.0)
    best = np.log2(sweep.lands[1].losses.min(axis=(1, 2))).mean()
    for penalty, most in ((1, 0), (4, 2)):
        found = transfer(sweep, Rule(2, 0), penalty=penalty, resamples=3)[0]
        assert found.lost.mean == pytest.approx(most - best)


def test_other_seeds_judge():
    """A needle in one half of the seeds is worth nothing to the other."""
    sweep = moving((0, 0), noise=0.0, scatter=0.0)
    losses = sweep.lands[1].losses.copy()
    losses[::2, 1, 1] = 2.0**-9
    lands = (sweep.lands[0], sweep.lands[1]._replace(losses=losses), sweep.lands[2])
    found = transfer(sweep._replace(lands=lands), Rule(0, 0), resamples=20)[0]
    assert found.tuned[0] == (-7, -7)
    assert found.tuned[1] == (-4, -4)
    assert found.lost.mean < 0


def test_intervals_of_losses_cover():
    """Of 24 families, against the mean of many; fewer than 20 would happen once in 200 times."""
    rule = Rule(-1, -1, shared=True)
    lost = [transfer(moving((-1, 0), k), rule, resamples=0)[0].lost.mean for k in range(200)]
    truth, covered = np.mean(lost), 0
    for k in range(24):
        found = transfer(moving((-1, 0), k), rule, resamples=60)[0].lost
        covered += found.low <= truth <= found.high
    assert covered >= 20


def test_fewer_seeds_at_a_width():
    found = transfer(moving((-1, 0), seeds=(12, 12, 6)), Rule(-1, 0), resamples=20)
    assert np.isfinite([at.lost for at in found]).all()


# --- Wider is better ---


def curves(rng, levels, seeds=16, steps=30, spread=0.2):
    """Losses that fall like 2^−level, each seed's shifted by a walk: steps hang together."""
    found = []
    for level in levels:
        walk = np.cumsum(rng.normal(size=(seeds, steps)), axis=1) * spread / np.sqrt(steps)
        fall = np.linspace(0, level, steps)
        found.append(2.0 ** np.concatenate([np.zeros((seeds, 1)), walk - fall], axis=1))
    return tuple(found)


def test_wider_is_better_where_it_is():
    rng = np.random.default_rng(0)
    better, worse = wider(np.array([6.0, 7.0, 8.0]), curves(rng, (2, 4, 3)), after=5)
    assert (better.share, better.low, better.high) == (1, 1, 1)
    assert better.seeds == (16, 16)
    assert better.sign[0] > 0.75
    assert worse.share == 0
    assert worse.sign[1] < 0.25
    assert worse.log2_widths == (7, 8)


def test_equal_widths_are_not_told_apart():
    """A walk keeps its side for many steps: counted as independent, they would often be."""
    undecided = told = 0
    for k in range(40):
        same = wider(np.array([6.0, 7.0]), curves(np.random.default_rng(k), (2, 2)), resamples=100)[
            0
        ]
        undecided += same.sign[0] <= 0.5 <= same.sign[1]
        error = 2 * np.sqrt(0.25 / 30)
        told += abs(same.share - 0.5) > error
    assert undecided >= 35
    assert told > 20


def test_diverged_runs_and_steps_that_do_not_count():
    narrow = np.array([[8.0, 4.0, 2.0, 1.0], [8.0, 4.0, 2.0, 1.0]])
    wide = np.array([[8.0, 9.0, 1.0, 0.5], [8.0, 9.0, 1.0, INF]])
    at = wider(np.array([6.0, 7.0]), (narrow, wide), after=1, resamples=10)[0]
    # Mean log losses: 3 and 0 against 2 and 1, then (−1 + 3) / 2 = 1 against 0.
    assert at.share == pytest.approx(1 / 3)
    assert at.seeds == (1, 2)
    later = wider(np.array([6.0, 7.0]), (narrow[:1], wide[:1]), after=2)[0]
    assert later.share == 1
    assert np.isnan([later.low, later.high]).all()
    with pytest.raises(ValueError, match="after"):
        wider(np.array([6.0, 7.0]), (narrow, wide), after=4)
