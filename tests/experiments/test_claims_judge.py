"""The judge, on measurements made by hand: every pair of constants counts, for a claim and for its
control, and the way from small widths is told as it is.
"""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from experiments.claims import judge, reduction, settings
from experiments.claims.experiment import ClaimsConfig
from experiments.claims.judge import Judge
from experiments.claims.settings import Diagram, Escapes, Group, Limits
from experiments.lab.command_line import load
from lora_theory.terms import Class, Setting, Verdict
from lora_theory.theory.claims import (
    Claim,
    Escape,
    Exponents,
    Identity,
    Limit,
    Phase,
    Reduction,
    Split,
    Symmetry,
)
from lora_theory.theory.escape import steps_per_log
from lora_theory.theory.rules import LINEAR_GD

NO, ONE, HALF = Fraction(0), Fraction(-1), Fraction(-1, 2)
MAP = Setting("map", "gd", "A", ONE, NO)
OFF = Setting("map", "gd", "A", ONE, Fraction(1, 12))
RANK = Setting("rank_map", "sign", "A", HALF, HALF, c_n=HALF)
TRAINED = Setting("two_layer", "sign", "both", ONE, NO, samples=8)


@pytest.fixture(scope="module")
def cfg():
    options = ["constants.scales=[0.2,2]", "constants.ratios=[1,4]", "seeds.map=12"]
    return load("claims", ClaimsConfig, [*options, "way_log2_widths=[7,11,15,19,23]"])


def measured(cfg, setting, seeds=12, error=1e-3, **slopes):
    """A group of one setting: of each quantity at t = 1 the slopes at all pairs of constants."""
    group, rng = Group((setting,)), np.random.default_rng(0)
    sizes = settings.log2_sizes(group, cfg)
    x = (sizes - sizes.mean())[:, None]
    arrays = {}
    for name, at in slopes.items():
        each = np.broadcast_to(at, 4)[:, None, None] + error * rng.normal(size=(4, 1, seeds))
        arrays[name] = (each * x)[None, ..., None]
    return {group: lambda: arrays}


def exponents(setting=MAP, t=1, **predicted):
    said = {name: None if e is None else Fraction(e) for name, e in predicted.items()}
    return Exponents(setting, t, said, LINEAR_GD)


def claimed(*cases, control=()):
    return Claim("c", "", "", cases, "wrong", control or cases)


# --- Every pair of constants ---


@pytest.mark.parametrize(
    ("slopes", "verdicts"),
    [
        ([0, 0, 0, 0], ["holds"] * 4),
        ([0, 0, 0.5, 0], ["holds", "holds", "fails", "holds"]),
        ([0.02, 0, 0, 0], ["undecided", "holds", "holds", "holds"]),
        ([np.nan, 0, 0, 0], ["undecided", "holds", "holds", "holds"]),
        ([-np.inf, 0, 0, 0], ["fails", "holds", "holds", "holds"]),
    ],
)
def test_a_claim_holds_only_if_it_does_at_every_pair(cfg, slopes, verdicts):
    with np.errstate(invalid="ignore"):
        pieces = measured(cfg, MAP, f=slopes)
    if -np.inf in slopes:  # Exactly 0 at this pair.
        (read,) = pieces.values()
        arrays = read()
        arrays["f"][0, slopes.index(-np.inf)] = -np.inf
    found = Judge(cfg, pieces).claim(claimed(exponents(f="0"))).found
    assert [row.verdict for row in found.rows] == verdicts
    assert [row.constants for row in found.rows] == cfg.constants.pairs
    assert found.verdict == next((v for v in ("fails", "undecided") if v in verdicts), "holds")


def test_the_pair_stands_in_the_words_of_its_row(cfg):
    found = Judge(cfg, measured(cfg, MAP, f=0)).claim(claimed(exponents(f="0"))).found
    assert found.rows[1].where == (
        "map, gd, Init[1], (-1, 0); t = 1; k_a = 0.4, k_b = 0.1; n = 2^1400 to 2^5600; 12 seeds"
    )
    assert found.rows[1].log2_sizes == (1400.0, 2800.0, 5600.0)


