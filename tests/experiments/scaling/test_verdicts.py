"""Verdicts by margin: what holds, fails and is undecided, and what can not be said."""

import dataclasses

import numpy as np
import pytest
from sweeps import known, small

from experiments.scaling import verdicts
from experiments.scaling.families import families
from experiments.scaling.fits import CAREFUL, Measured
from experiments.scaling.verdicts import measure
from lora_theory.stats.collapse import Collapse
from lora_theory.stats.scaling import Exponent, Scaling
from lora_theory.theory.scalings import moves

CFG = small("decide.widest=2")


def only(data):
    (family,) = families(data)
    return family


def judged(collapses=(), exponents=(), primary=True, family=None):
    """The verdicts on numbers that were not measured."""
    family = family or only(known())
    model = "two_layer" if family.optimizer == "gd" else "feature_layer"
    expected = moves(model, family.optimizer, family.init)
    scaled = Scaling(None, family.log2_sizes, {}, dict(exponents))
    scalings = {("test_loss", 0.5): scaled} if exponents else {}
    found = Measured(family, expected, None, dict(collapses), (), scalings, {}, ())
    return list(verdicts._verdicts(found, CFG, primary))


def fit(value, half):
    return Collapse(value, *(tuple(v + s * half for v in value) for s in (-1, 1)), {}, 99)


@pytest.mark.parametrize(
    ("value", "half", "outcome"),
    [
        ((-1.02, 0.05), 0.04, ("holds", "holds")),  # The margin is 0.1.
        ((-0.5, -0.5), 0.04, ("fails", "fails")),
        ((-1.0, -0.5), 0.09, ("holds", "fails")),
        ((-1.0, 0.0), 0.2, ("undecided", "undecided")),
        ((-0.95, 0.05), 0.08, ("undecided", "undecided")),
        ((-0.901, 0.0), 0.05, ("undecided", "holds")),
        ((-1.0, np.nan), 0.04, ("holds", "undecided")),
        ((-1.0, 0.0), 1.1, ("undecided", "undecided")),  # Wider than decide.widest.
    ],
)
def test_a_collapse_is_judged_by_its_margin(value, half, outcome):
    a, b = judged({("test_loss", 10): fit(value, half)})
    assert (a.outcome, b.outcome) == outcome
    assert (a.what, b.what) == ("collapse c_a", "collapse c_b")
    assert (a.predicted, b.predicted) == (-1, 0)
    assert (a.value, a.low, a.high) == (value[0], value[0] - half, value[0] + half)
    assert ("undetermined" in a.note) == (half > 1)
    if (value, half) == ((-0.95, 0.05), 0.08):
        assert a.note == "about 2.7 times the seeds would decide"  # (0.08 / 0.05)², of 6 seeds.
    if value[0] == -0.901:  # An interval of 0.001: (0.05 / 0.001)² = 2500 times.
        assert a.note == "more than 100 times the seeds would decide"


def test_the_primary_endpoint_is_of_the_sweep_loss_and_step_that_decide():
    fits = {(curve, t): fit((-1.0, 0.0), 0.05) for curve in ("test_loss", "train_loss")
            for t in (2, 5, 10)}  # fmt: skip
    marked = {(v.where, v.what) for v in judged(fits) if v.primary}
    assert marked == {("test, t = 10", "collapse c_a"), ("test, t = 10", "collapse c_b")}
    assert not any(v.primary for v in judged(fits, primary=False))
    assert [v.decides for v in judged(fits, primary=False)].count(True) == 2


@pytest.mark.parametrize(
    ("name", "over", "primary"),
    [("two_layer", "n", True), ("layer_adam", "n", False), ("two_layer", "r", False)],
)
def test_only_the_sweep_that_decides_has_it_over_widths(name, over, primary):
    data = known(widths=(16, 32, 64), seeds=(6, 6, 6))
    family = only(data if over == "n" else data.rename({"n": "r", "r": "n"}))
    assert family.over == over
    for v in measure(family, name, "two_layer", CFG).verdicts:
        assert v.primary == (primary and v.what.startswith("collapse") and v.decides)


