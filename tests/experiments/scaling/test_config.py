"""What a sweep over widths is made of: rates, cells, kept steps; which fields decide results."""

import dataclasses
import re

import numpy as np
import pytest
from sweeps import small

from experiments.lab import memory
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError, Role, having, roles
from experiments.scaling.config import (
    ScalingConfig,
    kept_steps,
    line_cells,
    plane_cells,
    rates,
)
from experiments.width import Width


def test_rates_are_exact_powers_of_2_and_0():
    eta_a, eta_b, eta = rates(small().sweeps["two_layer"])
    assert eta_a.tolist() == [0, 2**-8, 2**-7, 2**-6, 2**-5, 2**-4]
    assert eta_b.tolist() == [0, 2**-5, 2**-4, 2**-3, 2**-2, 2**-1, 1, 2, 4, 8]
    assert eta[::2].tolist() == [2**-8, 2**-7, 2**-6, 2**-5, 2**-4, 2**-3]
    np.testing.assert_allclose(np.diff(np.log2(eta)), 0.5, rtol=1e-12)
    alone = small().sweeps["layer_sign"]
    assert alone.line is not None
    low, high = alone.line
    assert [len(axis) for axis in rates(alone)] == [0, 0, 2 * (high - low) + 1]
    assert plane_cells(alone).shape == (0, 2)
    none = dataclasses.replace(alone, line=None)
    assert line_cells(none).shape == (0, 2)


def test_cells_are_pairs_with_b_running_fastest():
    of = small().sweeps["two_layer"]
    eta_a, eta_b, eta = rates(of)
    assert plane_cells(of).tolist() == [[a, b] for a in eta_a for b in eta_b]
    assert line_cells(of).tolist() == [[one, one] for one in eta]


def test_kept_steps_hold_the_reported_ones():
    cfg = small("steps=10000", "times=[7,77,9999]", "decide.t=77")
    kept = kept_steps(cfg).tolist()
    assert {0, 1, 7, 77, 9999, 10000} <= set(kept)
    assert kept == sorted(set(kept))
    assert len(kept) < 50


def test_what_decides_verdicts_decides_no_result():
    found = roles(ScalingConfig)
    assert {role for key, role in found.items() if key.startswith("decide.")} == {Role.DRAWING}
    assert found["sweeps"] is Role.SCIENCE
    assert found["part"] is Role.PART
    plain = having(small(), Role.SCIENCE)["sweeps"]["two_layer"]
    assert plain["task"] == {"name": "sine", "n_train": 40, "n_test": 16}
    assert plain["seeds"] == [6, 6, 4]


REFUSED = {
    "seeds of one": (["seeds=[1,1,1]"], "sweeps.two_layer.seeds: must be integers from 2 to"),
    "seeds beyond": (["seeds=[1000000,6,4]"], "sweeps.two_layer.seeds: must be integers from 2"),
    "widths beyond": (["widths=[8,16,10000000]"], "must be ascending integers from 2 to 1000000"),
    "nothing varies": (["widths=[8]", "seeds=[4]"], "widths: must be at least two where there is"),
    "no line": (
        ["log2_a=[-8,-6]", "log2_b=[-4,-2]", "line=null"],
        "sweeps.two_layer.line: must be given where the axes share no two rates",
    ),
    "init": (["init=[both,A]"], "sweeps.two_layer.init: must be both below a ReLU with W* = 0"),
    "no rank": (
        ["model=linear", "init=[A]", "rank=[1,2]"],
        "sweeps.two_layer.rank: must be one value: model linear has none",
    ),
    "no weight": (
        ["model=feature_layer", "weight=random"],
        "sweeps.two_layer.weight: must be zero for feature_layer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_sweep_that_can_not_be_run_or_judged_is_refused_before(name):
    overrides, message = REFUSED[name]
    with pytest.raises(ConfigError, match=re.escape(message)):
        small(*(f"sweeps.two_layer.{override}" for override in overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["decide.resamples=19"], "decide.resamples: must be an integer from 20 to"),
        (["decide.resamples=159"], "decide.resamples: must be at least 160 for decide.confidence"),
        (["decide.confidence=0.99"], "decide.resamples: must be at least 800 for"),
        (["adam_eps=1e-50"], "adam_eps: must be between 1e-30 and 1e+30"),
        (["coordinates.rank=65"], "coordinates.rank: must be at most the least width = 64"),
        (["coordinates.widths=[64,128,10000000]"], "coordinates.widths: must be at least three"),
    ],
)
def test_what_would_fail_late_or_mislead_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        small(*overrides)


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("sweeps.two_layer.task.n_train=10000000", "sweeps.two_layer.task.n_train"),
        ("sweeps.two_layer.widths=[64,128,1000000]", "sweeps.two_layer.widths"),
        ("engine.micro_batch=1000000", "engine.micro_batch"),
    ],
)
def test_what_can_not_fit_in_memory_is_refused_by_its_field(override, field, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**28)
    cfg = small("part=[two_layer]", override)
    with pytest.raises(ConfigError, match=f"^{field}: must fit in memory"):
        conduct(Width(), cfg, Folders(tmp_path / "results", tmp_path / "figures"))
    assert not list(tmp_path.iterdir())
    assert sum(need.bytes for need in Width().memory(small())) < 2**25  # Control.
