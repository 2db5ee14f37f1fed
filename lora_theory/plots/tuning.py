"""A score over rates η and ratios λ: the map, and a curve a ratio with intervals over seeds.

Nothing is fitted here.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_theory import arguments
from lora_theory.plots.style import STYLE, WIDTH, size_colours
from lora_theory.stats.intervals import fewest_seeds, quantile, quantile_interval
from lora_theory.stats.tuning import tuned

CONTROL = "#8a8a8a"
BEST = "#d95f02"


def tuning_figure(
    scores: np.ndarray,
    log2_rates: Sequence[float] | np.ndarray,
    ratios: Sequence[float],
    *,
    what: str,
    control: str,
    title: str,
) -> Figure:
    """Medians over seeds of a score in [0, 1]: a map over η and λ, and beside it curves.

    In the map a frame is around the best rate of each λ > 0, dotted at the border of the grid.

    Args:
        scores: (S, ratios, rates).
        log2_rates: log2 η.
        ratios: λ, ascending; 0 is the control.
        what: the score.
        control: what λ = 0 is.
        title: of the figure.
    """
    arguments.some("ratios", ratios)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
        names = [control if ratio == 0 else f"{ratio:g}" for ratio in ratios]
        mesh = _map(left, scores, ratios, names)
        figure.colorbar(mesh, ax=left, location="right", aspect=30, pad=0.01, label=what)
        _curves(right, scores, log2_rates, ratios, names)
        ticks = [f"{rate:g}".replace("-", "−") for rate in log2_rates]
        left.set_xticks(range(len(ticks)), ticks)
        right.set_xticks(list(log2_rates), ticks)
        for ax in (left, right):
            ax.set_xlabel(r"$\log_2$ of the peak rate $\eta$", labelpad=1)
        right.set_ylabel(what)
        left.set_title(r"medians over seeds; framed: the best $\eta$ of each $\lambda$", fontsize=7)
        enough = len(scores) >= fewest_seeds(0.5)
        right.set_title("medians" + ", 95 % intervals over seeds" * enough, fontsize=7)
        figure.suptitle(title, fontsize=8)
    return figure


def _map(ax: Axes, scores: np.ndarray, ratios: Sequence[float], names: Sequence[str]) -> Any:
    medians = quantile(scores)
    up, across = (np.arange(size + 1) - 0.5 for size in medians.shape)
    mesh = ax.pcolormesh(across, up, medians, cmap="viridis", vmin=0, vmax=1, rasterized=True)
    for i, row in enumerate(medians):
        for k, value in enumerate(row):
            shade = "white" if value < 0.6 else "black"
            ax.text(k, i, f"{value:.2f}".lstrip("0"), color=shade, ha="center", va="center",
                    fontsize=7)  # fmt: skip
        if ratios[i] > 0:
            best = tuned(scores[:, i])
            dash = ":" if best.border else "-"
            frame = mpl.patches.Rectangle(
                (best.place - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=BEST, linewidth=1.6,
                linestyle=dash, zorder=4, clip_on=False,
            )  # fmt: skip
            ax.add_patch(frame)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylabel(r"$\lambda=\eta_B/\eta_A$")
    return mesh


def _curves(
    ax: Axes,
    scores: np.ndarray,
    log2_rates: Sequence[float] | np.ndarray,
    ratios: Sequence[float],
    names: Sequence[str],
) -> None:
    """Medians with their intervals, the ratios a little aside from one another."""
    trained = [i for i, ratio in enumerate(ratios) if ratio > 0]
    colours = dict(zip(trained, size_colours(len(trained)), strict=True))
    for i, name in enumerate(names):
        found = quantile_interval(scores[:, i])
        aside = 0.06 * (i - (len(names) - 1) / 2)
        x, known = np.asarray(log2_rates, float) + aside, i in colours
        colour = colours[i] if known else CONTROL
        label = rf"$\lambda$ = {name}" if known else name
        ax.plot(x, found.value, "o-" if known else "o:", color=colour, ms=2.5, lw=1.0, label=label)
        if np.isfinite(found.low).all():
            ax.vlines(x, found.low, found.high, color=colour, linewidth=0.8)
    ax.set_ylim(0, 1.02)
    ax.legend(frameon=False, loc="upper left")
