"""Whether a figure can be read on a page: 7 inches wide, no text below 7 points, no tick label on
another.
"""

import itertools

from matplotlib.figure import Figure
from matplotlib.text import Text

PAGE = 7.0  # Inches.
LEAST = 7.0  # Points.


def shown_texts(figure):
    """All texts that are drawn, and their points when the figure is as wide as the page."""
    figure.draw_without_rendering()
    scale = min(1.0, PAGE / figure.get_size_inches()[0])
    return [(text.get_text(), text.get_fontsize() * scale) for text in _drawn(figure)]


def too_small(figure):
    """Texts below 7 points."""
    return [(words, points) for words, points in shown_texts(figure) if points < LEAST - 1e-9]


def colliding(figure):
    """Tick labels of one axis that lie on each other."""
    figure.draw_without_rendering()
    found = []
    for ax in all_axes(figure):
        if not (ax.get_visible() and ax.axison):
            continue
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            labels = [
                label
                for tick in ticks
                for label in (tick.label1, tick.label2)
                if label.get_visible() and label.get_text()
            ]
            boxes = [(label.get_text(), label.get_window_extent()) for label in labels]
            found += [
                (one, other)
                for (one, box), (other, at) in itertools.combinations(boxes, 2)
                if box.overlaps(at)
            ]
    return found


def outside(figure):
    """Texts other than tick labels that the edge of the figure cuts."""
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    ticks = {label for ax in all_axes(figure) for label in _tick_labels(ax)}
    boxes = [
        (text.get_text(), text.get_window_extent()) for text in _drawn(figure) if text not in ticks
    ]
    return [
        words
        for words, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


def assert_readable(figure):
    """Nothing too small, nothing cut, no tick labels on each other."""
    assert isinstance(figure, Figure)
    assert too_small(figure) == []
    assert colliding(figure) == []
    assert outside(figure) == []


def all_axes(figure):
    """Of subfigures and insets too."""
    found = [*figure.axes, *(ax for sub in figure.subfigs for ax in sub.axes)]
    return found + [child for ax in found for child in ax.child_axes]


def _drawn(figure):
    """All texts with words, but for those of axes that are hidden or have no axis lines."""
    hidden = set()
    for ax in all_axes(figure):
        if not ax.get_visible():
            hidden |= set(ax.findobj(Text))
        elif not ax.axison:
            hidden |= {text for axis in (ax.xaxis, ax.yaxis) for text in axis.findobj(Text)}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and text not in hidden
    ]


def _tick_labels(ax):
    ticks = [tick for axis in (ax.xaxis, ax.yaxis) for tick in axis.get_major_ticks()]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]
