"""The full run: all that the smaller one has, in parts that one machine does in an evening."""

from sweeps import hours

from experiments.lab.command_line import load
from experiments.scaling.config import ScalingConfig
from experiments.width_all import WidthAll

FULL = load("width_all", ScalingConfig)


def test_no_part_takes_more_than_an_hour_and_a_half():
    assert FULL.part is None
    found = {name: hours(FULL, name) for name in FULL.sweeps}
    assert max(found.values()) <= 1.5
    assert sum(found.values()) < 3
    assert sum(found.values()) > 0.75  # Control: it is no small run.


def test_it_has_all_that_the_smaller_one_has():
    some = load("width", ScalingConfig).sweeps
    assert FULL.sweeps.keys() == some.keys()
    for name, sweep in some.items():
        larger = FULL.sweeps[name]
        assert set(larger.rank) >= set(sweep.rank)
        assert set(larger.widths) >= set(sweep.widths) or len(sweep.widths) == 1
        assert larger.seeds[0] > sweep.seeds[0]
        assert larger.log2_a is not None or name.startswith("rank")


def test_every_model_has_its_rank_below_its_width():
    *sweeps, check = WidthAll().plan(FULL)
    assert check.name == "coordinates"
    assert FULL.coordinates.rank <= FULL.coordinates.widths[0]
    for part in sweeps:
        assert all(piece.rank <= piece.width for piece in part.pieces.values())
