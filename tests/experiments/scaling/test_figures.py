"""Figures of a sweep: which there are, and what of the verdicts becomes a mark."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from plots.readable import assert_readable

from experiments.scaling import figures, verdicts
from experiments.scaling.families import families
from experiments.scaling.gains import gains
from experiments.scaling.verdicts import Verdict
from lora_theory.theory.scalings import moves

DECIDE = SimpleNamespace(
    sweep="basin",
    curve="test_loss",
    t=5,
    quantile=0.5,
    collapse_margin=0.1,
    place_margin=0.2,
    widest=1.0,
    resamples=20,
    beside=5,
    confidence=0.95,
)
CFG = SimpleNamespace(decide=DECIDE, times=(5,))
RATES = 2.0 ** np.arange(-9.0, 1)


def measured(over="n", plane=True, curved=False, widths=(2, 4, 8)):
    """A basin around n η_A = 2^−1, η_B = 2^−3, fitted."""
    sizes = {"n": list(widths), "r": [1]} if over == "n" else {"n": [4], "r": [1, 2, 4]}
    a, b = np.log2(RATES)[:, None], np.log2(RATES)
    noise = 1 + 0.01 * np.random.default_rng(0).random((6, 10, 10))
    last = [2 ** (0.2 * ((a + np.log2(n) + 1) ** 2 + (b + 3) ** 2)) * noise for n in sizes[over]]
    at = {"optimizer": ["gd"], "init": ["both"], "gamma": [0.0], "rho": [0.0], **sizes}
    if over == "r":
        at["init"] = ["A"]
    at |= {"seed": range(6), "eta_a": RATES, "eta_b": RATES, "eta": RATES, "step": [0, 5]}
    found = xr.Dataset(coords=at)
    shape = (1, 1, len(sizes["r"]), 1, 1, len(sizes["n"]), 6)
    stacked = ("optimizer", "init", "r", "gamma", "rho", "n", "seed")
    found["ran"] = (stacked, np.ones(shape, bool))
    losses = np.stack([np.full((len(last), 6, 10, 10), 1e6), np.array(last)], axis=-1)
    losses = losses.reshape(*shape, 10, 10, 2)
    for curve in ("train_loss", "test_loss"):
        if plane:
            found[curve] = ((*stacked, "eta_a", "eta_b", "step"), losses)
        k = np.arange(10)
        found[f"line_{curve}"] = ((*stacked, "eta", "step"), losses[..., k, k, :])
    if curved:
        found = found.assign_coords(block=["A", "B", "both"], end=["least", "largest"])
        dims = (*stacked, "block", "end")
        found["curvature"] = (dims, np.full((*shape, 3, 2), 2.0))
    return [
        (verdicts.measure(family, "basin", "two_layer", CFG), gains(family, CFG))
        for family in families(found)
    ]


PLANE = {"maps", "collapse", "gain", "transfer", "exponents"}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, PLANE),
        ({"curved": True}, PLANE | {"curvature"}),
        ({"plane": False}, {"transfer", "exponents"}),
        ({"over": "r", "plane": False}, {"ranks", "exponents"}),
    ],
)
def test_a_sweep_has_the_figures_of_what_it_varies(options, what):
    drawn = figures.of_sweep("basin", measured(**options), CFG, "width")
    assert set(drawn) == {f"width_basin_{name}" for name in what}


SEVEN = {"curved": True, "widths": tuple(2**k for k in range(7))}


@pytest.mark.parametrize("options", [SEVEN, {"plane": False}, {"over": "r", "plane": False}])
def test_the_figures_can_be_read_on_a_page(options):
    drawn = figures.of_sweep("basin", measured(**options), CFG, "width")
    for name, figure in drawn.items():
        if not name.endswith("exponents"):
            assert_readable(figure)


def test_figures_name_the_optimizer_as_papers_do():
    drawn = figures.of_sweep("basin", measured(), CFG, "width")
    assert "GD, both random" in drawn["width_basin_gain"].axes[0].get_ylabel()


def test_marks_say_what_verdicts_say():
    ((found, _),) = measured()
    groups = {group.name: group for group in figures._exponents(found, CFG)}
    first, *others = groups["collapse c_a"].marks
    assert first.primary
    assert not any(mark.primary for mark in others)
    assert groups["collapse c_a"].predicted == -1.0
    assert first.value == found.collapses["test_loss", 5].exponents[0]
    pairs = groups["collapse c_b, pairs"].marks
    assert [mark.where for mark in pairs] == ["2 → 4", "4 → 8"]
    assert [mark.value for mark in pairs] == [pair.exponents[1] for pair in found.pairs]
    assert [(mark.low, mark.high) for mark in pairs] == [
        (pair.low[1], pair.high[1]) for pair in found.pairs
    ]
    assert {group.margin for name, group in groups.items() if "η" in name} == {0.2}


def test_marks_between_sizes_are_of_the_sum_where_the_exponent_is_the_sum():
    ((found, _),) = measured()
    found = found._replace(moves=moves("feature_layer", "adam", "B"))
    marks = list(figures._between(found, "c_a + c_b", DECIDE))
    assert [mark.value for mark in marks] == [sum(pair.exponents) for pair in found.pairs]
    assert [mark.low for mark in marks] == [pair.interval((1, 1))[1] for pair in found.pairs]


@pytest.mark.parametrize(
    ("value", "note", "shown"),
    [(0.5, "the interval is 2 wide", ""), (np.nan, "no fit; x", "no fit")],
)
def test_an_undetermined_verdict_is_an_open_mark(value, note, shown):
    ends = value - 1, value + 1
    verdict = Verdict("f", "λ*", "test", value, *ends, 1.0, "undecided", note, determined=False)
    mark = figures._mark(verdict)
    assert (mark.determined, mark.note, mark.outcome) == (False, shown, "undecided")
    decided = Verdict("f", "λ*", "test", 0.5, 0.4, 0.6, 1.0, "fails", "about 2 times the seeds")
    assert figures._mark(decided).determined
