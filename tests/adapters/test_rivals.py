"""Rivals of LoRA+: their formulas, what the model depends on under each, and where they fit in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory import LoRA, ParamGroup, lora_plus
from lora_theory.adapters.layer import FactorA, FactorB
from lora_theory.adapters.rivals import (
    lora_fa,
    lora_fa_labels,
    lora_rite,
    mua_factor,
    scaled_adamw,
    scaled_gd,
)
from lora_theory.data.synthetic import linear_task, signs_task
from lora_theory.keys import seed_key
from lora_theory.models.toys import LayerToy, LinearToy
from lora_theory.theory.exponents import derive
from lora_theory.theory.variants import SCALED_GD
from lora_theory.train.coordinates import coordinate_check
from lora_theory.train.devices import resolve_policy, start_devices
from lora_theory.train.problems import Problem
from lora_theory.train.sweep import sweep_cells

N, M, RANK, SAMPLES, STEPS = 10, 8, 3, 12, 25
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(RANK, N)) / N**0.5, RNG.normal(size=(M, RANK))
X, Y = RNG.normal(size=(N, SAMPLES)), RNG.normal(size=(M, SAMPLES))
MIXING = RNG.normal(size=(RANK, RANK))
SPLITS = {"s": 8.0 * np.eye(RANK), "s-odd": 3.0 * np.eye(RANK), "G": MIXING}
STARTS = {"both": (1, 1), "A": (1, 0), "B": (0, 1)}


def step_of(tx, loss):
    """(params, state) -> the next ones."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), params

    return step


