"""The Slurm that the tests of this folder share."""

import os

import pytest
from one_node import missing, one_node, until

# What CI sets: a missing Slurm is an error there.
NEEDED = "LORA_THEORY_NEEDS_SLURM"


@pytest.fixture(scope="session", autouse=True)
def installed():
    """Every test here needs Slurm's programs."""
    if names := missing():
        reason = f"no Slurm here: {names[0]} is not installed"
        (pytest.fail if os.environ.get(NEEDED) else pytest.skip)(reason)


@pytest.fixture(scope="session")
def node(installed):
    """One node, as long as the session lasts."""
    with one_node() as slurm:
        yield slurm


@pytest.fixture
def slurm(node, monkeypatch):
    """The node without a job, and this process as one of its clients."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, node.environment[name])
    yield node
    node.cancel()
    until(lambda: not node.run("squeue", "--noheader"), 20, lambda: "the jobs must end")
