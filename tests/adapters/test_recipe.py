"""Groups, rates and decays by the arguments, against arithmetic by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_theory.adapters.groups import ParamGroup
from lora_theory.adapters.lora_plus import lora_plus

SHAPES = {
    "q": {"lora_a": (8, 2), "lora_b": (2, 4), "magnitude": (4,)},
    "v": {"lora_a": (32, 2), "lora_b": (2, 4)},
    "norm": {"scale": (8,)},
    "head": {"kernel": (4, 3), "bias": (3,)},
}
PARAMS = jax.tree.map(
    lambda shape: jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), "float32"),
    SHAPES,
    is_leaf=lambda node: isinstance(node, tuple),
)
GRADS = jax.tree.map(jnp.cos, PARAMS)
HEAD = {"head": ParamGroup(match="head")}


def first_updates(**arguments):
    tx = lora_plus(**{"eta_a": 0.25, "ratio": 4.0, "base": "sgd", "groups": HEAD} | arguments)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    return updates


def rates(updates):
    """The rate of each leaf, from its first step of gradient descent."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): round(float(rate), 6)
        for path, rate in jax.tree_util.tree_flatten_with_path(
            jax.tree.map(lambda u, g: (-u / g).ravel()[0], updates, GRADS)
        )[0]
    }


DEFAULT = {
    "head.bias": 0.25, "head.kernel": 0.25, "norm.scale": 1.0, "q.lora_a": 0.25, "q.lora_b": 1.0,
    "q.magnitude": 1.0, "v.lora_a": 0.25, "v.lora_b": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "otherwise"),
    [
        ({}, {}),
        ({"head": ParamGroup(match="head", ratio=3.0)}, {"head.bias": 0.75, "head.kernel": 0.75}),
        ({"head": ParamGroup(match="head", rate=0.5)}, {"head.bias": 0.5, "head.kernel": 0.5}),
        ({"magnitude": ParamGroup(ratio=1.0)}, {"q.magnitude": 0.25}),
        ({"no_decay": ParamGroup(rate=0.125)}, {"norm.scale": 0.125}),
        ({"slow": ParamGroup(match="v/lora_*", ratio=0.5)}, {"v.lora_a": 0.125, "v.lora_b": 0.125}),
        ({"slow": ParamGroup(match=("*.scale", "*.bias"), rate=0.1)},
         {"norm.scale": 0.1, "head.bias": 0.1}),
        ({"frozen": ParamGroup(match="v")}, {"v.lora_a": 0.0, "v.lora_b": 0.0}),
        ({"late": ParamGroup(match="q", rate=lambda count: 0.5 - count)},
         {"q.lora_a": 0.5, "q.lora_b": 0.5, "q.magnitude": 0.5}),
    ],
)  # fmt: skip
def test_rates_of_groups(groups, otherwise):
    # The first group that matches has the leaf, so patterns come before the head.
    updates = first_updates(groups=groups | {n: g for n, g in HEAD.items() if n not in groups})
    assert rates(updates) == DEFAULT | otherwise


def test_the_first_group_that_matches_has_the_leaf():
    one, other = ParamGroup(match="head", rate=0.5), ParamGroup(match="*.bias", rate=0.75)
    found = rates(first_updates(groups={"bias": other, "head": one}))
    assert (found["head.bias"], found["head.kernel"]) == (0.75, 0.5)
    with pytest.raises(
        ValueError, match=r"groups\['bias'\]\.match: must match a leaf that no group"
    ):
        first_updates(groups={"head": one, "bias": other})


