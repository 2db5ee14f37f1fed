"""LoRA+ against the plain base, under optax's wrappers and Flax's optimizer, and its state."""

import copy
import dataclasses
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization

from lora_theory.adapters.groups import ParamGroup
from lora_theory.adapters.labels import lora_labels
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.models.toys import TwoLayerToy

BASES = {"gd": optax.sgd, "sign": optax.sign_sgd, "adam": optax.adam, "adamw": optax.adamw}
PARAMS = {
    name: jnp.asarray(np.random.default_rng(k).normal(size=shape), "float32")
    for k, (name, shape) in enumerate({"lora_a": (3, 8), "lora_b": (8, 3), "bias": 8}.items())
}


def train(tx, params, steps=5):
    """Updates of `steps` steps on a fixed sequence of gradients."""
    state, history = tx.init(params), []
    update = jax.jit(tx.update)
    for t in range(steps):
        grads = jax.tree.map(lambda p, t=t: jnp.cos(3 * p + t), params)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        history.append(updates)
    return history, state


def assert_same_bits(left, right):
    for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("rate", [1e-4, 0.3, 2.0])
def test_ratio_one_is_the_base_bit_for_bit(base, rate):
    # A base with decay decays biases, too; LoRA+ does so only where labels say it.
    labels = {"lora_a": "A", "lora_b": "B", "bias": "B"} if base is optax.adamw else None
    for rates in ({"ratio": 1.0}, {"eta_b": rate}):
        tx = lora_plus(rate, **rates, base=base, labels=labels)
        assert_same_bits(train(tx, PARAMS)[0], train(base(rate), PARAMS)[0])


def test_ratio_two_is_not_the_base():
    plus, plain = (
        train(tx, PARAMS)[0] for tx in (lora_plus(0.1, ratio=2.0, base=optax.sgd), optax.sgd(0.1))
    )
    with pytest.raises(AssertionError):
        assert_same_bits(plus, plain)


@pytest.mark.parametrize("base", [optax.sgd, optax.sign_sgd])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0, 16.0, 2.0**20])  # Powers of 2 scale exactly.
def test_updates_of_b_are_exactly_ratio_times_the_base(base, ratio):
    grads = jax.tree.map(jnp.cos, PARAMS)
    plain = base(0.125)
    plus = lora_plus(0.125, ratio=ratio, base=base)
    expected, _ = plain.update(grads, plain.init(PARAMS), PARAMS)
    updates, _ = plus.update(grads, plus.init(PARAMS), PARAMS)
    assert_same_bits(updates["lora_a"], expected["lora_a"])
    for name in ("lora_b", "bias"):
        assert_same_bits(updates[name], ratio * expected[name])


@pytest.mark.parametrize("ratio", [3.0, 16.0])
def test_updates_of_b_under_adam_are_ratio_times_the_base(ratio):
    plain, plus = (
        train(tx, PARAMS, steps=1)[0][0]
        for tx in (optax.adam(0.1), lora_plus(0.1, ratio=ratio, base=optax.adam))
    )
    for name, factor in (("lora_a", 1.0), ("lora_b", ratio), ("bias", ratio)):
        # Adam's bias correction is compiled once a group and may round differently.
        np.testing.assert_allclose(plus[name], factor * plain[name], rtol=3e-7)


def test_two_rates_and_a_ratio_are_the_same():
    left = train(lora_plus(0.1, 0.8, base=optax.adam), PARAMS)[0]
    right = train(lora_plus(0.1, ratio=8.0, base=optax.adam), PARAMS)[0]
    assert_same_bits(left, right)


def test_no_weight_decay_on_one_dimensional_parameters():
    base = functools.partial(optax.adamw, weight_decay=0.5)
    updates = train(lora_plus(0.1, 0.1, base=base), PARAMS)[0]
    decayed, free = train(base(0.1), PARAMS)[0], train(optax.adam(0.1), PARAMS)[0]
    for name in ("lora_a", "lora_b"):
        np.testing.assert_allclose(updates[0][name], decayed[0][name], rtol=1e-6)
    np.testing.assert_allclose(updates[0]["bias"], free[0]["bias"], rtol=1e-6)
    assert np.abs(updates[0]["bias"] - decayed[0]["bias"]).max() > 1e-3


