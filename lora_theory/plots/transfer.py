"""Rates carried over widths and ranks: loss over rate, and what carrying loses.

Nothing is fitted here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, MultipleLocator

from lora_theory import arguments
from lora_theory.plots.style import STYLE, WIDTH, draw_value, in_maths, legend_below, size_colours
from lora_theory.stats.intervals import fewest_seeds, quantile_interval
from lora_theory.stats.landscapes import Judge
from lora_theory.stats.scaling import Place, Scaling, Sweep
from lora_theory.stats.transfer import Transfer

LINES = (
    (0.0, "one rate", r"$\log_2\,\eta$"),
    (0.5, r"one rate $\propto n^{-1/2}$", r"$\log_2\,(\eta\, n^{1/2})$"),
    (1.0, r"one rate $\propto n^{-1}$", r"$\log_2\,(\eta\, n)$"),
)
RULES = ("#8a8a8a", "#d98c00", "#d95f02", "#1f4e9c")


class Carried(NamedTuple):
    """One family's rates over widths.

    Attributes:
        title: in words.
        sweep: its landscapes and lines.
        scaling: its optima, and the judge of the curves.
        transfers: rule -> what carrying the rates of the first width loses at each other.
        plane: whether there are two rates, and not the line alone.
    """

    title: str
    sweep: Sweep
    scaling: Scaling
    transfers: Mapping[str, Sequence[Transfer]]
    plane: bool


# --- Transfer ---


def transfer_figure(families: Sequence[Carried], *, what: str) -> Figure:
    """Loss over rate, a curve a width, under each way to carry the rate; and what carrying loses.

    Dots are optima: of one rate the centre with its interval over seeds, open where it is not
    determined; of ρ the best cell. The bar upward is the interval of the loss there over seeds.

    Args:
        families: two rows each.
        what: the loss and its step.
    """
    arguments.some("families", families)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 3.8 * len(families)), layout="constrained")
        grid = figure.add_gridspec(2 * len(families), len(LINES))
        for k, family in enumerate(families):
            row = [figure.add_subplot(grid[2 * k, column]) for column in range(len(LINES))]
            row += [figure.add_subplot(grid[2 * k + 1, 0])] if family.plane else []
            lost = figure.add_subplot(grid[2 * k + 1, len(row) - len(LINES) :])
            _transfer_row(row, family)
            _lost(lost, family)
            titles = [title for _, title, _ in LINES] + [r"$\eta_A=\rho/n$, $\eta_B$ constant"]
            for ax, title in zip(row, titles, strict=False):
                ax.set_title(title, fontsize=7)
            lost.set_title("lost by carrying the first width's rates", fontsize=7)
            for ax in row[:: len(LINES)]:
                ax.set_ylabel(f"{family.title}\n{what}")
        sizes, rules = _size_handles("n", families[0].sweep.log2_widths), _rule_handles(families)
        rows = max(-(-len(of) // 2) for of in (sizes, rules))
        legend_below(figure, [*_filled(sizes, 2 * rows), *rules], ncols=4)
    return figure


def _filled(handles: list[Any], count: int) -> list[Any]:
    """So many handles, the last ones empty: what follows begins a column."""
    return handles + [Line2D([], [], ls="", label=" ") for _ in range(count - len(handles))]


def _transfer_row(row: Sequence[Axes], family: Carried) -> None:
    octaves, judge = np.asarray(family.sweep.log2_widths, float), family.scaling.judge
    colours = size_colours(len(octaves))
    places = family.scaling.places["equal"]
    for w, (line, colour) in enumerate(zip(family.sweep.shared, colours, strict=True)):
        for ax, (power, _, label) in zip(row, LINES, strict=False):
            x = np.log2(line.eta) + power * octaves[w]
            _curve(ax, x, line.losses, judge, colour)
            _optimum(ax, x, line.losses, judge, places[w], power * octaves[w], colour)
            ax.set_xlabel(label, labelpad=1)
    if len(row) > len(LINES):
        _plane_panel(row[-1], family, colours)
    starts = np.median(np.concatenate([land.start for land in family.sweep.lands]))
    _loss_axes(row, _least(family.sweep, judge), float(starts), len(LINES))


def _least(sweep: Sweep, judge: Judge) -> float:
    """The least judged loss, on lines or in planes."""
    maps = [judge.judge(land.losses) for land in sweep.lands]
    maps += [judge.judge(line.losses[:, :, None]) for line in sweep.shared]
    values = np.concatenate([at[np.isfinite(at) & (at > 0)] for at in maps])
    return float(values.min()) if values.size else 1.0


def _loss_axes(row: Sequence[Axes] | np.ndarray, low: float, start: float, columns: int) -> None:
    """One logarithmic axis of losses, from the least to a little above the start, at the left."""
    for ax in row:
        ax.set_yscale("log", base=2)
        ax.set_ylim(low / 2, start * 1.5)
        ax.axhline(start, color="#999999", linewidth=0.6, linestyle=":", zorder=0)
        ax.xaxis.set_major_locator(MultipleLocator(4))
    for at, ax in enumerate(row):
        if at % columns:
            ax.set_yticklabels([])


def _curve(ax: Axes, x: np.ndarray, losses: np.ndarray, judge: Judge, colour: Any) -> np.ndarray:
    """The judged losses of rates (S, G); where they are ∞ the curve ends."""
    judged = judge.judge(losses[:, :, None])[:, 0]
    ax.plot(x, np.where(np.isfinite(judged), judged, np.nan), "-", color=colour, linewidth=1.0)
    return judged


def _optimum(
    ax: Axes,
    x: np.ndarray,
    losses: np.ndarray,
    judge: Judge,
    place: Place | None,
    shift: float,
    colour: Any,
) -> None:
    """A dot on the optimum: at its place, or without one on the best cell; open if not known."""
    judged = judge.judge(losses[:, :, None])[:, 0]
    if not np.isfinite(judged).any():
        return
    best = int(np.argmin(judged))
    at, across, inside = float(x[best]), None, 0 < best < len(x) - 1
    if place is not None and np.isfinite(place.value):
        at, across = place.value + shift, (place.low + shift, place.high + shift)
        inside = not place.open
    known = np.isfinite(judged)
    y = 2 ** float(np.interp(at, x[known], np.log2(np.maximum(judged[known], 1e-300))))
    up = None
    if len(losses) >= fewest_seeds(judge.quantile):
        found = quantile_interval(losses[:, best], judge.quantile)
        up = float(found.low), float(found.high)
    draw_value(ax, at, y, across=across, up=up, colour=colour, known=inside)


def _plane_panel(ax: Axes, family: Carried, colours: Sequence[Any]) -> None:
    """Loss over ρ = n η_A at the η_B of the first width's best pair."""
    if not family.plane:
        ax.set_axis_off()
        return
    judge = family.scaling.judge
    lands = [land.positive for land in family.sweep.lands]
    judged = judge.judge(lands[0].losses)
    _, j = np.unravel_index(np.argmin(judged), judged.shape)
    for n, land, colour in zip(family.sweep.log2_widths, lands, colours, strict=True):
        x = np.log2(land.eta_a) + n
        _curve(ax, x, land.losses[:, :, j], judge, colour)
        _optimum(ax, x, land.losses[:, :, j], judge, None, 0.0, colour)
    ax.set_xlabel(r"$\log_2\,\rho=\log_2\,(n\,\eta_A)$", labelpad=1)
    words = rf"$\eta_B=2^{{{np.log2(lands[0].eta_b[j]):g}}}$"
    ax.text(0.04, 0.04, words, transform=ax.transAxes, va="bottom", fontsize=7)


