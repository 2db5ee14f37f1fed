"""The table of leaves against the optimizer itself, and what it warns of."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory.adapters.explain import explain
from lora_theory.adapters.groups import ParamGroup
from lora_theory.adapters.lora_plus import lora_plus

PARAMS = {
    "q": {"lora_a": jnp.ones((64, 4)), "lora_b": jnp.zeros((4, 32))},
    "v": {"lora_a": jnp.ones((16, 4)), "lora_b": jnp.zeros((4, 32))},
    "norm": {"scale": jnp.ones(32)},
    "head": {"kernel": jnp.ones((32, 3)), "bias": jnp.ones(3)},
}
HEAD = {"head": ParamGroup(match="head", ratio=2.0)}
SETTINGS = {
    "plain": {"ratio": 16.0, "groups": HEAD},
    "rates": {"eta_b": 0.5, "groups": HEAD},
    "scaled": {"ratio": 4.0, "groups": HEAD, "reference_fan_in": 32, "equal_decay": True},
    "no decay": {"ratio": 16.0, "groups": HEAD, "base": "adam"},
    "official": {"ratio": 16.0, "labels": "official"},
}


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_table_is_what_the_optimizer_does(name, scheduled):
    """Rate and decay of every leaf, read off the updates themselves."""
    settings = dict(SETTINGS[name])
    rate = optax.linear_schedule(0.5, 0.1, 9) if scheduled else 0.5
    told = explain(PARAMS, rate, steps=10, **settings)
    base = settings.get("base", "adamw")
    for step, column in ((0, "rate"), (9, "last")):
        tx = lora_plus(rate, **settings)
        state = tx.init(PARAMS)
        for _ in range(step + 1):
            grads = jax.tree.map(jnp.ones_like, PARAMS)
            updates, state = tx.update(grads, state, PARAMS)
            still, _ = tx.update(jax.tree.map(jnp.zeros_like, PARAMS), tx.init(PARAMS), PARAMS)
        for row in told.rows:
            *above, own = row.leaf.split(".")
            update, param = (tree[above[0]][own] for tree in (updates, PARAMS))
            decay = 0.0 if row.decay is None else row.decay
            wanted = -getattr(row, column) * (1 + decay * np.asarray(param))
            np.testing.assert_allclose(update, wanted, rtol=2e-5)
            if step == 0:
                decayed = -row.rate * decay * np.asarray(param)
                np.testing.assert_allclose(still[above[0]][own], decayed, rtol=1e-5, atol=1e-9)
    assert {row.decay is None for row in told.rows} == {base == "adam"}


def test_the_table_as_it_is_printed():
    text = str(explain(PARAMS, 1e-3, ratio=16.0, groups=HEAD))
    assert [line.split() for line in text.splitlines()[1:4]] == [
        ["head.bias", "3", "head", "0.002", "0.002", "0", "0"],
        ["head.kernel", "32×3", "head", "0.002", "0.002", "0.0001", "2e-07"],
        ["norm.scale", "32", "no_decay", "0.016", "0.016", "0", "0"],
    ]
    assert "64×4   A         reads n = 64   0.001" in text
    assert "4×32   B         writes m = 32  0.016" in text
    assert text.endswith("leaves: head 2, no_decay 1, A 2, B 2")


def test_a_schedule_without_steps_has_no_end():
    rows = explain(PARAMS, optax.linear_schedule(1.0, 0.0, 4), ratio=2.0, groups=HEAD).rows
    assert {row.last for row in rows} == {None}
    with pytest.raises(ValueError, match="steps: must be an integer of at least 1"):
        explain(PARAMS, 0.1, ratio=2.0, groups=HEAD, steps=0)


def test_the_largest_rate_of_a_schedule_is_shown():
    """A warmup begins at 0, and a cosine ends there."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.5, 20, 100)
    told = explain(PARAMS, schedule, ratio=2.0, groups=HEAD, steps=100)
    rates = {row.group: (row.rate, row.largest) for row in told.rows}
    assert rates["A"] == (0.0, 0.5)
    assert rates["B"] == (0.0, 1.0)
    text = str(told)
    assert "largest" in text
    assert "largest" not in str(explain(PARAMS, 0.5, ratio=2.0, groups=HEAD, steps=100))


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.query = nnx.LoRALinear(8, 5, lora_rank=2, rngs=rngs)
        self.head = nnx.Linear(5, 3, rngs=rngs)


