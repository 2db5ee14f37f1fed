"""Predicted areas cover the plane once; the lattice is the one on which they are measured."""

import numpy as np
import pytest

from lora_theory.theory.exponents import shared, solve
from lora_theory.theory.powers import Power
from lora_theory.theory.regions import BOX, areas, efficient_in_words, in_box, lattice
from lora_theory.theory.rules import RULES


@pytest.mark.parametrize("update", ["gd", "sign"])
@pytest.mark.parametrize("init", ["A", "B"])
def test_areas_cover_the_box_once(update, init):
    """Shoelace areas of the two-dimensional regions add up to the box."""
    total = 0.0
    for area in areas(RULES["map", update], init):
        if area.dimension == 2:
            corners = np.array(area.corners)
            middle = corners - corners.mean(axis=0)
            x, y = corners[np.argsort(np.arctan2(middle[:, 1], middle[:, 0]))].T
            total += 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))
    assert total == pytest.approx(float(BOX[1] - BOX[0]) ** 2)


def test_lattice_has_the_corners_and_the_efficient_point():
    points = lattice(12)
    assert len(points) == 37**2
    assert {(-2, -2), (1, 1), (-1, 0)} <= set(points)


def test_areas_move_with_the_sizes_at_the_start():
    """From s₀ = n^1/3 everything is shifted by (2/3, −2/3); see the symmetry in test_rules."""
    rule = RULES["map", "gd"]
    (named,) = (area for area in areas(rule, "A") if area.name == "efficient")
    (given,) = (
        area
        for area in areas(rule, (0, Power("1/3")))
        if area.name == "efficient, but unstable inside"
    )
    assert (named.corners, given.corners) == (((-1.0, 0.0),), ((-1 / 3, -2 / 3),))


def test_of_one_exponent_areas_are_pieces_of_a_line():
    """Init[2] under one rate: A alone at −1, unstable above."""
    found = in_box(solve(shared(RULES["map", "gd"]), "B"))
    low, high = map(float, BOX)
    assert {(area.name, area.dimension, area.corners) for area in found} == {
        ("A alone", 0, ((-1.0,),)),
        ("stable, no feature learning", 1, ((low,), (-1.0,))),
        ("unstable at once", 1, ((-1.0,), (high,))),
    }


def test_what_is_left_has_its_own_name():
    names = {area.name for area in in_box(solve(RULES["map", "gd"], "A", most=2, rest="left"))}
    assert "left" in names


def test_efficient_sets_in_words():
    rule = RULES["map", "gd"]
    assert efficient_in_words(solve(rule, "A")) == "(−1, 0)"
    assert efficient_in_words(solve(shared(rule), "A")) == "none"
    # The layer's half-line, were it stable inside.
    half = solve(RULES["map", "sign"], "A")
    moved = [
        region._replace(answer=next(r.answer for r in half if str(r.answer) == "efficient"))
        for region in half
        if str(region.answer).startswith("efficient")
    ]
    assert "c_a + c_b = −1, c_b < 0" in efficient_in_words(moved)
    assert "(−1, 0)" in efficient_in_words(moved)
