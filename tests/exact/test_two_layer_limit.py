"""The two-layer toy at large n against its training in vectors, and the exponents of its sizes."""

import functools
import warnings

import numpy as np
import optax
import pytest

from lora_theory import TwoLayerToy, lora_plus, sine_task
from lora_theory.exact import two_layer_limit
from lora_theory.exact.random_relu import JITTER, Pairs, direction, pairs
from lora_theory.exact.two_layer_limit import (
    Start,
    gram_of,
    random_runs,
    random_start,
    sizes,
    trajectory,
)
from lora_theory.train.coordinates import Variant, coordinate_checks

CONSTANTS = np.array([0.005, 0.2, 8.0])
K_A, K_B = (k.ravel() for k in np.meshgrid(CONSTANTS, CONSTANTS, indexing="ij"))
WIDTH, SAMPLES, INPUTS, RANK = 1024, 8, 5, 4


def rms(v):
    return np.sqrt(np.mean(np.square(v)))


def vectors(seed, n, alpha, beta, steps):
    """Training in vectors, n rows: sizes by name (T,), and what the limit needs to start there."""
    rng = np.random.default_rng(seed)
    x, w_in = rng.normal(size=(SAMPLES, INPUTS)), rng.normal(size=(n, INPUTS))
    a, b = rng.normal(size=(RANK, n)) / np.sqrt(n), rng.normal(size=(n, RANK))
    w, y = rng.normal(size=n) / np.sqrt(n), np.sin(x.mean(axis=1))
    z = np.maximum(w_in @ x.T, 0)  # (n, N)

    def f(a, b):
        return w @ np.maximum(b @ (a @ z), 0)

    start = x, y, (a @ z).T, ((b @ (a @ z) > 0) * w[:, None]).T @ b
    rows = []
    for _ in range(steps):
        h = a @ z
        back = w[:, None] * (b @ h > 0) * (f(a, b) - y) / SAMPLES  # dL/d(BAZ)
        da, db = -alpha / n * (b.T @ back) @ z.T, -beta * back @ h.T
        one, two, both = f(a + da, b), f(a, b + db), f(a + da, b + db)
        found = {
            "f": both,
            "delta1": one - f(a, b),
            "delta2": two - f(a, b),
            "delta3": both - one - two + f(a, b),
            "dZ_A": da @ z,
            "dB": db,
            "delta1_Z_B": b @ da @ z,
            "delta2_Z_B": db @ h,
            "delta3_Z_B": db @ da @ z,
        }
        a, b = a + da, b + db
        found |= {"Z_A": a @ z, "Z_B": b @ a @ z, "B": b}
        rows.append({name: np.log2(rms(v)) for name, v in found.items()})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}, start


@functools.cache
def trained(n, alpha, beta, seeds, steps):
    runs, starts = zip(*(vectors(i, n, alpha, beta, steps) for i in range(seeds)), strict=True)
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}, starts


def misfits(n, alpha, beta, *, seeds=60, steps=1, gram=gram_of):
    """log2 sizes of the limit, from where the vectors started, less those of the vectors.

    G's gradients at t = 0 are those of the vectors, and elsewhere conditioned on them.
    """
    found, starts = trained(n, alpha, beta, seeds, steps)
    x, y, h, g = map(np.stack, zip(*starts, strict=True))
    towards = direction(h)
    together = np.full((SAMPLES, SAMPLES), True)
    cov = pairs(towards, towards).covariance(together) + JITTER * np.eye(SAMPLES * RANK)
    normals = np.random.default_rng(1).normal(size=(seeds, steps + 1, SAMPLES * RANK))
    normals[:, 0] = np.linalg.solve(np.linalg.cholesky(cov), g.reshape(seeds, -1, 1))[..., 0]
    run = trajectory(Start(gram(x), y, h, normals), np.full((1, 1), alpha), np.full((1, 1), beta))
    logs = sizes(np.array([np.log2(n)]), run)
    return {name: logs[name][0] - log for name, log in found.items()}


