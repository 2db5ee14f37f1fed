"""Curvature and sizes over widths: what is measured is drawn, what is 0 is said."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from plots.readable import assert_readable

from lora_theory.plots import sizes
from lora_theory.stats.landscapes import Landscape
from lora_theory.stats.scaling import Sweep, scaling
from lora_theory.stats.tables import Table

WIDTHS = np.array([4.0, 5.0, 6.0])
RATES = 2.0 ** np.arange(-9.0, 1)


def curved(zero=None, bound=2.0):
    def land(n):
        a, b = np.log2(RATES)[:, None] + n - 1, np.log2(RATES) + 4
        losses = 2 ** (0.2 * (a**2 + b**2))
        return Landscape(losses[None].repeat(4, axis=0), np.full(4, 99.0), RATES, RATES)

    sweep = Sweep(WIDTHS, tuple(map(land, WIDTHS)))
    spread = np.array([-0.1, 0.1])
    logs = {
        "A": WIDTHS[:, None] + spread,
        "B": 0 * WIDTHS[:, None] + spread,
        "both": 1 + WIDTHS[:, None] + spread,
    }
    if zero:
        logs[zero] = np.full((3, 2), -np.inf)
    return sizes.Curved("basin", WIDTHS, logs, scaling(sweep, resamples=0), bound, "at the start")


def line(ax, label):
    """The curve of a label, of those with data."""
    (found,) = [at for at in ax.lines if at.get_label() == label and len(at.get_xdata())]
    return found


def words(ax):
    legend = ax.get_legend()
    return [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]


def test_largest_eigenvalues_are_means_over_seeds():
    ax = sizes.curvature_figure([curved()]).axes[0]
    np.testing.assert_allclose(line(ax, "block A").get_ydata(), WIDTHS)
    np.testing.assert_allclose(line(ax, "A and B").get_ydata(), WIDTHS + 1)


def test_products_are_those_of_each_block_and_its_rate():
    ax = sizes.curvature_figure([curved()]).axes[1]
    levels = {
        to_hex(at.get_color()): at.get_ydata()
        for at in ax.lines
        if len(at.get_xdata()) == len(WIDTHS)
    }
    np.testing.assert_allclose(levels[sizes.BLOCKS["A"][0]], 1.0, atol=1e-9)  # 1 − n + n
    np.testing.assert_allclose(levels[sizes.BLOCKS["B"][0]], -4.0, atol=1e-9)
    assert "η λ = 2" in words(ax)


@pytest.mark.parametrize(("zero", "said"), [("A", True), ("B", True), (None, False)])
def test_a_block_that_is_zero_is_said_in_words(zero, said):
    axes = sizes.curvature_figure([curved(zero)]).axes
    assert (f"{zero}: exactly 0 in all seeds" in words(axes[0])) == said
    assert ("no ratio of blocks: one is 0" in words(axes[2])) == said


def test_without_a_bound_none_is_drawn():
    assert not any(
        "η λ" in text for text in words(sizes.curvature_figure([curved(bound=None)]).axes[1])
    )


def checks():
    steps = np.array([1, 2])
    logs = {
        "Z_A": np.stack([WIDTHS[:, None] * [0.5, 0.5], WIDTHS[:, None] * [1, 1]], axis=-1),
        "dZ_A": np.full((3, 2, 2), -np.inf),
    }
    logs["dZ_A"][..., 1] = 0.0
    return {("one rate", "Init[1]"): Table(WIDTHS, steps, logs)}


def test_sizes_are_drawn_at_their_step_and_zeros_said():
    first, second = sizes.coordinate_figure(checks()).axes
    np.testing.assert_allclose(line(first, "Z_A").get_ydata(), 0.5 * WIDTHS)
    np.testing.assert_allclose(line(second, "Z_A").get_ydata(), WIDTHS)
    assert [len(ax.texts) for ax in (first, second)] == [1, 0]
    assert r"\Delta Z_A" in first.texts[0].get_text()


def test_sizes_are_told_apart_without_their_colours():
    assert len({(marker, dash) for _, _, marker, dash in sizes.SIZES.values()}) == len(sizes.SIZES)
    tables = {
        ("one rate", "Init[1]"): Table(
            WIDTHS, np.array([1]), {name: np.ones((3, 2, 1)) for name in sizes.SIZES}
        )
    }
    figure = sizes.coordinate_figure(tables)
    drawn = {at.get_label(): at for at in figure.axes[0].lines}
    for _, name, marker, dash in sizes.SIZES.values():
        assert (drawn[name].get_marker(), drawn[name].get_linestyle()) == (marker, dash)
    for mark in figure.legends[0].legend_handles:
        name = mark.get_label().strip("$")
        assert (mark.get_marker(), mark.get_linestyle()) == (
            drawn[name].get_marker(),
            drawn[name].get_linestyle(),
        )


def test_the_figures_can_be_read_on_a_page():
    widths, steps = np.arange(6.0, 12), np.array([1, 2, 3])
    logs = {
        name: np.linspace(-12, 3, 6)[:, None, None] + np.zeros((6, 2, 3)) for name in sizes.SIZES
    }
    for name in ("dZ_A", "delta1", "delta3"):
        logs[name][..., 0] = -np.inf
    scalings = ("one rate n^−1/2", "one rate n^−1", "η_A ∝ 1/n, η_B constant")
    tables = {
        (scaling, init): Table(widths, steps, logs)
        for scaling in scalings
        for init in ("Init[1]", "Init[2]")
    }
    assert_readable(sizes.coordinate_figure(tables))
    assert_readable(sizes.curvature_figure([curved(), curved("B")]))
