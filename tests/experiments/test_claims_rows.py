"""What the judge gives: numbers in words, how far off they are, and verdicts of several rows."""

import math
from fractions import Fraction

import numpy as np
import pytest

from experiments.claims.rows import (
    Judged,
    Row,
    badness,
    caught,
    combined,
    compared,
    in_words,
    number,
    slope_of,
)
from lora_theory.stats.slopes import Slope


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (Slope(-0.5, 0.0123, 9), "-0.500 ± 0.012"),
        (Slope(0.5, 0.0002, 9), "+0.5000 ± 0.0002"),
        (Slope(0.0, 3e-17, 9), "+0.000000 ± less than 0.000001"),
        (Slope(np.nan, np.nan, 9, zero=True), "identically zero"),
        (Slope(np.nan, np.nan, 1, note="one seed: no error"), "one seed: no error"),
        (Slope(0.5, 0.01, 8, note="1 seeds left out"), "+0.500 ± 0.010 (1 seeds left out)"),
    ],
)
def test_an_error_is_said_with_the_digits_it_needs(slope, said):
    assert in_words(slope) == said


def row(verdict, seeds_needed=None):
    return Row(verdict, "", "", 0.0, seeds_needed)


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (("holds", "holds"), "holds"),
        (("holds", "undecided"), "undecided"),
        (("undecided", "fails", "holds"), "fails"),
    ],
)
def test_rows_hold_together_or_not_at_all(verdicts, together):
    assert combined([row(v) for v in verdicts]).verdict == together


def test_seeds_are_asked_for_where_they_would_decide_all():
    assert combined([row("undecided", 40), row("undecided", 90)]).seeds_needed == 90
    assert combined([row("undecided", 40), row("undecided")]).seeds_needed is None
    assert combined([row("undecided", 40), row("fails")]).seeds_needed is None


def test_a_control_is_caught_if_every_case_of_it_fails():
    judged = {v: Judged(v, None, (row(v),)) for v in ("holds", "fails", "undecided")}
    assert caught([judged["fails"], judged["fails"]]).verdict == "fails"
    assert caught([judged["fails"], judged["undecided"]]).verdict == "undecided"
    assert len(caught([judged["fails"], judged["holds"]]).rows) == 2


@pytest.mark.parametrize("slope", [Slope(0.01, 0.001, 50), Slope(math.nan, math.nan, 9, zero=True)])
def test_a_row_has_the_slope_it_was_judged_by(slope):
    found = compared(slope, "f", Fraction(0), (0.2, 2.0), 0.02, 0.95)
    again = slope_of(found)
    np.testing.assert_equal(again.value, slope.value)
    assert (again.seeds, again.zero) == (slope.seeds, slope.zero)
    assert found.badness == badness(slope, 0.0, 0.02, 0.95)
    assert found.verdict == ("holds" if not slope.zero else "fails")


@pytest.mark.parametrize(
    ("value", "kept"), [(0.5, 0.5), (math.nan, None), (math.inf, None), (-math.inf, None)]
)
def test_what_is_no_number_is_none(value, kept):
    assert number(value) == kept