def _lost(ax: Axes, family: Carried) -> None:
    """What carried rates lose at each width, by rule, with intervals; what is not on the grid is
    marked at the bottom.
    """
    octaves = np.asarray(family.sweep.log2_widths, float)
    rules = list(family.transfers.items())
    for k, (_, moves) in enumerate(rules):
        aside = 0.14 * (k - (len(rules) - 1) / 2)
        for at in moves:
            x, lost = at.log2_width + aside, float(at.lost.mean)
            if not np.isfinite(lost):
                ax.plot(x, 0.03, "x", color=RULES[k], ms=3.5, mew=0.9, clip_on=False,
                        transform=ax.get_xaxis_transform())  # fmt: skip
                continue
            ends = float(at.lost.low), float(at.lost.high)
            known = bool(np.isfinite(ends).all())
            draw_value(ax, x, lost, up=ends, colour=RULES[k], known=known, size=3)
    ax.axhline(0, color="#999999", linewidth=0.6, zorder=0)
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.set(ylabel=r"$\log_2$ loss above tuning anew", xticks=octaves[1:])
    ax.set_xlabel(r"$\log_2\,n$", labelpad=1)
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.08 * (high - low), high)


def _rule_handles(families: Sequence[Carried]) -> list[Any]:
    longest = max((family.transfers for family in families), key=len)
    grey: Any = {"color": "#444444", "ls": ""}
    return [
        *(
            Line2D([], [], color=colour, marker="o", ms=3, ls="", label=in_maths(name))
            for name, colour in zip(longest, RULES, strict=False)
        ),
        Line2D([], [], **grey, marker="x", ms=3.5, label="leaves the grid"),
        Line2D([], [], **grey, marker="o", mfc="white", ms=3, label="no interval"),
    ]


