"""The picture of a score over rates and ratios shows the medians and intervals that it is given."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from plots.readable import assert_readable

from lora_theory.plots import tuning
from lora_theory.stats.intervals import quantile_interval

RATES, RATIOS = [-4, -3, -2, -1], [0.0, 1.0, 4.0]
SCORES = np.random.default_rng(0).random((12, 3, 4)) * 0.1
SCORES[:, 0] += 0.1
SCORES[:, 1, 2] += 0.8
SCORES[:, 2, 0] += 0.6


@pytest.fixture(scope="module")
def axes():
    names = {"what": "accuracy", "control": "head alone", "title": "title"}
    figure = tuning.tuning_figure(SCORES, RATES, RATIOS, **names)
    figure.draw_without_rendering()
    return figure.axes[:2]


def test_the_map_has_the_medians_in_colour_and_in_words(axes):
    medians = np.median(SCORES, axis=0)
    np.testing.assert_allclose(axes[0].collections[0].get_array(), medians)
    shown = [f"{value:.2f}".lstrip("0") for value in medians.ravel()]
    assert [text.get_text() for text in axes[0].texts] == shown
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["head alone", "1", "4"]
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["−4", "−3", "−2", "−1"]


def test_cells_lie_where_their_ticks_are(axes):
    for ax_ticks, ends in (
        (axes[0].get_xticks(), axes[0].get_xlim()),
        (axes[0].get_yticks(), axes[0].get_ylim()),
    ):
        assert ends == (ax_ticks[0] - 0.5, ax_ticks[-1] + 0.5)


def test_the_best_of_each_ratio_is_framed_and_dotted_at_the_border(axes):
    frames = [patch for patch in axes[0].patches if isinstance(patch, Rectangle)]
    assert [(frame.get_xy(), frame.get_linestyle()) for frame in frames] == [
        ((1.5, 0.5), "-"), ((-0.5, 1.5), ":"),
    ]  # fmt: skip


def test_curves_are_medians_with_their_intervals(axes):
    lines = {line.get_label(): line for line in axes[1].lines}
    assert list(lines) == ["head alone", r"$\lambda$ = 1", r"$\lambda$ = 4"]
    for i, (line, bars) in enumerate(zip(lines.values(), axes[1].collections, strict=True)):
        found = quantile_interval(SCORES[:, i])
        np.testing.assert_allclose(line.get_ydata(), found.value)
        assert np.abs(line.get_xdata() - RATES).max() < 0.1
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, np.stack([found.low, found.high], axis=1))
    assert to_hex(lines["head alone"].get_color()) == tuning.CONTROL


def test_few_seeds_have_no_intervals():
    names = {"what": "accuracy", "control": "head alone", "title": "title"}
    figure = tuning.tuning_figure(SCORES[:3], RATES, RATIOS, **names)
    assert not figure.axes[1].collections


def test_it_can_be_read_on_a_page():
    scores = np.random.default_rng(0).random((24, 5, 9))
    names = {"what": "accuracy", "control": "head alone", "title": "title"}
    assert_readable(
        tuning.tuning_figure(scores, range(-12, -3), [0.0, 1.0, 4.0, 16.0, 64.0], **names)
    )
