"""The scalar map against training in vectors."""

import math
from fractions import Fraction

import numpy as np
import pytest

from lora_theory.exact.scalar_map import logs, random_runs, table, trajectory, uneven
from lora_theory.exact.signed_log import SignedLog


def vectors(a, b, x, y, eta_a, eta_b, steps, update="gd", schedule=None):
    """b, s, f and δ of direct training in vectors: a (n,), x (n, N), float64."""
    rows = []
    for factor in np.ones(steps) if schedule is None else schedule:
        u = b * (a @ x) - y
        db, da = (a @ x) @ u / y.size, b * (x @ u) / y.size
        if update == "sign":
            db, da = np.sign(db), np.sign(da)
        new_a, new_b = a - factor * eta_a * da, b - factor * eta_b * db
        f, f_a, f_b = b * (a @ x), b * (new_a @ x), new_b * (a @ x)
        after = new_b * (new_a @ x)
        rows.append((new_b, new_a @ x, after, f_a - f, f_b - f, after - f_a - f_b + f))
        a, b = new_a, new_b
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("log2_n", range(6, 15))
@pytest.mark.parametrize("init", ["A", "B", "both"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("schedule", [None, uneven(6)], ids=["even", "uneven"])
def test_map_is_training_in_vectors(log2_n, init, samples, schedule):
    rng = np.random.default_rng(log2_n)
    n, steps = 2**log2_n, 6
    x, y = rng.normal(size=(n, samples)), rng.normal(size=samples)
    a = np.zeros(n) if init == "B" else rng.normal(size=n) / np.sqrt(n)
    b = 0.0 if init == "A" else rng.normal()
    eta_a, eta_b = 0.3 / n, 0.2
    expected = vectors(a, b, x, y, eta_a, eta_b, steps, schedule=schedule)
    run = trajectory(
        SignedLog.of(b),
        SignedLog.of(a @ x),
        y,
        SignedLog.of(x.T @ x),
        SignedLog.of(eta_a),
        SignedLog.of(eta_b),
        steps,
        schedule=schedule,
    )
    found = [run.b[1:], run.s[1:], run.f[1:], *(run.deltas[i] for i in range(3))]
    for value, oracle in zip(found, expected, strict=True):
        np.testing.assert_allclose(value.value(), oracle, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("log2_n", [6, 10, 14])
@pytest.mark.parametrize("init", ["A", "B"])
@pytest.mark.parametrize("schedule", [None, uneven(5)], ids=["even", "uneven"])
def test_sign_map_is_training_in_vectors(log2_n, init, schedule):
    rng = np.random.default_rng(log2_n)
    n, steps = 2**log2_n, 5
    x, y = rng.normal(size=(n, 1)), np.array([3.0])
    a = np.zeros(n) if init == "B" else rng.normal(size=n) / np.sqrt(n)
    b = 0.0 if init == "A" else rng.normal()
    eta_a, eta_b = 0.31 / n, 0.17
    expected = vectors(a, b, x, y, eta_a, eta_b, steps, "sign", schedule)
    norm = SignedLog.of([[np.abs(x).sum()]])
    rates = SignedLog.of(eta_a), SignedLog.of(eta_b)
    start = SignedLog.of(b), SignedLog.of(a @ x)
    run = trajectory(*start, y, norm, *rates, steps, update="sign", schedule=schedule)
    for value, oracle in zip((run.b[1:], run.s[1:], run.f[1:]), expected, strict=False):
        np.testing.assert_allclose(value.value(), oracle, rtol=1e-9, atol=1e-12)


def test_a_wrong_norm_is_seen():
    """Control: with ‖x‖ for ‖x‖², a factor of n missing, the map is not training in vectors."""
    rng = np.random.default_rng(0)
    x, y, a = rng.normal(size=(64, 1)), np.array([1.0]), rng.normal(size=64) / 8
    expected = vectors(a, 0.5, x, y, 0.3 / 64, 0.2, 3)
    wrong = SignedLog.of(np.sqrt(x.T @ x))
    rates = SignedLog.of(0.3 / 64), SignedLog.of(0.2)
    run = trajectory(SignedLog.of(0.5), SignedLog.of(a @ x), y, wrong, *rates, 3)
    assert not np.allclose(run.f[1:].value(), expected[2], rtol=1e-3)


def test_unstable_rates_give_exponents_not_overflow():
    runs = random_runs(np.array([1000.0, 2000.0, 4000.0]), range(4), "A", 0.0, 0.0)
    run = trajectory(*runs, 10)
    slopes = np.diff(run.f.log2()[1:, ..., 0], axis=-1) / np.diff([1000.0, 2000.0, 4000.0])
    assert np.isfinite(slopes).all()
    # f_1 = 1, and then f' ~ f³ n³ …: the exponents grow threefold.
    growth = slopes.mean(axis=(1, 2))
    assert growth[0] == pytest.approx(0, abs=1e-3)
    assert growth[-1] / growth[-2] == pytest.approx(3, abs=0.01)


def test_several_samples_of_a_sign_update_have_no_scalar_map():
    one = SignedLog.of(np.ones(2))
    with pytest.raises(ValueError, match="one sample only"):
        trajectory(
            one[0], one, np.ones(2), SignedLog.of(np.eye(2)), one[0], one[0], 1, update="sign"
        )
    with pytest.raises(ValueError, match="update: must be one of gd, sign"):
        trajectory(
            one[0], one, np.ones(2), SignedLog.of(np.eye(2)), one[0], one[0], 1, update="adam"
        )


@pytest.mark.parametrize("update", ["gd", "sign"])
@pytest.mark.parametrize("init", ["A", "B"])
def test_draws_are_the_same_at_every_width_and_rate(init, update):
    runs = random_runs(np.array([6.0, 60.0]), range(5), init, [0.0, 1.0], -1.0, update=update)
    assert runs.eta_a.log.shape == (2, 5, 2)
    start = runs.s[..., 0] if init == "A" else runs.b
    assert np.ptp(start.log, axis=-1).max() < 1e-12
    assert trajectory(*runs, 2, update=update).f.log.shape == (3, 2, 5, 2, 1)


def test_an_unknown_init_is_refused():
    with pytest.raises(ValueError, match="init: must be one of A, B"):
        random_runs(np.array([6.0]), [0], "C", 0.0, 0.0)


def test_a_seed_has_the_same_draws_whatever_it_is_run_with():
    many = random_runs(np.array([6.0]), range(5), "A", 0.0, 0.0)
    alone = random_runs(np.array([60.0]), [3], "A", -1.0, 0.5, update="sign")
    np.testing.assert_array_equal(many.y[3], alone.y[0])
    np.testing.assert_array_equal(many.s.log[3], alone.s.log[0])
    assert len(set(many.y.ravel().tolist())) == 5


def sign(x):
    return (x > 0) - (x < 0)


def fractions_of(b, s, y, norm, eta_a, eta_b, steps):
    """b and s of sign updates, exactly."""
    rows = [(b, s)]
    for _ in range(steps):
        u = b * s - y
        b, s = b - eta_b * sign(s * u), s - eta_a * norm * sign(b * u)
        rows.append((b, s))
    return rows


def test_sign_updates_come_back_to_where_they_started():
    """Steps far larger than b_0 = 0.7 that cancel leave 0.7, as exact arithmetic does; not 0."""
    huge = Fraction(2) ** 3000
    start = Fraction(7, 10), Fraction(-13, 10)
    exact = fractions_of(*start, Fraction(3, 2), huge, Fraction(3), huge, 12)
    run = trajectory(
        SignedLog.of(0.7),
        SignedLog.of([-1.3]),
        np.array([1.5]),
        SignedLog.two_to(3000.0)[None, None],
        SignedLog.of(3.0),
        SignedLog.two_to(3000.0),
        12,
        update="sign",
    )
    for i, pair in enumerate(exact):
        for value, found in zip(pair, (run.b[i], run.s[i][0]), strict=True):
            assert found.sign == sign(value)
            assert found.log2() == pytest.approx(log2(value), abs=1e-9)
    returned = [i for i, (b, _) in enumerate(exact) if b == start[0]]
    assert len(returned) > 1  # Else nothing is tested.


def log2(value):
    return math.log2(abs(value.numerator)) - math.log2(value.denominator)


def test_a_step_that_is_summed_forgets_where_it_started():
    """Control: summed as sizes, the same walk has lost b_0."""
    huge = SignedLog.two_to(3000.0)
    assert np.isnan((SignedLog.of(0.7) - huge + huge).sign)


def test_a_residual_that_has_arrived_moves_nothing_and_its_deltas_are_lost():
    one = SignedLog.of(np.ones((1, 1)))
    run = trajectory(SignedLog.of(0.0), one[0], np.array([2.0]), one, one[0, 0] * 0.0, one[0, 0], 3)
    np.testing.assert_allclose(run.f.value()[:, 0], [0, 2, 2, 2])
    assert np.isnan(run.deltas.log2()[1, 1:]).all()
    assert float(run.deltas[1, 0, 0].value()) == pytest.approx(2)


def test_a_sample_that_has_arrived_does_not_stop_the_others():
    """f = (2, 1) against y = (2, 3): the second residual moves b by itself."""
    gram = SignedLog.of(np.eye(2))
    rates = SignedLog.of(0.0), SignedLog.of(0.5)
    run = trajectory(
        SignedLog.of(1.0), SignedLog.of([2.0, 1.0]), np.array([2.0, 3.0]), gram, *rates, 1
    )
    assert float(run.b[1].value()) == pytest.approx(1.5)
    assert not np.isnan(run.deltas[1].log2()).any()


def test_streams_share_no_draws_and_are_the_same_at_every_width():
    widths = np.array([6.0, 60.0])
    one, other, plain = (
        random_runs(widths, range(50), "A", 0.0, 0.0, stream=name) for name in ("one", "other", "")
    )
    for runs in (one, other):
        assert np.ptp(runs.s.log, axis=1).max() < 1e-12
    drawn = [runs.y.ravel().tolist() for runs in (one, other, plain)]
    assert len({y for ys in drawn for y in ys}) == 150
    again = random_runs(widths, range(50), "B", 1.0, 0.0, stream="one")
    np.testing.assert_array_equal(again.y, one.y)
    with pytest.raises(ValueError, match=r"stream: must be text \(got 3\)"):
        random_runs(widths, [0], "A", 0.0, 0.0, stream=3)


def test_a_schedule_that_is_none_is_refused():
    one = SignedLog.of(np.ones((1, 1)))
    for wrong in ([1.0], [1.0, 0.0], [1.0, math.inf], "1"):
        with pytest.raises(ValueError, match=r"^schedule: must be "):
            trajectory(one[0, 0], one[0], [2.0], one, *[one[0, 0]] * 2, 2, schedule=wrong)


def came_back(schedule):
    """In which share of seeds sign updates of large constants are back at b = 0 after two steps."""
    runs = random_runs(np.array([60.0]), range(50), "A", -1.0, 0.0, k_b=8.0, update="sign")
    b = trajectory(*runs, 8, update="sign", schedule=schedule).b
    assert (b.sign[1] != 0).all()
    return (b.sign[1:] == 0).any(axis=0).mean()


def test_large_sign_updates_come_back_to_exactly_zero_unless_their_steps_are_uneven():
    """Whatever factors the seeds draw: a step that overshoots is taken back by the next."""
    assert came_back(None) > 0.8
    assert came_back(uneven(8)) == 0


def test_no_two_factors_of_an_uneven_schedule_are_near():
    factors = np.sort(uneven(300))
    assert (np.diff(factors) > 1e-4).all()
    assert factors[0] >= 0.5**0.5
    assert factors[-1] <= 2**0.5


def test_constants_multiply_the_rates_and_change_no_other_draw():
    widths = np.array([6.0, 60.0])
    default = random_runs(widths, range(5), "A", -1.0, 0.5)
    given = random_runs(widths, range(5), "A", -1.0, 0.5, k_a=[0.35, 0.7], k_b=[[0.35], [3.5]])
    assert given.eta_a.log.shape == (2, 2, 5, 2)
    ratios = {
        "eta_a": np.array([[1.0, 2.0], [1.0, 2.0]]),
        "eta_b": np.array([[1.0, 1.0], [10.0, 10.0]]),
    }
    for name, ratio in ratios.items():
        off = getattr(given, name).log - getattr(default, name).log
        np.testing.assert_allclose(np.exp(off), np.broadcast_to(ratio[..., None, None], off.shape))
    for name in ("b", "s", "gram"):
        np.testing.assert_array_equal(getattr(given, name).log, getattr(default, name).log)
    np.testing.assert_array_equal(given.y, default.y)


def test_each_seed_has_a_factor_of_each_constant():
    runs = random_runs(np.array([0.0]), range(400), "A", 0.0, 0.0, k_a=1.0, k_b=1.0)
    gram = runs.gram[..., 0, 0] * (1 / 0.35)
    found = np.array([x.value().ravel() for x in (runs.eta_a, runs.eta_b, gram)])
    assert found.min() >= 0.5**0.5 - 1e-9
    assert found.max() <= 2**0.5 + 1e-9
    assert np.abs(np.corrcoef(found) - np.eye(3)).max() < 0.15
    assert np.ptp(found, axis=1).min() > 0.65


def test_constants_that_are_not_above_zero_are_refused():
    for wrong in (0.0, [1.0, -1.0]):
        with pytest.raises(ValueError, match=r"^k_a: must be positive"):
            random_runs(np.array([6.0]), [0], "A", 0.0, 0.0, k_a=wrong)
    with pytest.raises(ValueError, match="must have one shape"):
        random_runs(np.array([6.0]), [0], "A", [0.0, 1.0], 0.0, k_b=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("init", ["A", "B"])
def test_the_first_of_several_samples_is_the_one_that_there_is_alone(init):
    widths = np.array([6.0, 60.0])
    one = random_runs(widths, range(5), init, -1.0, 0.0)
    many = random_runs(widths, range(5), init, -1.0, 0.0, samples=4)
    np.testing.assert_array_equal(many.y[..., :1], one.y)
    np.testing.assert_array_equal(many.s.log[..., :1], one.s.log)
    np.testing.assert_array_equal(many.b.log, one.b.log)
    np.testing.assert_array_equal(many.gram.log[..., :1, :1], one.gram.log)
    np.testing.assert_array_equal(many.eta_a.log, one.eta_a.log)


def test_a_gram_matrix_has_overlaps_smaller_than_its_diagonal_by_the_root_of_the_width():
    runs = random_runs(np.array([20.0, 40.0]), range(200), "A", -1.0, 0.0, samples=3)
    gram = runs.gram
    np.testing.assert_array_equal(gram.sign, np.swapaxes(gram.sign, -1, -2))
    np.testing.assert_allclose(gram.log, np.swapaxes(gram.log, -1, -2))
    relative = (gram / gram[..., :1, :1]).log2()
    np.testing.assert_allclose(relative[..., [0, 1, 2], [0, 1, 2]], 0, atol=1e-9)
    upper = np.triu_indices(3, 1)
    overlaps = relative[(..., *upper)] + np.array([10.0, 20.0])[:, None]
    overlaps = gram.sign[(..., *upper)] * 2.0**overlaps
    np.testing.assert_allclose(overlaps[:, 0], overlaps[:, 1], rtol=1e-9)
    assert overlaps.std() == pytest.approx(1, abs=0.1)
    assert overlaps.mean() == pytest.approx(0, abs=0.1)


def test_a_drawn_gram_matrix_is_that_of_random_inputs_in_its_sizes():
    """K of vectors of independent entries: its overlaps have the spread that is drawn."""
    rng = np.random.default_rng(0)
    n = 2**10
    x = rng.normal(size=(n, 40))
    gram = x.T @ x / n
    assert gram[np.triu_indices(40, 1)].std() * n**0.5 == pytest.approx(1, abs=0.1)


def test_sign_updates_of_several_samples_are_not_drawn():
    with pytest.raises(ValueError, match=r"^samples: sign updates .* one only \(got 2\)$"):
        random_runs(np.array([6.0]), [0], "A", 0.0, 0.0, update="sign", samples=2)


def test_several_samples_have_the_exponents_of_one():
    widths = np.array([1000.0, 2000.0, 4000.0])
    runs = random_runs(widths, range(8), "A", -1.0, 0.0, samples=4)
    found = table(widths, trajectory(*runs, 5))
    for name in ("f", "B", "Z_A", "delta1", "delta2", "delta3"):
        assert found.slope(name, 5).value == pytest.approx(0, abs=0.01)


def test_logs_are_the_root_mean_square_over_samples():
    runs = random_runs(np.array([6.0, 8.0]), range(3), "A", [-1.0, -1.5], 0.0, samples=4)
    run = trajectory(*runs, 3)
    found = logs(run)
    assert found["delta3"].shape == (2, 2, 3, 3)
    f = (run.f.value()[1:] ** 2).mean(axis=-1) ** 0.5
    np.testing.assert_allclose(2 ** found["f"], f.transpose(1, 3, 2, 0), rtol=1e-9)
    b = np.abs(run.b.value()[1:])
    np.testing.assert_allclose(2 ** found["B"], b.transpose(1, 3, 2, 0), rtol=1e-9)
    delta = (run.deltas.value()[1] ** 2).mean(axis=-1) ** 0.5
    np.testing.assert_allclose(2 ** found["delta2"], delta.transpose(1, 3, 2, 0), rtol=1e-9)


@pytest.mark.parametrize("update", ["gd", "sign"])
def test_logs_of_one_sample_are_its_own_bit_for_bit(update):
    runs = random_runs(np.array([60.0, 120.0]), range(5), "A", -1.0, 0.0, update=update)
    run = trajectory(*runs, 5, update=update)
    found = logs(run)
    np.testing.assert_array_equal(found["f"], run.f[1:, ..., 0].log2().transpose(2, 1, 0))
    first = run.deltas[0][..., 0].log2()
    np.testing.assert_array_equal(found["delta1"], first.transpose(2, 1, 0))
    assert np.isneginf(found["delta1"][..., 0]).all()
    found_table = table(np.array([60.0, 120.0]), run)
    for name, log in found.items():
        np.testing.assert_array_equal(found_table.logs[name], log)


def test_logs_of_a_run_without_seeds_and_widths_are_refused():
    one = SignedLog.of(np.ones((1, 1)))
    run = trajectory(one[0, 0], one[0], np.array([2.0]), one, one[0, 0], one[0, 0], 2)
    with pytest.raises(ValueError, match=r"^run: must be of axes"):
        logs(run)
