"""Slope fits on data with known slopes and noise."""

import math

import numpy as np
import pytest
from scipy import stats

from lora_theory.stats.slopes import fit, slope_weights
from lora_theory.stats.tables import Table

WIDTHS = np.array([6.0, 7.0, 8.0, 9.0, 10.0])


def noisy(rng, slope, seeds, kind):
    """log2 |v| (W, S) with noise as measured sizes have it: skewed, and wider at small n."""
    shape = (WIDTHS.size, seeds)
    if kind == "normal":
        noise = rng.normal(size=shape)
    elif kind == "log of |N|":
        noise = np.log2(np.abs(rng.normal(size=shape)))
    else:
        noise = rng.normal(size=shape) * (4 / WIDTHS[:, None]) ** 2 + rng.normal(size=seeds)
    return slope * WIDTHS[:, None] + noise


@pytest.mark.parametrize("kind", ["normal", "log of |N|", "wider at small n"])
@pytest.mark.parametrize("seeds", [5, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_cover_as_often_as_they_say(kind, seeds, confidence):
    rng = np.random.default_rng([seeds, int(100 * confidence)])
    trials, covered = 1500, 0
    for _ in range(trials):
        slope = fit(WIDTHS, noisy(rng, 0.3, seeds, kind))
        covered += abs(slope.value - 0.3) <= slope.half_width(confidence)
    # Within four standard errors of a binomial count.
    error = math.sqrt(confidence * (1 - confidence) / trials)
    assert abs(covered / trials - confidence) < 4 * error


def test_naive_errors_do_not_cover():
    """Control: the residuals' own error, blind to what one seed's widths have in common."""
    rng = np.random.default_rng(1)
    trials, covered = 600, 0
    for _ in range(trials):
        tilt = rng.normal(size=20) * 0.5  # Each seed has a slope of its own.
        logs = (0.3 + tilt) * WIDTHS[:, None] + 0.1 * rng.normal(size=(WIDTHS.size, 20))
        found = stats.linregress(WIDTHS, logs.mean(axis=1))
        covered += abs(found.slope - 0.3) <= 1.96 * found.stderr
    assert covered / trials < 0.5


def test_median_fit_covers_and_shrugs_off_outliers():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(150):
        logs = noisy(rng, 0.3, 60, "normal")
        logs[0, :6] = 1e3
        slope = fit(WIDTHS, logs, "median")
        covered += abs(slope.value - 0.3) <= 2 * slope.error
    assert covered > 115
    assert abs(fit(WIDTHS, logs).value - 0.3) > 1


def test_zero_is_said_and_not_minus_infinity():
    assert str(fit(WIDTHS, np.full((5, 4), -np.inf))) == "identically zero"
    logs = noisy(np.random.default_rng(0), 0.0, 100, "normal")
    logs[2, 0] = -np.inf
    some = fit(WIDTHS, logs)
    assert some.seeds == 99
    said = "1 seeds left out: exactly 0 in 1% of seeds, which may move it by"
    assert some.note == f"{said} {some.bias:.1g}"
    logs[2, :30] = -np.inf
    assert str(fit(WIDTHS, logs)) == "exactly 0 in 30% of seeds"
    logs[1, 50] = np.inf
    assert str(fit(WIDTHS, logs)) == "overflow in 1% of seeds; exactly 0 in 30% of seeds"


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("lowest", [True, False])
def test_seeds_left_out_are_covered_by_the_interval(statistic, lowest):
    """Whatever the seeds that are 0 at one width would have been, the interval has their slope."""
    rng = np.random.default_rng(3)
    logs = noisy(rng, 0.0, 100, "normal") + 3 * rng.normal(size=100) * WIDTHS[:, None]
    order = np.argsort(slope_weights(WIDTHS) @ logs)
    # All but the outermost, which bounds the rest.
    chosen = order[1:6] if lowest else order[-6:-1]
    whole = fit(WIDTHS, logs, statistic)
    logs[2, chosen] = -np.inf
    some = fit(WIDTHS, logs, statistic)
    assert (whole.bias, some.seeds) == (0, 95)
    assert abs(some.value - whole.value) <= some.bias
    assert some.half_width(0.95) > some.bias
    # Control: in the mean, Student's interval alone would be half a standard error off, or more.
    if statistic == "mean":
        assert abs(some.value - whole.value) > 0.5 * some.error


def test_a_seed_counts_at_all_widths_or_at_none():
    """Seeds that are 0 at the largest width alone would tilt the mean of the others' logarithms."""
    logs = np.repeat(np.where(np.arange(100) < 4, -50.0, 0.0)[None], 5, axis=0)
    logs[4, :4] = -np.inf
    some = fit(WIDTHS, logs)
    assert (some.value, some.error, some.seeds) == (0, 0, 96)
    by_width = [np.mean(row[np.isfinite(row)]) for row in logs]  # Control: each width its own.
    assert slope_weights(WIDTHS) @ by_width > 0.2
    logs[0, 10:13] = -np.inf  # Other seeds at another width: together more than 5 %.
    assert math.isnan(fit(WIDTHS, logs).value)


def test_what_rounding_hides_is_not_measured_and_is_no_overflow():
    logs = noisy(np.random.default_rng(0), 0.0, 100, "normal")
    logs[4, :3] = np.nan
    some = fit(WIDTHS, logs)
    assert (some.seeds, math.isnan(some.value)) == (97, False)
    logs[3, 2:9] = np.nan
    assert str(fit(WIDTHS, logs)) == "not measured (rounding) in 9% of seeds"


def test_one_seed_has_no_error_and_says_so():
    logs = noisy(np.random.default_rng(0), 0.0, 1, "normal")
    found = Table(WIDTHS, np.array([1]), {"f": logs[..., None]}).successive("f", 1)
    assert [str(slope) for slope in found] == ["one seed: no error"] * 4


@pytest.mark.parametrize(
    ("widths", "logs", "statistic", "message"),
    [
        (np.full(5, 6.0), np.zeros((5, 4)), "mean", "widths: must ascend"),
        (WIDTHS[:2], np.zeros((2, 4)), "mean", "widths: a slope needs at least three"),
        (WIDTHS, np.zeros((5, 1)), "mean", "seeds: an error needs at least two"),
        (WIDTHS, np.zeros((5, 4)), "mode", "statistic: must be mean or median"),
    ],
)
def test_too_little_to_fit_is_named(widths, logs, statistic, message):
    with pytest.raises(ValueError, match=message):
        fit(widths, logs, statistic)


def test_weights_are_those_of_least_squares():
    logs = np.random.default_rng(0).normal(size=5)
    assert slope_weights(WIDTHS) @ logs == pytest.approx(stats.linregress(WIDTHS, logs).slope)
