"""What is written and printed of a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import folders as places
from experiments.lab.folders import Folders
from lora_theory.store.files import write_text

if TYPE_CHECKING:
    from experiments.lab.experiment import Report

_DPI = 200


def show(report: "Report", path: Path, folders: Folders, cfg: Any) -> None:
    """Write texts and figures, then print; `path` is the results file.

    Raises:
        WriteError: a folder can not be written.
    """
    files = [path]
    for folder, texts in ((folders.results, report.texts), (folders.figures, report.kept)):
        for name, text in texts.items():
            write_text(folder / name, text)
            files.append(folder / name)
    if report.figures:
        from lora_theory.plots.style import save

        for name, figure in report.figures.items():
            files += save(figure, folders.figures / name, dpi=dpi_of(cfg))
    print("\n".join(report.lines))
    print("files:", *(places.shown(file) for file in files))
    print("\n".join(report.after), flush=True)


def dpi_of(cfg: Any) -> int:
    """Dots per inch of the figures: the field `plot.dpi` or `dpi`, where there is one."""
    for group in (getattr(cfg, "plot", None), cfg):
        if isinstance(dpi := getattr(group, "dpi", None), int):
            return dpi
    return _DPI
