"""Ways to train: each is what it is called, and trains what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.budget.ways import (
    ARMS,
    FULL,
    PLUS,
    WAYS,
    finetuning_optimizer,
    grid_of,
    transformation,
)
from experiments.registry import OPTIMIZERS
from lora_theory.keys import seed_key
from lora_theory.models.transformer import Transformer

PARAMS = {"lora_a": jnp.array([[3.0, 4.0]]), "lora_b": jnp.array([[2.0], [1.0]])}


def test_every_arm_is_of_a_known_optimizer_and_used():
    used = {arm for way in WAYS for arm in way.arms}
    assert used == set(ARMS)
    assert {arm.optimizer for arm in ARMS.values()} <= {PLUS, FULL, *OPTIMIZERS}
    assert all(grid_of(grid_of(name)) == grid_of(name) for name in ARMS)


def test_the_first_way_is_lora_and_labels_differ():
    assert WAYS[0].arms == ("lora",)
    assert ARMS["lora"].ratio == 1
    labels = [way.label for way in WAYS]
    assert len(set(labels)) == len(labels)
    assert [way.control for way in WAYS if way.control] == ["worse", "not better"]


def step(name, base="sgd"):
    tx = transformation(name, base, None, 0.5, 8.0)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    return {name: np.asarray(update) for name, update in updates.items()}


@pytest.mark.parametrize(("name", "of_a", "of_b"), [
    (PLUS, -0.5, -8.0),  # η_A and η_B.
    ("scaled_gd", -0.5 / 5, -0.5 / 25),  # η / |B|² and η / |A|².
    ("lora_fa", 0.0, -0.5),
])  # fmt: skip
def test_a_step_is_that_of_the_optimizer(name, of_a, of_b):
    found = step(name)
    np.testing.assert_allclose(found["lora_a"], of_a * PARAMS["lora_a"], rtol=1e-5)
    np.testing.assert_allclose(found["lora_b"], of_b * PARAMS["lora_b"], rtol=1e-5)


def test_full_fine_tuning_is_the_base_at_one_rate():
    tx = transformation(FULL, "sgd", None, 0.5, 8.0)
    weight = {"weight": jnp.ones((2, 2))}
    updates, _ = tx.update(weight, tx.init(weight), weight)
    np.testing.assert_allclose(updates["weight"], -0.5)


def test_the_base_is_that_of_lora_alone():
    assert np.abs(step(PLUS, "adam")["lora_a"]) == pytest.approx(0.5, rel=1e-4)
    for name in ("scaled_adamw", "lora_rite"):
        assert (step(name, "adam")["lora_a"] == step(name, "sgd")["lora_a"]).all()


@nnx.jit
def model():
    return Transformer(9, 5, 5, width=8, heads=1, blocks=1, rank=2, key=seed_key(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({arm.optimizer for arm in ARMS.values()}))
def test_what_is_trained_of_a_transformer(name):
    options = {"steps": 10, "warmup": 2, "clip": 1.0}
    optimizer = finetuning_optimizer(name)(model(), 0.1, 4.0, **options)
    net = model()
    paths = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(net))}
    found = nnx.to_flat_state(nnx.state(net, optimizer.wrt))
    trained = {".".join(map(str, path)) for path, _ in found}
    factors = {path for path in paths if "lora_" in path}
    assert len(factors) == 4
    if name == FULL:
        assert trained == paths - factors
        assert "blocks.0.attention.query.weight" in trained
    elif name == "lora_fa":
        assert trained == {path for path in factors if path.endswith("b")} | {"head.kernel"}
    else:
        assert trained == factors | {"head.kernel"}


@pytest.mark.parametrize(("clip", "moves"), [(1e-12, False), (1.0, True)])
def test_gradients_are_clipped_before_anything_else(clip, moves):
    """Scaled gradient descent does not forget their size."""
    net = model()
    optimizer = finetuning_optimizer("scaled_gd")(net, 1.0, 1.0, steps=9, warmup=1, clip=clip)
    ones = jax.tree.map(jnp.ones_like, nnx.state(net, optimizer.wrt))
    for _ in range(2):
        optimizer.update(net, ones)
    b = net.blocks[0].attention.query.lora_b[...]
    assert bool((jnp.abs(b) > 1e-6).any()) is moves