def weights(tx, starts, kind="own"):
    """W = B A at every step from each start (A, B), in a library's own layer of multiplier 1."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        if kind == "own":
            layer = LoRA(N, M, RANK, key=jax.random.key(0))
        else:
            layer = nnx.LoRA(N, RANK, M, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
        parts = nnx.split(layer, nnx.LoRAParam, ...)
        graph, tree, rest = parts[0], jax.tree.structure(parts[1]), parts[2]
        turned = jnp.transpose if kind == "flax" else jnp.asarray

        def loss(params):
            f = turned(nnx.merge(graph, params, rest)(turned(jnp.asarray(X))))
            return 0.5 * jnp.mean(jnp.square(f - Y))

        def run(a, b):
            params = jax.tree.unflatten(tree, [turned(a), turned(b)])
            begin = params, tx.init(params)
            path = jax.lax.scan(step_of(tx, loss), begin, length=STEPS)[1]
            a, b = (jax.vmap(turned)(factor) for factor in jax.tree.leaves(path))
            return b @ a

        a, b = (jnp.stack([start[k] for start in starts]) for k in (0, 1))
        return np.asarray(jax.jit(jax.vmap(run))(a, b))


def gaps(tx, starts, kind="own"):
    """max |W' − W| / max |W| over steps, W' from B G and G⁻¹ A, for every start and split."""
    grid = [(start, split) for start in starts for split in (None, *SPLITS)]
    drawn = []
    for start, split in grid:
        a, b = (factor * on for factor, on in zip((A, B), STARTS[start], strict=True))
        g = np.eye(RANK) if split is None else SPLITS[split]
        drawn.append((np.linalg.solve(g, a), b @ g))
    path = dict(zip(grid, weights(tx, drawn, kind), strict=True))
    assert all(np.isfinite(w).all() for w in path.values())
    found = {}
    for start, split in grid:
        plain = path[start, None]
        assert np.abs(plain - plain[0]).max() > 1e-4, "of what does not move nothing is learned"
        if split is not None:
            found[start, split] = np.abs(path[start, split] - plain).max() / np.abs(plain).max()
    return found


INVARIANT = {
    "scaled_gd": scaled_gd(1.0),
    "two rates": scaled_gd(1.0, 0.3),
    "lora_rite": lora_rite(0.02),
    "Algorithm 1": lora_rite(0.1, 0.05, b2=None, eps=0.0),
}
DEPENDENT = {
    "scaled_gd damped": scaled_gd(1.0, damping=1e-3),
    "scaled_adamw": scaled_adamw(0.02),
    "scaled_adamw undamped": scaled_adamw(0.02, damping=0.0, weight_decay=0.0),
    "adam": optax.adam(0.02),
    "adamw": optax.adamw(0.02),
    "lora_plus": lora_plus(0.02, ratio=4),
    "gd": optax.sgd(0.01),
}


@pytest.mark.parametrize("kind", ["own", "flax"])
@pytest.mark.parametrize("tx", INVARIANT.values(), ids=INVARIANT)
def test_the_model_does_not_depend_on_how_it_is_split(tx, kind):
    """From a factor of zeros neither: more samples than the rank give it full rank in one step."""
    assert max(gaps(tx, STARTS, kind).values()) < 1e-11


@pytest.mark.parametrize("tx", DEPENDENT.values(), ids=DEPENDENT)
def test_others_depend_on_it(tx):
    assert min(gaps(tx, ["both"]).values()) > 1e-3


@pytest.mark.slow
def test_adafactor_depends_on_more_than_a_scale():
    """It measures its rate in each factor's own size, so that s alone changes nothing; from a
    factor of zeros, whose size it takes for 10^−3, it does.
    """
    found = gaps(optax.adafactor(0.02), STARTS)
    assert min(found[start, "G"] for start in STARTS) > 1e-3
    assert found["both", "s"] < 1e-11
    assert min(found[start, "s"] for start in ("A", "B")) > 1e-3
    alone = gaps(optax.adafactor(0.02, multiply_by_parameter_scale=False), ["both"])
    assert min(alone.values()) > 1e-3


def test_a_factor_of_lower_rank_leaves_scales_and_rotations():
    """One column of B is twice another: B⁺ is not that of an inverse, and G shows."""
    lower = B.copy()
    lower[:, 1] = 2 * lower[:, 0]
    mixing = [np.eye(RANK), SPLITS["s"], np.linalg.qr(MIXING)[0], MIXING]
    starts = [(np.linalg.solve(g, A), lower @ g) for g in mixing]
    plain, scaled, rotated, mixed = weights(scaled_gd(1.0), starts)
    for same in (scaled, rotated):
        np.testing.assert_allclose(same, plain, atol=1e-11)
    assert np.abs(mixed - plain).max() > 1e-3


# Formulas.


def flat(a, b):
    return {"lora_A": jnp.asarray(a), "lora_B": jnp.asarray(b)}


GRADS = (RNG.normal(size=(RANK, N)), RNG.normal(size=(M, RANK)))


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_scaled_gradients_are_the_one_liners(damping):
    with jax.enable_x64(True):
        tx, params = scaled_gd(0.5, 2.0, damping=damping), flat(A, B)
        updates, _ = tx.update(flat(*GRADS), tx.init(params), params)
    eye = damping * np.eye(RANK)
    wanted_a = -0.5 * np.linalg.inv(B.T @ B + eye) @ GRADS[0]
    wanted_b = -2.0 * GRADS[1] @ np.linalg.inv(A @ A.T + eye)
    np.testing.assert_allclose(updates["lora_A"], wanted_a, rtol=1e-10)
    np.testing.assert_allclose(updates["lora_B"], wanted_b, rtol=1e-10)


def test_scaled_adamw_is_adamw_of_the_scaled_gradients():
    damping, decay = 0.1, 0.3
    with jax.enable_x64(True):
        params, scaled = flat(A, B), scaled_gd(1.0, damping=damping)
        tx = scaled_adamw(0.5, b1=0.8, b2=0.9, eps=1e-3, weight_decay=decay, damping=damping)
        adamw = optax.adamw(0.5, b1=0.8, b2=0.9, eps=1e-3, weight_decay=decay)
        state, plain = tx.init(params), adamw.init(params)
        for t in range(4):
            grads = jax.tree.map(lambda p, t=t: jnp.cos(3 * p + t), params)
            directions, _ = scaled.update(grads, scaled.init(params), params)
            negative = jax.tree.map(jnp.negative, directions)
            wanted, plain = adamw.update(negative, plain, params)
            updates, state = tx.update(grads, state, params)
            for name in params:
                np.testing.assert_allclose(updates[name], wanted[name], rtol=1e-9)
            params = optax.apply_updates(params, updates)


@pytest.mark.parametrize("make", [scaled_gd, functools.partial(scaled_adamw, damping=0.0),
                                  scaled_adamw, lora_rite, lora_fa])  # fmt: skip
def test_from_b_of_zero_all_is_finite_and_trains(make):
    (path,) = weights(make(0.02), [(A, 0 * B)])
    assert np.isfinite(path).all()
    assert not path[0].any()
    assert path[-1].any()


@pytest.mark.slow
def test_lora_fa_trains_b_as_adamw_does_and_rests_a():
    params = {**flat(A, B), "head": {"kernel": jnp.ones((2, 2))}}
    labels = {"lora_A": "frozen", "lora_B": "B", "head": {"kernel": None}}
    assert lora_fa_labels(params) == labels
    with pytest.raises(ValueError, match=r"^labels: must say a group for head\.kernel"):
        lora_fa(0.1).init(params)
    groups = {"head": ParamGroup(match="head")}
    tx = lora_fa(0.1, 0.4, groups=groups)
    updates, _ = tx.update(params, tx.init(params), params)
    plain = lora_plus(0.1, 0.4, groups=groups)
    wanted, _ = plain.update(params, plain.init(params), params)
    assert not updates["lora_A"].any()
    np.testing.assert_array_equal(updates["lora_B"], wanted["lora_B"])
    np.testing.assert_array_equal(updates["head"]["kernel"], wanted["head"]["kernel"])


@pytest.mark.parametrize("gamma", [0, 0.5, 1])
def test_the_factor_of_a_rank_is_that_of_the_paper(gamma):
    def exponents(**told):
        at = functools.partial(mua_factor, gamma=gamma, **told)
        return np.log2([at(128, 4) / at(64, 4), at(64, 8) / at(64, 4)])

    np.testing.assert_allclose(exponents(), [-1 / 2, -(1 - gamma) / 2], atol=1e-12)
    np.testing.assert_allclose(exponents(init="B", rho=-1), [-1, gamma], atol=1e-12)
    np.testing.assert_allclose(exponents(init="B"), [-1, gamma - 1 / 2], atol=1e-12)


# What is around it.

PARAMS = {
    "q": {"lora_a": jnp.asarray(A.T, "float32"), "lora_b": jnp.asarray(B.T, "float32")},
    "v": {"lora_A": jnp.asarray(A, "float32"), "lora_B": jnp.asarray(B, "float32")},
    "head": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
    "frozen": jnp.ones((2, 2)),
}
GROUPS = {"head": ParamGroup(match="head", ratio=3.0), "frozen": ParamGroup(match="frozen")}
MAKERS = {"scaled_gd": scaled_gd, "scaled_adamw": scaled_adamw, "lora_rite": lora_rite}


def grads_of(params, t=0):
    return jax.tree.map(lambda p: jnp.cos(3 * p + t), params)


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_all_else_trains_as_under_lora_plus(make):
    tx = make(0.1, 0.4, others="sgd", groups=GROUPS)
    plus = lora_plus(0.1, 0.4, base="sgd", groups=GROUPS)
    updates, state = tx.update(grads_of(PARAMS), tx.init(PARAMS), PARAMS)
    wanted, _ = plus.update(grads_of(PARAMS), plus.init(PARAMS), PARAMS)
    for left, right in zip(*map(jax.tree.leaves, (updates["head"], wanted["head"])), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not updates["frozen"].any()
    np.testing.assert_allclose(updates["q"]["lora_a"].T, updates["v"]["lora_A"], rtol=2e-3)
    assert not np.allclose(updates["q"]["lora_a"], wanted["q"]["lora_a"], rtol=1e-2)
    rates = state[-1].hyperparams
    assert (float(rates["learning_rate"]), float(rates["learning_rate_B"])) == (
        pytest.approx(0.1),
        pytest.approx(0.4),
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_schedules_chains_masks_and_injected_rates(make):
    groups = {"groups": GROUPS, "others": "sgd"}
    schedule = optax.linear_schedule(0.2, 0.1, 2)
    clip = optax.clip_by_global_norm(1e6)
    adapters = {"q": True, "v": True, "head": False, "frozen": False}
    wrapped = {
        "schedule": make(schedule, **groups),
        "chain": optax.chain(clip, make(schedule, **groups)),
        "injected": optax.inject_hyperparams(make)(schedule, **groups),
        "masked": optax.masked(make(schedule, others="sgd"), adapters),
    }
    moves = {}
    for name, tx in wrapped.items():
        state, history = tx.init(PARAMS), []
        for t in range(3):
            updates, state = jax.jit(tx.update)(grads_of(PARAMS, t), state, PARAMS)
            history.append(updates["v"])
        moves[name] = history
    for name, history in moves.items():
        for mine, plain in zip(history, moves["schedule"], strict=True):
            for left, right in zip(*map(jax.tree.leaves, (mine, plain)), strict=True):
                np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6, err_msg=name)
    constant = make(0.2, **groups)
    state = constant.init(PARAMS)
    for t in range(2):
        updates, state = constant.update(grads_of(PARAMS, t), state, PARAMS)
    ratio = moves["schedule"][1]["lora_B"] / updates["v"]["lora_B"]
    np.testing.assert_allclose(ratio, 0.75, rtol=1e-3)


def test_an_injected_damping_can_be_changed():
    params = flat(A, B)
    tx = optax.inject_hyperparams(scaled_gd)(1.0, damping=0.0)
    state = tx.init(params)
    state.hyperparams["damping"] = jnp.float32(0.5)
    updates, _ = jax.jit(tx.update)(params, state, params)
    fixed = scaled_gd(1.0, damping=0.5)
    wanted, _ = fixed.update(params, fixed.init(params), params)
    np.testing.assert_allclose(updates["lora_A"], wanted["lora_A"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_rates_can_be_mapped_over(make):
    params = flat(A, B)

    def loss(params):
        return 0.5 * jnp.mean(jnp.square(params["lora_B"] @ params["lora_A"] @ X - Y))

    def trained(rates):
        tx = make(*rates)
        carry, _ = jax.lax.scan(step_of(tx, loss), (params, tx.init(params)), length=5)
        return loss(carry[0])

    rates = jnp.array([[0.01, 0.02], [0.03, 0.01], [0.0, 0.0]])
    together = jax.jit(jax.vmap(trained))(rates)
    np.testing.assert_allclose(together, [trained(pair) for pair in rates], rtol=1e-4)
    assert float(together[2]) == pytest.approx(float(loss(params)))
    assert len(set(together.tolist())) == 3


@pytest.mark.slow
def test_it_trains_with_the_optimizer_of_flax():
    layer = LoRA(N, M, RANK, key=jax.random.key(0))
    optimizer = nnx.Optimizer(layer, scaled_gd(1.0), wrt=nnx.Any(FactorA, FactorB))

    @nnx.jit
    def step(layer, optimizer):
        def loss(layer):
            return 0.5 * jnp.mean(jnp.square(layer(jnp.asarray(X, "float32")) - Y))

        value, grads = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, nnx.LoRAParam))(layer)
        optimizer.update(layer, grads)
        return value

    losses = [float(step(layer, optimizer)) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: scaled_gd(1.0, damping=-1), "damping: must be a finite number of at least 0"),
        (lambda: scaled_adamw(1.0, damping="1"), "damping: must be a finite number of at least 0"),
        (lambda: scaled_gd(-1.0), "eta_a: must be a finite number of at least 0"),
        (lambda: scaled_gd(1.0, others="sdg"), "others: must be the name of an optimizer of optax"),
        (lambda: scaled_gd(1.0, groups=3), "groups: must be a mapping"),
        (lambda: scaled_gd(1.0, groups={"A": 3}), r"groups\['A'\]: must be a ParamGroup"),
        (lambda: scaled_gd(1.0, groups={"B": ParamGroup(base="adam")}), r"groups\['B'\].base: mus"),
        (lambda: lora_rite(1.0, b1=1.0), "b1: must be a number of at least 0 and below 1"),
        (lambda: lora_rite(1.0, b2=-0.1), "b2: must be a finite number of at least 0"),
        (lambda: lora_rite(1.0, eps=-1e-6), "eps: must be a finite number of at least 0"),
        (lambda: mua_factor(64, 0), "rank: must be an integer of at least 1"),
        (lambda: mua_factor(64, 4, init="both"), "init: must be one of A, B"),
        (lambda: scaled_gd(1.0).init({"head": jnp.ones((2, 2))}), "head: a leaf of shape"),
        (lambda: scaled_gd(1.0).init({"lora_A": jnp.ones((2, 3))}), r"lora_A \(2, 3\): must hav"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(make, words):
    with pytest.raises(ValueError, match="^" + words) as refused:
        make()
    assert "\n" not in str(refused.value)


# The engine and the coordinate check take them as they are.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "rate"), [(scaled_gd, 0.1), (scaled_adamw, 0.01), (lora_rite, 0.01), (lora_fa, 0.1)]
)
def test_a_grid_of_rates_is_swept(make, rate):
    data = linear_task(16, 8, 4, key=seed_key(0))
    problem = Problem(LayerToy(16, 2, init="A", key=seed_key(1)), data)
    cells = rate * np.array([[0.0, 0.0], [1.0, 3.0], [3.0, 1.0]])
    curves = sweep_cells(
        problem,
        cells,
        optimizer=make,
        loss="mse",
        steps=6,
        policy=resolve_policy(16, 12),
        devices=start_devices(1),
    )
    assert np.isfinite(curves.train_loss).all()
    assert (curves.train_loss[0] == curves.train_loss[0, 0]).all()
    assert (curves.train_loss[1:, -1] < curves.train_loss[1:, 0]).all()


@pytest.mark.slow
def test_a_coordinate_check_measures_it():
    """B = 0: its inverse is 0, and A rests in the first step; then both move f."""

    def setup(n, key):
        data = linear_task(n, 1, 1, key=key)
        return LinearToy(n, init="A", key=key), data.x_train, data.y_train

    table = coordinate_check(
        setup, scaled_gd, lambda n: (0.5 / n, 0.5), [16, 32, 64], seeds=4, steps=2
    )
    assert str(table.slope("delta1", 1)) == "identically zero"
    assert np.isfinite(table.logs["delta1"][..., 1]).all()


WIDTHS = [2**k for k in (6, 8, 10, 12)]


@functools.cache
def measured(init, c_a, c_b):
    """Sizes in the linear toy under scaled gradient descent at 0.1 n^c_a and 0.1 n^c_b."""

    def setup(n, key):
        data = signs_task(n, 1, 1, target=2.0, key=key)
        return LinearToy(n, init=init, key=key), data.x_train, data.y_train

    return coordinate_check(
        setup,
        scaled_gd,
        lambda n: (0.1 * float(n) ** c_a, 0.1 * float(n) ** c_b),
        WIDTHS,
        seeds=400,
        steps=3,
    )


def off(table, init, **exponents):
    """The largest distance of a measured exponent from the derived one, over steps and sizes."""
    found = []
    for t, sizes in enumerate(derive(SCALED_GD, init, exponents, 3), 1):
        for name in ("f", "delta1", "delta2", "delta3", "B", "Z_A"):
            slope, gamma = table.slope(name, t), sizes[name].gamma
            if str(sizes[name]) == "0":
                assert str(slope) == "identically zero"
            else:
                found.append(abs(slope.value - float(gamma)))
    return max(found)


@pytest.mark.slow
@pytest.mark.parametrize(("init", "c_a", "c_b"), [("B", -1, -1), ("A", -1, 0)])
def test_exponents_are_those_of_the_theory_at_its_efficient_rates(init, c_a, c_b):
    table = measured(init, c_a, c_b)
    assert off(table, init, c_a=c_a, c_b=c_b) < 0.1
    assert off(table, init, c_a=c_a, c_b=c_b - 1) > 0.5  # Control: of other rates it is not.
