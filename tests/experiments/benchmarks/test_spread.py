"""The spread over repeats, and the signs of a busy machine."""

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