@pytest.mark.parametrize("ratio", [1.0, 16.0])
@pytest.mark.parametrize("peak", [0.3, 1e-4])
def test_the_ratio_holds_at_every_step_of_a_schedule(ratio, peak):
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, 3, 12, end_value=peak / 10)
    tx = lora_plus(
        schedule, ratio=ratio, base="sgd", groups={"head": ParamGroup(match="head", ratio=3.0)}
    )
    state = tx.init(PARAMS)
    for step in range(15):
        updates, state = tx.update(GRADS, state, PARAMS)
        eta_a = float(schedule(step))
        for name, factor in (("A", 1.0), ("B", ratio), ("head", 3.0)):
            leaf = {"A": ("q", "lora_a"), "B": ("q", "lora_b"), "head": ("head", "kernel")}[name]
            wanted = -factor * eta_a * GRADS[leaf[0]][leaf[1]]
            np.testing.assert_allclose(updates[leaf[0]][leaf[1]], wanted, rtol=1e-6)
        assert float(state.hyperparams["learning_rate"]) == pytest.approx(eta_a)
        assert float(state.hyperparams["learning_rate_B"]) == pytest.approx(ratio * eta_a)


@pytest.mark.parametrize("reference", [8, 16, 32])
def test_eta_a_by_fan_in_of_rectangular_layers(reference):
    found = rates(first_updates(reference_fan_in=reference))
    assert found == DEFAULT | {
        "q.lora_a": round(0.25 * reference / 8, 6),
        "v.lora_a": round(0.25 * reference / 32, 6),
    }


def decays(**arguments):
    """Rate × decay of each leaf: what a step without gradients takes of it."""
    tx = lora_plus(**{"eta_a": 0.25, "ratio": 4.0, "groups": HEAD} | arguments)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): round(float(decay), 6)
        for path, decay in jax.tree_util.tree_flatten_with_path(
            jax.tree.map(lambda u, p: (-u / p).ravel()[0], updates, PARAMS)
        )[0]
    }


ADAMW = functools.partial(optax.adamw, weight_decay=0.5)
DECAYS = {
    "head.bias": 0.0, "head.kernel": 0.125, "norm.scale": 0.0, "q.lora_a": 0.125, "q.lora_b": 0.5,
    "q.magnitude": 0.0, "v.lora_a": 0.125, "v.lora_b": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "otherwise"),
    [
        ({"base": ADAMW}, {}),
        ({"base": functools.partial(optax.lion, weight_decay=0.5)}, {}),
        ({"base": ADAMW, "equal_decay": True}, {"q.lora_b": 0.125, "v.lora_b": 0.125}),
        ({"base": ADAMW, "equal_decay": True, "ratio": None, "eta_b": 1.0},
         {"q.lora_b": 0.125, "v.lora_b": 0.125}),
        ({"base": ADAMW, "equal_decay": True, "reference_fan_in": 8},
         {"q.lora_b": 0.125, "v.lora_b": 0.125}),
        ({"base": ADAMW, "reference_fan_in": 8}, {"v.lora_a": 0.03125}),
        # Other optimizers and decays of groups beside it.
        ({"base": ADAMW, "equal_decay": True, "groups": HEAD | {"B": ParamGroup(base="lion")}},
         {"q.lora_b": 0.125, "v.lora_b": 0.125}),
        ({"base": "lion", "equal_decay": True,
          "groups": HEAD | {"A": ParamGroup(weight_decay=0.5)}},
         {"q.lora_b": 0.125, "v.lora_b": 0.125}),
        ({"base": ADAMW, "equal_decay": True, "groups": HEAD | {"B": ParamGroup(weight_decay=0.1)}},
         {"q.lora_b": 0.1, "v.lora_b": 0.1}),
        ({"base": ADAMW, "groups": HEAD | {"B": ParamGroup(weight_decay=0.0)}},
         {"q.lora_b": 0.0, "v.lora_b": 0.0}),
        ({"base": ADAMW, "groups": {"head": ParamGroup(match="head", weight_decay=0.1)}},
         {"head.kernel": 0.025, "head.bias": 0.025}),
        ({"base": ADAMW, "groups": HEAD | {"magnitude": ParamGroup(weight_decay=0.1)}},
         {"q.magnitude": 0.1}),
        ({"base": "adam"}, dict.fromkeys(DECAYS, 0.0)),
        ({"base": "adam", "groups": HEAD | {"B": ParamGroup(base=ADAMW)}},
         dict.fromkeys(DECAYS, 0.0) | {"q.lora_b": 0.5, "v.lora_b": 0.5}),
    ],
)  # fmt: skip
def test_weight_decay_of_groups(arguments, otherwise):
    assert decays(**arguments) == DECAYS | otherwise


