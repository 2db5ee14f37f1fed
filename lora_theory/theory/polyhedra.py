"""Convex sets of a few unknowns, given by affine inequalities, in exact fractions.

What `exponents.solve` splits and merges. Everything rests on one routine, `_witness`: Fourier and
Motzkin's elimination, which finds a point of a set of inequalities or proves that there is none.
"""

import itertools
import math
from fractions import Fraction
from typing import NamedTuple

# An affine form c_0 + c_1 x_1 + … as its coefficients; trailing zeros may be left out.
Form = tuple[Fraction, ...]

_OR_EQUAL = {"<": "≤", ">": "≥"}
_MIRRORED = str.maketrans("<≤>≥", ">≥<≤")
_NEGATED = {"<": ("≥",), "≤": (">",), "=": ("<", ">")}


class UndecidedError(Exception):
    """The sign of a form is not the same all over a cell."""

    def __init__(self, form: Form):
        super().__init__(form)
        self.form = form


class Constraint(NamedTuple):
    """form < 0, form ≤ 0 or form = 0."""

    form: Form
    relation: str

    def negated(self) -> "list[Constraint]":
        """The alternatives, of which one holds wherever this does not."""
        return [_constraint(self.form, relation) for relation in _NEGATED[self.relation]]


class Cell:
    """A convex set {x : every constraint holds}, not empty.

    >>> cell = Cell(("x", "y"))
    >>> below, on, above = cell.split(cell.variable("x"))
    >>> str(below), str(on), str(above)
    ('x < 0', 'x = 0', 'x > 0')
    """

    def __init__(self, names: tuple[str, ...], constraints: tuple[Constraint, ...] = ()):
        self.names = names
        self.constraints = constraints
        self._signs: dict[Form, int] = {}

    def variable(self, name: str) -> Form:
        """The unknown `name` as a form."""
        i = self.names.index(name)
        return tuple(Fraction(int(j == i + 1)) for j in range(len(self.names) + 1))

    def sign(self, form: Form) -> int:
        """−1, 0 or 1: the sign of the form all over the cell.

        Raises:
            UndecidedError: it changes within the cell.
        """
        form = self._padded(form)
        if form not in self._signs:
            parts = [
                s for s, relation in ((-1, "<"), (0, "="), (1, ">")) if self._meets(form, relation)
            ]
            if len(parts) > 1:
                raise UndecidedError(form)
            self._signs[form] = parts[0]
        return self._signs[form]

    def split(self, form: Form) -> "list[Cell]":
        """Its parts where the form is negative, zero and positive, without empty ones."""
        form = self._padded(form)
        return [
            Cell(self.names, (*self.constraints, _constraint(form, relation)))._without_redundant()
            for relation in ("<", "=", ">")
            if self._meets(form, relation)
        ]

    def point(self) -> dict[str, Fraction]:
        """Some point of the cell; the only one, if there is only one."""
        found = _witness(self.constraints, len(self.names))
        assert found is not None
        return dict(zip(self.names, found, strict=True))

    @property
    def dimension(self) -> int:
        """0 for a point, 1 for a piece of a line, 2 for a region."""
        rows: list[list[Fraction]] = []
        for constraint in self.constraints:
            if self._is_zero(constraint.form):
                rows.append(list(self._padded(constraint.form)[1:]))
        return len(self.names) - _rank(rows)

    def corners(self) -> list[tuple[Fraction, ...]]:
        """The corners of its closure in the plane, or its ends on a line, in ascending order.

        >>> cell = Cell(("x",)).within(Fraction(-1), Fraction(2))
        >>> [str(end) for (end,) in cell.corners()]
        ['-1', '2']
        """
        forms = [self._padded(constraint.form) for constraint in self.constraints]
        points: list[tuple[Fraction, ...]]
        if len(self.names) == 1:
            points = [(-form[0] / form[1],) for form in forms if form[1]]
        else:
            pairs = itertools.combinations(forms, 2)
            points = [point for pair in pairs if (point := _crossing(*pair)) is not None]
        return sorted({point for point in points if self._closure_has(point)})

    def _closure_has(self, point: tuple[Fraction, ...]) -> bool:
        values = ((_value(self._padded(form), point), r) for form, r in self.constraints)
        return all(value == 0 if relation == "=" else value <= 0 for value, relation in values)

    def within(self, low: Fraction, high: Fraction) -> "Cell | None":
        """Its part in the box low ≤ x ≤ high of every unknown; None if there is none."""
        sides = []
        for name in self.names:
            form = self.variable(name)
            sides += [
                Constraint((form[0] - high, *form[1:]), "≤"),
                Constraint((low - form[0], *(-c for c in form[1:])), "≤"),
            ]
        cell = Cell(self.names, (*self.constraints, *sides))
        return cell if _witness(cell.constraints, len(self.names)) is not None else None

    @staticmethod
    def merged(cells: "list[Cell]") -> "list[Cell]":
        """The same union by fewer cells: pairs whose union is convex become one."""
        cells = [cell._without_redundant() for cell in cells]
        while True:
            for left, right in itertools.combinations(cells, 2):
                union = left._union(right)
                if union is not None:
                    cells = [c for c in cells if c is not left and c is not right] + [union]
                    break
            else:
                return sorted((cell._reduced() for cell in cells), key=str)

    def __str__(self) -> str:
        return ", ".join(self._texts()) or "everywhere"

    def _texts(self) -> list[str]:
        ranges: dict[str, dict[str, str]] = {}
        for form, relation in self.constraints:
            text, side, value = _normal(self._padded(form), relation, self.names)
            ranges.setdefault(text, {})[side] = value
        lines = []
        for text, sides in sorted(ranges.items()):
            if ">" in sides and "<" in sides:
                low, relation = sides[">"].split()[::-1]
                lines.append(f"{low} {relation.translate(_MIRRORED)} {text} {sides['<']}")
            else:
                lines += [f"{text} {value}" for value in sides.values()]
        return lines

    def _padded(self, form: Form) -> Form:
        return form + (Fraction(0),) * (len(self.names) + 1 - len(form))

    def _meets(self, form: Form, relation: str) -> bool:
        return self._meets_all([_constraint(form, relation)])

    def _meets_all(self, more: list[Constraint]) -> bool:
        return _witness((*self.constraints, *more), len(self.names)) is not None

    def _is_zero(self, form: Form) -> bool:
        return not self._meets(form, "<") and not self._meets(form, ">")

    def _without_redundant(self) -> "Cell":
        kept = list(self.constraints)
        for constraint in self.constraints:
            rest = Cell(self.names, tuple(c for c in kept if c is not constraint))
            if not any(rest._meets_all([negated]) for negated in constraint.negated()):
                kept.remove(constraint)
        return Cell(self.names, tuple(kept))

    def _reduced(self) -> "Cell":
        """The same set with the unknowns that its equalities settle taken out of the rest."""
        equalities: list[Form] = []
        for constraint in self.constraints:
            form = self._padded(constraint.form)
            if constraint.relation == "=" and any(form := _eliminated(form, equalities)):
                equalities = [*(_eliminated(other, [form]) for other in equalities), form]
        rest = [
            Constraint(_eliminated(self._padded(form), equalities), relation)
            for form, relation in self.constraints
            if relation != "="
        ]
        return Cell(self.names, (*(Constraint(form, "=") for form in equalities), *rest))

    def _union(self, other: "Cell") -> "Cell | None":
        """The union, if it is convex: the constraints of each that hold on both suffice."""
        kept = []
        for mine, theirs in ((self, other), (other, self)):
            for form, relation in mine.constraints:
                for signed in (form, tuple(-c for c in form)):
                    if signed is not form and relation != "=":
                        continue
                    if theirs._meets(signed, ">"):
                        continue
                    touches = relation != "<" or theirs._meets(signed, "=")
                    kept.append(Constraint(signed, "≤" if touches else "<"))
        hull = Cell(self.names, tuple(dict.fromkeys(kept)))
        for one, two in itertools.product(self.constraints, other.constraints):
            for gap in itertools.product(one.negated(), two.negated()):
                if hull._meets_all(list(gap)):
                    return None
        return hull._with_equalities()._without_redundant()

    def _with_equalities(self) -> "Cell":
        forms = {c.form for c in self.constraints}
        kept = []
        for form, relation in self.constraints:
            opposite = tuple(-c for c in form)
            both = relation == "≤" and opposite in forms and self._is_zero(form)
            kept.append(
                Constraint(max(form, opposite), "=") if both else Constraint(form, relation)
            )
        return Cell(self.names, tuple(dict.fromkeys(kept)))


