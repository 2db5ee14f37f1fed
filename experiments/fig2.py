"""Figure 2: loss over (η_A, η_B) of the two-layer toy, and the curves of the two best pairs.

python -m experiments.fig2                            # the paper's setting, both losses
python -m experiments.fig2 model.width=256 loss=mse   # elsewhere: runs/fig2/model.width=256
python -m experiments.fig2 -m model.width=64,128,256
python -m experiments.fig2 replot=true                # only draw
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import cli
from lora_theory import analysis
from lora_theory.config import Fig2Config

if TYPE_CHECKING:
    from lora_theory.analysis import Cell
    from lora_theory.results import Results

    Pairs = dict[str, Cell | None]


class Published(NamedTuple):
    """What the paper's Figure 2 says, at t = 200; losses read off the curves."""

    eta_a: float
    eta_b: float
    test_loss: str


# The caption prints the best pair in the other order; text and figure say η_B ≫ η_A.
PUBLISHED = {
    "best": Published(1.29e-4, 2.78, "0.17-0.18"),
    "best equal": Published(2.15e-2, 2.15e-2, "about 0.18"),
}


def fig2(cfg: Fig2Config, folders: cli.Folders) -> None:
    """Compute or load the grid of each loss, draw its figure, print its table."""
    from experiments.grid import check_out, results_of

    check_out(cfg, folders)
    for loss in cfg.loss:
        path = folders.results / f"{loss}.npz"
        results = results_of(cfg, loss, path)

        from lora_theory import plotting

        plot = cfg.plot
        figure = plotting.figure2(
            results,
            early=plot.early,
            late=plot.late,
            early_cap=plot.early_cap,
            late_cap=plot.late_cap,
        )
        written = plotting.save(figure, folders.figures / f"fig2_{loss}", dpi=plot.dpi)
        print("\n".join(table(results, min(plot.early, plot.late), plot.late)))
        print("files:", *(cli.shown(file) for file in (path, *written)), "\n", flush=True)


def table(results: "Results", early: int, late: int) -> list[str]:
    """Best and best equal pair at both times, the published ones, and how sure we are."""
    config, seeds = results.config, len(results.seed)
    lines = [
        f"{config['loss']}: {config['model']['name']}, n = {config['model']['width']}, "
        f"{seeds} seeds; {analysis.diverged_share(results, late):.0%} of runs diverged; "
        "pairs chosen by mean test loss; ± is half a 95 % interval over seeds",
        f"{'t':>5}  {'pair':<12}{'η_A':>10}{'η_B':>10}{'λ':>10}{'train loss':>18}{'test loss':>18}",
    ]
    for t in dict.fromkeys((early, late)):
        loss = analysis.seed_mean(results, "test_loss", t)
        pairs = {
            "best": analysis.best_pair(results, loss),
            "best equal": analysis.best_equal_pair(results, loss),
        }
        lines += [_row(results, t, name, cell) for name, cell in pairs.items()]
    published = PUBLISHED if _is_papers(config, late) else {}
    lines += [
        f"{'':>5}  {'published':<12}{pair.eta_a:>10.3g}{pair.eta_b:>10.3g}"
        f"{pair.eta_b / pair.eta_a:>10.3g}{'':>18}{pair.test_loss:>18}  ({name}, t = 200)"
        for name, pair in published.items()
    ]
    return lines + _doubts(results, late, loss, pairs)


def _is_papers(config: dict[str, Any], late: int) -> bool:
    """Whether the published values speak of this setting; grid and seeds may differ."""
    model = config["model"]
    toy = (model["name"], model["width"]) == ("two_layer", 100)
    return toy and config["optimizer"]["name"] == "sgd" and late == 200


def _row(results: "Results", t: int, name: str, cell: "Cell | None") -> str:
    if cell is None:
        return f"{t:>5}  {name:<12}  every run diverged"
    losses = [
        analysis.interval(analysis.curve(results, curve, cell)[:, t]) for curve in analysis.CURVES
    ]
    shown = "".join(f"{f'{v.mean:.4f} ± {v.high - v.mean:.4f}':>18}" for v in losses)
    border = "  on the border of the grid: no optimum" if cell.on_border else ""
    rates = f"{cell.eta_a:>10.3g}{cell.eta_b:>10.3g}{cell.ratio:>10.3g}"
    return f"{t:>5}  {name:<12}{rates}{shown}{border}"


def _doubts(results: "Results", late: int, loss: "np.ndarray", pairs: "Pairs") -> list[str]:
    """How flat and how certain the optimum is, as far as these seeds can tell."""
    if None in pairs.values() or len(results.seed) < 2:
        return []
    low, high = analysis.ratio_range(results, loss)
    own = ", ".join(f"{ratio:.3g}" for ratio in analysis.seed_ratios(results, "test_loss", late))
    chosen = [analysis.curve(results, "test_loss", c)[:, late] for c in pairs.values() if c]
    judged = analysis.held_out(results, late)
    lost = np.isnan(judged).sum(axis=0)
    finite = judged[~np.isnan(judged).any(axis=1)]
    lines = [
        f"λ within 1 % of the best: {low:.3g} to {high:.3g}; λ of each seed's own best: {own}",
        f"best − best equal, on the seeds that chose them: {_gap(chosen[0] - chosen[1])}",
    ]
    if len(finite) > 1:
        lines.append(
            f"best − best equal, each on a seed held out: {_gap(finite[:, 0] - finite[:, 1])}"
        )
    lines.append(
        f"of {len(judged)} held-out seeds, the best pair diverges on {lost[0]}, "
        f"the best equal pair on {lost[1]}"
    )
    return [f"{'':>7}{line}" for line in lines]


def _gap(differences: "np.ndarray") -> str:
    gap = analysis.interval(differences)
    return f"{gap.mean:+.4f} ± {gap.high - gap.mean:.4f} ({len(differences)} seeds, paired)"


if __name__ == "__main__":
    cli.main("fig2", Fig2Config, fig2)
