"""Maps of a loss over (η_A, η_B): the map itself, sets of cells and pairs on it."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatterMathtext, LogLocator, MaxNLocator, NullLocator

from lora_theory import arguments
from lora_theory.stats import landscapes, optima
from lora_theory.stats.landscapes import Cell, Judge, Landscape

# Hatched: in grey print no shade of the colour scale looks like it.
DIVERGED: Any = {"facecolor": "#efefef", "edgecolor": "#a8a8a8", "hatch": "/////", "linewidth": 0.0}
NOTHING = "diverged everywhere"
DIAGONAL = "#ff8c00"
NEAR: dict[float, tuple[str, Any]] = {0.01: ("#d00000", "-"), 0.05: ("#d00000", ":")}
SET = "#000000"
SHARES = (0.1, 0.5, 0.9)
_SHARE_LINE: Any = {"path_effects": [withStroke(linewidth=2.0, foreground="#707070")]}
PUBLISHED = "#d000d0"
_RING: Any = {
    "marker": "o",
    "markerfacecolor": "none",
    "color": PUBLISHED,
    "markersize": 8.5,
    "markeredgewidth": 1.3,
    "linestyle": "",
}
PAIRS = {"best pair": ("#1f4e9c", "-"), "best equal pair": ("#d95f02", "--")}
MARKS = {"best pair": ("*", 8.0), "best equal pair": ("D", 4.5)}

COLOURS = mpl.colormaps["viridis_r"].with_extremes(bad=(0.0, 0.0, 0.0, 0.0))

Pairs = dict[str, Cell]
Rates = Mapping[str, tuple[float, float]]


def best_pairs(land: Landscape, judge: Judge) -> Pairs:
    """The best pair and the best equal pair, as far as any cell trains."""
    judged = landscapes.judging(judge).judge(land.losses)
    found = landscapes.best_pair(land, judged), landscapes.best_equal_pair(land, judged)
    return {key: cell for key, cell in zip(PAIRS, found, strict=True) if cell is not None}


def draw_map(ax: Axes, land: Landscape, judged: np.ndarray, norm: LogNorm) -> Any:
    """One map (G_a, G_b) of a loss on log-log axes: η_A to the right, η_B up.

    Cells where the judge has diverged are hatched; contours are shares of seeds
    that diverge; outlines are the cells within 1 % and 5 % of the best; the dashed line is
    η_A = η_B. Returns the mesh, whose array is the map.
    """
    mesh = draw_cells(ax, land, judged, norm)
    if min(judged.shape) > 1:
        with np.errstate(all="ignore"):
            ax.contour(
                land.eta_a,
                land.eta_b,
                land.diverged.T,
                levels=SHARES,
                colors="white",
                linewidths=(0.6, 1.0, 1.4),
            ).set(**_SHARE_LINE)
    for within, (colour, dash) in NEAR.items():
        _outline(ax, land, landscapes.near_best(judged, within), colour, dash, 1.0)
    return mesh


def draw_cells(ax: Axes, land: Landscape, judged: np.ndarray, norm: LogNorm) -> Any:
    """The cells of such a map alone, and the line η_A = η_B. Returns the mesh."""
    mesh = draw_mesh(ax, _edges(land.eta_a), _edges(land.eta_b), judged, norm)
    log_axes(ax, land)
    if not np.isfinite(judged).any():
        say(ax, NOTHING)
    return mesh


def draw_mesh(
    ax: Axes, edges_a: np.ndarray, edges_b: np.ndarray, judged: np.ndarray, norm: LogNorm
) -> Any:
    """A map (G_a, G_b) between edges (G_a + 1,) and (G_b + 1,), hatched where it is ∞."""
    size = float(edges_a[-1] - edges_a[0]), float(edges_b[-1] - edges_b[0])
    corner = float(edges_a[0]), float(edges_b[0])
    ax.add_patch(Rectangle(corner, *size, zorder=0.5, **DIVERGED))
    shown = np.where(np.isfinite(judged), judged, np.nan)
    return ax.pcolormesh(edges_a, edges_b, shown.T, cmap=COLOURS, norm=norm, rasterized=True)


def colour_range(maps: list[np.ndarray], start: float, cap: float | None = None) -> LogNorm:
    """One logarithmic colour scale for several maps, from their least loss to the cap."""
    values = np.concatenate([m[np.isfinite(m)] for m in maps])
    if values.size == 0 or values.max() <= 0:
        return LogNorm(0.1, 1.0, clip=True)
    cap = arguments.positive("cap", cap) if cap is not None else float(min(start, values.max()))
    low = max(float(values.min()), cap * 1e-6)
    return LogNorm(low, max(cap, low * 1.01), clip=True)


def log_axes(ax: Axes, land: Landscape) -> None:
    """Log-log axes over the grid, with the line η_A = η_B."""
    edges_a, edges_b = _edges(land.eta_a), _edges(land.eta_b)
    ax.set(xscale="log", yscale="log", xlim=edges_a[[0, -1]], ylim=edges_b[[0, -1]])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_minor_locator(NullLocator())
    low, high = max(edges_a[0], edges_b[0]), min(edges_a[-1], edges_b[-1])
    ax.plot([low, high], [low, high], "--", color=DIAGONAL, linewidth=1.0)


def loss_ticks(axis: Any, ratio: float) -> None:
    """Ticks of a colour bar that spans this ratio of losses, as many as have room."""
    if ratio < 1e4:
        subs = (1, 2, 5) if ratio < 50 else (1, 3) if ratio < 300 else (1,)
        axis.set_major_locator(_narrow(axis, subs) or LogLocator(subs=subs))
        axis.set_major_formatter("{x:g}")
    else:
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_major_formatter(LogFormatterMathtext())
    axis.set_minor_locator(NullLocator())


def _narrow(axis: Any, subs: tuple[int, ...]) -> MaxNLocator | None:
    """Steps of equal size, where these parts of decades leave less than two ticks."""
    low, high = sorted(axis.get_view_interval())
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.multiply.outer(decades, subs)
    few = np.count_nonzero((low <= ticks) & (ticks <= high)) < 2 or high < 2 * low
    return MaxNLocator(4) if few else None


def say(ax: Axes, words: str) -> None:
    """Words in the middle of a panel that has nothing else to show."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    middle: Any = {"transform": ax.transAxes, "ha": "center", "va": "center"}
    ax.text(0.5, 0.5, words, **middle, bbox=box, zorder=6)


