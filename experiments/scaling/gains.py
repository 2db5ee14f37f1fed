"""What two rates gain over one in a family, and what carried rates lose: computed once, for lines
and figures.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.scaling.families import Family
from lora_theory.stats.landscapes import Judge, best_pair
from lora_theory.stats.scaling import Sweep
from lora_theory.stats.search import LargerB, Search, SpeedUp, larger_b, search, speed_up
from lora_theory.stats.transfer import Rule, Transfer, Wider, transfer, wider

if TYPE_CHECKING:
    from experiments.scaling.config import ScalingConfig

RULES = {
    "one constant rate": Rule(0.0, 0.0, True),
    "one rate n^−1/2": Rule(-0.5, -0.5, True),
    "one rate n^−1": Rule(-1.0, -1.0, True),
    "η_A ∝ 1/n, η_B constant": Rule(-1.0, 0.0),
}


class Gains(NamedTuple):
    """Of the loss, step and judge that decide.

    Attributes:
        searches, speed_ups, larger: of each width; empty where there is no plane.
        transfers: rule -> at each width but the first; empty over ranks.
        wider: neighbouring widths at the rates that half of the seeds choose at the first width,
            carried as η_A ∝ 1/n, on the other half; as far as the grid reaches.
    """

    searches: tuple[Search, ...] = ()
    speed_ups: tuple[SpeedUp | None, ...] = ()
    larger: tuple[LargerB, ...] = ()
    transfers: Mapping[str, tuple[Transfer, ...]] = {}
    wider: tuple[Wider, ...] = ()


def gains(family: Family, cfg: "ScalingConfig") -> Gains:
    """All of it."""
    decide, found = cfg.decide, Gains()
    drawn: dict[str, Any] = {"resamples": decide.resamples, "confidence": decide.confidence}
    if family.over != "n":
        return found
    judge, sweep = Judge(decide.quantile), family.sweep(decide.curve, decide.t)
    if len(family.sizes) > 1:
        rules = {name: rule for name, rule in RULES.items() if rule.shared or family.plane}
        moved = {name: transfer(sweep, rule, judge, **drawn) for name, rule in rules.items()}
        found = found._replace(transfers=moved)
    if not family.plane:
        return found
    stop = family.until(decide.t) + 1
    quick = []
    for w, (land, line) in enumerate(zip(sweep.lands, sweep.shared, strict=True)):
        curves = family.losses(decide.curve, w)[..., :stop]
        steps = family.steps[:stop]
        quick.append(speed_up(land, curves, steps, judge, line, **drawn))
    return found._replace(
        searches=tuple(
            search(land, line, judge, **drawn)
            for land, line in zip(sweep.lands, sweep.shared, strict=True)
        ),
        speed_ups=tuple(quick),
        larger=tuple(larger_b(land, confidence=decide.confidence) for land in sweep.lands),
        wider=_wider(family, cfg, sweep) if len(family.sizes) > 1 else (),
    )


def _wider(family: Family, cfg: "ScalingConfig", sweep: Sweep) -> tuple[Wider, ...]:
    """Even seeds choose at the first width, odd ones run at all widths."""
    decide = cfg.decide
    even, odd = slice(0, None, 2), slice(1, None, 2)
    first = sweep.lands[0].of_seeds(even)
    judged = Judge(decide.quantile).judge(first.losses)
    judged[(first.eta_a == 0), :] = judged[:, (first.eta_b == 0)] = np.inf
    best = best_pair(first, judged)
    if best is None:
        return ()
    curves, stop = [], family.until(decide.t) + 1
    for w, n in enumerate(family.sizes):
        carried = np.isclose(first.eta_a, best.eta_a * family.sizes[0] / n, rtol=1e-6)
        if not carried.any():
            break
        i = int(np.flatnonzero(carried)[0])
        curves.append(family.losses(decide.curve, w)[odd, i, best.j, :stop])
    found: tuple[Wider, ...] = wider(
        sweep.log2_widths[: len(curves)], tuple(curves), confidence=decide.confidence
    )
    return found
