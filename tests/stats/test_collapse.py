"""The exponents of families of maps whose exponents are known."""

import numpy as np
import pytest

from lora_theory.stats import collapse as module
from lora_theory.stats.collapse import collapse, log_losses
from lora_theory.stats.intervals import drawn, quantile
from lora_theory.stats.landscapes import Landscape

WIDTHS = (6, 7, 8, 9)
ROWS, COLUMNS = 11, 9  # One raw window for all widths.
A, B = np.meshgrid(np.arange(ROWS) - 8.0, np.arange(COLUMNS) - 4.0, indexing="ij")


def surface(a, b, edge=0.0, flat_b=False):
    """log2 of a loss: falls towards an edge, beyond which it is that of t = 0."""
    bowl = 0.0 if flat_b else 0.06 * (b + 1) ** 2
    losses = np.minimum(-4 + 0.12 * np.minimum(a + 4, 0) ** 2 + bowl, 0)
    broken = (a + edge > -1) | ((b + edge > 3) & (not flat_b))
    return np.where(broken, 0.0, losses)


def family(rng, exponents, seeds=15, widths=WIDTHS, noise=0.3, steps=(1.0, 1.0), flat_b=False):
    """A surface that moves with n, the edge of which scatters over seeds; (S, G_a, G_b) a width."""
    edges = 0.5 * rng.normal(size=(seeds, 1, 1))
    difficulty = 0.5 * rng.normal(size=(seeds, 1, 1))
    logs = []
    for n in widths:
        shift = [c * (n - np.mean(widths)) for c in exponents]
        a, b = A * steps[0] - shift[0], B * steps[1] - shift[1]
        losses = surface(a, b, edges, flat_b)
        scatter = difficulty + noise * rng.normal(size=losses.shape)
        logs.append(np.where(losses < 0, np.minimum(losses + scatter, 0), 0.0))
    return logs


def error(found, exponents):
    return np.abs(np.subtract(found.exponents, exponents)).max()


@pytest.mark.parametrize("exponents", [(-1, 0), (-0.65, 0.2), (-0.5, -0.5), (0, 0), (-1, 0.5)])
def test_known_exponents_are_recovered(exponents):
    logs = family(np.random.default_rng(0), exponents, 40)
    found = collapse(logs, WIDTHS, given={"truth": exponents, "wrong": (0.5, 0.5)}, resamples=20)
    assert error(found, exponents) < 0.05
    for low, high, truth in zip(found.low, found.high, exponents, strict=True):
        assert low <= truth <= high
    assert found.determined() == (True, True)
    left = found.left
    assert left["fit"] <= left["truth"] + 1e-12 < left["wrong"]
    assert left["fit"] < 0.05
    if exponents == (0, 0):
        assert left["none"] == left["truth"]
    else:
        assert left["truth"] < left["none"]


@pytest.mark.parametrize(("exponents", "seeds"), [((-0.65, 0.2), 6), ((-0.5, -0.5), 15)])
def test_intervals_cover(exponents, seeds):
    """24 families of 95 %: fewer than 20 of 24 would happen once in 200 times."""
    repeats, covered = 24, np.zeros(2)
    for k in range(repeats):
        logs = family(np.random.default_rng(k), exponents, seeds, (6, 7, 9))
        found = collapse(logs, (6, 7, 9), resamples=40)
        covered += [
            low <= truth <= high
            for low, truth, high in zip(found.low, exponents, found.high, strict=True)
        ]
        assert found.determined(0.8) == (True, True)
    assert (covered >= 20).all()


def test_the_medians_edge_jumps_by_whole_cells():
    """Its bias is several times that of the mean, which is why the mean is the judge."""
    exponents = (-0.65, 0.2)
    errors = {"mean": [], "median": []}
    for k in range(12):
        logs = family(np.random.default_rng(k), exponents, 40)
        for name, judge in (("mean", module.mean_map), ("median", quantile)):
            found = collapse(logs, WIDTHS, judge=judge, resamples=0)
            errors[name].append(np.subtract(found.exponents, exponents))
    bias = {name: np.abs(np.mean(at, axis=0)) for name, at in errors.items()}
    assert (bias["mean"] < 0.02).all()
    assert bias["median"].max() > 2 * bias["mean"].max()
    assert bias["median"].max() > 0.03


def test_what_does_not_collapse_is_left():
    """A slope that turns with n has no exponents."""
    rng, logs = np.random.default_rng(0), []
    for k in range(4):
        angle = k * np.pi / 2
        ramp = 0.4 * (np.cos(angle) * A + np.sin(angle) * B)
        logs.append(-3 + ramp + 0.1 * rng.normal(size=(10, ROWS, COLUMNS)))
    found = collapse(logs, WIDTHS, resamples=5)
    assert 0.5 < found.left["fit"] < 1.5


