"""The figures of the theory show what they are given, and can not hide a disagreement."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from lora_theory.plots import theory
from lora_theory.plots.records import Curve, DrawnDiagram, DrawnExponent, DrawnPoint
from lora_theory.plots.style import save
from lora_theory.theory.regions import areas
from lora_theory.theory.rules import RULES


def diagram(update="gd", init="A", agrees=True, measured="efficient"):
    axis = np.linspace(-2, 1, 13)
    points = [DrawnPoint((x, y), "efficient", measured, True) for x in axis for y in axis]
    found = None if agrees is None else "unstable"
    points[7] = dataclasses.replace(points[7], measured=found, agrees=agrees)
    return DrawnDiagram(update, init, tuple(areas(RULES["map", update], init)), tuple(points))


def drawn(agrees):
    ax = Figure().subplots()
    theory.phase_diagram(ax, diagram(agrees=agrees))
    return [line for line in ax.lines if to_hex(line.get_color()) == theory.WRONG]


@pytest.mark.parametrize(("agrees", "count"), [(True, 0), (False, 1), (None, 1)])
def test_disagreements_and_undecided_points_are_drawn_even_between_the_lattice(agrees, count):
    found = drawn(agrees)
    assert len(found) == count
    for line in found:
        assert line.get_xdata()[0] == -2
        assert line.get_ydata()[0] == pytest.approx(-0.25)
        assert line.get_markersize() > 6


def exponent(measured=0.4, kind="fails", setting="layer, sign, Init[1], (-1, 0)"):
    return DrawnExponent(setting, "delta1", "1/2", measured, 0.02, kind)


def test_exponents_are_where_they_were_measured():
    figure = theory.predicted_measured([exponent(), exponent(-0.3, "control")])
    left, right = figure.axes
    assert not left.containers
    points = [bar.lines[0] for bar in right.containers]
    assert [line.get_ydata()[0] for line in points] == [0.4, -0.3]
    assert all(abs(line.get_xdata()[0] - 0.5) <= 0.03 for line in points)
    assert points[0].get_color() == theory._KINDS["fails"][1]


def test_error_bars_are_the_intervals_that_decided():
    figure = theory.predicted_measured([exponent(setting="map, gd")])
    (bar,) = figure.axes[0].containers
    (segment,) = bar.lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [0.38, 0.42])


def test_approaching_slopes_and_their_limit():
    curve = Curve("f", (9.0, 15.0), (0.3, 0.45), (0.01, 0.01), 0.5)
    (ax,) = theory.approaching([curve]).axes
    assert ax.get_ylim()[0] < 0.3
    assert ax.get_ylim()[1] > 0.5
    assert ax.containers[0].lines[0].get_ydata().tolist() == [0.3, 0.45]


@pytest.mark.parametrize("kind", ["schematic", "phase"])
def test_same_figure_same_bytes(kind, tmp_path):
    draw = {
        "schematic": theory.schematic,
        "phase": lambda: theory.phase_diagrams(
            [diagram(u, i) for u in ("gd", "sign") for i in "AB"]
        ),
    }[kind]
    first = [path.read_bytes() for path in save(draw(), tmp_path / "a", dpi=40)]
    again = [path.read_bytes() for path in save(draw(), tmp_path / "b", dpi=40)]
    assert first == again
