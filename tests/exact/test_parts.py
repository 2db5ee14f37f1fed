"""Sums of parts against exact arithmetic; what is lost, and what is known to be 0."""

from fractions import Fraction

import numpy as np
import pytest

from lora_theory.exact.parts import Parts, Size, dot, real, scaled
from lora_theory.exact.signed_log import SignedLog

HUGE = 3000


def parts(values, exponents, sizes=None, whole=True):
    """Σ_p 2^e_p value_p, of values (r, P) or (r, N, P)."""
    values = np.asarray(values, float)
    unit = SignedLog.two_to(np.array(exponents, float))[(None,) * (values.ndim - 1)]
    sizes = np.abs(values) if sizes is None else np.broadcast_to(sizes, values.shape)
    return Parts(unit, values, sizes, np.array(whole))


def close(found, exact):
    """A SignedLog and a Fraction."""
    assert found.sign == (exact > 0) - (exact < 0)
    if exact:
        log2 = Fraction(abs(exact))
        wanted = np.log2(float(log2 / Fraction(2) ** HUGE)) + HUGE
        assert float(found.log2()) == pytest.approx(wanted, abs=1e-9)


def test_a_product_is_exact_where_its_large_parts_cancel():
    """(h u + a)ᵀ(h m + b) with uᵀm = 0 is h (uᵀb + aᵀm) + aᵀb, as in exact arithmetic."""
    u, m, a, b = [1, 2, -1], [2, -1, 0], [0.5, 0.25, 3], [1.5, -2, 4]
    x = parts(np.stack([u, a], -1), [HUGE, 0])
    y = parts(np.stack([m, b], -1)[:, None], [HUGE, 0])
    h = Fraction(2) ** HUGE
    exact = sum(
        (h * x_1 + Fraction(x_0)) * (h * y_1 + Fraction(y_0))
        for x_1, x_0, y_1, y_0 in zip(u, a, m, b, strict=True)
    )
    close(dot(x, y).total()[0], exact)


def test_numbers_that_are_added_before_have_lost_it():
    """Control: the same product of the totals is lost or wrong."""
    x = parts([[1, 0.5], [2, 0.25], [-1, 3]], [HUGE, 0]).total()
    y = parts([[2, 1.5], [-1, -2], [0, 4]], [HUGE, 0]).total()
    assert not (x * y).sum().log2() < 1.5 * HUGE


@pytest.mark.parametrize(("whole", "small", "known"), [
    (True, 0.0, True), (True, 5.0, True), (False, 0.0, False), (False, 5.0, False),
    (False, 2.0**1000, True),
])  # fmt: skip
def test_what_cancels_to_rounding_is_zero_if_it_is_whole_and_else_lost(whole, small, known):
    """A value of 10^−17 beside terms of 1 in units of 2^100, and another part beside it."""
    number = parts([[1e-17, small]], [100, 0], [1.0, small], whole)
    assert np.isnan(number.total().sign).item() is not known
    if known:
        assert float(number.total().value()[0]) == pytest.approx(small)
    left, doubt = number.bounded()
    assert float(left.value()[0]) == pytest.approx(small)
    assert np.isneginf(doubt).item() is whole
    cleared = number.cleared()
    assert (cleared.value[0, 0] == 0) == whole
    assert (cleared.size[0, 0] == 0) == whole


def test_a_value_that_is_lost_stays_lost():
    number = parts([[np.nan, 1.0]], [100, 0], 1.0)
    assert np.isnan(number.total().sign).all()
    size = Size.of(*number.bounded())
    assert np.isnan(size.known())


def test_a_root_mean_square_is_known_beside_what_is_not():
    """1 and a number below 10^−8: known; below 1/2: not."""
    one = SignedLog.of([1.0, 0.0])
    for bound, known in ((1e-8, True), (0.5, False)):
        size = Size.of(one, np.log([1e-300, bound]))
        assert np.isfinite(size.known()).item() is known
        other = Size.of(SignedLog.of([3.0]), np.array([-np.inf]))
        assert np.isfinite(size.beside(other).known()).item() is known
    assert np.isneginf(Size.of(one * 0.0, np.full(2, -np.inf)).known())


def test_scaled_holds_what_floats_do_not():
    x = SignedLog.two_to(np.array([[HUGE, HUGE - 1.0], [-HUGE, -HUGE]])) * -1.0
    unit, value = scaled(x, 1)
    np.testing.assert_allclose(value, [[-1, -0.5], [-1, -1]])
    np.testing.assert_allclose(unit.log2()[:, 0], [HUGE, -HUGE])
    zero = scaled(SignedLog.of(np.zeros(3)), 1)
    assert (zero[1] == 0).all()
    assert real(np.array([-2.0])).value() == pytest.approx(-2)


def test_plus_adds_and_at_takes_times():
    x = parts([[[1.0, 2.0]], [[3.0, 4.0]]], [1, 0], whole=[True, False])
    total = x.plus(x).total().value()[:, 0]
    np.testing.assert_allclose(total, [8, 20])
    late = x.at(slice(1, None))
    np.testing.assert_allclose(late.total().value(), [[10]])
    assert late.whole.tolist() == [False]