@pytest.mark.parametrize(
    ("model", "optimizer", "init", "law"),
    [
        ("feature_layer", "adam", "A", -0.5),
        ("feature_layer", "sign", "B", -1),  # By the loss; by ΔZ_B it would be −1/2.
        ("feature_layer", "adam", "both", None),
        ("feature_layer", "gd", "A", None),
        ("two_layer", "gd", "both", None),
    ],
)
def test_over_ranks_a_law_is_predicted_where_there_is_one(model, optimizer, init, law):
    """It is derived for sign and Adam updates of a layer: elsewhere nothing is predicted."""
    data = known((-0.5, -0.5), widths=(4, 8, 16), seeds=(6, 6, 6), plane=False,
                 optimizer=optimizer, init=init).rename({"n": "r", "r": "n"})  # fmt: skip
    found = measure(only(data), "rank", model, CFG).verdicts
    assert {v.predicted for v in found if v.what == "shared η*"} == {law}
    assert {v.predicted for v in found if v.what != "shared η*"} == {None}
    assert {v.outcome == "" for v in found if v.what == "shared η*"} == {law is None}


def test_a_family_that_moves_as_predicted_holds_and_another_fails():
    def verdict_of(truth):
        family = only(known(truth, widths=(16, 64, 256), seeds=(12, 12, 12)))
        return {v.what: v for v in measure(family, "two_layer", "two_layer", CFG).verdicts
                if v.decides}  # fmt: skip

    right, wrong = verdict_of((-1, 0)), verdict_of((0, 0))
    assert abs(right["collapse c_a"].value + 1) < 0.1
    assert abs(right["collapse c_b"].value) < 0.1
    assert wrong["collapse c_a"].outcome == "fails"
    assert wrong["collapse c_b"].outcome != "fails"
    assert right["collapse c_a"].outcome != "fails"


NO = (np.nan, np.nan, np.nan)
EXPONENTS = {
    "holds": Exponent(-1.0, -1.1, -0.9, "determined", (), (4, 5, 6), (), ()),
    "fails": Exponent(-0.5, -0.6, -0.4, "determined", (), (4, 5, 6), (), ()),
    "undecided": Exponent(-1.0, -1.3, -0.7, "determined", (), (4, 5, 6), (), ()),
    "holds: n = 2^7 left out: all diverged": Exponent(
        -1.0, -1.1, -0.9, "determined", (), (4, 5, 6), ("n = 2^7 left out: all diverged",), ()
    ),
    "undecided: no optimum; best at the largest η_A (n = 2^5)": Exponent(
        -1.0, -1.1, -0.9, "no optimum", ("best at the largest η_A (n = 2^5)",), (4, 5, 6), (), ()
    ),
    "undecided: undetermined; the interval is 1.50 wide": Exponent(
        -1.0, -1.75, -0.25, "undetermined", ("the interval is 1.50 wide",), (4, 5, 6), (), ()
    ),
    "undecided: no fit; 2 widths, a fit needs 3; n = 2^6 left out: all diverged": Exponent(
        *NO, "no fit", ("2 widths, a fit needs 3",), (), ("n = 2^6 left out: all diverged",), ()
    ),
}


@pytest.mark.parametrize("said", EXPONENTS)
def test_an_exponent_that_is_not_determined_decides_nothing_and_says_why(said):
    outcome, _, why = said.partition(": ")
    (found,) = judged(exponents={"eta_a": EXPONENTS[said]}.items())
    assert found.outcome == outcome
    assert found.predicted == -1
    if why or outcome != "undecided":
        assert found.note == why
    else:
        assert found.note.endswith("times the seeds would decide")


def test_what_is_not_predicted_is_shown_without_a_verdict():
    family = only(known(optimizer="adam", init="B"))
    (found,) = judged(exponents={"edge B": EXPONENTS["holds"]}.items(), family=family)
    assert (found.predicted, found.outcome) == (None, "")


def test_where_a_sum_is_predicted_it_is_judged_beside_both_exponents():
    family = only(known(optimizer="adam", init="B"))
    a, b, both = judged({("test_loss", 10): fit((-1.0, 0.0), 0.05)}, family=family)
    assert (a.predicted, b.predicted) == (-0.5, -0.5)
    assert (a.outcome, b.outcome) == ("fails", "fails")
    assert (both.what, both.predicted) == ("collapse c_a + c_b", -1)


def test_a_line_alone_has_no_places_in_the_plane():
    family = only(known(plane=False))
    found = measure(family, "two_layer", "two_layer", CFG)
    assert found.collapses == {}
    assert found.pairs == ()
    assert {v.what for v in found.verdicts} == {"shared η*", "edge, η_A = η_B"}


