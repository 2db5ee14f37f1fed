"""Cuts that fall on one another where they should, and nowhere else; the variance as given."""

import numpy as np
import pytest

from lora_theory.plots import collapse
from lora_theory.plots.scaling import Moving
from lora_theory.stats.collapse import Collapse
from lora_theory.stats.landscapes import Landscape
from lora_theory.stats.scaling import Sweep, scaling

RATES = 2.0 ** np.arange(-12.0, 1)
WIDTHS = np.array([2.0, 4.0, 6.0])
NOTHING = (np.nan, np.nan)
LEFT = {"fit": 0.1, "theory": 0.2, "none": 0.9}


def moving(c, left=LEFT):
    """A basin that moves as n^c."""

    def land(n):
        a, b = np.log2(RATES)[:, None] + 5 - c[0] * (n - 4), np.log2(RATES) + 5 - c[1] * (n - 4)
        losses = 2 ** (0.1 * (a**2 + 2 * b**2) - 9)
        return Landscape(losses[None].repeat(4, axis=0), np.full(4, 1e9), RATES, RATES)

    sweep = Sweep(WIDTHS, tuple(map(land, WIDTHS)))
    fits = {("test_loss", 5): Collapse(c, NOTHING, NOTHING, left, 9)}
    return Moving("basin", sweep, scaling(sweep, resamples=0), fits, (4, 4, 4), c)


def row(c, **options):
    """The four cuts, raw and scaled along η_A and along η_B, and the variance left."""
    return panels(moving(c, **options))


def panels(family):
    axes = collapse.collapse_figure([family], what="loss").axes
    return [axes[k] for k in (0, 1, 3, 4, 2)]


def spread(ax):
    """The largest distance of the curves where all of them are."""
    curves = [line.get_xydata() for line in ax.lines]
    assert len(curves) == len(WIDTHS)
    x = np.arange(max(c[0, 0] for c in curves), min(c[-1, 0] for c in curves) + 0.5)
    values = [np.interp(x, *curve.T) for curve in curves]
    return np.ptp(values, axis=0).max()


@pytest.mark.parametrize("c", [(-1.0, 0.0), (-0.5, -0.5), (0.0, 1.0)])
def test_scaled_cuts_fall_on_one_another_and_raw_ones_do_not(c):
    axes = row(c)
    assert [spread(axes[k]) < 1e-9 for k in (1, 3)] == [True, True]
    assert max(spread(axes[k]) for k in (0, 2)) > 1


def test_widths_whose_cut_leaves_the_grid_are_named():
    found = moving((-1.0, 0.0))._replace(scaled=(4.0, 0.0))
    ax = panels(found)[3]
    assert len(ax.lines) == 1
    assert "off the grid at n = 4, 64" in ax.texts[0].get_text()


def test_the_variance_left_is_what_was_given():
    ax = row((-1.0, 0.0))[4]
    assert sorted(y for line in ax.lines for y in line.get_ydata() if y) == sorted(LEFT.values())


@pytest.mark.parametrize(
    ("left", "words"), [({}, "flat"), (dict.fromkeys(LEFT, np.nan), "no cells in common")]
)
def test_where_nothing_was_compared_it_says_so(left, words):
    (text,) = row((-1.0, 0.0), left=left)[4].texts
    assert text.get_text() == words


def test_a_width_without_any_finite_loss_at_the_start_is_left_out():
    found = moving((-1.0, 0.0))
    lost = found.sweep.lands[2]._replace(start=np.full(4, np.inf))
    sweep = found.sweep._replace(lands=(*found.sweep.lands[:2], lost))
    axes = panels(found._replace(sweep=sweep))[:4]
    assert [len(ax.lines) for ax in axes] == [2, 2, 2, 2]
    nothing = sweep._replace(lands=(lost,) * 3)
    axes = panels(found._replace(sweep=nothing))[:4]
    assert [len(ax.lines) for ax in axes] == [0, 0, 0, 0]
