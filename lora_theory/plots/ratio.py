"""A score over λ, each at its best rate: a panel a toy, a curve a width; the λ suggested there."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lora_theory import arguments
from lora_theory.plots.style import STYLE, WIDTH, legend_below, size_colours
from lora_theory.stats.intervals import quantile


class Line(NamedTuple):
    """One width.

    Attributes:
        width: n.
        medians: (R,) of the score at the best rate of each λ.
        suggested: (S,) log2 of the λ suggested for each seed.
    """

    width: int
    medians: np.ndarray
    suggested: np.ndarray


class Panel(NamedTuple):
    """One toy: its title, and a line a width."""

    title: str
    lines: Sequence[Line]


def ratio_figure(
    panels: Sequence[Panel], ratios: Sequence[float] | np.ndarray, *, what: str
) -> Figure:
    """Curves over λ on a logarithmic axis; below them a bar from the least to the largest suggested
    λ, with a mark at the median.

    Args:
        panels: toys, all with the same widths.
        ratios: λ of the curves.
        what: the score.
    """
    arguments.some("panels", panels)
    widths = [line.width for line in panels[0].lines]
    colours = size_colours(len(widths))
    rows = -(-len(panels) // 3)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 2.2 * rows), layout="constrained")
        axes = figure.subplots(rows, 3, squeeze=False).ravel()
        for ax, panel in zip(axes, panels, strict=False):
            _draw(ax, panel, np.asarray(ratios, float), colours)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for ax in axes[: len(panels) : 3]:
            ax.set_ylabel(what)
        handles = [
            Line2D([], [], color=colour, marker="o", ms=2.5, label=f"n = {width}")
            for width, colour in zip(widths, colours, strict=True)
        ]
        bar = Line2D([], [], color="black", marker="D", ms=4, label="suggested: median, all seeds")
        legend_below(figure, [*handles, bar], ncols=len(handles) + 1)
    return figure


def _draw(ax: Axes, panel: Panel, ratios: np.ndarray, colours: Sequence[object]) -> None:
    top = max(float(line.medians.max()) for line in panel.lines)
    for k, (line, colour) in enumerate(zip(panel.lines, colours, strict=True)):
        ax.plot(ratios, line.medians, "o-", color=colour, ms=2.5, linewidth=1.0)
        low, high = np.exp2([line.suggested.min(), line.suggested.max()])
        y = -0.06 * top * (k + 1)
        ax.plot([low, high], [y, y], "-", color=colour, linewidth=1.6)
        ax.plot(2 ** float(quantile(line.suggested)), y, "D", color=colour, ms=4)
    ax.axvline(1, color="black", linestyle=":", linewidth=0.7, zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= 1.05 * top])
    ax.set_ylim(-0.06 * top * (len(panel.lines) + 1), 1.05 * top)
    ax.axhline(0, color="black", linewidth=0.4)
    ax.set_xlabel(r"$\lambda=\eta_B/\eta_A$", labelpad=1)
    ax.set_title(panel.title, fontsize=7)