@pytest.mark.parametrize(
    ("slopes", "verdict"),
    [
        ([0.5, 0.5, 0.5, 0.5], "fails"),
        ([0.5, 0.5, 0.5, 0], "holds"),
        ([0.02, 0.5, 0.5, 0.5], "undecided"),
    ],
)
def test_a_control_must_be_caught_at_every_pair(cfg, slopes, verdict):
    """One at which it is not is enough, even if the case fails at the others."""
    pieces = measured(cfg, MAP, f=0) | measured(cfg, OFF, f=slopes)
    claim = claimed(exponents(f="0"), control=(exponents(OFF, f="0"),))
    judged = Judge(cfg, pieces).claim(claim)
    assert (judged.found.verdict, judged.control.verdict) == ("holds", verdict)


def test_of_a_control_one_quantity_is_enough_but_no_case_is_left_out(cfg):
    pieces = measured(cfg, MAP, f=0, Z_A=0) | measured(cfg, OFF, f=0.5, Z_A=0)
    judged = Judge(cfg, pieces)
    wrong, right = exponents(OFF, f="0", Z_A="0"), exponents(f="0", Z_A="0")
    assert judged.claim(claimed(right, control=(wrong,))).control.verdict == "fails"
    assert judged.claim(claimed(right, control=(wrong, right))).control.verdict == "holds"


POINTS = ((ONE, NO), (HALF, HALF))


def classes(*rows):
    verdicts = tuple(Verdict)
    found = np.array(
        [[-1 if c is None else verdicts.index(c.verdict) for c in row] for row in rows]
    )
    return {
        "verdict": found,
        "from_t": np.array([[(c and c.from_t) or 0 for c in row] for row in rows]),
    }


EFFICIENT, LATE = Class(Verdict.EFFICIENT), Class(Verdict.UNSTABLE, 3)


@pytest.mark.parametrize(
    ("third", "verdicts"),
    [
        ([EFFICIENT, LATE], ["holds"] * 4),
        ([EFFICIENT, Class(Verdict.UNSTABLE, 4)], ["holds", "holds", "fails", "holds"]),
        ([None, LATE], ["holds", "holds", "undecided", "holds"]),
        ([None, EFFICIENT], ["holds", "holds", "fails", "holds"]),
    ],
)
def test_a_diagram_has_a_row_a_pair_and_each_must_be_right(cfg, third, verdicts, monkeypatch):
    monkeypatch.setattr(Phase, "classes", lambda self: [EFFICIENT, LATE])
    case = Phase("gd", "A", POINTS, "A")
    right = [EFFICIENT, LATE]
    arrays = classes(right, right, third, right)
    judged = Judge(cfg, {Diagram("map", "gd", "A", POINTS): lambda: arrays})
    found = judged.claim(claimed(case)).found
    assert [row.verdict for row in found.rows] == verdicts
    assert "; k_a = 4, k_b = 1; " in found.rows[3].where
    assert judged.claim(claimed(case)).control.verdict == "holds"  # Of those that are right.
    wrong = classes(*[[EFFICIENT, EFFICIENT]] * 4)
    others = Judge(cfg, {Diagram("map", "gd", "A", POINTS): lambda: wrong})
    assert others.claim(claimed(case)).control.verdict == "fails"


def test_a_drawn_point_has_the_class_of_every_pair_or_the_one_that_is_wrong(cfg):
    twice = (POINTS[0], POINTS[0])
    for third, drawn in (
        (EFFICIENT, ("efficient", None, True)),
        (LATE, ("unstable", 3, False)),
        (None, (None, None, None)),
    ):
        arrays = classes([EFFICIENT], [EFFICIENT], [third], [EFFICIENT])
        judged = Judge(cfg, {Diagram("map", "gd", "A", twice[:1]): lambda found=arrays: found})
        (point,) = judged._diagram("map", "gd", "A").points
        assert (point.measured, point.measured_t, point.agrees) == drawn


# --- When the saddle is left ---


