"""The engine against plain NumPy descent, and the same bits however the work is laid out."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from flax import nnx

from lora_theory.adapters.layer import FactorA, FactorB, Frozen, LoRA
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.data.synthetic import linear_task, sine_task
from lora_theory.models.toys import FeatureLayerToy, LinearToy, TwoLayerToy
from lora_theory.train.devices import Policy, resolve_policy
from lora_theory.train.sweep import Problem, sweep_cells

SGD = functools.partial(lora_plus, base=optax.sgd)
SIGN = functools.partial(lora_plus, base=optax.sign_sgd)


@functools.cache
def two_layer(width=100, n_train=1000, n_test=100, seed=0):
    return drawn_two_layer(width, n_train, n_test, jax.random.key(seed))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))  # Op by op it would be forty compilations.
def drawn_two_layer(width, n_train, n_test, key):
    data = sine_task(5, n_train, n_test, key=key)
    return Problem(TwoLayerToy(5, width, 4, init="both", key=key), data)


@functools.partial(jax.jit, static_argnums=(0, 1))
def drawn_on_features(make, init, key):
    """A small problem of any model on features: its width is not that of its inputs."""
    return Problem(make(5, 64, 4, init=init, key=key), sine_task(5, 80, 20, key=key))


PRETRAINED = functools.partial(TwoLayerToy, weight="random")


@functools.cache
def on_features(make, init="A", seed=0):
    return drawn_on_features(make, init, jax.random.key(seed))


def linear(width=64, n_train=32, n_test=8, seed=0, init="A"):
    key = jax.random.key(seed)
    data = linear_task(width, n_train, n_test, key=key)
    # A mean of 1: without it the all-pairs target is nearly 0, and no loss would move.
    data = data._replace(y_train=data.y_train + 1, y_test=data.y_test + 1)
    return Problem(LinearToy(width, init=init, key=key), data)


def run(problem, cells, devices, *, loss="mse", steps=20, policy=None, optimizer=SGD):
    width = problem.data.x_train.shape[0]
    if hasattr(problem.model, "w_in"):
        width = problem.model.w_in.shape[0]
    samples = problem.data.y_train.size + problem.data.y_test.size
    return sweep_cells(
        problem,
        np.asarray(cells, np.float64),
        optimizer=optimizer,
        loss=loss,
        steps=steps,
        policy=policy or resolve_policy(width, samples),
        devices=devices,
    )


def float64(variable):
    return np.asarray(variable[...], np.float64)


def oracle(problem, eta_a, eta_b, steps, loss):
    """NumPy's curves from the same weights and data; rates rounded as the engine rounds them."""
    data = [np.asarray(part, np.float64) for part in problem.data]
    eta_a, eta_b = float(np.float32(eta_a)), float(np.float32(eta_b))
    model, rates = problem.model, (eta_a, eta_b, steps, loss)
    if hasattr(model, "w_in"):
        weights = map(float64, (model.w_in, model.w_out, model.lora.lora_a, model.lora.lora_b))
        if isinstance(model, FeatureLayerToy):
            return oracles.feature_layer(*weights, data, *rates)
        below = model.lora.weight
        return oracles.two_layer(
            *weights, data, *rates, w_star=0.0 if below is None else float64(below)
        )
    a, b = float64(model.lora.lora_a)[0], float64(model.lora.lora_b)[0, 0]
    return oracles.linear(a, b, data, eta_a, eta_b, steps, loss)


# Far below the edge of stability (η_A ≈ 1e-2, η_B ≈ 1 at n = 100): rounding is not amplified.
CALM = {
    "two_layer": (
        functools.partial(two_layer, n_train=400),  # NumPy's descent over all pairs goes as N².
        [(1e-4, 1e-4), (1e-3, 1e-1), (3e-3, 1e-3), (1e-4, 0.2), (2e-3, 3e-2)],
    ),
    "pretrained": (
        functools.partial(on_features, PRETRAINED),
        [(1e-3, 0.1), (3e-3, 3e-2), (1e-4, 0.2)],
    ),
    "feature_layer": (
        functools.partial(on_features, FeatureLayerToy),
        [(3e-2, 1.0), (1e-1, 3.0), (0.3, 0.5)],
    ),
    "linear": (linear, [(1e-2, 0.1), (3e-3, 0.3), (2e-2, 2e-2)]),
    "linear_b": (functools.partial(linear, init="B"), [(1e-2, 0.1), (2e-2, 0.03)]),
    "linear_both": (functools.partial(linear, init="both"), [(1e-2, 0.1), (2e-2, 0.03)]),
}