def test_frozen_leaves_get_no_update_and_no_state():
    params = PARAMS | {"kernel": jnp.ones((8, 8))}
    labels = {"lora_a": "A", "lora_b": "B", "bias": "no_decay", "kernel": "frozen"}
    tx = lora_plus(0.1, 0.2, base=optax.adam, labels=labels)
    history, state = train(tx, params)
    assert all((updates["kernel"] == 0).all() for updates in history)
    assert (8, 8) not in {leaf.shape for leaf in jax.tree.leaves(state)}
    assert any((updates["lora_a"] != 0).any() for updates in history)


@pytest.mark.parametrize("rates", [{}, {"eta_b": 0.1, "ratio": 2.0}])
def test_one_of_rate_and_ratio(rates):
    with pytest.raises(ValueError, match="eta_b, ratio: must be one of the two"):
        lora_plus(0.1, **rates)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["eta_a", "eta_b", "eta_embedding"])
def test_senseless_rates_are_refused(bad, field):
    rates = {"eta_a": 0.1, "eta_b": 0.1, "eta_embedding": 0.1} | {field: bad}
    with pytest.raises(ValueError, match=f"{field}: must be"):
        lora_plus(**rates)


def quadratic(model, x):
    return (model(x) ** 2).mean() + (model(x) - 1.0).mean()


AS_SHIPPED = {
    "LoRA": lambda: nnx.LoRA(5, 2, 3, rngs=nnx.Rngs(0)),
    "LoRALinear": lambda: nnx.LoRALinear(5, 3, lora_rank=2, rngs=nnx.Rngs(0)),
    "Sequential": lambda: nnx.Sequential(
        nnx.LoRALinear(5, 4, lora_rank=2, rngs=nnx.Rngs(0)),
        nnx.LoRALinear(4, 3, lora_rank=2, rngs=nnx.Rngs(1)),
    ),
}


@pytest.mark.parametrize("name", AS_SHIPPED)
@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_layers_as_flax_ships_them_train_in_one_line(name, base):
    model = AS_SHIPPED[name]()
    optimizer = nnx.Optimizer(model, lora_plus(0.01, ratio=4.0, base=base), wrt=nnx.LoRAParam)
    x = jnp.ones((7, 5))
    kernels = jax.tree.map(jnp.copy, nnx.state(model, nnx.Not(nnx.LoRAParam)))

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(quadratic, argnums=nnx.DiffState(0, nnx.LoRAParam))(
            model, x
        )
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert_same_bits(nnx.state(model, nnx.Not(nnx.LoRAParam)), kernels)


def test_rates_are_traceable():
    """One compilation serves a whole grid of rates."""
    compiled = 0

    @jax.jit
    def first_update(eta_a, eta_b):
        nonlocal compiled
        compiled += 1
        tx = lora_plus(eta_a, eta_b, base=optax.adam)
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0]

    for eta in (1e-3, 1e-2, 1e-1):
        updates = first_update(eta, 2 * eta)
        assert float(jnp.abs(updates["lora_a"]).max()) == pytest.approx(eta, rel=1e-3)
    assert compiled == 1


def test_schedules():
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    history = train(lora_plus(schedule, ratio=2.0, base=optax.sgd), PARAMS)[0]
    plain = train(lora_plus(1.0, 2.0, base=optax.sgd), PARAMS, steps=1)[0]
    assert_same_bits(history[0], plain[0])
    assert (history[4]["lora_a"] == 0).all()


def test_the_toy_model_trains_only_its_factors():
    model = TwoLayerToy(5, 16, 2, key=jax.random.key(0))
    labels = dict(nnx.to_flat_state(lora_labels(nnx.state(model))))
    assert labels == {
        ("w_in",): "frozen",
        ("w_out",): "frozen",
        ("lora", "lora_a"): "A",
        ("lora", "lora_b"): "B",
    }


@pytest.mark.parametrize("ratio", [float("nan"), -4.0, float("inf")])
@pytest.mark.parametrize("rate", [0.1, lambda count: 0.1])
def test_a_senseless_ratio_is_refused_with_a_schedule_too(rate, ratio):
    with pytest.raises(ValueError, match="ratio: must be a finite number of at least 0"):
        lora_plus(rate, ratio=ratio)


# Wrappers of optax, each around lora_plus and, beside it, around what it is by hand.
BY_HAND = optax.multi_transform(
    {"A": optax.adamw(0.02), "B": optax.adamw(0.08), "bias": optax.adam(0.08)},
    lambda tree: {"lora_a": "A", "lora_b": "B", "bias": "bias"},
)


