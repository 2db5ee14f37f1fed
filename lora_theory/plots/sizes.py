"""How large things are over widths: curvature by block beside the best rates, and what a layer
computes in its first steps.

Nothing is fitted here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lora_theory import arguments
from lora_theory.plots.style import STYLE, WIDTH, dense, draw_value, in_maths, legend_below
from lora_theory.stats.intervals import mean_interval
from lora_theory.stats.places import Quantity
from lora_theory.stats.scaling import Place, Scaling
from lora_theory.stats.tables import Table

BLOCKS = {"A": ("#2a7fba", "o"), "B": ("#6a51a3", "s"), "both": ("#444444", "D")}
# Colour, name, marker, dash: told apart without their colours.
SIZES = {
    "f": ("#000000", "f", "o", "-"),
    "Z_A": ("#2a7fba", "Z_A", "s", "-"),
    "Z_B": ("#6a51a3", "Z_B", "D", "-"),
    "dZ_A": ("#7ec0e8", r"\Delta Z_A", "s", "--"),
    "dZ_B": ("#b79be0", r"\Delta Z_B", "D", "--"),
    "delta1": ("#1a7a2e", r"\delta^1", "^", ":"),
    "delta2": ("#d95f02", r"\delta^2", "v", ":"),
    "delta3": ("#b8a000", r"\delta^3", "x", ":"),
}
PROPORTIONAL = "#1a7a2e"


# --- Curvature ---


class Curved(NamedTuple):
    """The curvature of one family.

    Attributes:
        title: in words.
        log2_widths: (W,) log2 n.
        logs: "A", "B", "both" -> (W, S) log2 of the largest eigenvalue, −∞ for a block that is 0.
        scaling: the optima.
        bound: what η λ_max is at most where training is stable, as 2; None if that is not known.
        hessian: which.
    """

    title: str
    log2_widths: np.ndarray
    logs: Mapping[str, np.ndarray]
    scaling: Scaling
    bound: float | None
    hessian: str


def curvature_figure(families: Sequence[Curved]) -> Figure:
    """λ_max of the blocks, η* λ_max, and the ratio of the blocks beside λ* and λ ∝ n: a row each.

    Intervals are over seeds: of λ_max Student's of the mean logarithm, of η* and λ* those of the
    optimum; open where the optimum is not determined.
    """
    arguments.some("families", families)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 2.3 * len(families)), layout="constrained")
        axes = figure.subplots(len(families), 3, squeeze=False)
        for row, family in zip(axes, families, strict=True):
            _eigenvalues(row[0], family)
            _products(row[1], family)
            _ratios(row[2], family)
            row[0].set_ylabel(f"{family.title}\n$\\log_2\\,\\lambda_{{\\max}}$")
            row[1].set_ylabel(r"$\log_2\,(\eta^*\lambda_{\max})$")
            row[2].set_ylabel(r"$\log_2$ of the ratio")
            for ax in row:
                _width_axis(ax, family.log2_widths)
        for ax, title in zip(
            axes[0],
            (families[0].hessian, "optimal rate × curvature", "ratios of B's rate to A's"),
            strict=True,
        ):
            ax.set_title(title, fontsize=7)
    return figure


def _eigenvalues(ax: Axes, family: Curved) -> None:
    zeros = []
    # First that of both, and larger: that of one block may lie on it.
    for block, (colour, marker) in reversed(BLOCKS.items()):
        logs = family.logs[block]
        if np.isneginf(logs).all():
            zeros.append(block)
            continue
        size = 6 if block == "both" else 3
        _over_widths(ax, family.log2_widths, logs, colour, f"{marker}-", _block_name(block), size)
    words = "; ".join(f"{block}: exactly 0 in all seeds" for block in zeros)
    ax.legend(frameon=False, title=words or None, title_fontsize=7)


def _block_name(block: str) -> str:
    return "A and B" if block == "both" else f"block {block}"


def _over_widths(
    ax: Axes,
    log2_widths: np.ndarray,
    logs: np.ndarray,
    colour: str,
    form: str,
    label: str,
    size: float = 3,
) -> None:
    """A mean logarithm (W, S) with its interval over seeds; a size at which it is 0 is left out."""
    finite = np.isfinite(logs).all(axis=1)
    if not finite.any():
        return
    found = mean_interval(logs[finite], axis=1)
    ax.plot(log2_widths[finite], found.mean, form, color=colour, lw=0.9, ms=size, label=label)
    ax.vlines(log2_widths[finite], found.low, found.high, color=colour, linewidth=0.8)


def _products(ax: Axes, family: Curved) -> None:
    rates: dict[str, tuple[Quantity, str]] = {
        "A": ("eta_a", r"$\eta_A^*$, A"),
        "B": ("eta_b", r"$\eta_B^*$, B"),
        "both": ("equal", "shared η*, both"),
    }
    for block, (name, label) in rates.items():
        logs, (colour, marker) = family.logs[block], BLOCKS[block]
        places = family.scaling.places[name]
        if np.isneginf(logs).all() or not any(np.isfinite(at.value) for at in places):
            continue
        middle = logs.mean(axis=1)
        _places(ax, family.log2_widths, places, middle, colour, marker, label)
    if family.bound is not None:
        label = f"η λ = {family.bound:g}"
        ax.axhline(np.log2(family.bound), color="#999999", ls="--", lw=0.8, label=label)
    _legend_above(ax)


def _places(
    ax: Axes,
    log2_widths: np.ndarray,
    places: Sequence[Place],
    shift: np.ndarray,
    colour: str,
    marker: str,
    label: str,
) -> None:
    """Places over widths, displaced by `shift` (W,), each with its interval; open ones are open."""
    y = np.array([at.value for at in places]) + shift
    ax.plot(log2_widths, y, "-", color=colour, linewidth=0.8)
    for x, at, value, by in zip(log2_widths, places, y, shift, strict=True):
        if np.isfinite(value):
            up = (at.low + by, at.high + by)
            draw_value(ax, x, value, up=up, colour=colour, marker=marker, known=not at.open)
    ax.plot([], [], f"{marker}-", color=colour, ms=3.5, label=label)


def _ratios(ax: Axes, family: Curved) -> None:
    places = family.scaling.places["ratio"]
    shift = np.zeros(len(family.log2_widths))
    if any(np.isfinite(at.value) for at in places):
        _places(ax, family.log2_widths, places, shift, "#d95f02", "o", r"measured $\lambda^*$")
    a, b = family.logs["A"], family.logs["B"]
    if np.isfinite(a).all() and np.isfinite(b).all():
        _over_widths(
            ax,
            family.log2_widths,
            a - b,
            "#444444",
            "D-",
            r"$\lambda_{\max}$ A / $\lambda_{\max}$ B",
        )
    else:
        ax.plot([], [], " ", label="no ratio of blocks: one is 0")
    first = next((at.value for at in places if np.isfinite(at.value)), None)
    if first is not None:
        # Through the middle of λ*: a direction, not a fit.
        known = np.array([at.value for at in places])
        ok = np.isfinite(known)
        level = float((known[ok] - family.log2_widths[ok]).mean())
        ends = family.log2_widths[[0, -1]]
        ax.plot(ends, ends + level, ":", color=PROPORTIONAL, label=r"slope of $\lambda \propto n$")
    _legend_above(ax)


def _legend_above(ax: Axes) -> None:
    """A legend in the panel, over what is drawn."""
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.45 * (top - bottom))
    ax.legend(frameon=False, loc="upper left")


def _width_axis(ax: Axes, log2_widths: np.ndarray) -> None:
    ax.set_xlabel(r"$\log_2\,n$", labelpad=1)
    ax.set_xticks([float(n) for n in log2_widths], [f"{n:g}" for n in log2_widths])


# --- Coordinate check ---


def coordinate_figure(
    tables: Mapping[tuple[str, str], Table], *, names: Sequence[str] = tuple(SIZES)
) -> Figure:
    """log2 of sizes over log2 n: a row for each scaling of the rates, columns by init and step.

    A size that is Θ(1) is flat. What is exactly 0 is said in words. Bars are intervals over seeds.

    Args:
        tables: (scaling, init) -> sizes.
        names: which of `SIZES` are drawn, as far as a table has them.
    """
    rows, inits = (list(dict.fromkeys(key[k] for key in tables)) for k in (0, 1))
    steps = next(iter(tables.values())).steps
    with mpl.rc_context(STYLE):
        columns = len(inits) * len(steps)
        size = (min(1.6 * columns + 0.4, WIDTH), 1.0 + 1.9 * len(rows))
        figure = Figure(figsize=size, layout=dense())
        axes = figure.subplots(len(rows), columns, sharex=True, sharey="row", squeeze=False)
        for (scaling, init), table in tables.items():
            i, first = rows.index(scaling), inits.index(init) * len(steps)
            for k, t in enumerate(steps):
                ax = axes[i, first + k]
                _sizes(ax, table, k, names)
                if not i:
                    ax.set_title(f"{init}, t = {t}")
                if i == len(rows) - 1:
                    ax.set_xlabel(r"$\log_2\,n$", labelpad=1)
        for ax, scaling in zip(axes[:, 0], rows, strict=True):
            ax.set_ylabel(f"{in_maths(scaling)}\n$\\log_2$ size")
        handles = [
            Line2D([], [], color=colour, marker=marker, ls=dash, ms=3, lw=0.9, label=f"${label}$")
            for name, (colour, label, marker, dash) in SIZES.items()
            if name in names
        ]
        legend_below(figure, handles, ncols=len(handles))
    return figure


def _sizes(ax: Axes, table: Table, k: int, names: Sequence[str]) -> None:
    zeros = []
    for name, (colour, label, marker, dash) in SIZES.items():
        if name not in names or name not in table.logs:
            continue
        logs = table.logs[name][..., k]
        if np.isneginf(logs).all():
            zeros.append(f"${label}$")
        else:
            _over_widths(ax, table.log2_widths, logs, colour, marker + dash, label)
    if zeros:
        words = f"0: {', '.join(zeros)}"
        ax.text(0.04, 0.04, words, transform=ax.transAxes, fontsize=7, va="bottom")
    ax.set_xticks([float(n) for n in table.log2_widths])
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.grid(axis="y", color="#eeeeee", linewidth=0.6)
