"""Landscapes side by side show the medians and pairs that they are given, on one scale a row."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from plots.readable import assert_readable

from lora_theory.plots import grids
from lora_theory.plots.maps import PAIRS
from lora_theory.stats.landscapes import Judge, Landscape

RATES = 2.0 ** np.arange(-4, 1)


def land(best, seeds=7):
    """Losses that grow with the distance from a place; the largest rates diverge."""
    i, j = np.indices((5, 5))
    losses = 0.1 + 0.2 * (np.abs(i - best[0]) + np.abs(j - best[1]))
    losses = np.where(i + j == 8, np.inf, losses)
    return Landscape(np.tile(losses, (seeds, 1, 1)), np.full(seeds, 2.0), RATES, RATES)


@pytest.fixture(scope="module")
def figure():
    rows = {
        name: [grids.Shown(f"{name} {at}", land(at)) for at in places]
        for name, places in (("first", [(1, 3), (2, 2)]), ("second", [(0, 2), (3, 1)]))
    }
    made = grids.grid_figure(rows, Judge(), what="test loss", title="title")
    made.draw_without_rendering()
    return made


def test_every_map_has_its_medians_with_b_upwards(figure):
    for ax, best in zip(figure.axes[:4], [(1, 3), (2, 2), (0, 2), (3, 1)], strict=True):
        (mesh,) = ax.collections
        medians = np.median(land(best).losses, axis=0)
        shown = mesh.get_array()
        np.testing.assert_allclose(shown[~np.isinf(medians.T)], medians.T[~np.isinf(medians.T)])
        assert np.ma.getmaskarray(shown)[np.isinf(medians.T)].all()


def test_the_pairs_are_marked_where_they_lie(figure):
    marked = {}
    for line in figure.axes[0].lines:
        if line.get_marker() in ("*", "D"):
            marked[to_hex(line.get_color())] = (line.get_xdata()[0], line.get_ydata()[0])
    best, equal = (colour for colour, _ in PAIRS.values())
    assert marked[best] == (RATES[1], RATES[3])
    assert marked[equal][0] == marked[equal][1]


def test_a_row_has_one_scale(figure):
    first, second, third, fourth = (ax.collections[0].norm for ax in figure.axes[:4])
    assert first is second
    assert third is fourth


def test_it_can_be_read(figure):
    assert_readable(figure)


def test_rows_of_several_lengths_are_refused():
    one = grids.Shown("one", land((1, 1)))
    with pytest.raises(ValueError, match="rows: must be of one length"):
        grids.grid_figure({"a": [one], "b": [one, one]}, Judge(), what="loss", title="")
    with pytest.raises(ValueError, match="rows"):
        grids.grid_figure({}, Judge(), what="loss", title="")