def test_few_seeds_of_curvature_have_no_slope_and_break_nothing():
    data = known(widths=(16, 32, 64), seeds=(6, 6, 6))
    n = data.n.values[:, None, None, None]
    for count, expected in ((1, False), (4, True)):
        seen = np.where(np.arange(6) < count, 1.0, np.nan)[:, None, None]
        block = np.array([1.0, 0.0, 1.0])[:, None]  # A and both as n, and B nothing.
        values = n * seen * block * np.array([-1.0, 1.0]) + 0 * data.ran.values[..., None, None]
        with_ends = data.assign(curvature=((*data.ran.dims, "block", "end"), values))
        with_ends = with_ends.assign_coords(block=["A", "B", "both"], end=["least", "largest"])
        found = measure(only(with_ends), "two_layer", "two_layer", CFG)
        slopes = {v.what: v for v in found.verdicts if v.what.startswith("λ_max")}
        assert bool(slopes) == expected
    a, b = slopes["λ_max A"], slopes["λ_max B"]
    assert (a.predicted, a.outcome) == (1, "holds")
    assert a.value == pytest.approx(1)
    assert b.note == "identically zero"
    assert b.outcome == "fails"  # Of both random factors neither block is 0.


def test_the_careful_judge_is_shown_beside_and_decides_nothing():
    found = measure(only(known(widths=(16, 32, 64), seeds=(8, 8, 8))), "x", "two_layer", CFG)
    careful = [v for v in found.verdicts if f"{100 * CAREFUL:g} %" in v.where]
    assert careful
    assert not any(v.decides for v in careful)
    same = dataclasses.replace(CFG, decide=dataclasses.replace(CFG.decide, quantile=CAREFUL))
    found = measure(found.family, "x", "two_layer", same)
    assert all("75 %" in v.where for v in found.verdicts if v.what == "λ*")


def curved(optimizer):
    """Curvature that grows as n in A and not in B."""
    data = known(widths=(16, 32, 64), seeds=(6, 6, 6), optimizer=optimizer, init="A")
    n = data.n.values[:, None, None, None]
    noise = 2 ** (0.01 * np.random.default_rng(0).normal(size=(6, 1, 1)))
    values = np.where([[True], [False], [True]], n, 1) * noise * np.ones(2)
    with_ends = data.assign(
        curvature=((*data.ran.dims, "block", "end"), values + 0 * data.ran.values[..., None, None])
    )
    with_ends = with_ends.assign_coords(block=["A", "B", "both"], end=["least", "largest"])
    found = measure(only(with_ends), "x", "feature_layer", CFG)
    return {v.what: v for v in found.verdicts if v.what.startswith("λ_max")}


@pytest.mark.parametrize(
    ("optimizer", "where", "predicted"),
    [
        ("adam", "as Adam preconditions it", 1.0),
        ("adamw", "at the start", None),
        ("sign", "at the start", None),
    ],
)
def test_curvature_is_judged_where_it_was_measured_as_predicted(optimizer, where, predicted):
    found = curved(optimizer)["λ_max A"]
    assert (found.where, found.predicted) == (where, predicted)
    assert found.outcome == ("" if predicted is None else "holds")


FLAT = Collapse((np.nan, np.nan), (np.nan, np.nan), (np.nan, np.nan), {}, 3)


@pytest.mark.parametrize(
    ("fitted", "note"),
    [
        (FLAT, "undetermined; flat: 3 cells differ"),
        (fit((-1.0, 0.0), np.nan), "undetermined; no interval over seeds"),
        (
            fit((-1.0, 0.0), 0.01)._replace(pinned=(True, False)),
            "undetermined; the window allows no other",
        ),
        (fit((-1.0, 0.0), 3.0), "undetermined; the interval is 6.00 wide"),
    ],
)
def test_a_collapse_that_says_nothing_is_undetermined_and_says_why(fitted, note):
    a, _ = judged({("test_loss", 10): fitted})
    assert (a.determined, a.note, a.outcome) == (False, note, "undecided")


def test_a_window_that_decides_one_exponent_says_something_of_the_sum():
    family = only(known(optimizer="adam", init="B"))
    for pinned, known_sum in (((True, False), True), ((True, True), False)):
        draws = np.full((20, 2), -0.5)
        fitted = fit((-0.5, -0.5), 0.01)._replace(pinned=pinned, draws=draws, seeds=6)
        *_, total = judged({("test_loss", 10): fitted}, family=family)
        assert total.determined == known_sum
