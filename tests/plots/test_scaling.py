"""Maps over widths: each shows its judged map, displaced as its coordinates say, strips apart."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from lora_theory.plots import maps, scaling
from lora_theory.stats.landscapes import Landscape
from lora_theory.stats.scaling import Sweep
from lora_theory.stats.scaling import scaling as scaled_of

ETA_A, ETA_B = (np.append(0.0, 2.0 ** np.arange(-k, 1.0)) for k in (9, 6))
WIDTHS = np.array([4.0, 5.0, 6.0])


def land(n, seeds=6):
    """A basin around n η_A = 2^2, η_B = 2^−3 that diverges two cells beyond."""
    a, b = np.meshgrid(np.arange(-10.0, 1) + n - 2, np.arange(-7.0, 1) + 3, indexing="ij")
    losses = np.where(a > 2, np.inf, 2 ** (0.2 * (a**2 + b**2) - 4))
    return Landscape(losses[None].repeat(seeds, axis=0), np.full(seeds, 4.0), ETA_A, ETA_B)


def moving(c=(-1.0, 0.0)):
    sweep = Sweep(WIDTHS, tuple(land(n) for n in WIDTHS))
    return scaling.Moving("basin", sweep, scaled_of(sweep, resamples=4), {}, (6, 6, 6), c)


def panels(figure):
    """The 2 × 3 panels."""
    axes = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    return np.array(axes).reshape(2, 3)


def blocks(ax):
    """The meshes of a panel: the corner, two strips, and the positive rates, the largest last."""
    meshes = [m for m in ax.collections if hasattr(m, "get_coordinates")]
    return sorted(meshes, key=lambda mesh: mesh.get_array().size)


def draw(c=(-1.0, 0.0)):
    return panels(scaling.maps_over_widths([moving(c)], what="loss", diverged="diverged"))


def test_every_panel_is_the_judged_map_with_rates_of_zero_apart():
    for row in draw():
        for ax, n in zip(row, WIDTHS, strict=True):
            corner, *strips, main = blocks(ax)
            judged = land(n).losses[0]
            assert corner.get_array().size == 1
            assert sorted(strip.get_array().size for strip in strips) == [7, 10]
            values = main.get_array()
            np.testing.assert_array_equal(np.ma.getmaskarray(values), np.isinf(judged[1:, 1:].T))
            finite = np.isfinite(judged[1:, 1:].T)
            np.testing.assert_array_equal(values[finite], judged[1:, 1:].T[finite])
            assert main.cmap.get_bad()[3] == 0  # What is under it is seen:
            assert [under.get_hatch() for under in ax.patches] == [maps.DIVERGED["hatch"]] * 4
            first = main.get_coordinates()[0, 0]
            for apart in (corner, *strips):
                assert (apart.get_coordinates()[-1, -1] < first - 0.4).any()


def test_maps_of_all_widths_have_one_colour_scale():
    norms = {(m.norm.vmin, m.norm.vmax) for ax in draw().flat for m in blocks(ax)}
    assert len(norms) == 1


@pytest.mark.parametrize("c", [(-1.0, 0.0), (-0.5, -0.5), (0.0, 0.5)])
def test_scaled_maps_are_displaced_by_their_exponents(c):
    raw, scaled = draw(c)
    for before, after, n in zip(raw, scaled, WIDTHS, strict=True):
        ends = [blocks(ax)[-1].get_coordinates()[0, 0] for ax in (before, after)]
        np.testing.assert_allclose(ends[1] - ends[0], -np.array(c) * n)


def stars(row):
    marker, _ = maps.MARKS["best pair"]
    return [
        [line.get_xydata()[0] for line in ax.lines if line.get_marker() == marker] for ax in row
    ]


def test_best_cells_lie_on_one_another_in_scaled_coordinates_alone():
    raw, scaled = (np.array(stars(row))[:, 0] for row in draw())
    np.testing.assert_allclose(scaled, [[2.0, -3.0]] * 3)
    np.testing.assert_allclose(raw, [[2.0 - n, -3.0] for n in WIDTHS])


def test_all_panels_of_a_row_have_one_window():
    for row in draw():
        assert len({(ax.get_xlim(), ax.get_ylim()) for ax in row}) == 1


def test_an_optimum_that_is_not_determined_is_open():
    found = moving()
    a = found.scaling.places["eta_a"]
    opened = (a[0]._replace(open=("best at the least η_A",)), *a[1:])
    places = {**found.scaling.places, "eta_a": opened}
    figure = scaling.maps_over_widths(
        [found._replace(scaling=found.scaling._replace(places=places))], what="", diverged=""
    )
    faces = [
        [to_hex(line.get_markerfacecolor()) for line in ax.lines if line.get_marker() == "o"]
        for ax in panels(figure)[0]
    ]
    assert faces == [["#ffffff"], [scaling.TRAIL], [scaling.TRAIL]]
