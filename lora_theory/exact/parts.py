"""Numbers as sums of a few parts, units that may be huge times ordinary numbers.

A unit is a `SignedLog`, what it multiplies is summed as ordinary numbers before: so where the
large parts of a sum cancel exactly, as integers do, the small ones are left.
"""

from typing import NamedTuple

import numpy as np

from lora_theory.exact.signed_log import SignedLog

_ROUNDING = 1e-14  # A sum of floats as small as this beside its terms is their rounding.


class Parts(NamedTuple):
    """Numbers Σ_p unit_p · value_p.

    Attributes:
        unit: (…, P) of value, all axes of a run 1.
        value: (…, P) ordinary numbers, which are sums of others; NaN where they are lost.
        size: like value, the sum of the sizes of those: beside it value has its rounding.
        whole: (…,) first axes of value, of the runs: whether the sums are of integers times one
            number, so that one that cancels to rounding is exactly 0.

    >>> n, two = SignedLog.two_to(4000.0)[..., None], np.array([[2.0]])
    >>> one = Parts(n, two, two, np.array([True]))
    >>> one.after(SignedLog.of([0.5]), 1).total().log2().round(6).tolist()
    [4001.0]
    >>> one._replace(value=two - 2).after(SignedLog.of([0.5]), 1).total().value().tolist()
    [0.5]
    """

    unit: SignedLog
    value: np.ndarray
    size: np.ndarray
    whole: np.ndarray

    def at(self, times: slice) -> "Parts":
        """Those of some times, of the first axis."""
        return Parts(self.unit, self.value[times], self.size[times], self.whole[times])

    def plus(self, other: "Parts") -> "Parts":
        """The sum of both, axis by axis."""
        unit = SignedLog(
            _joined(self.unit.sign, other.unit.sign), _joined(self.unit.log, other.unit.log)
        )
        value, size = _joined(self.value, other.value), _joined(self.size, other.size)
        return Parts(unit, value, size, self.whole & other.whole)

    def after(self, initial: SignedLog, axes: int) -> "Parts":
        """Added to what was there before; `axes` are those of a run."""
        unit, value = scaled(initial, axes)
        unit, value = unit[..., None], value[..., None]
        return Parts(unit, value, np.abs(value), np.array(True)).plus(self)

    def cleared(self) -> "Parts":
        """With exact zeros where whole sums cancel to rounding."""
        zero = self._small() & self._on(self.whole)
        return self._replace(
            value=np.where(zero, 0.0, self.value), size=np.where(zero, 0.0, self.size)
        )

    def bounded(self) -> tuple[SignedLog, np.ndarray]:
        """The numbers without what is not known, and the log of a bound of that.

        A sum that cancels to rounding is 0 if it is whole, and else not known.
        """
        small = self._small()
        number = (self.unit * real(np.where(small, 0.0, self.value))).sum()
        unknown = small & ~self._on(self.whole)
        if not unknown.any():
            return number, np.full(number.log.shape, -np.inf)
        doubt = self.unit * real(np.where(unknown, _ROUNDING * self.size, 0.0))
        return number, doubt.log.max(axis=-1)

    def total(self) -> SignedLog:
        """The numbers, lost where they are not known."""
        return settled(*self.bounded())

    def _small(self) -> np.ndarray:
        return np.abs(self.value) <= _ROUNDING * self.size

    def _on(self, of_runs: np.ndarray) -> np.ndarray:
        return of_runs[(..., *[None] * (self.value.ndim - of_runs.ndim))]


def settled(number: SignedLog, doubt: np.ndarray) -> SignedLog:
    """Numbers of whose error the log of a bound is given, lost where that is above 10^−12 of them.

    >>> settled(SignedLog.of([1.0, 1.0]), np.log([1e-13, 1e-11])).sign.tolist()
    [1.0, nan]
    """
    lost = (doubt > number.log + np.log(1e-12)) & (doubt > -np.inf)
    return SignedLog(np.where(lost, np.nan, number.sign), np.where(lost, np.nan, number.log))


