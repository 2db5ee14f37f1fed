"""Eight CPU devices stand in for several accelerators; rank promotion raises in all tests;
annotations of arrays are checked at run time.
"""

import atexit
import fcntl
import gc
import os
import pkgutil
import shutil
import tempfile
from pathlib import Path

import jax
import jaxtyping
import pytest

import lora_theory

# What one process of a session has compiled, no other compiles: neither xdist's other worker nor
# the commands that tests start. It ends with the session.
COMPILED = "JAX_COMPILATION_CACHE_DIR"
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ[COMPILED] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ[COMPILED], ignore_errors=True)
KEPT = {
    COMPILED: os.environ[COMPILED],
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # As in pyproject.toml: an entry may be read while another process writes it.
    "PYTHONWARNINGS": "ignore:Error reading persistent compilation cache entry",
}
jax.config.update("jax_compilation_cache_dir", KEPT[COMPILED])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_x64", False)
if jax.default_backend() != "cpu":  # Formulas are compared in float32, whose products it would cut.
    jax.config.update("jax_default_matmul_precision", "highest")
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

# What imports leave is looked through once: the collector then finds garbage of tests alone.
gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Whatever starts a user's process is slow: it imports all of JAX anew."""
    for item in items:
        if "environment" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def devices():
    found = jax.devices("cpu")
    assert len(found) == 8
    return found


@pytest.fixture(scope="session")
def environment():
    """The environment of a user's process: of this session only what it has compiled."""
    own = ("JAX_", "XLA_", "HYDRA_")
    return {k: v for k, v in os.environ.items() if not k.startswith(own)} | KEPT


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
