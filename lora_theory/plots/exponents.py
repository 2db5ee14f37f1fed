"""Exponents in the width or the rank, measured beside predicted.

Nothing is fitted here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from lora_theory.plots.style import STYLE, WIDTH, in_maths, legend_below

OUTCOMES = {
    "holds": ("o", "#1f4e9c", "holds"),
    "fails": ("D", "#d95f02", "fails"),
    "undecided": ("s", "#b8a000", "undecided"),
    "": ("o", "#777777", "nothing decided"),
}
PREDICTED, BAND = "#1a7a2e", "#cfe6d3"
_ROW = 0.128  # Inches a row of 7 points.
_REACH = 2.2  # Exponents beyond are not drawn: nothing scales like that.


class Mark(NamedTuple):
    """One measured exponent.

    Attributes:
        where: loss, step, judge.
        value, low, high: NaN where there is none.
        outcome: a key of `OUTCOMES`.
        determined: otherwise its marker is open.
        primary: whether it is the endpoint that decides.
        note: what stands in its place where it has no value.
    """

    where: str
    value: float
    low: float
    high: float
    outcome: str = ""
    determined: bool = True
    primary: bool = False
    note: str = ""


class Exponents(NamedTuple):
    """One exponent by all losses, steps and judges.

    Attributes:
        name: of the exponent.
        predicted: None if nothing is.
        margin: exponents this close are taken for equal.
    """

    name: str
    predicted: float | None
    margin: float
    marks: tuple[Mark, ...]


# --- A forest of exponents ---


def forest(panels: Mapping[str, Sequence[Exponents]], *, over: str) -> Figure:
    """All exponents with their intervals, a row each; predicted ones as a line in a band.

    Args:
        panels: title -> exponents; panels side by side share rows.
        over: what they are exponents of, n or r.
    """
    rows = _rows(panels)
    with mpl.rc_context(STYLE):
        height = 1.5 + _ROW * (len(rows) + 0.6 * len({name for name, _ in rows}))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(1, max(len(panels), 1), sharey=True, squeeze=False)[0]
        for ax, (title, groups) in zip(axes, panels.items(), strict=False):
            for group in groups:
                _group(ax, group, rows)
            low, high = _reach(panels)
            ax.set(title=title, xlim=(low, high), xlabel=f"exponent in ${over}$")
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            ax.grid(axis="x", color="#eeeeee", linewidth=0.6)
            ax.set_axisbelow(True)
            ax.tick_params(axis="y", length=0)
        _labels(axes[0], rows)
        legend_below(figure, _forest_legend(), ncols=4)
    return figure


def _rows(panels: Mapping[str, Sequence[Exponents]]) -> dict[tuple[str, str], float]:
    """(name, where) -> height, those of one name together."""
    names: dict[str, dict[str, None]] = {}
    for groups in panels.values():
        for group in groups:
            names.setdefault(group.name, {}).update(dict.fromkeys(m.where for m in group.marks))
    rows, y = {}, 0.0
    for name, wheres in names.items():
        for where in wheres:
            rows[name, where] = y
            y -= 1
        y -= 0.6
    return rows


def _reach(panels: Mapping[str, Sequence[Exponents]]) -> tuple[float, float]:
    """From where to where: all values and predictions, and what is near of the intervals."""
    values = [e.predicted for groups in panels.values() for e in groups if e.predicted is not None]
    marks = [m for groups in panels.values() for e in groups for m in e.marks]
    values += [end for m in marks for end in (m.value, m.low, m.high) if np.isfinite(end)]
    reach = np.clip(values or [0.0], -_REACH, _REACH)
    return float(reach.min()) - 0.15, float(reach.max()) + 0.15


def _group(ax: Axes, group: Exponents, rows: Mapping[tuple[str, str], float]) -> None:
    heights = [rows[group.name, mark.where] for mark in group.marks]
    if group.predicted is not None and heights:
        low, high = min(heights) - 0.5, max(heights) + 0.5
        corner = (group.predicted - group.margin, low)
        ax.add_patch(Rectangle(corner, 2 * group.margin, high - low, color=BAND, lw=0, zorder=1))
        ax.plot([group.predicted] * 2, [low, high], color=PREDICTED, linewidth=1.0, zorder=2)
    for mark, y in zip(group.marks, heights, strict=True):
        _mark(ax, mark, y)


def _mark(ax: Axes, mark: Mark, y: float) -> None:
    marker, colour, _ = OUTCOMES[mark.outcome]
    if not np.isfinite(mark.value):
        ax.text(
            0.98, y, mark.note, transform=ax.get_yaxis_transform(), ha="right", va="center",
            fontsize=7, color="#777777", style="italic",
        )  # fmt: skip
        return
    size = 2.8 + 2.2 * mark.primary
    if np.isfinite([mark.low, mark.high]).all():
        ends = np.clip([mark.low, mark.high], -2 * _REACH, 2 * _REACH)
        ax.plot(ends, [y, y], color=colour, linewidth=0.9 + mark.primary, zorder=3)
    face = colour if mark.determined else "white"
    at = float(np.clip(mark.value, -_REACH, _REACH))
    if at != mark.value:
        marker = "<" if at < 0 else ">"
    ax.plot(at, y, marker, color=colour, mfc=face, ms=size, mew=0.8, zorder=4)


def _labels(ax: Axes, rows: Mapping[tuple[str, str], float]) -> None:
    names: dict[str, list[float]] = {}
    for (name, _), y in rows.items():
        names.setdefault(name, []).append(y)
    ax.set_yticks(list(rows.values()), [where for _, where in rows], fontsize=7)
    heights = list(rows.values()) or [0.0]
    ax.set_ylim(min(heights) - 0.8, max(heights) + 0.8)
    longest = max((len(where) for _, where in rows), default=0)
    for name, at in names.items():
        ax.annotate(
            in_maths(name), (0, float(np.mean(at))), (-8 - 3.6 * longest, 0), ha="right",
            va="center", xycoords=ax.get_yaxis_transform(), textcoords="offset points", fontsize=7,
            fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _forest_legend() -> list[Any]:
    marks = [
        Line2D([], [], color=colour, marker=marker, ms=3.5, label=label)
        for marker, colour, label in OUTCOMES.values()
    ]
    opened = Line2D([], [], color="#777777", marker="o", mfc="white", ms=3.5, label="undetermined")
    band = Patch(facecolor=BAND, edgecolor=PREDICTED, label="predicted, ± margin")
    large = Line2D([], [], color="#1f4e9c", marker="o", ms=5, lw=1.9, label="primary endpoint")
    return [band, *marks, opened, large]
