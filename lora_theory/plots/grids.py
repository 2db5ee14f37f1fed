"""Landscapes over (η_A, η_B) side by side: rows with one colour scale each, a map an optimizer.

Nothing is fitted here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from lora_theory import arguments
from lora_theory.plots.maps import (
    DIAGONAL,
    DIVERGED,
    best_pairs,
    colour_range,
    draw_cells,
    draw_pairs,
    loss_ticks,
    pair_marks,
)
from lora_theory.plots.style import STYLE, WIDTH, dense, legend_below
from lora_theory.stats.landscapes import Judge, Landscape


class Shown(NamedTuple):
    """A map: its title, and the landscape."""

    title: str
    land: Landscape


def grid_figure(
    rows: Mapping[str, Sequence[Shown]], judge: Judge, *, what: str, title: str
) -> Figure:
    """Judged losses over (η_A, η_B), with the best pair and the best with η_A = η_B.

    Args:
        rows: name -> its maps, as many in each; they share a colour scale, which ends at the
            median loss at t = 0.
        judge: what a cell is worth.
        what: the loss.
        title: of the figure.

    Raises:
        ValueError: no rows, or rows of several lengths.
    """
    arguments.some("rows", rows)
    if len(counts := {len(maps) for maps in rows.values()}) != 1:
        raise arguments.refusal("rows", "of one length", sorted(counts))
    (count,) = counts
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 1.5 * len(rows)), layout=dense(0.03))
        axes = figure.subplots(len(rows), count, squeeze=False)
        for row, (name, maps) in zip(axes, rows.items(), strict=True):
            _row(figure, row, maps, judge, f"{name}\n{what}, up to that at t = 0")
            row[0].set_ylabel(r"$\log_2\,\eta_B$", labelpad=1)
        for ax in axes[-1]:
            ax.set_xlabel(r"$\log_2\,\eta_A$", labelpad=1)
        figure.suptitle(title, fontsize=8)
        legend_below(figure, _legend(judge), ncols=4)
    return figure


def _row(figure: Figure, axes: Any, maps: Sequence[Shown], judge: Judge, label: str) -> None:
    judged = [judge.judge(shown.land.losses) for shown in maps]
    start = float(np.median(np.concatenate([shown.land.start for shown in maps])))
    norm = colour_range(judged, start)
    for ax, shown, one in zip(axes, maps, judged, strict=True):
        mesh = draw_cells(ax, shown.land, one, norm)
        draw_pairs(ax, best_pairs(shown.land, judge), {})
        ax.set_title(shown.title, fontsize=7, pad=3)
        _powers_of_2(ax)
    bar = figure.colorbar(mesh, ax=list(axes), location="right", aspect=16, pad=0.025, extend="max")
    bar.set_label(label, fontsize=7)
    loss_ticks(bar.ax.yaxis, float(norm.vmax or 1.0) / float(norm.vmin or 1.0))


def _powers_of_2(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(base=2, numticks=4))
        axis.set_major_formatter(lambda rate, _: f"{np.log2(rate):.0f}".replace("-", "−"))
        axis.set_minor_locator(NullLocator())
    ax.tick_params(pad=1.5, length=2)
    ax.set_box_aspect(1)


def _legend(judge: Judge) -> list[Any]:
    return [
        Line2D([], [], color=DIAGONAL, linestyle="--", label=r"$\eta_A=\eta_B$"),
        *pair_marks(),
        Patch(**DIVERGED, label=f"{judge} diverged"),
    ]
