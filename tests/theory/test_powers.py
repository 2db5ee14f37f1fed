"""The γ algebra: products, sums, orders, and what is refused in words."""

from fractions import Fraction

from lora_theory.theory.powers import ONE, ZERO, N, Power


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
