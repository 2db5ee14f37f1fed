"""What two rates gain over one in a family, and what carried rates lose: computed once, for lines
and figures.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from experiments.scaling.families import Family
from lora_theory.stats.landscapes import Judge
from lora_theory.stats.search import LargerB, Search, SpeedUp, larger_b, search, speed_up
from lora_theory.stats.transfer import Rule, Transfer, transfer

if TYPE_CHECKING:
    from experiments.scaling.experiment import ScalingConfig

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
    """

    searches: tuple[Search, ...] = ()
    speed_ups: tuple[SpeedUp | None, ...] = ()
    larger: tuple[LargerB, ...] = ()
    transfers: Mapping[str, tuple[Transfer, ...]] = {}


def gains(family: Family, cfg: "ScalingConfig") -> Gains:
    """All of it."""
    decide, found = cfg.decide, Gains()
    if family.over != "n":
        return found
    judge, sweep = Judge(decide.quantile), family.sweep(decide.curve, decide.t)
    if len(family.sizes) > 1:
        rules = {name: rule for name, rule in RULES.items() if rule.shared or family.plane}
        moved = {
            name: transfer(sweep, rule, judge, resamples=decide.resamples)
            for name, rule in rules.items()
        }
        found = found._replace(transfers=moved)
    if not family.plane:
        return found
    stop = family.until(decide.t) + 1
    quick = []
    for w, (land, line) in enumerate(zip(sweep.lands, sweep.shared, strict=True)):
        curves = family.losses(decide.curve, w)[..., :stop]
        steps = family.steps[:stop]
        quick.append(speed_up(land, curves, steps, judge, line, resamples=decide.resamples))
    return found._replace(
        searches=tuple(
            search(land, line, judge, resamples=decide.resamples)
            for land, line in zip(sweep.lands, sweep.shared, strict=True)
        ),
        speed_ups=tuple(quick),
        larger=tuple(map(larger_b, sweep.lands)),
    )
