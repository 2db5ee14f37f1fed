"""Leaving the saddle: the fast map is the map, and its times are those of the theory."""

import math

import numpy as np
import pytest

from lora_theory.exact.escape import escape_slopes, escape_steps
from lora_theory.exact.scalar_map import random_runs, trajectory
from lora_theory.theory.escape import growth, steps_per_log

WIDTHS = np.array([250.0, 500.0, 1000.0, 2000.0])
SADDLES = [("A", -0.5), ("A", -0.25), ("B", 0.5), ("B", 0.75)]
SIZES, RATIOS = (0.02, 0.2, 2.0), (1 / 16, 1.0, 16.0)


def constants():
    """k_a, k_b: (sizes, ratios) with k_a k_b = k² and k_b / k_a the ratio."""
    k, ratio = np.meshgrid(SIZES, RATIOS, indexing="ij")
    return {"k_a": k / ratio**0.5, "k_b": k * ratio**0.5}


@pytest.mark.parametrize(("init", "c_b"), SADDLES)
@pytest.mark.parametrize("off", [0.0, -1 / 12])
def test_steps_are_those_of_the_scalar_map_in_signs_and_logarithms(init, c_b, off):
    widths, seeds, steps = np.array([10.0, 40.0]), range(20), 120
    found = escape_steps(widths, seeds, c_b, init=init, off=off, most=steps)
    runs = random_runs(widths, seeds, init, off - 1 - c_b, c_b)
    f = np.abs(trajectory(*runs, steps).f.value()[..., 0])
    out = f >= np.abs(runs.y[..., 0]) / 2
    first = np.where(out.any(axis=0), out.argmax(axis=0), -1)
    np.testing.assert_array_equal(found.steps, first)
    assert (first > 3).mean() > 0.5
    product = (runs.eta_a * runs.eta_b * runs.gram[..., 0, 0]).value()
    np.testing.assert_allclose(found.product, product[:, 0] / 2 ** (10.0 * off))
    np.testing.assert_array_equal(found.y, runs.y[:, 0, 0])


def ratios(init, c_b, predicted):
    """Measured over predicted, (sizes, ratios, S)."""
    found = escape_steps(WIDTHS, range(40), c_b, init=init, **constants())
    slopes = escape_slopes(WIDTHS, found.steps)
    theory = [
        predicted(c_b, product, y)
        for row in found.product.reshape(-1, 40)
        for product, y in zip(row, found.y, strict=True)
    ]
    return slopes / np.reshape(theory, slopes.shape)


@pytest.mark.parametrize(("init", "c_b"), SADDLES)
def test_a_seed_takes_as_many_steps_more_per_log_n_as_predicted(init, c_b):
    found = ratios(init, c_b, steps_per_log)
    assert np.abs(found - 1).max() < 0.03
    assert np.abs(found.mean(axis=-1) - 1).max() < 0.005


def without_root(c_b, product, y):
    return abs(c_b) / (2 * math.log(1 + product * abs(y)))


def without_target(c_b, product, y):
    return abs(c_b) / (2 * math.log(growth(product, 1.0)))


def of_b_alone(c_b, product, y):
    return 2 * steps_per_log(c_b, product, y)


@pytest.mark.parametrize("wrong", [without_root, without_target, of_b_alone])
@pytest.mark.parametrize(("init", "c_b"), [("A", -0.5), ("B", 0.5)])
def test_wrong_predictions_are_off_at_every_pair_of_constants(wrong, init, c_b):
    """Control."""
    off = np.abs(ratios(init, c_b, wrong).mean(axis=-1) - 1)
    assert off.min() > 0.1


@pytest.mark.parametrize(("init", "c_b"), [("A", -0.5), ("B", 0.5)])
def test_off_the_line_nothing_leaves(init, c_b):
    """Control: a twelfth below it, growth in one step falls as n^−1/24."""
    k = {"k_a": 0.2, "k_b": 0.2}
    on = escape_steps(WIDTHS, range(20), c_b, init=init, most=20_000, **k).steps
    assert on.min() > 0
    off = escape_steps(WIDTHS, range(20), c_b, init=init, off=-1 / 12, most=20_000, **k).steps
    assert (off[:, WIDTHS >= 500] == -1).all()
    assert np.isnan(escape_slopes(WIDTHS, off)).all()


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_level_moves_every_escape_alike(level):
    k = {"k_a": 0.02, "k_b": 0.02}
    half = escape_steps(WIDTHS, range(20), -0.5, **k).steps
    moved = escape_steps(WIDTHS, range(20), -0.5, level=level, **k).steps - half
    assert np.ptp(moved, axis=-1).max() <= 1
    assert (np.sign(moved) == np.sign(level - 0.5)).all()


def test_runs_have_the_draws_of_their_stream():
    one, other = (escape_steps(WIDTHS, range(5), -0.5, stream=name) for name in ("one", "other"))
    assert not set(one.y.tolist()) & set(other.y.tolist())


def test_where_there_is_no_saddle_or_no_float_is_refused():
    for c_b, init in ((0.5, "A"), (0.0, "A"), (0.0, "B"), (-0.5, "B")):
        with pytest.raises(ValueError, match=r"^c_b: must be (above|below) 0"):
            escape_steps(WIDTHS, [0], c_b, init=init)
    with pytest.raises(ValueError, match=r"^log2_widths: must be at most 3840 at c_b = -0.5"):
        escape_steps([4000.0], [0], -0.5)
    with pytest.raises(ValueError, match=r"^steps: must be of shape"):
        escape_slopes(WIDTHS, np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"^log2_widths: must be at least two, ascending"):
        escape_slopes([3.0], np.ones((3, 1)))