@functools.cache
def numpy_descent(name, loss, steps):
    """The problem, and of every cell its curves and those of its controls: rates 10 % off."""
    make, cells = CALM[name]
    problem = make()
    wrong = [((1.1 * a, b), (a, 1.1 * b)) for a, b in cells]
    return problem, [
        (oracle(problem, *cell, steps, loss), [oracle(problem, *c, steps, loss) for c in controls])
        for cell, controls in zip(cells, wrong, strict=True)
    ]


@pytest.mark.parametrize("block", [None, 300], ids=["whole", "blocks"])
@pytest.mark.parametrize("loss", ["mse", "all_pairs"])
@pytest.mark.parametrize("name", CALM)
def test_engine_equals_numpy_descent(name, loss, block, devices):
    cells, steps = CALM[name][1], 60
    problem, descents = numpy_descent(name, loss, steps)
    samples = problem.data.y_train.size + problem.data.y_test.size
    policy = Policy("cores", 2, min(block or samples, samples - 1 if block else samples))
    curves = run(problem, cells, devices[:2], loss=loss, steps=steps, policy=policy)
    for k, (expected, controls) in enumerate(descents):
        # float32 against float64: rounding of 6e-8 a step over 60 steps, and of the sums.
        np.testing.assert_allclose(curves.train_loss[k], expected[:, 0], rtol=2e-5)
        np.testing.assert_allclose(curves.test_loss[k], expected[:, 1], rtol=2e-5)
        for wrong in controls:
            assert np.abs(wrong[:, 0] / expected[:, 0] - 1).max() > 2e-5, cells[k]
    assert (curves.diverged_at == -1).all()


@pytest.mark.parametrize("init", ["A", "B"])
@pytest.mark.parametrize("make", [PRETRAINED, FeatureLayerToy], ids=["pretrained", "layer"])
def test_adam_without_epsilon_starts_from_gradients_that_are_zero(make, init, devices):
    """Init[1] and Init[2]: one factor's gradient is exactly 0 at t = 0, and 0 / ε is 0."""
    adam = functools.partial(lora_plus, base=functools.partial(optax.adam, eps=1e-30))
    problem, cells = on_features(make, init), [(1e-3, 1e-2), (1e-2, 1e-1)]
    curves = run(problem, cells, devices[:2], steps=60, optimizer=adam)
    assert (curves.diverged_at == -1).all()
    assert (curves.train_loss[:, -1] < 0.9 * curves.train_loss[:, 0]).all()


def same_bits(left, right):
    return all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(left, right, strict=True)
    )


GRID = np.geomspace(1e-4, 10, 46)
FULL = np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1).reshape(-1, 2)


@pytest.fixture(scope="module")
def full(devices):
    """The paper's grid for 15 steps: 2116 cells, edge of stability and diverged corner included."""
    return run(two_layer(), FULL, devices[:2], steps=15)


def pick(curves, places):
    return tuple(part[places] for part in curves)


@pytest.mark.parametrize("i", [0, 9, 18, 19, 20, 27, 36, 45])
@pytest.mark.parametrize("j", [0, 18, 34, 36, 37, 38])
def test_a_cell_has_the_same_bits_alone_and_in_any_grid(i, j, full, devices):
    alone = run(two_layer(), [FULL[46 * i + j]], devices[:2], steps=15)
    assert same_bits(alone, pick(full, [46 * i + j]))
    rows = [min(max(i + k, 0), 45) for k in (-1, 0, 1)]
    columns = [min(max(j + k, 0), 45) for k in (-1, 0, 1)]
    places = [46 * row + column for row in rows for column in columns]
    small = run(two_layer(), FULL[places], devices[:2], steps=15)
    assert same_bits(small, pick(full, places))


def test_the_grid_under_test_has_an_edge(full):
    share = (full.diverged_at >= 0).mean()
    assert 0.3 < share < 0.8


@functools.cache
def on_one_device(policy, device):
    return run(two_layer(), FULL[::9], [device], policy=policy)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("policy", ["cores", "batch"])
def test_any_number_of_devices_gives_the_same_bits(count, policy, devices):
    laid = Policy(policy, 8 if policy == "cores" else 64, 1100)
    reference = on_one_device(laid, devices[0])
    assert same_bits(run(two_layer(), FULL[::9], devices[:count], policy=laid), reference)


@pytest.mark.slow
@pytest.mark.parametrize("base", [optax.sgd, optax.adam, optax.adamw, optax.sign_sgd])
@pytest.mark.parametrize("policy", [Policy("cores", 8, 60), Policy("batch", 300, 60)])
def test_neither_the_order_of_cells_nor_their_neighbours_change_a_bit(base, policy, devices):
    """Also of an optimizer with a state, which starts anew with each run in a slot."""
    problem, optimizer = two_layer(20, 50, 10), functools.partial(lora_plus, base=base)
    train = functools.partial(run, problem, policy=policy, optimizer=optimizer, steps=15)
    cells = np.concatenate([FULL[::17], [(1e30, 1e30), (0.0, 0.0), (1e38, 1e-3)]])
    reference = train(cells, devices[:2])
    places = np.random.default_rng(0).permutation(len(cells))
    assert same_bits(train(cells[places], devices[:3]), pick(reference, places))
    few = places[:5]
    assert same_bits(train(cells[few], devices[:1]), pick(reference, few))
    assert not same_bits(train(cells[few], devices[:1]), pick(reference, places[5:10]))