def _constraint(form: Form, relation: str) -> Constraint:
    if relation in (">", "≥"):
        return Constraint(tuple(-c for c in form), {">": "<", "≥": "≤"}[relation])
    return Constraint(form, relation)


def _witness(constraints: tuple[Constraint, ...], count: int) -> tuple[Fraction, ...] | None:
    """A point that satisfies all constraints in `count` unknowns, or None if there is none."""
    if count == 0:
        for form, relation in constraints:
            ok = {"<": form[0] < 0, "≤": form[0] <= 0, "=": form[0] == 0}[relation]
            if not ok:
                return None
        return ()
    last = [c for c in constraints if _coefficient(c.form, count)]
    free = tuple(c for c in constraints if not _coefficient(c.form, count))
    equal = next((c for c in last if c.relation == "="), None)
    if equal is not None:
        bound = _solved(equal.form, count)
        rest = tuple(Constraint(_substituted(c.form, bound, count), c.relation) for c in last)
        point = _witness(free + rest, count - 1)
        return None if point is None else (*point, _value(bound, point))
    lower: list[tuple[Form, str]] = []
    upper: list[tuple[Form, str]] = []
    for c in last:
        bounds = upper if _coefficient(c.form, count) > 0 else lower
        bounds.append((_solved(c.form, count), c.relation))
    between = tuple(
        Constraint(
            tuple(a - b for a, b in zip(low, high, strict=True)),
            "<" if "<" in (low_relation, high_relation) else "≤",
        )
        for (low, low_relation), (high, high_relation) in itertools.product(lower, upper)
    )
    point = _witness(free + between, count - 1)
    if point is None:
        return None
    lows = [_value(form, point) for form, _ in lower]
    highs = [_value(form, point) for form, _ in upper]
    if lows and highs:
        return (*point, (max(lows) + min(highs)) / 2)
    if lows or highs:
        return (*point, max(lows) + 1 if lows else min(highs) - 1)
    return (*point, Fraction(0))