@pytest.mark.parametrize("seed", range(2))
def test_flat_families_are_undetermined(seed):
    rng = np.random.default_rng(seed)
    logs = [0.3 * rng.normal(size=(15, ROWS, COLUMNS)) for _ in WIDTHS]
    found = collapse(logs, WIDTHS, resamples=40)
    assert found.determined() == (False, False)
    assert found.cells < 0.25 * 4 * ROWS * COLUMNS


def test_nothing_counts_where_nothing_changes():
    found = collapse([np.full((5, ROWS, COLUMNS), -2.0) for _ in WIDTHS], WIDTHS, resamples=3)
    assert found.cells == 0
    assert np.isnan([found.exponents, found.low, found.high]).all()
    assert found.left == {}
    assert found.determined() == (False, False)


def test_flat_along_b_determines_a_only():
    logs = family(np.random.default_rng(0), (-1, 0), 24, flat_b=True)
    found = collapse(logs, WIDTHS, resamples=60)
    assert found.exponents[0] == pytest.approx(-1, abs=0.03)
    assert found.determined() == (True, False)


def test_one_row_says_nothing_of_its_exponent():
    logs = [log[:, :, 4:5] for log in family(np.random.default_rng(0), (-1, 0), 24, flat_b=True)]
    found = collapse(logs, WIDTHS, resamples=10)
    assert found.exponents[0] == pytest.approx(-1, abs=0.05)
    assert np.isnan([found.exponents[1], found.low[1], found.high[1]]).all()
    assert found.determined() == (True, False)
    one_cell = collapse([log[:, :1] for log in logs], WIDTHS, resamples=3)
    assert one_cell.cells == 0


def test_the_order_of_seeds_does_not_change_the_fit():
    rng = np.random.default_rng(1)
    logs = family(rng, (-0.65, 0.2), 15)
    one = collapse(logs, WIDTHS, resamples=3)
    for _ in range(3):
        order = rng.permutation(15)
        other = collapse([log[order] for log in logs], WIDTHS, resamples=3)
        assert other.exponents == one.exponents
        assert other.cells == one.cells
        assert other.left["fit"] == pytest.approx(one.left["fit"], rel=1e-9)


def test_a_width_with_fewer_seeds_has_the_beginning_of_the_list():
    logs = family(np.random.default_rng(0), (-1, 0), 15)
    fewer = [*logs[:3], logs[3][:5]]
    found = collapse(fewer, WIDTHS, resamples=30)
    assert error(found, (-1, 0)) < 0.1
    assert found.low[0] <= -1 <= found.high[0]
    some = drawn(logs[3][:5], np.array([0, 7, 3, 3, 14]))
    np.testing.assert_array_equal(some, logs[3][[0, 3, 3]])
    np.testing.assert_array_equal(drawn(logs[3][:5], np.array([9, 8])), logs[3][:5])


def test_one_seed_has_no_interval():
    logs = family(np.random.default_rng(0), (-1, 0), 6, noise=0.0)
    for few in ([log[:1] for log in logs], [*logs[:3], logs[3][:1]]):
        found = collapse(few, WIDTHS, resamples=5)
        assert np.isfinite(found.exponents).all()
        assert np.isnan([found.low, found.high]).all()
        assert found.determined() == (False, False)
    two = collapse([log[:2] for log in logs], WIDTHS, resamples=5)
    assert np.isfinite([two.low, two.high]).all()


@pytest.mark.parametrize("steps", [(1.0, 0.5), (0.5, 1.0)])
def test_axes_may_have_unequal_steps(steps):
    logs = family(np.random.default_rng(0), (-0.5, 0.25), 40, noise=0.05, steps=steps)
    found = collapse(logs, WIDTHS, steps=steps, resamples=5)
    assert error(found, (-0.5, 0.25)) < 0.05


def test_widths_may_have_gaps():
    widths = (6, 7.5, 9)
    logs = family(np.random.default_rng(0), (-1, 0), 40, widths)
    assert error(collapse(logs, widths, resamples=5), (-1, 0)) < 0.05


def between(grid, a, b):
    """Linear interpolation in a map by plain arithmetic; None outside."""
    if not (0 <= a <= grid.shape[0] - 1 and 0 <= b <= grid.shape[1] - 1):
        return None
    i, j = min(int(a), grid.shape[0] - 2), min(int(b), grid.shape[1] - 2)
    u, v = a - i, b - j
    low = (1 - v) * grid[i, j] + v * grid[i, j + 1]
    high = (1 - v) * grid[i + 1, j] + v * grid[i + 1, j + 1]
    return (1 - u) * low + u * high


