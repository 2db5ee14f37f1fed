"""What public functions say of an argument that they can not use: `name: must be … (got …)`.

Numbers alone, of Python, NumPy or JAX; nothing is imported for it.
"""

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any


def integer(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An integer from `least` to `most`.

    >>> integer("rank", 4), integer("steps", 0, 0)
    (4, 0)
    >>> integer("rank", 4.0)
    Traceback (most recent call last):
    ...
    ValueError: rank: must be an integer of at least 1 (got 4.0)
    """
    if not isinstance(value, bool):
        try:
            found = operator.index(value)
        except TypeError:
            pass
        else:
            if found >= least and (most is None or found <= most):
                return found
    allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise refusal(name, f"an integer {allowed}", value)


def finite(name: str, value: Any) -> float:
    """A finite number.

    >>> finite("gamma", float("nan"))
    Traceback (most recent call last):
    ...
    ValueError: gamma: must be a finite number (got nan)
    """
    return _number(name, value, "a finite number", lambda _: True)


def positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    return _number(name, value, "positive and finite", lambda found: found > 0)


def at_least(name: str, value: Any, least: float) -> float:
    """A finite number of at least `least`."""
    return _number(name, value, f"a finite number of at least {least:g}", lambda x: x >= least)


def between(name: str, value: Any, low: float, high: float) -> float:
    """A number between two others, which are excluded.

    >>> between("confidence", 95, 0, 1)
    Traceback (most recent call last):
    ...
    ValueError: confidence: must be a number between 0 and 1 (got 95)
    """
    wanted = f"a number between {low:g} and {high:g}"
    return _number(name, value, wanted, lambda found: low < found < high)


def one_of(name: str, value: Any, allowed: Iterable[str]) -> None:
    """One of several words.

    >>> one_of("init", "C", ("A", "B"))
    Traceback (most recent call last):
    ...
    ValueError: init: must be one of A, B (got 'C')
    """
    words = tuple(allowed)
    if not (isinstance(value, str) and value in words):
        raise refusal(name, f"one of {', '.join(words)}", value)


def some(name: str, values: Any, most: int | None = None) -> Any:
    """Several of something: at least one, and not more than there is room for."""
    count = len(values)
    if not count or (most is not None and count > most):
        wanted = "at least one" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name}: must be {wanted} (got {count})")
    return values


def refusal(name: str, wanted: str, value: Any) -> ValueError:
    """The error for an argument, in one line however long its value is."""
    words = " ".join(repr(value).split()) if not hasattr(value, "shape") else _array(value)
    return ValueError(
        f"{name}: must be {wanted} (got {words if len(words) < 80 else _type(value)})"
    )


def _number(name: str, value: Any, wanted: str, holds: Any) -> float:
    if not isinstance(value, bool) and (
        isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    ):
        try:
            found = float(value)
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if math.isfinite(found) and holds(found):
            return found
    raise refusal(name, wanted, value)


def _array(value: Any) -> str:
    """A NumPy or JAX number as itself, an array by its shape."""
    return f"{value}" if value.shape == () else f"an array of shape {tuple(value.shape)}"


def _type(value: Any) -> str:
    return f"a {type(value).__name__}"