def dot(x: Parts, y: Parts) -> Parts:
    """Σ_j x_j y_jk (…, N), of x (…, r) and y (…, r, N), part by part.

    >>> n, one = SignedLog.two_to(np.array([4000.0])), np.ones((2, 1))
    >>> x = Parts(n[None], one, one, np.array(True))
    >>> y = Parts(n[None, None], np.array([[[1.0]], [[-1.0]]]), one[..., None], np.array(True))
    >>> dot(x, y).total().value().tolist()  # And with a term that is n times smaller:
    [0.0]
    >>> dot(x, y.after(SignedLog.of([[0.0], [1.0]]), 2)).total().log2().round(6).tolist()
    [4000.0]
    """
    value, size = (
        np.einsum("...jp,...jkq->...kpq", *factors)
        for factors in ((x.value, y.value), (x.size, y.size))
    )
    value, size = (pair.reshape(*pair.shape[:-2], -1) for pair in (value, size))
    unit = x.unit[..., :, None] * y.unit[..., 0, :, None, :]
    shape = (*unit.sign.shape[:-2], -1)
    unit = SignedLog(unit.sign.reshape(shape), unit.log.reshape(shape))
    return Parts(unit, value, size, x.whole & y.whole)


def scaled(x: SignedLog, axes: int) -> tuple[SignedLog, np.ndarray]:
    """x as a positive unit times floats of which the largest is ±1, over its last axes.

    >>> unit, value = scaled(SignedLog.of([2.0, -8.0]), 1)
    >>> unit.value().round(9).tolist(), value.round(9).tolist()
    ([8.0], [0.25, -1.0])
    """
    largest = x.log.max(axis=tuple(range(-axes, 0)), keepdims=True)
    largest = np.where(np.isneginf(largest), 0.0, largest)
    return SignedLog(np.ones_like(largest), largest), x.sign * np.exp(x.log - largest)


def real(x: np.ndarray) -> SignedLog:
    """Ordinary numbers, of which NaN are lost.

    >>> real(np.array([0.0, np.nan])).log2().tolist()
    [-inf, nan]
    """
    with np.errstate(divide="ignore"):
        return SignedLog(np.sign(x), np.log(np.abs(x)))


class Size(NamedTuple):
    """A root mean square: its log, and that of a bound of what is not known of it.

    >>> root = Size.of(SignedLog.of([1.0, 7.0]), np.full(2, -np.inf))
    >>> float(np.exp(root.known()).round(9)), float(np.exp(root.beside(root).known() * 2).round(9))
    (5.0, 50.0)
    """

    log: np.ndarray
    doubt: np.ndarray

    @classmethod
    def of(cls, number: SignedLog, doubt: np.ndarray, axes: int = 1) -> "Size":
        """Over the last axes."""
        over = tuple(range(-axes, 0))
        largest = number.log.max(axis=over, keepdims=True)
        largest = np.where(np.isneginf(largest), 0.0, largest)
        square = np.exp(2 * (number.log - largest)).mean(axis=over)
        with np.errstate(divide="ignore"):
            log = largest.reshape(square.shape) + 0.5 * np.log(square)
        return cls(log, doubt.max(axis=over))

    def beside(self, other: "Size") -> "Size":
        """√(x² + y²)."""
        with np.errstate(invalid="ignore"):  # What is lost.
            log = 0.5 * np.logaddexp(2 * self.log, 2 * other.log)
        return Size(log, np.maximum(self.doubt, other.doubt))

    def known(self) -> np.ndarray:
        """The log; NaN where more than 10^−10 of the mean square is not known."""
        with np.errstate(invalid="ignore"):  # −∞ − (−∞): an exact 0.
            lost = 2 * (self.doubt - self.log) > np.log(1e-10)
        return np.where(lost, np.nan, self.log)


def _joined(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Along the last axis, the others broadcast."""
    shape = np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    parts = [np.broadcast_to(part, (*shape, part.shape[-1])) for part in (x, y)]
    return np.concatenate(parts, axis=-1)
