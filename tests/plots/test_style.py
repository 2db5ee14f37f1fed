"""Figures on disk: both kinds, whole, at the asked resolution, equal figures as equal bytes."""

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from lora_theory.plots.style import STYLE, draw_value, save


def drawn(height=2.0):
    figure = Figure(figsize=(3, height))
    figure.subplots().plot([1, 2], [3, 4])
    return figure


def test_both_kinds_are_written_and_named(tmp_path):
    paths = save(drawn(), tmp_path / "a", dpi=50)
    assert [path.name for path in paths] == ["a.png", "a.pdf"]
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert matplotlib.image.imread(paths[0]).shape[:2] == (100, 150)


def test_equal_figures_are_equal_bytes_and_others_are_not(tmp_path):
    one, same = (save(drawn(), tmp_path / name, dpi=50) for name in "ab")
    other = save(drawn(1.0), tmp_path / "c", dpi=50)
    for left, right, apart in zip(one, same, other, strict=True):
        assert left.read_bytes() == right.read_bytes()
        assert left.read_bytes() != apart.read_bytes()


def test_a_figure_that_can_not_be_drawn_leaves_the_old_one(tmp_path):
    (path, _) = save(drawn(), tmp_path / "a", dpi=50)
    before = path.read_bytes()
    broken = drawn()
    broken.axes[0].set_title("$\\nosuchcommand$")
    with pytest.raises(ValueError, match="nosuchcommand"):
        save(broken, tmp_path / "a", dpi=50)
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a.pdf"}


def test_a_users_matplotlibrc_changes_no_figure(tmp_path):
    def styled(name):
        with mpl.rc_context(STYLE):
            figure = drawn()
        return save(figure, tmp_path / name, dpi=50)

    plain = styled("a")
    with mpl.rc_context({"axes.facecolor": "red", "savefig.facecolor": "blue", "axes.grid": True}):
        assert drawn().axes[0].get_facecolor()[:3] == (1, 0, 0)  # Control.
        user = styled("b")
    for left, right in zip(plain, user, strict=True):
        assert left.read_bytes() == right.read_bytes()


def value_drawn(**intervals):
    """The axes of a value at (2, 3), whose limits are set once it is drawn."""
    ax = Figure().subplots()
    draw_value(ax, 2.0, 3.0, colour="black", **intervals)
    ax.set(xlim=(0, 10), ylim=(1, 100), yscale="log")
    return ax


HALF = float(np.log10(3) / 2)  # Where 3 is on the logarithmic axis.


@pytest.mark.parametrize(
    ("intervals", "ends"),
    [
        ({"across": (1.0, np.inf)}, [[(0.1, HALF), (1.0, HALF)]]),
        ({"across": (-np.inf, 5.0)}, [[(0.5, HALF), (0.0, HALF)]]),
        ({"up": (10.0, np.inf)}, [[(0.2, 0.5), (0.2, 1.0)]]),
        (
            {"up": (-np.inf, np.inf)},
            [[(0.2, 1.0), (0.2, 0.0)], [(0.2, 0.0), (0.2, 1.0)]],
        ),
        ({"across": (1.0, np.nan)}, []),
        ({"across": (np.nan, np.inf)}, []),
        ({"across": (1.0, 4.0)}, []),
    ],
)
def test_an_infinite_end_is_an_arrow_to_the_edge_of_the_axis(intervals, ends):
    ax = value_drawn(**intervals)
    ax.figure.draw_without_rendering()
    found = []
    for text in ax.texts:
        patch = text.arrow_patch
        tail, tip = (patch.get_transform().transform(p) for p in patch._posA_posB)
        found.append(ax.transAxes.inverted().transform([tail, tip]))
    assert len(found) == len(ends)
    for at, wanted in zip(found, ends, strict=True):
        np.testing.assert_allclose(at, wanted, atol=1e-6)
    finite = all(np.isfinite(pair).all() for pair in intervals.values())
    assert len(ax.lines) == 1 + finite
