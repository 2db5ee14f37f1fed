"""The Slurm that the tests of this folder share."""

import os

import pytest
from one_node import missing, one_node

# What CI sets: a missing Slurm is an error there.
NEEDED = "LORA_THEORY_NEEDS_SLURM"


@pytest.fixture(scope="session")
def node():
    """One node, as long as the session lasts."""
    if names := missing():
        reason = f"no Slurm here: {names[0]} is not installed"
        (pytest.fail if os.environ.get(NEEDED) else pytest.skip)(reason)
    with one_node() as slurm:
        yield slurm


@pytest.fixture
def slurm(node, monkeypatch):
    """The node without a job, and this process as one of its clients."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, node.environment[name])
    yield node
    node.cancel()
