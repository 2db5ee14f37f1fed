"""Results to figures. Nothing is computed here beyond what is drawn, and nothing needs JAX."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullLocator

from lora_theory import analysis
from lora_theory.analysis import Cell
from lora_theory.results import Results, atomic_write

STYLE = {
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
DIVERGED = "#c8c8c8"
NAMES = {"train_loss": "train", "test_loss": "test"}
LOSS_NAMES = {
    "mse": "mean-squared error",
    "all_pairs": r"all-pairs loss, mean$_{i,j}\,(f_i-y_j)^2$: a hypothesis about the published figure",
}
BEST = {"color": "#1f4e9c", "label": "best pair", "linestyle": "-"}
EQUAL = {"color": "#d95f02", "label": "best equal pair", "linestyle": "--"}


def figure2(results: Results, *, early: int, late: int, early_cap: float | None = None,
            late_cap: float | None = None) -> Figure:
    """Figure 2 of the paper: four heatmaps of the loss and the curves of the two best pairs."""
    raise NotImplementedError
