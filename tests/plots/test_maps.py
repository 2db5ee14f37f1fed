"""Maps: what is drawn over (η_A, η_B) is what was judged, and outlines hold what they should."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from plots.readable import colliding

from lora_theory.plots import maps
from lora_theory.plots.style import STYLE
from lora_theory.stats import optima
from lora_theory.stats.landscapes import Judge, Landscape

ETA_A, ETA_B = np.geomspace(1e-3, 1e-1, 5), np.geomspace(1e-2, 1e2, 7)


def land(seeds=20, diverged=2):
    """Losses that fall towards the middle; the last `diverged` columns of η_A diverge."""
    i, j = np.meshgrid(np.arange(5.0), np.arange(7.0), indexing="ij")
    noise = np.random.default_rng(0).random((seeds, 5, 7))
    losses = 1 + (i - 2) ** 2 + 0.5 * (j - 3) ** 2 + 0.2 * noise
    losses[:, 5 - diverged :] = np.inf
    losses[0, 0, 0] = np.inf  # One seed of many.
    return Landscape(losses, np.full(seeds, 20.0), ETA_A, ETA_B)


def drawn(found, judged=None):
    ax = Figure().subplots()
    judged = Judge().judge(found.losses) if judged is None else judged
    mesh = maps.draw_map(ax, found, judged, maps.colour_range([judged], 20.0))
    return ax, mesh, judged


def test_the_mesh_is_the_judged_map_and_diverged_cells_are_hatched():
    ax, mesh, judged = drawn(land())
    values = mesh.get_array().reshape(7, 5).T
    np.testing.assert_array_equal(np.ma.getmaskarray(values), np.isinf(judged))
    np.testing.assert_array_equal(values[:3], judged[:3])
    assert mesh.cmap.get_bad()[3] == 0  # What is under it is seen:
    (under,) = ax.patches
    assert under.get_hatch() == maps.DIVERGED["hatch"]
    assert under.get_zorder() < mesh.get_zorder()
    assert under.get_bbox().bounds == mesh.get_datalim(ax.transData).bounds
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_contours_are_shares_of_seeds_that_diverge():
    ax, _, _ = drawn(land())
    (contours,) = [c for c in ax.collections if isinstance(c, ContourSet)]
    assert tuple(contours.levels) == maps.SHARES
    (line,) = contours.allsegs[1]  # Half of the seeds: between the third and the fourth η_A.
    assert (ETA_A[2] < line[:, 0]).all()
    assert (line[:, 0] < ETA_A[3]).all()


def test_the_legend_draws_contours_and_published_pairs_as_the_map_does():
    ax, _, _ = drawn(land())
    (contours,) = [c for c in ax.collections if isinstance(c, ContourSet)]
    mark = maps.shares_mark()
    assert to_hex(mark.get_color()) == to_hex(contours.get_edgecolor()[0]) == "#ffffff"
    assert mark.get_path_effects() == contours.get_path_effects() != []
    maps.draw_pairs(ax, {}, {"best": (1e-2, 1.0)})
    ring, mark = ax.lines[-1], maps.published_mark()
    for of in ("get_marker", "get_color", "get_markersize", "get_markerfacecolor"):
        assert getattr(ring, of)() == getattr(mark, of)()


def pieces(ax, colour):
    """Ends of all pieces of the outlines of one colour."""
    return {
        tuple(sorted(map(tuple, np.round(np.log10(piece), 6).tolist())))
        for lines in ax.collections
        if isinstance(lines, LineCollection) and to_hex(lines.get_colors()[0]) == colour
        for piece in lines.get_segments()
    }


def boundary(cells):
    """The pieces between a cell of the set and one outside it, cell by cell."""
    step_a, step_b = 0.5, 4 / 6
    found = set()
    for i, j in zip(*np.nonzero(cells), strict=True):
        left, low = -3 + step_a * (i - 0.5), -2 + step_b * (j - 0.5)
        right, high = left + step_a, low + step_b
        sides = {
            (-1, 0): ((left, low), (left, high)),
            (1, 0): ((right, low), (right, high)),
            (0, -1): ((left, low), (right, low)),
            (0, 1): ((left, high), (right, high)),
        }
        for (di, dj), ends in sides.items():
            k, m = i + di, j + dj
            inside = 0 <= k < cells.shape[0] and 0 <= m < cells.shape[1] and cells[k, m]
            if not inside:
                found.add(tuple(sorted(tuple(np.round(end, 6).tolist()) for end in ends)))
    return found


def test_outlines_are_the_boundaries_of_their_cells():
    found = land()
    ax, _, judged = drawn(found)
    near = boundary(judged <= 1.01 * judged.min()) | boundary(judged <= 1.05 * judged.min())
    assert pieces(ax, maps.NEAR[0.01][0]) == near
    maps.draw_set(ax, found, Judge())
    assert pieces(ax, maps.SET) == boundary(optima.unbeaten(found.losses, Judge()))


def test_few_seeds_have_no_outline_of_a_set():
    found = land(seeds=3)
    ax, _, _ = drawn(found)
    maps.draw_set(ax, found, Judge())
    assert pieces(ax, maps.SET) == set()


@pytest.mark.parametrize(
    ("cap", "start", "high"), [(None, 20.0, 5.0), (None, 3.0, 3.0), (2.0, 20.0, 2.0)]
)
def test_the_colour_scale_ends_at_the_cap_or_the_start_or_the_largest_loss(cap, start, high):
    norm = maps.colour_range([np.array([[1.0, 5.0, np.inf]])], start, cap)
    assert (norm.vmin, norm.vmax) == (1.0, high)


RANGES = [
    (1.125, 1.3),
    (0.15, 0.19),
    (0.0123, 0.0134),
    (1.0, 1.15),
    (1.0, 1.9),
    (2.1, 4.9),
    (0.1, 0.88),
    (9e-3, 0.45),
    (1.0, 1.01),
]


@pytest.mark.parametrize("ends", RANGES)
def test_a_colour_bar_has_several_labels_with_room(ends):
    """As wide and as high as those of the figures."""
    for size, place in (((2.0, 1.5), "bottom"), ((2.0, 2.0), "right")):
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=size, layout="constrained")
            ax = figure.subplots()
            mesh = ax.pcolormesh(np.ones((2, 2)), norm=LogNorm(*ends))
            ax.set_axis_off()
            bar = figure.colorbar(mesh, ax=ax, location=place)
            axis = bar.ax.xaxis if place == "bottom" else bar.ax.yaxis
            maps.loss_ticks(axis, ends[1] / ends[0])
            assert colliding(figure) == []
            assert sum(ends[0] <= tick <= ends[1] for tick in axis.get_majorticklocs()) >= 2


@pytest.mark.parametrize("diverged", [2, 5])
def test_a_map_that_diverged_everywhere_says_so(diverged):
    ax, _, _ = drawn(land(diverged=diverged))
    said = [text.get_text() for text in ax.texts]
    assert said == ["diverged everywhere"] * (diverged == 5)
