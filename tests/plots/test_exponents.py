"""A forest of exponents: marks where they were measured, open and named where nothing is known."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from plots.readable import assert_readable

from lora_theory.plots import exponents
from lora_theory.plots.exponents import Exponents, Mark


def drawn(*marks, predicted=-1.0):
    group = Exponents("c_a", predicted, 0.1, marks)
    return exponents.forest({"family": [group]}, over="n").axes[0]


def marker(ax, value):
    """The marker at a value."""
    (found,) = [
        line
        for line in ax.lines
        if line.get_marker() not in ("None", None) and line.get_xdata()[0] == value
    ]
    return found


@pytest.mark.parametrize("outcome", list(exponents.OUTCOMES))
def test_marks_and_intervals_lie_where_they_were_measured(outcome):
    ax = drawn(Mark("test", -0.9, -1.2, -0.5, outcome))
    shape, colour, _ = exponents.OUTCOMES[outcome]
    found = marker(ax, -0.9)
    assert (found.get_marker(), to_hex(found.get_color())) == (shape, colour)
    assert [-1.2, -0.5] in [list(line.get_xdata()) for line in ax.lines]


def test_the_predicted_exponent_has_its_margin():
    ax = drawn(Mark("test", -0.9, -1.2, -0.5, "holds"))
    (band,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert (band.get_x(), band.get_width()) == pytest.approx((-1.1, 0.2))
    assert not drawn(Mark("test", -0.9, -1.2, -0.5), predicted=None).patches


def test_what_is_not_determined_is_open_and_what_decides_is_larger():
    ax = drawn(
        Mark("a", -0.9, -1.2, -0.5, "undecided", determined=False),
        Mark("b", -0.8, -0.9, -0.7, "holds"),
        Mark("c", -0.7, -0.9, -0.6, "holds", primary=True),
    )
    faces = [to_hex(marker(ax, value).get_markerfacecolor()) for value in (-0.9, -0.8, -0.7)]
    assert faces == ["#ffffff", *[exponents.OUTCOMES["holds"][1]] * 2]
    assert marker(ax, -0.7).get_markersize() > marker(ax, -0.8).get_markersize()


def test_without_a_value_its_reason_stands_there():
    ax = drawn(Mark("a", np.nan, np.nan, np.nan, "undecided", note="no fit"))
    assert "no fit" in [text.get_text() for text in ax.texts]


def test_rows_are_shared_by_panels():
    groups = [Exponents("c_a", None, 0.1, (Mark(w, 0.0, -0.1, 0.1),)) for w in ("x", "y")]
    figure = exponents.forest({"one": groups[:1], "two": groups[1:]}, over="n")
    heights = [
        [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o"] for ax in figure.axes
    ]
    assert heights == [[0.0], [-1.0]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["x", "y"]


def test_the_figure_can_be_read_on_a_page():
    wheres = ["test, t = 200, 75 % quantile", "train, t = 200, 75 % quantile", "64 → 128"]
    groups = [
        Exponents(name, -1.0, 0.1, tuple(Mark(where, 0.0, -0.1, 0.1) for where in wheres))
        for name in ("collapse c_a + c_b, pairs", "λ*")
    ]
    assert_readable(exponents.forest({"Adam, Init[1]": groups, "Adam, Init[2]": groups}, over="n"))
