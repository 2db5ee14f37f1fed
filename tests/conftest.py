"""Eight CPU devices stand in for several accelerators; rank promotion raises in all tests;
annotations of arrays are checked at run time.
"""

import os
import pkgutil
from pathlib import Path

import jax
import jaxtyping
import pytest

import lora_theory

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_x64", False)


def checked_modules():
    """Every module that says the shapes of its arrays."""
    for module in pkgutil.walk_packages(lora_theory.__path__, "lora_theory."):
        source = Path(module.module_finder.path, f"{module.name.rpartition('.')[2]}.py")
        if source.is_file() and "from lora_theory.arrays import" in source.read_text():
            yield module.name


CHECKED = list(checked_modules())
assert "lora_theory.train.sweep" in CHECKED
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session")
def devices():
    found = jax.devices("cpu")
    assert len(found) == 8
    return found


@pytest.fixture(scope="session")
def environment():
    """The environment of a user's process: nothing of this session's own settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "HYDRA_"))}
