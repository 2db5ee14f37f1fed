"""Values of configs: of which types they can be, and what a value of YAML is as one of these."""

import dataclasses
import json
import math
import types
import typing
from typing import Any, Literal


def typed(hint: Any, value: Any, nothing: bool = False) -> Any:
    """The value as its type; an integer may stand for a float, and one item for a list.

    Args:
        hint: the type.
        value: as it was typed.
        nothing: whether null is allowed although the type does not say so.

    Raises:
        TypeError, ValueError, OverflowError: it is of another type.

    >>> typed(tuple[float, ...], 3)
    (3.0,)
    """
    options = _options(hint)
    if value is None and (nothing or type(None) in options):
        return None
    option = next(o for o in options if o is not type(None))
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is Literal:
        if not any(type(value) is type(known) and value == known for known in arguments):
            raise ValueError(value)
        return value
    if origin is tuple:
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(typed(arguments[0], item) for item in values)
    if option is float and type(value) is int:
        return float(value)
    if type(value) is not option:
        raise TypeError(value)
    return value


def _options(hint: Any) -> tuple[Any, ...]:
    """The types of a union; of any other, it alone."""
    unions = (types.UnionType, typing.Union)
    return typing.get_args(hint) if typing.get_origin(hint) in unions else (hint,)


def buildable(hint: Any) -> bool:
    """Whether `typed` makes a type of what YAML gives: one type, null, rows and mappings of
    it; mappings of schemas as well."""
    options = [option for option in _options(hint) if option is not type(None)]
    if len(options) != 1:
        return False
    origin, arguments = typing.get_origin(options[0]), typing.get_args(options[0])
    if origin is tuple:
        return arguments[1:] == (...,) and buildable(arguments[0])
    if origin is dict:
        return arguments[0] is str and (
            dataclasses.is_dataclass(arguments[1]) or buildable(arguments[1])
        )
    return origin is Literal or options[0] in (bool, int, float, str)


def finite(value: Any) -> bool:
    """Whether a value, or every one of a row, is no infinite number and no NaN."""
    numbers = value if isinstance(value, tuple) else (value,)
    return all(not isinstance(v, float) or math.isfinite(v) for v in numbers)


def expected(hint: Any) -> str:
    """In words, what a type allows."""
    if typing.get_origin(hint) is Literal:
        return f"must be one of {', '.join(map(str, typing.get_args(hint)))}"
    return "must be true or false" if hint is bool else f"must be of type {hint}"


def shown(value: Any) -> str:
    """What was typed, as one short line shows it."""
    try:
        text = value if isinstance(value, str) and value else json.dumps(value, default=str)
    except ValueError:  # Python writes no integer of more than 4300 digits.
        text = "a number of thousands of digits"
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def in_bytes(count: int) -> str:
    """A number of bytes, in the largest unit of which it is at least one.

    >>> in_bytes(5), in_bytes(3 * 2**19), in_bytes(2**42)
    ('5 bytes', '1.5 MiB', '4096.0 GiB')
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def in_time(seconds: float) -> str:
    """How long that is, in the largest unit of which it is about two.

    >>> in_time(7), in_time(2400), in_time(5.2 * 3600), in_time(3e6)
    ('7 seconds', '40 minutes', '5.2 hours', '35 days')
    >>> in_time(0.2)
    'a second'
    """
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1)):
        if (count := seconds / size) >= 2:
            return f"{count:.0f} {unit}" if count >= 10 or size <= 60 else f"{count:.1f} {unit}"
    return "a second"
