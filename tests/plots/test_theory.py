"""Phase diagrams and slopes show what they are given, and can not hide a disagreement."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from plots.readable import assert_readable

from lora_theory.plots import theory
from lora_theory.plots.records import Curve, DrawnDiagram, DrawnPoint
from lora_theory.plots.style import save
from lora_theory.theory.regions import areas
from lora_theory.theory.rules import RULES


def diagram(update="gd", init="A", agrees=True, measured="efficient"):
    axis = np.linspace(-2, 1, 13)
    points = [DrawnPoint((x, y), "efficient", measured, True) for x in axis for y in axis]
    found, t = (None, None) if agrees is None else ("unstable", 7)
    points[7] = dataclasses.replace(points[7], measured=found, measured_t=t, agrees=agrees)
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


@pytest.mark.parametrize(("agrees", "right", "count"), [(True, 676, 100), (False, 672, 104)])
def test_how_many_points_agree_and_how_many_are_drawn_is_said(agrees, right, count):
    """Of each diagram 5² points in steps of three, and what does not agree."""
    figure = theory.phase_diagrams(
        [diagram(u, i, agrees=agrees) for u in ("gd", "sign") for i in "AB"]
    )
    said = figure.get_suptitle()
    assert f"{right} of 676 measured points agree" in said
    assert f"{count} of them are drawn" in said


def test_unstable_points_show_the_t_at_which_they_were_measured_to_become_so():
    whole = diagram()
    points = [
        dataclasses.replace(p, predicted="unstable", measured="unstable", measured_t=i + 1)
        for i, p in enumerate(whole.points)
    ]
    ax = Figure().subplots()
    count = theory.phase_diagram(ax, dataclasses.replace(whole, points=tuple(points)))
    shown = {text.get_position(): text.get_text() for text in ax.texts}
    assert len(shown) == count == 25
    assert shown[-2.0, -2.0] == "1"
    assert shown[-2.0, -1.25] == "4"
    assert shown[1.0, 1.0] == "169"


def test_areas_differ_in_grey():
    """By a tenth of the way from black to white, whatever their colours."""
    greys = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour, _ in theory.AREAS.values()]
    assert np.diff(sorted(greys)).min() > 0.1


def test_approaching_slopes_and_their_limit():
    curve = Curve("f", (9.0, 15.0), (0.3, 0.45), (0.01, 0.01), 0.5)
    (ax,) = theory.approaching([curve]).axes
    assert ax.get_ylim()[0] < 0.3
    assert ax.get_ylim()[1] > 0.5
    assert ax.containers[0].lines[0].get_ydata().tolist() == [0.3, 0.45]
    (segment, _) = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(segment, [[9, 0.29], [9, 0.31]])


def figures():
    curve = Curve("f", (9.0, 15.0), (0.3, 0.45), (0.01, 0.01), 0.5)
    return {
        "phase": theory.phase_diagrams([diagram(u, i) for u in ("gd", "sign") for i in "AB"]),
        "slopes": theory.approaching([curve] * 3),
    }


@pytest.mark.parametrize("name", ["phase", "slopes"])
def test_all_text_can_be_read_on_paper(name):
    assert_readable(figures()[name])


def test_same_figure_same_bytes(tmp_path):
    first = [path.read_bytes() for path in save(figures()["phase"], tmp_path / "a", dpi=40)]
    again = [path.read_bytes() for path in save(figures()["phase"], tmp_path / "b", dpi=40)]
    assert first == again