def hidden(rate):
    return optax.adamw(rate, weight_decay=0.5)


def starred(rate, **settings):
    return optax.adamw(rate, weight_decay=0.5, **settings)


@pytest.mark.parametrize(
    "base", [hidden, starred, lambda rate: optax.adamw(rate, weight_decay=0.1)]
)
@pytest.mark.parametrize("jitted", [False, True])
def test_a_decay_that_can_not_be_turned_off_is_refused(base, jitted):
    tx = lora_plus(0.1, ratio=2.0, base=base, groups=HEAD)
    with pytest.raises(
        ValueError, match=r"base: must leave head\.bias alone where it has no gradient"
    ):
        (jax.jit if jitted else lambda f: f)(lambda p: jax.tree.leaves(tx.init(p)))(PARAMS)
    matrices = {"lora_a": jnp.ones((3, 2)), "lora_b": jnp.ones((2, 3))}
    lora_plus(0.1, ratio=2.0, base=base).init(matrices)  # Nothing that should not decay.
    everywhere = {name: ParamGroup(base=base) for name in ("no_decay", "magnitude")}
    allowed = HEAD | {"head": ParamGroup(match="head", base=base)} | everywhere
    lora_plus(0.1, ratio=2.0, base=base, groups=allowed).init(PARAMS)


@pytest.mark.parametrize("base", [lambda rate: optax.sgd(rate), lambda rate: optax.adam(rate)])
def test_a_function_that_does_not_decay_is_taken(base):
    lora_plus(0.1, ratio=2.0, base=base, groups=HEAD).init(PARAMS)


def test_the_decay_of_adafactor_has_another_name():
    base = functools.partial(
        optax.adafactor, weight_decay_rate=0.5, multiply_by_parameter_scale=False
    )
    found = decays(base=base)
    assert found["norm.scale"] == found["head.bias"] == found["q.magnitude"] == 0.0
    assert found["q.lora_b"] > 0.0


@pytest.mark.parametrize("name", ["sgd", "adam", "lion", "rmsprop", "muon", "schedule_free_adamw"])
def test_a_base_by_its_name(name):
    function = getattr(optax, name, None) or getattr(optax.contrib, name)
    by_name, by_function = first_updates(base=name), first_updates(base=function)
    jax.tree.map(np.testing.assert_array_equal, by_name, by_function)


def test_a_base_for_each_group():
    groups = HEAD | {"B": ParamGroup(base="muon"), "head": ParamGroup(match="head", base="sgd")}
    updates = first_updates(base="adam", groups=groups)
    rate = {"A": 0.25, "B": 1.0, "head": 0.25}
    singular = jnp.linalg.svd(updates["q"]["lora_b"], compute_uv=False)
    # Muon: all singular values alike (to Newton-Schulz's accuracy); Adam: all entries.
    assert 0.5 < float(singular.min() / singular.max()) <= 1.0
    np.testing.assert_allclose(jnp.abs(updates["q"]["lora_a"]), rate["A"], rtol=1e-4)
    np.testing.assert_allclose(
        updates["head"]["kernel"], -rate["head"] * GRADS["head"]["kernel"], rtol=1e-6
    )


def norm(tree):
    return np.sqrt(sum(float((np.asarray(leaf) ** 2).sum()) for leaf in jax.tree.leaves(tree)))


@pytest.mark.parametrize("ratio", [1.0, 1.000001, 16.0])
def test_clipping_inside_the_base_is_group_by_group_at_every_ratio(ratio):
    def base(rate):
        return optax.chain(optax.clip_by_global_norm(1e-2), optax.sgd(rate))

    updates = first_updates(base=base, ratio=ratio, groups=HEAD)
    norms = {
        "A": norm([updates["q"]["lora_a"], updates["v"]["lora_a"]]),
        "B": norm([updates["q"]["lora_b"], updates["v"]["lora_b"]]) / ratio,
    }
    for found in norms.values():
        assert found == pytest.approx(0.25e-2, rel=1e-4)


