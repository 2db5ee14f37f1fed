"""How every figure looks, and how it is written."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Transform

from lora_theory.store.files import atomic_write

# Matplotlib's own settings first: a user's `matplotlibrc` draws no other figure.
STYLE: Any = {
    **{k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")},
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,
}
WIDTH = 7.0  # Inches: of a figure on a page, at which no text is below 7 points.
_GREEK = {"η": r"\eta", "λ": r"\lambda"}


def size_colours(count: int) -> list[Any]:
    """A colour a width or rank, of viridis without its palest end."""
    return [mpl.colormaps["viridis"](at) for at in np.linspace(0, 0.9, count)]


def in_maths(words: str) -> str:
    """Powers and indices in words as a figure sets them.

    >>> in_maths("one rate n^−1/2, η_A")
    'one rate $n^{-1/2}$, $\\\\eta_{A}$'
    """
    powers = re.sub(
        r"(\w+)\^([−-]?[\d./]+)",
        lambda found: f"${found[1]}^{{{found[2].replace('−', '-')}}}$",
        words,
    )
    indexed = re.sub(r"\b([ηλcZ])_(\w+)", r"$\1_{\2}$", powers)
    for letter, name in _GREEK.items():
        indexed = indexed.replace(f"${letter}", f"${name}")
    return indexed.replace("{max}", r"{\max}")


def draw_value(
    ax: Axes,
    x: float,
    y: float,
    *,
    across: Sequence[float] | np.ndarray | None = None,
    up: Sequence[float] | np.ndarray | None = None,
    colour: Any,
    marker: str = "o",
    known: bool = True,
    size: float = 3.5,
) -> None:
    """A marker, open if it is not known, and its intervals in x and in y (which may miss it).

    An end that is infinite is an arrow to the edge of the axis; an interval with an end that is NaN
    is none.
    """
    if across is not None and np.isfinite((x, y)).all():
        _interval(ax, across, lambda end: (end, y), ax.get_yaxis_transform(), colour)
    if up is not None and np.isfinite((x, y)).all():
        _interval(ax, up, lambda end: (x, end), ax.get_xaxis_transform(), colour)
    face = colour if known else "white"
    ax.plot(x, y, marker, color=colour, mfc=face, ms=size, mew=0.8, zorder=4)


def _interval(
    ax: Axes,
    ends: Sequence[float] | np.ndarray,
    at: Callable[[float], tuple[float, float]],
    edges: Transform,
    colour: Any,
) -> None:
    """A line between `at` the ends, or arrows from there to where `edges` has 0 or 1."""
    low, high = (float(end) for end in ends)
    if np.isfinite((low, high)).all():
        ax.plot(*zip(at(low), at(high), strict=True), color=colour, linewidth=0.8, zorder=3)
        return
    arrow = {"arrowstyle": "->", "color": colour, "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
    for edge, end, other in ((0.0, low, high), (1.0, high, low)):
        if np.isinf(end) and not np.isnan(other):
            # The limits may still change: the tip is tied to the edge, not to a number.
            start, base = (at(1 - edge), edges) if np.isinf(other) else (at(other), "data")
            ax.annotate(
                "", at(edge), start, edges, base, arrow, zorder=3, annotation_clip=False
            ).set_in_layout(False)


def dense(pad: float = 0.02) -> ConstrainedLayoutEngine:
    """A layout of many panels, so many inches apart."""
    return ConstrainedLayoutEngine(w_pad=pad, h_pad=pad)


def legend_below(
    figure: Figure, handles: Sequence[Any], *, ncols: int, where: str = "center"
) -> None:
    """A legend under all panels: "left", "center" or "right"."""
    place: Any = f"outside lower {where}"
    figure.legend(
        handles=handles, loc=place, ncols=ncols, frameon=False, columnspacing=1.2, handlelength=1.4
    )


def save(figure: Figure, stem: str | Path, *, dpi: int) -> list[Path]:
    """Write `stem`.png and `stem`.pdf, each whole or not at all; equal figures, equal bytes."""
    paths = [Path(f"{stem}.{kind}") for kind in ("png", "pdf")]
    for path in paths:
        with atomic_write(path) as file, mpl.rc_context(STYLE):
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
            figure.savefig(file, format=path.suffix[1:], dpi=dpi, metadata=metadata)
    return paths