def _coefficient(form: Form, i: int) -> Fraction:
    return form[i] if i < len(form) else Fraction(0)


def _solved(form: Form, i: int) -> Form:
    """x_i where the form vanishes, as a form in the unknowns before it."""
    return tuple(-_coefficient(form, j) / form[i] for j in range(i))


def _substituted(form: Form, bound: Form, i: int) -> Form:
    return tuple(_coefficient(form, j) + form[i] * bound[j] for j in range(i))


def _value(form: Form, point: tuple[Fraction, ...]) -> Fraction:
    return form[0] + sum((c * x for c, x in zip(form[1:], point, strict=False)), Fraction(0))


def _crossing(left: Form, right: Form) -> tuple[Fraction, ...] | None:
    determinant = left[1] * right[2] - left[2] * right[1]
    if determinant == 0:
        return None
    x = (left[2] * right[0] - left[0] * right[2]) / determinant
    y = (left[0] * right[1] - left[1] * right[0]) / determinant
    return x, y


def _eliminated(form: Form, equalities: list[Form]) -> Form:
    """The form with the first unknown of each equality replaced by the others."""
    for equality in equalities:
        i = next(i for i, c in enumerate(equality) if i and c)
        form = tuple(a - b * form[i] / equality[i] for a, b in zip(form, equality, strict=True))
    return form


def _rank(rows: list[list[Fraction]]) -> int:
    rank = 0
    while rows:
        pivot = next((row for row in rows if any(row)), None)
        if pivot is None:
            break
        rank += 1
        i = next(i for i, c in enumerate(pivot) if c)
        rows = [
            [a - b * row[i] / pivot[i] for a, b in zip(row, pivot, strict=True)]
            for row in rows
            if row is not pivot
        ]
    return rank


def _normal(form: Form, relation: str, names: tuple[str, ...]) -> tuple[str, str, str]:
    """The constraint as ("c_a + c_b", "<", "<= -1"): smallest integers, first one positive."""
    scale = math.lcm(*(c.denominator for c in form[1:]))
    divisor = math.gcd(*(int(c * scale) for c in form[1:]))
    lead = next(c for c in form[1:] if c)
    factor = Fraction(scale, divisor) * (1 if lead > 0 else -1)
    terms = ""
    for name, c in zip(names, (int(c * factor) for c in form[1:]), strict=True):
        if c:
            sign = " - " if c < 0 else " + " if terms else ""
            terms += f"{sign}{abs(c) if abs(c) != 1 else ''}{' ' if abs(c) != 1 else ''}{name}"
    value = -form[0] * factor
    if relation == "=":
        return terms, "=", f"= {value}"
    side = "<" if factor > 0 else ">"
    return terms, side, f"{side if relation == '<' else _OR_EQUAL[side]} {value}"
