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
    assert f"{count} points are drawn, all that do not agree among them" in said


@pytest.mark.parametrize("update", ["gd", "sign"])
def test_every_predicted_line_lies_where_its_area_is(update):
    found = diagram(update)
    ax = Figure().subplots()
    theory.phase_diagram(ax, found)
    lines = [line for line in ax.lines if line.get_linestyle() == "-"]
    ends = {tuple(map(tuple, line.get_xydata().tolist())): line for line in lines}
    thin = [area for area in found.areas if area.dimension == 1]
    assert thin
    assert len(ends) == len(thin)
    for area in thin:
        line = ends[tuple(tuple(float(x) for x in corner) for corner in area.corners)]
        assert to_hex(line.get_color()) == theory.LINES[area.name][0]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(("agrees", "count"), [(True, 0), (False, 0), (None, 1)])
def test_what_is_undecided_is_in_the_legend_where_there_is_some(agrees, count):
    assert legend(theory.phase_diagrams([diagram(agrees=agrees)])).count("undecided") == count


def test_the_legend_says_what_is_predicted_and_what_measured():
    figure = theory.phase_diagrams([diagram()])
    words = figure.legends[0].get_title().get_text()
    assert "lines are predicted" in words
    assert "markers and numbers measured" in words


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_of_fewer_diagrams_no_axes_are_empty_and_each_column_has_its_numbers(count):
    figure = theory.phase_diagrams([diagram()] * count)
    assert_readable(figure)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == count
    for column in range(min(count, 2)):
        lowest = shown[column::2][-1]
        assert lowest.get_xlabel()
        assert any(label.get_visible() for label in lowest.get_xticklabels())


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


def drawn_slopes(*slopes, limit=0.5):
    figure = theory.approaching(
        [Curve("f", (9.0, 12.0, 15.0), tuple(slopes), (0.01, None, 0.01), limit)]
    )
    assert_readable(figure)
    return figure.axes[0], figure.get_suptitle()


@pytest.mark.parametrize("slopes", [(1.5, 1.0, 0.6), (-1.0, 0.2, 3.0), (0.5, 0.5, 0.5)])
def test_every_slope_and_its_interval_are_within_the_axis(slopes):
    ax, _ = drawn_slopes(*slopes)
    low, high = ax.get_ylim()
    assert low < min(*slopes, 0.5) - 0.01
    assert high > max(*slopes, 0.5) + 0.01


@pytest.mark.parametrize("nothing", [None, np.inf, np.nan])
def test_without_a_slope_there_is_no_number(nothing):
    ax, _ = drawn_slopes(nothing, nothing, nothing)
    assert [text.get_text() for text in ax.texts] == ["no number"]
    some, _ = drawn_slopes(nothing, 0.3, nothing)
    assert [text.get_text() for text in some.texts] == []


def test_the_title_of_the_slopes_claims_no_success():
    _, title = drawn_slopes(1.5, 1.0, 0.9)
    assert "arrive" not in title
    assert "predicted limit" in title


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
