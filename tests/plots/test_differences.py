"""Measured less predicted: a row a claim, intervals whole, what fails where it was measured."""

import dataclasses
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from plots.readable import assert_readable, colliding

from lora_theory.plots.differences import PANELS, _tick, differences
from lora_theory.plots.exponents import OUTCOMES
from lora_theory.plots.records import DrawnExponent

MARGINS = {"exact": 0.02, "ranks": 0.05, "vectors": 0.1, "landscapes": 0.25, "carried": 1.5}


def number(claim="a", kind="vectors", off=-0.05, half=0.01, verdict="holds", control=False):
    ends = (off - half, off + half)
    return DrawnExponent(claim, kind, off, *ends, MARGINS[kind], verdict, control)


def lines(ax):
    """Where (x, y) -> its marker; and where (low, high, y) an interval is."""
    points, bars = {}, []
    for line in ax.lines:
        xs, ys = line.get_xdata(), line.get_ydata()
        if line.get_marker() not in ("None", None):
            points[float(xs[0]), float(ys[0])] = line
        elif len(xs) == 2 and len(set(ys)) == 1 and xs[0] != xs[1]:
            bars.append((float(xs[0]), float(xs[1]), float(ys[0])))
    return points, bars


def test_a_panel_a_kind_and_a_row_a_claim():
    numbers = [number(claim, kind) for kind in MARGINS for claim in ("one", "two")]
    figure = differences([*numbers, number("one", "exact", 0.5, control=True)])
    rows = [[label.get_text() for label in ax.get_yticklabels()] for ax in figure.axes]
    assert rows == [["one", "two"]] * 5
    titles = [ax.get_title() for ax in figure.axes]
    for kind, margin in MARGINS.items():
        (title,) = (title for title in titles if title.startswith(PANELS[kind][0]))
        assert title.endswith(f"{margin:g}")


def test_numbers_and_intervals_lie_where_they_were_measured():
    (ax,) = differences([number(), number("b", off=0.03, half=0.02)]).axes
    points, bars = lines(ax)
    assert points.keys() == {(-0.05, 0.0), (0.03, 1.0)}
    np.testing.assert_allclose(bars, [(-0.06, -0.04, 0), (0.01, 0.05, 1)])


def test_an_interval_need_not_be_symmetric():
    one = DrawnExponent("a", "landscapes", 0.0, -0.01, 0.2, 0.25, "holds")
    (ax,) = differences([one]).axes
    assert lines(ax)[1] == [(-0.01, 0.2, 0.0)]


def test_all_exponents_of_a_claim_stand_in_its_row_the_furthest_largest():
    (ax,) = differences([number(off=off) for off in (0.01, -0.08, 0.02)]).axes
    points, _ = lines(ax)
    assert sorted(x for x, _ in points) == [-0.08, 0.01, 0.02]
    assert len({y for _, y in points}) == 3
    assert all(abs(y) < 0.5 for _, y in points)
    sizes = {x: line.get_markersize() for (x, _), line in points.items()}
    assert sizes[-0.08] > sizes[0.01] == sizes[0.02]


@pytest.mark.parametrize("verdict", ["holds", "fails", "undecided"])
def test_what_fails_looks_otherwise_and_is_within_the_axis(verdict):
    (ax,) = differences(
        [number(off=0.5, verdict=verdict), number("b", off=-2.0, verdict="fails", control=True)]
    ).axes
    points, _ = lines(ax)
    marker, colour, _ = OUTCOMES[verdict]
    found = points[0.5, 0.0]
    assert (found.get_marker(), to_hex(found.get_color())) == (marker, colour)
    assert points[-2.0, 1.0].get_marker() == "x"
    low, high = ax.get_xlim()
    assert low < -2.01
    assert high > 0.51


