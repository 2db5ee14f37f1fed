"""The layer's reduced dynamics against training of whole matrices; draws against drawn vectors."""

import functools

import numpy as np
import pytest

from lora_theory.exact.layer_map import logs, random_starts, start_of, trajectory
from lora_theory.exact.signed_log import SignedLog

QUANTITIES = {
    *("f", "delta1", "delta2", "delta3", "B", "Z_A", "Z_B", "dB", "dZ_A", "dZ_B"),
    *("delta1_Z_B", "delta2_Z_B", "delta3_Z_B"),
}


# --- Whole matrices, in float64; nothing is shared with the map. ---


def signs():
    return np.sign


def adam(b1=0.9, b2=0.999):
    """m̂/√v̂, moments of whole matrices."""
    state = {"t": 0, "m": 0.0, "v": 0.0}

    def process(gradient):
        state["t"] += 1
        state["m"] = b1 * state["m"] + (1 - b1) * gradient
        state["v"] = b2 * state["v"] + (1 - b2) * gradient**2
        m = state["m"] / (1 - b1 ** state["t"])
        v = state["v"] / (1 - b2 ** state["t"])
        return np.divide(m, np.sqrt(v), out=np.zeros_like(m), where=v > 0)

    return process


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def matrices(a, b, w, z, y, eta_a, eta_b, s, steps, update):
    """quantity -> sizes at t = 1 … T."""
    process_a, process_b = update(), update()
    rows = []
    for _ in range(steps):
        residual = s * w @ b @ a @ z - y
        da = -eta_a * process_a(s * np.outer(b.T @ w, z @ residual) / len(y))
        db = -eta_b * process_b(s * np.outer(w, a @ z @ residual) / len(y))
        new_a, new_b = a + da, b + db
        parts = s * b @ (da @ z), s * db @ (a @ z), s * db @ (da @ z)
        rows.append({
            "f": rms(s * w @ new_b @ new_a @ z),
            **{f"delta{i + 1}": rms(w @ part) for i, part in enumerate(parts)},
            **{f"delta{i + 1}_Z_B": rms(part) for i, part in enumerate(parts)},
            "B": rms(new_b),
            "Z_A": rms(new_a @ z),
            "Z_B": rms(s * new_b @ (new_a @ z)),
            "dB": rms(db),
            "dZ_A": rms(da @ z),
            "dZ_B": rms(sum(parts)),
        })  # fmt: skip
        a, b = new_a, new_b
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def vectors(init, samples, n_in=24, n_out=18, rank=3, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rank, n_in)) / np.sqrt(n_in) * (init != "B")
    b = rng.normal(size=(n_out, rank)) * (init != "A")
    w, z = rng.normal(size=n_out) / n_out, rng.normal(size=(n_in, samples))
    return a, b, w, z if samples == 1 else np.sign(z), 3 * rng.normal(size=samples)


def agree(found, expected, rtol=1e-9):
    """Sizes agree; what the map has as exactly 0 is rounding in floats."""
    assert found.keys() == expected.keys() == QUANTITIES
    for name, oracle in expected.items():
        unit = max(oracle.max(), 1e-3)
        value = np.exp2(found[name])
        np.testing.assert_allclose(value, oracle, rtol=rtol, atol=1e-14 * unit, err_msg=name)


UPDATES = {"sign": signs, "adam": adam}


@pytest.mark.parametrize("rates", [(0.01, 0.1), (0.3, 0.02), (0.05, 2.0)])
@pytest.mark.parametrize(("rank", "s"), [(1, 1.0), (3, 0.25), (6, 2.0)])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("init", ["A", "B", "both"])
@pytest.mark.parametrize("update", ["sign", "adam"])
def test_the_map_is_training_of_matrices(update, init, samples, rank, s, rates):
    drawn = vectors(init, samples, rank=rank, seed=rank)
    expected = matrices(*drawn, *rates, s, 4, UPDATES[update])
    found = logs(trajectory(start_of(*drawn, *rates, s), 4, update=update))
    agree(found, expected)


