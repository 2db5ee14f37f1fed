"""How every figure looks, and how it is written."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from lora_theory.store.files import atomic_write

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
}


def save(figure: Figure, stem: str | Path, *, dpi: int) -> list[Path]:
    """Write `stem`.png and `stem`.pdf, each whole or not at all; equal figures, equal bytes."""
    paths = [Path(f"{stem}.{kind}") for kind in ("png", "pdf")]
    for path in paths:
        with atomic_write(path) as file, mpl.rc_context(STYLE):
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
            figure.savefig(file, format=path.suffix[1:], dpi=dpi, metadata=metadata)
    return paths
