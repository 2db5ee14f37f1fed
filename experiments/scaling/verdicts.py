"""Predicted exponents beside what a sweep measured, with a verdict by equivalence."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.scaling.families import Family
from lora_theory.stats.collapse import Collapse, collapse, log_losses, mean_map
from lora_theory.stats.equivalence import compare, within
from lora_theory.stats.intervals import quantile
from lora_theory.stats.landscapes import CURVES, Judge, judged_alike
from lora_theory.stats.places import NAMES
from lora_theory.stats.scaling import Scaling, Sweep, scaling
from lora_theory.stats.slopes import Slope, fit
from lora_theory.terms import Outcome
from lora_theory.theory.scalings import SHARED, Moves, best_rank_law, moves

if TYPE_CHECKING:
    from experiments.scaling.experiment import DecideConfig, ScalingConfig

CAREFUL = 0.75
MapJudge = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One predicted exponent, and what was measured.

    Attributes:
        family: in words.
        what: which exponent.
        where: loss, step and judge.
        value, low, high: measured, with its interval; NaN where there is none.
        predicted: the exponent; None if nothing is predicted.
        outcome: "holds", "fails", "undecided"; empty where nothing is predicted.
        note: why it is not determined, or how many seeds would decide.
        determined: whether it is.
        decides: whether it is of the loss, step and judge that decide.
        primary: whether it is the primary endpoint.
    """

    family: str
    what: str
    where: str
    value: float
    low: float
    high: float
    predicted: float | None
    outcome: Outcome | str
    note: str = ""
    decides: bool = True
    primary: bool = False
    determined: bool = True


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
        verdicts: of all that is predicted.
    """

    family: Family
    moves: Moves | None
    law: Fraction | None
    collapses: Mapping[tuple[str, int], Collapse]
    pairs: tuple[Collapse, ...]
    scalings: Mapping[tuple[str, float], Scaling]
    curved: Mapping[str, Slope]
    verdicts: tuple[Verdict, ...]


def measure(family: Family, sweep: str, model: str, cfg: "ScalingConfig") -> Measured:
    """Fit everything to one family of a sweep, and judge it."""
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
    found = Measured(family, known, law, collapses, pairs, scalings, curved, ())
    primary = at_n and sweep == decide.sweep
    return found._replace(verdicts=tuple(_verdicts(found, cfg, primary)))


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
    trained = np.flatnonzero(_trained(sweep))
    if len(trained) < 2:
        nothing = (np.nan, np.nan)
        return Collapse(nothing, nothing, nothing, {}, 0)
    sweep = sweep.of_widths(list(trained))
    return collapse(
        [log_losses(land.positive) for land in sweep.lands],
        sweep.log2_widths,
        given=given,
        judge=judge,
        resamples=decide.resamples if decides else decide.resamples // 4,
        confidence=1 - (1 - decide.confidence) / 2,
    )


def _trained(sweep: Sweep) -> np.ndarray:
    """(W,) whether a width has any run with both rates positive that has not diverged."""
    return np.array([np.isfinite(land.positive.losses).any() for land in sweep.lands])


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


def _exponents(
    fitted: Collapse, known: Moves | None, decide: "DecideConfig"
) -> Iterator[tuple[str, tuple[float, float, float], float | None]]:
    """The exponents of a collapse, and their sum where most of the map is one of the product:
    where a window holds the rest too, c_a − c_b is determined and as much a prediction.
    """
    both = [float(c) for c in known.collapse] if known else [None, None]
    for axis, what in enumerate(("c_a", "c_b")):
        numbers = fitted.exponents[axis], fitted.low[axis], fitted.high[axis]
        yield what, numbers, both[axis]
    if known and not known.alone:
        total = fitted.interval((1, 1), decide.confidence)
        yield "c_a + c_b", total, float(sum(known.collapse))


def _verdicts(found: Measured, cfg: "ScalingConfig", primary: bool) -> Iterator[Verdict]:
    """All of a family; `primary`: of the sweep that decides."""
    decide, seeds = cfg.decide, min(found.family.seeds)
    name = str(found.family)
    for (curve, t), fitted in found.collapses.items():
        decides = (curve, t) == (decide.curve, decide.t)
        where = f"{curve.removesuffix('_loss')}, t = {t}"
        trained = _trained(found.family.sweep(curve, t))
        lost = found.family.log2_sizes[~trained]
        gaps = tuple(f"{found.family.over} = 2^{n:g} left out: all diverged" for n in lost)
        for what, numbers, predicted in _exponents(fitted, found.moves, decide):
            wide = numbers[2] - numbers[1] > decide.widest
            yield _verdict(
                name,
                f"collapse {what}",
                where,
                numbers,
                predicted,
                decide.collapse_margin,
                seeds,
                ("undetermined",) if wide else (),
                gaps,
                decides,
                primary and decides,
            )
    for (curve, q), scaled in found.scalings.items():
        where = f"{curve.removesuffix('_loss')}, t = {decide.t}, {Judge(q)}"
        for quantity, exponent in scaled.exponents.items():
            predicted = _predicted(found, quantity)
            if not found.family.plane and "equal" not in quantity:
                continue
            why = () if exponent.determined else (exponent.status, *exponent.why)
            numbers = (exponent.value, exponent.low, exponent.high)
            yield _verdict(
                name,
                NAMES[quantity],
                where,
                numbers,
                predicted,
                decide.place_margin,
                seeds,
                why,
                exponent.left_out,
                (curve, q) == (decide.curve, decide.quantile),
            )
    yield from _curved_verdicts(found, decide)


def _curved_verdicts(found: Measured, decide: "DecideConfig") -> Iterator[Verdict]:
    """Largest eigenvalues by block; a block that is exactly 0 is said in words."""
    known = found.moves.curvature if found.moves else {}
    adam = found.family.optimizer in ("adam", "adamw")
    where = "as Adam preconditions it" if adam else "at the start"
    for block, slope in found.curved.items():
        what = "λ_max A / λ_max B" if block == "ratio" else f"λ_max {block}"
        half = slope.half_width(decide.confidence)
        ends = slope.value, slope.value - half, slope.value + half
        outcome, note = "", "identically zero" if slope.zero else slope.note
        if block in known:
            e = known[block]
            comparison = compare(
                slope,
                None if e is None else float(e),
                margin=decide.place_margin,
                confidence=decide.confidence,
            )
            outcome = comparison.verdict
        predicted = known.get(block)
        yield Verdict(
            str(found.family),
            what,
            where,
            *ends,
            None if predicted is None else float(predicted),
            outcome,
            note,
        )


def _law(family: Family, model: str) -> Fraction | None:
    """What is predicted over ranks: of a layer under sign updates or Adam, one-sided, alone; by the
    loss, which is what a best rate is judged by, not by ΔZ_B.
    """
    if model != "feature_layer" or family.optimizer not in ("sign", "adam"):
        return None
    if family.init not in ("A", "B"):
        return None
    return best_rank_law(family.init, family.gamma, family.rho)  # type: ignore[arg-type]


def _predicted(found: Measured, quantity: str) -> float | None:
    if found.law is not None and quantity == "equal":
        return float(found.law)
    places = found.moves.places if found.moves else {}
    return float(places[quantity]) if quantity in places else None


def _verdict(
    family: str,
    what: str,
    where: str,
    numbers: tuple[float, float, float],
    predicted: float | None,
    margin: float,
    seeds: int,
    why: tuple[str, ...],
    gaps: tuple[str, ...],
    decides: bool,
    primary: bool = False,
) -> Verdict:
    """With `why` it is undetermined, and nothing is decided; `gaps` are said in any case."""
    value, low, high = (float(number) for number in numbers)
    outcome, words = "", list(why)
    if predicted is not None:
        outcome = "undecided"
        if not why and np.isfinite([low, high]).all():
            comparison = within(low, high, predicted, margin, seeds=seeds)
            outcome = comparison.verdict
            if comparison.seeds_needed:
                more = comparison.seeds_needed / seeds
                words.append(f"about {more:.1f} times the seeds would decide")
    ends, note = (value, low, high), "; ".join((*words, *gaps))
    return Verdict(
        family, what, where, *ends, predicted, outcome, note, decides, primary, determined=not why
    )
