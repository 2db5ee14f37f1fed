"""A run that is saved in the middle and restored goes on with the same bits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization

from lora_theory import lora_plus

TX = lora_plus(optax.linear_schedule(1e-2, 0.0, 20), ratio=16.0)
X = jax.random.normal(jax.random.key(0), (8, 5))
Y = jnp.sin(X[:, :3])
PARAMS = {
    "lora_a": jax.random.normal(jax.random.key(1), (5, 2)),
    "lora_b": jax.random.normal(jax.random.key(2), (2, 3)),
    "bias": jnp.ones(3),
}


@jax.jit
def step(params, state):
    def loss_of(p):
        return ((X @ p["lora_a"] @ p["lora_b"] + p["bias"] - Y) ** 2).mean()

    updates, state = TX.update(jax.grad(loss_of)(params), state, params)
    return optax.apply_updates(params, updates), state


def run(params, state, steps):
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def new():
    return PARAMS, TX.init(PARAMS)


def through_orbax(saved, folder):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "run", saved)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "run", jax.eval_shape(new))


def through_a_manager(saved, folder):
    with ocp.CheckpointManager(folder) as manager:
        manager.save(3, args=ocp.args.StandardSave(saved))
        manager.wait_until_finished()
        return manager.restore(3, args=ocp.args.StandardRestore(jax.eval_shape(new)))


def through_bytes(saved, folder):
    (folder / "run").write_bytes(serialization.to_bytes(saved))
    return serialization.from_bytes(new(), (folder / "run").read_bytes())


def through_a_state_dict(saved, folder):
    return serialization.from_state_dict(jax.eval_shape(new), serialization.to_state_dict(saved))


WAYS = [through_orbax, through_a_manager, through_bytes, through_a_state_dict]


@pytest.mark.parametrize("way", WAYS)
def test_a_restored_state_goes_on_with_the_same_bits(way, tmp_path, same_bits):
    saved = run(*new(), 3)
    restored = way(saved, tmp_path)
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    same_bits(restored, saved)
    same_bits(run(*restored, 4), run(*new(), 7))
    with pytest.raises(AssertionError):
        same_bits(run(*restored, 4), run(restored[0], TX.init(restored[0]), 4))


def optimized(seed):
    model = nnx.LoRALinear(5, 3, lora_rank=2, rngs=nnx.Rngs(seed))
    return model, nnx.Optimizer(model, TX, wrt=nnx.LoRAParam)


@nnx.jit
def nnx_step(model, optimizer):
    wrt = nnx.DiffState(0, nnx.LoRAParam)
    grads = nnx.grad(lambda model: ((model(X) - Y) ** 2).mean(), argnums=wrt)(model)
    optimizer.update(model, grads)


def test_an_nnx_optimizer_is_restored(tmp_path, same_bits):
    straight = optimized(seed=0)
    for _ in range(3):
        nnx_step(*straight)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", nnx.state(straight))
        checkpointer.wait_until_finished()
        resumed = optimized(seed=1)
        abstract = nnx.state(nnx.eval_shape(lambda: optimized(seed=1)))
        nnx.update(resumed, checkpointer.restore(tmp_path / "run", abstract))
    for both in (straight, resumed):
        for _ in range(4):
            nnx_step(*both)
    same_bits(nnx.state(straight), nnx.state(resumed))


def test_the_rate_is_readable_without_the_optimizer(tmp_path):
    """What is restored without a target is made of dictionaries, and says the rate."""
    _, state = run(*new(), 3)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", state)
        checkpointer.wait_until_finished()
        raw = checkpointer.restore(tmp_path / "run")
    np.testing.assert_allclose(raw["hyperparams"]["learning_rate"], 1e-2 * 18 / 20, rtol=1e-6)
