"""What is fitted: what counts as diverged, what is left out, and what other constants say."""

import numpy as np
import pytest
from sweeps import known, small

from experiments.scaling.families import families
from experiments.scaling.fits import fits, usable, variations

CFG = small("decide.widest=2")


def only(data):
    (family,) = families(data)
    return family


def test_sign_and_adam_count_a_run_above_its_start_as_diverged():
    def worse(losses):
        return np.where(losses > 0.5, 1.5, losses)

    for optimizer, lost in (("gd", False), ("adam", True), ("sign", True)):
        sweep = usable(only(known(optimizer=optimizer, change=worse)), "test_loss", 10)
        for at in (*sweep.lands, *sweep.lines):
            assert (at.losses > 1)[np.isfinite(at.losses)].any() == (not lost)


def test_what_decides_under_other_constants_is_about_the_same_where_all_is_well():
    found = variations(only(known((-1, 0), seeds=(12, 12, 12, 12))), CFG)
    assert len(found) == 6
    for words, fit in found.items():
        assert fit.exponents == pytest.approx((-1, 0), abs=0.25), words
    halves = [found[f"{half} seeds"].exponents for half in ("even", "odd")]
    assert halves[0] != halves[1]  # They are no copies of one another.


def test_of_three_widths_none_is_left_out_in_turn():
    found = variations(only(known(widths=(16, 32, 64), seeds=(8, 8, 8))), CFG)
    assert not any("without" in words for words in found)


def test_nothing_is_judged_when_it_is_fitted():
    found = fits(only(known()), "two_layer", CFG)
    assert found.verdicts == ()
    assert [float(c) for c in found.moves.collapse] == [-1, 0]
    assert found.collapses["test_loss", 10].draws.shape == (160, 2)
    # Of what decides nothing, a quarter.
    assert found.collapses["train_loss", 10].draws.shape == (40, 2)
