"""Convex sets in exact fractions: against points, on random constraints."""

import itertools
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from lora_theory.theory.polyhedra import Cell, Constraint, _witness

small = st.integers(-3, 3).map(Fraction)
forms = st.tuples(small, small, small)
constraints = st.lists(
    st.builds(Constraint, forms, st.sampled_from(["<", "≤", "="])), max_size=5
).map(tuple)
GRID = list(itertools.product([Fraction(i, 2) for i in range(-8, 9)], repeat=2))


def holds(constraint, point):
    form, relation = constraint
    value = form[0] + form[1] * point[0] + form[2] * point[1]
    return {"<": value < 0, "≤": value <= 0, "=": value == 0}[relation]


def inside(cell_constraints, point):
    return all(holds(c, point) for c in cell_constraints)


@given(constraints)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_witness_is_a_point_and_none_means_empty(found):
    point = _witness(found, 2)
    if point is None:
        assert not any(inside(found, p) for p in GRID)
    else:
        assert inside(found, point)


@given(st.lists(forms.filter(lambda f: f[1] or f[2]), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_splitting_is_a_partition_and_merging_keeps_it(lines):
    cells = [Cell(("x", "y"))]
    for line in lines:
        cells = [part for cell in cells for part in cell.split(line)]
    for point in GRID[::3]:
        assert sum(inside(cell.constraints, point) for cell in cells) == 1
    merged = Cell.merged(cells)
    assert len(merged) < len(cells) or len(cells) == 1
    for point in GRID[::3]:
        assert sum(inside(cell.constraints, point) for cell in merged) == 1
    if len(set(lines)) == 1:
        assert [str(cell) for cell in merged] == ["everywhere"]


@given(st.lists(forms.filter(lambda f: f[1] or f[2]), min_size=1, max_size=3), st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_merging_some_parts_keeps_their_union(lines, data):
    cells = [Cell(("x", "y"))]
    for line in lines:
        cells = [part for cell in cells for part in cell.split(line)]
    kept = [cell for cell in cells if data.draw(st.booleans())]
    merged = Cell.merged(kept)
    for point in GRID[::2]:
        before = any(inside(cell.constraints, point) for cell in kept)
        assert sum(inside(cell.constraints, point) for cell in merged) == before


def test_ends_of_a_line():
    line = Cell(("x",))
    below, on, above = line.split((Fraction(1), Fraction(2)))  # x = −1/2
    half = Fraction(-1, 2)
    assert (line.corners(), below.corners(), above.corners()) == ([], [(half,)], [(half,)])
    assert on.corners() == [(half,)]
    assert above.within(Fraction(-1), Fraction(1)).corners() == [(half,), (1,)]


def test_text_and_corners():
    cell = Cell(("x", "y"))
    x, y = cell.variable("x"), cell.variable("y")
    (square,) = Cell.merged([cell.within(Fraction(0), Fraction(1, 2))])
    assert str(square) == "0 ≤ x ≤ 1/2, 0 ≤ y ≤ 1/2"
    half = Fraction(1, 2)
    assert square.corners() == [(0, 0), (0, half), (half, 0), (half, half)]
    assert square.dimension == 2
    on = square.split(tuple(a - b for a, b in zip(x, y, strict=True)))[1]
    assert on.dimension == 1
    assert on.corners() == [(0, 0), (half, half)]
