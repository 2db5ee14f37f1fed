"""Curves over steps: the best pairs of a landscape, with bands over seeds."""

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lora_theory.plots.maps import NOTHING, PAIRS, Pairs, counted, say
from lora_theory.stats import landscapes
from lora_theory.stats.intervals import fewest_seeds, quantile_interval
from lora_theory.stats.landscapes import Cell, Judge

if TYPE_CHECKING:
    from xarray import Dataset

NAMES = {"train_loss": "train", "test_loss": "test"}
_INSET = (0.42, 0.56, 0.34, 0.41)  # The zoom, in parts of a panel.
_LONG = 0.06  # Of a panel, by which labels such as 1.25e-10 are longer than 0.125.
_FREE = 0.46  # Curves under the zoom reach so far up, no further: there are its labels.
_BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}  # Of a note.
_NO_END = 1e30  # Where a band is drawn to that has no upper end.
_SINGLE_SEEDS = 15  # Curves of more seeds would only be a smear.


def draw_curves(curves: Any, data: "Dataset", pairs: Pairs, late: int, judge: Judge) -> None:
    """Train and test curves of the pairs in a column of their own, up to step `late`."""
    panels = curves.subplots(2, 1, sharex=True)
    handles: list[Any] = []
    for ax, name in zip(panels, NAMES, strict=True):
        handles = _curve_panel(ax, data, name, pairs, late, judge.quantile)
    panels[1].set_xlabel("step $t$")
    panels[1].xaxis.set_major_locator(_whole())
    if not pairs:
        for ax in panels:
            ax.set_yticks([])
            say(ax, NOTHING)
        return
    seeds = data.seed.size
    if seeds < fewest_seeds(judge.quantile):
        handles.append(Line2D([], [], linestyle="", label=f"{counted(seeds)}: no interval"))
    else:
        handles.append(Patch(color="#888888", alpha=0.3, label="95 % interval over seeds"))
    if seeds <= _SINGLE_SEEDS:
        handles.append(Line2D([], [], color="#888888", linewidth=0.5, label="single seeds"))
    curves.legend(handles=handles, loc="outside upper center", ncols=1, frameon=False)


