"""Scores of arms: those of a loop written out, 0 of what diverges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.budget.config import ToyConfig
from experiments.budget.runs import scores, suggested
from experiments.budget.ways import ARMS
from lora_theory.data.synthetic import sine_task
from lora_theory.keys import seed_key
from lora_theory.models.toys import TwoLayerToy


def run(cfg, task, arm, rates, ratio=1.0):
    given = np.array(rates, float)
    return scores(task, ARMS[arm], 3, ratio, given, cfg, jax.devices("cpu")[0])


def by_hand(toy: ToyConfig, eta_a, eta_b):
    """Gradient descent on both factors, written out; test losses at the start and at the end."""
    model = TwoLayerToy(toy.inputs, toy.width, toy.rank, init="both", key=seed_key(3))
    data = sine_task(toy.inputs, toy.n_train, toy.n_test, key=seed_key(3))
    w_in, w_out = model.w_in[...], model.w_out[...]

    def loss(a, b, x, y):
        f = w_out @ jnp.maximum(b @ a @ jnp.maximum(w_in @ x, 0), 0)
        return jnp.mean((f - y) ** 2)

    def step(a, b):
        g_a, g_b = jax.grad(loss, (0, 1))(a, b, data.x_train, data.y_train)
        return a - eta_a * g_a, b - eta_b * g_b

    a, b = model.lora.lora_a[...], model.lora.lora_b[...]
    start = loss(a, b, data.x_test, data.y_test)
    for _ in range(toy.steps):
        a, b = jax.jit(step)(a, b)
    return float(start), float(loss(a, b, data.x_test, data.y_test))


@pytest.mark.slow
def test_a_toys_score_is_the_decades_that_its_loss_fell(small):
    cfg = small()
    found = run(cfg, "two_layer", "plus_4", [2.0**-6], 4.0)
    start, end = by_hand(cfg.toys["two_layer"], 2.0**-6, 2.0**-4)
    np.testing.assert_allclose(found.test_loss, [end], rtol=1e-4)
    np.testing.assert_allclose(found.score, [np.log10(start / end)], atol=1e-3)
    assert found.score[0] > 0.05


def test_a_toy_that_diverges_or_gets_worse_has_learned_nothing(small):
    found = run(small("toys.two_layer.steps=40"), "two_layer", "lora", [1e6, 1e-9])
    assert found.score[0] == 0
    assert np.isnan(found.test_loss[0])
    assert found.score[1] < 1e-3
    assert np.isfinite(found.test_loss[1])


def test_a_layer_that_dies_predicts_0_which_is_a_score(small):
    """Above two random factors the loss begins far above that of 0."""
    cfg = small("toys.two_layer.steps=40")
    found = run(cfg, "two_layer", "full", [1e6])
    data = sine_task(5, *2 * [cfg.toys["two_layer"].n_train], key=seed_key(3))
    np.testing.assert_allclose(found.test_loss, [jnp.mean(data.y_test**2)], rtol=1e-5)
    assert found.score[0] > 0.5


def test_with_b_at_rest_at_0_nothing_is_learned(small):
    cfg = small("toys.feature_layer.steps=40")
    assert (run(cfg, "feature_layer", "b_rests", [0.1, 0.01], 0.0).score == 0).all()
    assert run(cfg, "feature_layer", "lora", [0.1, 0.01]).score.max() > 0.1  # Control.


@pytest.mark.slow
@pytest.mark.parametrize("arm", sorted(set(ARMS) - {"aside", "suggested"}))
@pytest.mark.parametrize("task", ["two_layer", "feature_layer"])
def test_every_way_learns_a_toy_at_some_rate(small, task, arm):
    """By more than 0.01 decades, 2 % of the loss: LoRA-FA sees no more of the layer than A does."""
    rates = 2.0 ** np.arange(-10, 3, 2)
    steps = f"toys.{task}.steps=40"
    ratio = ARMS[arm].ratio
    best = run(small(steps), task, arm, rates, ratio).score.max()
    assert (best == 0) if (task, arm) == ("feature_layer", "b_rests") else (best > 0.01)


@pytest.mark.slow
def test_full_fine_tuning_learns_what_the_head_alone_does_not(small):
    cfg = small("training.steps=120", "task.n_test=200", "model.width=16", "training.batch=16")
    full = run(cfg, "transformer", "full", [2.0**-7, 2.0**-6]).score
    head = run(cfg, "transformer", "b_rests", [2.0**-5, 2.0**-4], 0.0).score
    assert full.max() > 0.9
    assert head.max() < 0.65


@pytest.mark.slow
def test_a_transformer_that_diverges_scores_0(small):
    found = run(small(), "transformer", "lora", [2.0**60])
    assert found.score.tolist() == [0]
    assert np.isnan(found.test_loss).all()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["transformer", "two_layer", "feature_layer"])
def test_rates_are_suggested_for_each_seed_and_task(small, task):
    """On the first batches alone; those of the toys are larger with a larger κ."""
    cfg, device = small(), jax.devices()[0]
    (eta, ratio), other = (suggested(task, seed, cfg, device) for seed in (3, 4))
    assert other != (eta, ratio)
    assert 2**-40 < eta < 2**10
    if task != "transformer":
        more = small(f"suggest.{task}.kappa={2 * cfg.suggest[task].kappa}")
        assert suggested(task, 3, more, device)[0] > 1.5 * eta
