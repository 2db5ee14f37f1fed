"""What claims measured, less what is predicted: a row a claim, by kinds of numbers."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath
from matplotlib.ticker import NullLocator

from lora_theory import arguments
from lora_theory.plots.exponents import BAND, OUTCOMES
from lora_theory.plots.records import DrawnExponent
from lora_theory.plots.style import STYLE, WIDTH, draw_value

# By kind of number: the title, and what the axis says.
PANELS = {
    "exact": ("solved exactly, n → ∞", "measured − predicted exponent"),
    "ranks": ("exponents of the rank", "measured − predicted exponent"),
    "vectors": ("trained in vectors", "measured − predicted exponent"),
    "limit": ("limit against vectors", r"mean $\log_2$ size, vectors − limit"),
    "landscapes": (r"landscapes over $(\eta_A, \eta_B)$", "measured − predicted exponent"),
    "carried": ("carried rates", r"$\log_2$ (loss / loss at tuned rates)"),
}
_COLUMNS = (("exact",), ("ranks", "vectors", "limit", "landscapes", "carried"))
_SMALL = "#e7b26a"  # At small widths, over all constants.
_CAUGHT = ("x", "#8a8a8a", "its control: what fails")
_MISSED = ("X", "#ff00ff", "its control: NOT caught")


def differences(exponents: Sequence[DrawnExponent]) -> Figure:
    """Every exponent of every claim, less what is predicted, and of its control, a row a claim.

    An exponent of several constants of the rates is one number, the furthest off, in the range of
    all; behind it lies the range at small widths, where crossovers still bend the slopes. Within
    the margin the axis is linear, beyond it logarithmic. A claim of which something has no number
    has a star.

    Raises:
        ValueError: numbers of one kind, which share a panel, with unlike margins.
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
                _ticks(ax, mine[0].margin, 72 * WIDTH / len(columns))
        if not columns:
            figure.text(0.5, 0.6, "none of these claims speaks of an exponent", ha="center")
        handles = _exponents_legend(exponents)
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _panel(ax: Axes, kind: str, exponents: Sequence[DrawnExponent]) -> None:
    """The numbers of one kind, whose margin they share, a row a claim."""
    margin, *others = dict.fromkeys(e.margin for e in exponents)
    if others:
        one = f"of one margin for all of kind {kind!r}"
        raise arguments.refusal("exponents", one, [margin, *others])
    one_sided = kind == "carried"
    claims = list(dict.fromkeys(exponent.claim for exponent in exponents))
    # Slopes at small widths may be anything, of runs that explode: they are cut off.
    ends = [abs(end) for e in exponents for end in (e.off, e.low, e.high) if np.isfinite(end)]
    edge = max(1.6 * margin, 1.6 * max(ends, default=0))
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
    ax.xaxis.set_minor_locator(NullLocator())
    unknown = {e.claim for e in exponents if not np.isfinite(e.off)}
    ax.set_yticks(range(len(claims)), [c + " *" * (c in unknown) for c in claims])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", color="#eeeeee", linewidth=0.5)
    ax.set_axisbelow(True)


def _row(ax: Axes, y: int, exponents: Sequence[DrawnExponent]) -> None:
    """One claim: its exponents one above the other, its control across them."""
    known = [e for e in exponents if np.isfinite(e.off)]
    mine = [e for e in known if not e.control]
    worst = max(mine, key=lambda e: np.nanmax(np.abs([e.off, e.low, e.high])), default=None)
    reach = min(0.1 * (len(mine) - 1), 0.3)
    places = y + np.linspace(-reach, reach, len(mine))
    for place, exponent in zip(places, mine, strict=False):
        marker, colour, _ = OUTCOMES[exponent.verdict]
        _bar(ax, exponent, float(place), marker, colour, 3.6 if exponent is worst else 2.0)
    small = [end for e in mine for end in e.small if np.isfinite(end)]
    if small:
        ends = min(small), max(small)
        ax.plot(ends, (y, y), color=_SMALL, linewidth=4, solid_capstyle="butt", zorder=2)
    for exponent in known:
        if exponent.control:
            marker, colour, _ = _MISSED if _missed(exponent) else _CAUGHT
            _bar(ax, exponent, float(y), marker, colour, 3.6)


def _missed(exponent: DrawnExponent) -> bool:
    """Whether it is one of a control that should have failed and did not."""
    return exponent.control and exponent.verdict != "fails"


def _bar(
    ax: Axes, exponent: DrawnExponent, y: float, marker: str, colour: str, size: float
) -> None:
    ends = (exponent.low, exponent.high)
    draw_value(ax, exponent.off, y, across=ends, colour=colour, marker=marker, size=size)


def _tick(value: float) -> str:
    """A number with its sign, as short as it can be.

    >>> _tick(-0.02), _tick(0), _tick(1.5), _tick(10.5)
    ('−.02', '0', '+1.5', '+10.5')
    """
    digits = f"{abs(value):g}"
    if digits.startswith("0."):
        digits = digits[1:]
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return sign + digits.replace("-", "−")


def _ticks(ax: Axes, margin: float, width: float) -> None:
    """Ticks with room for their labels: 0 first, then the margin, what is beyond and half the
    margin.

    Args:
        width: of the panel with the names of its rows, in points.
    """
    edge = ax.get_xlim()[1]
    powers = (10.0 ** np.arange(1, np.log10(max(edge, 10)))).tolist()
    beyond = [t for t in (0.1, 1, 5, *powers) if 1.9 * margin < t < edge][-1:]
    room = width - 20 - max(_length(label.get_text()) for label in ax.get_yticklabels())
    to_axes = ax.transScale + ax.transLimits

    def ends(tick: float) -> tuple[float, float]:
        at = float(to_axes.transform((tick, 0))[0]) * room
        half = _length(_tick(tick)) / 2 + 1
        return at - half, at + half

    kept = [0.0]
    for tick in (margin, *beyond, margin / 2):
        low, high = ends(tick)  # Those below 0 mirror them.
        others = [ends(at) for at in kept]
        if ends(0)[1] < low and all(high < start or end < low for start, end in others):
            kept += [tick, -tick]
    ax.set_xticks(sorted(kept), [_tick(t) for t in sorted(kept)])


def _length(words: str) -> float:
    """Of words on an axis, in points."""
    return float(TextPath((0, 0), words, size=STYLE["xtick.labelsize"]).get_extents().width)


def _exponents_legend(exponents: Sequence[DrawnExponent]) -> list[Any]:
    missed = any(_missed(e) for e in exponents)
    unknown = any(not np.isfinite(e.off) for e in exponents)
    looks = [OUTCOMES[verdict] for verdict in ("holds", "fails", "undecided")]
    marks = [
        Line2D([], [], color=colour, marker=marker, lw=0.8, ms=3.6, label=label)
        for marker, colour, label in (*looks, _CAUGHT, *[_MISSED] * missed)
    ]
    band = Patch(facecolor=BAND, label="margin; the axis is linear within, logarithmic beyond")
    small = Line2D([], [], color="#1f4e9c", marker="o", ms=2, lw=0, label="all but the furthest")
    early = Line2D([], [], color=_SMALL, lw=4, label="small n, over all constants")
    star = Line2D([], [], color="black", marker="$*$", ms=5, lw=0, label="some have no number")
    return [*marks, small, early, band, *([star] if unknown else [])]