def test_the_misfit_is_that_of_plain_loops():
    rng = np.random.default_rng(0)
    maps, counts = rng.normal(size=(3, 5, 4)), rng.random((3, 5, 4)) < 0.7
    widths, steps = np.array([3.0, 4.0, 5.5]), (1.0, 0.5)
    seeds = np.array([24, 24, 8])
    found = module._Family(maps, counts, widths, steps, seeds)
    tried_a, tried_b = np.array([0.0, -0.4]), np.array([0.2, 0.0, 0.5])
    misfit = found._misfit(tried_a, tried_b)
    for k, c_a in enumerate(tried_a):
        for m, c_b in enumerate(tried_b):
            squares, weights = [], []
            for n, other in [(n, o) for n in range(3) for o in range(3) if n != o]:
                lag = widths[other] - widths[n]
                for i, j in np.argwhere(counts[n]):
                    there = between(maps[other], i + c_a * lag / 1.0, j + c_b * lag / 0.5)
                    if there is not None:
                        squares.append((maps[n, i, j] - there) ** 2)
                        weights.append(1 / (1 / seeds[n] + 1 / seeds[other]))
            expected = np.average(squares, weights=weights)
            assert misfit[k, m] == pytest.approx(expected, rel=1e-9)
            assert expected != pytest.approx(np.mean(squares), rel=1e-3)


def test_what_can_not_be_fitted_is_said():
    logs = family(np.random.default_rng(0), (-1, 0), 3)
    for widths in ((6,), (6, 7, 8), (6, 7, 9, 8), (6, 7, 7, 8)):
        with pytest.raises(ValueError, match="log2_widths"):
            collapse(logs[: max(len(widths), 1)] if len(widths) == 1 else logs, widths)
    with pytest.raises(ValueError, match="one grid"):
        collapse([*logs[:3], logs[3][:, 1:]], WIDTHS)


def test_log_losses_are_bounded_by_the_loss_at_the_start():
    losses = np.array([[[1.0, np.inf, 16.0, 0.0]], [[2.0, 4.0, np.inf, 1.0]]])
    rates = np.ones(1), np.arange(4.0)
    logs = log_losses(Landscape(losses, np.array([8.0, 4.0]), *rates))
    np.testing.assert_array_equal(logs[:, 0, :3], [[0, 3, 3], [1, 2, 2]])
    assert np.isfinite(logs).all()
    # A seed that has diverged at t = 0 counts as the worst of the others.
    logs = log_losses(Landscape(losses, np.array([8.0, np.inf]), *rates))
    np.testing.assert_array_equal(logs[1, 0], [1, 2, 3, 0])


def test_intervals_of_the_draws_are_those_of_the_fit_and_of_sums():
    logs = family(np.random.default_rng(3), (-0.65, 0.2))
    found = collapse(logs, WIDTHS, resamples=40)
    for axis, weights in enumerate(((1, 0), (0, 1))):
        ends = (found.exponents[axis], found.low[axis], found.high[axis])
        assert found.interval(weights) == pytest.approx(ends)
    value, low, high = found.interval((1, 1))
    assert value == pytest.approx(sum(found.exponents))
    assert low < value < high
    narrow = found.interval((1, 1), 0.8)
    assert low < narrow[1] < narrow[2] < high


def test_along_a_valley_the_sum_is_known_better_than_either_exponent():
    rng = np.random.default_rng(4)

    def valley(n):
        edge = A + B + (n - np.mean(WIDTHS)) + 0.5 * rng.normal(size=(24, 1, 1))
        logs = np.where(edge > 0, 0.0, np.minimum(-4 + 0.1 * edge**2, 0))
        return np.minimum(logs + 0.3 * rng.normal(size=logs.shape), 0)

    found = collapse([valley(n) for n in WIDTHS], WIDTHS, resamples=40)
    total = found.interval((1, 1))
    assert total[1] <= -1 <= total[2]
    widths = [high - low for _, low, high in (total, found.interval((1, -1)))]
    assert widths[0] < 0.5 * widths[1]


def test_an_axis_of_one_cell_leaves_the_other_its_interval():
    logs = [log[:, :, 4:5] for log in family(np.random.default_rng(5), (-1, 0))]
    found = collapse(logs, WIDTHS, resamples=20)
    assert np.isfinite(found.interval((1, 0))).all()
    assert np.isnan(found.interval((0, 1))).all()
    assert np.isnan(found.interval((1, 1))).all()


@pytest.mark.parametrize(("rows", "known"), [(2, False), (ROWS, True)])
def test_what_the_window_decides_is_not_determined(rows, known):
    """With two cells of η_A only |c_a| up to some overlap leaves anything to compare: the best of
    these is on the border of them in every draw, and its interval would be tiny.
    """
    logs = [log[:, -rows - 2 : -2] for log in family(np.random.default_rng(0), (-1, 0), 24)]
    found = collapse(logs, WIDTHS, resamples=40)
    assert found.pinned[0] == (not known)
    assert known == (found.pinned == (False, False))
    assert found.determined()[0] == known
    assert not known or found.low[0] <= -1 <= found.high[0]


def test_losses_without_a_start_are_refused():
    lost = Landscape(np.ones((2, 3, 3)), np.full(2, np.inf), np.arange(3.0), np.arange(3.0))
    with pytest.raises(ValueError, match="no seed has a finite loss at t = 0"):
        log_losses(lost)
