"""Copies of the notebooks with their outputs, for those who read on the web: `make rendered`.

Each notebook runs on the small results beside it; what it shows is kept as text and still pictures.
A widget stays as the line that says what can be moved in Jupyter, before the picture of its start.
"""

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import ipywidgets
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from IPython.utils.capture import CapturedIO, capture_output
from traitlets.config import Config

from lora_theory.store.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
RENDERED = ROOT / "docs" / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
CLEARED = "\033[2K\r"  # What a widget prints to clear its output on a terminal.
KEPT = ("image/png", "text/markdown", "text/plain")


class CellError(Exception):
    """A cell of a notebook, or a widget in it, that has failed."""


def cells_of(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(cells: Iterable[dict[str, Any]]) -> Iterator[CapturedIO]:
    """Run cells one after the other in IPython without a kernel, where a widget calls its function
    once, and give what each shows.

    Raises:
        CellError: a cell or a widget fails.
    """
    # The semicolon that hides a value is looked for in the history, which is not the user's.
    config = Config(HistoryManager={"enabled": False})
    shell = InteractiveShell.instance(config=config, colors="NoColor")
    # Pictures name no version of what has drawn them.
    select_figure_formats(shell, {"png"}, metadata={"Software": None})
    for cell in cells:
        source = "".join(cell["source"])
        yield shown(lambda: shell.run_cell(source, store_history=True).raise_error())  # noqa: B023


def shown(act: Callable[[], Any]) -> CapturedIO:
    """What an act shows.

    Raises:
        CellError: it fails, or a widget does, whose error is printed rather than raised.
    """
    with capture_output() as captured:
        try:
            act()
        except Exception as error:
            raise CellError(f"{type(error).__name__}: {error}") from error
    if "Traceback (most recent call last)" in captured.stdout + captured.stderr:
        raise CellError((captured.stdout + captured.stderr).strip())
    return captured


def still(interactive: ipywidgets.interactive) -> str:
    """What can be moved in Jupyter, and where it stands in the picture."""
    movable = [child for child in interactive.children if hasattr(child, "value")]
    menus = any(isinstance(child, ipywidgets.Dropdown) for child in movable)
    kinds = "sliders and menus" if menus else "sliders"
    these = f"these are {kinds}" if len(movable) > 1 else "this is a slider"
    at = [f"{child.description} = {getattr(child, 'label', child.value)}" for child in movable]
    return f"*In Jupyter {these}: {', '.join(at)}.*"


def outputs(captured: CapturedIO, widgets: list[Any]) -> list[dict[str, Any]]:
    """What a cell shows, in nbformat: printed text, the line of a widget, pictures and tables."""
    printed, lines, rest = [], [], []
    if text := captured.stdout.replace(CLEARED, ""):
        printed.append(
            {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        )
    for output in captured.outputs:
        if WIDGET in output.data:
            name = output.data[WIDGET]["model_id"]
            line = still(next(widget for widget in widgets if widget.model_id == name))
            lines.append(_display({"text/markdown": line, "text/plain": line.strip("*")}))
        else:
            rest.append(_display({kind: output.data[kind] for kind in KEPT if kind in output.data}))
    return printed + lines + rest


def _display(data: dict[str, Any]) -> dict[str, Any]:
    """An output of several kinds; text by lines."""
    kept = {
        kind: value if kind == "image/png" else value.splitlines(keepends=True)
        for kind, value in data.items()
    }
    return {"data": kept, "metadata": {}, "output_type": "display_data"}


def render(path: Path) -> dict[str, Any]:
    """The notebook with its outputs. It stays in this process: give each a process of its own."""
    notebook = json.loads(path.read_text())
    widgets: list[Any] = []
    ipywidgets.Widget.on_widget_constructed(widgets.append)
    with tempfile.TemporaryDirectory() as folder:
        # Elsewhere no results are found but the small ones.
        shutil.copy(ROOT / "pyproject.toml", folder)
        shutil.copytree(ROOT / "notebooks" / "small", Path(folder, "notebooks", "small"))
        os.chdir(Path(folder, "notebooks"))
        try:
            cells = cells_of(notebook)
            for cell, captured in zip(cells, execute(cells), strict=True):
                cell["outputs"] = outputs(captured, widgets)
        finally:
            os.chdir(ROOT)
    return notebook


def written(notebook: dict[str, Any]) -> bytes:
    """A notebook as a file: equal notebooks are equal bytes."""
    return (json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def main() -> None:
    """Render every notebook."""
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    RENDERED.mkdir(exist_ok=True)
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        for path, notebook in zip(paths, pool.map(render, paths), strict=True):
            with atomic_write(RENDERED / path.name) as file:
                file.write(written(notebook))
            print(RENDERED.relative_to(ROOT) / path.name)


if __name__ == "__main__":
    main()
