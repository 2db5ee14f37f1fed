"""Fine-tuning: what is trained and what stays, at which rates, step by step or as one program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lora_theory.data.lookup import lookup_task
from lora_theory.models.transformer import Transformer
from lora_theory.train.finetune import TRAINED, accuracy, lora_optimizer, train, train_step

STEPS, BATCH = 6, 8
OPTIONS = {"warmup": 2, "clip": 1.0}
KEY = jax.random.key(0)
DATA = lookup_task(5, 4, STEPS * BATCH, 1, key=KEY)


@nnx.jit  # Draw by draw it would compile for seconds.
def fresh():
    return Transformer(9, 5, 5, width=12, heads=2, blocks=1, rank=2, key=KEY)


def batches():
    return [np.asarray(at).reshape(STEPS, BATCH, *at.shape[1:]) for at in DATA[:2]]


@functools.cache
def program():
    """(rates, ratio, clip) -> states after the steps, and losses, of every rate; compiled once."""
    graph, state = nnx.split(fresh())

    def one(rate, ratio, clip):
        model = nnx.merge(graph, state, copy=True)
        losses = train(model, *map(jnp.asarray, batches()), rate, ratio, warmup=2, clip=clip)
        return nnx.to_pure_dict(nnx.state(model)), losses

    return jax.jit(lambda rates, *more: jax.lax.map(lambda rate: one(rate, *more), rates))


def by_name(state):
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def states(rates, ratio, clip=1.0):
    """A state by name of the leaf, for every rate."""
    found, losses = program()(jnp.array(rates), jnp.float32(ratio), jnp.float32(clip))
    return by_name(found), losses


def start():
    return by_name(nnx.to_pure_dict(nnx.state(fresh())))


def is_trained(name):
    return "lora_" in name or "head" in name


@pytest.mark.slow
def test_factors_and_head_are_trained_and_nothing_else_bit_for_bit():
    before, (after, _) = start(), states([0.1, 0.01], 4.0)
    assert before.keys() == after.keys()
    assert sum(map(is_trained, before)) == 5
    for name in before:
        for run in after[name]:
            assert (run == before[name]).all() != is_trained(name), name


def test_steps_one_by_one_are_the_program():
    """As a user trains, with a rate and a ratio that are numbers."""
    model = fresh()
    optimizer = lora_optimizer(model, 0.1, 4.0, steps=STEPS, **OPTIONS)
    losses = []
    for t, batch in enumerate(zip(*map(jnp.asarray, batches()), strict=True)):
        losses.append(train_step(model, optimizer, *batch))
        kernel = np.asarray(model.head.kernel[...])
        # The first step of a warmup is at 0.
        assert (kernel == start()["['head']['kernel']"]).all() == (t == 0)
    after, expected = states([0.1, 0.01], 4.0)
    np.testing.assert_allclose(np.array(losses), expected[0], rtol=1e-5)
    np.testing.assert_allclose(kernel, after["['head']['kernel']"][0], rtol=1e-3, atol=1e-5)
    assert np.abs(np.array(losses) - expected[1]).max() > 1e-3  # Control: another rate.


def moved(rate, ratio, clip=1.0):
    before, (after, _) = start(), states([rate, rate], ratio, clip)
    return {name: after[name][0] - before[name] for name in before if is_trained(name)}


def test_b_moves_by_the_ratio_and_the_head_does_not():
    """At so small a rate that gradients stay what they were, and Adam's steps with them."""
    one, four = moved(1e-5, 1.0), moved(1e-5, 4.0)
    for name, change in one.items():
        if "lora_a" not in name:
            factor = 4.0 if "lora_b" in name else 1.0
            np.testing.assert_allclose(four[name], factor * change, rtol=0.05, atol=1e-6)
            assert np.abs(change).max() > 1e-5


def test_a_moves_at_the_rate_whatever_the_ratio():
    """Its gradient grows with B, which Adam forgets where the gradient is far above its ε."""
    one, four = moved(1e-4, 1.0), moved(1e-4, 4.0)
    for name in (name for name in one if "lora_a" in name):
        sizes = [np.linalg.norm(change[name]) for change in (four, one)]
        assert 0.9 < sizes[0] / sizes[1] < 1.1


def test_the_ratio_0_is_the_head_alone():
    change = moved(0.1, 0.0)
    assert all((at == 0).all() for name, at in change.items() if "lora_b" in name)
    assert np.abs(change["['head']['kernel']"]).max() > 0.01


def test_gradients_are_clipped_together():
    """Adam forgets their size, unless little more than its ε is left of it."""
    free, clipped = moved(1e-3, 1.0), moved(1e-3, 1.0, clip=1e-10)
    for name, change in free.items():
        if "lora_a" not in name:  # It decays as well.
            assert np.abs(clipped[name]).max() < 0.1 * np.abs(change).max()


def test_what_is_trained_is_what_the_filter_names():
    names = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(fresh(), TRAINED))}
    at = "blocks/0/attention"
    factors = {f"{at}/{layer}/lora_{f}" for layer in ("query", "value") for f in "ab"}
    assert names == {"head/kernel", *factors}


@pytest.mark.parametrize(("logits", "share"), [([[9.0, 0], [9, 0]], 0.5), ([[9.0, 0], [0, 9]], 1)])
def test_accuracy_is_a_share(logits, share):
    tokens, answers = jnp.zeros((2, 3), int), jnp.array([0, 1])
    assert float(accuracy(lambda _: jnp.array(logits), tokens, answers)) == share
