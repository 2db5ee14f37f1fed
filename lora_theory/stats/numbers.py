"""Arrays of numbers, from whatever a caller gives for them."""

from numbers import Real
from typing import Any

import numpy as np

from lora_theory import arguments


def numbers(name: str, value: Any, least_axes: int = 1) -> np.ndarray:
    """float64 numbers, ±∞ and NaN among them, with so many axes or more, and none of them empty.

    Args:
        name: of the argument, for the error.
        value: an array, lists of equal lengths, or a number.
        least_axes: how many axes there must be.

    >>> numbers("samples", [[1, 2], [3]])
    Traceback (most recent call last):
    ...
    ValueError: samples: must be numbers, at least one, in an array of 1 or more axes \
(got [[1, 2], [3]])
    """
    found = _floats(value)
    if found is None or found.ndim < least_axes or not found.size:
        axes = f", in an array of {least_axes} or more axes" if least_axes else ""
        raise arguments.refusal(name, f"numbers, at least one{axes}", value)
    return found


def _floats(value: Any) -> np.ndarray | None:
    """As float64; None for what is no number, as strings of digits and None are."""
    try:
        found = np.asarray(value)
        exact = found.dtype.kind != "O" or all(isinstance(at, Real) for at in found.flat)
        return found.astype(np.float64) if exact and found.dtype.kind not in "SUcmM" else None
    except (TypeError, ValueError, OverflowError):
        return None
