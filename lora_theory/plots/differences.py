"""What claims measured, less what is predicted: a row a claim, by kinds of numbers."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from lora_theory.plots.exponents import BAND, OUTCOMES
from lora_theory.plots.records import DrawnExponent
from lora_theory.plots.style import STYLE, WIDTH, draw_value

# By kind of number: the title, and what the axis says.
PANELS = {
    "map": ("scalar map, any width", "measured − predicted exponent"),
    "vectors": ("models in vectors", "measured − predicted exponent"),
    "landscapes": (r"landscapes over $(\eta_A, \eta_B)$", "measured − predicted exponent"),
    "carried": ("carried rates", r"$\log_2$ (loss / loss at tuned rates)"),
}
_COLUMNS = (("map", "landscapes", "carried"), ("vectors",))
_CONTROL = ("x", "#8a8a8a", "control, which must fail")


def differences(exponents: Sequence[DrawnExponent]) -> Figure:
    """Every exponent of every claim, less what is predicted, and of its control, a row a claim.

    Within the margin the axis is linear, beyond it logarithmic.
    """
    columns = [
        found
        for kinds in _COLUMNS
        if (found := {k: mine for k in kinds if (mine := [e for e in exponents if e.kind == k])})
    ]
    with mpl.rc_context(STYLE):
        rows = [[len({e.claim for e in mine}) for mine in found.values()] for found in columns]
        tallest = max((sum(counts) + 3.6 * len(counts) for counts in rows), default=4)
        figure = Figure(figsize=(WIDTH, 0.75 + 0.145 * tallest), layout="constrained")
        parts = figure.subfigures(1, max(len(columns), 1), squeeze=False)[0]
        for part, found, counts in zip(parts, columns, rows, strict=False):
            heights = {"height_ratios": [count + 0.6 for count in counts]}
            axes = part.subplots(len(found), 1, squeeze=False, gridspec_kw=heights)[:, 0]
            for ax, (kind, mine) in zip(axes, found.items(), strict=True):
                _panel(ax, kind, mine)
        if not columns:
            figure.text(0.5, 0.6, "none of these claims speaks of an exponent", ha="center")
        handles = _exponents_legend()
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _panel(ax: Axes, kind: str, exponents: Sequence[DrawnExponent]) -> None:
    """The numbers of one kind, whose margin they share, a row a claim."""
    margin, one_sided = exponents[0].margin, kind == "carried"
    claims = list(dict.fromkeys(exponent.claim for exponent in exponents))
    ends = [abs(end) for e in exponents for end in (e.off, e.low, e.high) if np.isfinite(end)]
    edge = max(1.6 * margin, 1.25 * max(ends, default=0))
    ax.axvspan(-edge if one_sided else -margin, margin, color=BAND, lw=0, zorder=0)
    ax.axvline(0, color="black", linewidth=0.7, zorder=1)
    for y, claim in enumerate(claims):
        _row(ax, y, [e for e in exponents if e.claim == claim])
    title, label = PANELS[kind]
    bound = f"at most {margin:g}" if one_sided else f"±{margin:g}"
    ax.set(title=f"{title}: band {bound}", xlabel=label, ylim=(len(claims) - 0.4, -0.6))
    # The band takes some three fifths of the axis, however far off the controls are.
    beyond = np.log10(edge / margin)
    ax.set_xscale("symlog", linthresh=margin, linscale=1.35 * beyond)
    ax.set_xlim(-edge, edge)
    ticks = [margin / 2, margin, *(t for t in (0.1, 1.0, 10.0) if 1.9 * margin < t < edge)]
    ticks = [-t for t in reversed(ticks)] + [0, *ticks]
    ax.set_xticks(ticks, [f"{t:+g}".replace("-", "−") if t else "0" for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks(range(len(claims)), claims)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", color="#eeeeee", linewidth=0.5)
    ax.set_axisbelow(True)


def _row(ax: Axes, y: int, exponents: Sequence[DrawnExponent]) -> None:
    """One claim: its exponents one above the other, its control across them."""
    known = [e for e in exponents if np.isfinite(e.off)]
    mine = [e for e in known if not e.control]
    worst = max(mine, key=lambda e: np.nanmax(np.abs([e.off, e.low, e.high])), default=None)
    places = y + np.linspace(-0.3, 0.3, len(mine)) if len(mine) > 1 else [y]
    for place, exponent in zip(places, mine, strict=False):
        marker, colour, _ = OUTCOMES[exponent.verdict]
        _bar(ax, exponent, float(place), marker, colour, 3.6 if exponent is worst else 2.0)
    for exponent in known:
        if exponent.control:
            _bar(ax, exponent, float(y), *_CONTROL[:2], 3.6)
    if missing := len(exponents) - len(known):
        words = f"{missing} without a number"
        place = ax.get_yaxis_transform()
        ax.text(0.99, y, words, transform=place, ha="right", va="center", fontsize=7, color="#777")


def _bar(
    ax: Axes, exponent: DrawnExponent, y: float, marker: str, colour: str, size: float
) -> None:
    ends = (exponent.low, exponent.high)
    draw_value(ax, exponent.off, y, across=ends, colour=colour, marker=marker, size=size)


def _exponents_legend() -> list[Any]:
    looks = [OUTCOMES[verdict] for verdict in ("holds", "fails", "undecided")]
    marks = [
        Line2D([], [], color=colour, marker=marker, lw=0.8, ms=3.6, label=label)
        for marker, colour, label in (*looks, _CONTROL)
    ]
    band = Patch(facecolor=BAND, label="margin: within it the axis is linear, beyond logarithmic")
    large = Line2D(
        [], [], color="#1f4e9c", marker="o", ms=2, lw=0, label="exponents, the furthest large"
    )
    return [*marks, band, large]
