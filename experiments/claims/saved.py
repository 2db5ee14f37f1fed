"""Saved reports of claims: read back, and held against what is claimed and against themselves."""

import functools
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.claims import exact, reduction
from experiments.claims.judge import NUMBERS, bounds, pairs, shared
from experiments.claims.rows import (
    Judged,
    Judgement,
    Record,
    Row,
    Way,
    badness,
    caught,
    combined,
    slope_of,
)
from experiments.claims.settings import APPROACH_WIDTHS, APPROACHES, Diagram
from lora_theory.plots.records import Curve, DrawnPoint
from lora_theory.stats.equivalence import compare
from lora_theory.store.files import ResultsError
from lora_theory.store.provenance import Provenance
from lora_theory.store.reading import read_json
from lora_theory.store.records import from_plain
from lora_theory.terms import Verdict
from lora_theory.theory.claims import Carried, Case, Claim, Escape, Exponents, Limit, Moving
from lora_theory.theory.regions import Area, areas
from lora_theory.theory.rules import RULES

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

_VERDICTS = {verdict.value for verdict in Verdict}
_ROUNDING = 1e-6  # Of another version of SciPy.
_LATE = 10**6  # No t is that large.


def _read(path: Path) -> dict[str, Any]:
    """A report as plain data.

    Raises:
        ResultsError: there is none, it can not be read, or it is damaged.
    """
    try:
        data = read_json(path)
    except FileNotFoundError:
        raise ResultsError(f"{path}: no report to draw; run without replot=true") from None
    except ValueError as error:
        raise _damaged(path, error) from None
    if not isinstance(data, dict):
        raise _damaged(path, "no group of keys")
    return data


def read_origin(path: Path) -> Provenance:
    """Whose a report is.

    Raises:
        ResultsError: there is none, it can not be read, it is damaged, or of version 0.1.0.
    """
    data = _read(path)
    if "claims" in data and "provenance" not in data:
        raise ResultsError(f"{path}: written by version 0.1.0; move it or change out")
    try:
        return Provenance.of(data.get("provenance"))
    except ValueError as error:
        raise _damaged(path, error) from None


def read_record(
    path: Path, claims: Sequence[Claim], diagrams: Sequence[Diagram], cfg: "ClaimsConfig"
) -> Record:
    """The judgements of a report.

    Args:
        path: of the report.
        claims, diagrams: what it must speak of.
        cfg: what decided.

    Raises:
        ResultsError: as `read_origin`; or it speaks of something else, or contradicts itself.
    """
    data = _read(path)
    data.pop("provenance", None)
    try:
        found = from_plain(Record, data)
    except ValueError as error:
        raise _damaged(path, error) from None
    try:
        _check_claims(found, claims, cfg)
        _check_drawn(found, diagrams)
    except ValueError as error:
        line = f"{path}: of other claims ({error}); move it or change out to measure these"
        raise ResultsError(line) from None
    try:
        if not found.made.isprintable():
            raise ValueError("made: signs that can not be printed")
        for judgement, claim in zip(found.claims, claims, strict=True):
            _check_judgement(judgement, claim, cfg)
        for diagram in found.phases:
            for point in diagram.points:
                _check_point(f"phases {diagram.update} {diagram.init}", point)
        for curve in found.slopes:
            _check_curve(curve)
    except ValueError as error:
        line = f"{path}: contradicts itself ({error}); delete it to measure anew"
        raise ResultsError(line) from None
    return found


def _check_claims(found: Record, claims: Sequence[Claim], cfg: "ClaimsConfig") -> None:
    """Refuse judgements of something else than is claimed, or that something else decided."""
    _same("claims", [claim.id for claim in found.claims], [claim.id for claim in claims])
    for judgement, claim in zip(found.claims, claims, strict=True):
        _same(f"{claim.id}: recorded", judgement.recorded, claim.recorded)
        asked = _lines(claim.cases, cfg)
        _same_lines(f"{claim.id}: found", judgement.found, asked)
        asked = [line for case in claim.control for line in _lines([case], cfg)]
        _same_lines(f"{claim.id}: control", judgement.control, asked)
        known = [
            (str(case.setting), name, case.t, str(value))
            for case in claim.cases
            if isinstance(case, Exponents) and case.setting.model in exact.MODELS
            for name, value in case.predicted.items()
            if value is not None
        ]
        ways = [(way.setting, way.quantity, way.t, way.predicted) for way in judgement.ways]
        _same(f"{claim.id}: ways", sorted(ways), sorted(known))


