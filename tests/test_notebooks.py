"""Every notebook runs from top to bottom and follows its sliders at once; it is kept without
outputs, and a copy with outputs shows those who read on the web the same cells.
"""

import base64
import copy
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COPIES = ROOT / "docs" / "notebooks"
# Runs a notebook, then moves each slider by itself; prints the seconds of CPU of each move, and how
# many pictures each has shown.
RUNNER = """
import json, sys, time
from pathlib import Path
import ipywidgets
from notebooks.render import cells_of, execute, shown

widgets = []
ipywidgets.Widget.on_widget_constructed(widgets.append)
for captured in execute(cells_of(json.loads(Path(sys.argv[1]).read_text()))):
    for output in captured.outputs:
        print(*output.data, file=sys.stderr)
moves = {}
for slider in widgets:
    if isinstance(slider, ipywidgets.IntSlider):
        places = [("value", slider.max * k // 6) for k in range(7)]
    elif isinstance(slider, ipywidgets.SelectionSlider):
        count = len(slider.options)
        places = [("index", (count - 1) * k // 6) for k in range(7)]
    else:
        continue
    for name, place in places:
        if getattr(slider, name) == place:
            continue
        before = time.process_time()
        captured = shown(lambda: setattr(slider, name, place))
        spent = time.process_time() - before
        pictures = sum("image/png" in output.data for output in captured.outputs)
        moves.setdefault(slider.description, []).append((spent, pictures))
print(json.dumps(moves))
"""
SLIDERS = {"fig2": {"t", "η_A", "η_B"}, "theory": {"c_a", "c_b"}, "width": {"c_a", "c_b"}}
BUDGET = 0.5  # seconds, of a redraw


