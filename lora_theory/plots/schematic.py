"""Figure 1: a LoRA layer, and how large its parts become under one rate and under two."""

import textwrap
from collections.abc import Sequence
from fractions import Fraction

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle

from lora_theory import arguments
from lora_theory.plots.records import DrawnTraining
from lora_theory.plots.style import STYLE, WIDTH
from lora_theory.plots.theory import LINES
from lora_theory.terms import INIT_NAMES

_ROWS = (  # Name, what it is, height: those of B beside B, of A beside A, Z_A between them.
    ("eta_B", r"$\eta_B$", 2.13),
    ("delta2", r"$B$'s part of $\Delta Z_B$", 1.84),
    ("Z_A", r"$Z_A = A Z$", 1.49),
    ("delta1", r"$A$'s part of $\Delta Z_B$", 1.14),
    ("eta_A", r"$\eta_A$", 0.85),
)
_COLUMNS = 4  # For which there is room.
_GROWS, _SHRINKS = "#f3d3bd", "#d5dfea"
_FIRST, _STEP, _CELL = 4.2, 0.79, (0.7, 0.25)  # Inches: centre and distance of columns, a cell.


def schematic(trainings: Sequence[DrawnTraining]) -> Figure:
    """Figure 1 as this project draws it: a layer, and what LoRA and LoRA+ make of it.

    Args:
        trainings: up to four, a column each; those of one method side by side.

    Raises:
        ValueError: more than four, or those of one method have unlike ratios of rates.
    """
    arguments.some("trainings", trainings, _COLUMNS)
    headings = _headings(trainings)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, WIDTH), ylim=(0, 3.0))
        ax.axis("off")
        _layer(ax)
        for name, words, y in _ROWS:
            ax.text(2.6, y, words, va="center", color=_factor_colour(name))
        ax.text(2.6, 0.5, "so training is", va="center")
        for place, training in enumerate(trainings):
            _training(ax, training, _FIRST + _STEP * place)
        methods = [training.method for training in trainings]
        for method, words in headings.items():
            at = [_FIRST + _STEP * i for i, other in enumerate(methods) if other == method]
            _heading(ax, f"{method}: {words}", at[0], at[-1])
        ax.text(
            2.6,
            0.14,
            "Sign or Adam updates, once settled, by the recursions.  "
            r"$\blacktriangle$ grows with $n$,  $\blacktriangledown$ vanishes.",
            va="center",
            fontsize=7,
        )
    return figure


def _headings(trainings: Sequence[DrawnTraining]) -> dict[str, str]:
    """By method, the ratio of its rates in all of its columns."""
    found: dict[str, str] = {}
    for training in trainings:
        words = _ratio(training)
        if found.setdefault(training.method, words) != words:
            unlike = [found[training.method], words]
            one = f"of one ratio of rates for all of {training.method}"
            raise arguments.refusal("trainings", one, unlike)
    return found


def _ratio(training: DrawnTraining) -> str:
    """λ = η_B / η_A, or what is said where there is none."""
    eta_a, eta_b = (training.sizes[name] for name in ("eta_A", "eta_B"))
    if eta_a is None or eta_b is None:
        frozen = [name for name, eta in (("A", eta_a), ("B", eta_b)) if eta is None]
        return f"${'$, $'.join(frozen)}$ frozen"
    one = eta_a == eta_b
    return r"best $\eta_A = \eta_B$" if one else rf"$\lambda = {_theta(eta_b - eta_a)}$"


def _heading(ax: Axes, words: str, first: float, last: float) -> None:
    """The method and its rates over its columns."""
    ax.text((first + last) / 2, 2.8, words, ha="center", va="center", fontsize=9)
    ax.plot([first - 0.34, last + 0.34], [2.63, 2.63], color="#555555", linewidth=0.6)


def _training(ax: Axes, training: DrawnTraining, x: float) -> None:
    ax.text(x, 2.45, INIT_NAMES[training.init], ha="center", va="center")
    for name, _, y in _ROWS:
        exponent = training.sizes[name]
        rate = name.startswith("eta")
        if not rate and exponent != 0:
            grows = exponent is not None and exponent > 0
            corner = (x - _CELL[0] / 2, y - _CELL[1] / 2)
            colour = _GROWS if grows else _SHRINKS
            ax.add_patch(Rectangle(corner, *_CELL, facecolor=colour, edgecolor="#777", lw=0.5))
            mark = r"\,\blacktriangle" if grows else r"\,\blacktriangledown"
        else:
            mark = ""
        colour = _factor_colour(name) if rate else "black"
        said = f"${_theta(exponent)}{mark}$"
        ax.text(x, y, said, ha="center", va="center", fontsize=9, color=colour)
    words = LINES.get(training.verdict, ("", training.verdict))[1]
    ax.text(
        x, 0.5, textwrap.fill(words, 10), ha="center", va="center", fontsize=7, linespacing=0.95
    )


def _theta(exponent: Fraction | None) -> str:
    r"""Θ(n^exponent) as mathematics.

    >>> _theta(Fraction(-1, 2)), _theta(Fraction(1)), _theta(Fraction(0)), _theta(None)
    ('\\Theta(n^{-1/2})', '\\Theta(n)', '\\Theta(1)', '0')
    """
    if exponent is None:
        return "0"
    plain = {"0": "1", "1": "n", "-1": "1/n"}
    return rf"\Theta({plain.get(str(exponent)) or f'n^{{{exponent}}}'})"


def _factor_colour(name: str) -> str:
    factor = {"eta_A": "A", "delta1": "A", "eta_B": "B", "delta2": "B"}.get(name)
    return LINES[f"{factor} alone"][0] if factor else "black"


def _layer(ax: Axes) -> None:
    """Frozen W* beside the trapezoids B and A; lengths in inches."""
    ax.add_patch(Rectangle((0.1, 0.8), 0.85, 1.38, facecolor="#dfe7ef", edgecolor="#55677a"))
    ax.text(0.525, 1.49, "$W^*$\nfrozen", ha="center", va="center", fontsize=9)
    trapezoids = {
        "A": [(1.2, 0.8), (2.4, 0.8), (2.05, 1.39), (1.55, 1.39)],
        "B": [(1.55, 1.59), (2.05, 1.59), (2.4, 2.18), (1.2, 2.18)],
    }
    for name, corners in trapezoids.items():
        colour = LINES[f"{name} alone"][0]
        ax.add_patch(Polygon(corners, facecolor=colour, alpha=0.35, edgecolor=colour))
        x, y = (float(c) for c in np.mean(corners, axis=0))
        ax.text(x, y, f"${name}$", ha="center", va="center", fontsize=10)
    ax.text(1.2, 0.32, "$Z$  ($n$ coordinates)", ha="center", va="center")
    ax.text(
        1.2, 2.72, r"$\bar Z = W^* Z + \frac{\alpha}{r}\,$", ha="right", va="center", fontsize=10
    )
    ax.text(1.2, 2.72, r"$Z_B$,  $Z_B = B A Z$", ha="left", va="center", fontsize=9)
    arrows = (
        ((1.05, 0.42), (0.525, 0.79)),
        ((1.35, 0.42), (1.8, 0.79)),
        ((0.525, 2.19), (0.95, 2.58)),
        ((1.8, 2.19), (1.4, 2.58)),
    )
    for start, end in arrows:
        ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color="#555"))
