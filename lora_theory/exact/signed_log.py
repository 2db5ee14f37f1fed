"""Real numbers that neither over- nor underflow: arrays of signs and logarithms."""

from typing import Any

import numpy as np

from lora_theory import arguments
from lora_theory.stats.numbers import numbers


def finite(name: str, value: Any) -> np.ndarray:
    """Finite numbers, of any number of axes."""
    found = numbers(name, value, 0)
    if not np.isfinite(found).all():
        raise arguments.refusal(name, "finite", value)
    return found


class SignedLog:
    """Real numbers as sign · e^log: arrays that reach from e^−10^300 to e^10^300.

    A product is exact to rounding of the sum of logarithms, so a number e^L has the relative error
    of about `|L| · 10^−16`; a sum is exact to that of its larger term. What is smaller than this
    rounding is forgotten: n + 0.7 − n does not know of 0.7. Where two numbers cancel altogether
    nothing is left of the sum, which is then lost (NaN), and never a zero: only what is added to
    or multiplied by an exact zero is exact.

    Args:
        sign: −1, 0 or 1; NaN where the number is lost.
        log: natural logarithm of the magnitude; −inf where the sign is 0, NaN where it is lost.

    >>> n = SignedLog.of(2.0) ** 4000
    >>> (n + 0.7 - n).sign.item(), round(((n * n) / n).log2().item(), 6)
    (nan, 4000.0)
    >>> (SignedLog.of([3.0, -5.0]) + SignedLog.of(2.0)).value().round(12).tolist()
    [5.0, -3.0]
    """

    __array_ufunc__ = None

    def __init__(self, sign: np.ndarray, log: np.ndarray):
        self.sign, self.log = np.broadcast_arrays(sign, log)

    @classmethod
    def of(cls, value: "SignedLog | np.ndarray | list[float] | float") -> "SignedLog":
        """From ordinary, finite numbers."""
        if isinstance(value, SignedLog):
            return value
        value = finite("value", value)
        with np.errstate(divide="ignore"):
            return cls(np.sign(value), np.log(np.abs(value)))

    @classmethod
    def two_to(cls, exponent: np.ndarray | float) -> "SignedLog":
        """2^exponent, for widths."""
        log = finite("exponent", exponent) * np.log(2.0)
        return cls(np.ones_like(log), log)

    def __mul__(self, other: "SignedLog | float") -> "SignedLog":
        other = SignedLog.of(other)
        sign = self.sign * other.sign
        return SignedLog(sign, np.where(sign == 0, -np.inf, self.log + other.log))

    __rmul__ = __mul__

    def __truediv__(self, other: "SignedLog | float") -> "SignedLog":
        other = SignedLog.of(other)
        if (other.sign == 0).any():
            raise ZeroDivisionError("division of a SignedLog by zero")
        return self * SignedLog(other.sign, -other.log)

    def __pow__(self, exponent: np.ndarray | float) -> "SignedLog":
        if not (self.sign > 0).all():
            raise ValueError("a real power needs a positive SignedLog")
        return SignedLog(self.sign, self.log * finite("exponent", exponent))

    def __neg__(self) -> "SignedLog":
        return SignedLog(-self.sign, self.log)

    def __sub__(self, other: "SignedLog | float") -> "SignedLog":
        return self + (-SignedLog.of(other))

    def __rsub__(self, other: "SignedLog | float") -> "SignedLog":
        return SignedLog.of(other) - self

    def __add__(self, other: "SignedLog | float") -> "SignedLog":
        other = SignedLog.of(other)
        swap = other.log > self.log
        big, small = np.where(swap, other.log, self.log), np.where(swap, self.log, other.log)
        sign = np.where(swap, other.sign, self.sign)
        ratio = np.exp(small - np.where(np.isneginf(big), 0.0, big))  # 0 + 0 has no ratio.
        equal = self.sign * other.sign >= 0
        with np.errstate(divide="ignore"):
            log = big + np.where(equal, np.log1p(ratio), np.log1p(-np.where(equal, 0.0, ratio)))
        lost = (np.isneginf(log) & (big > -np.inf)) | np.isnan(log)
        return SignedLog(np.where(lost, np.nan, sign), np.where(lost, np.nan, log))

    __radd__ = __add__

    def sum(self, axis: int = -1) -> "SignedLog":
        """The sum over one axis."""
        if not self.sign.ndim or not self.sign.shape[axis]:
            raise ValueError(f"axis: must have numbers to add (got shape {self.sign.shape})")
        terms = [
            SignedLog(np.take(self.sign, i, axis), np.take(self.log, i, axis))
            for i in range(self.sign.shape[axis])
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def __eq__(self, other: Any) -> Any:
        """Where both are equal, as of arrays."""
        other = SignedLog.of(other)
        return (self.sign == other.sign) & (self.log == other.log)

    __hash__: Any = None

    def __getitem__(self, index: Any) -> "SignedLog":
        return SignedLog(self.sign[index], self.log[index])

    def or_zero(self) -> "SignedLog":
        """What is lost as 0: for a sum of which rounding is all that can matter.

        >>> one = SignedLog.of(1.0)
        >>> (one - one).or_zero().value().item()
        0.0
        """
        lost = np.isnan(self.sign)
        return SignedLog(np.where(lost, 0.0, self.sign), np.where(lost, -np.inf, self.log))

    def signs(self) -> "SignedLog":
        """sign(x) as numbers: −1, 0 or 1; lost where x is."""
        with np.errstate(divide="ignore"):
            return SignedLog(self.sign, np.log(np.abs(self.sign)))

    def log2(self) -> np.ndarray:
        """log2 of the magnitude; −inf for exactly 0, NaN for what is lost."""
        return self.log / np.log(2.0)

    def value(self) -> np.ndarray:
        """As float64, where that can hold it."""
        return self.sign * np.exp(self.log)

    def __repr__(self) -> str:
        return f"SignedLog(sign={self.sign}, log={self.log})"
