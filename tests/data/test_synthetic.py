"""The task and its losses against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LOSSES

from lora_theory.data.synthetic import linear_task, objective, sine_task


@pytest.mark.parametrize("name", ["mse", "all_pairs"])
@pytest.mark.parametrize(("n_train", "n_test"), [(1, 1), (7, 3), (200, 50)])
def test_losses_and_gradient_equal_their_definition(name, n_train, n_test):
    data = sine_task(5, n_train, n_test, key=jax.random.key(0))
    goal = objective(data, name)
    f = jax.random.normal(jax.random.key(1), (n_train + n_test,))
    train, test = np.split(np.asarray(f, np.float64), [n_train])
    value, slope = LOSSES[name](train, np.asarray(data.y_train, np.float64))
    value_test, _ = LOSSES[name](test, np.asarray(data.y_test, np.float64))
    np.testing.assert_allclose(goal.losses(f), [value, value_test], rtol=1e-5)
    gradient = jax.grad(lambda f: goal.losses(f)[0])(f)
    np.testing.assert_allclose(gradient[:n_train], slope, rtol=1e-4, atol=1e-6)
    assert (np.asarray(gradient[n_train:]) == 0).all()  # No test sample is trained on.


def test_all_pairs_is_not_mse():
    data = sine_task(5, 100, 10, key=jax.random.key(0))
    outputs = jnp.concatenate([data.y_train, data.y_test])
    assert objective(data, "mse").losses(outputs)[0] < 1e-10
    assert abs(objective(data, "all_pairs").losses(outputs)[0] - 2 * data.y_train.var()) < 1e-5


@pytest.mark.parametrize("d", [1, 5, 20])
def test_sine_task_has_the_variance_of_its_law(d):
    """Var(sin(mean(x))) = (1 − exp(−2/d)) / 2, and y is a function of x alone."""
    data = sine_task(d, 100_000, 10, key=jax.random.key(0))
    np.testing.assert_allclose(data.y_train, np.sin(np.mean(data.x_train, axis=0)), atol=1e-5)
    y = np.asarray(data.y_train, np.float64)
    error = np.std((y - y.mean()) ** 2) / np.sqrt(y.size)
    assert abs(y.var() - (1 - np.exp(-2 / d)) / 2) < 4 * error


def test_linear_task_has_inputs_and_targets_of_order_one():
    data = linear_task(500, 400, 400, key=jax.random.key(0))
    assert 0.95 < np.mean(np.square(data.x_train)) < 1.05
    assert 0.7 < np.mean(np.square(data.y_train)) < 1.3  # χ² of v: ±4 √(2/500), and of x.


def test_train_and_test_samples_differ():
    data = sine_task(5, 20, 20, key=jax.random.key(0))
    assert not np.isclose(data.x_train, data.x_test).any()


def test_unknown_loss_is_refused():
    data = sine_task(5, 2, 2, key=jax.random.key(0))
    with pytest.raises(Exception, match="loss"):
        objective(data, "hinge")


@pytest.mark.parametrize("task", [sine_task, linear_task])
@pytest.mark.parametrize("sizes", [(0, 2, 2), (5, -2, 10), (5, 10, -3), (5, 0, 1), (5, 1, 0)])
def test_senseless_sizes_are_refused(task, sizes):
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        task(*sizes, key=jax.random.key(0))
