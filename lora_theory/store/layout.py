"""What a data set holds: dimensions, variables, and how pieces make them up."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_theory.store.files import plain

_RESERVED = {"config", "provenance", "dims", "format"}  # Names that a file has besides.


class Layout(NamedTuple):
    """What a data set holds, and how pieces make it up.

    Attributes:
        coords: dimension -> its values, in the order of all axes.
        variables: name -> (its dimensions in that order, dtype).
        stacked: the leading dimensions, over whose cells, in C order, the pieces run one after
            the other; the rest of a variable's dimensions lies within a piece. A variable may
            lack the last of them or all: pieces give it for every cell all the same, where it
            must be constant along what it lacks, and the file has it once.
    """

    coords: Mapping[str, Sequence[Any] | np.ndarray]
    variables: Mapping[str, tuple[tuple[str, ...], str]]
    stacked: tuple[str, ...]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a variable."""
        return tuple(len(self.coords[dim]) for dim in self.variables[name][0])

    def bytes(self) -> int:
        """Size of the arrays, without reading or making any."""
        return sum(
            math.prod(self.shape(name)) * np.dtype(dtype).itemsize
            for name, (_, dtype) in self.variables.items()
        )

    def inner(self, name: str) -> tuple[int, ...]:
        """The shape of one cell of a variable."""
        shape = self.shape(name)
        return shape[self._leading(name) :]

    def stride(self, name: str) -> int:
        """How many cells in a row have one value of a variable: those along what it lacks."""
        return math.prod(len(self.coords[dim]) for dim in self.stacked[self._leading(name) :])

    def check(self) -> None:
        """Refuse a layout that no file can hold or no pieces can make up.

        Raises:
            ValueError: what is wrong, by name.

        >>> Layout({"seed": [0, 1]}, {"loss": (("step", "seed"), "float32")}, ("seed",)).check()
        Traceback (most recent call last):
        ...
        ValueError: loss: dimension step is no coordinate
        """
        for name in (*self.coords, *self.variables):
            if name in _RESERVED:
                raise ValueError(f"{name}: a name that the file needs itself")
        for name, values in self.coords.items():
            _check_coordinate(name, values)
        for dim in self.stacked:
            if dim not in self.coords:
                raise ValueError(f"stacked: dimension {dim} is no coordinate")
        for name in self.variables:
            self._check_variable(name)

    def fits(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Refuse the arrays of a piece that do not fit.

        Raises:
            ValueError: a variable is missing, or of another type or shape; what came, and what
                should have.
        """
        cells: dict[str, int] = {}
        for name, (_, dtype) in self.variables.items():
            expected = f"{np.dtype(dtype)} of shape {_words(self.inner(name))}"
            if name not in arrays:
                raise ValueError(f"{name}: missing in a piece, which must give it as {expected}")
            array = np.asarray(arrays[name])
            if not array.ndim or array.shape[1:] != self.inner(name) or array.dtype != dtype:
                came = f"{array.dtype} of shape {array.shape}"
                raise ValueError(f"{name}: a piece gives {came}, and must give {expected}")
            cells[name] = len(array)
        if len(set(cells.values())) > 1:
            raise ValueError(f"a piece has as many cells in every variable, not {cells}")

    def _leading(self, name: str) -> int:
        """How many of the stacked dimensions a variable has, all in front."""
        pairs = zip(self.variables[name][0], self.stacked, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    def _check_variable(self, name: str) -> None:
        dims, dtype = self.variables[name]
        if name in self.coords:
            raise ValueError(f"{name}: a variable and a coordinate of one name")
        for dim in dims:
            if dim not in self.coords:
                raise ValueError(f"{name}: dimension {dim} is no coordinate")
        if len(set(dims)) < len(dims) or set(dims[self._leading(name) :]) & set(self.stacked):
            stacked = ", ".join(self.stacked)
            raise ValueError(
                f"{name}: of the stacked dimensions ({stacked}) a variable has the first ones, in "
                f"that order, before all others (got {', '.join(dims)})"
            )
        try:
            known = plain(np.dtype(dtype))
        except TypeError:
            known = False
        if not known:
            raise ValueError(f"{name}: {dtype} is no type of numbers, booleans or strings of NumPy")


def _check_coordinate(name: str, values: Any) -> None:
    if isinstance(values, range):  # Not made: it may be longer than the disk, which is checked.
        return
    try:
        array = np.asarray(values)
    except ValueError:  # Lists of unequal lengths.
        array = np.empty((0, 0))
    if array.ndim != 1 or not plain(array.dtype):
        raise ValueError(f"{name}: a coordinate is one row of numbers, booleans or strings")


def _words(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, ('cells', *shape)))})"
