"""What is kept of a sweep when its gigabytes are gone: quantile maps, bootstrap draws, verdicts."""

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.scaling.fits import Measured
from lora_theory.stats.collapse import log_losses, mean_map
from lora_theory.stats.intervals import quantile
from lora_theory.stats.landscapes import CURVES, Landscape

if TYPE_CHECKING:
    from experiments.scaling.config import ScalingConfig

QUANTILES = (0.25, 0.5, 0.75)


def summary(title: str, found: list[Measured], cfg: "ScalingConfig") -> str:
    """A sweep as JSON, at the t that decides.

    Of every family: its rates and sizes; a map (size, η_A, η_B) of log2 loss for each loss and
    quantile over seeds (null: ∞), and the mean of the capped log losses that is collapsed; along
    the line the same; the exponents of the collapse that decides under other draws of the seeds;
    the verdicts.
    """
    families = [_family(measured, cfg) for measured in found]
    text = json.dumps({"sweep": title, "t": cfg.decide.t, "families": families}, allow_nan=False)
    return text.replace('{"family"', '\n{"family"') + "\n"


def _family(measured: Measured, cfg: "ScalingConfig") -> dict[str, Any]:
    family, t = measured.family, cfg.decide.t
    found: dict[str, Any] = {
        "family": str(family),
        "over": family.over,
        "sizes": family.sizes.tolist(),
        "seeds": list(family.seeds),
        "verdicts": [_plain(dataclasses.asdict(v)) for v in measured.verdicts],
    }
    if (decisive := measured.collapses.get((cfg.decide.curve, t))) is not None:
        found["collapse_draws"] = np.round(decisive.draws, 3).tolist()
    for curve in CURVES:
        sweep = family.sweep(curve, t)
        if family.plane:
            found |= {
                "eta_a": sweep.lands[0].eta_a.tolist(),
                "eta_b": sweep.lands[0].eta_b.tolist(),
            }
            found[curve] = _maps([land.losses for land in sweep.lands])
            found[curve]["mean"] = [_mean(land) for land in sweep.lands]
        if sweep.lines:
            found["eta"] = sweep.lines[0].eta.tolist()
            found[f"line_{curve}"] = _maps([line.losses for line in sweep.lines])
    return found


def _mean(land: Landscape) -> Any:
    """The map that is collapsed; null if the loss at t = 0 is finite in no seed."""
    if not np.isfinite(land.start).any():
        return None
    return _plain(np.round(mean_map(log_losses(land)), 2).tolist())


def _maps(losses: list[np.ndarray]) -> dict[str, Any]:
    """Quantile -> log2 of the judged losses of every size, to a hundredth."""
    return {
        f"{q:g}": _plain(np.round([np.log2(quantile(at, q)) for at in losses], 2).tolist())
        for q in QUANTILES
    }


def _plain(value: Any) -> Any:
    """As JSON has it: null for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
