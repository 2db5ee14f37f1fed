"""The figures of the theory show what they are given, and can not hide a disagreement."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from experiments.judge import areas
from lora_theory import plotting_theory as theory
from lora_theory.plotting import save


def diagram(update="gd", init="A", agrees=True, measured="efficient"):
    axis = np.linspace(-2, 1, 13)
    points = [
        {"at": [x, y], "predicted": "efficient", "measured": measured, "agrees": True}
        for x in axis
        for y in axis
    ]
    points[7] |= {"agrees": agrees, "measured": None if agrees is None else "unstable"}
    return {"update": update, "init": init, "areas": areas(update, init), "points": points}


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


@pytest.mark.parametrize("update", ["gd", "sign"])
@pytest.mark.parametrize("init", ["A", "B"])
def test_areas_cover_the_box_once(update, init):
    """Shoelace areas of the two-dimensional regions add up to the box."""
    total = 0.0
    for area in areas(update, init):
        if area["dimension"] == 2:
            corners = np.array(area["corners"])
            middle = corners - corners.mean(axis=0)
            x, y = corners[np.argsort(np.arctan2(middle[:, 1], middle[:, 0]))].T
            total += 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))
    assert total == pytest.approx((20 / 6) ** 2)


def row(**changes):
    return {
        "setting": "layer, sign, Init[1], (-1, 0)",
        "quantity": "delta1",
        "predicted": "1/2",
        "measured": 0.4,
        "error": 0.02,
        "verdict": "fails",
    } | changes


def test_exponents_are_where_they_were_measured():
    control = {"rows": [row(measured=-0.3), row(measured=9.0, verdict="holds")]}
    claims = [{"rows": [row(), row(measured=None)], "control": control}]
    figure = theory.predicted_measured(claims)
    left, right = figure.axes
    assert not left.containers
    points = [bar.lines[0] for bar in right.containers]
    assert [line.get_ydata()[0] for line in points] == [0.4, -0.3]
    assert all(abs(line.get_xdata()[0] - 0.5) <= 0.03 for line in points)
    assert points[0].get_color() == theory._KINDS["fails"][1]


def test_approaching_slopes_and_their_limit():
    curve = {
        "label": "f",
        "log2_widths": [9.0, 15.0],
        "slopes": [0.3, 0.45],
        "errors": [0.01, 0.01],
        "limit": 0.5,
    }
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
