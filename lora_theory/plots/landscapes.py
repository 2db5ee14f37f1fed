"""Figure 2: maps of the loss over (η_A, η_B) and curves of the best pairs.

Nothing is computed here beyond what is drawn, and nothing needs JAX.
"""

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from lora_theory.plots.style import STYLE
from lora_theory.stats import landscapes
from lora_theory.stats.intervals import mean_interval
from lora_theory.stats.landscapes import Cell
from lora_theory.store.dataset import config_of

if TYPE_CHECKING:
    from xarray import Dataset

DIVERGED = "#c8c8c8"
DIAGONAL = "#ff8c00"
NAMES = {"train_loss": "train", "test_loss": "test"}
LOSS_NAMES = {
    "mse": "mean-squared error",
    "all_pairs": r"all-pairs loss, mean$_{i,j}\,(f_i-y_j)^2$: "
    "a hypothesis about the published figure",
}
PAIRS = {"best pair": ("#1f4e9c", "-"), "best equal pair": ("#d95f02", "--")}


def figure2(
    data: "Dataset",
    *,
    early: int,
    late: int,
    early_cap: float | None = None,
    late_cap: float | None = None,
) -> Figure:
    """Figure 2 of the paper: heatmaps of the loss over (η_A, η_B), curves of the two best pairs.

    Args:
        data: a landscape.
        early, late: the steps of the two columns of heatmaps; the pairs are chosen by the mean
            test loss at `late`.
        early_cap, late_cap: losses above are drawn as the cap; None for the mean loss at t = 0
            (or the largest loss of the maps, where that is less).

    Returns:
        The figure, 7.2 × 5 inches; `save` writes it.
    """
    early = min(early, late)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        maps, curves = figure.subfigures(1, 2, width_ratios=[1.75, 1])  # type: ignore[misc]
        axes = maps.subplots(2, 2, sharex=True, sharey=True)
        for column, (t, cap) in enumerate([(early, early_cap), (late, late_cap)]):
            _heatmap_column(maps, axes[:, column], data, t, cap)
        axes[1, 0].set_xlabel(r"$\eta_A$")
        axes[1, 1].set_xlabel(r"$\eta_A$")
        for row in axes:
            row[0].set_ylabel(r"$\eta_B$")
        maps.legend(
            handles=_map_legend(data, late),
            loc="outside upper center",
            ncols=3,
            frameon=False,
            handlelength=1.5,
            columnspacing=1.0,
        )
        chosen = landscapes.seed_mean(data, "test_loss", late)
        found = (landscapes.best_pair(data, chosen), landscapes.best_equal_pair(data, chosen))
        pairs = {key: cell for key, cell in zip(PAIRS, found, strict=True) if cell is not None}
        panels = curves.subplots(2, 1, sharex=True)
        for ax, name in zip(panels, NAMES, strict=True):
            handles = _curve_panel(ax, data, name, pairs, late)
        panels[1].set_xlabel("step $t$")
        handles += [
            Patch(color="#888888", alpha=0.3, label="95 % interval over seeds"),
            Line2D([], [], color="#888888", linewidth=0.5, label="single seeds"),
        ]
        curves.legend(handles=handles, loc="outside upper center", ncols=1, frameon=False)
        figure.suptitle(_title(data), fontsize=8)
        figure.draw_without_rendering()  # Lay it out once, not once a format.
        figure.set_layout_engine("none")
    return figure


def heatmap(ax: Axes, data: "Dataset", loss: np.ndarray, norm: LogNorm) -> Any:
    """One map (G_a, G_b) of a loss on log-log axes: η_A to the right, η_B up.

    Diverged cells have a colour of their own; a red + marks every cell within 1 % of the best;
    the dashed line is η_A = η_B. Returns the mesh, whose array is the map.
    """
    colours = mpl.colormaps["viridis_r"].with_extremes(bad=DIVERGED)
    edges_a, edges_b = _edges(data.eta_a.values), _edges(data.eta_b.values)
    mesh = ax.pcolormesh(edges_a, edges_b, loss.T, cmap=colours, norm=norm, rasterized=True)
    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_minor_locator(NullLocator())
    low, high = max(edges_a[0], edges_b[0]), min(edges_a[-1], edges_b[-1])
    ax.plot([low, high], [low, high], "--", color=DIAGONAL, linewidth=1.0)
    i, j = np.nonzero(landscapes.near_best(loss))
    ax.plot(
        data.eta_a.values[i],
        data.eta_b.values[j],
        "+",
        color="red",
        markersize=4,
        markeredgewidth=0.9,
    )
    ax.set(xlim=edges_a[[0, -1]], ylim=edges_b[[0, -1]])
    return mesh


