"""Eight CPU devices stand in for several accelerators; rank promotion raises in all tests;
annotations of arrays are checked at run time.
"""

import fcntl
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
# Before a test that asks for as many devices as there are cores starts fewer.
assert len(jax.devices("cpu")) == 8


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


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): the folder that `make(folder)` fills, once a test session.

    Whichever of xdist's workers comes first makes it, and the others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name, make):
        made, ready = root / name, root / f"{name}.ready"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.exists():
                made.mkdir(exist_ok=True)  # It may be there if another worker's attempt failed.
                make(made)
                ready.touch()
        return made

    return folder
