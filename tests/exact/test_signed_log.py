"""Signed logarithms against arbitrary precision."""

import decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_theory.exact.signed_log import SignedLog

# Exponents of ten far beyond float64, for the oracle.
CONTEXT = decimal.Context(prec=60, Emax=10**15, Emin=-(10**15))


def decimals(x):
    sign, log = float(x.sign), float(x.log)
    return CONTEXT.multiply(decimal.Decimal(sign), CONTEXT.exp(decimal.Decimal(log)))


logs = st.floats(-1e6, 1e6)
numbers = st.builds(
    lambda sign, log: SignedLog(np.array(float(sign)), np.array(log if sign else -np.inf)),
    st.sampled_from([-1, 0, 1]),
    logs,
)


@given(numbers, numbers, st.sampled_from(["add", "sub", "mul", "div"]))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_arithmetic_is_that_of_arbitrary_precision(x, y, name):
    if name == "div" and float(y.sign) == 0:
        with pytest.raises(ZeroDivisionError):
            x / y
        return
    result = {"add": x + y, "sub": x - y, "mul": x * y, "div": x / y if float(y.sign) else x}[name]
    a, b = decimals(x), decimals(y)
    operation = {"add": CONTEXT.add, "sub": CONTEXT.subtract, "mul": CONTEXT.multiply}
    exact = CONTEXT.divide(a, b) if name == "div" else operation[name](a, b)
    assert_close(
        result,
        exact,
        float(max(abs(v) for v in (x.log, y.log) if np.isfinite(v)))
        if any(np.isfinite(v) for v in (x.log, y.log))
        else 1.0,
    )


@given(
    st.lists(st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=1, max_size=6)
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_sums_and_values_of_ordinary_numbers(values):
    total = SignedLog.of(values).sum()
    assert float(total.value()) == pytest.approx(sum(values), abs=1e-11 * sum(map(abs, values)))


@given(logs, logs, st.floats(1e-12, 1.0))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_near_cancellation(log, shift, gap):
    """x − x (1 − gap): what is lost is the rounding of log x, relative to the gap."""
    x = SignedLog(np.array(1.0), np.array(log))
    y = SignedLog(np.array(1.0), np.array(log + np.log1p(-gap) if gap < 1 else -np.inf))
    result = x - y
    rounding = 4 * np.spacing(max(abs(log), 1.0))
    if not np.isnan(result.sign):
        assert abs(np.expm1(float(result.log) - log - np.log(gap))) <= rounding / gap + 1e-9


def assert_close(result, exact, size):
    if exact == 0:  # Of a zero: exactly; of a difference: nothing is left that is known.
        assert float(result.sign) == 0 or np.isnan(result.sign)
        return
    if np.isnan(result.sign):  # Cancelled to less than the rounding of the logarithms.
        return
    assert np.sign(float(result.sign)) == (1 if exact > 0 else -1)
    log = float(CONTEXT.ln(abs(exact)))
    # A logarithm is exact to its own rounding; a difference amplifies it by what cancelled.
    lost = max(float(size) - log, 0) if size > log else 0
    tolerance = 8 * np.spacing(max(abs(size), abs(log), 1.0))
    if lost < 20:
        assert abs(float(result.log) - log) <= tolerance * np.exp(min(lost, 30)) + 1e-12


def test_zero_is_exact_and_has_no_inverse():
    zero, one = SignedLog.of(0.0), SignedLog.of(1.0)
    for total in (zero + zero, zero * one, zero - zero, (one - one).or_zero()):
        assert float(total.sign) == 0
        assert np.isneginf(total.log)
    with pytest.raises(ValueError, match="positive"):
        zero**0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, [1.0, -np.inf]])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="value: must be finite"):
        SignedLog.of(value)


HUGE = SignedLog.two_to(3000.0)


@pytest.mark.parametrize(
    "total",
    [
        SignedLog.of(0.7) + HUGE - HUGE,
        HUGE - HUGE,
        SignedLog.of(1.0) - 1.0,
        (HUGE - HUGE) + 0.7,
        (HUGE - HUGE) * 0.0,
        0.0 + (HUGE - HUGE),
        -(HUGE - HUGE),
        SignedLog(np.array([1.0, 1.0, -1.0]), np.array([0.0, 3000.0, 3000.0])).sum(),
    ],
)
def test_what_cancels_altogether_is_lost_and_no_zero(total):
    """b = b_0 + H − H is b_0, of which H + b_0 does not know: no number, rather than a wrong 0."""
    assert np.isnan(total.sign)
    assert np.isnan(total.log2())
    assert np.isnan(total.value())
    assert np.isnan(total.signs().sign)
    assert total != 0.0


def test_what_does_not_cancel_is_kept():
    """Control: a zero that was added, and terms of other sizes, lose nothing."""
    total = (HUGE + 0.0 - HUGE * 0.5) * 2.0
    assert float(total.log2()) == pytest.approx(3000)
    assert float((SignedLog.of(0.7) + 0.0).value()) == pytest.approx(0.7)
    mixed = (SignedLog.of([1.0, 3.0]) - 1.0).or_zero()
    np.testing.assert_allclose(mixed.value(), [0.0, 2.0])
