"""Judges, chosen cells, the edge of stability and flatness, on landscapes that are known."""

import itertools

import numpy as np
import pytest
import xarray

from lora_theory.stats.intervals import quantile_interval
from lora_theory.stats.landscapes import (
    JUDGES,
    Judge,
    Landscape,
    best_equal_pair,
    best_pair,
    cell_size,
    edge,
    flatness,
    landscape,
    near_best,
    papers_mean,
)

ETA_A, ETA_B = np.array([1e-3, 1e-2, 1e-1]), np.array([1e-2, 1e-1, 1.0, 10.0])
INF = np.inf


def land(losses, eta_a=ETA_A, eta_b=ETA_B):
    losses = np.asarray(losses, float)
    return Landscape(losses, np.full(len(losses), 8.0), np.asarray(eta_a), np.asarray(eta_b))


# --- Reading ---


def results(curves, **floors):
    """A data set of losses (S, 3, 4, T)."""
    dims = ("seed", "eta_a", "eta_b", "step")
    variables = {name: (dims, np.asarray(curves)) for name in ("train_loss", "test_loss")}
    variables |= {name: ("seed", values) for name, values in floors.items()}
    return xarray.Dataset(variables, {"eta_a": ETA_A, "eta_b": ETA_B})


@pytest.mark.parametrize("curve", ["train", "test"])
def test_a_landscape_is_the_excess_over_each_seeds_floor(curve):
    curves = np.full((2, 3, 4, 3), 5.0, np.float32)
    curves[..., 0] = 8.0
    curves[0, 1, 2, 2] = 0.5  # Below its floor.
    curves[1, 0, 3, 1:] = np.nan
    found = landscape(results(curves, **{f"{curve}_floor": [1.0, 2.0]}), f"{curve}_loss", 2)
    np.testing.assert_array_equal(found.start, [7, 6])
    assert found.losses[0, 0, 0] == 4
    assert found.losses[1, 0, 0] == 3
    assert found.losses[0, 1, 2] == 0
    assert found.losses[1, 0, 3] == INF
    assert np.isfinite(found.losses).sum() == 23
    assert found.diverged[0, 3] == 0.5
    other = "test" if curve == "train" else "train"
    assert landscape(results(curves, test_floor=[1, 1]), "train_loss", 1).losses[0, 0, 0] == 5
    untouched = landscape(results(curves, **{f"{curve}_floor": [1, 1]}), f"{other}_loss", 1)
    assert untouched.losses[0, 0, 0] == 5
    np.testing.assert_array_equal(found.of_seeds(np.array([True, False])).losses, found.losses[:1])


# --- Judges ---