def every(tx):
    return optax.masked(tx, lambda tree: jax.tree.map(lambda _: True, tree))


WRAPPERS = {
    "plain": lambda tx: tx,
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(0.5), tx),
    "masked": every,
    "multi_transform": lambda tx: optax.multi_transform(
        {"all": tx}, lambda tree: jax.tree.map(lambda _: "all", tree)
    ),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2).gradient_transformation(),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
}


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_under_wrappers_of_optax(wrapper):
    found = train(wrapper(lora_plus(0.02, ratio=4.0)), PARAMS)[0]
    wanted = train(wrapper(BY_HAND), PARAMS)[0]
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, rtol=3e-6, atol=1e-9)


@pytest.mark.parametrize("rate", [0.02, optax.linear_schedule(0.02, 0.0, 9)])
@pytest.mark.parametrize("base", ["adamw", "sgd"])
def test_inject_hyperparams_without_a_recipe(rate, base):
    plain, injected = (
        lora_plus(rate, ratio=4.0, base=base),
        optax.inject_hyperparams(lora_plus)(rate, ratio=4.0, base=base),
    )
    found, wanted = train(injected, PARAMS)[0], train(plain, PARAMS)[0]
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9)


def test_rates_that_a_user_changes_in_the_middle():
    tx = optax.inject_hyperparams(lora_plus)(0.5, ratio=4.0, base="sgd")
    state = tx.init(PARAMS)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    for eta_a, ratio in ((0.5, 4.0), (0.25, 4.0), (0.25, 2.0)):
        state.hyperparams["eta_a"], state.hyperparams["ratio"] = map(jnp.float32, (eta_a, ratio))
        updates, state = jax.jit(tx.update)(grads, state, PARAMS)
        np.testing.assert_allclose(updates["lora_a"], -eta_a)
        np.testing.assert_allclose(updates["lora_b"], -eta_a * ratio)
        assert float(state.inner_state.hyperparams["learning_rate_B"]) == eta_a * ratio


def test_the_state_shows_its_rates_and_does_not_take_others():
    schedule = optax.linear_schedule(0.8, 0.0, 8)
    tx = lora_plus(schedule, ratio=2.0)
    state = tx.init(PARAMS)
    for step in (0, 0, 1, 2):
        assert float(state.hyperparams["learning_rate"]) == pytest.approx(float(schedule(step)))
        assert float(optax.tree.get(state, "learning_rate_B")) == pytest.approx(2 * schedule(step))
        _, state = tx.update(PARAMS, state, PARAMS)
    assert int(state.count) == 4
    assert "Rates" in [type(part).__name__ for part in state]  # It can be iterated.
    for change in (
        lambda rates: rates.__setitem__("learning_rate", 1.0),
        lambda rates: rates.update(learning_rate=1.0),
        lambda rates: rates.setdefault("learning_rate", 1.0),
    ):
        with pytest.raises(TypeError, match=r"learning_rate: can not be set .*inject_hyperparams"):
            change(state.hyperparams)
    for copied in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert jax.tree.structure(copied) == jax.tree.structure(state)


@pytest.mark.parametrize("ratio", [1.0, 16.0, 0.25])
@pytest.mark.parametrize("base", ["adamw", "adam", "sgd"])
def test_one_structure_at_every_ratio(ratio, base):
    state = jax.eval_shape(lora_plus(0.1, ratio=ratio, base=base).init, PARAMS)
    other = lora_plus(0.3, 0.5, base=base).init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(other)
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [
        leaf.shape for leaf in jax.tree.leaves(other)
    ]


def through_flax(state, like, _):
    return serialization.from_bytes(like, serialization.to_bytes(state))


def through_orbax(state, like, folder):
    saver = ocp.StandardCheckpointer()
    saver.save(folder, state)
    saver.wait_until_finished()
    return saver.restore(folder, like)