@pytest.mark.parametrize("ratio", [1.0, 1.000001, 16.0])
def test_a_shared_base_clips_all_leaves_at_every_ratio(ratio):
    def base(rate):
        return optax.chain(optax.clip_by_global_norm(1e-2), optax.sgd(rate))

    updates = first_updates(base=base, ratio=ratio, shared=True)
    scale = 1e-2 / norm(GRADS)
    wanted = jax.tree.map(lambda rate, grad: -rate * scale * grad, rate_tree(ratio), GRADS)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), updates, wanted)


def rate_tree(ratio):
    tree = jax.tree.map(lambda _: 0.25 * ratio, PARAMS)
    for layer in ("q", "v"):
        tree[layer]["lora_a"] = 0.25
    tree["head"] = {"kernel": 0.25, "bias": 0.25}
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("base", ["prodigy", "dadapt_adamw"])
def test_one_step_size_over_all_leaves(base):
    """B = 0, so that A has no gradient: alone, its estimate would be 0/0."""
    with pytest.raises(ValueError, match=r"base: must be shared by A and B .*shared=True"):
        lora_plus(1.0, ratio=4.0, base=base)
    params = {"lora_a": jnp.ones((8, 2)), "lora_b": jnp.zeros((2, 4))}

    def loss(params):
        return jnp.mean((params["lora_a"] @ params["lora_b"] - 1.0) ** 2)

    found = {}
    for ratio in (1.0, 4.0):
        tx = lora_plus(1.0, ratio=ratio, base=base, shared=True)
        moved, state = params, tx.init(params)
        for _ in range(60):
            updates, state = tx.update(jax.grad(loss)(moved), state, moved)
            moved = optax.apply_updates(moved, updates)
        found[ratio] = float(loss(moved))
    plain = getattr(optax.contrib, base)(1.0)
    moved, state = params, plain.init(params)
    for _ in range(60):
        updates, state = plain.update(jax.grad(loss)(moved), state, moved)
        moved = optax.apply_updates(moved, updates)
    assert found[1.0] == float(loss(moved))
    assert max(found.values()) < 0.01 < float(loss(params))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta_a": "0.1"}, r"eta_a: must be a finite number of at least 0 \(got '0\.1'\)"),
        ({"eta_a": None}, "eta_a: must be a finite number"),
        ({"eta_a": (0.1, 0.2)}, "eta_a: must be one rate; give eta_b as the second"),
        ({"eta_a": jnp.ones(3)}, "eta_a: must be .* array of shape"),
        ({"eta_b": 0.1}, "eta_b, ratio: must be one of the two .got both"),
        ({"ratio": None}, "eta_b, ratio: must be one of the two .got neither"),
        ({"ratio": "16"}, "ratio: must be a finite number"),
        ({"ratio": lambda count: 16}, "ratio: must be a finite number"),
        ({"eta_embedding": -1.0}, "eta_embedding: must be"),
        ({"base": "sdg"}, r"base: must be the name of an optimizer .*'sdg'; sgd\?"),
        ({"base": "clip"}, "base: must be the name of an optimizer"),
        ({"base": optax.adamw(1e-3)}, "base: must be a function from a rate"),
        ({"groups": [1]}, "groups: must be a mapping of names to ParamGroup"),
        ({"groups": {"head": 0.1}}, r"groups\['head'\]: must be a ParamGroup"),
        ({"groups": {"heads": ParamGroup(ratio=2.0)}}, r"must say which leaves .*head\?"),
        ({"groups": {"A": ParamGroup(rate=0.1)}}, r"groups\['A'\]: must have no rate"),
        ({"groups": {"B": ParamGroup(base="sdg")}}, r"groups\['B'\]\.base: must be the name"),
        ({"groups": {"B": ParamGroup(weight_decay=0.1)}}, r"'B'\]\.weight_decay: must stand"),
        ({"groups": {"x": ParamGroup(match=("head", "hed"))}}, "must match a leaf .got hed;"),
        ({"groups": {"x": ParamGroup(match="kernel")}}, r"must match .*\*\.kernel does"),
        ({"groups": {"A-64": ParamGroup(match="q")}}, "must not end as a part of a group does"),
        ({"groups": {"frozen": ParamGroup(match="q", rate=0.1)}}, "must say nothing but match="),
        ({"base": functools.partial(optax.sgd, 0.9)}, "base: must leave learning_rate free"),
        ({"base": "lbfgs"}, "base: must work without the value of the loss"),
        ({"base": "MultiSteps"}, "name of an optimizer .*'MultiSteps'"),
        ({"base": lambda rate: None}, "base: must give a transformation of optax"),
        ({"base": functools.partial(optax.contrib.prodigy, weight_decay=0.0)}, "must be shared by"),
        ({"groups": HEAD | {"A": ParamGroup(base="prodigy")}}, "must be shared by A and B"),
        ({"groups": HEAD | {"B": ParamGroup(base="adam")}, "base": "prodigy", "shared": True},
         "must be shared by A and B .*got adam for B, shared=True"),
        ({"groups": HEAD | {"B": ParamGroup(base="schedule_free_sgd")}, "shared": True},
         "shared: .*schedule_free_sgd, which keeps parameters"),
        ({"base": optax.adamw, "shared": True}, "shared: must be one optimizer, but "),
        ({"eta_a": 0.0, "eta_b": 0.1, "ratio": None, "shared": True}, "eta_a: must be above 0"),
        ({"equal_decay": True, "base": functools.partial(optax.adamw, weight_decay=lambda c: 0.1)},
         "equal_decay: must stand beside bases with a number"),
        ({"base": "schedule_free_adamw", "shared": True}, "shared: .* keeps parameters of its own"),
        ({"labels": "mine", "groups": {"mien": ParamGroup()}}, "labels: must be one of .*mien"),
        ({"groups": {"x": ParamGroup(match="hed")}}, r"match: must match a leaf .got hed; leaves"),
        ({"reference_fan_in": 0}, "reference_fan_in: must be an integer of at least 1"),
        ({"equal_decay": True}, "equal_decay: must stand beside bases with a number"),
        ({"equal_decay": True, "shared": True}, "equal_decay, shared: must be at most one"),
        ({"equal_decay": True, "base": "adamw", "eta_a": lambda c: 0.1, "eta_b": lambda c: 0.2,
          "ratio": None}, "equal_decay: must stand beside rates in proportion"),
    ],
)  # fmt: skip
def test_arguments_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        first_updates(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("base", ["dog", "prodigy", "dadapt_adamw"])
def test_a_shared_base_at_ratio_one_is_the_base_bit_for_bit(base):
    """Also one that measures all parameters at init, as dog does."""
    function = functools.partial(getattr(optax.contrib, base))
    plus, plain = lora_plus(0.5, ratio=1.0, base=base, shared=True, groups=HEAD), function(0.5)
    ours, theirs = plus.init(PARAMS), plain.init(PARAMS)
    for _ in range(3):
        mine, ours = jax.jit(plus.update)(GRADS, ours, PARAMS)
        other, theirs = jax.jit(plain.update)(GRADS, theirs, PARAMS)
        jax.tree.map(np.testing.assert_array_equal, mine, other)


def test_a_decay_of_stacked_norms_that_can_not_be_turned_off_is_refused():
    """It spares vectors, and takes two dimensions for a matrix."""

    def base(rate):
        mask = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
        return optax.adamw(rate, weight_decay=0.5, mask=mask)

    factors = {"lora_a": jnp.ones((8, 2)), "lora_b": jnp.ones((2, 4))}
    tx = lora_plus(0.1, ratio=2.0, base=base)
    tx.init(factors | {"norm": {"scale": jnp.ones(8)}})
    with pytest.raises(ValueError, match=r"base: must leave norm\.scale alone"):
        tx.init(factors | {"bias": jnp.ones(8), "norm": {"scale": jnp.ones((3, 8))}})


class Unhashable:
    __hash__ = None

    def __call__(self, rate):
        return optax.sgd(rate)


@pytest.mark.parametrize("shared", [False, True])
def test_a_base_of_any_kind(shared):
    updates = first_updates(base=Unhashable(), shared=shared)
    assert rates(updates) == DEFAULT
