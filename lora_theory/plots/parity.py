"""How far two implementations came apart over the steps of a run, beside runs that are wrong."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from lora_theory.plots.style import STYLE, WIDTH, in_maths

FLOOR = 1e-17  # Where what is exactly equal is drawn.
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
_MARKERS = "osD^v<>P*X"


def parity_figure(
    alike: Mapping[str, np.ndarray],
    wrong: Mapping[str, np.ndarray],
    *,
    tolerance: float,
    title: str,
) -> Figure:
    """The largest relative difference of losses so far: of runs that should agree, and of controls.

    Args:
        alike: (T,) of each run that should agree.
        wrong: (T,) of each control.
        tolerance: up to which two runs agree.
        title: of the figure.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        ax = figure.subplots()
        for runs, colours, head, place in (
            (alike, "viridis", "should agree", "outside right lower"),
            (wrong, "inferno", "one thing is wrong", "outside right upper"),
        ):
            given: Any = {"handles": _curves(ax, runs, mpl.colormaps[colours]), "loc": place}
            legend = figure.legend(**given, title=head, frameon=False, alignment="left")
            legend.get_title().set_fontsize(7)
        end = max(len(apart) for apart in (*alike.values(), *wrong.values())) - 1
        ax.axhline(tolerance, color="#555555", linewidth=0.8, linestyle=(0, (2, 2)))
        words: Any = {"textcoords": "offset points", "fontsize": 7, "ha": "right", "va": "top"}
        ax.annotate("tolerance", (end, tolerance), (-4, -2), **words)
        ax.set_yscale("log")
        ax.set_ylim(FLOOR / 3, 10)
        ax.yaxis.set_major_locator(LogLocator(numticks=8))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xlim(0, end)
        ax.set_xlabel("step")
        ax.set_ylabel("largest relative difference so far")
        ax.set_title(title)
    return figure


def _curves(ax: Axes, runs: Mapping[str, np.ndarray], colours: Any) -> list[Line2D]:
    """A curve a run; markers tell them apart in grey."""
    return [
        ax.plot(
            np.arange(len(apart)),
            np.maximum(apart, FLOOR),
            color=colours(0.15 + 0.65 * index / len(runs)),
            linestyle=_DASHES[index % len(_DASHES)],
            linewidth=1.0,
            marker=_MARKERS[index],
            markevery=(5 + 4 * index, 33),
            markersize=3.5,
            label=in_maths(name),
        )[0]
        for index, (name, apart) in enumerate(runs.items())
    ]
