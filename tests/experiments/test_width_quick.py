"""The first look: few cells, and the same grids as the larger runs."""

from sweeps import hours

from experiments.lab.command_line import load
from experiments.scaling.config import ScalingConfig
from experiments.width_quick import WidthQuick

QUICK = load("width_quick", ScalingConfig)


def test_it_trains_for_less_than_half_a_minute():
    """Compilations and the report take the rest of the minute."""
    found = sum(hours(QUICK, name) for name in QUICK.part) * 3600
    assert 2 < found < 30


def test_it_has_two_sweeps_of_the_larger_run_on_the_same_grids():
    whole = load("width", ScalingConfig)
    assert [part.name for part in WidthQuick().plan(QUICK)] == ["two_layer", "layer_adam"]
    for name in QUICK.part:
        quick, sweep = QUICK.sweeps[name], whole.sweeps[name]
        grids = [(s.log2_a, s.log2_b, s.line) for s in (quick, sweep)]
        assert grids[0] == grids[1]
        assert len(quick.widths) == 4
