"""The γ algebra: sizes of the order of a power of n, which are added and multiplied.

A `Power` is Θ(n^γ r^ρ) or exactly zero, its exponents exact fractions, or the unknowns of a case
analysis (`exponents.solve`). Nothing is measured here, and nothing here needs JAX.
"""

import itertools
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


class Power:
    """Θ(n^γ · r^ρ), or exactly zero: γ[uv] = γ[u] + γ[v], γ[u + v] = max(γ[u], γ[v]).

    n grows first: of two powers the larger is the one with the larger γ, and with the larger ρ
    where γ is the same. Sizes have no sign, so nothing cancels: there is no subtraction. Powers
    are equal if they are of the same order: in `solve` that splits the exponents.

    >>> n = Power(1)
    >>> n ** "-1/2" * n + Power(0)  # n^(1/2) + 1
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

    @classmethod
    def _of(cls, forms: tuple[Form, Form] | None, cell: Cell | None) -> "Power":
        power = cls()
        power._forms, power._cell = forms, cell
        return power

    @property
    def gamma(self) -> Fraction | None:
        """γ, the exponent of n; None for exactly zero."""
        return None if self._forms is None else self._forms[0][0]

    @property
    def rho(self) -> Fraction | None:
        """ρ, the exponent of r; None for exactly zero."""
        return None if self._forms is None else self._forms[1][0]

    def __mul__(self, other: "Power") -> "Power":
        left, right = self._forms, _power(other)._forms
        cell = self._cell or other._cell
        if left is None or right is None:
            return Power._of(None, cell)
        return Power._of((_plus(left[0], right[0]), _plus(left[1], right[1])), cell)

    def __add__(self, other: "Power") -> "Power":
        return self if self.compare(other) >= 0 else other

    def __pow__(self, exponent: int | str | Fraction) -> "Power":
        if isinstance(exponent, Power):
            raise RuleError("a power of n can not be an exponent: the rule is not polynomial in n")
        q = rational(exponent)
        if self._forms is None:
            if q <= 0:
                raise RuleError(f"zero to the power {q} has no size")
            return self
        gamma, rho = (tuple(q * c for c in form) for form in self._forms)
        return Power._of((gamma, rho), self._cell)

    def __truediv__(self, other: "Power") -> "Power":
        return self * _power(other) ** -1

    def compare(self, other: "Power") -> int:
        """−1, 0 or 1 as this power is asymptotically smaller, of the same order, or larger."""
        left, right = self._forms, _power(other)._forms
        if left is None or right is None:
            return (left is not None) - (right is not None)
        cell = self._cell or other._cell
        if cell is None:  # Numbers: no need of a difference.
            return (left > right) - (left < right)
        for mine, others in zip(left, right, strict=True):
            form = _plus(mine, tuple(-c for c in others))
            if order := cell.sign(form):
                return order
        return 0

    def __eq__(self, other: object) -> bool:
        return self.compare(_power(other)) == 0

    def __hash__(self) -> int:
        if self._cell is not None:
            raise RuleError("a power of unknown exponents can not be looked up")
        return hash(self._forms)

    def __repr__(self) -> str:
        if self._forms is None:
            return "0"
        factors = (("n", self._forms[0][0]), ("r", self._forms[1][0]))
        return " ".join(f"{base}^{e}" for base, e in factors if e) or "1"

    def _refuse(self, *_: Any) -> Any:
        raise RuleError(
            "a rule may add, multiply, divide and raise powers of n to rational powers; "
            "anything else is not polynomial in n"
        )

    __sub__ = __rsub__ = __neg__ = __float__ = __int__ = __abs__ = __rpow__ = __bool__ = _refuse
    __radd__ = __rmul__ = __rtruediv__ = _refuse  # Of what is no power.
    __lt__ = __le__ = __gt__ = __ge__ = __mod__ = __floordiv__ = _refuse


def _power(value: Any) -> Power:
    if not isinstance(value, Power):
        raise RuleError(f"a rule must be made of powers of n, as Power(1) (got {value!r})")
    return value


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
