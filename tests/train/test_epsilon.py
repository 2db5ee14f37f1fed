"""An ε that is felt is said, of whatever feels one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lora_theory import lora_plus
from lora_theory.train.epsilon import EpsilonError, check_epsilon, epsilon_gap

PARAMS = {"lora_a": jnp.ones((2, 3)), "lora_b": jnp.ones((3, 2))}
GRADS = {
    "lora_a": jnp.array([[1e-3, -2e-3, 4e-3]] * 2),
    "lora_b": jnp.array([[-1e-4, 1e-4]] * 3),
}


def gap(base):
    transform = lora_plus(0.1, 0.3, base=base)
    return float(jax.jit(lambda: epsilon_gap(transform, GRADS, PARAMS))())


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (functools.partial(optax.adam, eps=1e-30), 0.0),
        (functools.partial(optax.adam, eps=1e-4), 0.5),  # g / (g + ε) of a gradient of 1e-4.
        (functools.partial(optax.adam, eps=1e-2), 0.99),
        (functools.partial(optax.adamw, eps=1e-4, weight_decay=0.0), 0.5),
        (optax.sign_sgd, 0.0),
        (lambda eta: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(eta)), 0.0),
        (lambda eta: optax.chain(optax.clip_by_global_norm(0.1), optax.adam(eta, eps=1e-4)), 0.499),
        (optax.sgd, 0.0),  # It feels the size of its gradient, as it should.
    ],
)
def test_the_gap_is_how_far_updates_are_off_those_of_large_gradients(base, expected):
    assert gap(base) == pytest.approx(expected, abs=1e-3)


def test_a_gap_that_is_too_large_is_refused_with_the_width():
    check_epsilon(np.array([0.0, 0.049, np.nan]), 64)
    with pytest.raises(EpsilonError, match=r"ε is too large .* at n = 64: updates are 50% off"):
        check_epsilon(np.array([0.0, 0.5]), 64)