def _lines(cases: Sequence[Case], cfg: "ClaimsConfig") -> list[tuple[Any, ...] | None]:
    """What each row speaks of, and what decided it; None where neither is drawn."""
    found: list[tuple[Any, ...] | None] = []
    count, constants = shared(cases, cfg), cfg.constants.pairs
    for case in cases:
        if isinstance(case, Exponents):
            decided = bounds(cfg, case.setting, count)
            for pair in constants:
                for name, value in case.predicted.items():
                    said = None if value is None else str(value)
                    found.append((str(case.setting), name, case.t, said, pair, *decided))
        elif isinstance(case, Escape):
            margin, confidence = cfg.exact_margin, 1 - (1 - cfg.confidence) / count
            found += [
                (str(case), "escape", None, "1", pair, margin, confidence) for pair in constants
            ]
        elif isinstance(case, Limit):
            margin, confidence = cfg.limit_margin, 1 - (1 - cfg.confidence) / count
            for pair in reduction.lazy_pairs(cfg):
                found += [
                    (str(case), name, None, "0", pair, margin, confidence)
                    for name in case.predicted
                ]
        elif isinstance(case, Moving):
            margin = cfg.decide.lost if isinstance(case, Carried) else cfg.decide.exponent
            confidence = 1 - (1 - cfg.confidence) / count
            t = cfg.landscapes[case.family.model].steps
            for name, value in case.predicted.items():
                found.append((None, name, t, str(value), None, margin, confidence))
        else:
            found += [None] * pairs(case, cfg)
    return found


def _same_lines(name: str, judged: Judged, asked: Sequence[tuple[Any, ...] | None]) -> None:
    _same(f"{name}: rows", len(judged.rows), len(asked))
    for row, line in zip(judged.rows, asked, strict=True):
        said = (row.setting, row.quantity, row.t, row.predicted, row.constants)
        got = (*said, row.margin, row.confidence)
        _same(name, None if got == (None,) * 7 else got, line)


def _check_drawn(found: Record, diagrams: Sequence[Diagram]) -> None:
    """Refuse diagrams and curves of something else."""
    diagrams = [diagram for diagram in diagrams if diagram.model == "map"]
    drawn = [(diagram.update, diagram.init) for diagram in found.phases]
    _same("phases", drawn, [(diagram.update, diagram.init) for diagram in diagrams])
    for drawing, diagram in zip(found.phases, diagrams, strict=True):
        name = f"phases {diagram.update} {diagram.init}"
        points = [tuple(map(float, point)) for point in diagram.points]
        _same(f"{name}: points", [point.at for point in drawing.points], points)
        _same(f"{name}: areas", drawing.areas, _areas(diagram.update, diagram.init))
    middles = tuple(((APPROACH_WIDTHS[1:] + APPROACH_WIDTHS[:-1]) / 2).tolist())
    curves = [(curve.label, curve.limit, curve.log2_widths) for curve in found.slopes]
    _same("slopes", curves, [(a.label, float(a.limit), middles) for a in APPROACHES])


@functools.cache
def _areas(update: str, init: str) -> tuple[Area, ...]:
    return tuple(areas(RULES["map", update], init))


def _same(name: str, got: Any, asked: Any) -> None:
    if got != asked:
        raise ValueError(f"{name}: {got!r:.80}, not {asked!r:.80}")


