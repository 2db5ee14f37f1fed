"""What is said of a landscape: judges, sets of cells, held-out gains, and what can not be said."""

import json

import numpy as np
import pytest
import xarray

from experiments.landscape import report
from lora_theory.stats.landscapes import Judge

RATES = np.geomspace(1e-4, 1.0, 9)
CONFIG = {
    "loss": "mse",
    "model": {"name": "two_layer", "width": 50},
    "optimizer": {"name": "gd"},
}


def data(seeds, *, floor=0.0, valley=True, edge=6, first=0):
    """A landscape that falls towards η_A = RATES[4], whatever η_B (or towards η_B = RATES[2]),
    with seeds of different difficulty; beyond `edge` every run diverges.
    """
    rng = np.random.default_rng(first)
    i, j = np.meshgrid(np.arange(9), np.arange(9), indexing="ij")
    height = 0.3 * (i - 4.0) ** 2 + (0 if valley else 0.3) * (j - 2.0) ** 2
    losses = np.exp(height + rng.normal(size=(seeds, 9, 9)) * 0.2 - 4)
    losses *= np.exp(0.5 * rng.normal(size=(seeds, 1, 1)))
    losses[:, edge:] = np.nan
    curves = np.stack([np.full((seeds, 9, 9), 3.0), losses], axis=-1) + floor
    dims = ("seed", "eta_a", "eta_b", "step")
    return xarray.Dataset(
        {
            "train_loss": (dims, curves),
            "test_loss": (dims, curves),
            "train_floor": ("seed", np.full(seeds, floor)),
            "test_floor": ("seed", np.full(seeds, floor)),
        },
        {
            "seed": first + np.arange(seeds),
            "eta_a": RATES,
            "eta_b": RATES,
            "step": np.arange(2),
        },
        {"config": json.dumps(CONFIG)},
    )


def said(found, judge=Judge(), curve="test_loss"):  # noqa: B008
    return report.lines(found, curve, 1, judge)


def line(lines, start):
    return next(text for text in lines if text.strip().startswith(start))


def after(lines, title):
    """The lines that follow the one that begins so."""
    place = next(k for k, text in enumerate(lines) if text.startswith(title))
    return lines[place + 1 :]


@pytest.mark.parametrize("seeds", [1, 3])
def test_few_seeds_have_no_interval_and_say_how_many_would(seeds):
    lines = said(data(seeds))
    sets = line(lines, "where the best pair may lie, with 95 % (test loss")
    assert sets.endswith("no interval: it takes 6 seeds, and 13 by a 75 % quantile")
    assert line(lines, "two rates against one").endswith("no interval: it takes 12 seeds")
    assert "(no interval)" in line(lines, "test  median ")
    assert not any("±" in text for text in lines)


def test_eight_seeds_have_a_set_for_the_median_alone():
    sets = after(said(data(8)), "where the best pair may lie")
    assert "of 81" in line(sets, "median ")
    assert "no interval: needs 13 seeds" in line(sets, "75 % quantile")
    assert "no interval: needs 6 seeds" in line(sets, "median, odd seeds")


@pytest.mark.parametrize("first", [0, 100])
def test_a_valley_leaves_one_rate_open_and_determines_the_other(first):
    """Disjoint sets of seeds say the same."""
    sets = after(said(data(64, first=first)), "where the best pair may lie")
    median = line(sets, "median ")
    assert "≤ 0.0001 to ≥ 1" in median
    numbers = median.split("≤")[0].strip().removeprefix("median").split(" to ")
    low, high = float(numbers[0]), float(numbers[-1])  # Once where both are one.
    assert low <= 50 * RATES[4] * 1.01
    assert high >= 50 * RATES[4] * 0.99
    assert high / low <= 11  # Two cells, a factor of √10 each, at most.


def test_both_losses_and_both_halves_of_the_seeds_are_shown():
    lines = said(data(20))
    for loss in ("test loss", "train loss"):
        sets = after(lines, f"where the best pair may lie, with 95 % ({loss}")
        assert "of 81" in line(sets, "median, even seeds")
        assert "of 81" in line(sets, "median, odd seeds")


def test_what_decides_comes_first_and_is_named():
    lines = said(data(8), Judge(0.75), "train_loss")
    assert "decides: train loss, 75 % quantile" in lines[0]
    assert lines[2].startswith("train 75 % quantile")


def test_a_floor_is_taken_off_and_said():
    with_floor, without = said(data(20, floor=0.5)), said(data(20))
    assert "above each seed's own Var(y)" in with_floor[0]
    assert with_floor[1:] == without[1:]


def test_where_everything_diverges_it_is_said():
    lines = said(data(12, edge=0))
    assert "100% of runs diverged" in lines[0]
    assert "diverged everywhere" in line(lines, "test  median ")
    assert "diverged everywhere" in line(after(lines, "where the best"), "median ")
    assert line(lines, "median, chosen by the even").endswith("no pair that trains")


def test_a_gain_is_judged_on_the_other_half():
    lines = said(data(40, valley=False))
    title = line(lines, "median, chosen by the odd seeds")
    assert "(0.01, 0.001) against 0.00316" in title
    detail = after(lines, title)[0]
    assert "of 20 seeds" in detail
    assert "two rates diverge on 0, one on 0" in detail
    low_and_high = detail.split("(")[1].split(")")[0].split(" to ")
    assert all(float(end) < 0 for end in low_and_high)


def test_seeds_that_are_no_range_are_not_shown_as_one():
    found = data(3).assign_coords(seed=[4, 9, 1])
    assert "3 seeds (chosen)" in said(found)[0]


def small(seeds, scale):
    """The same landscape with all losses so much smaller, and all seeds alike."""
    found = data(seeds)
    for name in ("train_loss", "test_loss"):
        found[name] = found[name] * scale
    return found


def test_small_losses_keep_their_digits():
    """Those of a model that learns its task to the last bit are not all 0.0000."""
    tiny, plain = said(small(13, 1e-9)), said(data(13))
    for found in (tiny, plain):
        assert not any("0.0000" in text for text in found)
    value = float(line(plain, "test  median ").split()[5])
    assert float(line(tiny, "test  median ").split()[5]) == pytest.approx(1e-9 * value, rel=6e-3)
    assert any("±" in text and "e-" in text.split("±")[1] for text in tiny)


def test_huge_losses_are_no_row_of_digits():
    assert "e+1" in line(said(small(3, 1e18)), "test  median ")


def test_the_shares_of_runs_and_of_cells_that_diverged_are_told_apart():
    """Of three seeds one diverges in a third of the cells: that decides the 75 % quantile alone."""
    found = data(3, edge=9)
    found["test_loss"].values[0, :3, :, 1] = np.nan
    assert "11% of runs diverged" in said(found)[0]
    assert "in 0% of cells the median is ∞" in said(found)[0]
    assert "in 33% of cells the 75 % quantile is ∞" in said(found, Judge(0.75))[0]


def test_one_seed_is_one_seed():
    assert "1 seed (7);" in said(data(1, first=7))[0]
