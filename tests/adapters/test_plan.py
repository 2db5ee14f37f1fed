"""Which part each leaf trains in, and when two plans are the same."""

import jax.numpy as jnp
import pytest

from lora_theory.adapters.groups import ParamGroup, Part
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.adapters.plan import Plan, planned
from lora_theory.adapters.recipe import Recipe

PARAMS = {
    "q": {"lora_a": jnp.ones((8, 2)), "lora_b": jnp.ones((2, 4)), "magnitude": jnp.ones(4)},
    "v": {"lora_a": jnp.ones((32, 2)), "lora_b": jnp.ones((2, 4))},
    "norm": {"scale": jnp.ones(8)},
    "head": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
}
HEAD = {"head": ParamGroup(match="head")}


def test_names_of_parts():
    recipe = Recipe(eta_a=0.1, ratio=2.0, groups=HEAD)
    names = {leaf.path: part.name for leaf, part in planned(recipe, PARAMS)}
    assert names == {
        "head.bias": "head-no_decay", "head.kernel": "head", "norm.scale": "no_decay",
        "q.lora_a": "A", "q.lora_b": "B", "q.magnitude": "magnitude-no_decay",
        "v.lora_a": "A", "v.lora_b": "B",
    }  # fmt: skip
    assert Part("A", True, 64).name == "A-64"


@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool"])
def test_a_leaf_that_can_not_train_is_refused_or_frozen(dtype):
    params = PARAMS | {"table": jnp.zeros((3, 2), dtype)}
    groups = {"t": ParamGroup(match="table")} | HEAD
    with pytest.raises(ValueError, match=rf"table: must be of a real floating type .*got {dtype}"):
        lora_plus(0.1, ratio=2.0, groups=groups).init(params)
    frozen = {"frozen": ParamGroup(match="table")} | HEAD
    lora_plus(0.1, ratio=2.0, groups=frozen).init(params)


def test_norms_in_a_group_of_ones_own_do_not_decay_however_they_are_stacked():
    params = {"blocks": {"ln": {"scale": jnp.ones((3, 8))}, "up": {"kernel": jnp.ones((3, 8, 8))}}}
    recipe = Recipe(eta_a=0.1, ratio=2.0, groups={"blocks": ParamGroup(match="blocks")})
    decays = {leaf.path: part.decays for leaf, part in planned(recipe, params)}
    assert decays == {"blocks.ln.scale": False, "blocks.up.kernel": True}


def test_a_label_for_all_may_be_a_group_of_ones_own():
    tx = lora_plus(0.1, ratio=2.0, labels="mine", groups={"mine": ParamGroup(rate=0.5)}, base="sgd")
    assert {part.group for part in tx.init(PARAMS).plan.parts} == {"mine"}


def test_a_fan_in_that_shapes_do_not_tell_is_refused():
    params = {"out": {"lora_a": jnp.ones((3, 4, 2)), "lora_b": jnp.ones((2, 10))}}
    lora_plus(0.1, ratio=2.0).init(params)
    with pytest.raises(ValueError, match=r"reference_fan_in: must find .*out\.lora_a .*ParamGroup"):
        lora_plus(0.1, ratio=2.0, reference_fan_in=8).init(params)
    alone = {"wide": ParamGroup(match="out.lora_a", ratio=0.5)}
    lora_plus(0.1, ratio=2.0, reference_fan_in=8, groups=alone).init(params)


def plan_of(params=PARAMS, **settings):
    return Plan.of(Recipe(**{"eta_a": 0.1, "ratio": 2.0, "groups": HEAD} | settings), params)


@pytest.mark.parametrize("settings", [
    {"ratio": 16.0}, {"eta_a": 0.5}, {"base": "sgd"}, {"ratio": None, "eta_b": lambda count: 0.1},
    {"groups": {"head": ParamGroup(match="head", ratio=3.0)}},
])  # fmt: skip
def test_rates_and_optimizers_are_no_part_of_a_plan(settings):
    assert plan_of(**settings) == plan_of()
    assert plan_of(**settings).digest == plan_of().digest


@pytest.mark.parametrize("settings", [
    {"groups": {"top": ParamGroup(match="head")}}, {"reference_fan_in": 8},
    {"groups": HEAD | {"frozen": ParamGroup(match="v")}},
    {"groups": {"head": ParamGroup(match="head", weight_decay=0.1)}},
    {"params": {name: PARAMS[name] for name in ("q", "head")}},
])  # fmt: skip
def test_other_groups_and_leaves_are_another_plan(settings):
    assert plan_of(**settings) != plan_of()
    assert plan_of(**settings).digest != plan_of().digest
