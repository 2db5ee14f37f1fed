"""The γ algebra: sizes of the order of a power of n, which are added and multiplied.

A `Power` is Θ(n^γ r^ρ) or exactly zero, its exponents exact fractions, or the unknowns of a case
analysis (`exponents.solve`). Nothing is measured here, and nothing here needs JAX.
"""

import contextlib
import dataclasses
import itertools
import math
import numbers
from collections.abc import Iterator
from contextvars import ContextVar
from fractions import Fraction
from typing import Any, NamedTuple

from lora_theory.theory.polyhedra import Cell, Form


class RuleError(ValueError):
    """An update rule that is not a polynomial in powers of n with rational exponents."""


def rational(value: Any, name: str = "exponent") -> Fraction:
    """An exact fraction from an int, a Fraction or a string; a float would not be exact.

    >>> rational("-1/2")
    Fraction(-1, 2)
    >>> rational(0.1, "c_a")
    Traceback (most recent call last):
    ...
    ValueError: c_a: must be rational: an int, a Fraction or a string as "-1/2" (got 0.1)
    """
    try:
        if isinstance(value, int | Fraction | str) and not isinstance(value, bool):
            return Fraction(value)
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(
        f'{name}: must be rational: an int, a Fraction or a string as "-1/2" (got {value!r})'
    )


