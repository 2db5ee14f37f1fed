"""Measured classes: right at known points, undecided where the seeds do not tell."""

import numpy as np
import pytest

from lora_theory.exact.phases import measured_classes
from lora_theory.terms import Class, Verdict

WIDE = np.array([1000.0, 2000.0, 4000.0])
POINTS = {
    (-1.0, 0.0): Class(Verdict.EFFICIENT),
    (-1.5, 0.0): Class(Verdict.B_ALONE),
    (-1.5, -0.5): Class(Verdict.NO_LEARNING),
    (-0.5, -5 / 12): Class(Verdict.UNSTABLE, 7),
    (1.0, 1.0): Class(Verdict.UNSTABLE, 1),
}


def found(points, update="gd", init="A", widths=WIDE, seeds=8):
    return measured_classes(
        np.array(points),
        update,
        init,
        log2_widths=widths,
        seeds=range(seeds),
        steps=30,
        confidence=0.95,
    )


def test_known_points_have_their_classes():
    assert found(list(POINTS)) == list(POINTS.values())


def test_a_point_has_the_class_that_it_has_alone():
    assert [found([point])[0] for point in POINTS] == list(POINTS.values())


@pytest.mark.parametrize("init", ["A", "B"])
def test_sign_updates_are_unstable_inside_on_the_half_line(init):
    """c_a + c_b = −1: Z_A (Init[2]: B) grows there, and nothing else does."""
    point = (-0.5, -0.5) if init == "A" else (-1.5, 0.5)
    assert found([point], "sign", init) == [Class(Verdict.INSIDE)]


def test_narrow_models_with_few_seeds_decide_nothing():
    """Control: at n = 2^3 … 2^5 with two seeds no exponent is known to a twenty-fourth."""
    assert None in found(list(POINTS), widths=np.array([3.0, 4.0, 5.0]), seeds=2)