@pytest.mark.slow
def test_a_loss_that_is_infinite_from_the_start_has_no_curve(devices):
    problem = two_layer(20, 50, 10)
    data = problem.data._replace(y_test=problem.data.y_test.at[0].set(jnp.inf))
    curves = run(problem._replace(data=data), FULL[::60], devices[:2])
    assert (curves.diverged_at == 0).all()
    assert np.isnan(curves.train_loss).all()


@pytest.mark.slow
def test_another_micro_batch_agrees_away_from_the_edge(devices):
    cells = [cell for cell in FULL[::7] if cell[0] < 3e-3 and cell[1] < 0.1]
    reference = run(two_layer(), cells, devices[:2])
    for policy in (Policy("cores", 3, 1100), Policy("cores", 8, 128), Policy("batch", 300, 1100)):
        other = run(two_layer(), cells, devices[:2], policy=policy)
        np.testing.assert_allclose(other.train_loss, reference.train_loss, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("base", [optax.sgd, optax.adam, optax.sign_sgd])
@pytest.mark.parametrize("name", CALM)
def test_a_batch_on_cores_agrees_away_from_the_edge(name, base, devices):
    """The accelerators' policy, forced: as many cells as fit, of which most slots are empty."""
    make, cells = CALM[name]
    if base is not optax.sgd:  # A step of these is as long as the rate, whatever the gradient.
        cells = [(a / 30, b / 30) for a, b in cells]
    problem, optimizer = make(), functools.partial(lora_plus, base=base)
    samples = problem.data.y_train.size + problem.data.y_test.size
    batch = resolve_policy(64, samples, name="batch", micro_batch=50)
    train = functools.partial(run, problem, optimizer=optimizer)
    found = train(cells, devices[:1], policy=batch)
    cores = train(cells, devices[:2])
    np.testing.assert_allclose(found.train_loss, cores.train_loss, rtol=1e-4)
    np.testing.assert_allclose(found.test_loss, cores.test_loss, rtol=1e-4)
    # Control: with rates 10 % off it is another curve.
    off = train(1.1 * np.array(cells), devices[:2])
    assert (np.abs(off.train_loss / cores.train_loss - 1).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("optimizer", [SGD, SIGN])
def test_diverged_runs_are_marked_and_never_averaged_away(optimizer, devices):
    cells = [(1e-3, 1e-2), (1e20, 1e20), (10.0, 10.0), (1e-4, 1e-4)]
    curves = run(two_layer(), cells, devices[:2], optimizer=optimizer)
    for k, t in enumerate(curves.diverged_at):
        for part in (curves.train_loss[k], curves.test_loss[k]):
            stop = len(part) if t < 0 else t
            assert np.isfinite(part[:stop]).all()
            assert np.isnan(part[stop:]).all()
    assert (curves.diverged_at[[0, 3]] == -1).all()
    assert curves.diverged_at[1] > 0


def test_diverged_runs_stop_early(devices):
    """A million steps of this would take a minute; they end where the last run diverges."""
    problem = two_layer(width=20, n_train=50, n_test=10)
    begin = time.perf_counter()
    curves = run(problem, np.full((32, 2), 10.0), devices[:2], steps=200_000)
    assert (curves.diverged_at > 0).all()
    assert time.perf_counter() - begin < 20


def test_one_compilation_serves_rates_seeds_and_losses(devices):
    traced = []

    @dataclasses.dataclass(frozen=True)
    class Counted:
        """Known, as the registry's records are, and seen whenever it is traced."""

        def __call__(self, eta_a, eta_b):
            traced.append(eta_a)
            return SGD(eta_a, eta_b)

    Counted.__module__, Counted.__qualname__ = "optax", "Counted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optax, "Counted", Counted, raising=False)
        for seed in (0, 1):
            for loss in ("mse", "all_pairs"):
                cells = [(1e-3, 1e-3 * (seed + 1))]
                problem = two_layer(20, 30, 10, seed)
                run(problem, cells, devices[:2], loss=loss, optimizer=Counted())
                once = len(traced) if (seed, loss) == (0, "mse") else once
    assert len(traced) == once > 0


def test_what_an_optimizer_reads_is_read_anew(devices):
    base = {"b": optax.sgd}
    optimizer = lambda a, b: lora_plus(a, b, base=base["b"])  # noqa: E731 (as in a notebook)
    first = run(linear(), [(0.01, 0.1)], devices[:1], optimizer=optimizer)
    base["b"] = optax.sign_sgd
    second = run(linear(), [(0.01, 0.1)], devices[:1], optimizer=optimizer)
    expected = run(linear(), [(0.01, 0.1)], devices[:1], optimizer=SIGN)
    assert same_bits(second, expected)
    assert not same_bits(second, first)


class Bent(LinearToy):
    """A model whose readout reads what a notebook may change."""

    power = 1

    def readout(self, z):
        return super().readout(z) ** type(self).power


def test_what_a_models_class_reads_is_read_anew(devices):
    toy = linear()
    bent = Problem(Bent(64, init="A", key=jax.random.key(0)), toy.data)
    first = run(bent, [(0.01, 0.1)], devices[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bent, "power", 3)
        second = run(bent, [(0.01, 0.1)], devices[:1])
    assert same_bits(first, run(toy, [(0.01, 0.1)], devices[:1]))
    assert not same_bits(second, first)


def test_a_healthy_grid_and_a_diverging_one_pass_where_nan_are_looked_for(devices):
    cells = [(0.01, 0.1), (1e20, 1e20)]
    expected = run(linear(), cells, devices[:1])
    with jax.debug_nans(True), jax.debug_infs(True):
        found = run(linear(), cells, devices[:1])
    assert same_bits(found, expected)
    assert (found.diverged_at >= 0).tolist() == [False, True]


def test_seeds_differ(devices):
    one, two = (run(two_layer(seed=s), [(1e-3, 1e-2)], devices[:1], steps=3) for s in (0, 1))
    assert not np.isclose(one.train_loss, two.train_loss).any()


@pytest.mark.parametrize("base", [optax.adam, optax.adamw, optax.sign_sgd])
def test_any_base_trains(base, devices):
    optimizer = functools.partial(lora_plus, base=base)
    curves = run(two_layer(), [(1e-3, 1e-2)], devices[:2], steps=50, optimizer=optimizer)
    assert curves.train_loss[0, 50] < 0.5 * curves.train_loss[0, 0]


class SamplesFirst(nnx.Module):
    """The two-layer toy's function with samples first: x (N, d), Z (N, n)."""

    def __init__(self, columns):
        lora = columns.lora
        self.w_in, self.w_out = Frozen(columns.w_in[...].T), Frozen(columns.w_out[...])
        self.a, self.b = FactorA(lora.lora_a[...].T), FactorB(lora.lora_b[...].T)

    def features(self, x):
        return nnx.relu(x @ self.w_in[...])

    def readout(self, z):
        return nnx.relu(z @ self.a[...] @ self.b[...]) @ self.w_out[...]


@pytest.mark.slow
@pytest.mark.parametrize("block", [1100, 300])
def test_networks_with_samples_first_train_the_same_runs(block, devices):
    problem, cells = two_layer(), CALM["two_layer"][1]
    policy = Policy("cores", 2, block)
    columns = run(problem, cells, devices[:2], policy=policy)
    x = {name: getattr(problem.data, name).T for name in ("x_train", "x_test")}
    rows = sweep_cells(
        Problem(SamplesFirst(problem.model), problem.data._replace(**x)),
        np.asarray(cells),
        optimizer=SGD,
        loss="mse",
        steps=20,
        policy=policy,
        devices=devices[:2],
        axis=-1,
    )
    np.testing.assert_allclose(rows.train_loss, columns.train_loss, rtol=1e-4)
    np.testing.assert_allclose(rows.test_loss, columns.test_loss, rtol=1e-4)


def test_a_head_trains_only_where_the_filter_says_so(devices):
    class Headed(nnx.Module):
        def __init__(self, key):
            self.lora, self.head = LoRA(8, 8, 2, init="A", key=key), nnx.Param(jnp.ones(8))

        def features(self, x):
            return x

        def readout(self, z):
            return self.head[...] @ self.lora(z)

    def labels(params):
        return nnx.map_state(lambda path, _: "A" if "lora_a" in path else "B", params)

    data = linear_task(8, 20, 5, key=jax.random.key(0))
    losses = [
        sweep_cells(
            Problem(Headed(jax.random.key(1)), data),
            np.array([[0.02, 0.1]]),
            optimizer=lambda a, b: lora_plus(a, b, base=optax.sgd, labels=labels),
            loss="mse",
            steps=30,
            policy=resolve_policy(8, 25),
            devices=devices[:1],
            trainable=trainable,
        ).train_loss[0]
        for trainable in (nnx.LoRAParam, nnx.Param)
    ]
    # With B = 0 the head has no gradient at first; rounding is a hundredth of what it does then.
    np.testing.assert_array_equal(losses[0][:2], losses[1][:2])
    assert np.abs(losses[1] / losses[0] - 1).max() > 1e-4
