"""Figures on disk: both kinds, whole, at the asked resolution, equal figures as equal bytes."""

import matplotlib as mpl
import matplotlib.image
import pytest
from matplotlib.figure import Figure

from lora_theory.plots.style import STYLE, save


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