def draw_set(ax: Axes, land: Landscape, judge: Judge) -> None:
    """Outlines of the cells that may be the best pair, and the best equal pair; nothing where
    there are too few seeds.
    """
    for found, colour in (
        (optima.unbeaten(land.losses, judge), SET),
        (optima.unbeaten_equal(land, judge), PAIRS["best equal pair"][0]),
    ):
        if found is not None:
            _outline(ax, land, found, colour, "-", 1.4)


def draw_pairs(ax: Axes, pairs: Pairs, published: Rates) -> None:
    """Marks on the pairs, and rings around the published ones."""
    for key, cell in pairs.items():
        ax.plot(
            cell.eta_a,
            cell.eta_b,
            MARKS[key][0],
            color=PAIRS[key][0],
            markeredgecolor="white",
            markeredgewidth=0.6,
            markersize=MARKS[key][1],
            zorder=5,
            clip_on=False,  # One on the border of the grid is whole.
        )
    for rates in published.values():
        ax.plot(*rates, **_RING, zorder=4.5)  # Under what it is compared with.


def _outline(
    ax: Axes, land: Landscape, cells: np.ndarray, colour: str, dash: str, width: float
) -> None:
    """The boundary of a set of cells (G_a, G_b) of a landscape."""
    draw_outline(ax, _edges(land.eta_a), _edges(land.eta_b), cells, colour, dash, width)


def draw_outline(
    ax: Axes,
    edges_a: np.ndarray,
    edges_b: np.ndarray,
    cells: np.ndarray,
    colour: str,
    dash: str,
    width: float,
) -> None:
    """The boundary of a set of cells (G_a, G_b) between edges (G_a + 1,) and (G_b + 1,)."""
    inside = np.pad(cells, 1)
    i, j = np.nonzero(inside[1:, 1:-1] != inside[:-1, 1:-1])
    lines = [
        ((edges_a[k], edges_b[m]), (edges_a[k], edges_b[m + 1])) for k, m in zip(i, j, strict=True)
    ]
    i, j = np.nonzero(inside[1:-1, 1:] != inside[1:-1, :-1])
    lines += [
        ((edges_a[k], edges_b[m]), (edges_a[k + 1], edges_b[m])) for k, m in zip(i, j, strict=True)
    ]
    ax.add_collection(
        LineCollection(lines, colors=colour, linestyles=dash, linewidths=width, zorder=4),
        autolim=False,
    )


def pair_marks() -> list[Any]:
    """Handles of the pairs for a legend."""
    return [
        Line2D(
            [],
            [],
            color=PAIRS[key][0],
            marker=MARKS[key][0],
            markersize=MARKS[key][1],
            markeredgecolor="white",
            linestyle="",
            label=key,
        )
        for key in PAIRS
    ]


def published_mark() -> Line2D:
    """The handle of a published pair for a legend."""
    return Line2D([], [], **_RING, label="published")


def shares_mark() -> Line2D:
    """The handle of the contours for a legend."""
    shares = ", ".join(f"{100 * share:g}" for share in SHARES)
    return Line2D([], [], color="white", linewidth=1.0, label=f"{shares} % diverge", **_SHARE_LINE)


def counted(seeds: int) -> str:
    """How many seeds, in words.

    >>> counted(1), counted(3)
    ('1 seed', '3 seeds')
    """
    return f"{seeds} seed" + "s" * (seeds != 1)


def _edges(rates: np.ndarray) -> np.ndarray:
    """Edges of cells centred, in log η, on the rates."""
    if not (rates > 0).all():
        raise ValueError(
            f"rates: must be above 0 on a logarithmic axis, see `Landscape.positive` "
            f"(got {rates.min():g})"
        )
    if rates.size == 1:
        return rates[0] * np.array([0.5, 2.0])
    logs = np.log(rates)
    middle = (logs[1:] + logs[:-1]) / 2
    ends = (2 * logs[0] - middle[0], 2 * logs[-1] - middle[-1])
    return np.exp(np.concatenate([[ends[0]], middle, [ends[1]]]))
