"""What is fitted to one family of a sweep: collapses, places, curvature, each with intervals."""

import functools
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.scaling.families import Family
from lora_theory.stats.collapse import Collapse, collapse, log_losses, mean_map
from lora_theory.stats.intervals import quantile
from lora_theory.stats.landscapes import CURVES, Judge, judged_alike
from lora_theory.stats.scaling import Scaling, Sweep, scaling
from lora_theory.stats.slopes import Slope, fit
from lora_theory.theory.scalings import SHARED, Moves, best_rank_law, moves

if TYPE_CHECKING:
    from experiments.scaling.config import DecideConfig, ScalingConfig
    from experiments.scaling.verdicts import Verdict

CAREFUL = 0.75
MapJudge = Callable[[np.ndarray], np.ndarray]


class Measured(NamedTuple):
    """What was fitted to one family.

    Attributes:
        family: which.
        moves: what is predicted over widths.
        law: the exponent in r of one rate, which is predicted over ranks.
        collapses: (loss, t) -> the collapse over all widths; of a plane alone.
        pairs: the collapse of neighbouring widths, for the loss and t that decide.
        scalings: (loss, quantile) -> exponents of optima and edges at the t that decides.
        curved: block, and the ratio of A to B -> exponent of its largest eigenvalue; empty if it
            was not measured.
        verdicts: on all of it; none before it is judged.
    """

    family: Family
    moves: Moves | None
    law: Fraction | None
    collapses: Mapping[tuple[str, int], Collapse]
    pairs: tuple[Collapse, ...]
    scalings: Mapping[tuple[str, float], Scaling]
    curved: Mapping[str, Slope]
    verdicts: tuple["Verdict", ...] = ()


def fits(family: Family, model: str, cfg: "ScalingConfig") -> Measured:
    """Fit everything to one family, and look up what is predicted of it."""
    decide, at_n = cfg.decide, family.over == "n"
    known = moves(model, family.optimizer, family.init) if at_n else None  # type: ignore[arg-type]
    law = None if at_n else _law(family, model)
    curves = sorted(CURVES, key=lambda name: name != decide.curve)
    collapses: dict[tuple[str, int], Collapse] = {}
    pairs: tuple[Collapse, ...] = ()
    if family.plane and len(family.sizes) > 1:
        given = {"theory": _floats(known.collapse)} if known else {}
        given |= {name: _floats(c) for name, c in SHARED.items()}
        collapses = {
            (curve, t): _collapse(
                family.sweep(curve, t),
                decide,
                given,
                decides=(curve, t) == (decide.curve, decide.t),
            )
            for curve in curves
            for t in cfg.times
        }
        decisive = family.sweep(decide.curve, decide.t)
        pairs = tuple(
            _collapse(decisive.of_widths([w, w + 1]), decide, {})
            for w in range(len(family.sizes) - 1)
        )
    scalings = {
        (curve, q): scaling(
            usable(family, curve, decide.t),
            Judge(q),
            widest=decide.widest,
            resamples=decide.resamples,
            confidence=decide.confidence,
        )
        for curve in curves
        for q in dict.fromkeys((decide.quantile, CAREFUL))
    }
    curved = {
        block: fit(family.log2_sizes, logs)
        for block, logs in family.log2_curvature().items()
        if len(family.sizes) > 2 and logs.shape[1] > 1
    }
    return Measured(family, known, law, collapses, pairs, scalings, curved)


def usable(family: Family, curve: str, t: int) -> Sweep:
    """The landscapes for optima and edges: of sign and Adam, what trains badly has diverged."""
    sweep = family.sweep(curve, t)
    if family.optimizer == "gd":
        return sweep
    lines = tuple(map(judged_alike, sweep.lines)) if sweep.lines else None
    return sweep._replace(lands=tuple(map(judged_alike, sweep.lands)), lines=lines)  # type: ignore[arg-type]


def _collapse(
    sweep: Sweep,
    decide: "DecideConfig",
    given: Mapping[str, tuple[float, float]],
    *,
    judge: MapJudge = mean_map,
    decides: bool = False,
) -> Collapse:
    """Over the widths that trained anywhere: one that did not moves nowhere. Two exponents are
    judged together (Bonferroni); what is shown beside has fewer draws.
    """
    places = np.flatnonzero(trained(sweep))
    if len(places) < 2:
        nothing = (np.nan, np.nan)
        return Collapse(nothing, nothing, nothing, {}, 0)
    sweep = sweep.of_widths(list(places))
    return collapse(
        [log_losses(land.positive) for land in sweep.lands],
        sweep.log2_widths,
        given=given,
        judge=judge,
        resamples=decide.resamples if decides else decide.beside,
        confidence=1 - (1 - decide.confidence) / 2,
    )


def trained(sweep: Sweep) -> np.ndarray:
    """(W,) whether a width has any run with both rates positive that has not diverged, and a loss
    at t = 0 to compare it with.
    """
    return np.array(
        [
            np.isfinite(land.positive.losses).any() and np.isfinite(land.start).any()
            for land in sweep.lands
        ]
    )


def variations(family: Family, cfg: "ScalingConfig") -> dict[str, Collapse]:
    """The collapse that decides, under other judges, on other widths, on halves of the seeds."""
    decide = cfg.decide
    sweep = family.sweep(decide.curve, decide.t)
    widths = range(len(family.sizes))
    found = {
        "the median's map": _collapse(sweep, decide, {}, judge=quantile),
        "the 75 % quantile's map": _collapse(
            sweep, decide, {}, judge=functools.partial(quantile, q=CAREFUL)
        ),
    }
    if len(widths) > 3:
        found["without the narrowest"] = _collapse(sweep.of_widths(widths[1:]), decide, {})
        found["without the widest"] = _collapse(sweep.of_widths(widths[:-1]), decide, {})
    for name, first in (("even seeds", 0), ("odd seeds", 1)):
        lands = tuple(land.of_seeds(slice(first, None, 2)) for land in sweep.lands)
        found[name] = _collapse(sweep._replace(lands=lands), decide, {})
    return found


def _floats(pair: tuple) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def _law(family: Family, model: str) -> Fraction | None:
    """What is predicted over ranks: of a layer under sign updates or Adam, one-sided, alone; by the
    loss, which is what a best rate is judged by, not by ΔZ_B.
    """
    if model != "feature_layer" or family.optimizer not in ("sign", "adam"):
        return None
    if family.init not in ("A", "B"):
        return None
    return best_rank_law(family.init, family.gamma, family.rho)  # type: ignore[arg-type]
