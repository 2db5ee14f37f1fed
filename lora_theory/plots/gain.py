"""What two rates gain over one, over widths: as a search, as training time, in each seed.

Nothing is fitted here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_theory import arguments
from lora_theory.plots.style import STYLE, WIDTH, draw_value
from lora_theory.stats.search import LargerB, Search, SpeedUp

TRIALS = {1: "#c6b3e6", 4: "#8f6cc4", 16: "#4f2d8f"}
LAST = "#111111"


class Gained(NamedTuple):
    """What two rates gain over one in a family.

    Attributes:
        title: in words.
        log2_widths: (W,) log2 n.
        searches: after k random trials, of each width.
        speed_ups: how much sooner, of each width; None where there is no finite pair.
        larger: seeds by the side of the diagonal on which their own best lies.
    """

    title: str
    log2_widths: np.ndarray
    searches: Sequence[Search]
    speed_ups: Sequence[SpeedUp | None]
    larger: Sequence[LargerB]


def gain_figure(families: Sequence[Gained], *, what: str) -> Figure:
    """Gain of k random trials, speed-up, and seeds with their own best η_B > η_A, against n.

    Args:
        families: a row each.
        what: the loss and its step.
    """
    arguments.some("families", families)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 2.2 * len(families)), layout="constrained")
        axes = figure.subplots(len(families), 3, squeeze=False)
        for row, family in zip(axes, families, strict=True):
            _gains(row[0], family)
            _speeds(row[1], family)
            _shares(row[2], family)
            row[0].set_ylabel(f"{family.title}\n$\\log_2$ {what},\none rate − two rates")
            for ax in row:
                ends = family.log2_widths[0] - 0.5, family.log2_widths[-1] + 0.5
                ax.set(xlim=ends, xticks=[float(n) for n in family.log2_widths])
                ax.set_xlabel(r"$\log_2\,n$", labelpad=1)
        titles = (
            "gain after k random trials",
            "speed-up of the best pair",
            "own best pair: which rate is larger",
        )
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title, fontsize=7)
    return figure


def _gains(ax: Axes, family: Gained) -> None:
    last = min(len(found.trials) for found in family.searches)
    shown = {k: colour for k, colour in TRIALS.items() if k < last} | {last: LAST}
    for i, (k, colour) in enumerate(shown.items()):
        mean, low, high = (
            np.array([end[k - 1] for end in ends])
            for ends in zip(*(found.gain for found in family.searches), strict=True)
        )
        x = np.asarray(family.log2_widths) + 0.08 * (i - (len(shown) - 1) / 2)
        label = f"k = {k}" + (" (all)" if k == last else "")
        ax.plot(x, mean, "o-", color=colour, ms=3, lw=0.9, label=label)
        ax.vlines(x, low, high, color=colour, linewidth=0.8)
    ax.axhline(0, color="#999999", linewidth=0.6, zorder=0)
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.3 * (top - bottom))
    ax.legend(frameon=False, ncols=2, loc="upper center", columnspacing=1.0, handlelength=1.2)


def _speeds(ax: Axes, family: Gained) -> None:
    ends: list[float] = []
    for n, found in zip(family.log2_widths, family.speed_ups, strict=True):
        if found is None:
            continue
        value, low, high = (float(end) for end in found.ratio)
        if not (value > 0 and np.isfinite(value)):
            words = "never" if value == 0 else "at once"
            ax.text(
                n, 0.03, words, transform=ax.get_xaxis_transform(), ha="center", va="bottom",
                rotation=90, fontsize=7,
            )  # fmt: skip
            continue
        known = bool(np.isfinite([low, high]).all())
        # 0 times, if it never gets there, has no place on the axis: the line leaves the panel.
        up = (max(low, 1e-3), high) if known else None
        draw_value(ax, n, value, up=up, colour=LAST, known=known)
        ends += [value, high] if known else [value]
    ax.axhline(1, color="#999999", linewidth=0.6, zorder=0)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(lambda x, _: f"{x:g} ×" if x >= 1 else f"1/{1 / x:g} ×")
    ax.set_ylim(min([0.35, *(0.7 * end for end in ends)]), max([2.0, *(1.3 * end for end in ends)]))
    ax.set_ylabel("steps of one rate / of two")


def _shares(ax: Axes, family: Gained) -> None:
    counts = np.array([(at.larger, at.equal, at.smaller, at.diverged) for at in family.larger])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    x, foot = np.asarray(family.log2_widths, float), np.zeros(len(shares))
    names = (r"$\eta_B^*>\eta_A^*$", "equal", r"$\eta_B^*<\eta_A^*$", "all diverged")
    colours = ("#7fa0cc", "#ffffff", "#f6cfae", "#b0b0b0")
    for k, (name, colour) in enumerate(zip(names, colours, strict=True)):
        if counts[:, k].any():
            ax.bar(
                x, shares[:, k], 0.7, foot, fc=colour, ec="#888888", lw=0.4, label=name, zorder=1
            )
        foot = foot + shares[:, k]
    for n, at in zip(x, family.larger, strict=True):
        if np.isfinite(at.share):
            draw_value(ax, n, at.share, up=(at.low, at.high), colour="#1f4e9c", size=3)
    ax.plot([], [], "o", color="#1f4e9c", ms=3, label="> of unequal")
    ax.set(ylim=(0, 1.6), ylabel="share of seeds", yticks=[0, 0.25, 0.5, 0.75, 1])
    ax.legend(frameon=False, ncols=2, loc="upper center", columnspacing=0.8, handlelength=1.0)
