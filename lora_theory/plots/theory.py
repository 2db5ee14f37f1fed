"""The figures of the theory: Figure 1, phase diagrams, exponents, slopes. Records to figures."""

import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch, Polygon, Rectangle

from lora_theory import arguments
from lora_theory.plots.records import Curve, DrawnDiagram, DrawnExponent
from lora_theory.plots.style import STYLE

AREAS = {
    "unstable at once": ("#d9a5a0", "unstable at t = 1"),
    "unstable": ("#f0d5d0", "unstable later"),
    "stable, no feature learning": ("#dfe7ef", "stable, no feature learning"),
}
LINES = {
    "A alone": ("#2a7fba", "A learns alone"),
    "B alone": ("#6a51a3", "B learns alone"),
    "efficient, but unstable inside": ("#d98c00", "efficient, unstable inside"),
    "efficient": ("#1a7a2e", "efficient"),
}
WRONG = "#ff00ff"
_MARKERS = {
    "unstable": ("x", "#8c2d22"),
    "stable, no feature learning": ("o", "#7a8ca0"),
    "A alone": ("^", LINES["A alone"][0]),
    "B alone": ("s", LINES["B alone"][0]),
    "efficient, but unstable inside": ("D", LINES["efficient, but unstable inside"][0]),
    "efficient": ("*", LINES["efficient"][0]),
}
_KINDS = {
    "holds": ("o", "#1f4e9c", "holds"),
    "fails": ("D", "#d95f02", "fails"),
    "undecided": ("s", "#b8a000", "undecided"),
    "control": ("x", "#999999", "control that was caught"),
}
_UPDATES = {"gd": "gradient descent", "sign": "sign updates"}
_INITS = {"A": "Init[1]  (B = 0)", "B": "Init[2]  (A = 0)"}


def phase_diagrams(diagrams: Sequence[DrawnDiagram], *, every: int = 3) -> Figure:
    """Predicted regions of (c_a, c_b) as areas, lines and points; measured classes as markers.

    Args:
        diagrams: up to four.
        every: of an agreeing lattice in twelfths, every third point is drawn; disagreements and
            undecided points are all drawn.
    """
    arguments.some("diagrams", diagrams, 4)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 7.6), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey=True, squeeze=False)
        for ax, diagram in zip(axes.ravel(), diagrams, strict=False):
            phase_diagram(ax, diagram, every=every)
        for ax in axes[-1]:
            ax.set_xlabel(r"$c_a$,  $\eta_A = \Theta(n^{c_a})$")
        for ax in axes[:, 0]:
            ax.set_ylabel(r"$c_b$,  $\eta_B = \Theta(n^{c_b})$")
        figure.legend(handles=_phase_legend(), loc="outside lower center", ncols=4, frameon=False)
        points = [point for diagram in diagrams for point in diagram.points]
        wrong = sum(point.agrees is not True for point in points)
        figure.suptitle(
            "Predicted regions and measured classes: "
            f"{len(points) - wrong} of {len(points)} points in twelfths agree",
            fontsize=8,
        )
    return figure


def phase_diagram(ax: Axes, diagram: DrawnDiagram, *, every: int = 3) -> None:
    """One diagram: see `phase_diagrams`."""
    every = arguments.integer("every", every)
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
        x, y = point.at
        if point.agrees and point.measured is not None:
            if row % every == 0 and column % every == 0:
                marker, colour = _MARKERS[point.measured]
                size = 11 if marker == "*" else 3
                on_line = point.measured in LINES and marker != "*"
                face = "white" if on_line else colour
                size = 4 if on_line else size
                ax.plot(x, y, marker, color=colour, mfc=face, ms=size, mew=0.8, zorder=3)
        else:
            marker = "$?$" if point.agrees is None else "X"
            ax.plot(x, y, color=WRONG, marker=marker, linestyle="", ms=9, zorder=4)
    ax.axline((0, 0), slope=1, color="#555555", linewidth=0.7, linestyle=":", zorder=2)
    ax.set(
        xlim=(-2.12, 1.12),
        ylim=(-2.12, 1.12),
        aspect="equal",
        title=f"{_UPDATES[diagram.update]}, {_INITS[diagram.init]}",
        xticks=[-2, -1.5, -1, -0.5, 0, 0.5, 1],
        yticks=[-2, -1.5, -1, -0.5, 0, 0.5, 1],
    )


