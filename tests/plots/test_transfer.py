"""Loss over carried rates: curves, optima and losses lie where they were measured."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from plots.readable import assert_readable

from lora_theory.plots import style, transfer
from lora_theory.stats.intervals import Interval
from lora_theory.stats.landscapes import Landscape
from lora_theory.stats.scaling import Sweep, scaling
from lora_theory.stats.transfer import Transfer

WIDTHS = np.array([4.0, 5.0, 6.0])
RATES = 2.0 ** np.arange(-9.0, 1)


def sweep():
    def land(n):
        a, b = np.log2(RATES)[:, None] + n - 1, np.log2(RATES) + 4
        losses = 2 ** (0.2 * (a**2 + b**2) - 5) * np.linspace(0.9, 1.1, 9)[:, None, None]
        return Landscape(losses, np.full(9, 8.0), RATES, RATES)

    return Sweep(WIDTHS, tuple(map(land, WIDTHS)))


def moves(lost=0.5, gap=""):
    at = Interval(np.array(lost), np.array(lost - 0.2), np.array(lost + 0.3))
    return tuple(Transfer(n, (), (), at, gap) for n in WIDTHS[1:])


def carried(plane=True, **rules):
    found = sweep()
    rules = rules or {"rule": moves()}
    return transfer.Carried("basin", found, scaling(found, resamples=4), rules, plane)


def curves(ax):
    return [line for line in ax.lines if len(line.get_xdata()) == len(RATES)]


def test_curves_are_the_judged_losses_at_the_carried_rate():
    family = carried()
    axes = transfer.transfer_figure([family], what="loss").axes
    for ax, power in zip(axes, (0.0, 0.5, 1.0), strict=False):
        for line, n, land in zip(curves(ax), WIDTHS, family.sweep.lands, strict=True):
            np.testing.assert_allclose(line.get_xdata(), np.log2(RATES) + power * n)
            np.testing.assert_allclose(line.get_ydata(), np.median(land.diagonal.losses, axis=0))


def test_the_plane_is_cut_at_the_first_width_s_eta_b():
    family = carried()
    ax = transfer.transfer_figure([family], what="loss").axes[3]
    for line, n, land in zip(curves(ax), WIDTHS, family.sweep.lands, strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.log2(RATES) + n)
        np.testing.assert_allclose(line.get_ydata(), np.median(land.losses[:, :, 5], axis=0))
    assert "2^{-4}" in ax.texts[0].get_text()


def test_a_line_alone_has_no_panel_of_two_rates():
    assert len(transfer.transfer_figure([carried(plane=False)], what="loss").axes) == 4


@pytest.mark.parametrize(("opened", "face"), [((), None), (("at the border",), "#ffffff")])
def test_an_optimum_that_is_not_determined_is_open(opened, face):
    family = carried()
    equal = tuple(at._replace(open=opened) for at in family.scaling.places["equal"])
    places = {**family.scaling.places, "equal": equal}
    family = family._replace(scaling=family.scaling._replace(places=places))
    ax = transfer.transfer_figure([family], what="loss").axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    colours = [to_hex(colour) for colour in style.size_colours(3)]
    assert [to_hex(dot.get_markerfacecolor()) for dot in dots] == ([face] * 3 if face else colours)
    values = [at.value for at in equal]
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], values)


def test_what_is_lost_and_what_leaves_the_grid():
    gone = moves(np.nan, "2^−9 lies beyond the grid")
    family = carried(one=moves(0.5), two=gone)
    ax = transfer.transfer_figure([family], what="loss").axes[-1]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [float(dot.get_ydata()[0]) for dot in dots] == [0.5, 0.5]
    assert sum(line.get_marker() == "x" for line in ax.lines) == 2


def test_best_rates_over_ranks_and_their_law():
    found = sweep()
    fitted = scaling(found, resamples=4)
    ranked = [transfer.Ranked(gamma, "", found, fitted, -0.5, "holds") for gamma in (0.0, 1.0)]
    axes = np.array(transfer.rank_figure(ranked, title="", what="loss").axes).reshape(2, 2)
    dots = [line for line in axes[1, 0].lines if line.get_marker() == "o" and len(line.get_xdata())]
    np.testing.assert_allclose(
        [dot.get_ydata()[0] for dot in dots], [at.value for at in fitted.places["equal"]]
    )
    (law,) = [line for line in axes[1, 0].lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose(np.diff(law.get_ydata()), -0.5)


def test_the_figures_can_be_read_on_a_page():
    found = sweep()
    fitted = scaling(found, resamples=4)
    ranked = [
        transfer.Ranked(gamma, variance, found, fitted, -0.5, "undecided")
        for gamma in (0.0, 0.5, 1.0)
        for variance in ("B's variance 1", "B's variance r^−1")
    ]
    title = "one shared rate, Adam, Init[2], n = 256"
    assert_readable(transfer.rank_figure(ranked, title=title, what="test loss at t = 200"))
    rules = ("one constant rate", "one rate n^−1/2", "one rate n^−1", "η_A ∝ 1/n, η_B constant")
    two = [carried(**dict.fromkeys(rules, moves()))] * 2
    assert_readable(transfer.transfer_figure(two, what="test loss at t = 200"))


def test_what_is_said_of_a_law_has_no_empty_line():
    found = sweep()
    fitted = scaling(found, resamples=4)
    for variance, outcome in (("", ""), ("B's variance 1", "holds")):
        ranked = transfer.Ranked(0.0, variance, found, fitted, None, outcome)
        legend = transfer.rank_figure([ranked], title="", what="loss").axes[-1].get_legend()
        (label,) = [text.get_text() for text in legend.get_texts()]
        assert all(line.strip() for line in label.split("\n"))
        assert outcome in label
