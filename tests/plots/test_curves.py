"""Curves: a quantile over seeds with its interval; what diverged is not drawn."""

import numpy as np
import pytest
import xarray
from matplotlib.figure import Figure

from lora_theory.plots.curves import draw_curves
from lora_theory.stats.landscapes import Cell, Judge

STEPS = 20
PAIRS = {"best pair": Cell(0, 0, 1e-2, 1e-1, 0.1, True)}


def data(seeds, diverged=0):
    """One cell; of its seeds the last `diverged` diverge at step 10."""
    t = np.arange(STEPS + 1)
    curves = np.exp(-0.1 * t) * np.arange(1, seeds + 1)[:, None]
    curves[seeds - diverged :, 10:] = np.nan
    values = (("seed", "eta_a", "eta_b", "step"), curves[:, None, None])
    return xarray.Dataset(
        {"train_loss": values, "test_loss": values},
        {"seed": np.arange(seeds), "eta_a": [1e-2], "eta_b": [1e-1], "step": t},
    )


def panels(found):
    figure = Figure()
    draw_curves(figure.subfigures(1, 1), found, PAIRS, STEPS, Judge())
    sub = figure.subfigs[0]
    words = [text.get_text() for text in sub.legends[0].texts]
    return [ax for ax in sub.axes if ax.get_ylabel()], words


def test_the_band_is_the_interval_of_the_median():
    axes, words = panels(data(6))
    band = axes[0].collections[0].get_paths()[0].vertices[:, 1]
    t = np.arange(STEPS + 1)
    # Of six seeds it runs from the least to the largest.
    assert band.min() == pytest.approx(np.exp(-0.1 * t).min())
    assert band.max() == pytest.approx(6.0)
    assert "95 % interval over seeds" in words


def test_few_seeds_have_no_band_and_the_legend_says_so():
    axes, words = panels(data(3))
    vertices = [path.vertices for c in axes[0].collections for path in c.get_paths()]
    assert not any(np.isfinite(v).all() and len(v) for v in vertices)
    assert "3 seeds: no interval" in words


def test_what_diverged_is_not_drawn():
    axes, _ = panels(data(3, diverged=2))
    median = axes[0].lines[0].get_ydata()
    assert np.isfinite(median[:10]).all()
    assert np.isnan(median[10:]).all()


@pytest.mark.parametrize(("seeds", "single"), [(15, 15), (16, 0)])
def test_single_seeds_are_drawn_while_they_can_be_told_apart(seeds, single):
    axes, words = panels(data(seeds))
    assert len(axes[0].lines) == 1 + single
    assert ("single seeds" in words) == (single > 0)


@pytest.mark.parametrize("order", [1, -1])
def test_the_zoom_shows_both_pairs_whichever_comes_first(order):
    found = data(3)
    values = np.concatenate([found.test_loss.values, 5 * found.test_loss.values], axis=2)
    dims = ("seed", "eta_a", "eta_b", "step")
    two = xarray.Dataset(
        {"train_loss": (dims, values), "test_loss": (dims, values)},
        {"seed": found.seed, "eta_a": [1e-2], "eta_b": [1e-1, 1.0], "step": found.step},
    )
    cells = [Cell(0, j, 1e-2, 10.0 ** (j - 1), 0.1, True) for j in (0, 1)][::order]
    figure = Figure()
    pairs = dict(zip(("best pair", "best equal pair"), cells, strict=True))
    draw_curves(figure.subfigures(1, 1), two, pairs, STEPS, Judge())
    ax = next(ax for ax in figure.subfigs[0].axes if ax.get_ylabel())
    low, high = ax.child_axes[0].get_ylim()
    median = 2 * np.exp(-0.1 * STEPS)
    assert low < median < 5 * median < high
