"""What is shown of a report: figures of 200 dots per inch unless a field says otherwise."""

import types

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from experiments.lab.experiment import Report
from experiments.lab.folders import Folders
from experiments.lab.show import dpi_of, show

Config = types.SimpleNamespace


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (Config(), 200),
        (Config(dpi=50), 50),
        (Config(plot=Config(dpi=60)), 60),
        (Config(plot=Config(early=1)), 200),
        (Config(plot=Config(early=1), dpi=70), 70),
    ],
)
def test_a_field_of_dots_per_inch_is_not_needed(cfg, expected):
    assert dpi_of(cfg) == expected


def test_texts_and_figures_are_written_and_named(tmp_path, capsys):
    report = Report(
        ["a line"],
        {"drawn": Figure((1, 1))},
        {"a.txt": "text"},
        ["last"],
        kept={"a.json": "{}"},
    )
    show(report, tmp_path / "a.npz", Folders(tmp_path / "r", tmp_path / "f"), Config())
    assert (tmp_path / "r/a.txt").read_text() == "text"
    assert (tmp_path / "f/a.json").read_text() == "{}"  # Beside the figures, which stay.
    assert matplotlib.image.imread(tmp_path / "f/drawn.png").shape[:2] == (200, 200)
    first, files, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("a line", "last")
    assert all(name in files for name in ("a.npz", "a.txt", "a.json", "drawn.png", "drawn.pdf"))
