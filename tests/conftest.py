"""Eight CPU devices stand in for several accelerators; rank promotion raises in all tests."""

import os

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def devices():
    found = jax.devices("cpu")
    assert len(found) == 8
    return found


@pytest.fixture(scope="session")
def environment():
    """The environment of a user's process: nothing of this session's own settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "HYDRA_"))}
