"""What the theory says of further update rules: small phase diagrams, in one figure."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from lora_theory import arguments
from lora_theory.plots.records import NOT_TOLD, DrawnRule
from lora_theory.plots.style import STYLE, WIDTH, in_maths, legend_below
from lora_theory.plots.theory import AREAS, LINES, MARKERS
from lora_theory.theory.regions import Area

_COLUMNS = 4
_INITS = {"A": "Init[1]", "B": "Init[2]", "both": "both random", "W*": "pretrained"}
_LIMITS = (-2.12, 1.12)
_TICKS = (-2, -1, 0, 1)
_SIZES = {"*": 10.0}  # Of markers; 4.5 of the others.


def rule_diagrams(diagrams: Sequence[DrawnRule]) -> Figure:
    """Predicted regions of update rules: planes of two exponents, and below them lines of one.

    The efficient set of each is marked, and named in its title.
    """
    arguments.some("diagrams", diagrams)
    planes = [diagram for diagram in diagrams if len(diagram.exponents) == 2]
    lines = [diagram for diagram in diagrams if len(diagram.exponents) == 1]
    rows = -(-len(planes) // _COLUMNS)
    heights = [2.0 * rows] * bool(planes) + [0.5 + 0.19 * len(lines)] * bool(lines)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + 1.1), layout="constrained")
        parts = iter(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
        if planes:
            axes = next(parts).subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
            _planes(axes, planes)
        if lines:
            _lines(next(parts).subplots(), lines)
        legend_below(figure, _legend(diagrams), ncols=4)
        figure.suptitle(
            "What the theory predicts of other update rules; nothing here is measured.\n"
            "After each init stands where the rule is efficient: a pair "
            "$(c_a, c_b)$, one exponent, or none.",
            fontsize=8,
        )
    return figure


def _planes(axes: np.ndarray, diagrams: Sequence[DrawnRule]) -> None:
    for i, ax in enumerate(axes.ravel()):
        if i >= len(diagrams):
            ax.set_visible(False)
            continue
        _plane(ax, diagrams[i])
        if i + _COLUMNS >= len(diagrams):  # With none below.
            ax.set_xlabel("$c_a$")
            ax.tick_params(labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("$c_b$")


def _plane(ax: Axes, diagram: DrawnRule) -> None:
    for area in sorted(diagram.areas, key=lambda area: -area.dimension):
        corners = np.array(area.corners)
        if area.dimension == 2:
            around = np.arctan2(*(corners - corners.mean(axis=0)).T[::-1])
            ax.add_patch(Polygon(corners[np.argsort(around)], **_face(area.name)))
        elif area.dimension == 1:
            _segment(ax, corners, area)
        else:
            _mark(ax, corners[0], area.name)
    ax.axline((0, 0), slope=1, color="#555555", linewidth=0.7, linestyle=":", zorder=2)
    ax.set(xlim=_LIMITS, ylim=_LIMITS, aspect="equal", xticks=_TICKS, yticks=_TICKS)
    where = in_maths(diagram.efficient)
    ax.set_title(f"{in_maths(diagram.name)}\n{_INITS[diagram.init]}: {where}", fontsize=7.5)


def _segment(ax: Axes, ends: np.ndarray, area: Area) -> None:
    """A line with the marker of what it is in its middle; one of an area has the area's colour."""
    if area.name in LINES:
        ax.plot(*ends.T, color=LINES[area.name][0], linewidth=2.5, zorder=2)
        shown = np.clip(ends, *_LIMITS)
        _mark(ax, shown.mean(axis=0), area.name)
    else:
        ax.plot(*ends.T, color=_face(area.name)["edgecolor"], linewidth=0.5, zorder=1)


def _mark(ax: Axes, at: np.ndarray, name: str) -> None:
    if name in LINES:
        ax.plot(*at, clip_on=False, zorder=4, **_marker(name))


def _marker(name: str) -> dict[str, Any]:
    marker, colour = MARKERS[name]
    face = colour if name == "efficient" else "white"
    size = _SIZES.get(marker, 4.5)
    return {"marker": marker, "color": colour, "mfc": face, "ms": size, "mew": 0.9, "ls": ""}


def _face(name: str) -> dict[str, Any]:
    if name == NOT_TOLD:
        return {"facecolor": "white", "edgecolor": "#777777", "hatch": "////", "linewidth": 0}
    colour = AREAS[name][0] if name in AREAS else LINES[name][0]
    return {"facecolor": colour, "edgecolor": colour, "linewidth": 0.5}


def _lines(ax: Axes, diagrams: Sequence[DrawnRule]) -> None:
    """One bar for each rule of one exponent, the first on top."""
    for y, diagram in enumerate(diagrams):
        for area in diagram.areas:
            ends = [c for (c,) in area.corners]
            if area.dimension == 1:
                ax.barh(y, ends[-1] - ends[0], left=ends[0], height=0.72, **_face(area.name))
            else:
                _mark(ax, np.array([ends[0], y]), area.name)
    ax.set(
        xlim=_LIMITS, ylim=(len(diagrams) - 0.5, -0.5), xlabel="$c$, the exponent of the one rate"
    )
    names = [
        f"{in_maths(diagram.name)}, {_INITS[diagram.init]}: {in_maths(diagram.efficient)}"
        for diagram in diagrams
    ]
    ax.set_yticks(range(len(diagrams)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_xticks(np.arange(-2, 1.25, 0.5))


def _legend(diagrams: Sequence[DrawnRule]) -> list[Any]:
    names = {area.name for diagram in diagrams for area in diagram.areas}
    areas = {**AREAS, NOT_TOLD: ("white", "not told: cases without end")}
    return [
        *(
            Patch(label=label, **_face(name) | {"edgecolor": "#777777", "linewidth": 0.4})
            for name, (_, label) in areas.items()
            if name in names
        ),
        *(
            Line2D([], [], label=label, **_marker(name) | {"ls": "-" * (name != "efficient")})
            for name, (_, label) in LINES.items()
            if name in names
        ),
        Line2D([], [], color="#555555", linestyle=":", label="one rate, $c_a = c_b$"),
    ]
