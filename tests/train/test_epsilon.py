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


def gap(base, grads=GRADS):
    transform = lora_plus(0.1, 0.3, base=base)
    return float(jax.jit(lambda: epsilon_gap(transform, grads, PARAMS))())


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


CLIPPED = functools.partial(optax.chain, optax.clip_by_global_norm(0.1))


@pytest.mark.parametrize("still", ["lora_a", "lora_b"])
def test_a_factor_without_a_gradient_tells_nothing_of_clipping(still):
    """Init[1] and Init[2]: at first one factor has no gradient."""
    grads = GRADS | {"lora_b": jnp.array([[-1e-4, 3e-4]] * 3)}  # Of sizes that differ.
    grads |= {still: jnp.zeros_like(GRADS[still])}
    assert gap(lambda eta: CLIPPED(optax.sgd(eta)), grads) == 0
    assert gap(functools.partial(optax.adam, eps=1e-2), grads) > 0.5


def test_numbers_alone_tell_nothing_of_clipping():
    """Every update of one number goes along its gradient: an ε is seen there all the same."""
    params = grads = {"lora_a": jnp.full((1, 1), 1e-3), "lora_b": jnp.full((1, 1), 1e-3)}
    transform = lora_plus(0.1, 0.3, base=functools.partial(optax.adam, eps=1e-2))
    assert jax.jit(lambda: epsilon_gap(transform, grads, params))() > 0.5


def test_a_gap_that_is_too_large_is_refused_with_the_width():
    check_epsilon(np.array([0.0, 0.049, np.nan]), 64)
    with pytest.raises(EpsilonError, match=r"ε is too large .* at n = 64: updates are 50% off"):
        check_epsilon(np.array([0.0, 0.5]), 64)
