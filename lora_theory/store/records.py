"""Typed records as JSON, and back: what crosses a file keeps its type."""

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")
_WHOLE = 2**1023  # Above that no float is.


def from_plain(kind: type[T], data: Any) -> T:
    """A frozen record from the plain data that `dataclasses.asdict` and JSON made of it.

    Raises:
        ValueError: a field is missing, unknown, or of another type.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Point:
    ...     at: tuple[float, ...]
    ...     name: str | None = None
    >>> from_plain(Point, {"at": [1.0, 2.0], "name": None})
    Point(at=(1.0, 2.0), name=None)
    >>> from_plain(Point, {"at": "x", "name": None})
    Traceback (most recent call last):
    ...
    ValueError: 'x' is no tuple[float, ...]
    """
    return typing.cast(T, _from(kind, data))


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _from(kind: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if isinstance(kind, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        return _from(next(option for option in arguments if option is not type(None)), data)
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type]
        if not isinstance(data, dict) or data.keys() != hints.keys():
            raise ValueError(f"{data!r:.60} is no {getattr(kind, '__name__', kind)}")
        return kind(**{name: _from(hint, data[name]) for name, hint in hints.items()})  # type: ignore[operator]
    if origin is tuple and isinstance(data, list):
        return tuple(_from(arguments[0], item) for item in data)
    if origin is dict and isinstance(data, dict):
        return {name: _from(arguments[1], item) for name, item in data.items()}
    if origin is typing.Literal and data in arguments:
        return data
    if kind is float and type(data) is int and abs(data) < _WHOLE:
        return float(data)
    if origin is None and type(data) is kind:
        return data
    raise ValueError(f"{data!r:.60} is no {kind}")