def escapes(cfg, factors, case=None):
    case = case or Escape("A", Fraction(-1, 4))
    rng = np.random.default_rng(0)
    product, y = 0.05 + 0.2 * rng.random((4, 12)), np.tile(1 + rng.random(12), (4, 1))
    slopes = [
        [f * steps_per_log(float(case.c_b), *of) for of in zip(*at, strict=True)]
        for f, at in zip(factors, zip(product, y, strict=True), strict=True)
    ]
    slopes = np.array(slopes) * (1 + 1e-4 * rng.normal(size=(4, 12)))
    arrays = {"slopes": slopes, "product": product, "y": y}
    return {Escapes(case.init, case.c_b): lambda: arrays}


def test_steps_to_escape_are_judged_seed_by_seed_at_each_pair(cfg):
    case = Escape("A", Fraction(-1, 4))
    judged = Judge(cfg, escapes(cfg, [1, 1, 1.1, 1])).claim(claimed(case))
    assert [row.verdict for row in judged.found.rows] == ["holds", "holds", "fails", "holds"]
    assert judged.control.verdict == "holds"  # It must be caught at every pair.
    row = judged.found.rows[2]
    assert (row.quantity, row.predicted, row.t) == ("escape", "1", None)
    assert row.measured == pytest.approx(1.1, abs=1e-3)
    assert (row.margin, row.confidence, row.seeds) == (0.02, 1 - 0.05 / 4, 12)
    assert row.where == (
        "map, gd, Init[1], c_a + c_b = -1, c_b = -1/4; k_a = 2, k_b = 2; "
        "n = 2^1400 to 2^5600; 12 seeds"
    )


@pytest.mark.parametrize("wrong", [{"wrong": "root"}, {"wrong": "target"}, {"like": Fraction(1)}])
def test_what_is_predicted_wrongly_of_an_escape_is_caught(cfg, wrong):
    case = Escape("A", Fraction(-1, 4))
    control = (dataclasses.replace(case, **wrong),)
    judged = Judge(cfg, escapes(cfg, [1, 1, 1, 1])).claim(claimed(case, control=control))
    assert (judged.found.verdict, judged.control.verdict) == ("holds", "fails")


def test_a_run_that_never_leaves_decides_nothing(cfg):
    pieces = escapes(cfg, [1, 1, 1, 1])
    (read,) = pieces.values()
    read()["slopes"][1, 3] = np.nan
    found = Judge(cfg, pieces).claim(claimed(Escape("A", Fraction(-1, 4)))).found
    assert [row.verdict for row in found.rows] == ["holds", "undecided", "holds", "holds"]
    assert found.rows[1].measured is None


# --- Who shares the confidence, and which margin ---


def test_exponents_of_all_constants_share_the_confidence_of_a_claim(cfg):
    one, two = exponents(f="0", Z_A="0"), exponents(OFF, f="0")
    escape = Escape("A", Fraction(-1, 4))
    assert judge.shared((one,), cfg) == 8
    assert judge.shared((one, two), cfg) == 12
    assert judge.shared((one, two, escape), cfg) == 16
    others = (
        Identity(("delta1",)),
        Symmetry("layer", "gd", "A", Fraction(2), Fraction(2), 2),
        Split("layer", "gd", "both", "rotation"),
        Reduction("layer", "sign", 1, ("A",), ((NO, NO),)),
        Phase("gd", "A", POINTS, "A"),
    )
    assert judge.shared((*others, one), cfg) == 8
    assert judge.shared(others, cfg) == 1
    pieces = measured(cfg, MAP, f=0, Z_A=0) | measured(cfg, OFF, f=0)
    judged = Judge(cfg, pieces).claim(claimed(one, two))
    assert {row.confidence for row in judged.found.rows} == {1 - 0.05 / 12}
    # Of a control each case alone.
    assert [row.confidence for row in judged.control.rows] == [1 - 0.05 / 8] * 8 + [
        1 - 0.05 / 4
    ] * 4


@pytest.mark.parametrize(
    ("setting", "margin"),
    [
        (MAP, 0.02),
        (dataclasses.replace(MAP, model="layer_map"), 0.02),
        (dataclasses.replace(MAP, model="two_layer_limit"), 0.02),
        (RANK, 0.05),
        (TRAINED, 0.1),
    ],
)
def test_the_margin_is_that_of_how_a_model_is_solved(cfg, setting, margin):
    assert judge.bounds(cfg, setting, 20) == (margin, 1 - (1 - 0.95) / 20)


