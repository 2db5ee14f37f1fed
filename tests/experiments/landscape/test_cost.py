"""What the engine's runs cost: the form, the fit, and a measurement; its numbers are not tested."""

import numpy as np
import pytest

from experiments.landscape import cost
from experiments.landscape.cost import Size, core_seconds, fitted, measure, of_one, timed
from experiments.landscape.experiment import TaskConfig
from experiments.registry import model_config

SIZES = [Size(n, r, N) for n in (64, 512, 4096) for r in (1, 4, 16) for N in (64, 1024)]
TRUE = (3e-6, 5e-9, 2e-10, 1e-10, 4e-11)


def test_a_of_one_costs_what_its_terms_say():
    assert Size(4096, 4, 1024).terms == (1.0, 16384.0, 2.0**22, 2.0**24, 3 * 2.0**20)
    assert of_one((1, 2, 3, 4, 5), Size(2, 3, 5)) == 1 + 2 * 6 + 3 * 10 + 4 * 30


def test_the_fit_finds_the_constants_and_none_below_zero():
    seconds = [of_one(TRUE, size) for size in SIZES]
    np.testing.assert_allclose(fitted(SIZES, seconds), TRUE, rtol=1e-4)
    assert min(fitted(SIZES, 1.0 / np.array(seconds))) >= 0


@pytest.mark.parametrize("term", range(5))
def test_the_fit_can_tell_every_constant(term):
    """Control: ten times one of them is ten times that one, and none of the others."""
    other = [c * 10 if i == term else c for i, c in enumerate(TRUE)]
    found = fitted(SIZES, [of_one(other, size) for size in SIZES])
    assert found[term] == pytest.approx(10 * TRUE[term], rel=1e-3)
    assert found[term - 1] == pytest.approx(TRUE[term - 1], rel=1e-3)


def test_core_seconds_are_those_of_all_runs_and_steps(monkeypatch):
    monkeypatch.setattr(cost, "COSTS", {True: (1, 0, 0, 0, 0), False: (0, 0, 1, 0, 0)})
    monkeypatch.setattr(cost, "RAN", {"gd": 0.25})
    task = TaskConfig(name=None, n_train=3, n_test=2)
    two, layer = (model_config(name, width=8, rank=2) for name in ("two_layer", "feature_layer"))
    assert core_seconds(two, task, "adam", 10, 9) == 100
    assert core_seconds(two, task, "gd", 10, 9) == 25
    assert core_seconds(layer, task, "adam", 10, 9) == 100 * 8 * 5
    assert core_seconds(model_config("linear", width=8), task, "adam", 1, 0) == 8 * 5


@pytest.mark.slow
def test_a_measurement_gives_a_positive_number_and_names_what_it_measured():
    assert 0 < timed("feature_layer", "adam", Size(8, 2, 20), 1e-3, repeats=1) < 1
    lines = list(measure((8, 16), ((2, 20),), 1e-3))
    assert len(lines) == 2 * (4 + 1)
    assert lines[0].startswith("two_layer, gd, n = 8, r = 2, N = 20: ")
    assert (lines[4][:7], lines[9][:8]) == ("True: (", "False: (")
    assert lines[4].count(",") == 4
