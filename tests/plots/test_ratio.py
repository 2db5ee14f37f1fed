"""A score over λ and the λ suggested: what is drawn where, and that it can be read."""

import numpy as np
import pytest
from plots.readable import assert_readable

from lora_theory.plots.ratio import Line, Panel, ratio_figure

RATIOS = 4.0 ** np.arange(-2, 3)


def panel(title="one layer", widths=(64, 256)):
    logs = np.array([1.0, 2.0, 5.0])
    medians = np.array([0.5, 1.0, 1.5, 1.0, 0.2])
    return Panel(title, [Line(n, medians + k, logs - k) for k, n in enumerate(widths)])


def test_curves_and_bars_are_where_they_belong():
    (ax,) = (at for at in ratio_figure([panel()], RATIOS, what="score").axes if at.has_data())
    curves = [line for line in ax.lines if len(line.get_xdata()) == 5]
    np.testing.assert_allclose(curves[1].get_ydata(), [1.5, 2.0, 2.5, 2.0, 1.2])
    np.testing.assert_allclose(curves[0].get_xdata(), RATIOS)
    bars = [line for line in ax.lines if line.get_linewidth() == 1.6 and len(line.get_xdata()) == 2]
    np.testing.assert_allclose([bar.get_xdata() for bar in bars], [[2, 32], [1, 16]])
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(marks, [4, 2])
    assert all(tick >= 0 for tick in ax.get_yticks())
    assert bars[0].get_ydata()[0] < 0


def test_no_panels_are_refused():
    with pytest.raises(ValueError, match="panels: must be at least one"):
        ratio_figure([], RATIOS, what="score")


def test_it_can_be_read_on_a_page():
    names = ["one layer, Adam,\nInit[1]", "two layers, gradient descent,\nInit[2], W* random"]
    panels = [panel(name, (64, 256, 1024)) for name in 2 * names + names[:1]]
    assert_readable(ratio_figure(panels, RATIOS, what="decades that the test loss fell"))
