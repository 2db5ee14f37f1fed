"""The spread over repeats, and the signs of a busy machine."""

import math
import os

import pytest

from experiments.benchmarks import spread


def test_ratios_are_taken_within_a_repeat():
    """A machine that grows three times slower leaves them as they are."""
    costs = {"engine": [1.0, 2.0, 3.0], "loop": [5.0, 10.0, 15.0], "other": [2.0, 6.0, 3.0]}
    found = spread.times(costs, "engine")
    assert found["loop"] == (5.0, 5.0, 5.0, 3)
    assert found["other"] == (2.0, 1.0, 3.0, 3)
    assert str(found["other"]) == "2.0 (1.0 to 3.0)"


def test_one_repeat_has_no_spread():
    assert str(spread.times({"engine": [1.0], "loop": [5.0]}, "engine")["loop"]).endswith(
        "5.0 (one repeat)"
    )


@pytest.mark.parametrize(
    ("load", "seconds", "signs"),
    [
        (0.0, [1.0], []),
        (0.4, [1.0, 1.29], []),
        (None, [1.0, 1.2], []),
        (0.5, [1.0, 1.3], []),
        (0.51, [1.0, 1.3], ["load average 0.5"]),
        (0.5, [1.0, 1.31], ["from 1.00 to 1.31 s"]),
        (0.6, [1.0, 1.2], ["load average 0.6"]),
        (None, [2.0, 1.0], ["from 1.00 to 2.00 s"]),
        (3.0, [2.0, 1.0], ["load average 3.0", "from 1.00 to 2.00 s"]),
    ],
)
def test_the_signs_of_a_busy_machine_are_named_in_one_line(load, seconds, signs):
    found = spread.warning(load, seconds)
    assert (found is None) == (not signs)
    for sign in signs:
        assert sign in found
    assert "\n" not in (found or "")


@pytest.mark.parametrize(
    ("load", "seconds", "said"),
    [
        (math.nan, [1.0], "no number for the load"),
        (math.inf, [1.0], "no number for the load"),
        (0.1, [1.0, math.nan], "took nan s"),
        (0.1, [math.nan, 1.0], "took nan s"),
        (0.1, [0.0, 1.0], "took 0 s"),
        (0.1, [0.0, 0.0], "took 0 s"),
        (0.1, [1.0, math.inf], "took inf s"),
    ],
)
def test_what_is_no_number_is_said(load, seconds, said):
    found = spread.warning(load, seconds)
    assert said in found
    assert "\n" not in found
    assert "can not be told" in found


@pytest.mark.parametrize("name", ["engine", "loop"])
@pytest.mark.parametrize("odd", [0.0, math.nan, math.inf, -1.0])
def test_no_ratio_is_taken_of_what_is_no_time(name, odd):
    costs = {"engine": [1.0, 2.0], "loop": [5.0, 6.0]}
    costs[name][1] = odd
    with pytest.raises(ValueError, match=rf"costs\['{name}'\]: must be positive .* \(got {odd}"):
        spread.times(costs, "engine")


def test_where_no_load_is_known_there_is_none(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.7, 9.0, 9.0))
    assert spread.load_average() == 0.7
    monkeypatch.delattr(os, "getloadavg")
    assert spread.load_average() is None


def test_a_system_that_refuses_its_load_has_none(monkeypatch):
    def refuse():
        raise OSError

    monkeypatch.setattr(os, "getloadavg", refuse)
    assert spread.load_average() is None
