"""Scores over a budget of trials: a panel a task, a line a way to train."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lora_theory import arguments
from lora_theory.plots.style import STYLE, WIDTH, legend_below
from lora_theory.stats.intervals import Interval

CONTROL = "#8a8a8a"
# Told apart by shade and marker as well: the first two are the darkest, and the widest.
_LOOKS = (
    ("#000000", "o"),
    ("#d95f02", "s"),
    ("#e6a000", "D"),
    ("#b3006b", "P"),
    ("#1b9e77", "^"),
    ("#66a61e", "v"),
    ("#7570b3", "X"),
    ("#1f78b4", "<"),
    ("#a6611a", ">"),
    ("#5ab4d6", "p"),
    ("#8c8c1a", "h"),
)


class Panel(NamedTuple):
    """One task.

    Attributes:
        title: of it.
        unit: of its scores.
        scores: (ways, K) at k = 1 … K trials, with intervals.
        settings: of each way, beyond which more trials are none.
    """

    title: str
    unit: str
    scores: Interval
    settings: Sequence[int]


def budget_figure(
    panels: Sequence[Panel],
    labels: Sequence[str],
    *,
    controls: Sequence[bool],
    banded: int,
    judged: int,
) -> Figure:
    """The score of the best of k trials over k, on a logarithmic axis.

    A line ends in a large marker where all settings have been tried, and goes on thin and level.

    Args:
        panels: tasks.
        labels: of the ways, the same in all panels.
        controls: which of them are controls, in grey.
        banded: how many of the first have a band, their interval.
        judged: k at which ways are compared, a vertical line.
    """
    shown = sum(not control for control in controls)
    if shown > len(_LOOKS):
        raise ValueError(f"labels: must be at most {len(_LOOKS)} but for controls (got {shown})")
    arguments.some("panels", panels)
    looks = iter(_LOOKS)
    styles = [(CONTROL, "x") if control else next(looks) for control in controls]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
        for ax, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            _draw(ax, panel, styles, banded)
            ax.axvline(judged, color="black", linestyle=":", linewidth=0.7, zorder=0)
            ax.annotate(f"k = {judged}", (judged, 0), (2, 3), ax.get_xaxis_transform(),
                        "offset points", fontsize=7)  # fmt: skip
            ax.set_title(panel.title)
            ax.set_ylabel(panel.unit)
            ax.set_xlabel("k, trials of tuning")
        handles = [
            Line2D([], [], color=colour, marker=marker, ms=4, label=label,
                   linestyle=":" if control else "-")
            for (colour, marker), label, control in zip(styles, labels, controls, strict=True)
        ]  # fmt: skip
        words = "large markers: all settings tried"
        if banded:
            words += f"; shaded: 95 % intervals over seeds, of the first {banded} ways"
        figure.suptitle(words, fontsize=7)
        legend_below(figure, handles, ncols=min(4, len(handles)))
    return figure


def _draw(ax: Axes, panel: Panel, styles: Sequence[tuple[Any, str]], banded: int) -> None:
    mean, low, high = (np.asarray(end) for end in panel.scores)
    k = np.arange(1, mean.shape[1] + 1)
    for i, (colour, marker) in reversed(list(enumerate(styles))):
        end = min(panel.settings[i], len(k))
        wide, grey = i < banded, colour == CONTROL
        ax.plot(k[end - 1 :], mean[i, end - 1 :], color=colour, linewidth=0.5, linestyle="--")
        ax.plot(k[:end], mean[i, :end], ":" if grey else "-", color=colour,
                linewidth=1.6 if wide else 1.0, zorder=3 if wide else 2)  # fmt: skip
        small = [place for place in (0, 1, 3) if place < end - 1]  # To be followed in grey as well.
        if small:  # A line of nothing that is not clipped has no size, and the layout with it.
            ax.plot(k[small], mean[i, small], marker, color=colour, ms=2.5, zorder=4, clip_on=False)
        ax.plot(k[end - 1], mean[i, end - 1], marker, color=colour, ms=4, zorder=4, clip_on=False)
        if wide and np.isfinite(low[i]).all():
            ax.fill_between(k, low[i], high[i], color=colour, alpha=0.15, linewidth=0, zorder=1)
    ticks = [2**i for i in range(int(np.log2(len(k))) + 1)]
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
