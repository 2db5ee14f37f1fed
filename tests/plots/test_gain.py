"""What two rates gain: gains, speed-ups and shares as they were measured."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from lora_theory.plots import gain
from lora_theory.stats.intervals import Interval, QuantileInterval
from lora_theory.stats.search import LargerB, Search, SpeedUp

WIDTHS = np.array([4.0, 5.0])


def quick(value, low, high):
    numbers = (np.array(at) for at in (value, low, high))
    return SpeedUp(np.array([]), None, QuantileInterval(*numbers))


def figure(*speed_ups):
    values = np.arange(1.0, 7)
    searches = [
        Search(values.astype(int), values, values, Interval(values * n, values, 9 * values))
        for n in WIDTHS
    ]
    larger = [LargerB(6, 1, 2, 1, 0.75, 0.35, 0.97), LargerB(0, 3, 0, 0, np.nan, np.nan, np.nan)]
    family = gain.Gained("family", WIDTHS, searches, speed_ups, larger)
    return gain.gain_figure([family], what="loss").axes


def test_gains_are_those_after_k_trials():
    ax = figure(None, None)[0]
    found = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(found["k = 1"], WIDTHS)
    np.testing.assert_allclose(found["k = 4"], 4 * WIDTHS)
    np.testing.assert_allclose(found["k = 6 (all)"], 6 * WIDTHS)
    assert "k = 16" not in found


@pytest.mark.parametrize(("low", "face"), [(1.5, gain.LAST), (np.nan, "#ffffff")])
def test_a_speed_up_without_an_interval_is_open(low, face):
    ax = figure(quick(2.0, low, 3.0), None)[1]
    (dot,) = [line for line in ax.lines if line.get_marker() == "o"]
    colour = to_hex(dot.get_markerfacecolor())
    assert (dot.get_ydata()[0], colour) == (2.0, to_hex(face))


@pytest.mark.parametrize(("value", "words"), [(0.0, "never"), (np.inf, "at once")])
def test_a_speed_up_that_is_no_number_is_said(value, words):
    (text,) = figure(quick(value, 0.0, 2.0), None)[1].texts
    assert text.get_text() == words


def test_seeds_are_stacked_by_the_side_of_their_own_best():
    ax = figure(None, None)[2]
    first = [bars.patches[0].get_height() for bars in ax.containers]
    np.testing.assert_allclose(first, [0.6, 0.1, 0.2, 0.1])
    shares = [
        line.get_ydata()[0]
        for line in ax.lines
        if line.get_marker() == "o" and len(line.get_xdata())
    ]
    assert shares == [0.75]
