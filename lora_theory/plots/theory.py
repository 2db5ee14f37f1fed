"""Phase diagrams of the theory, and slopes on their way to their limits."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.ticker import FuncFormatter

from lora_theory import arguments
from lora_theory.plots.records import (
    Curve,
    DrawnDiagram,
    DrawnPoint,
)
from lora_theory.plots.style import STYLE, WIDTH

AREAS = {
    "unstable at once": ("#d9968c", "unstable at t = 1"),
    "unstable": ("#f3d3bd", "unstable later"),
    "stable, no feature learning": ("#f1f5fa", "stable, no feature learning"),
}
LINES = {
    "A alone": ("#2a7fba", "A learns alone"),
    "B alone": ("#6a51a3", "B learns alone"),
    "efficient, but unstable inside": ("#d98c00", "efficient, unstable inside"),
    "efficient": ("#1a7a2e", "efficient"),
}
WRONG = "#ff00ff"
_STABLE = "#60707f"
MARKERS = {
    "stable, no feature learning": ("o", _STABLE),
    "A alone": ("^", LINES["A alone"][0]),
    "B alone": ("s", LINES["B alone"][0]),
    "efficient, but unstable inside": ("D", LINES["efficient, but unstable inside"][0]),
    "efficient": ("*", LINES["efficient"][0]),
}
_UPDATES = {"gd": "gradient descent", "sign": "sign updates"}
_INITS = {"A": "Init[1]  (B = 0)", "B": "Init[2]  (A = 0)"}


# --- Phase diagrams ---


def phase_diagrams(diagrams: Sequence[DrawnDiagram], *, every: int = 3) -> Figure:
    """Predicted regions of (c_a, c_b) as areas, lines and points; measured classes as markers,
    those of unstable runs as the t at which they become so.

    Args:
        diagrams: up to four.
        every: of an agreeing lattice in twelfths, every third point is drawn; disagreements and
            undecided points are all drawn.
    """
    arguments.some("diagrams", diagrams, 4)
    with mpl.rc_context(STYLE):
        columns, rows = min(len(diagrams), 2), (len(diagrams) + 1) // 2
        figure = Figure(figsize=(WIDTH, 1.5 + 3.1 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        drawn = sum(
            phase_diagram(ax, diagram, every=every)
            for ax, diagram in zip(axes.ravel(), diagrams, strict=False)
        )
        for ax in axes.ravel()[len(diagrams) - columns : len(diagrams)]:  # With none below.
            ax.set_xlabel(r"$c_a$,  $\eta_A = \Theta(n^{c_a})$", fontsize=9)
            ax.tick_params(labelbottom=True)
        for ax in axes[:, 0]:
            ax.set_ylabel(r"$c_b$,  $\eta_B = \Theta(n^{c_b})$", fontsize=9)
        for ax in axes.ravel()[len(diagrams) :]:
            ax.set_visible(False)
        points = [point for diagram in diagrams for point in diagram.points]
        undecided = any(point.agrees is None for point in points)
        figure.legend(
            handles=_phase_legend(undecided=undecided),
            loc="outside lower center",
            ncols=3,
            frameon=False,
            title="areas and lines are predicted, markers and numbers measured, on a line as well",
            title_fontsize=7,
        )
        right = sum(point.agrees is True for point in points)
        figure.suptitle(
            f"{right} of {len(points)} measured points agree with the predicted regions, in their "
            f"class and in the $t$ at which\nthey become unstable. {drawn} points are drawn, all "
            "that do not agree among them. A number is that $t$, as measured.",
            fontsize=8,
        )
    return figure


def phase_diagram(ax: Axes, diagram: DrawnDiagram, *, every: int = 3) -> int:
    """One diagram: see `phase_diagrams`.

    Returns:
        How many points are drawn.
    """
    every, drawn = arguments.integer("every", every), 0
    for area in sorted(diagram.areas, key=lambda area: -area.dimension):
        corners = np.array(area.corners)
        if area.dimension == 2:
            centre = corners.mean(axis=0)
            order = np.argsort(np.arctan2(*(corners - centre).T[::-1]))
            colour = AREAS[area.name][0]
            ax.add_patch(Polygon(corners[order], facecolor=colour, edgecolor=colour, lw=0.5))
        elif area.dimension == 1:
            ax.plot(*corners.T, color=LINES[area.name][0], linewidth=2.5, zorder=2)
    for i, point in enumerate(diagram.points):
        row, column = divmod(i, round(len(diagram.points) ** 0.5))
        if point.agrees is not True or (row % every == 0 and column % every == 0):
            _point(ax, point)
            drawn += 1
    ax.axline((0, 0), slope=1, color="#555555", linewidth=0.7, linestyle=":", zorder=2)
    ax.set(
        xlim=(-2.12, 1.12),
        ylim=(-2.12, 1.12),
        aspect="equal",
        title=f"{_UPDATES[diagram.update]}, {_INITS[diagram.init]}",
        xticks=[-2, -1.5, -1, -0.5, 0, 0.5, 1],
        yticks=[-2, -1.5, -1, -0.5, 0, 0.5, 1],
    )
    return drawn


def _point(ax: Axes, point: DrawnPoint) -> None:
    x, y = point.at
    if point.agrees is not True:
        marker = "$?$" if point.agrees is None else "X"
        look: dict[str, Any] = {"color": WRONG, "mec": "black", "mew": 0.5, "ms": 9}
        ax.plot(x, y, marker=marker, linestyle="", zorder=4, **look)
    elif point.measured_t is not None:
        ax.text(x, y, str(point.measured_t), ha="center", va="center", fontsize=7, zorder=3)
    else:
        assert point.measured is not None
        marker, colour = MARKERS[point.measured]
        on_line = point.measured in LINES and marker != "*"
        size = {"*": 11, "o": 3}.get(marker, 4)
        face = "white" if on_line else colour
        ax.plot(x, y, marker, color=colour, mfc=face, ms=size, mew=0.8, zorder=3)


def _phase_legend(*, undecided: bool) -> list[Any]:
    undecided_mark = Line2D(
        [], [], color=WRONG, marker="$?$", mec="black", mew=0.5, ms=7, lw=0, label="undecided"
    )
    learn = [
        Line2D(
            [],
            [],
            color=colour,
            marker=MARKERS[verdict][0],
            linestyle="-" if verdict != "efficient" else "",
            linewidth=2.5,
            ms=8 if verdict == "efficient" else 4,
            markerfacecolor=colour if verdict == "efficient" else "white",
            mew=0.8,
            label=label if verdict != "efficient" else f"measured: {label}",
        )
        for verdict, (colour, label) in LINES.items()
    ]
    return [
        *(
            Patch(facecolor=colour, ec="#777", lw=0.4, label=f"predicted: {label}")
            for colour, label in AREAS.values()
        ),
        *learn,
        Line2D(
            [],
            [],
            color=_STABLE,
            marker="o",
            linestyle="",
            ms=3,
            label="measured: no feature learning",
        ),
        Line2D(
            [],
            [],
            color="black",
            marker="$3$",
            linestyle="",
            ms=5,
            label="measured: unstable from $t = 3$",
        ),
        Line2D(
            [],
            [],
            color=WRONG,
            marker="X",
            mec="black",
            mew=0.5,
            linestyle="",
            label="measured otherwise than predicted",
        ),
        *[undecided_mark] * undecided,
        Line2D([], [], color="#555555", linestyle=":", label="one rate, $c_a = c_b$"),
    ]


# --- Slopes ---


def approaching(curves: Sequence[Curve]) -> Figure:
    """Slopes between neighbouring widths, and the limits that they approach."""
    arguments.some("curves", curves)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots(1, len(curves), squeeze=False)[0]
        for ax, curve in zip(axes, curves, strict=True):
            slopes, halves = (_finite(v) for v in (curve.slopes, curve.half_widths))
            ax.axhline(curve.limit, color="#d95f02", linewidth=1, linestyle="--")
            ax.errorbar(
                curve.log2_widths, slopes, yerr=halves, fmt="o-", color="#1f4e9c", ms=2, lw=0.8
            )
            ax.set_title(curve.label, fontsize=7.5)
            first, last = curve.log2_widths[0], curve.log2_widths[-1]
            ax.set_xscale("log", base=2)
            ax.set(xlabel=r"$\log_2 n$ (logarithmic)", xlim=(0.8 * first, 1.25 * last))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda log2_n, _: f"{log2_n:g}"))
            bars = np.nan_to_num(halves)
            shown = np.concatenate([slopes - bars, slopes + bars, [curve.limit]])
            low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
            middle, room = (low + high) / 2, max(0.6 * (high - low), 0.03)
            ax.set_ylim(middle - room, middle + room)
            if np.isnan(slopes).all():
                ax.text(0.5, 0.5, "no number", transform=ax.transAxes, ha="center", va="bottom")
        axes[0].set_ylabel("slope between neighbouring widths\nwith 95 % intervals")
        figure.suptitle(
            "Scalar map: slopes measured between neighbouring widths (dots), "
            "and their predicted limit (dashed)",
            fontsize=8,
        )
    return figure


def _finite(values: Sequence[float | None]) -> np.ndarray:
    """NaN where there is no finite number."""
    found = np.array(values, float)
    return np.where(np.isfinite(found), found, np.nan)
