"""Curves over steps: the best pairs of a landscape, with bands over seeds."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lora_theory.plots.maps import PAIRS, Pairs
from lora_theory.stats import landscapes
from lora_theory.stats.intervals import fewest_seeds, quantile_interval
from lora_theory.stats.landscapes import Cell, Judge

if TYPE_CHECKING:
    from xarray import Dataset

NAMES = {"train_loss": "train", "test_loss": "test"}
_SINGLE_SEEDS = 15  # Curves of more seeds would only be a smear.


def draw_curves(curves: Any, data: "Dataset", pairs: Pairs, late: int, judge: Judge) -> None:
    """Train and test curves of the pairs in a column of their own, up to step `late`."""
    panels = curves.subplots(2, 1, sharex=True)
    handles: list[Any] = []
    for ax, name in zip(panels, NAMES, strict=True):
        handles = _curve_panel(ax, data, name, pairs, late, judge.quantile)
    panels[1].set_xlabel("step $t$")
    seeds = data.seed.size
    if seeds < fewest_seeds(judge.quantile):
        handles.append(Line2D([], [], linestyle="", label=f"{seeds} seeds: no interval"))
    else:
        handles.append(Patch(color="#888888", alpha=0.3, label="95 % interval over seeds"))
    if seeds <= _SINGLE_SEEDS:
        handles.append(Line2D([], [], color="#888888", linewidth=0.5, label="single seeds"))
    curves.legend(handles=handles, loc="outside upper center", ncols=1, frameon=False)


def _curve_panel(
    ax: Axes, data: "Dataset", name: str, pairs: Pairs, late: int, q: float
) -> list[Any]:
    """Curves of the pairs, a quantile over seeds, with bands and the zoom on the last tenth."""
    inset = ax.inset_axes((0.3, 0.46, 0.48, 0.5))
    inset.yaxis.tick_right()
    inset.tick_params(labelsize=6, pad=2)
    start = late - max(late // 10, 1)
    handles: list[Any] = []
    limits: list[float] = []
    ends: list[np.ndarray] = []
    for key, cell in pairs.items():
        colour, dash = PAIRS[key]
        samples = landscapes.curve(data, name, cell)[:, : late + 1]
        centre = quantile_interval(samples, q)
        shown_values = np.where(np.isfinite(centre.value), centre.value, np.nan)
        limits += [np.nanmax(shown_values, initial=0.0), samples.min()]
        for panel, shown in ((ax, slice(None)), (inset, slice(start, None))):
            steps = data.step.values[: late + 1][shown]
            (line,) = panel.plot(steps, shown_values[shown], color=colour, linestyle=dash)
            band = [np.minimum(end[shown], 1e30) for end in (centre.low, centre.high)]
            panel.fill_between(steps, *band, color=colour, alpha=0.18, linewidth=0)
            if len(samples) <= _SINGLE_SEEDS:
                singles = np.where(np.isfinite(samples), samples, np.nan)
                panel.plot(steps, singles[:, shown].T, color=colour, linewidth=0.4, alpha=0.6)
        ends.append(samples[:, start:].ravel())
        line.set_label(_pair_label(key, cell))
        handles.append(line)
    ax.set(ylabel=f"{NAMES[name]} loss", xlim=(0, late))
    positive = [limit for limit in limits if limit > 0]
    if positive:
        ax.set_yscale("log")
        ax.set_ylim(0.5 * min(positive), 2 * max(positive))
    inset.set_xlim(start, late)
    _zoom(inset, ends)
    return handles


def _zoom(inset: Axes, ends: list[np.ndarray]) -> None:
    """Let the zoom show most seeds of each pair, wherever a few of them are."""
    finite = [values[np.isfinite(values)] for values in ends]
    ranges = [np.quantile(values, [0.02, 0.9]) for values in finite if values.size]
    if any(high > 0 for _, high in ranges):
        lows, highs = zip(*ranges, strict=True)
        inset.set_ylim(0.8 * min(lows), 1.2 * max(highs))


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