def test_exponents_in_vectors_are_fitted_over_their_own_widths(cfg):
    found = Judge(cfg, measured(cfg, TRAINED, f=0.06)).claim(claimed(exponents(TRAINED, f="0")))
    assert {row.verdict for row in found.found.rows} == {"holds"}
    assert found.found.rows[0].log2_sizes == (7, 8, 9, 10, 11)
    assert found.ways == ()


# --- On the way ---

STARTS = (7.0, 11.0, 15.0, 19.0)
NAN = np.nan


def way_of(cfg, slopes, setting=MAP, predicted="1/2", t=1):
    """Slopes (C, K) of f on the way, judged."""
    at = np.full((4, len(slopes[0]), 2), 9.0)
    at[..., t - 1] = np.resize(slopes, (4, len(slopes[0])))
    judged = Judge(cfg, {})
    judged._ways[setting] = {"f": at, "Z_A": at}
    (found,) = judged._ways_of(exponents(setting, t, f=predicted))
    return found


@pytest.mark.parametrize(
    ("slopes", "start"),
    [
        ([[0.5, 0.5, 0.5, 0.5]], 7.0),
        ([[0.41, 0.59, 0.5, 0.5]], 7.0),
        ([[0.39, 0.5, 0.5, 0.5]], 11.0),
        ([[0.5, 0.5, 0.7, 0.5]], 19.0),
        ([[0.7, 0.5, 0.7, 0.5]], 19.0),
        ([[0.5, 0.5, 0.5, 0.7]], None),
        ([[0.9, 0.9, 0.9, 0.9]], None),
        ([[NAN, 0.5, 0.5, 0.5]], 11.0),
        ([[0.5, 0.5, 0.5, NAN]], None),
        ([[0.5] * 4, [0.5] * 4, [0.5, 0.2, 0.5, 0.5], [0.5] * 4], 15.0),
        ([[0.2, 0.5, 0.5, 0.5], [0.5, 0.5, 0.9, 0.5]] * 2, 19.0),
    ],
    ids=str,
)
def test_slopes_have_arrived_where_all_are_near_from_there_on(cfg, slopes, start):
    """At every pair of constants; one that leaves again has not."""
    found = way_of(cfg, slopes)
    assert found.from_log2_width == start
    ends = np.array(slopes)[:, 0]
    wanted = (None, None) if np.isnan(ends).any() else (ends.min(), ends.max())
    assert (found.low, found.high) == wanted
    assert (found.setting, found.quantity, found.t) == (str(MAP), "f", 1)
    assert found.predicted == "1/2"
    assert found.where == "n = 2^7 to 2^11"


def test_slopes_on_the_way_are_those_of_the_step_of_the_claim(cfg):
    assert way_of(cfg, [[0.5] * 4], t=2).from_log2_width == 7.0
    assert way_of(cfg, [[0.9] * 4], t=2).from_log2_width is None


def test_a_slope_that_is_no_number_is_none(cfg):
    """A report of what overflows could not be written."""
    found = way_of(cfg, [[np.inf, 0.5, 0.5, 0.5]])
    assert (found.low, found.high, found.from_log2_width) == (None, None, 11.0)


def test_the_way_of_exponents_of_the_rank_is_a_width_alone(cfg):
    """Every second width from the widest down that no rank is too large for."""
    found = way_of(cfg, [[0.9, 0.5, 0.5]], RANK)
    assert (found.where, found.from_log2_width) == ("n = 2^7", 15.0)


def test_what_is_zero_or_trained_in_vectors_or_no_exponent_has_no_way(cfg):
    judged = Judge(cfg, {})
    judged._ways[MAP] = {"f": np.zeros((4, 4, 1))}
    for case in (exponents(f=None), exponents(TRAINED, f="0"), Phase("gd", "A", POINTS, "A")):
        assert judged._ways_of(case) == []


# --- Reductions ---


