"""Statistics of a grid: means, chosen cells, intervals with the coverage that they state."""

import numpy as np
import pytest

from lora_theory import analysis
from lora_theory.results import Results

ETA_A, ETA_B = np.array([1e-3, 1e-2, 1e-1]), np.array([1e-2, 1e-1, 1.0, 10.0])


def results(losses):
    """A grid whose curves are constant in t, from losses (S, 3, 4)."""
    curves = np.repeat(np.asarray(losses, np.float32)[..., None], 3, axis=-1)
    diverged_at = np.where(np.isnan(curves[..., 0]), 0, -1)
    return Results(
        ETA_A, ETA_B, np.arange(len(losses)), np.arange(3), curves, curves, diverged_at, {}
    )


GRID = np.full((2, 3, 4), 5.0)
GRID[:, 1, 2] = 1.0  # The best: λ = 1 / 0.01.
GRID[:, 1, 1] = 1.005  # Within 1 %: λ = 10.
GRID[:, 2, 1] = 2.0  # The best equal pair, 0.1.
GRID[1, 0, 3] = np.nan  # A cell that diverges for one seed only …
GRID[0, 0, 3] = 0.1  # … and would be the best without it.


def test_a_cell_with_one_diverged_seed_is_not_averaged():
    mean = analysis.seed_mean(results(GRID), "test_loss", 2)
    assert np.isnan(mean[0, 3])
    assert np.isfinite(np.delete(mean.ravel(), 3)).all()


def test_chosen_pairs():
    grid = results(GRID)
    mean = analysis.seed_mean(grid, "test_loss", 2)
    best, equal = analysis.best_pair(grid, mean), analysis.best_equal_pair(grid, mean)
    assert (best.eta_a, best.eta_b, best.on_border) == (0.01, 1.0, False)
    assert best.ratio == pytest.approx(100)
    assert (equal.eta_a, equal.eta_b, equal.ratio) == (0.1, 0.1, 1.0)
    assert equal.on_border
    np.testing.assert_allclose(analysis.ratio_range(grid, mean), (10, 100))
    assert analysis.near_best(mean).sum() == 2


def test_a_grid_in_which_everything_diverged_has_no_best():
    grid = results(np.full((2, 3, 4), np.nan))
    mean = analysis.seed_mean(grid, "test_loss", 0)
    assert analysis.best_pair(grid, mean) is None
    assert analysis.best_equal_pair(grid, mean) is None
    assert not analysis.near_best(mean).any()
    assert np.isnan(analysis.ratio_range(grid, mean)).all()
    assert analysis.diverged_share(grid, 0) == 1


def test_each_seed_has_its_own_best():
    ratios = analysis.seed_ratios(results(GRID), "test_loss", 1)
    np.testing.assert_allclose(ratios, [10 / 1e-3, 1 / 1e-2])


def test_held_out_pairs_are_judged_where_they_were_not_chosen():
    losses = np.full((3, 3, 4), 5.0)
    for s in range(3):
        losses[s, 1, s] = 1.0 + 0.1 * s  # Every seed has a lucky cell of its own.
    judged = analysis.held_out(results(losses), 1)
    # Without seed s, the others' luckiest cell is that of the first of them; on s it is ordinary.
    np.testing.assert_array_equal(judged[:, 0], [5.0, 5.0, 5.0])
    losses[0, 1, 1] = np.nan  # The choice of seeds 1 and 2 diverges on seed 0 …
    losses[2, 1, 1], losses[2, 1, 2] = 1.0, 5.0  # … of which both now like the same cell.
    judged = analysis.held_out(results(losses), 1)
    assert np.isnan(judged[0, 0])


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_intervals_cover_the_mean_as_often_as_they_say(seeds):
    draws = np.random.default_rng(0).normal(3.0, 2.0, (seeds, 20_000))
    centre = analysis.interval(draws)
    covered = ((centre.low <= 3.0) & (centre.high >= 3.0)).mean()
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 20_000)


def test_normal_quantiles_would_not_cover():
    """Control: ± 1.96 standard errors of three seeds cover far less than 95 %."""
    draws = np.random.default_rng(0).normal(0.0, 1.0, (3, 20_000))
    half = 1.96 * draws.std(axis=0, ddof=1) / np.sqrt(3)
    assert (np.abs(draws.mean(axis=0)) <= half).mean() < 0.85


def test_one_seed_has_no_interval():
    centre = analysis.interval(np.ones((1, 4)))
    assert np.isnan(centre.low).all()
    assert (centre.mean == 1).all()