def test_the_band_is_the_margin_and_takes_most_of_the_axis():
    """A twentieth is plainly visible beside a control that is 2 off."""
    (ax,) = differences([number(), number(off=-2.0, control=True)]).axes
    (band,) = ax.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.1, 0.2))
    to_axes = ax.transScale + ax.transLimits
    at = [to_axes.transform((x, 0))[0] for x in (-0.1, -0.05, 0, 0.1)]
    assert at[3] - at[0] > 0.5
    assert at[2] - at[1] > 0.12


def test_carried_rates_may_be_better_than_tuned_ones():
    (ax,) = differences([number(kind="carried", off=-1.0)]).axes
    (band,) = ax.patches
    assert band.get_x() == ax.get_xlim()[0]
    assert band.get_x() + band.get_width() == pytest.approx(1.5)


def test_what_has_no_number_is_said():
    figure = differences([number(), number(off=np.nan), number("b", off=0.0, half=np.nan)])
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a *", "b"]
    assert "some have no number" in legend(figure)
    assert "some have no number" not in legend(differences([number()]))
    points, bars = lines(ax)
    assert len(points) == 2
    assert len(bars) == 1


@pytest.mark.parametrize("verdict", ["holds", "undecided"])
def test_a_control_that_is_not_caught_has_a_mark_of_its_own(verdict):
    caught = number("a", off=0.5, verdict="fails", control=True)
    missed = number("b", off=-0.02, verdict=verdict, control=True)
    figure = differences([number(), caught, number("b"), missed])
    points, _ = lines(figure.axes[0])
    assert points[0.5, 0.0].get_marker() == "x"
    assert points[-0.02, 1.0].get_marker() == "X"
    colours = {to_hex(points[at].get_color()) for at in ((0.5, 0.0), (-0.02, 1.0))}
    assert len(colours) == 2
    assert "its control: NOT caught" in legend(figure)
    assert "its control: NOT caught" not in legend(differences([number(), caught]))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("kind", MARGINS)
def test_ticks_do_not_lie_on_one_another(kind):
    """Beside panels of other kinds, with controls far off and near."""
    for off in (2 * MARGINS[kind], 1.0, 2.0, 4.5):
        others = [number("two-layer-coordinates", other) for other in MARGINS]
        figure = differences([*others, number("b", kind, off, control=True)])
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        for ax in figure.axes:
            boxes = [label.get_window_extent(renderer) for label in ax.get_xticklabels()]
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes)), (off, ax.get_title())


@pytest.mark.parametrize(("margin", "off"), [(1e-6, 2.0), (0.02, 1e7), (1e-9, 1e9), (0.1, 10.5)])
def test_ticks_have_room_whatever_the_margin_and_the_deviation(margin, off):
    odd = DrawnExponent("two-layer-coordinates", "exact", off, off, off, margin, "fails")
    figure = differences([odd, *(number("b", kind) for kind in MARGINS if kind != "exact")])
    assert colliding(figure) == []
    shown = [float(t) for t in figure.axes[0].get_xticks()]
    assert len(shown) >= 3
    assert shown == sorted(-t for t in shown)
    assert 0 in shown


@pytest.mark.parametrize(
    ("value", "said"),
    [(10.5, "+10.5"), (-100.25, "−100.25"), (0.05, "+.05"), (1e-6, "+1e−06"), (0, "0")],
)
def test_a_tick_says_its_number(value, said):
    assert _tick(value) == said


def test_numbers_of_unlike_margins_are_refused_in_one_panel():
    other = dataclasses.replace(number("b"), margin=0.2)
    with pytest.raises(ValueError, match=r"of one margin .* 'vectors' .*0\.1, 0\.2"):
        differences([number(), other])


def test_no_exponents_no_panels():
    figure = differences([])
    assert not figure.axes
    assert "no" in figure.texts[0].get_text()
    assert isinstance(figure, Figure)


def test_all_text_can_be_read_on_paper():
    names = ("two-layer-coordinates", "rank-init2-unit-law")
    numbers = [number(claim, kind) for kind in MARGINS for claim in names]
    assert_readable(differences(numbers))
