"""How landscapes over (η_A, η_B) move with the width n: maps with the trail of the optimum.

Nothing is fitted here: what is drawn comes with its intervals from `lora_theory.stats`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator

from lora_theory import arguments
from lora_theory.plots.maps import (
    DIAGONAL,
    DIVERGED,
    MARKS,
    NEAR,
    PAIRS,
    colour_range,
    counted,
    draw_mesh,
    draw_outline,
    loss_ticks,
)
from lora_theory.plots.style import STYLE, WIDTH, dense, draw_value, legend_below
from lora_theory.stats.collapse import Collapse
from lora_theory.stats.landscapes import Landscape, near_best
from lora_theory.stats.places import REGIONS
from lora_theory.stats.scaling import Scaling, Sweep

TRAIL = "#000000"
_GAP = 1.0  # Between the cells of rate 0 and those of positive rates, centre of one to edge of all.


class Moving(NamedTuple):
    """One family of landscapes.

    Attributes:
        title: in words.
        sweep: the landscapes.
        scaling: its optima, and the judge of the maps.
        collapses: (loss, t) -> the collapse of all widths; the first one is that of the cuts.
        seeds: how many each width has.
        scaled: (c_a, c_b) of the scaled coordinates n^−c_a η_A and n^−c_b η_B.
    """

    title: str
    sweep: Sweep
    scaling: Scaling
    collapses: Mapping[tuple[str, int], Collapse]
    seeds: tuple[int, ...]
    scaled: tuple[float, float] = (-1.0, 0.0)


def maps_over_widths(families: Sequence[Moving], *, what: str, diverged: str) -> Figure:
    """A column of maps a width: each family's over (η_A, η_B), below in its scaled coordinates.

    All maps share one colour scale. The strips apart are rates of 0. The star is the best cell,
    the outline what is within 5 % of it; dots are the centres of the optimum at all widths, the
    map's own with its interval over seeds, open where it is not determined.

    Args:
        families: each has two rows.
        what: the loss, its step, for the colour bar.
        diverged: what a judge of ∞ means, for the legend.
    """
    arguments.some("families", families)
    widths = max(len(family.sweep.lands) for family in families)
    judged = [[f.scaling.judge.judge(land.losses) for land in f.sweep.lands] for f in families]
    start = np.median(np.concatenate([land.start for f in families for land in f.sweep.lands]))
    norm = colour_range([at for of in judged for at in of], float(start))
    with mpl.rc_context(STYLE):
        size = (WIDTH, 1.0 + (2.8 if widths > 3 else 3.6) * len(families))
        figure = Figure(figsize=size, layout=dense())
        axes = figure.subplots(2 * len(families), widths, squeeze=False)
        mesh: Any = None
        for k, (family, maps) in enumerate(zip(families, judged, strict=True)):
            for row, c in ((axes[2 * k], (0.0, 0.0)), (axes[2 * k + 1], family.scaled)):
                mesh = _map_row(row, family, maps, norm, c)
        bar = figure.colorbar(mesh, ax=axes, location="right", aspect=40, pad=0.01, shrink=0.8)
        bar.set_label(f"{what}, capped at its start {norm.vmax:.2g}")
        loss_ticks(bar.ax.yaxis, float(norm.vmax or 1) / float(norm.vmin or 1))
        handles = _map_legend(diverged)
        legend_below(figure, handles, ncols=3)
    return figure


def _map_row(
    row: np.ndarray,
    family: Moving,
    maps: Sequence[np.ndarray],
    norm: LogNorm,
    c: tuple[float, float],
) -> Any:
    """The maps of one family over (n^−c_a η_A, n^−c_b η_B)."""
    octaves = np.asarray(family.sweep.log2_widths, float)
    raw, positive = not any(c), family.sweep.lands[0].positive
    across, tall = (
        _window(rates, -power * octaves)
        for rates, power in zip((positive.eta_a, positive.eta_b), c, strict=True)
    )
    mesh = None
    for w, (ax, land, judged) in enumerate(zip(row, family.sweep.lands, maps, strict=False)):
        shift = (-c[0] * octaves[w], -c[1] * octaves[w])
        mesh = _map(ax, land, judged, norm, shift, across, tall)
        _trail(ax, family.scaling, w, c)
        strips = (1.6 * _GAP * (rates[0] == 0) for rates in (land.eta_a, land.eta_b))
        ax.set_xlim(across[0] - next(strips), across[1])
        ax.set_ylim(tall[0] - next(strips), tall[1])
        if raw:
            ax.set_title(f"n = {2 ** octaves[w]:g}\n({counted(family.seeds[w])})", fontsize=7)
        if w == (len(maps) - 1) // 2:  # Of all of the row.
            ax.set_xlabel(scaled_rate("A", c[0]), labelpad=1)
        if w:
            ax.set_yticklabels([])
    title = family.title if raw else "scaled"
    row[0].set_ylabel(f"{title}\n{scaled_rate('B', c[1])}", labelpad=1)
    for ax in row[len(maps) :]:
        ax.set_axis_off()
    return mesh


def scaled_rate(factor: str, c: float) -> str:
    """log2 of n^−c η_A or η_B, for an axis.

    >>> scaled_rate("B", 0), scaled_rate("A", -0.5)
    ('$\\\\log_2\\\\,\\\\eta_B$', '$\\\\log_2\\\\,(n^{0.5}\\\\,\\\\eta_A)$')
    """
    if not c:
        return rf"$\log_2\,\eta_{factor}$"
    power = "n" if c == -1 else f"n^{{{-c:g}}}"
    return rf"$\log_2\,({power}\,\eta_{factor})$"


def _window(rates: np.ndarray, moves: np.ndarray) -> tuple[float, float]:
    """From where to where any width has cells, in log2 of scaled rates."""
    low, high = np.log2(rates[[0, -1]])
    return float(low + moves.min()) - 0.5, float(high + moves.max()) + 0.5


def _map(
    ax: Axes,
    land: Landscape,
    judged: np.ndarray,
    norm: LogNorm,
    shift: tuple[float, float],
    across: tuple[float, float],
    tall: tuple[float, float],
) -> Any:
    """One map on axes of log2 rates, displaced by `shift`; rates of 0 in strips apart."""
    with np.errstate(divide="ignore"):
        x, y = np.log2(land.eta_a) + shift[0], np.log2(land.eta_b) + shift[1]
    at_x, at_y = np.maximum(x, across[0] - _GAP), np.maximum(y, tall[0] - _GAP)
    groups_a, groups_b = (
        [np.flatnonzero(np.isneginf(at)), np.flatnonzero(np.isfinite(at))] for at in (x, y)
    )
    near = near_best(judged, REGIONS[-1])
    mesh = None
    for rows, columns in itertools.product(groups_a, groups_b):
        if rows.size and columns.size:
            edges = (_edges(at_x[rows]), _edges(at_y[columns]))
            mesh = draw_mesh(ax, *edges, judged[np.ix_(rows, columns)], norm)
            colour, _ = NEAR[REGIONS[-1]]
            draw_outline(ax, *edges, near[np.ix_(rows, columns)], colour, "-", 0.8)
    ax.plot(across, np.array(across) + shift[1] - shift[0], "--", color=DIAGONAL, linewidth=0.8)
    if np.isfinite(judged).any():
        i, j = np.unravel_index(np.argmin(judged), judged.shape)
        marker, size = MARKS["best pair"]
        ax.plot(
            at_x[i], at_y[j], marker, color=PAIRS["best pair"][0], markersize=size - 1,
            markeredgecolor="white", markeredgewidth=0.5, zorder=6,
        )  # fmt: skip
    for axis, ends, off in ((ax.xaxis, across, x), (ax.yaxis, tall, y)):
        _octave_ticks(axis, ends, ends[0] - _GAP if np.isneginf(off).any() else None)
    return mesh


def _octave_ticks(axis: Any, window: tuple[float, float], off: float | None) -> None:
    """Multiples of a power of 2 inside the window, and "off" at rates of 0."""
    span = window[1] - window[0]
    step = 8 if span > 18 else 4 if span > 7 else 2  # Three labels, or four.
    ticks = [float(k) for k in range(int(np.ceil(window[0])), int(window[1]) + 1) if k % step == 0]
    if off is not None:  # Room for its word.
        ticks = [tick for tick in ticks if tick - off > 0.22 * span]
    labels = [f"{tick:g}".replace("-", "−") for tick in ticks]
    places = ticks if off is None else [off, *ticks]
    axis.set_major_locator(FixedLocator(places))
    axis.set_ticklabels(labels if off is None else ["off", *labels])


def _trail(ax: Axes, found: Scaling, w: int, c: tuple[float, float]) -> None:
    """The centre of the optimum at all widths, and that of this one with its interval."""
    octaves = np.asarray(found.log2_widths, float)
    a, b = found.places["eta_a"], found.places["eta_b"]
    x = np.array([place.value for place in a]) - c[0] * octaves
    y = np.array([place.value for place in b]) - c[1] * octaves
    ax.plot(x, y, ".-", color=TRAIL, linewidth=0.6, markersize=3, zorder=2.5)
    if np.isfinite(x[w]) and np.isfinite(y[w]):
        ends = np.array([[a[w].low, a[w].high], [b[w].low, b[w].high]])
        ends -= octaves[w] * np.array(c)[:, None]
        known = not (a[w].open or b[w].open)
        draw_value(ax, x[w], y[w], across=ends[0], up=ends[1], colour=TRAIL, known=known)


def _edges(places: np.ndarray) -> np.ndarray:
    """Edges of cells of one spacing centred on places (G,): (G + 1,)."""
    step = float(np.diff(places).mean()) if places.size > 1 else 1.0
    return np.append(places - step / 2, places[-1] + step / 2)


def _map_legend(diverged: str) -> list[Any]:
    marker, size = MARKS["best pair"]
    dot: Any = {"color": TRAIL, "marker": "o", "ms": 3.5}
    star: Any = {"color": PAIRS["best pair"][0], "marker": marker, "ms": size - 1}
    return [
        Line2D([], [], **star, ls="", label="best cell"),
        Line2D([], [], color=NEAR[REGIONS[-1]][0], label=f"within {REGIONS[-1]:.0%} of it"),
        Line2D([], [], **dot, lw=0.6, label="centre of the optimum, 95 %; its trail over n"),
        Line2D([], [], **dot, ls="", mfc="white", label="not determined"),
        Line2D([], [], color=DIAGONAL, ls="--", label=r"$\eta_A=\eta_B$"),
        Patch(**DIVERGED, label=diverged),
        Line2D([], [], ls="", label="off: rate 0, that factor is not trained"),
    ]
