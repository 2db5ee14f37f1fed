"""The γ algebra: products, sums, orders, and what is refused in words."""

from fractions import Fraction

import numpy as np
import pytest

from lora_theory.theory.exponents import Rule, Step, solve, width_rates
from lora_theory.theory.polyhedra import Cell
from lora_theory.theory.powers import ONE, ZERO, N, Power, RuleError, Unknown, cancelled


def test_algebra():
    assert (N * N**-1).compare(ONE) == 0
    assert (N + ONE).gamma == 1
    assert (ZERO + ZERO).gamma is None
    assert (N ** "1/3" * N ** "1/6").gamma == Fraction(1, 2)
    assert Power(0, 1).compare(Power(0, "1/2")) == 1
    assert Power("1/9").compare(Power(0, 100)) == 1  # n grows first
    assert ZERO.compare(Power(-1000)) == -1


def test_powers_of_the_same_order_are_equal():
    assert Power(0) == Power(0) == ONE
    assert Power("1/2", 1) == N ** "1/2" * Power(0, 1)
    assert Power(0) != ZERO
    assert ZERO == ZERO * N
    assert len({Power(1), N, N * ONE, ZERO, ZERO * N}) == 2


@pytest.mark.parametrize("number", [1, 2, 0.5, Fraction(1, 3), np.float64(7), np.int64(3)])
def test_a_positive_number_is_of_the_order_of_one(number):
    eta = Power("-1/2")
    assert (number * eta).gamma == (eta * number).gamma == Fraction(-1, 2)
    assert (number + eta).gamma == (eta + number).gamma == 0
    assert (number / eta).gamma == Fraction(1, 2)
    assert (eta / number).gamma == Fraction(-1, 2)
    assert number == ONE
    assert number == ONE
    assert eta != number
    assert N.compare(number) == 1


def test_zero_is_exactly_zero():
    eta = Power("-1/2")
    assert (0 * eta).gamma is None
    assert (0 + eta).gamma == Fraction(-1, 2)
    assert ZERO == 0
    assert eta != 0
    assert (0 / eta).gamma is None
    with pytest.raises(RuleError, match="zero to the power -1 has no size"):
        eta / 0


def test_sums_start_from_zero():
    assert sum([Power(-1), Power("-1/2"), Power(-2)]).gamma == Fraction(-1, 2)
    assert sum([ZERO, ZERO]).gamma is None


@pytest.mark.parametrize(
    "minus",
    [lambda n: n - n, lambda n: 1 - n, lambda n: n - 1, lambda n: -n],
)
def test_a_minus_is_refused_and_told_what_to_write(minus):
    with pytest.raises(RuleError, match=r"no sign: write b \+ x for b − x, .*cancelled\(b, x, to="):
        minus(N)


@pytest.mark.parametrize("negative", [-1, -0.5, Fraction(-1, 2)])
def test_negative_numbers_are_told_what_to_write(negative):
    for use in (lambda: N * negative, lambda: negative + N, lambda: negative == N):
        with pytest.raises(RuleError, match=f"no sign: write {-negative} for {negative}"):
            use()


@pytest.mark.parametrize("other", [None, "n", float("nan"), float("inf"), True, 1j, [1]])
def test_what_is_no_size_is_refused(other):
    for use in (lambda: N * other, lambda: other + N, lambda: other == N, lambda: N / other):
        with pytest.raises(RuleError, match="must be made of powers of n, as Power"):
            use()


def test_cancellation_is_stated_by_name():
    f, y = Power(0), Power(0)
    assert cancelled(f, y, to=Power("-1/2")).gamma == Fraction(-1, 2)
    assert cancelled(f, y, to=0) == ZERO
    assert cancelled(f, y, to=1) == ONE
    # One term alone is the largest: nothing cancels.
    assert cancelled(N, y, to=0) == N
    assert cancelled(f, 0, to=0) == ONE
    assert cancelled(0, ZERO, to=Power(-1)) == ZERO
    assert cancelled(N, N, f, to=f) == ONE
    with pytest.raises(RuleError, match="to: must not be larger than the sum of the terms, 1"):
        cancelled(f, y, to=N)
    with pytest.raises(RuleError, match="needs two terms"):
        cancelled(f, to=0)


def test_cancellation_of_unknown_exponents_splits_where_the_terms_are_equal():
    """|n^c − 1| is exactly zero at c = 0, if both are the same there, and a sum elsewhere."""

    def run(start, eta):
        while True:
            yield Step(cancelled(eta, 1, to=0), {"delta1": ONE}, {})

    rule = Rule("cancelling", run, ("c",), width_rates("eta"), {"none": ()})
    regions = solve(rule, "none", lambda steps: str(next(steps).f == 0))
    assert [str(region) for region in regions] == ["False: c < 0", "False: c > 0", "True: c = 0"]


def test_an_unknown_exponent_has_words():
    cell = Cell(("c_a", "c_b"))
    power = Unknown(cell.variable("c_b"), cell).of(N) * N**2
    assert repr(power) == "n^(2 + 1 c_b)"