def _size_handles(over: str, log2_sizes: np.ndarray) -> list[Any]:
    colours = size_colours(len(log2_sizes))
    return [
        Line2D([], [], color=colour, marker="o", ms=3, label=f"{over} = {2**size:g}")
        for size, colour in zip(log2_sizes, colours, strict=True)
    ]


# --- Ranks ---


class Ranked(NamedTuple):
    """One shared rate over ranks at one multiplier r^−γ and variance r^ρ of B.

    Attributes:
        gamma: γ.
        variance: of B, in words; empty where B starts at 0.
        sweep: log2 r for log2 n, and the lines.
        scaling: the best shared rate of each rank, its exponent.
        predicted: that exponent.
        outcome: "holds", "fails", "undecided", as its verdict says.
    """

    gamma: float
    variance: str
    sweep: Sweep
    scaling: Scaling
    predicted: float | None
    outcome: str


def rank_figure(families: Sequence[Ranked], *, title: str, what: str) -> Figure:
    """Loss over one rate, a curve a rank, and the best rate over r beside its law.

    Columns are γ; each variance has a row of curves, and the last row the best rates.
    """
    arguments.some("families", families)
    gammas = list(dict.fromkeys(family.gamma for family in families))
    variances = list(dict.fromkeys(family.variance for family in families))
    with mpl.rc_context(STYLE):
        rows = len(variances) + 1
        size = (min(2.4 * len(gammas) + 0.6, WIDTH), 0.9 + 2.0 * rows)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, len(gammas), squeeze=False)
        for family in families:
            i, j = variances.index(family.variance), gammas.index(family.gamma)
            _rank_curves(axes[i, j], family)
            aside = 0.1 * (i - (len(variances) - 1) / 2)
            _rank_law(axes[-1, j], family, ("#1f4e9c", "#d95f02")[i % 2], "os"[i % 2], aside)
        starts = np.median(np.concatenate([a.start for f in families for a in f.sweep.lands]))
        low = min(_least(family.sweep, family.scaling.judge) for family in families)
        for i, variance in enumerate(variances):
            _loss_axes(axes[i], low, float(starts), len(gammas))
            axes[i, 0].set_ylabel(f"{in_maths(variance)}\n{what}".strip())
            for ax in axes[i]:
                ax.set_xlabel(r"$\log_2\,\eta$", labelpad=1)
        limits = [ax.get_ylim() for ax in axes[-1]]
        bottom, top = min(ends[0] for ends in limits), max(ends[1] for ends in limits)
        for ax in axes[-1]:
            ax.set_ylim(bottom, top + (0.35 + 0.55 * len(variances)) * (top - bottom))
            ax.set_xlabel(r"$\log_2\,r$", labelpad=1)
            ax.legend(frameon=False, loc="upper left", handlelength=1.2)
        axes[-1, 0].set_ylabel(r"$\log_2$ of the best shared rate")
        for ax, gamma in zip(axes[0], gammas, strict=True):
            ax.set_title(rf"multiplier $r^{{-\gamma}}$, $\gamma={gamma:g}$")
        figure.suptitle(title, fontsize=8)
        legend_below(figure, _size_handles("r", families[0].sweep.log2_widths), ncols=8)
    return figure


def _rank_curves(ax: Axes, family: Ranked) -> None:
    judge, places = family.scaling.judge, family.scaling.places["equal"]
    colours = size_colours(len(places))
    for line, place, colour in zip(family.sweep.shared, places, colours, strict=True):
        x = np.log2(line.eta)
        _curve(ax, x, line.losses, judge, colour)
        _optimum(ax, x, line.losses, judge, place, 0.0, colour)


def _rank_law(ax: Axes, family: Ranked, colour: str, marker: str, aside: float) -> None:
    """The best rates with their intervals, and the law through their middle."""
    x = np.asarray(family.sweep.log2_widths, float)
    places, found = family.scaling.places["equal"], family.scaling.exponents["equal"]
    y = np.array([place.value for place in places])
    for at, place in zip(x, places, strict=True):
        if np.isfinite(place.value):
            up = place.low, place.high
            draw_value(
                ax, at + aside, place.value, up=up, colour=colour, marker=marker,
                known=not place.open,
            )  # fmt: skip
    number = f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]" if found.determined else ""
    # Of two lines: as wide as a panel.
    words = ", ".join(filter(None, (in_maths(family.variance), family.outcome)))
    label = f"{words}\n{(number or found.status).replace('-', '−')}".strip()
    ax.plot([], [], marker, color=colour, ms=3.5, mfc=colour if number else "white", label=label)
    known = np.isfinite(y)
    if family.predicted is not None and known.any():
        middle = float((y - family.predicted * x)[known].mean())
        law = f"law: {family.predicted:+.2f}".replace("-", "−")
        ax.plot(x, family.predicted * x + middle, "--", color=colour, linewidth=0.9, label=law)
    ax.set_xticks(x)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