def test_betas_are_those_of_adam():
    drawn = vectors("both", 1)
    expected = matrices(*drawn, 0.1, 0.1, 1.0, 4, functools.partial(adam, 0.5, 0.7))
    start = start_of(*drawn, 0.1, 0.1, 1.0)
    agree(logs(trajectory(start, 4, update="adam", b1=0.5, b2=0.7)), expected)
    with pytest.raises(AssertionError):
        agree(logs(trajectory(start, 4, update="adam")), expected)


@pytest.mark.parametrize(("field", "factor"), [
    ("weights", 1.01), ("w_norm", 1.01), ("across", 1.01), ("aligned", -1.0), ("v", -1.0),
    ("scale", 1.01), ("eta_a", 1.01), ("eta_b", 1.01), ("z_a", 1.01), ("y", 0.1),
])  # fmt: skip
@pytest.mark.parametrize("samples", [1, 3])
def test_a_wrong_number_is_seen(field, factor, samples):
    """Control: every number of the start matters, for several samples too."""
    drawn = vectors("both", samples, seed=4)
    expected = matrices(*drawn, 0.05, 2.0, 1.0, 4, signs)
    start = start_of(*drawn, 0.05, 2.0, 1.0)
    agree(logs(trajectory(start, 4)), expected)
    wrong = start._replace(**{field: getattr(start, field) * factor})
    with pytest.raises(AssertionError):
        agree(logs(trajectory(wrong, 4)), expected)


def test_another_update_is_seen():
    """Control: from the second step on Adam is not the sign."""
    drawn = vectors("both", 1)
    sizes = [
        logs(trajectory(start_of(*drawn, 0.1, 0.1, 1.0), 4, update=update))["Z_B"]
        for update in ("sign", "adam")
    ]
    assert sizes[0][0] == pytest.approx(sizes[1][0], abs=1e-12)
    assert abs(sizes[0] - sizes[1])[1:].max() > 1e-3


def test_a_residual_that_has_arrived_is_lost_and_one_without_a_gradient_moves_nothing():
    one = np.ones((1, 1))
    arrived = trajectory(start_of(one, 2 * one, one[0], one[0], 2.0, 0.1, 0.1, 1.0), 2)
    assert np.isnan(logs(arrived)["f"]).all()
    still = trajectory(start_of(0 * one, 0 * one, one[0], one[0], 2.0, 0.1, 0.1, 1.0), 2)
    assert all(np.isneginf(log).all() for log in logs(still).values())


# --- The trained model. ---


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("init", ["A", "B", "both"])
@pytest.mark.parametrize("update", ["sign", "adam"])
def test_the_map_is_the_trained_model(update, init, samples):
    import jax
    import jax.numpy as jnp
    import optax

    from lora_theory import lora_plus
    from lora_theory.models.toys import LayerToy
    from lora_theory.train.coordinates import coordinate_check

    def setup(n, key):
        key_x, key_model = jax.random.split(key)
        x = jax.random.normal(key_x, (n, samples))
        x = x if samples == 1 else jnp.sign(x)
        y = 50.0 + jnp.arange(samples, dtype=x.dtype)
        return LayerToy(n, 4, alpha=8.0, init=init, key=key_model), x, y

    base = optax.sign_sgd if update == "sign" else functools.partial(optax.adam, eps=1e-30)
    optimizer, rates = functools.partial(lora_plus, base=base), (0.01, 0.2)
    table = coordinate_check(setup, optimizer, lambda n: rates, [16, 32], seeds=[5], steps=3)
    for i, n in enumerate((16, 32)):
        with jax.enable_x64(True):
            model, x, y = setup(n, jax.random.key(5))
            a, b, w = model.lora.lora_a[...], model.lora.lora_b[...], model.w_out[...]
        drawn = (np.asarray(value, np.float64) for value in (a, b, w, x, y))
        found = logs(trajectory(start_of(*drawn, *rates, 2.0), 3, update=update))
        for name, log in found.items():
            measured = table.logs[name][i, 0]
            unit = np.exp2(np.nanmax(measured))
            seen = ~np.isnan(measured)  # A δ as small as the rounding of f is not measured.
            assert seen.all() or (np.exp2(log[~seen]) < 1e-12).all(), name
            sizes = np.exp2(log[seen]), np.exp2(measured[seen])
            np.testing.assert_allclose(*sizes, rtol=1e-9, atol=1e-14 * unit, err_msg=name)


