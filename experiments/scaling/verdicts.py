"""Predicted exponents beside what a sweep measured, with a verdict by equivalence."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from experiments.scaling.families import Family, preconditioned
from experiments.scaling.fits import Measured, fits, trained
from lora_theory.stats.collapse import SAID, Collapse
from lora_theory.stats.equivalence import compare, within
from lora_theory.stats.landscapes import Judge
from lora_theory.stats.places import NAMES
from lora_theory.stats.scaling import sized
from lora_theory.terms import Outcome
from lora_theory.theory.scalings import Moves

if TYPE_CHECKING:
    from experiments.scaling.config import DecideConfig, ScalingConfig

_MANY = 100  # times the seeds: further the estimate says no more than "not by seeds".


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


def measure(family: Family, sweep: str, model: str, cfg: "ScalingConfig") -> Measured:
    """Fit everything to one family of a sweep, and judge it."""
    found = fits(family, model, cfg)
    primary = family.over == "n" and sweep == cfg.decide.sweep
    return found._replace(verdicts=tuple(_verdicts(found, cfg, primary)))


def collapsed(
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
        lost = found.family.log2_sizes[~trained(found.family.sweep(curve, t))]
        gaps = tuple(f"{found.family.over} = {sized(n)} left out: all diverged" for n in lost)
        for what, numbers, predicted in collapsed(fitted, found.moves, decide):
            unknown = fitted.unknown(SAID[what], numbers, decide.widest)
            yield _verdict(
                name,
                f"collapse {what}",
                where,
                numbers,
                predicted,
                decide.collapse_margin,
                seeds,
                ("undetermined", unknown) if unknown else (),
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
    adam = preconditioned(found.family.optimizer)
    # Of sign updates and AdamW, the Hessian's own curvature is measured, and not predicted.
    known = (
        found.moves.curvature if found.moves and (adam or found.family.optimizer == "gd") else {}
    )
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
                times = f"about {more:.1f}" if more < _MANY else f"more than {_MANY}"
                words.append(f"{times} times the seeds would decide")
    ends, note = (value, low, high), "; ".join((*words, *gaps))
    return Verdict(
        family, what, where, *ends, predicted, outcome, note, decides, primary, determined=not why
    )
