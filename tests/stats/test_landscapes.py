"""Statistics of a grid: means, chosen cells, held-out pairs."""

import numpy as np
import pytest
import xarray

from lora_theory.stats import landscapes

ETA_A, ETA_B = np.array([1e-3, 1e-2, 1e-1]), np.array([1e-2, 1e-1, 1.0, 10.0])


def results(losses):
    """A grid whose curves are constant in t, from losses (S, 3, 4)."""
    curves = np.repeat(np.asarray(losses, np.float32)[..., None], 3, axis=-1)
    dims = ("seed", "eta_a", "eta_b", "step")
    return xarray.Dataset(
        {
            "train_loss": (dims, curves),
            "test_loss": (dims, curves),
            "diverged_at": (dims[:3], np.where(np.isnan(curves[..., 0]), 0, -1)),
        },
        {"seed": np.arange(len(losses)), "eta_a": ETA_A, "eta_b": ETA_B, "step": np.arange(3)},
    )


GRID = np.full((2, 3, 4), 5.0)
GRID[:, 1, 2] = 1.0  # The best: λ = 1 / 0.01.
GRID[:, 1, 1] = 1.005  # Within 1 %: λ = 10.
GRID[:, 2, 1] = 2.0  # The best equal pair, 0.1.
GRID[1, 0, 3] = np.nan  # A cell that diverges for one seed only …
GRID[0, 0, 3] = 0.1  # … and would be the best without it.


def test_a_cell_with_one_diverged_seed_is_not_averaged():
    mean = landscapes.seed_mean(results(GRID), "test_loss", 2)
    assert np.isnan(mean[0, 3])
    assert np.isfinite(np.delete(mean.ravel(), 3)).all()


def test_chosen_pairs():
    grid = results(GRID)
    mean = landscapes.seed_mean(grid, "test_loss", 2)
    best, equal = landscapes.best_pair(grid, mean), landscapes.best_equal_pair(grid, mean)
    assert (best.eta_a, best.eta_b, best.on_border) == (0.01, 1.0, False)
    assert best.ratio == pytest.approx(100)
    assert (equal.eta_a, equal.eta_b, equal.ratio) == (0.1, 0.1, 1.0)
    assert equal.on_border
    np.testing.assert_allclose(landscapes.ratio_range(grid, mean), (10, 100))
    assert landscapes.near_best(mean).sum() == 2


def test_a_grid_in_which_everything_diverged_has_no_best():
    grid = results(np.full((2, 3, 4), np.nan))
    mean = landscapes.seed_mean(grid, "test_loss", 0)
    assert landscapes.best_pair(grid, mean) is None
    assert landscapes.best_equal_pair(grid, mean) is None
    assert not landscapes.near_best(mean).any()
    assert np.isnan(landscapes.ratio_range(grid, mean)).all()
    assert landscapes.diverged_share(grid, 0) == 1


def test_each_seed_has_its_own_best():
    ratios = landscapes.seed_ratios(results(GRID), "test_loss", 1)
    np.testing.assert_allclose(ratios, [10 / 1e-3, 1 / 1e-2])


def test_held_out_pairs_are_judged_where_they_were_not_chosen():
    losses = np.full((3, 3, 4), 5.0)
    for s in range(3):
        losses[s, 1, s] = 1.0 + 0.1 * s  # Every seed has a lucky cell of its own.
    judged = landscapes.held_out(results(losses), 1)
    # Without seed s, the others' luckiest cell is that of the first of them; on s it is ordinary.
    np.testing.assert_array_equal(judged[:, 0], [5.0, 5.0, 5.0])
    losses[0, 1, 1] = np.nan  # The choice of seeds 1 and 2 diverges on seed 0 …
    losses[2, 1, 1], losses[2, 1, 2] = 1.0, 5.0  # … of which both now like the same cell.
    judged = landscapes.held_out(results(losses), 1)
    assert np.isnan(judged[0, 0])