# --- Random starts. ---


def exponents(starts, update, log2_widths, steps=4):
    """quantity -> exponent between the widths, of the median over seeds (…, T)."""
    found = logs(trajectory(starts, steps, update=update))
    with np.errstate(invalid="ignore"):
        return {
            name: np.diff(np.median(log, axis=-2), axis=-2)[..., 0, :] / np.diff(log2_widths)[0]
            for name, log in found.items()
        }


def expected(init, c_a, c_b):
    """Exponents at t = 3 for rates that keep f bounded, from the formulas of one step by hand."""
    move_a, move_b = c_a + 1, c_b  # A reads n columns of one sign.
    z_a = move_a if init == "B" else max(0, move_a)
    b = move_b if init == "A" else max(0, move_b)
    v = move_b if init == "A" else max(-1 / 2, move_b)  # Bᵀw of a random B is n^−1/2.
    return {
        "B": b,
        "Z_A": z_a,
        "Z_B": b + z_a,
        "f": v + z_a,
        "delta1": v + move_a,
        "delta2": move_b + z_a,
        "delta3": move_b + move_a,
        "dB": move_b,
        "dZ_A": move_a,
        "dZ_B": max(b + move_a, move_b + z_a),
        "delta1_Z_B": b + move_a,
        "delta2_Z_B": move_b + z_a,
        "delta3_Z_B": move_b + move_a,
    }


RATES = [(-1.0, 0.0), (-0.5, -0.5), (-1.5, 0.0), (-1.0, -0.5), (-1.25, -0.25), (-0.75, -0.75)]
CONSTANTS = np.array([[0.005, 0.2, 8.0]])


@pytest.mark.parametrize(("c_a", "c_b"), RATES)
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("init", ["A", "B", "both"])
@pytest.mark.parametrize("update", ["sign", "adam"])
def test_exponents_at_huge_widths_are_those_of_one_step_by_hand(update, init, samples, c_a, c_b):
    widths = np.array([2000.0, 4000.0])
    # An odd rank: else Σ_j sign(v_j) sign(Z_A,j) of δ³ is 0 for many seeds of "both". Of those
    # some come back to where they started, and the median over seeds is of the others.
    k = {"k_a": CONSTANTS, "k_b": CONSTANTS.T, "target": 1e6, "samples": samples, "rank": 3}
    starts = random_starts(widths, range(15), init, c_a, c_b, **k)
    found = exponents(starts, update, widths)
    wanted = expected(init, c_a, c_b)
    assert found.keys() == wanted.keys() == QUANTITIES
    for name, exponent in wanted.items():
        np.testing.assert_allclose(found[name][..., 2], exponent, atol=0.01, err_msg=name)


def test_the_efficient_rates_are_those_of_the_paper():
    """At (−1, 0) δ¹_Z_B, δ²_Z_B, Z_A and B are Θ(1), at (−1/2, −1/2) they are not."""
    one = {name: expected("A", -1.0, 0.0)[name] for name in ("delta1_Z_B", "delta2_Z_B", "Z_A")}
    assert set(one.values()) == {0.0}
    assert expected("A", -0.5, -0.5)["Z_A"] == 1 / 2


@pytest.mark.parametrize("init", ["A", "B"])
def test_what_is_exactly_zero_stays_so_at_the_first_step(init):
    starts = random_starts(np.array([2.0, 4000.0]), range(50), init, -1, 0, k_a=0.2, k_b=0.2)
    found = logs(trajectory(starts, 2))
    zero = ("delta1", "dZ_A") if init == "A" else ("delta2", "dB")
    for name in (*zero, "delta3"):
        assert np.isneginf(found[name][..., 0]).all()
        assert np.isfinite(found[name][..., 1]).all()