def _check_judgement(judgement: Judgement, claim: Claim, cfg: "ClaimsConfig") -> None:
    """Refuse verdicts that their rows do not give, and rows that their numbers do not give."""
    texts = [judgement.statement, judgement.source, judgement.reason, judgement.wrong]
    for row in (*judgement.found.rows, *judgement.control.rows):
        texts += [row.found, row.where]
        if row.setting is not None:
            _check_row(f"{claim.id}: {row.quantity}", row)
    for way in judgement.ways:
        texts.append(way.where)
        _check_way(f"{claim.id}: {way.quantity}", way, cfg)
    if not all(text.isprintable() for text in texts):
        raise ValueError(f"{claim.id}: signs that can not be printed")
    _check_given(f"{claim.id}: found", judgement.found, combined(judgement.found.rows))
    left = iter(judgement.control.rows)
    controls = []
    for case in claim.control:  # Each must catch what is wrong, at each pair of constants.
        rows = len(case.predicted) if isinstance(case, NUMBERS) else 1
        for _ in range(pairs(case, cfg)):
            controls.append(combined(list(itertools.islice(left, rows))))
    _check_given(f"{claim.id}: control", judgement.control, caught(controls))


def _check_given(name: str, judged: Judged, given: Judged) -> None:
    if judged.verdict != given.verdict:
        raise ValueError(f"{name}: {judged.verdict}, where its rows give {given.verdict}")
    if judged.seeds_needed != given.seeds_needed:
        needed = f"{judged.seeds_needed} seeds needed, where its rows give {given.seeds_needed}"
        raise ValueError(f"{name}: {needed}")


def _check_row(name: str, row: Row) -> None:
    """An exponent is judged again, by the numbers that are saved with it."""
    if row.seeds is None or not 2 <= row.seeds < 2**53:
        raise ValueError(f"{name}: {row.verdict}, of {row.seeds} seeds")
    assert row.margin is not None
    assert row.confidence is not None
    if not 0 <= row.bias < math.inf:
        raise ValueError(f"{name}: a bias of {row.bias:g}")
    slope = slope_of(row)
    predicted = None if row.predicted is None else float(Fraction(row.predicted))
    given = compare(slope, predicted, margin=row.margin, confidence=row.confidence)
    if row.verdict != given.verdict:
        raise ValueError(f"{name}: {row.verdict}, where its numbers give {given.verdict}")
    half = slope.half_width(row.confidence)
    for end, asked in ((row.low, slope.value - half), (row.high, slope.value + half)):
        got = math.nan if end is None else end
        gap = abs(got - asked)
        if gap > _ROUNDING * half + 1e-12 or math.isnan(got) != math.isnan(asked):
            raise ValueError(f"{name}: its interval does not end at {got:g}")
    shown = badness(slope, predicted, row.margin, row.confidence)
    if not np.isclose(row.badness, shown, _ROUNDING, 0):
        raise ValueError(f"{name}: is not {row.badness:g} margins off")


def _check_way(name: str, way: Way, cfg: "ClaimsConfig") -> None:
    low, high = way.low, way.high
    if (low is None) != (high is None) or (low is not None and high is not None and low > high):
        raise ValueError(f"{name}: a range on the way from {low} to {high}")
    if way.from_log2_width is not None and way.from_log2_width not in cfg.way_log2_widths:
        raise ValueError(f"{name}: on the way from 2^{way.from_log2_width:g}")


def _check_point(name: str, point: DrawnPoint) -> None:
    if not {point.predicted, point.measured} - {None} <= _VERDICTS:
        raise ValueError(f"{name}: {point.measured!s:.60} at {point.at}")
    predicted, measured = (
        (point.predicted, point.predicted_t),
        (point.measured, point.measured_t),
    )
    for verdict, t in (predicted, measured):
        if (t is not None) != (verdict == Verdict.UNSTABLE.value) or not 0 < (t or 1) < _LATE:
            raise ValueError(f"{name}: {verdict} from t = {t} at {point.at}")
    if point.agrees != (None if point.measured is None else predicted == measured):
        said = f"{point.predicted} predicted, {point.measured} measured, agrees: {point.agrees}"
        raise ValueError(f"{name}: {said} at {point.at}")


def _check_curve(curve: Curve) -> None:
    lengths = {len(curve.log2_widths), len(curve.slopes), len(curve.half_widths)}
    if len(lengths) > 1 or all(slope is None for slope in curve.slopes):
        raise ValueError(f"slopes: {curve.label} has widths without slopes")


def _damaged(path: Path, why: object) -> ResultsError:
    return ResultsError(f"{path}: damaged or no report ({why}); delete it to run again")
