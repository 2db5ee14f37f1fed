"""One small run of a width sweep for all tests of it."""

import contextlib
import io

import pytest
from sweeps import small

from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.scaling import figures
from experiments.width import Width


@pytest.fixture
def undrawn(monkeypatch):
    """No figures: other tests look at them, and they take seconds."""
    monkeypatch.setattr(figures, "of_sweep", lambda *of: {})


@pytest.fixture(scope="session")
def finished(once):
    """The folder of a finished run, and what it printed."""

    def run(folder):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            conduct(Width(), small(), Folders(folder / "results", folder / "figures"))
        (folder / "stdout").write_text(printed.getvalue())

    folder = once("width", run)
    return folder, (folder / "stdout").read_text()