@pytest.mark.filterwarnings("ignore")  # Orbax's own.
@pytest.mark.parametrize("through", [through_flax, through_orbax])
@pytest.mark.parametrize("ratio", [1.0, 16.0])
def test_saved_in_the_middle_with_the_same_bits_after(through, ratio, tmp_path):
    schedule = optax.cosine_decay_schedule(0.1, 10)
    tx = lora_plus(schedule, ratio=ratio)
    whole, _ = train(tx, PARAMS, steps=6)
    _, state = train(tx, PARAMS, steps=3)
    params = PARAMS
    for updates in whole[:3]:
        params = optax.apply_updates(params, updates)
    again = lora_plus(schedule, ratio=ratio)
    state = through(state, jax.tree.map(jnp.zeros_like, again.init(PARAMS)), tmp_path / "saved")
    assert jax.tree.structure(state) == jax.tree.structure(again.init(PARAMS))
    for t in range(3, 6):
        grads = jax.tree.map(lambda p, t=t: jnp.cos(3 * p + t), params)
        updates, state = jax.jit(again.update)(grads, state, params)
        assert_same_bits(updates, whole[t])
        params = optax.apply_updates(params, updates)


def test_one_checkpoint_serves_every_ratio_and_the_arguments_decide():
    """Resumed at another λ, the rate is the new one, not what was saved."""
    _, state = train(lora_plus(0.1, ratio=1.0, base="sgd"), PARAMS, steps=2)
    tx = lora_plus(0.1, ratio=16.0, base="sgd")
    restored = through_flax(state, tx.init(PARAMS), None)
    updates, after = tx.update(jax.tree.map(jnp.ones_like, PARAMS), restored, PARAMS)
    np.testing.assert_allclose(updates["lora_b"], -1.6)
    assert float(after.hyperparams["learning_rate_B"]) == pytest.approx(1.6)


@pytest.mark.parametrize(
    "changed",
    [
        {name: PARAMS[name] for name in ("lora_a", "lora_b")},
        PARAMS | {"more": PARAMS["bias"]},
        {"lora_a": PARAMS["lora_a"], "lora_b": PARAMS["lora_b"], "offset": PARAMS["bias"]},
    ],
)
def test_a_tree_that_changes_after_init_is_refused(changed):
    tx = lora_plus(0.1, ratio=2.0)
    with pytest.raises(ValueError, match=r"updates: must have the 3 leaves .* is not in both"):
        tx.update(changed, tx.init(PARAMS), changed)


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_gradients_that_are_nan_are_passed_on(base):
    grads = PARAMS | {"lora_b": PARAMS["lora_b"] * jnp.nan}
    tx = lora_plus(0.1, ratio=2.0, base=base)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    assert jnp.isnan(updates["lora_b"]).all()
    assert jnp.isfinite(updates["lora_a"]).all()


@pytest.mark.parametrize("rate", [0.1, optax.constant_schedule(0.1)])
@pytest.mark.parametrize(("base", "shared"), [
    ("adamw", False), ("adamw", True), ("sgd", False), ("sgd", True), ("schedule_free_sgd", False),
])  # fmt: skip
@pytest.mark.parametrize("ratio", [4.0, np.float32(4.0), jnp.float32(4.0)], ids=str)
def test_bfloat16_stays_bfloat16(rate, base, shared, ratio):
    params = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), PARAMS)
    if shared:  # What decays and what does not is no one optimizer.
        del params["bias"]
    tx = lora_plus(rate, ratio=ratio, base=base, shared=shared)
    updates, state = jax.jit(tx.update)(params, tx.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}
    assert state.hyperparams["learning_rate_B"].dtype == jnp.float32


def test_sharded_parameters_keep_their_places(devices):
    mesh = jax.sharding.Mesh(np.asarray(devices), "x")
    places = {"lora_a": (None, "x"), "lora_b": ("x", None), "bias": ("x",)}
    sharding = {
        name: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for name, axes in places.items()
    }
    params = jax.tree.map(jax.device_put, PARAMS, sharding)
    tx = lora_plus(0.1, ratio=4.0)
    state = jax.jit(tx.init)(params)
    updates, state = jax.jit(tx.update)(params, tx.init(params), params)
    alone, _ = jax.jit(tx.update)(PARAMS, tx.init(PARAMS), PARAMS)
    for name, place in sharding.items():
        assert updates[name].sharding.is_equivalent_to(place, params[name].ndim)
        np.testing.assert_allclose(updates[name], alone[name], rtol=1e-6)
    mu = optax.tree.get(state.inner["A"], "mu")["lora_a"]
    assert mu.sharding.is_equivalent_to(sharding["lora_a"], 2)


NNX_WRAPPERS = {
    "masked": every,
    "masked in part": lambda tx: optax.masked(
        tx, lambda tree: jax.tree.map(lambda leaf: leaf.shape == (5, 2), tree)
    ),
    "multi_transform": WRAPPERS["multi_transform"],
    "chain": WRAPPERS["chain"],
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
}