def disagreements(gaps, errors, n):
    """Quantities and t at which a mean gap is more than 4 standard errors and 2 n^−1/2 bits."""
    return {
        f"{name} at t = {t + 1}"
        for name in gaps
        for t in np.flatnonzero(~(np.abs(gaps[name]) < 4 * errors[name] + 2 / np.sqrt(n)))
    }


def parallel(x):
    """Wrong: K_jk = ‖x_j‖ ‖x_k‖ / 2, as if all samples had one direction."""
    length = np.linalg.norm(x, axis=-1)
    return length[..., :, None] * length[..., None, :] / 2


def wrong_in_the_mean(alpha, beta, **options):
    found = misfits(WIDTH, alpha, beta, steps=2, **options)
    gaps = {name: gap.mean(axis=0) for name, gap in found.items()}
    errors = {name: gap.std(axis=0) / np.sqrt(len(gap)) for name, gap in found.items()}
    return disagreements(gaps, errors, WIDTH)


@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.2), (1.0, 0.05)])
def test_limit_is_training_in_vectors_in_the_mean(alpha, beta):
    assert wrong_in_the_mean(alpha, beta) == set()
    control = wrong_in_the_mean(alpha, beta, gram=parallel)
    assert {"delta1 at t = 1", "dZ_A at t = 1", "dZ_A at t = 2"} <= control


def unlike(**options):
    """Sizes after one update of which half the runs are off by more than 4 n^−1/2 bits."""
    found = misfits(WIDTH, 0.2, 0.2, steps=2, **options)
    return {
        name for name, gap in found.items() if not np.median(np.abs(gap[:, 0])) < 4 / np.sqrt(WIDTH)
    }


def test_a_run_is_its_vectors_but_for_the_fluctuations_of_rows():
    assert unlike() == set()


def test_gates_that_are_open_together_half_the_time_are_not_those_of_the_rows(monkeypatch):
    """Control: κ0 = 1/2 at every angle."""
    monkeypatch.setattr(Pairs, "open", lambda self: np.full_like(self.angle, 0.5))
    assert {"delta1", "delta2", "delta3", "dZ_A", "delta3_Z_B"} <= unlike()


def test_a_gram_matrix_without_its_angle_is_not_that_of_the_features():
    wrong = unlike(gram=parallel)
    assert {"delta1", "delta3", "dZ_A", "delta1_Z_B", "f"} <= wrong
    assert not wrong & {"delta2", "dB", "delta2_Z_B"}  # Of which K is no part.


RATES = [(0.2, 0.2), (0.2, 0.005), (1.0, 0.05), (0.05, 1.0)]


def setup(n, key):
    data = sine_task(INPUTS, SAMPLES, 1, key=key)
    return TwoLayerToy(INPUTS, n, RANK, init="both", key=key), data.x_train, data.y_train


@pytest.mark.slow
def test_the_coordinate_check_measures_the_sizes_of_the_limit():
    optimizer = functools.partial(lora_plus, base=optax.sgd)
    variants = [Variant(lambda n, a=a, b=b: (a / n, b)) for a, b in RATES]
    tables = coordinate_checks(setup, optimizer, variants, [WIDTH], seeds=600, steps=2)
    k_a, k_b = np.array(RATES).T
    limit = random_runs(np.array([10.0]), range(1800), -1.0, 0.0, k_a=k_a, k_b=k_b, steps=2)

    def against(which):
        wrong = set()
        for i, j in enumerate(which):
            pairs = {name: (tables[i].logs[name][0], logs[j, 0]) for name, logs in limit.items()}
            gaps = {name: one.mean(axis=0) - two.mean(axis=0) for name, (one, two) in pairs.items()}
            errors = {
                name: np.sqrt(sum(logs.var(axis=0) / len(logs) for logs in pair))
                for name, pair in pairs.items()
            }
            wrong |= {(i, at) for at in disagreements(gaps, errors, WIDTH)}
        return wrong

    assert against([0, 1, 2, 3]) == set()
    assert len(against([1, 0, 3, 2])) > 20  # Control: of other rates.


