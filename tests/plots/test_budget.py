"""The picture of budgets shows the scores that it is given, and can be read."""

import numpy as np
import pytest
from plots.readable import assert_readable

from lora_theory.plots.budget import CONTROL, Panel, budget_figure
from lora_theory.stats.intervals import Interval

LABELS = ["LoRA", "LoRA+", "head alone"]
MEAN = np.array([[0.2, 0.6, 0.6, 0.6], [0.2, 0.4, 0.5, 0.7], [0.1, 0.1, 0.1, 0.1]])
SCORES = Interval(MEAN, MEAN - 0.05, MEAN + 0.05)


def figure(scores=SCORES, count=1, labels=LABELS):
    panels = [Panel("a task", "test accuracy", scores, [2, 4, 2])] * count
    controls = [False, False, True]
    return budget_figure(panels, labels, controls=controls, banded=1, judged=2)


def test_a_line_is_the_scores_up_to_all_settings_and_goes_on_level():
    (ax,) = figure().axes
    drawn = [
        line for line in ax.lines if len(line.get_xdata()) > 1 and line.get_linestyle() != "--"
    ]
    found = {
        len(line.get_xdata()): line.get_ydata() for line in drawn if line.get_linestyle() == "-"
    }
    np.testing.assert_allclose(found[2], MEAN[0, :2])
    np.testing.assert_allclose(found[4], MEAN[1])
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert sorted(len(line.get_xdata()) for line in dashed) == [1, 3, 3]
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "4"]


def test_controls_are_grey_and_the_first_have_a_band():
    (ax,) = figure().axes
    dotted = [
        line for line in ax.lines if line.get_linestyle() == ":" and line.get_color() == CONTROL
    ]
    np.testing.assert_allclose(dotted[0].get_ydata(), MEAN[2, :2])
    assert len(ax.collections) == 1
    path = ax.collections[0].get_paths()[0].vertices
    assert path[:, 1].min() == pytest.approx(0.15)
    assert path[:, 1].max() == pytest.approx(0.65)


def test_without_an_interval_there_is_no_band():
    nothing = np.full_like(MEAN, np.nan)
    assert not figure(Interval(MEAN, nothing, nothing)).axes[0].collections


def test_what_is_compared_is_marked_and_ways_are_named():
    found = figure()
    assert any(list(line.get_xdata()) == [2, 2] for line in found.axes[0].lines)
    assert [text.get_text() for text in found.legends[0].get_texts()] == LABELS


def test_too_many_ways_are_refused():
    with pytest.raises(ValueError, match="labels: must be at most 11"):
        budget_figure([], [], controls=[False] * 12, banded=1, judged=2)


def test_it_can_be_read_on_a_page():
    mean = np.random.default_rng(0).random((12, 36))
    panels = [
        Panel(title, unit, Interval(mean, mean - 0.1, mean + 0.1), [9, 36, 1] + 9 * [9])
        for title, unit in [
            ("Transformer, n = 64", "test accuracy"),
            ("Two layers, GD, n = 256", "decades that the test loss fell"),
            ("One layer, Adam, n = 256", "decades that the test loss fell"),
        ]
    ]
    labels = ["LoRA+, λ tuned too"] * 12
    controls = 11 * [False] + [True]
    assert_readable(budget_figure(panels, labels, controls=controls, banded=2, judged=9))
