"""Diagrams of update rules show what they are given."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex
from plots.readable import assert_readable, shown_texts

from lora_theory.plots.records import NOT_TOLD, DrawnRule
from lora_theory.plots.rules import rule_diagrams
from lora_theory.plots.style import save
from lora_theory.plots.theory import AREAS, LINES
from lora_theory.theory.exponents import shared, solve
from lora_theory.theory.regions import Area, efficient_in_words, in_box
from lora_theory.theory.rules import LAYER_SIGN, LINEAR_GD

RULES = {"plane": (LAYER_SIGN, "A"), "line": (shared(LAYER_SIGN), "B")}


def diagram(rule, init):
    regions = solve(rule, init)
    areas = tuple(in_box(regions))
    return DrawnRule("a rule", init, rule.exponents, areas, efficient_in_words(regions))


PLANE, LINE = (diagram(*at) for at in RULES.values())


def colours(ax):
    return {to_hex(patch.get_facecolor()) for patch in ax.patches}


def test_a_plane_has_its_areas_lines_and_the_efficient_point():
    (ax,) = (ax for ax in rule_diagrams([PLANE]).axes if ax.get_visible())
    assert colours(ax) == {AREAS[a.name][0] for a in PLANE.areas if a.dimension == 2}
    thick = {to_hex(line.get_color()) for line in ax.lines if line.get_linewidth() > 2}
    assert thick == {LINES[a.name][0] for a in PLANE.areas if a.dimension == 1}
    (star,) = (line for line in ax.lines if line.get_marker() == "*")
    assert star.get_xydata().tolist() == [[-1, 0]]
    assert ax.get_title() == "a rule\nInit[1]: (−1, 0)"


def test_a_line_has_a_bar_for_each_of_its_parts_and_a_marker_between():
    (ax,) = rule_diagrams([LINE]).axes
    ends = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
    (first, middle), (same, last) = ends
    assert middle == same == -1
    assert first < -2 < 1 < last
    (marker,) = (line for line in ax.lines if line.get_marker() == "^")
    assert marker.get_xydata().tolist() == [[-1, 0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a rule, Init[2]: none"]


@pytest.mark.parametrize("told", [True, False])
def test_what_is_not_told_is_hatched_and_in_the_legend(told):
    wedge = Area(NOT_TOLD, 2, ((-1.0, 0.0), (1.0, -2.0), (1.0, -1.8)))
    areas = PLANE.areas + (() if told else (wedge,))
    figure = rule_diagrams([dataclasses.replace(PLANE, areas=areas)])
    hatched = [p for ax in figure.axes for p in ax.patches if p.get_hatch()]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(hatched) == ("not told: cases without end" in words) == (not told)


def test_the_legend_has_what_is_drawn_alone():
    words = [t.get_text() for t in rule_diagrams([diagram(LINEAR_GD, "A")]).legends[0].get_texts()]
    assert "B learns alone" in words
    assert "A learns alone" not in words


@pytest.mark.parametrize(("planes", "lines"), [(1, 0), (0, 1), (3, 2), (4, 0), (6, 1), (12, 9)])
def test_any_number_of_rules_can_be_read(planes, lines):
    figure = rule_diagrams([PLANE] * planes + [LINE] * lines)
    assert_readable(figure)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == planes + bool(lines)
    for column in range(min(planes, 4)):
        lowest = shown[:planes][column::4][-1]
        assert lowest.get_xlabel() == "$c_a$"
        assert any(label.get_visible() for label in lowest.get_xticklabels())


def test_titles_do_not_touch_each_other():
    figure = rule_diagrams([dataclasses.replace(PLANE, name="weight decay λ = n^1/4")] * 4)
    figure.draw_without_rendering()
    boxes = [ax.title.get_window_extent() for ax in figure.axes]
    assert (np.diff([box.x0 for box in boxes]) > [box.width for box in boxes[:-1]]).all()


def test_it_is_said_that_nothing_is_measured():
    assert any("nothing here is measured" in words for words, _ in shown_texts(
        rule_diagrams([PLANE])))  # fmt: skip


def test_no_diagram_is_refused():
    with pytest.raises(ValueError, match="diagrams: must be at least one"):
        rule_diagrams([])


def test_same_figure_same_bytes(tmp_path):
    first, again = (
        [path.read_bytes() for path in save(rule_diagrams([PLANE, LINE]), tmp_path / name, dpi=40)]
        for name in "ab"
    )
    assert first == again