POINTS = [(-1.0, 0.0), (-0.5, -0.5), (-1.0, -1.0), (0.0, 0.0), (-1.5, -0.25), (-2.0, -2.0)]
FAR, NARROW = np.array([40.0, 50.0, 60.0]), np.array([6.0, 8.5, 11.0])


def slopes(log2_widths, points=POINTS, seeds=20, t=1):
    """Exponents (points, constants) by quantity."""
    c_a, c_b = np.array(points).T[..., None]
    logs = random_runs(log2_widths, range(seeds), c_a, c_b, k_a=K_A, k_b=K_B, steps=t)
    rise = log2_widths[-1] - log2_widths[0]
    means = {name: log[..., t - 1].mean(axis=-1) for name, log in logs.items()}
    return {name: (mean[..., -1] - mean[..., 0]) / rise for name, mean in means.items()}


def expected(points=POINTS):
    """At t = 1, (points, 1)."""
    a, b = np.array(points).T[..., None] + np.array([1.0, 0.0])[:, None, None]
    z_a = np.maximum(a, 0)
    return {
        "delta1": a,
        "delta2": b,
        "delta3": a + b,
        "f": np.maximum(np.maximum(a, b), np.maximum(a + b, 0)),
        "dZ_A": a,
        "Z_A": z_a,
        "dB": b - 0.5,
        "B": 0 * a,
        "Z_B": z_a,
        "delta1_Z_B": a,
        "delta2_Z_B": b - 0.5,
        "delta3_Z_B": a + b - 0.5,
    }


def test_exponents_are_those_of_the_rates_whatever_the_constants():
    found = slopes(FAR)
    assert found.keys() == expected().keys()
    for name, exponents in expected().items():
        assert np.abs(found[name] - exponents).max() < 0.02, name


def test_widths_that_are_trained_show_bent_slopes():
    """Control: in n = 2^6 … 2^11 the same constants are off by more than .1."""
    found = slopes(NARROW)
    assert np.abs(found["delta1"] - expected()["delta1"]).max() > 0.1
    assert np.abs(found["f"] - expected()["f"]).max() > 0.1


def test_efficient_in_f_but_rows_move_by_less_and_less():
    """(−1, 0) at t = 3, at which nothing of f depends on n."""
    found = slopes(FAR, [(-1.0, 0.0)], t=3)
    for name in ("f", "delta1", "delta2", "delta3", "Z_A"):
        assert np.abs(found[name]).max() < 1e-6, name
    for name in ("dB", "delta2_Z_B"):
        assert np.abs(found[name] + 0.5).max() < 1e-6, name


def test_the_jitter_puts_no_floor_below_what_a_small_move_does(monkeypatch):
    found = slopes(FAR, [(-2.0, -0.5)], t=3)
    assert np.abs(found["delta1"] + 1).max() < 0.02
    monkeypatch.setattr(two_layer_limit, "_NEAR", -1.0)  # Control: each point is a new one.
    assert np.abs(slopes(FAR, [(-2.0, -0.5)], t=3)["delta1"] + 1).max() > 0.5


def test_constants_do_not_jump_where_points_begin_to_count_as_one():
    """Widths at which θ passes 10^−4: every size still goes by its own power."""
    c_a, widths = -1.5, np.arange(10.0, 40.0, 2.0)
    logs = random_runs(widths, range(200), c_a, 0.0, k_a=0.2, k_b=0.2, steps=2)
    for name, exponent in (("delta1", c_a + 1), ("delta2", 0.0), ("dZ_A", c_a + 1)):
        mean = logs[name].mean(axis=1) - exponent * widths[:, None]
        assert np.ptp(mean[1:], axis=0).max() < 0.2, name


