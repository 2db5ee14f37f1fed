"""Curves: a quantile over seeds with its interval; what diverged is not drawn."""

import numpy as np
import pytest
import xarray
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lora_theory.plots.curves import draw_curves
from lora_theory.stats.landscapes import Cell, Judge

STEPS = 20
PAIRS = {"best pair": Cell(0, 0, 1e-2, 1e-1, 0.1, True)}
PAIR_NAMES = ("best pair", "best equal pair")


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
    pairs = dict(zip(PAIR_NAMES, cells, strict=True))
    draw_curves(figure.subfigures(1, 1), two, pairs, STEPS, Judge())
    ax = next(ax for ax in figure.subfigs[0].axes if ax.get_ylabel())
    low, high = ax.child_axes[0].get_ylim()
    median = 2 * np.exp(-0.1 * STEPS)
    assert low < median < 5 * median < high


def spiked(peak, *, seeds=3, at=slice(1, 3), rows=slice(None), end=None):
    """The same, with a peak after the start; with `end` the last tenth is that."""
    found = data(seeds)
    for name in ("train_loss", "test_loss"):
        found[name].values[rows, 0, 0, at] = peak
        if end is not None:
            found[name].values[..., STEPS - STEPS // 10 :] = end
    return found


def noted(ax):
    return [text.get_text() for text in ax.texts]


def test_what_is_far_above_the_start_is_cut_off_and_said():
    plain, _ = panels(data(3))
    assert noted(plain[0]) == []
    axes, _ = panels(spiked(3e18))
    low, high = axes[0].get_ylim()
    assert low < np.exp(-0.1 * STEPS)  # The least is in it,
    assert 2.0 < high < 1e4  # as is the loss at t = 0, and a peak of 10^18 flattens neither.
    assert noted(axes[0]) == ["cut off:\nmedian $10^{18}$"]
    assert to_hex(axes[0].texts[0].get_bbox_patch().get_facecolor()) == "#ffffff"


def falling(peak, *, row=slice(None), seeds=3):
    """Seeds that start at 1 and soon are at 0.1, with a peak between."""
    found = data(seeds)
    for name in ("train_loss", "test_loss"):
        found[name].values[:] = 0.1
        found[name].values[..., 0] = 1.0
        found[name].values[row, 0, 0, 2] = peak
    return found


@pytest.mark.parametrize(("peak", "cut"), [(1.99, False), (2.01, True), (2.4, True)])
def test_cut_off_is_what_is_above_twice_the_start(peak, cut):
    axes, _ = panels(falling(peak))
    assert axes[0].get_ylim()[1] == pytest.approx(2.0)
    assert bool(noted(axes[0])) == cut


@pytest.mark.parametrize(("above", "said"), [(1.005, False), (1.015, True), (50.0, True)])
def test_single_seeds_are_named_only_where_they_go_higher_than_the_median(above, said):
    found = falling(1e3)
    for name in ("train_loss", "test_loss"):
        found[name].values[2, 0, 0, 2] = above * 1e3
    (note,) = noted(panels(found)[0][0])
    assert note.startswith("cut off:\nmedian 1000")
    assert ("seeds" in note) == said


def test_a_single_step_has_ticks_at_whole_steps_alone():
    figure = Figure()
    draw_curves(figure.subfigures(1, 1), data(3), PAIRS, 1, Judge())
    for ax in figure.subfigs[0].axes:
        for panel in (ax, *ax.child_axes):
            low, high = panel.get_xlim()
            ticks = [t for t in panel.get_xticks() if low <= t <= high]
            assert ticks == [0.0, 1.0]


def test_without_a_pair_no_tick_and_no_seed_is_made_up():
    figure = Figure()
    draw_curves(figure.subfigures(1, 1), data(3), {}, STEPS, Judge())
    panels = [ax for ax in figure.subfigs[0].axes if ax.get_ylabel()]
    assert not figure.subfigs[0].legends
    for ax in panels:
        assert len(ax.get_yticks()) == 0
        assert noted(ax) == ["diverged everywhere"]
        assert not zoom(ax).get_visible()


def test_a_single_seed_that_is_cut_off_is_told_from_the_median():
    axes, _ = panels(spiked(8e20, rows=slice(0, 1)))
    assert noted(axes[0]) == ["cut off:\nseeds $10^{20}$"]


def test_of_many_seeds_only_the_quantile_is_drawn_and_cut_off():
    axes, _ = panels(spiked(8e20, rows=slice(0, 1), seeds=16))
    assert noted(axes[0]) == []


def zoom(ax):
    return ax.child_axes[0]


def test_the_zoom_leaves_out_what_the_panel_cuts_off():
    found = data(3)
    huge = np.full_like(found.test_loss.values, 1e18)
    huge[..., 0] = found.test_loss.values[..., 0]
    dims = ("seed", "eta_a", "eta_b", "step")
    both = np.concatenate([found.test_loss.values, huge], axis=2)
    two = xarray.Dataset(
        {"train_loss": (dims, both), "test_loss": (dims, both)},
        {"seed": found.seed, "eta_a": [1e-2], "eta_b": [1e-1, 1.0], "step": found.step},
    )
    figure = Figure()
    pairs = dict(zip(PAIR_NAMES, (Cell(0, j, 1e-2, 1e-1, 0.1, True) for j in (0, 1)), strict=True))
    draw_curves(figure.subfigures(1, 1), two, pairs, STEPS, Judge())
    ax = next(ax for ax in figure.subfigs[0].axes if ax.get_ylabel())
    assert ax.get_ylim()[1] < 1e4
    assert zoom(ax).get_ylim()[1] < 1.0
    assert zoom(ax).get_visible()


def test_without_an_end_in_the_panel_there_is_no_zoom():
    axes, _ = panels(spiked(1.0, end=1e18))
    assert not zoom(axes[0]).get_visible()


@pytest.mark.parametrize("seeds", [3, 20])
@pytest.mark.parametrize("slow", [0.02, 0.3, 1.0])
def test_the_zoom_covers_no_curve(seeds, slow):
    """Whatever share of their way the curves still have to go under it."""
    found = data(seeds)
    for name in ("train_loss", "test_loss"):
        found[name].values[:] = found[name].values ** slow
    axes, _ = panels(found)
    for ax in axes:
        to_axes = ax.transData + ax.transAxes.inverted()
        lines = [line for line in ax.lines if len(line.get_xdata()) > 1]
        for line in lines:
            points = to_axes.transform(line.get_xydata())
            under = points[(points[:, 0] >= 0.42), 1]
            assert (under < 0.56).all()
