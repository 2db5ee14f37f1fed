"""Every notebook runs from top to bottom, its widgets once each, and is kept without outputs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# IPython without a kernel: cells run one after the other, and a widget calls its function once.
RUNNER = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="NoColor")
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        shell.run_cell("".join(cell["source"])).raise_error()
"""


def run(path, environment):
    return subprocess.run(
        [sys.executable, "-c", RUNNER, str(path)],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def failed(done):
    # An error within a widget is printed, not raised.
    return done.returncode != 0 or "Traceback" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook_runs(path, environment):
    done = run(path, environment)
    assert not failed(done), done.stdout[-2000:] + done.stderr[-2000:]
    assert "<Figure size" in done.stdout


@pytest.mark.parametrize(
    "source", ["1 / 0", "import ipywidgets\nipywidgets.interact(lambda x: 1 / x, x=[0]);"]
)
def test_an_error_in_a_cell_or_a_widget_is_seen(source, environment, tmp_path):
    path = tmp_path / "wrong.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [source]}]}))
    assert failed(run(path, environment))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_outputs_are_stripped(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == {"fig2", "theory", "width"}