def test_a_seed_has_the_same_draws_whatever_it_is_run_with():
    many, longer = random_start(range(5), steps=1), random_start([3], steps=3)
    for name in ("gram", "y", "h"):
        np.testing.assert_array_equal(getattr(many, name)[3], getattr(longer, name)[0])
    np.testing.assert_array_equal(many.normals[3], longer.normals[0, :2])
    other = random_start([3], steps=1, stream="other")
    assert not np.isclose(other.normals, longer.normals[:, :2]).any()


def test_runs_in_portions_are_the_runs_together(monkeypatch):
    def logs():
        return random_runs(FAR, range(7), -0.5, [-0.5, 0.0], k_a=0.2, k_b=K_B[0], steps=2)

    together = logs()
    monkeypatch.setattr(two_layer_limit, "_TOGETHER", 12)  # Two seeds at a time.
    for name, log in logs().items():
        assert log.shape == (2, 3, 7, 2)
        np.testing.assert_allclose(log, together[name], atol=1e-6)


def test_what_leaves_float64_is_infinite_and_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logs = random_runs(np.array([200.0]), range(3), 0.0, 0.0, k_a=0.2, k_b=0.2, steps=4)
    for name in ("f", "delta1", "delta2", "delta3", "Z_A", "dB"):
        assert np.isfinite(logs[name][..., 0]).all(), name
        assert np.isposinf(logs[name][..., -1]).all(), name


def test_contributions_add_up_to_the_move_of_f():
    run = trajectory(random_start(range(50), steps=4), np.full((1, 1), 0.3), np.full((1, 1), 0.2))
    np.testing.assert_allclose(run.deltas[:, 1:].sum(axis=0), np.diff(run.f, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"log2_widths": [[10.0]]}, "log2_widths: must be of shape"),
        ({"log2_widths": [np.nan]}, "log2_widths: must be finite"),
        ({"seeds": []}, "seeds: must be a list of integers"),
        ({"seeds": [-1]}, "seeds: must be an integer of at least 0"),
        ({"c_a": np.inf}, "c_a: must be finite"),
        ({"c_b": [0.0, 1.0], "k_a": [1.0, 2.0, 3.0]}, "c_a, c_b, k_a, k_b: must have one shape"),
        ({"c_a": 99.0}, r"c_a: n η_A and η_B must be from 2\^-900 to 2\^900 .*\(got 2\^998\)"),
        ({"k_a": 0.0}, "k_a: must be positive"),
        ({"k_b": -1.0}, "k_b: must be positive"),
        ({"rank": 0}, "rank: must be an integer of at least 1"),
        ({"samples": 0}, "samples: must be an integer"),
        ({"inputs": 2.5}, "inputs: must be an integer"),
        ({"steps": 0}, "steps: must be an integer"),
        ({"stream": 3}, r"stream: must be text \(got 3\)"),
    ],
)
def test_bad_input_is_refused_in_one_line(changed, message):
    given = {"log2_widths": [10.0], "seeds": [0], "c_a": -1.0, "c_b": 0.0, "k_a": 0.2, "k_b": 0.2}
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        random_runs(**(given | changed))
    assert "\n" not in str(refused.value)


def test_rates_of_other_runs_are_refused():
    with pytest.raises(ValueError, match=r"^beta: must be of shape \(…, 3\) or \(…, 1\)"):
        trajectory(random_start(range(3)), np.ones(1), np.ones(2))
    with pytest.raises(ValueError, match=r"^alpha, beta: must have one shape"):
        trajectory(random_start(range(3)), np.ones((2, 1)), np.ones((3, 1)))


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_a_rate_of_zero_is_refused(name):
    rates = {"alpha": np.ones(1), "beta": np.ones(1)} | {name: np.zeros(1)}
    with pytest.raises(ValueError, match=f"^{name}: must be positive"):
        trajectory(random_start([0]), **rates)