def looped(losses, judge):
    """The map by plain loops: neighbours first, then the order statistic over seeds."""
    seeds, rows, columns = losses.shape
    judged = np.empty((rows, columns))
    for i, j in itertools.product(range(rows), range(columns)):
        seen = []
        for s in range(seeds):
            near = sorted(
                float(losses[s, k, m])
                for k, m in itertools.product(range(i - 1, i + 2), range(j - 1, j + 2))
                if 0 <= k < rows and 0 <= m < columns
            )
            middle = (near[(len(near) - 1) // 2] + near[len(near) // 2]) / 2
            seen.append(
                {"cell": losses[s, i, j], "median": middle, "worst": near[-1]}[judge.around]
            )
        seen.sort()
        place = seeds * judge.quantile
        around = seen[max(int(np.ceil(place)) - 1, 0)], seen[min(int(place), seeds - 1)]
        judged[i, j] = sum(around) / 2
    return judged


@pytest.mark.parametrize(
    "shape", [(5, 6, 7), (4, 1, 1), (4, 1, 5), (4, 5, 1), (1, 2, 2), (2, 3, 3)]
)
@pytest.mark.parametrize("around", ["cell", "median", "worst"])
@pytest.mark.parametrize("share", [0.5, 0.75])
def test_judges_are_those_of_plain_loops(shape, around, share):
    rng = np.random.default_rng(0)
    losses = rng.random(shape)
    losses[rng.random(shape) < 0.3] = INF
    judge = Judge(share, around)
    np.testing.assert_array_equal(judge.judge(losses), looped(losses, judge))


def test_judges_of_all_diverged_and_of_zeros():
    for judge in JUDGES:
        assert np.isinf(judge.judge(np.full((3, 2, 2), INF))).all()
        assert not judge.judge(np.zeros((3, 2, 2))).any()
    assert len({str(judge) for judge in JUDGES}) == len(JUDGES)


def test_the_median_survives_a_diverged_seed_and_the_mean_does_not():
    losses = np.full((15, 1, 2), 5.0)
    losses[:, 0, 1] = 1.0
    losses[0, 0, 1] = INF
    assert Judge().judge(losses)[0, 1] == Judge(0.75).judge(losses)[0, 1] == 1
    assert papers_mean(losses).tolist() == [[5, INF]]


def test_the_order_of_seeds_is_no_matter():
    rng = np.random.default_rng(0)
    losses = rng.random((9, 4, 5))
    order = rng.permutation(9)
    for judge in JUDGES:
        np.testing.assert_array_equal(judge.judge(losses), judge.judge(losses[order]))


# --- Chosen cells ---


def test_chosen_pairs():
    judged = np.full((3, 4), 5.0)
    judged[1, 2], judged[2, 1] = 1.0, 2.0
    best, equal = best_pair(land([judged]), judged), best_equal_pair(land([judged]), judged)
    assert best == (1, 2, 0.01, 1.0, 1.0, False)
    assert best.ratio == pytest.approx(100)
    assert equal == (2, 1, 0.1, 0.1, 2.0, True)


def test_no_pairs():
    nothing = np.full((3, 4), INF)
    assert best_pair(land([nothing]), nothing) is None
    assert best_equal_pair(land([nothing]), nothing) is None
    assert best_equal_pair(land(np.ones((1, 3, 4)), eta_b=3 * ETA_B), np.ones((3, 4))) is None


def test_equal_rates_need_not_have_equal_last_bits():
    eta_a, eta_b = 10 ** np.arange(-3, 0.01, 0.25), np.logspace(-2, 1, 13)
    found = land(np.ones((1, 13, 13)), eta_a, eta_b).equal
    assert found.sum() == 9
    assert (np.argwhere(found) @ [1, -1] == 4).all()


def test_near_best():
    assert not near_best(np.full((2, 2), INF)).any()
    assert near_best(np.zeros((2, 2))).all()
    assert near_best(np.array([[1.0, 1.09, 1.11, INF]]), 0.1).tolist() == [
        [True, True, False, False]
    ]


# --- The edge of stability and flatness ---


def falls_off(edges, rates, shape):
    """Losses that diverge where η_A + η_B / 100 is above each seed's edge."""
    eta = rates[:, None] + np.zeros(shape) + rates[None, :] / 100
    return np.where(eta > np.reshape(edges, (-1, 1, 1)), INF, 1.0)


def test_edges_lie_between_cells():
    rates = np.array([0.01, 0.1, 1.0, 10.0])
    losses = falls_off([0.5, 5.0, 0.0, 1e9], rates, (4, 4))
    middle = np.sqrt(10)
    found = edge(land(losses, rates, rates), "A")
    np.testing.assert_allclose(found, [0.1 * middle, middle, 0, INF])
    np.testing.assert_allclose(edge(land(losses, rates, rates), "equal"), found)
    along_b = edge(land(losses, rates, rates), "B")
    np.testing.assert_allclose(along_b, [INF, INF, 0, INF])
    turned = land(losses.transpose(0, 2, 1), rates, rates)
    np.testing.assert_array_equal(edge(turned, "B"), found)


def test_the_first_rate_that_diverges_counts():
    losses = np.ones((1, 3, 1))
    losses[0, 1] = INF
    np.testing.assert_allclose(edge(land(losses, eta_b=[1.0]), "A"), np.sqrt(1e-3 * 1e-2))


def test_edges_of_odd_grids():
    assert np.isnan(edge(land(np.ones((2, 3, 4)), eta_b=3 * ETA_B), "equal")).all()
    alone = land([[[1.0]], [[INF]]], [0.1], [0.1])
    for along in ("A", "B", "equal"):
        np.testing.assert_array_equal(edge(alone, along), [INF, 0])


def test_intervals_of_edges_cover():
    """Seeds' edges at 10^N(−0.5, 0.4): the median's cell is the one from 0.1 to 1."""
    rates, covered = np.array([0.01, 0.1, 1.0, 10.0]), 0
    for k in range(400):
        edges = 10 ** np.random.default_rng(k).normal(-0.5, 0.4, 15)
        found = quantile_interval(edge(land(falls_off(edges, rates, (4, 4)), rates, rates), "A"))
        covered += bool(np.log10(found.low) <= -0.5 + 1e-9 and np.log10(found.high) >= -0.5 - 1e-9)
    assert covered / 400 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_flatness_is_an_area():
    eta_a, eta_b = 10 ** np.arange(-2, 1, 0.5), 10 ** np.arange(-2, 1, 0.25)
    losses = np.full((4, 6, 12), 5.0)
    losses[0, 2, 3] = 1.0  # A needle.
    losses[1, 2:5, 3:7] = 1.0  # 3 × 4 cells.
    losses[2] = 1.0
    losses[3] = INF
    found = flatness(land(losses, eta_a, eta_b), 0.01)
    np.testing.assert_allclose(found, np.array([1, 12, 72, 0]) * 0.5 * 0.25)


def test_flatness_of_a_basin():
    """1 + r² is within 1 of its best in a circle of area π."""
    eta = 10 ** np.arange(-2, 2.001, 0.05)
    a, b = np.meshgrid(np.log10(eta), np.log10(eta), indexing="ij")
    assert flatness(land([1 + a**2 + b**2], eta, eta), 1.0)[0] == pytest.approx(np.pi, rel=0.01)


def test_intervals_of_flatness_cover():
    """Plateaus of 1 to 9 cells, with equal chances: their median is 5."""
    covered = 0
    for k in range(400):
        sizes = np.random.default_rng(k).integers(1, 10, 15)
        losses = np.where(np.arange(12).reshape(3, 4) < sizes[:, None, None], 1.0, 2.0)
        found = quantile_interval(flatness(land(losses), 0.01))
        covered += found.low <= 5 * (1 + 1e-9) and found.high >= 5 * (1 - 1e-9)
    assert covered / 400 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


# --- Rates of 0 ---

WITH_0 = np.concatenate([[0.0], 2.0 ** np.arange(-3, 1)])


def test_the_positive_rates_are_the_grid_without_0():
    losses = np.arange(50.0).reshape(2, 5, 5)
    found = land(losses, WITH_0, WITH_0).positive
    np.testing.assert_array_equal(found.losses, losses[:, 1:, 1:])
    np.testing.assert_array_equal(found.eta_a, WITH_0[1:])
    again = found.positive
    np.testing.assert_array_equal(again.losses, found.losses)
    diagonal = land(losses, WITH_0, WITH_0).diagonal
    np.testing.assert_array_equal(diagonal.losses, losses[:, range(1, 5), range(1, 5)])
    np.testing.assert_array_equal(diagonal.eta, WITH_0[1:])
    np.testing.assert_array_equal(diagonal.of_seeds([1]).losses, diagonal.losses[1:])


def test_untrained_is_no_shared_rate():
    losses = np.full((1, 5, 5), 5.0)
    losses[0, 0, 0] = 1.0
    at = land(losses, WITH_0, WITH_0)
    assert not at.equal[0].any()
    assert best_equal_pair(at, losses[0]).eta_a == 0.125
    assert np.isnan(best_pair(at, losses[0]).ratio)


def test_pairs_next_to_0_lie_on_the_border():
    for (i, j), border, ratio in (
        ((0, 2), True, INF),
        ((2, 0), True, 0),
        ((1, 2), True, 2),
        ((2, 1), True, 0.5),
        ((2, 2), False, 1),
        ((4, 2), True, 0.25),
    ):
        losses = np.full((1, 5, 5), 5.0)
        losses[0, i, j] = 1.0
        found = best_pair(land(losses, WITH_0, WITH_0), losses[0])
        assert found.on_border == border
        assert found.ratio == ratio


def test_edges_are_read_where_the_other_rate_is_0():
    """With the other factor untrained the edge is another one."""
    losses = np.ones((3, 5, 5))
    losses[0, 3:, 0] = INF
    losses[1, 1:, 0] = INF
    losses[:, 2:, 1:] = INF
    found = edge(land(losses, WITH_0, WITH_0), "A")
    np.testing.assert_allclose(found, [2.0**-1.5, 0, INF])
    np.testing.assert_allclose(edge(land(losses, WITH_0, WITH_0).positive, "A"), 2.0**-2.5)
    np.testing.assert_allclose(edge(land(losses, WITH_0, WITH_0), "equal"), 2.0**-2.5)


def test_cells_of_rate_0_have_no_area():
    losses = np.full((2, 5, 5), 5.0)
    losses[0, :2, 2:4] = 1.0  # Four cells, two of them at η_A = 0.
    losses[1, 0, 2] = 1.0
    at = land(losses, WITH_0, WITH_0)
    assert cell_size(at) == pytest.approx(np.log10(2) ** 2)
    np.testing.assert_allclose(flatness(at, 0.01), [2 * np.log10(2) ** 2, 0])
