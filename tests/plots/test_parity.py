"""The picture of differences shows those that it is given, and what is equal at its floor."""

import numpy as np
import pytest
from plots.readable import assert_readable

from lora_theory.plots.parity import FLOOR, parity_figure

ALIKE = {"one": np.array([0.0, 1e-16, 2e-15]), "two": np.array([1e-16, 1e-16, 1e-16])}
WRONG = {"λ larger": np.array([1e-16, 1e-3, 2e-3])}


@pytest.fixture(scope="module")
def figure():
    return parity_figure(ALIKE, WRONG, tolerance=1e-5, title="title")


def test_every_run_is_drawn_and_named(figure):
    (ax,) = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 3}
    assert drawn.keys() == ALIKE.keys() | WRONG.keys()
    for name, apart in (ALIKE | WRONG).items():
        np.testing.assert_array_equal(drawn[name], np.maximum(apart, FLOOR))
    assert any(list(line.get_ydata()) == [1e-5, 1e-5] for line in ax.lines)
    named = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert named == [list(ALIKE), list(WRONG)]


def test_it_can_be_read(figure):
    assert_readable(figure)
