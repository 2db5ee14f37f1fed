"""Figure 2 and its judges: what a landscape over (η_A, η_B) says, in two figures.

Nothing is computed here beyond what is drawn, and nothing needs JAX.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from lora_theory import arguments
from lora_theory.plots.curves import NAMES, draw_curves
from lora_theory.plots.maps import (
    DIAGONAL,
    DIVERGED,
    NEAR,
    NOTHING,
    PAIRS,
    SET,
    Rates,
    best_pairs,
    colour_range,
    counted,
    draw_map,
    draw_pairs,
    draw_set,
    log_axes,
    loss_ticks,
    pair_marks,
    published_mark,
    say,
    shares_mark,
)
from lora_theory.plots.style import STYLE, WIDTH
from lora_theory.stats import landscapes, optima
from lora_theory.stats.intervals import fewest_seeds
from lora_theory.stats.landscapes import JUDGES, Judge, Landscape
from lora_theory.store.dataset import config_of

if TYPE_CHECKING:
    from xarray import Dataset

CLOUD = "#1f9c6b"
LOSS_NAMES = {
    "mse": "mean-squared error",
    "all_pairs": r"all-pairs loss, mean$_{i,j}\,(f_i-y_j)^2$, above each seed's Var(y): "
    "a hypothesis about the published figure",
}
OPTIMIZER_NAMES = {
    "gd": "full-batch gradient descent",
    "sign": "full-batch sign descent",
    "adam": "full-batch Adam",
    "adamw": "full-batch AdamW",
}


def figure2(
    data: "Dataset",
    *,
    early: int,
    late: int,
    judge: Judge = JUDGES[0],
    curve: str = "test_loss",
    early_cap: float | None = None,
    late_cap: float | None = None,
    published: Rates | None = None,
) -> Figure:
    """Figure 2 of the paper: maps of the loss over (η_A, η_B), curves of the two best pairs.

    Args:
        data: a landscape.
        early, late: the steps of the two columns of maps; the pairs are chosen at `late`.
        judge, curve: by what and on which loss they are chosen.
        early_cap, late_cap: losses above are drawn as the cap; None for the median loss at t = 0
            (or the largest loss of the maps, where that is less).
        published: name -> (η_A, η_B), marked on the late maps.

    Raises:
        ValueError: a step that there is not, a cap or a published rate that is not positive, a grid
            with rates of 0, which have no place on the axes.

    Returns:
        The figure, 7 × 5.6 inches; `save` writes it.
    """
    last = data.step.size - 1
    late = arguments.integer("late", late, 1, last)
    early = min(arguments.integer("early", early, 0), late)
    for name, cap in (("early_cap", early_cap), ("late_cap", late_cap)):
        if cap is not None:
            arguments.positive(name, cap)
    for name, rates in (published or {}).items():
        for rate in rates:
            arguments.positive(f"published[{name!r}]", rate)
    pairs = best_pairs(landscapes.landscape(data, curve, late), judge)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
        maps, curves = figure.subfigures(1, 2, width_ratios=[1.75, 1])  # type: ignore[misc]
        axes = maps.subplots(2, 2, sharex=True, sharey=True)
        _map_column(maps, axes[:, 0], data, early, judge, early_cap)
        _map_column(maps, axes[:, 1], data, late, judge, late_cap)
        for ax, name in zip(axes[:, 1], NAMES, strict=True):
            draw_set(ax, landscapes.landscape(data, name, late), judge)
            draw_pairs(ax, pairs, published or {})
        axes[1, 0].set_xlabel(r"$\eta_A$")
        axes[1, 1].set_xlabel(r"$\eta_A$")
        for row in axes:
            row[0].set_ylabel(r"$\eta_B$")
        maps.legend(
            handles=_map_legend(data, judge, published or {}),
            loc="outside upper center",
            ncols=3,
            frameon=False,
            handlelength=1.5,
            columnspacing=1.0,
        )
        draw_curves(curves, data, pairs, late, judge)
        figure.suptitle(_title(data, judge, curve, late), fontsize=8)
        _freeze(figure)
    return figure


def _map_column(
    maps: Any, axes: Any, data: "Dataset", t: int, judge: Judge, cap: float | None
) -> None:
    """Train and test map at step t with their common colour bar."""
    lands = [landscapes.landscape(data, name, t) for name in NAMES]
    judged = [judge.judge(land.losses) for land in lands]
    start = float(np.median(np.concatenate([land.start for land in lands])))
    norm = colour_range(judged, start, cap)
    for ax, name, land, one in zip(axes, NAMES, lands, judged, strict=True):
        mesh = draw_map(ax, land, one, norm)
        ax.set_title(f"{NAMES[name]} loss, t = {t}")
    finite = np.concatenate([one[np.isfinite(one)] for one in judged])
    if not finite.size:
        return
    bar = maps.colorbar(mesh, ax=list(axes), location="bottom", aspect=30, pad=0.02)
    low = float(norm.vmin or 0.0)
    floor = f"\nand below {low:.2g} as that" if finite.min() < low else ""
    bar.set_label(f"loss, capped at {norm.vmax:.2g}{floor}")
    loss_ticks(bar.ax.xaxis, float(norm.vmax or 1.0) / float(norm.vmin or 1.0))


def _map_legend(data: "Dataset", judge: Judge, published: Rates) -> list[Any]:
    seeds, fewest = data.seed.size, fewest_seeds(judge.quantile)
    held = "hold all optima, 95 %" if seeds >= fewest else f"{counted(seeds)}: no interval"
    handles: list[Any] = [
        Line2D([], [], color=DIAGONAL, linestyle="--", label=r"$\eta_A=\eta_B$"),
        *(
            Line2D([], [], color=colour, linestyle=dash, label=f"within {within:.0%} of the best")
            for within, (colour, dash) in NEAR.items()
        ),
        Patch(**DIVERGED, label=f"{str(judge).split(',')[0]} diverged"),
        shares_mark(),
        Line2D([], [], color=SET, linewidth=1.4 * (seeds >= fewest), label=held),
        *pair_marks(),
    ]
    if published:
        handles.append(published_mark())
    return handles


def _title(data: "Dataset", judge: Judge, curve: str, late: int) -> str:
    config = config_of(data)
    loss = LOSS_NAMES.get(config["loss"], config["loss"])
    optimizer = config["optimizer"]["name"]
    return (
        f"{loss}\n{config['model']['name'].replace('_', '-')} toy, "
        f"n = {config['model']['width']}, N = {config['task']['n_train']}, "
        f"{OPTIMIZER_NAMES.get(optimizer, optimizer)}; {judge} of {counted(data.seed.size)}; "
        f"pairs by {NAMES[curve]} loss at t = {late}"
    )


def _freeze(figure: Figure) -> None:
    figure.draw_without_rendering()  # Lay it out once, not once a format.
    figure.set_layout_engine("none")


def judges_figure(data: "Dataset", *, curve: str, t: int) -> Figure:
    """Where the optimum jumps when seeds are drawn anew, and the set of cells, under each judge.

    A disc's area is the share of bootstrap draws in which its cell is the best; the outline holds
    all true optima with 95 %. The last panel is the paper's mean over seeds, which drops a cell
    as soon as one seed diverges there.
    """
    land = landscapes.landscape(data, curve, t)
    config = config_of(data)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
        axes = figure.subplots(2, 3, sharex=True, sharey=True)
        for ax, judge in zip(axes.flat, JUDGES, strict=False):
            _cloud_panel(ax, land, optima.cloud(land.losses, judge), str(judge), NOTHING)
            draw_set(ax, land, judge)
            draw_pairs(ax, best_pairs(land, judge), {})
        last = axes.flat[len(JUDGES)]
        shares = optima.cloud(land.losses, None)
        _cloud_panel(last, land, shares, "mean, as in the paper", "every cell lost a seed")
        for ax in axes[-1]:
            ax.set_xlabel(r"$\eta_A$")
        for ax in axes[:, 0]:
            ax.set_ylabel(r"$\eta_B$")
        for ax in axes[0]:
            _scaled_axis(ax, config["model"]["width"])
        axes.flat[-1].set_axis_off()
        axes.flat[-1].legend(handles=_cloud_legend(land), loc="center", frameon=False)
        figure.suptitle(
            f"{LOSS_NAMES.get(config['loss'], config['loss'])}\n"
            f"n = {config['model']['width']}, {counted(data.seed.size)}, best pair by "
            f"{NAMES[curve]} loss at t = {t}",
            fontsize=8,
        )
        _freeze(figure)
    return figure


def _scaled_axis(ax: Axes, n: int) -> None:
    """n·η_A along the top, the coordinate of the theory."""
    top = ax.secondary_xaxis(
        "top", functions=(partial(np.multiply, n), partial(np.multiply, 1 / n))
    )
    top.set_xlabel(r"$n\,\eta_A$", labelpad=2)
    top.xaxis.set_major_locator(LogLocator(numticks=6))
    top.xaxis.set_minor_locator(NullLocator())


def _cloud_panel(ax: Axes, land: Landscape, shares: np.ndarray, title: str, nothing: str) -> None:
    """Discs where the best cell lies, or the words for that it lies nowhere."""
    log_axes(ax, land)
    if not shares.any():
        say(ax, nothing)
    i, j = np.nonzero(shares)
    ax.scatter(
        land.eta_a[i],
        land.eta_b[j],
        s=250 * shares[i, j],
        color=CLOUD,
        alpha=0.7,
        linewidths=0,
        zorder=3,
        clip_on=False,  # Discs on the border of the grid are whole.
    )
    ax.set_title(title)


def _cloud_legend(land: Landscape) -> list[Any]:
    sets = [
        Line2D([], [], color=colour, linewidth=1.4, label=words)
        for colour, words in (
            (SET, "hold all optima with 95 %"),
            (PAIRS["best equal pair"][0], "the same for one rate"),
        )
    ]
    if len(land.losses) < fewest_seeds(0.5):
        sets = [Line2D([], [], linestyle="", label=f"{counted(len(land.losses))}: no set")]
    marker = {"marker": "o", "linestyle": "", "alpha": 0.7, "color": CLOUD}
    return [
        Line2D([], [], markersize=11, label="best in half of the draws", **marker),  # type: ignore[arg-type]
        Line2D([], [], markersize=3.5, label="in 1 of 20", **marker),  # type: ignore[arg-type]
        *sets,
        *pair_marks(),
        Line2D([], [], color=DIAGONAL, linestyle="--", label=r"$\eta_A=\eta_B$"),
    ]