@pytest.mark.parametrize(("gap", "verdict"), [(1e-12, "holds"), (1e-8, "holds"), (2e-8, "fails")])
def test_a_reduction_holds_to_rounding(cfg, gap, verdict):
    case = Reduction("layer", "sign", 1, ("A", "B"), ((ONE, NO), (HALF, HALF)))
    judged = Judge(cfg, {case: lambda: {"gaps": np.array([gap])}}).claim(claimed(case))
    assert (judged.found.verdict, judged.control.verdict) == (verdict, verdict)
    (row,) = judged.found.rows
    assert row.where == (
        "layer, sign, Init[1], Init[2]; 2 rates, all constants; "
        f"n = {' and '.join(map(str, reduction.WIDTHS))}; t = 1 to 3; {reduction.SEEDS} seeds"
    )
    assert (row.badness > 1) == (verdict == "fails")


# --- The limit of eq. 3 beside vectors ---


def compared(cfg, case, off):
    """Sizes of both by hand: vectors are `off` bits larger, at every pair that is compared."""
    rng, pairs = np.random.default_rng(1), len(reduction.lazy_pairs(cfg))
    off = np.broadcast_to(off, pairs)[:, None]
    arrays = {}
    for name in case.predicted:
        limit = rng.normal(size=(pairs, 400))
        arrays[name] = np.stack([limit + off + 0.1 * rng.normal(size=limit.shape), limit])
    return {Limits((case,)): lambda: arrays}


@pytest.mark.parametrize(
    ("off", "verdict"), [(0.0, "holds"), (-0.1, "holds"), (0.5, "undecided"), (-0.9, "fails")]
)
def test_the_limit_is_that_of_vectors_within_its_margin_of_bits(cfg, off, verdict):
    case = Limit((ONE, NO), (1, 2))
    found = Judge(cfg, compared(cfg, case, off)).claim(claimed(case)).found
    assert {row.verdict for row in found.rows} == {verdict}
    assert len(found.rows) == len(case.predicted) * len(reduction.lazy_pairs(cfg))
    assert {row.constants for row in found.rows} == set(reduction.lazy_pairs(cfg))
    for row in found.rows:
        assert row.low < off < row.high
        assert (row.margin, row.predicted, row.setting) == (0.5, "0", str(case))


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
def test_a_seed_that_is_no_number_is_not_dropped_from_the_comparison_with_the_limit(cfg, value):
    case = Limit((ONE, NO), (1,))
    ((_, read),) = compared(cfg, case, 0.0).items()
    arrays = {name: both.copy() for name, both in read().items()}
    arrays["f, t = 1"][0, 0, 3] = value
    found = Judge(cfg, {Limits((case,)): lambda: arrays}).claim(claimed(case)).found
    assert found.verdict == "undecided"
    (row,) = (row for row in found.rows if row.verdict != "holds")
    assert (row.quantity, row.measured, row.seeds) == ("f, t = 1", None, 400)


def test_a_limit_is_compared_at_small_constants_and_its_control_at_each(cfg):
    pairs = reduction.lazy_pairs(cfg)
    assert pairs == [pair for pair in cfg.constants.pairs if max(pair) < 0.5] != []
    assert len(pairs) < len(cfg.constants.pairs)
    case = Limit((ONE, NO), (1,))
    right = compared(cfg, case, [0.0, *[-0.9] * (len(pairs) - 1)])
    assert Judge(cfg, right).claim(claimed(case)).control.verdict == "holds"  # One is not caught.
    wrong = compared(cfg, case, -0.9)
    assert Judge(cfg, wrong).claim(claimed(case)).control.verdict == "fails"


def test_limits_at_the_same_rates_share_what_is_trained(cfg):
    """And each is judged by its own sizes, whatever stands beside it."""
    right = Limit((ONE, NO), (1,))
    wrong, other = dataclasses.replace(right, wrong=HALF), Limit((ONE, ONE), (1,))
    assert settings.limits([right, wrong, other, right]) == [
        Limits((right, wrong)),
        Limits((other,)),
    ]
    (one,), (two,) = (
        compared(cfg, case, off).values() for case, off in ((right, 0), (wrong, -0.9))
    )
    arrays = {name: np.concatenate([one()[name], two()[name][1:]]) for name in right.predicted}
    for name in arrays:  # Beside the same vectors.
        arrays[name][2] = arrays[name][0] + 0.9
    judged = Judge(cfg, {Limits((right, wrong)): lambda: arrays}).claim(
        claimed(right, control=(wrong,))
    )
    assert (judged.found.verdict, judged.control.verdict) == ("holds", "fails")
