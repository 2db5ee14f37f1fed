"""Width sweeps small enough for tests: one that is run, and ones of which the answer is known."""

import functools
import json

import numpy as np
import xarray

from experiments.lab.command_line import load
from experiments.scaling.config import ScalingConfig, line_cells, plane_cells
from lora_theory.stats.controls import family as controlled

STEPS = [0, 2, 5, 10]
DECIDE = [
    "steps=10",
    "times=[2,5,10]",
    "decide.t=10",
    "decide.resamples=160",
]
SMALL = [
    *DECIDE,
    "decide.sweep=two_layer",
    "part=[two_layer]",
    "engine.devices=1",
    "dpi=40",
    "sweeps.two_layer.task={n_train:40,n_test:16}",
    "sweeps.two_layer.widths=[8,16,32]",
    "sweeps.two_layer.seeds=[6,6,4]",
    "sweeps.two_layer.log2_a=[-8,-4]",
    "sweeps.two_layer.log2_b=[-5,3]",
    "sweeps.two_layer.line=[-8,-3]",
    "sweeps.two_layer.curvature.seeds=0",
]
RATES = np.append(0, 2.0 ** np.arange(-12, -3)), np.append(0, 2.0 ** np.arange(-5, 3))
LINE = 2.0 ** np.arange(-12, 2.75, 0.5)
# µs of a run and step on two cores, at the widths that were measured, and samples of these.
COST = {
    "two_layer": (1100, {64: 19, 128: 35, 256: 80, 512: 190, 1024: 400, 2048: 750, 4096: 1471}),
    "feature_layer": (256, {64: 1.5, 128: 2, 256: 2.7, 512: 6, 1024: 12, 2048: 30, 4096: 60}),
}


@functools.cache
def small(*overrides):
    """The config of the run, or one that differs from it."""
    return load("width", ScalingConfig, [*SMALL, *overrides])


def known(
    truth=(-1, 0),
    *,
    widths=(16, 32, 64, 128),
    seeds=(8, 8, 8, 6),
    model="two_layer",
    optimizer="gd",
    init="both",
    plane=True,
    change=None,
    **options,
):
    """The data set of a family that moves as n^truth: from t = 2 on nothing changes any more.

    Args:
        plane: whether it has the plane, and not the line alone.
        change: what is done to the landscapes, (widths, seeds, G_a, G_b), and to the lines.
        options: of `controls.family`: noise, scatter, middle.
    """
    most, log2 = max(seeds), np.log2(widths)
    sweep = controlled(log2, RATES, seeds, truth, 3, **options)
    line = controlled(log2, (LINE, LINE), seeds, truth, 3, **options)
    lands = np.full((len(widths), most, *map(len, RATES)), np.nan)
    lines = np.full((len(widths), most, len(LINE)), np.nan)
    ran = np.arange(most) < np.array(seeds)[:, None]
    for w, count in enumerate(seeds):
        lands[w, :count] = sweep.lands[w].losses
        lines[w, :count] = line.lands[w].diagonal.losses
    if change is not None:
        lands, lines = change(lands), change(lines)

    def curves(losses):
        """(1, 1, 1, 1, 1, W, S, …, steps), 1 at t = 0."""
        kept = np.repeat(np.where(np.isfinite(losses), losses, np.nan)[..., None], 4, axis=-1)
        kept[..., 0] = np.where(ran.reshape(*ran.shape, *[1] * (losses.ndim - 2)), 1.0, np.nan)
        return kept[None, None, None, None, None]

    outer = ("optimizer", "init", "r", "gamma", "rho", "n", "seed")
    variables = {"ran": (outer, ran[None, None, None, None, None])}
    for curve in ("train_loss", "test_loss"):
        if plane:
            variables[curve] = ((*outer, "eta_a", "eta_b", "step"), curves(lands))
        variables[f"line_{curve}"] = ((*outer, "eta", "step"), curves(lines))
    coords = {
        "optimizer": [optimizer],
        "init": [init],
        "r": [4],
        "gamma": [0.0],
        "rho": [0.0],
        "n": list(widths),
        "seed": list(range(most)),
        "step": STEPS,
        "eta": LINE,
    }
    if plane:
        coords |= {"eta_a": RATES[0], "eta_b": RATES[1]}
    config = {"sweep": {"model": model}, "first_seed": 0}
    return xarray.Dataset(variables, coords, {"config": json.dumps(config)})


def hours(cfg, name):
    """About what a part takes: of gradient descent half of the steps, all of a layer's."""
    sweep = cfg.sweeps[name]
    samples, cost = COST[sweep.model]
    share = (sweep.task.n_train + sweep.task.n_test) / samples
    share *= 1.7 if sweep.weight == "random" else 1.0
    share *= 0.5 if sweep.model == "two_layer" else 1.0
    # Features are read once a cell; what grows with r is next to it from r = 16 on.
    models = len(sweep.optimizer) * len(sweep.init) * len(sweep.gamma) * len(sweep.rho)
    models *= sum(max(1.0, r / 16) for r in sweep.rank)
    cells = len(plane_cells(sweep)) + len(line_cells(sweep))
    seconds = sum(
        seeds * cells * cfg.steps * 1e-6 * cost[n] * share
        for n, seeds in zip(sweep.widths, sweep.seeds, strict=True)
    )
    return models * seconds / 3600