def colour_range(data: "Dataset", maps: list[np.ndarray], cap: float | None) -> LogNorm:
    """One logarithmic colour scale for several maps, from their least loss to the cap."""
    values = np.concatenate([m[np.isfinite(m)] for m in maps])
    if values.size == 0 or values.max() <= 0:
        return LogNorm(0.1, 1.0, clip=True)
    if cap is None:
        start = np.nanmean([landscapes.seed_mean(data, name, 0) for name in NAMES])
        cap = float(min(start, values.max()))
    low = max(float(values.min()), cap * 1e-6)
    return LogNorm(low, max(cap, low * 1.01), clip=True)


def _heatmap_column(maps: Any, axes: Any, data: "Dataset", t: int, cap: float | None) -> None:
    """Train and test map at step t with their common colour bar."""
    losses = [landscapes.seed_mean(data, name, t) for name in NAMES]
    norm = colour_range(data, losses, cap)
    for ax, name, loss in zip(axes, NAMES, losses, strict=True):
        mesh = heatmap(ax, data, loss, norm)
        ax.set_title(f"{NAMES[name]} loss, t = {t}")
    bar = maps.colorbar(mesh, ax=list(axes), location="bottom", aspect=30, pad=0.02)
    bar.set_label(f"loss, capped at {norm.vmax:.2g}")
    bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.xaxis.set_major_formatter("{x:g}")
    bar.ax.xaxis.set_minor_locator(NullLocator())


def _curve_panel(
    ax: Axes, data: "Dataset", name: str, pairs: dict[str, Cell], late: int
) -> list[Any]:
    """Mean curves of the pairs with bands and single seeds, and the zoom on the last tenth."""
    inset = ax.inset_axes((0.3, 0.46, 0.48, 0.5))
    inset.yaxis.tick_right()
    inset.tick_params(labelsize=6, pad=2)
    start = late - max(late // 10, 1)
    handles: list[Any] = []
    limits: list[float] = []
    for key, cell in pairs.items():
        colour, dash = PAIRS[key]
        samples = landscapes.curve(data, name, cell)[:, : late + 1]
        centre = mean_interval(samples)
        limits += [centre.mean.max(), samples.min()]
        for panel, shown in ((ax, slice(None)), (inset, slice(start, None))):
            steps = data.step.values[: late + 1][shown]
            (line,) = panel.plot(steps, centre.mean[shown], color=colour, linestyle=dash)
            band = (centre.low[shown], centre.high[shown])
            panel.fill_between(steps, *band, color=colour, alpha=0.18, linewidth=0)
            panel.plot(steps, samples[:, shown].T, color=colour, linewidth=0.4, alpha=0.6)
        line.set_label(_pair_label(key, cell))
        handles.append(line)
    ax.set(ylabel=f"{NAMES[name]} loss", xlim=(0, late))
    if limits and min(limits) > 0:  # A band may reach below 0: it leaves the log axis there.
        ax.set_yscale("log")
        ax.set_ylim(0.5 * min(limits), 2 * max(limits))
    inset.set_xlim(start, late)
    return handles


def _pair_label(key: str, cell: Cell) -> str:
    rates = (
        rf"$\eta$ = {_rate(cell.eta_a)}"
        if cell.eta_a == cell.eta_b
        else rf"$\eta_A$ = {_rate(cell.eta_a)}, $\eta_B$ = {_rate(cell.eta_b)}"
    )
    return f"{key} ({rates})"


def _map_legend(data: "Dataset", late: int) -> list[Any]:
    share = np.isnan(landscapes.seed_mean(data, "test_loss", late)).mean()
    return [
        Line2D([], [], color=DIAGONAL, linestyle="--", label=r"$\eta_A=\eta_B$"),
        Line2D([], [], color="red", marker="+", linestyle="", label="within 1 % of the best"),
        Patch(color=DIVERGED, label=f"a seed diverged ({share:.0%} by t = {late})"),
    ]


def _title(data: "Dataset") -> str:
    config = config_of(data)
    loss = LOSS_NAMES.get(config["loss"], config["loss"])
    return (
        f"{loss}\n{config['model']['name'].replace('_', '-')} toy, "
        f"n = {config['model']['width']}, N = {config['task']['n_train']}, "
        f"{config['optimizer']['name']}, mean of {data.seed.size} seeds"
    )


def _edges(rates: np.ndarray) -> np.ndarray:
    """Edges of cells centred, in log η, on the rates."""
    if rates.size == 1:
        return rates[0] * np.array([0.5, 2.0])
    logs = np.log(rates)
    middle = (logs[1:] + logs[:-1]) / 2
    ends = (2 * logs[0] - middle[0], 2 * logs[-1] - middle[-1])
    return np.exp(np.concatenate([[ends[0]], middle, [ends[1]]]))


def _rate(value: float) -> str:
    """A rate as 0.0129 or, below a hundredth, as 1.3e-4.

    >>> _rate(0.46415), _rate(1.2915e-4)
    ('0.46', '1.3e-4')
    """
    if value >= 0.01:
        return f"{value:.2g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"
