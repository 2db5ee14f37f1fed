"""The test of equivalence: its verdicts, and how often it errs."""

import math

import numpy as np
import pytest

from lora_theory.stats.equivalence import compare, within
from lora_theory.stats.slopes import Slope, fit

WIDTHS = np.array([6.0, 7.0, 8.0, 9.0, 10.0])


@pytest.mark.parametrize(
    ("value", "error", "predicted", "verdict"),
    [
        (0.02, 0.01, 0.0, "holds"),
        (0.30, 0.01, 0.0, "fails"),
        (0.09, 0.03, 0.0, "undecided"),
        (0.12, 0.03, 0.0, "undecided"),
        (0.02, 0.50, 0.0, "undecided"),
        (0.52, 0.01, 0.5, "holds"),
        (0.02, 0.01, None, "fails"),
    ],
)
def test_equivalence(value, error, predicted, verdict):
    found = compare(Slope(value, error, 200), predicted, margin=0.1, confidence=0.95)
    assert found.verdict == verdict
    if verdict == "undecided":
        # With the seeds that it asks for, the same estimate would be decided.
        seeds = found.seeds_needed
        again = Slope(value, error * math.sqrt(200 / seeds), seeds)
        assert compare(again, predicted, margin=0.1, confidence=0.95).verdict != "undecided"


def test_equivalence_of_zeros_and_of_nothing():
    zero = Slope(math.nan, math.nan, 10, zero=True)
    none = Slope(math.nan, math.nan, 10, note="overflow")
    assert compare(zero, None, margin=0.1, confidence=0.95).verdict == "holds"
    assert compare(zero, 0.0, margin=0.1, confidence=0.95).verdict == "fails"
    for predicted in (0.0, None):  # An overflow is no evidence against a prediction.
        assert compare(none, predicted, margin=0.1, confidence=0.95) == ("undecided", None)
    wide = Slope(0.0, math.inf, 10)
    assert compare(wide, 0.0, margin=0.1, confidence=0.95) == ("undecided", None)


def test_wrong_holds_are_as_rare_as_the_confidence_says():
    """At the edge of the margin a claim that is wrong comes out as "holds" in 2.5 % of cases."""
    rng = np.random.default_rng(5)
    held = sum(
        compare(
            fit(WIDTHS, 0.1 * WIDTHS[:, None] + rng.normal(size=(5, 300))),
            0.0,
            margin=0.1,
            confidence=0.95,
        ).verdict
        == "holds"
        for _ in range(400)
    )
    assert held <= 22


def test_the_bias_of_what_was_left_out_widens_the_interval():
    """A slope well inside the margin is undecided if its left-out seeds may move it out."""
    slope = Slope(0.0, 0.01, 200)
    assert compare(slope, 0.0, margin=0.1, confidence=0.95).verdict == "holds"
    biased = slope._replace(bias=0.09)
    found = compare(biased, 0.0, margin=0.1, confidence=0.95)
    assert found.verdict == "undecided"
    again = biased._replace(error=0.01 * math.sqrt(200 / found.seeds_needed), seeds=780)
    assert compare(again, 0.0, margin=0.1, confidence=0.95).verdict == "holds"
    # No number of seeds makes a bias smaller.
    worse = slope._replace(bias=0.11)
    assert compare(worse, 0.0, margin=0.1, confidence=0.95) == ("undecided", None)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-1.08, -0.95, "holds"),
        (-1.08, -0.85, "undecided"),
        (-0.88, -0.5, "fails"),
        (-1.5, -1.2, "fails"),
        (-1.3, -0.7, "undecided"),
        (math.nan, math.nan, "undecided"),
        (-math.inf, -0.9, "undecided"),
    ],
)
def test_intervals_are_tested_like_slopes(low, high, verdict):
    found = within(low, high, -1.0, 0.1, seeds=30)
    assert found.verdict == verdict
    assert within(low, high, -1.0, 0.1) == (verdict, None)
    if found.seeds_needed:
        half = (high - low) / 2 * math.sqrt(30 / found.seeds_needed)
        middle = (low + high) / 2
        assert within(middle - half, middle + half, -1.0, 0.1 + 1e-12).verdict != "undecided"
        fewer = (high - low) / 2 * math.sqrt(30 / (found.seeds_needed - 1))
        assert within(middle - fewer, middle + fewer, -1.0, 0.1 - 1e-12).verdict == "undecided"


def test_an_interval_says_what_the_slope_says():
    rng = np.random.default_rng(0)
    for value, error in rng.normal(size=(200, 2)) * (0.15, 0.05):
        slope = Slope(value, abs(error), 40)
        half = slope.half_width(0.95)
        one = compare(slope, 0.0, margin=0.1, confidence=0.95)
        other = within(value - half, value + half, 0.0, 0.1, seeds=40)
        assert one.verdict == other.verdict
        if one.seeds_needed:
            assert other.seeds_needed == pytest.approx(one.seeds_needed, abs=1, rel=1e-6)


def test_an_interval_has_an_order():
    with pytest.raises(ValueError, match="low"):
        within(1.0, 0.0, 0.5, 0.1)