@pytest.mark.parametrize("wrapper", NNX_WRAPPERS.values(), ids=NNX_WRAPPERS)
def test_wrapped_on_the_state_of_a_module(wrapper):
    """As AdamW in its place, which is the control: it always worked."""
    moved = {}
    for name, tx in (("plus", lora_plus(0.1, ratio=1.0)), ("adamw", optax.adamw(0.1))):
        model = nnx.LoRA(5, 2, 3, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, wrapper(tx), wrt=nnx.LoRAParam)
        for _ in range(2):
            grads = nnx.grad(quadratic, argnums=nnx.DiffState(0, nnx.LoRAParam))(
                model, jnp.ones((7, 5))
            )
            optimizer.update(model, grads)
        moved[name] = nnx.to_pure_dict(nnx.state(model))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), moved["plus"], moved["adamw"]
    )


@pytest.mark.filterwarnings("ignore")  # Orbax's own.
def test_a_module_and_its_optimizer_resume_through_orbax(tmp_path):
    def fresh():
        model = AS_SHIPPED["Sequential"]()
        tx = lora_plus(optax.cosine_decay_schedule(0.1, 9), ratio=4.0)
        return model, nnx.Optimizer(model, tx, wrt=nnx.LoRAParam)

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(quadratic, argnums=nnx.DiffState(0, nnx.LoRAParam))(
            model, jnp.ones((7, 5))
        )
        optimizer.update(model, grads)

    model, optimizer = fresh()
    for _ in range(3):
        step(model, optimizer)
    saver = ocp.StandardCheckpointer()
    both = (nnx.state(model), nnx.state(optimizer))
    saver.save(tmp_path / "saved", both)
    saver.wait_until_finished()
    step(model, optimizer)

    other, its_optimizer = fresh()
    like = jax.tree.map(jnp.zeros_like, (nnx.state(other), nnx.state(its_optimizer)))
    restored = saver.restore(tmp_path / "saved", like)
    nnx.update(other, restored[0])
    nnx.update(its_optimizer, restored[1])
    step(other, its_optimizer)
    assert_same_bits(nnx.state(other), nnx.state(model))
    assert_same_bits(nnx.state(its_optimizer), nnx.state(optimizer))
    rate = its_optimizer.opt_state.hyperparams["learning_rate"][...]
    assert float(rate) == pytest.approx(float(optax.cosine_decay_schedule(0.1, 9)(3)))


CONTRIB = {
    "schedule-free": {"base": "schedule_free_adamw"},
    "muon": {"base": "muon"},
    "prodigy": {"base": "prodigy", "shared": True},
}


@pytest.mark.parametrize("settings", CONTRIB.values(), ids=CONTRIB)
def test_bases_of_contrib_train(settings):
    params = {"lora_a": PARAMS["lora_b"], "lora_b": jnp.zeros((3, 8))}

    def loss(params):
        return jnp.mean((params["lora_a"] @ params["lora_b"] - 1.0) ** 2)

    tx = lora_plus(1.0 if "shared" in settings else 0.03, ratio=4.0, **settings)
    state, start = tx.init(params), float(loss(params))
    step = jax.jit(lambda p, s: tx.update(jax.grad(loss)(p), s, p))
    for _ in range(60):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
    assert float(loss(params)) < 0.3 * start


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Callable:
    """Parameters that can be called, as a module of Equinox; whoever calls them is found out."""

    lora_a: object
    lora_b: object

    def __call__(self, *_):
        raise AssertionError("called")


def test_parameters_and_labels_that_can_be_called():
    params = Callable(PARAMS["lora_a"], PARAMS["lora_b"])
    for labels in (None, Callable("A", "B")):
        tx = lora_plus(0.5, ratio=2.0, base="sgd", labels=labels)
        updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
        np.testing.assert_allclose(updates.lora_b, -1.0)
    plan = lora_plus(0.5, ratio=2.0, labels=Callable("B", "A")).init(params).plan
    assert [part.group for part in plan.parts] == ["B", "A"]


def test_a_donated_state_leaves_the_users_rate_alone():
    eta_a = jnp.float32(0.5)
    tx = lora_plus(eta_a, ratio=2.0, base="sgd")
    step = jax.jit(tx.update, donate_argnums=1)
    step(PARAMS, tx.init(PARAMS), PARAMS)
    assert float(eta_a) == 0.5


