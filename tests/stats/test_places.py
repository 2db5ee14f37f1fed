"""Where optima and edges lie in landscapes that are known."""

import numpy as np
import pytest

from lora_theory.stats.landscapes import Judge, Landscape
from lora_theory.stats.places import EDGES, OPTIMA, near, read

RATES = 2.0 ** np.arange(-8, 1)
WITH_0 = np.concatenate([[0.0], RATES])
INF = np.inf


def land(losses, rates=RATES):
    losses = np.asarray(losses, float)
    return Landscape(losses, np.full(len(losses), 8.0), rates, rates)


def basin(a, b, rates=RATES, width=0.1):
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log2(rates), -20)
    squares = (logs[:, None] - a) ** 2 + (logs - b) ** 2
    return land(2.0 ** (width * squares)[None].repeat(3, axis=0), rates)


def found(at, judge=None):
    reading = read(at, at.diagonal, judge or Judge())
    return dict(zip((*OPTIMA, *EDGES), reading.places, strict=True)), reading.sides


def centre_by_loops(losses, rates):
    """Weights 1 − 4 log2(L / L*) over cells of positive rates, by plain loops."""
    least = min(
        losses[i, j]
        for i in range(len(rates))
        for j in range(len(rates))
        if rates[i] * rates[j] > 0
    )
    total = sum_a = sum_b = 0.0
    for i, eta_a in enumerate(rates):
        for j, eta_b in enumerate(rates):
            weight = 1 - 4 * np.log2(losses[i, j] / least) if eta_a * eta_b > 0 else 0
            if weight > 0:
                total += weight
                sum_a += weight * np.log2(eta_a)
                sum_b += weight * np.log2(eta_b)
    return sum_a / total, sum_b / total


@pytest.mark.parametrize("rates", [RATES, WITH_0])
@pytest.mark.parametrize("middle", [(-5, -2), (-4.4, -3.1)])
def test_centres_are_those_of_plain_loops(middle, rates):
    at = basin(*middle, rates)
    places, sides = found(at)
    a, b = centre_by_loops(at.losses[0], rates)
    assert (places["eta_a"], places["eta_b"]) == pytest.approx((a, b))
    assert places["ratio"] == pytest.approx(b - a)
    assert sides == (0, 0, 0)
    # Nearer to the middle than the best cell can be.
    assert np.abs(np.subtract((a, b), middle)).max() < 0.12


def edge_by_loops(edges, rates, level):
    """log2 of where the share of edges below a rate passes the level, linear between rates."""
    before, share_before = None, 0.0
    for rate in rates:
        share = sum(edge <= rate for edge in edges) / len(edges)
        if share >= level:
            if before is None:
                return np.log2(rate) if share == level else -INF
            part = (level - share_before) / (share - share_before)
            return np.log2(before) + part * (np.log2(rate) - np.log2(before))
        before, share_before = rate, share
    return INF


@pytest.mark.parametrize("rates", [RATES, WITH_0])
@pytest.mark.parametrize("share", [0.5, 0.75])
@pytest.mark.parametrize("middle", [-3.0, -8.4, 0.4, -20.0, 5.0])
def test_edges_are_those_of_plain_loops(middle, share, rates):
    edges = 2.0 ** (middle + np.random.default_rng(0).normal(size=12))
    losses = np.ones((12, len(rates), len(rates)))
    losses[rates[None, :, None] + 0 * losses >= edges[:, None, None]] = INF
    places, _ = found(land(losses, rates), Judge(share))
    truth = edge_by_loops(edges, RATES, 1 - share)
    for name in ("edge A", "edge equal"):
        assert places[name] == pytest.approx(truth)
    assert places["edge B"] == (-INF if (edges <= rates[0]).mean() >= 1 - share else INF)
    turned, _ = found(land(losses.transpose(0, 2, 1), rates), Judge(share))
    assert turned["edge B"] == pytest.approx(truth)


def test_the_careful_judge_sees_the_edge_earlier():
    losses = np.ones((8, 9, 9))
    for s in range(8):
        losses[s, s + 1 :] = INF
    places = [found(land(losses), Judge(q))[0]["edge A"] for q in (0.5, 0.75)]
    assert places == [-4, -6]
    # It is where the judged loss turns to ∞.
    for q, edge in zip((0.5, 0.75), places, strict=True):
        judged = Judge(q).judge(losses)[:, 0]
        assert np.isinf(judged[np.log2(RATES) >= edge]).all()
        assert np.isfinite(judged[np.log2(RATES) < edge]).all()


def test_a_run_that_comes_back_has_diverged_before():
    losses = np.ones((2, 9, 9))
    losses[:, 3] = INF
    assert found(land(losses))[0]["edge A"] == -5.5


def test_sides_and_regions():
    at = basin(-30, -3, WITH_0)
    places, sides = found(at)
    assert sides[0] == -2
    assert np.isfinite(places["eta_a"])  # Among positive rates.
    around = near(at, at.diagonal, Judge())
    assert around.best[:2] == (-INF, -3)
    assert around.best[2] == INF
    assert -2 in around.touched[0]
    assert around.touched[1] == frozenset()
    assert found(basin(3, -20))[1][:2] == (1, -1)
    wide = basin(-4, -4, width=0.01)  # Within 5 % where the distance is at most √7 cells.
    region = near(wide, wide.diagonal, Judge()).regions
    assert region[0] == ((-5, -3), (-6, -2))
    assert region[2] == ((-1, 1), (-3, 3))
    assert region[3] == ((-4, -4), (-5, -3))
    flat = land(np.ones((2, 9, 9)))
    assert near(flat, flat.diagonal, Judge()).touched == (frozenset({-1, 1}),) * 3


def test_what_is_not_there_is_nan():
    nothing = land(np.full((2, 9, 9), INF))
    places, sides = found(nothing)
    assert np.isnan([places[name] for name in OPTIMA]).all()
    assert [places[name] for name in EDGES] == [-INF] * 3
    assert sides == (0, 0, 0)
    unequal = Landscape(np.ones((2, 9, 9)), np.ones(2), RATES, 3 * RATES)
    places, _ = found(unequal)
    assert np.isnan([places["equal"], places["edge equal"]]).all()
    around = near(unequal, unequal.diagonal, Judge())
    assert np.isnan(around.best[3])
    assert np.isnan(around.regions[3]).all()


def test_a_best_loss_of_zero_is_a_place():
    losses = np.ones((1, 9, 9))
    losses[0, 4, 5] = 0
    places, _ = found(land(losses))
    assert (places["eta_a"], places["eta_b"]) == (-4, -3)
