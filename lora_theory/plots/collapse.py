"""Whether the landscapes of several widths fall on one another: cuts, and the variance left.

Nothing is fitted here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from lora_theory.plots.scaling import Moving, scaled_rate
from lora_theory.plots.style import STYLE, WIDTH, in_maths, size_colours
from lora_theory.stats.collapse import Collapse, log_losses, mean_map

SCALINGS = {
    "fit": ("#000000", "o"),
    "theory": ("#1a7a2e", "*"),
    "one rate n^−1/2": ("#d98c00", "s"),
    "one rate n^−1": ("#d95f02", "D"),
    "none": ("#8a8a8a", "x"),
}


def collapse_figure(families: Sequence[Moving], *, what: str) -> Figure:
    """Cuts of the mean map at raw and at scaled coordinates, and the variance left by scalings.

    A cut along η_A goes through the η_B of the best cell at the middle width, one along η_B through
    its η_A; in scaled coordinates at each width through the cell nearest to its place there.

    Args:
        families: two rows each, along η_A and along η_B; those without collapses are left out.
        what: the loss and its step.
    """
    shown = [family for family in families if family.collapses]
    rows = 2 * max(len(shown), 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.4 + 1.9 * rows), layout="constrained")
        axes = figure.subplots(rows, 3, squeeze=False)
        for ax in axes[1::2, 2]:
            ax.set_axis_off()
        for k, family in enumerate(shown):
            along_a, along_b = axes[2 * k], axes[2 * k + 1]
            _cuts([*along_a[:2], *along_b[:2]], family)
            _left(along_a[2], family.collapses)
            for ax, factor in ((along_a[0], "A"), (along_b[0], "B")):
                words = f"{family.title}, along $\\eta_{factor}$"
                ax.set_ylabel(f"{words}\nmean $\\log_2$ {what}")
        titles = "raw coordinates", "scaled coordinates", "variance left between widths"
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title, fontsize=7)
        axes[1, 2].legend(
            handles=_collapse_legend(shown), loc="upper center", ncols=2, frameon=False
        )
    return figure


def _cuts(row: Sequence[Axes], family: Moving) -> None:
    lands = [land.positive for land in family.sweep.lands]
    colours = size_colours(len(lands))
    # A loss at t = 0 that is finite in no seed caps nothing: such a width has no map.
    known = [w for w, land in enumerate(lands) if np.isfinite(land.start).any()]
    if not known:
        return
    octaves, colours = family.sweep.log2_widths[known], [colours[w] for w in known]
    axes = np.log2(lands[0].eta_a), np.log2(lands[0].eta_b)
    maps = [mean_map(log_losses(lands[w])) for w in known]
    middle = len(maps) // 2
    best = np.unravel_index(np.argmin(maps[middle]), maps[middle].shape)
    low, high = min(float(at.min()) for at in maps), max(float(at.max()) for at in maps)
    for k, ax in enumerate(row):
        along, c = k // 2, family.scaled if k % 2 else (0.0, 0.0)
        fixed, place = 1 - along, int(best[1 - along])
        missing = []
        for w, (at, colour) in enumerate(zip(maps, colours, strict=True)):
            step = float(np.diff(axes[fixed]).mean())
            cell = place + round(c[fixed] * (octaves[w] - octaves[middle]) / step)
            if 0 <= cell < len(axes[fixed]):
                x = axes[along] - c[along] * octaves[w]
                ax.plot(x, np.take(at, cell, axis=fixed), color=colour)
            else:
                missing.append(f"{2 ** octaves[w]:g}")
        level = axes[fixed][place] - c[fixed] * octaves[middle]
        words = f"{scaled_rate('AB'[fixed], c[fixed])} = {level:g}".replace("-", "−")
        if missing:
            words += f"\noff the grid at n = {', '.join(missing)}"
        ax.text(0.03, 0.97, f"at {words}", transform=ax.transAxes, va="top", fontsize=7)
        ax.set_ylim(low - 0.1 * (high - low) - 1e-3, high + 0.28 * (high - low) + 1e-3)
        ax.set_xlabel(scaled_rate("AB"[along], c[along]), labelpad=1)
        ax.xaxis.set_major_locator(MultipleLocator(4))
        if k % 2:
            ax.set_yticklabels([])


def _left(ax: Axes, collapses: Mapping[tuple[str, int], Collapse]) -> None:
    """The share of the variance that each scaling leaves, at each loss and step."""
    names = [f"{curve.removesuffix('_loss')}\n{t}" for curve, t in collapses]
    order = sorted(range(len(names)), key=lambda k: (list(collapses)[k][0], list(collapses)[k][1]))
    for x, k in enumerate(order):
        fit = list(collapses.values())[k]
        for i, (name, (colour, marker)) in enumerate(SCALINGS.items()):
            if name in fit.left and np.isfinite(fit.left[name]):
                face, size = colour if marker in "*x" else "white", 5.5 if marker == "*" else 3.5
                ax.plot(
                    x + 0.13 * (i - 2), fit.left[name], marker, color=colour, mfc=face, ms=size,
                    mew=0.9, zorder=3,
                )  # fmt: skip
        if not any(np.isfinite(value) for value in fit.left.values()):
            words = "no cells in common" if fit.left else "flat"
            ax.text(x, 0.05, words, rotation=90, ha="center", va="bottom", fontsize=7)
    ax.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
    ax.set_xticks(range(len(names)), [names[k] for k in order])
    top = max((v for c in collapses.values() for v in c.left.values() if np.isfinite(v)), default=1)
    ax.set_xlabel("loss, step t", labelpad=1)
    ax.set(xlim=(-0.6, len(names) - 0.4), ylim=(-0.04 * top, 1.1 * top))


def _collapse_legend(families: Sequence[Moving]) -> list[Any]:
    if not families:
        return []
    octaves = families[0].sweep.log2_widths
    colours = size_colours(len(octaves))
    return [
        *(
            Line2D([], [], color=colour, label=f"n = {2**n:g}")
            for n, colour in zip(octaves, colours, strict=True)
        ),
        *(
            Line2D(
                [], [], color=colour, marker=marker, ls="", ms=7 if marker == "*" else 4,
                mfc=colour if marker in "*x" else "white", label=in_maths(name),
            )
            for name, (colour, marker) in SCALINGS.items()
        ),
    ]  # fmt: skip