@pytest.mark.parametrize("update", ["sign", "adam"])
@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("init", ["A", "B", "both"])
def test_nothing_is_lost_while_residuals_are_far(update, init, samples):
    widths, k = np.array([2.0, 3.7, 9.0, 300.0, 4000.0]), {"k_a": 0.2, "k_b": 0.2}
    starts = random_starts(widths, range(100), init, -1, [0, -1], **k, samples=samples)
    run = trajectory(starts, 3, update=update)
    assert run.f.sign.shape == (4, 2, 5, 100, samples)
    lost = {name: float(np.isnan(log).mean()) for name, log in logs(run).items()}
    assert max(lost.values()) == 0, lost


def test_what_cancels_over_inputs_is_exact_for_signs_and_lost_for_adam():
    """Two samples from A = 0: the larger residual decides, and z_1 · z_2 ~ √n moves the other.

    Adam's second moves of the two groups differ by what floats do not have: the sum over both is
    not known. His first, and all signs, are.
    """
    k = {"k_a": 1.0, "k_b": 1.0, "samples": 2}
    starts = random_starts(np.array([4000.0]), range(20), "B", -1, -1, **k)
    runs = {name: trajectory(starts, 3, update=name) for name in ("sign", "adam")}
    for t, known in ((1, ["sign", "adam"]), (2, ["sign"])):
        for name, run in runs.items():
            log2 = np.sort(run.z_a.log2()[t, 0], axis=-1)  # NaN last.
            if name in known:
                np.testing.assert_allclose(log2, np.broadcast_to([-2000, 0], log2.shape), atol=12)
            else:
                assert (np.isnan(log2) == [False, True]).all()
                assert np.isfinite(logs(run)["Z_A"]).all()  # The other is all that matters.


def test_what_cancels_in_adams_first_move_of_a_is_known_though_b_has_moved_twice():
    k = {"k_a": 1.0, "k_b": 1.0, "samples": 2}
    starts = random_starts(np.array([4000.0]), range(20), "A", -0.4, -0.6, **k)
    assert not np.isnan(trajectory(starts, 2, update="adam").f.sign).any()


def test_the_start_at_another_size_and_layers_that_are_not_square():
    widths, k = np.array([2000.0, 4000.0]), {"k_a": 0.2, "k_b": 0.2, "target": 1e6}
    broken = random_starts(widths, range(6), "A", -1, 0, start=0.5, **k)
    assert exponents(broken, "sign", widths)["Z_A"] == pytest.approx(0.5, abs=0.01)
    broken = random_starts(widths, range(6), "B", -1, 0, start=0.25, **k)
    assert exponents(broken, "sign", widths)["B"] == pytest.approx(0.25, abs=0.01)
    flat = random_starts(widths, range(6), "A", -0.5, 0, inputs=0.5, outputs=2.0, **k)
    assert exponents(flat, "sign", widths)["delta1_Z_B"][2] == pytest.approx(0, abs=0.01)
    wrong = random_starts(widths, range(6), "A", -1, 0, inputs=0.5, outputs=2.0, **k)
    assert exponents(wrong, "sign", widths)["delta1_Z_B"][2] == pytest.approx(-0.5, abs=0.01)


def stacked(starts):
    """One start with an axis of seeds, of those of vectors."""

    def stack(parts):
        if isinstance(parts[0], SignedLog):
            return SignedLog(*(np.stack([getattr(p, at) for p in parts]) for at in ("sign", "log")))
        return np.stack(parts)

    whole = {name: stack([getattr(at, name) for at in starts]) for name in starts[0]._fields}
    return type(starts[0])(**whole | {"patterns": starts[0].patterns})


def apart(x, y):
    """How far two samples' distributions are apart, in units of what chance does in one of 1000."""
    at = np.sort(np.concatenate([x, y]))
    shares = [np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (x, y)]
    return np.abs(shares[0] - shares[1]).max() / (1.95 * np.sqrt(1 / len(x) + 1 / len(y)))


def of_vectors(init, samples, n_in, n_out, count, rates):
    rng = np.random.default_rng(7)
    starts = []
    for _ in range(count):
        a = rng.normal(size=(4, n_in)) / np.sqrt(n_in) * (init != "B")
        b = 0.5 * rng.normal(size=(n_out, 4)) * (init != "A")
        w, z = rng.normal(size=n_out) / n_out, rng.normal(size=(n_in, samples))
        y = 5.0 * rng.choice([-1, 1], size=samples)
        if samples > 1:
            z, y = np.sign(z), y * rng.uniform(1, 2, size=samples)
        starts.append(start_of(a, b, w, z, y, *rates, 0.5))
    return stacked(starts)