def _curve_panel(
    ax: Axes, data: "Dataset", name: str, pairs: Pairs, late: int, q: float
) -> list[Any]:
    """Curves of the pairs, a quantile over seeds, with bands and the zoom on the last tenth."""
    samples = {key: landscapes.curve(data, name, at)[:, : late + 1] for key, at in pairs.items()}
    inset = ax.inset_axes(_inset([of[:, -1] for of in samples.values()]))
    inset.yaxis.tick_right()
    inset.tick_params(labelsize=7, pad=2)
    inset.xaxis.set_major_locator(_whole())
    inset.yaxis.set_major_locator(MaxNLocator(4))
    inset.yaxis.set_major_formatter(lambda x, _: _short(x))  # No common power above the panel.
    start = late - max(late // 10, 1)
    steps, handles, drawn = data.step.values[: late + 1], [], []
    for key, cell in pairs.items():
        colour, dash = PAIRS[key]
        seeds = samples[key]
        centre = quantile_interval(seeds, q)
        singles = _finite(seeds if len(seeds) <= _SINGLE_SEEDS else seeds[:0])
        drawn.append(_Drawn(_finite(centre.value), _finite(centre.high), singles, seeds[:, 0]))
        for panel, shown in ((ax, slice(None)), (inset, slice(start, None))):
            (line,) = panel.plot(steps[shown], drawn[-1].centre[shown], color=colour, ls=dash)
            band = [np.minimum(end[shown], _NO_END) for end in (centre.low, centre.high)]
            panel.fill_between(steps[shown], *band, color=colour, alpha=0.18, linewidth=0)
            if singles.size:
                panel.plot(steps[shown], singles[:, shown].T, color=colour, lw=0.4, alpha=0.6)
        line.set_label(_pair_label(key, cell))
        handles.append(line)
    ax.set(ylabel=f"{NAMES[name]} loss", xlim=(0, late))
    top = _limits(ax, drawn, "median" if q == 0.5 else "quantile")
    inset.set_xlim(start, late)
    _zoom(inset, [seeds[:, start:] for seeds in samples.values()], top)
    return handles


def _inset(ends: list[np.ndarray]) -> tuple[float, float, float, float]:
    """Where the zoom is: it leaves more room for the long labels of losses that end near 0."""
    finite = [end[np.isfinite(end)] for end in ends]
    high = max((float(np.median(end)) for end in finite if end.size), default=1.0)
    x, y, width, height = _INSET
    long = not 1e-3 <= high < 1e4
    return x, y, width - _LONG * long, height


class _Drawn(NamedTuple):
    """What a pair has in a panel, NaN for ∞: (T,) the quantile and the band's upper end, (S, T)
    single seeds, and (S,) losses at t = 0.
    """

    centre: np.ndarray
    high: np.ndarray
    singles: np.ndarray
    start: np.ndarray


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _limits(ax: Axes, drawn: list[_Drawn], what: str) -> float:
    """A logarithmic axis of what matters: up to twice the loss at t = 0, or so far above that the
    zoom covers no curve. What is cut off is said. Returns the upper end, ∞ if nothing is drawn.
    """
    curves = [row for pair in drawn for row in (pair.centre, *pair.singles)]
    positive = [row[row > 0] for row in curves if (row > 0).any()]
    if not positive:
        return np.inf
    least = min(float(row.min()) for row in positive)
    centres = [float(pair.centre[pair.centre > 0].min(initial=np.inf)) for pair in drawn]
    low = 0.5 * max(least, 0.1 * min(centres) if np.isfinite(min(centres)) else 0.0)
    starts = np.concatenate([pair.start for pair in drawn])
    starts = starts[np.isfinite(starts) & (starts > 0)]
    top = 2 * (
        float(np.median(starts)) if starts.size else max(float(row.max()) for row in positive)
    )
    later = slice(int(_INSET[0] * len(drawn[0].centre)), None)
    under = [row[later] for pair in drawn for row in (pair.centre, pair.high, *pair.singles)]
    reach = np.nanmax([np.nanmax(row, initial=low) for row in under])
    room = low * (min(float(reach), top) / low) ** (1 / _FREE)
    top = max(top, room, 4 * low)
    ax.set_yscale("log")
    ax.set_ylim(low, top)
    centre, singles = (
        max((float(np.nanmax(rows, initial=0.0)) for rows in of), default=0.0)
        for of in ([pair.centre for pair in drawn], [pair.singles for pair in drawn])
    )
    words = [f"{what} {_size(centre)}"] * (centre > top) + [f"seeds {_size(singles)}"] * (
        singles > max(top, 1.01 * centre)
    )
    if words:
        text = "cut off:\n" + "\n".join(words)
        ax.text(0.07, 0.97, text, transform=ax.transAxes, va="top", fontsize=7, bbox=_BEHIND)
    return top


def _zoom(inset: Axes, ends: list[np.ndarray], top: float) -> None:
    """Let the zoom show most seeds of each pair, wherever a few are, up to `top`."""
    shown = [values[np.isfinite(values) & (values <= top)] for values in ends]
    ranges = [np.quantile(values, [0.02, 0.9]) for values in shown if values.size]
    if any(high > 0 for _, high in ranges):
        lows, highs = zip(*ranges, strict=True)
        inset.set_ylim(0.8 * min(lows), 1.2 * max(highs))
    else:
        inset.set_visible(False)


def _whole() -> MaxNLocator:
    """Ticks at whole steps, otherwise those that an axis has by itself."""
    return MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True)


def _short(value: float) -> str:
    """A loss beside the zoom, where there is little room.

    >>> _short(0.125), _short(7.5e-08), _short(0.0)
    ('0.125', '7.5e-8', '0')
    """
    return re.sub("e([-+])0*", r"e\1", f"{value:.3g}").replace("e+", "e")


def _size(value: float) -> str:
    """A loss in two digits, or as a power of ten.

    >>> _size(8.31), _size(172.4), _size(3e18)
    ('8.3', '170', '$10^{18}$')
    """
    if value >= 1e4:
        return f"$10^{{{math.floor(math.log10(value))}}}$"
    return f"{float(f'{value:.2g}'):g}"


def _pair_label(key: str, cell: Cell) -> str:
    rates = (
        rf"$\eta$ = {_rate(cell.eta_a)}"
        if cell.eta_a == cell.eta_b
        else rf"$\eta_A$ = {_rate(cell.eta_a)}, $\eta_B$ = {_rate(cell.eta_b)}"
    )
    return f"{key} ({rates})"


def _rate(value: float) -> str:
    """A rate as 0.0129 or, below a hundredth, as 1.3e-4.

    >>> _rate(0.46415), _rate(1.2915e-4)
    ('0.46', '1.3e-4')
    """
    if value >= 0.01:
        return f"{value:.2g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"