@dataclasses.dataclass
class Watch:
    """What a rule does with its sizes during an update, for `trends`.

    Attributes:
        compared: of every comparison, the ratio of both sizes.
        convex: whether sizes were only added, multiplied and raised to positive powers, so that
            exponents are maxima of sums with no negative factor: convex, and never falling where
            one of them grows; negative powers of constants and rates are allowed.
        inverts: whether there were such.
    """

    compared: "list[Power]" = dataclasses.field(default_factory=list)
    convex: bool = True
    inverts: bool = False


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Note what is done with powers in the block."""
    watch = Watch()
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


class Power:
    """Θ(n^γ · r^ρ), or exactly zero: γ[uv] = γ[u] + γ[v], γ[u + v] = max(γ[u], γ[v]).

    n grows first: of two powers the larger is the one with the larger γ, and with the larger ρ
    where γ is the same. Sizes have no sign: b − η g is `b + eta * g`, and where terms cancel
    `cancelled` says so. A positive number is Θ(1), and 0 is exactly zero. Powers are equal if they
    are of the same order: in `solve` that splits the exponents.

    >>> n = Power(1)
    >>> 2 * n ** "-1/2" * n + 1  # 2 n^(1/2) + 1
    n^1/2
    >>> Power(0) * ZERO
    0
    >>> Power("1/2") == Power(1) ** "1/2", Power(0) == ZERO
    (True, False)
    """

    __array_ufunc__ = None  # numpy functions of a power are no powers of n

    def __init__(self, gamma: Any = 0, rho: Any = 0):
        self._forms: tuple[Form, Form] | None = ((rational(gamma),), (rational(rho),))
        self._cell: Cell | None = None
        self.fixed = True  # Made of constants and rates by products alone, not by adding.

    @classmethod
    def _of(
        cls, forms: tuple[Form, Form] | None, cell: Cell | None, *, fixed: bool = True
    ) -> "Power":
        power = cls.__new__(cls)
        power._forms, power._cell, power.fixed = forms, cell, fixed
        return power

    @property
    def gamma(self) -> Fraction | None:
        """γ, the exponent of n; None for exactly zero."""
        return None if self._forms is None else self._forms[0][0]

    @property
    def rho(self) -> Fraction | None:
        """ρ, the exponent of r; None for exactly zero."""
        return None if self._forms is None else self._forms[1][0]

    def __mul__(self, other: Any) -> "Power":
        other = as_power(other)
        left, right = self._forms, other._forms
        cell, fixed = self._cell or other._cell, self.fixed and other.fixed
        if left is None or right is None:
            return Power._of(None, cell, fixed=fixed)
        forms = (_plus(left[0], right[0]), _plus(left[1], right[1]))
        return Power._of(forms, cell, fixed=fixed)

    def __add__(self, other: Any) -> "Power":
        other = as_power(other)
        larger = self if self._order(other) >= 0 else other
        return Power._of(larger._forms, larger._cell, fixed=False)

    __rmul__, __radd__ = __mul__, __add__

    def __pow__(self, exponent: int | str | Fraction) -> "Power":
        if isinstance(exponent, Power):
            raise RuleError("a power of n can not be an exponent: the rule is not polynomial in n")
        q = rational(exponent)
        if self._forms is None:
            if q <= 0:
                raise RuleError(f"zero to the power {q} has no size")
            return self
        if q < 0:
            _note_inverse(fixed=self.fixed)
        gamma, rho = (tuple(q * c for c in form) for form in self._forms)
        return Power._of((gamma, rho), self._cell, fixed=self.fixed)

    def __truediv__(self, other: Any) -> "Power":
        if other is self and self._forms is not None:
            return Power._of(ONE._forms, self._cell)
        return self * as_power(other) ** -1

    def __rtruediv__(self, other: Any) -> "Power":
        return as_power(other) * self**-1

    def compare(self, other: Any) -> int:
        """−1, 0 or 1 as this power is asymptotically smaller, of the same order, or larger."""
        other = as_power(other)
        if self._forms is not None and other._forms is not None:
            _note_not_convex()
        return self._order(other)

    def _order(self, other: "Power") -> int:
        left, right = self._forms, other._forms
        if left is None or right is None:
            return (left is not None) - (right is not None)
        cell = self._cell or other._cell
        watch = _watch.get()
        if cell is None and watch is None:  # Numbers: no need of a difference.
            return (left > right) - (left < right)
        forms = tuple(
            _plus(mine, tuple(-c for c in others)) for mine, others in zip(left, right, strict=True)
        )
        if watch is not None:
            watch.compared.append(Power._of((forms[0], forms[1]), cell))
        for form in forms:
            if order := cell.sign(form) if cell else (form[0] > 0) - (form[0] < 0):
                return order
        return 0

    def __eq__(self, other: object) -> bool:
        return self.compare(other) == 0

    def __hash__(self) -> int:
        if self._cell is not None:
            raise RuleError("a power of unknown exponents can not be looked up")
        return hash(self._forms)

    def __repr__(self) -> str:
        if self._forms is None:
            return "0"
        names = self._cell.names if self._cell else ()
        factors = (("n", _text(self._forms[0], names)), ("r", _text(self._forms[1], names)))
        return " ".join(f"{base}^{e}" for base, e in factors if e) or "1"

    def _refuse(self, *_: Any) -> Any:
        raise RuleError(
            "a rule may add, multiply, divide and raise powers of n to rational powers; "
            "anything else is not polynomial in n"
        )

    def _refuse_minus(self, *_: Any) -> Any:
        raise RuleError(
            "sizes have no sign: write b + x for b − x, x for −x, "
            "and cancelled(b, x, to=…) where the difference is smaller than both"
        )

    __sub__ = __rsub__ = __neg__ = _refuse_minus
    __float__ = __int__ = __abs__ = __rpow__ = __bool__ = __mod__ = __floordiv__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse


def as_power(value: Any) -> Power:
    """A size as a `Power`: a positive number is Θ(1), and 0 is exactly zero.

    Args:
        value: a `Power` or a real number.

    Raises:
        RuleError: a negative number, or what is no number.

    >>> as_power(0.5), as_power(0), as_power(Power(2))
    (1, 0, n^2)
    >>> as_power(-2)
    Traceback (most recent call last):
    ...
    lora_theory.theory.powers.RuleError: sizes have no sign: write 2 for -2
    """
    if isinstance(value, Power):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        if value < 0:
            raise RuleError(f"sizes have no sign: write {-value} for {value}")
        return ONE if value else ZERO
    raise RuleError(
        f"a rule must be made of powers of n, as Power(1), and of numbers (got {value!r})"
    )


def cancelled(*terms: Any, to: Any) -> Power:
    """A sum whose largest terms cancel: Θ(to), smaller than they are, or exactly zero.

    The algebra does not see cancellation: that there is one is the caller's knowledge. Where one
    term alone is the largest, or all are zero, nothing can cancel and the sum is what it is.

    Args:
        terms: sizes of the terms, two or more.
        to: the size of the sum where the largest terms are of the same order; 0 for exactly zero.

    Raises:
        RuleError: `to` is larger than the sum would be without cancellation, or one term alone.

    A residual f − y that training has brought down to n^−1/2:

    >>> f, y = Power(0), Power(0)
    >>> cancelled(f, y, to=Power("-1/2")), cancelled(f, y, to=0)
    (n^-1/2, 0)
    >>> cancelled(N, y, to=0)  # n − 1 is Θ(n)
    n^1
    """
    sizes = [as_power(term) for term in terms]
    if len(sizes) < 2:
        raise RuleError(
            f"cancelled: needs two terms or more, as cancelled(u, v, to=0) (got {terms})"
        )
    total, smaller = sum(sizes, ZERO), as_power(to)
    if total == ZERO or sum(size == total for size in sizes) == 1:
        return total
    if smaller.compare(total) > 0:
        raise RuleError(f"to: must not be larger than the sum of the terms, {total} (got {to})")
    return smaller


def _note_not_convex() -> None:
    watch = _watch.get()
    if watch is not None:
        watch.convex = False


def _note_inverse(*, fixed: bool) -> None:
    watch = _watch.get()
    if watch is not None:
        watch.convex, watch.inverts = watch.convex and fixed, True


def _text(form: Form, names: tuple[str, ...]) -> str:
    """An exponent in words; empty for 0."""
    if len(form) == 1 or not any(form[1:]):
        return str(form[0]) if form[0] else ""
    terms = [str(form[0])] if form[0] else []
    terms += [f"{c} {name}" for c, name in zip(form[1:], names, strict=False) if c]
    return f"({' + '.join(terms)})"


def _plus(left: Form, right: Form) -> Form:
    if len(left) == len(right) == 1:  # Numbers.
        return (left[0] + right[0],)
    pairs = itertools.zip_longest(left, right, fillvalue=Fraction(0))
    return tuple(a + b for a, b in pairs)


ZERO = Power._of(None, None)
ONE = Power(0)
N = Power(1)
R = Power(0, 1)


class Unknown(NamedTuple):
    """An exponent as an affine form: a number, or an unknown of a case analysis."""

    form: Form
    cell: Cell | None

    def of(self, base: Power) -> Power:
        """`base` (n or r) raised to this exponent."""
        gamma, rho = (
            tuple(base_exponent * c for c in self.form) for base_exponent in _orders(base)
        )
        return Power._of((gamma, rho), self.cell)


def _orders(base: Power) -> tuple[Fraction, Fraction]:
    gamma, rho = base.gamma, base.rho
    assert gamma is not None
    assert rho is not None
    return gamma, rho