@pytest.mark.parametrize(("samples", "inputs"), [(1, 1.0), (3, 1.0), (1, 9 / 6), (3, 9 / 6)])
@pytest.mark.parametrize("init", ["A", "B", "both"])
def test_random_starts_have_the_law_of_vectors(init, samples, inputs):
    """Of every size at t = 1 … 3, at n_in = 64 (all is drawn) and 512 (half of it is not)."""
    count, rates, n = 600, (0.004, 0.05), 64
    vector = logs(trajectory(of_vectors(init, samples, round(n**inputs), n, count, rates), 3))
    c = {"k_a": rates[0], "k_b": rates[1], "multiplier": 0.5, "b_size": 0.5, "target": 5.0}
    options = c | {"samples": samples, "inputs": inputs}
    drawn = random_starts(np.array([6.0]), range(count), init, 0, 0, **options)
    found = {name: log[0] for name, log in logs(trajectory(drawn, 3)).items()}
    distances = {name: [apart(vector[name][:, t], found[name][:, t]) for t in range(3)]
                 for name in QUANTITIES}  # fmt: skip
    assert max(max(at) for at in distances.values()) < 1, distances


@pytest.mark.parametrize("wrong", [{"b_size": 0.6}, {"multiplier": 0.6}, {"target": 9.0}])
def test_another_law_is_seen(wrong):
    """Control."""
    count, rates = 600, (0.004, 0.05)
    vector = logs(trajectory(of_vectors("both", 1, 64, 64, count, rates), 3))
    c = {"k_a": rates[0], "k_b": rates[1], "multiplier": 0.5, "b_size": 0.5, "target": 5.0}
    drawn = random_starts(np.array([6.0]), range(count), "both", 0, 0, **c | wrong)
    found = logs(trajectory(drawn, 3))
    distances = [apart(vector[name][:, 2], found[name][0, :, 2]) for name in QUANTITIES]
    far = "target" in wrong  # No residual turns its sign.
    assert bool(max(distances) > 1.5) is not far


def test_a_seed_has_the_same_draws_whatever_it_is_run_with():
    k = {"k_a": 0.2, "k_b": 0.2}
    many = random_starts(np.array([6.0, 300.0]), range(5), "both", -1, 0, **k)
    alone = random_starts(np.array([300.0]), [3], "A", 0.5, [0, 1], k_a=8, k_b=1)
    np.testing.assert_array_equal(many.z_a.log[1, 3], alone.z_a.log[0, 0])
    np.testing.assert_array_equal(many.w_norm.log[1, 3], alone.w_norm.log[0, 0])
    found, one = (logs(trajectory(
        random_starts(np.array([300.0]), seeds, "A", -1, 0, **k), 3, update="adam"
    )) for seeds in (range(5), [3]))  # fmt: skip
    np.testing.assert_array_equal(found["Z_B"][:, 3:4], one["Z_B"])


def test_rates_are_exactly_those_asked_for():
    starts = random_starts(np.array([6.0, 60.0]), range(3), "A", [-1, 0], 0.5, k_a=0.2, k_b=[1, 8])
    assert starts.eta_a.sign.shape == (2, 2, 1)
    np.testing.assert_allclose(starts.eta_a.log2()[0, :, 0], np.log2(0.2) - np.array([6, 60]))
    np.testing.assert_allclose(starts.eta_b.log2()[1, :, 0], 3 + np.array([3, 30]))
    assert set(np.abs(starts.y).ravel().tolist()) == {100.0}


# --- What is refused. ---

GIVEN = {"log2_widths": np.array([6.0]), "seeds": [0], "init": "A", "c_a": 0, "c_b": 0, "k_a": 1,
         "k_b": 1}  # fmt: skip