@pytest.mark.parametrize(
    "other",
    [
        {"groups": {"slow": ParamGroup(match="*_b", ratio=0.5)}},
        {"labels": "B"},
        {"reference_fan_in": 4},
        {"labels": {"lora_a": "A", "lora_b": "B", "bias": "frozen"}},
        {"labels": {"lora_a": "B", "lora_b": "A", "bias": "no_decay"}},
    ],
    ids=str,
)
def test_a_state_of_other_groups_is_refused(other):
    params = {name: PARAMS[name] for name in ("lora_a", "lora_b")} | {"bias": PARAMS["bias"]}
    state = lora_plus(0.1, ratio=2.0, base="sgd").init(params)
    tx = lora_plus(0.1, ratio=2.0, base="sgd", **other)
    with pytest.raises(ValueError, match="state: must be of the labels, groups"):
        tx.update(params, state, params)
    if other != {"reference_fan_in": 4}:
        with pytest.raises(ValueError, match="state: must be of the leaves and groups that"):
            through_flax(state, tx.init(params), None)


def test_a_state_that_is_none_is_refused():
    tx = lora_plus(0.1, ratio=2.0)
    bare = serialization.to_state_dict(tx.init(PARAMS))
    with pytest.raises(ValueError, match=r"state: must be as init gives it.*got a dict"):
        tx.update(PARAMS, bare, PARAMS)


@pytest.mark.parametrize("wrapper", ["plain", "chain"])
def test_where_in_the_state_parameters_are(wrapper):
    """As users place an optimizer's state: each moment beside its parameter."""
    tx = WRAPPERS[wrapper](lora_plus(0.1, ratio=2.0))
    state = tx.init(PARAMS)
    seen = []
    marked = optax.tree.map_params(tx, lambda leaf: seen.append(leaf.shape) or leaf * 0 + 7, state)
    assert sorted(seen) == sorted(2 * [leaf.shape for leaf in PARAMS.values()])
    assert jax.tree.structure(marked) == jax.tree.structure(state)


def test_where_parameters_are_is_not_known_before_init():
    tx = lora_plus(0.1, ratio=2.0)
    state = lora_plus(0.1, ratio=2.0).init(PARAMS)
    with pytest.raises(ValueError, match=r"params: must have been given to init before optax"):
        optax.tree.map_params(tx, lambda leaf: leaf, state)


@pytest.mark.parametrize("names", [("lora_a", "lora_b"), ("lora_a", "lora_b", "bias")])
def test_sm3_whose_state_has_another_shape(names):
    params = {name: PARAMS[name] for name in names}
    for ratio in (1.0, 4.0):
        history, _ = train(lora_plus(0.1, ratio=ratio, base="sm3"), params, steps=3)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(history))


def test_schedules_see_a_count_that_is_an_array():
    tx = lora_plus(lambda count: 0.1 / (1 + count.astype("float32")), ratio=2.0, base="sgd")
    assert float(tx.init(PARAMS).hyperparams["learning_rate"]) == pytest.approx(0.1)


def test_weight_decay_and_ratios_may_be_traced():
    """Over a grid of decays and ratios, 0 among them, the update is that of each by itself."""

    def updates(decay, ratio, **settings):
        base = functools.partial(optax.adamw, weight_decay=decay)
        tx = lora_plus(0.1, ratio=ratio, base=base, **settings)
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0]

    for found, settings, pairs in (
        (jax.vmap(updates), {}, [(0.0, 1.0), (0.5, 4.0)]),
        (jax.vmap(lambda _, r: updates(0.5, r, equal_decay=True)), {"equal_decay": True},
         [(0.5, 0.0), (0.5, 4.0)]),
    ):  # fmt: skip
        both = found(*map(jnp.array, zip(*pairs, strict=True)))
        for k, pair in enumerate(pairs):
            alone = updates(*pair, **settings)
            for name in PARAMS:
                np.testing.assert_allclose(both[name][k], alone[name], rtol=2e-6, atol=1e-9)


def test_many_layers_are_labelled_in_a_moment():
    import time

    shaped = {
        f"layers.{k}.q.lora_{letter}": jax.ShapeDtypeStruct((4, 4), jnp.float32)
        for k in range(3000)
        for letter in "ab"
    }
    start = time.perf_counter()
    jax.eval_shape(lora_plus(0.1, ratio=2.0, base="sgd").init, shaped)
    assert time.perf_counter() - start < 5  # It was quadratic: 5 s, and 10 at 4000.