def predicted_measured(exponents: Sequence[DrawnExponent]) -> Figure:
    """Every exponent of every claim and of its control, with the interval that decided."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        axes = figure.subplots(1, 2)
        for exponent in exponents:
            _exponent(axes[0 if exponent.setting.startswith("map") else 1], exponent)
        for ax, title in zip(axes, ("scalar map, any width", "models in vectors"), strict=True):
            ax.axline((0, 0), slope=1, color="black", linewidth=0.7, zorder=0)
            ax.set(xlabel="predicted exponent (spread sideways)", title=title)
            ax.set_aspect("equal", adjustable="datalim")
        axes[0].set_ylabel("measured exponent, with the interval that decides")
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="", ms=4, label=label)
            for marker, colour, label in _KINDS.values()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _exponent(ax: Axes, exponent: DrawnExponent) -> None:
    marker, colour, _ = _KINDS[exponent.kind]
    # Spread by name, not at random: the same exponent always lies in the same place.
    aside = (zlib.crc32(f"{exponent.setting}{exponent.quantity}".encode()) % 61 - 30) / 1000
    ax.errorbar(
        float(Fraction(exponent.predicted)) + aside,
        exponent.measured,
        yerr=exponent.half_width,
        fmt=marker,
        color=colour,
        ms=3.5,
        mew=0.8,
        elinewidth=0.8,
        alpha=0.8,
        zorder=2 if exponent.kind == "control" else 3,
    )


def approaching(curves: Sequence[Curve]) -> Figure:
    """Slopes between neighbouring widths, and the limits that they approach."""
    arguments.some("curves", curves)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.7), layout="constrained")
        axes = figure.subplots(1, len(curves), squeeze=False)[0]
        for ax, curve in zip(axes, curves, strict=True):
            slopes, halves = (np.array(v, float) for v in (curve.slopes, curve.half_widths))
            ax.axhline(curve.limit, color="#d95f02", linewidth=1, linestyle="--")
            ax.errorbar(
                curve.log2_widths, slopes, yerr=halves, fmt="o-", color="#1f4e9c", ms=2, lw=0.8
            )
            ax.set_title(curve.label, fontsize=7.5)
            ax.set(xlabel=r"$\log_2 n$", xlim=(0, 122))
            room = max(float(np.nanmax(np.abs(slopes - curve.limit))) * 1.3, 0.05)
            ax.set_ylim(curve.limit - room, curve.limit + room)
        axes[0].set_ylabel("slope between neighbouring widths\nwith 95 % intervals")
        figure.suptitle(
            "Scalar map: measured slopes (blue) approach the predicted exponent (dashed) where the "
            "larger of two powers has yet to win",
            fontsize=8,
        )
    return figure


def schematic() -> Figure:
    """Figure 1 as this project draws it: LoRA trains A and B at one rate, LoRA+ at two."""
    panels = (
        ("LoRA", r"$A - \eta\, g_A$", r"$B - \eta\, g_B$", "one rate"),
        (
            "LoRA+",
            "$A - \\eta_A\\, g_A$\n$\\eta_A = \\Theta(1/n)$",
            "$B - \\eta_B\\, g_B$\n$\\eta_B = \\Theta(1)$",
            r"$\lambda = \eta_B/\eta_A = \Theta(n)$",
        ),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.5), layout="constrained")
        for ax, panel in zip(figure.subplots(1, 2), panels, strict=True):
            _layer_drawing(ax, *panel)
    return figure


def _layer_drawing(ax: Axes, title: str, rate_a: str, rate_b: str, ratio: str) -> None:
    """Frozen W* beside the trapezoids B and A, and to their right how each is updated."""
    ax.set(xlim=(0.5, 13), ylim=(0.2, 6.6), aspect="equal")
    ax.set_title(f"{title}: {ratio}", fontsize=9)
    ax.axis("off")
    ax.add_patch(Rectangle((1, 1.8), 3, 3, facecolor="#dfe7ef", edgecolor="#55677a"))
    ax.text(2.5, 3.3, "$W^*$\nfrozen", ha="center", va="center", fontsize=9)
    trapezoids = {
        "A": ([(5.2, 1.8), (8.8, 1.8), (7.7, 3.1), (6.3, 3.1)], rate_a),
        "B": ([(6.3, 3.5), (7.7, 3.5), (8.8, 4.8), (5.2, 4.8)], rate_b),
    }
    for name, (corners, rate) in trapezoids.items():
        colour = LINES[f"{name} alone"][0]
        ax.add_patch(Polygon(corners, facecolor=colour, alpha=0.35, edgecolor=colour))
        x, y = (float(c) for c in np.mean(corners, axis=0))
        ax.text(x, y, f"${name}$", ha="center", va="center", fontsize=10)
        ax.text(9.3, y, rate, ha="left", va="center", fontsize=8, color=colour)
    ax.text(4.9, 0.55, "$Z$  ($n$ coordinates)", ha="center", va="center")
    ax.text(4.9, 6.15, r"$\bar Z = W^* Z + \frac{\alpha}{r} B A Z$", ha="center", va="center")
    arrows = (
        ((4.5, 0.9), (2.5, 1.75)),
        ((5.3, 0.9), (7, 1.75)),
        ((2.5, 4.85), (4.5, 5.7)),
        ((7, 4.85), (5.3, 5.7)),
    )
    for start, end in arrows:
        ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color="#555"))


def _phase_legend() -> list[Any]:
    markers = [
        Line2D(
            [],
            [],
            color=colour,
            marker=_MARKERS[verdict][0],
            linestyle="-" if verdict != "efficient" else "",
            linewidth=2.5,
            ms=8 if verdict == "efficient" else 4,
            markerfacecolor=colour if verdict == "efficient" else "white",
            mew=0.8,
            label=label,
        )
        for verdict, (colour, label) in LINES.items()
    ]
    return [
        *(Patch(facecolor=colour, label=label) for colour, label in AREAS.values()),
        *markers,
        Line2D([], [], color="#8c2d22", marker="x", linestyle="", ms=4, label="measured unstable"),
        Line2D([], [], color="#7a8ca0", marker="o", linestyle="", ms=4, label="measured stable"),
        Line2D([], [], color=WRONG, marker="X", linestyle="", label="measured otherwise"),
        Line2D([], [], color="#555555", linestyle=":", label="one rate, $c_a = c_b$"),
    ]