@pytest.mark.parametrize(("given", "said"), [
    ({"init": "C"}, "init: must be one of A, B, both"),
    ({"rank": 0}, "rank: must be an integer of at least 1"),
    ({"rank": 65}, r"log2_widths: must be so large that n\^inputs is at least 65"),
    ({"outputs": 0.1}, r"log2_widths: must be so large that n\^outputs is at least 4"),
    ({"samples": 9}, "samples: must be an integer from 1 to 8"),
    ({"multiplier": 0.0}, "multiplier: must be positive"),
    ({"b_size": -1.0}, "b_size: must be positive"),
    ({"inputs": 0.0}, "inputs: must be positive"),
    ({"target": 0.0}, "target: must be positive"),
    ({"start": np.inf}, "start: must be a finite number"),
    ({"k_a": -1.0}, "k_a: must be at least 0"),
    ({"c_a": [0, 1], "k_b": [1, 2, 3]}, "c_a, c_b, k_a, k_b: must have one shape"),
    ({"seeds": []}, "seeds: must be a list of integers"),
    ({"seeds": [0.5]}, "seeds: must be an integer"),
    ({"stream": 3}, r"stream: must be text \(got 3\)"),
    ({"log2_widths": np.ones((1, 1))}, r"log2_widths: must be of shape \(W,\)"),
])  # fmt: skip
def test_bad_random_starts_are_refused(given, said):
    random_starts(**GIVEN)
    with pytest.raises(ValueError, match=f"^{said}") as error:
        random_starts(**GIVEN | given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("place", "value", "said"), [
    (0, np.ones(3), "a: must be a matrix"),
    (1, np.ones((18, 2)), r"b: must have shape \(18, 3\)"),
    (2, np.zeros(18), "w: must be without a 0"),
    (2, np.ones(17), r"w: must have shape \(18,\)"),
    (3, np.full((24, 3), 2.0), "z: must be one sample, or several of entries ±1"),
    (3, np.ones((23, 3)), r"z: must have shape \(24, 3\)"),
    (4, np.ones(2), r"y: must have shape \(3,\)"),
    (4, [np.nan] * 3, "y: must be finite"),
    (5, -1.0, "eta_a: must be a finite number of at least 0"),
    (7, 0.0, "scale: must be positive"),
])  # fmt: skip
def test_bad_vectors_are_refused(place, value, said):
    given = [*vectors("A", 3), 0.1, 0.1, 1.0]
    start_of(*given)
    given[place] = value
    with pytest.raises(ValueError, match=f"^{said}"):
        start_of(*given)


@pytest.mark.parametrize(("change", "said"), [
    ({"v": SignedLog.of(np.ones(4))}, r"v: must have shape \(…, 3\)"),
    ({"z_a": SignedLog.of(np.ones(3))}, r"z_a: must have shape \(…, r, N\)"),
    ({"eta_a": SignedLog.of(-1.0)}, "eta_a, eta_b: must be at least 0"),
    ({"scale": SignedLog.of(0.0)}, "scale, w_norm: must be positive"),
    ({"patterns": np.zeros((3, 4))}, "patterns: must be of entries ±1"),
    ({"y": np.full(3, np.nan)}, "y: must be finite"),
    ({"v": SignedLog.of(np.ones(3)) * SignedLog.two_to([0, 0, 2000.0])},
     "v: must have entries within 10"),
])  # fmt: skip
def test_bad_starts_are_refused(change, said):
    start = start_of(*vectors("both", 3), 0.1, 0.1, 1.0)
    trajectory(start, 1)
    with pytest.raises(ValueError, match=f"^{said}"):
        trajectory(start._replace(**change), 1)


@pytest.mark.parametrize(("given", "said"), [
    ({"steps": 0}, "steps: must be an integer of at least 1"),
    ({"update": "gd"}, "update: must be one of sign, adam"),
    ({"b1": 0.0}, "b1: must be a number between 0 and 1"),
    ({"b2": 1.0}, "b2: must be a number between 0 and 1"),
    ({"start": ()}, "start: must be a Start"),
])  # fmt: skip
def test_bad_trajectories_are_refused(given, said):
    good = {"start": start_of(*vectors("both", 1), 0.1, 0.1, 1.0), "steps": 1}
    trajectory(**good)
    with pytest.raises(ValueError, match=f"^{said}"):
        trajectory(**good | given)
