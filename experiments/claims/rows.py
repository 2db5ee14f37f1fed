"""What the judge gives: a row for each check, verdicts that rows give together, and the record."""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

from lora_theory.plots.records import Curve, DrawnDiagram
from lora_theory.stats.equivalence import compare
from lora_theory.stats.slopes import Slope
from lora_theory.terms import Outcome

_DIGITS = 6  # Of an exponent at most.


@dataclasses.dataclass(frozen=True)
class Row:
    """What one check found.

    Attributes:
        verdict: of this check.
        found, where: in words, the numbers and the setting.
        badness: how far off, in margins; for choosing what to show.
        seeds_needed: of an undecided exponent, about how many would decide it.
        setting, quantity, t: of an exponent, what was measured when.
        predicted: the exponent as a fraction; None for identically zero, or of other checks.
        measured, error: the slope and its standard error.
        bias: how far seeds that were left out could move it.
        low, high: the interval that decided.
        identically_zero: whether the quantity is exactly 0.
        constants: (k_a, k_b) of the rates at which an exponent was measured.
        seeds: how many.
        log2_sizes: log2 of the widths or ranks.
        margin, confidence: what decided.
    """

    verdict: Outcome
    found: str
    where: str
    badness: float
    seeds_needed: int | None = None
    setting: str | None = None
    quantity: str | None = None
    t: int | None = None
    predicted: str | None = None
    measured: float | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    identically_zero: bool = False
    constants: tuple[float, float] | None = None
    seeds: int | None = None
    log2_sizes: tuple[float, ...] = ()
    margin: float | None = None
    confidence: float | None = None
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Judged:
    """A verdict and the checks on which it rests."""

    verdict: Outcome
    seeds_needed: int | None
    rows: tuple[Row, ...]

    @property
    def worst(self) -> Row:
        """The check furthest from what was predicted."""
        return max(self.rows, key=lambda row: row.badness)


@dataclasses.dataclass(frozen=True)
class Way:
    """The slope of one size on the way from small widths to where it is judged.

    Attributes:
        setting, quantity, t, predicted: of which exponent.
        where: in words, at which small widths.
        low, high: of all constants there; None where there is no slope.
        from_log2_width: log2 of the width from which on every slope is within the margin of small
            widths, at all constants; None if none is so up to the widest on the way.
    """

    setting: str
    quantity: str
    t: int
    predicted: str
    where: str
    low: float | None
    high: float | None
    from_log2_width: float | None


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A claim, what was found, what became of its control, and how it shows at small widths."""

    id: str
    statement: str
    source: str
    recorded: Outcome
    reason: str
    found: Judged
    wrong: str
    control: Judged
    ways: tuple[Way, ...] = ()


@dataclasses.dataclass(frozen=True)
class Record:
    """All that `make claims` found.

    Attributes:
        claims: and what was found of each.
        phases, slopes: what is drawn besides.
        made: what measured it, in words: versions and machine.
    """

    claims: tuple[Judgement, ...]
    phases: tuple[DrawnDiagram, ...]
    slopes: tuple[Curve, ...]
    made: str = ""


def combined(rows: Sequence[Row]) -> Judged:
    """The verdict that rows give together."""
    verdicts = {row.verdict for row in rows}
    verdict: Outcome = (
        "fails" if "fails" in verdicts else "holds" if verdicts == {"holds"} else "undecided"
    )
    needed = [row.seeds_needed for row in rows if row.verdict == "undecided"]
    known = [seeds for seeds in needed if seeds is not None]
    known_all = verdict == "undecided" and len(known) == len(needed)
    return Judged(verdict, max(known) if known_all else None, tuple(rows))


def caught(controls: Sequence[Judged]) -> Judged:
    """The verdict on a control: every broken case must be caught, not just one of them."""
    missed = [control.verdict for control in controls if control.verdict != "fails"]
    rows = tuple(row for control in controls for row in control.rows)
    return Judged(missed[0] if missed else "fails", None, rows)


def compared(
    slope: Slope,
    name: str,
    predicted: Fraction | None,
    pair: tuple[float, float],
    margin: float,
    confidence: float,
) -> Row:
    """What a measured number says of the predicted one."""
    exponent = None if predicted is None else float(predicted)
    result = compare(slope, exponent, margin=margin, confidence=confidence)
    said = "identically zero" if predicted is None else str(predicted)
    half = slope.half_width(confidence)
    return Row(
        result.verdict,
        f"{name}: {said} predicted, {in_words(slope)} measured",
        "",
        badness(slope, exponent, margin, confidence),
        result.seeds_needed,
        quantity=name,
        predicted=None if predicted is None else str(predicted),
        measured=number(slope.value),
        error=number(slope.error),
        low=number(slope.value - half),
        high=number(slope.value + half),
        identically_zero=slope.zero,
        constants=pair,
        seeds=slope.seeds,
        margin=margin,
        confidence=confidence,
        bias=slope.bias,
    )


def slope_of(row: Row) -> Slope:
    """The slope that a row was judged by."""
    value, error = (math.nan if v is None else v for v in (row.measured, row.error))
    assert row.seeds is not None
    return Slope(value, error, row.seeds, row.identically_zero, bias=row.bias)


def in_words(slope: Slope) -> str:
    """A measured exponent and its standard error, with as many digits as the error has to say.

    >>> in_words(Slope(-0.5, 2e-5, 100)), in_words(Slope(-0.5, 0.0, 100))
    ('-0.50000 ± 0.00002', '-0.500000 ± less than 0.000001')
    """
    if slope.zero or math.isnan(slope.value):
        return str(slope)
    digits = 3
    while digits < _DIGITS and slope.error < 10.0**-digits:
        digits += 1
    least = 10.0**-digits
    error = f"less than {least:.{digits}f}" if slope.error < least else f"{slope.error:.{digits}f}"
    left_out = f" ({slope.note})" if slope.note else ""
    value = 0.0 if abs(slope.value) < least / 2 else slope.value  # No −0.000.
    return f"{value:+.{digits}f} ± {error}{left_out}"


def badness(slope: Slope, predicted: float | None, margin: float, confidence: float) -> float:
    """How far off, in margins; for choosing what to show."""
    if slope.zero or predicted is None:
        return 0.0 if slope.zero and predicted is None else 1e9
    gap = abs(slope.value - predicted) + slope.half_width(confidence)
    return 1e8 if math.isnan(gap) else gap / margin


def number(value: float) -> float | None:
    """What JSON can hold: None of what is not finite."""
    return float(value) if math.isfinite(value) else None