def run(path, environment):
    return subprocess.run(
        [sys.executable, "-c", RUNNER, str(path)],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def moves(done):
    """By slider: the median of the seconds of its moves, and the least number of pictures."""
    return {
        name: (statistics.median(spent for spent, _ in found), min(shown for _, shown in found))
        for name, found in json.loads(done.stdout.splitlines()[-1]).items()
    }


def written(folder, *sources):
    path = folder / "notebook.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [s]} for s in sources]}))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook_runs_and_its_sliders_redraw_at_once(path, environment):
    done = run(path, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "image/png" in done.stderr
    found = moves(done)
    assert found.keys() == SLIDERS[path.stem]
    for name, (seconds, pictures) in found.items():
        assert pictures == 1, name
        assert seconds <= BUDGET, f"{name}: {seconds:.2f} s"


@pytest.mark.parametrize(
    "source", ["1 / 0", "import ipywidgets\nipywidgets.interact(lambda x: 1 / x, x=[0]);"]
)
def test_an_error_in_a_cell_or_a_widget_is_seen(source, environment, tmp_path):
    done = run(written(tmp_path, source), environment)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_an_error_of_a_moved_slider_is_seen(environment, tmp_path):
    source = "import ipywidgets\nipywidgets.interact(lambda x: 1 / (x - 6), x=(0, 6, 1));"
    done = run(written(tmp_path, source), environment)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_a_slow_slider_is_found(environment, tmp_path):
    """Control: it works for 0.6 seconds, and draws nothing."""
    source = """
import time, ipywidgets
def wait(x):
    start = time.process_time()
    while time.process_time() < start + 0.6:
        pass
ipywidgets.interact(wait, x=(0, 6, 1));
"""
    ((seconds, pictures),) = moves(run(written(tmp_path, source), environment)).values()
    assert (seconds > BUDGET, pictures) == (True, 0)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_outputs_are_stripped(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == {"fig2", "theory", "width"}
    assert {path.name for path in COPIES.glob("*.ipynb")} == {path.name for path in NOTEBOOKS}


# --- Copies with outputs ---


def stripped(notebook):
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return notebook


def faults(shown, notebook):
    """What is wrong with a copy of a notebook."""
    outputs = [out for cell in shown["cells"] for out in cell.get("outputs", [])]
    kinds = {kind for out in outputs for kind in out.get("data", {})}
    texts = ["".join(out.get("text", "")) for out in outputs]
    pictures = []
    for out in outputs:
        for kind, content in out.get("data", {}).items():
            (pictures if kind == "image/png" else texts).append("".join(content))
    text = "\n".join(texts)
    found = {
        "stale": stripped(copy.deepcopy(shown)) != notebook,
        "no picture": not pictures,
        "broken picture": not all(base64.b64decode(p).startswith(b"\x89PNG\r\n") for p in pictures),
        "error": any(out["output_type"] not in ("stream", "display_data") for out in outputs)
        or any(out.get("name") == "stderr" for out in outputs)
        or "Traceback" in text,
        "not still": bool(kinds - {"image/png", "text/markdown", "text/plain"}),
        "a path": bool(re.search(r"(?<![\w./])(/|[A-Z]:\\)\w[\w.-]*[/\\]", text)),
        "another host": bool(re.search(r"\w://|<\w+[^>]*\s(src|href)=", text)),
        "terminal": "\x1b" in text,
    }
    return [name for name, holds in found.items() if holds]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_the_copy_for_the_web_shows_the_notebook_as_it_is(path):
    """`make rendered` makes it anew."""
    shown = json.loads((COPIES / path.name).read_text())
    assert faults(shown, json.loads(path.read_text())) == []
    # In place of each widget, the line that says what can be moved.
    lines = [line for cell in shown["cells"] for line in still_lines(cell)]
    assert {name for line in lines for name in SLIDERS[path.stem] if f"{name} = " in line} == (
        SLIDERS[path.stem]
    )


def still_lines(cell):
    texts = (out.get("data", {}).get("text/markdown", "") for out in cell.get("outputs", []))
    return [line for line in map("".join, texts) if line.startswith("*In Jupyter th")]


def test_the_copies_are_small():
    assert sum(path.stat().st_size for path in COPIES.glob("*.ipynb")) < 1_500_000


def _spoil(name, shown):
    """A copy with one fault."""
    outputs = next(c["outputs"] for c in shown["cells"] if c.get("outputs"))
    data = next(
        out["data"]
        for cell in shown["cells"]
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    )
    text = {"a path": "from /home/someone/results", "another host": "see https://example.org",
            "terminal": "\x1b[2K", "error": "Traceback (most recent call last)"}  # fmt: skip
    if name == "stale":
        shown["cells"][0]["source"][0] += " "
    elif name == "no picture":
        stripped(shown)
    elif name == "broken picture":
        data["image/png"] = base64.b64encode(b"<html>").decode()
    elif name == "not still":
        data["application/javascript"] = "1"
    else:
        outputs.append({"output_type": "stream", "name": "stdout", "text": [text[name]]})
    return shown


@pytest.mark.parametrize(
    "name",
    ["stale", "no picture", "broken picture", "error", "not still", "a path", "another host",
     "terminal"],
)  # fmt: skip
def test_a_fault_of_a_copy_is_found(name):
    notebook = json.loads(NOTEBOOKS[0].read_text())
    shown = json.loads((COPIES / NOTEBOOKS[0].name).read_text())
    assert faults(_spoil(name, shown), notebook) == [name]


RENDER = """
import sys
from pathlib import Path
from notebooks.render import render, written
sys.stdout.buffer.write(written(render(Path(sys.argv[1]))))
"""


def test_rendered_again_it_is_the_same(environment, tmp_path):
    """Its text is that of the copy; its pictures too where Matplotlib's version is the same."""
    first, second = (
        subprocess.run(
            [sys.executable, "-c", RENDER, str(NOTEBOOKS[0])],
            cwd=ROOT, env=environment, capture_output=True, check=True, timeout=120,
        ).stdout
        for _ in range(2)
    )  # fmt: skip
    assert first == second

    def words(notebook):
        for cell in notebook["cells"]:
            for out in cell.get("outputs", []):
                out.get("data", {}).pop("image/png", None)
        return notebook

    kept = json.loads((COPIES / NOTEBOOKS[0].name).read_text())
    assert words(json.loads(first)) == words(kept)