def test_a_module_with_what_trains():
    both = nnx.Any(nnx.LoRAParam, nnx.PathContains("head"))
    assert explain(Model(), 0.1, ratio=2.0).counts == {"A": 1, "B": 1}
    whole = explain(Model(), 0.1, ratio=2.0, wrt=both, groups=HEAD)
    assert whole.counts == {"head": 2, "A": 1, "B": 1}
    assert not whole.warnings
    abstract = nnx.eval_shape(Model)
    assert explain(abstract, 0.1, ratio=2.0).rows == explain(Model(), 0.1, ratio=2.0).rows
    optimizer = nnx.Optimizer(Model(), optax.sgd(0.1), wrt=nnx.Param)
    with pytest.raises(ValueError, match="params: must be parameters or a module"):
        explain(optimizer, 0.1, ratio=2.0)
    with pytest.raises(TypeError, match=r"explain\(\) got an unexpected keyword argument 'group'"):
        explain(Model(), 0.1, ratio=2.0, group=HEAD)
    with pytest.raises(ValueError, match="params: must have leaves that train"):
        explain(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), 0.1, ratio=2.0)


def test_the_kernel_beside_the_factors_of_a_module_is_seen():
    exchanged = {"query": {"lora": {"lora_a": "B", "lora_b": "A"}}}
    (text,) = explain(Model(), 0.1, ratio=2.0, labels=exchanged).warnings[:1]
    assert "exchange the two in labels=" in text


FACTORS = {"lora_a": jnp.ones((8, 2)), "lora_b": jnp.zeros((2, 5))}


@pytest.mark.parametrize(
    ("params", "settings", "warning"),
    [
        (FACTORS | {"head": jnp.ones((5, 3))}, {}, "refuses such trees: head: .*ParamGroup"),
        ({"a": jnp.ones((8, 2)), "b": jnp.zeros((2, 5))}, {}, 'refuses .*labels="lorax"'),
        ({"a": jnp.ones((8, 2)), "b": jnp.zeros((2, 5))}, {}, "2 leaves have no group"),
        (FACTORS | {"ids": jnp.ones((5,), int)}, {}, "refuses such trees: ids: must be of a real"),
        (FACTORS | {"bias": jnp.ones(5)}, {"base": lambda r: optax.adamw(r, weight_decay=0.1)},
         "refuses such trees: base: must leave bias alone"),
        ({"lora_a": jnp.ones((8, 2))}, {}, "group B is empty"),
        ({"lora_b": jnp.ones((8, 2))}, {}, "group A is empty"),
        (FACTORS, {"groups": {"magnitude": ParamGroup(ratio=2.0)}}, "group magnitude is empty"),
        (FACTORS, {"groups": {"slow": ParamGroup(match="lora_*", ratio=0.1)}},
         "lora_a and lora_b train at one rate, in the group slow"),
        ({"lora_a": jnp.ones((3, 8, 2)), "lora_b": jnp.zeros((3, 2, 5))},
         {"groups": {"B": ParamGroup(base="muon")}}, r"lora_b \(3, 2, 5\) has not two dimensions"),
        ({"q": FACTORS, "embed": {"lora_embedding_a": jnp.ones((2, 9))}},
         {"groups": {"head": ParamGroup(match="embed")}}, "factor of an embedding, and trains in"),
        (FACTORS, {"labels": "B"}, "all 2 leaves are in one group, B"),
        (FACTORS | {"head": jnp.ones((5, 3))}, {"labels": "official"},
         r"head \(5, 3\) trains at A's rate, and no B stands beside it"),
        ({"lora_a": jnp.zeros((8, 2)), "lora_b": jnp.ones((2, 5))}, {},
         r"lora_a is zero and lora_b is not: Init\[2\], or A and B are exchanged"),
        (FACTORS, {"ratio": 1.0}, "A and B train at one rate"),
    ],
)  # fmt: skip
def test_warnings(params, settings, warning):
    import re

    assert not explain(FACTORS, 0.1, ratio=2.0).warnings
    told = explain(params, 0.1, **{"ratio": 2.0} | settings)
    assert any(re.search(warning, text) for text in told.warnings), told.warnings
    assert all(f"! {text}" in str(told) for text in told.warnings)


@pytest.mark.parametrize("preset", ["lorax", "quax"])
def test_no_alarm_where_b_is_the_factor_that_starts_at_zero(preset):
    first, second = jnp.zeros((5, 2)), jnp.ones((2, 3))
    b, a = (first, second) if preset == "lorax" else (jnp.zeros((2, 3)), jnp.ones((5, 2)))
    told = explain({"w": jnp.ones((5, 3)), "a": a, "b": b}, 0.1, ratio=2.0, labels=preset)
    assert not told.warnings


def test_factors_without_entries_are_shown():
    empty = {"lora_a": jnp.ones((8, 0)), "lora_b": jnp.ones((0, 5))}
    assert {row.side for row in explain(empty, 0.1, ratio=2.0).rows} == {""}
