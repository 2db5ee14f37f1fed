"""What a data set holds: dimensions, variables, and how pieces make them up."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_theory.store.files import plain

_RESERVED = {"config", "provenance", "dims", "format"}  # Names that a file has besides.
_ROUNDING = 1e-9  # Of rates that another version of NumPy, or another machine, spaced.


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

    def check_shapes(self, dims: Mapping[str, tuple[str, ...]], arrays: Mapping[str, Any]) -> None:
        """Refuse a data set of other variables, dimensions, types or lengths.

        Args:
            dims: name -> its dimensions.
            arrays: name -> what has its shape and dtype.

        Raises:
            ValueError: what is wrong, by name.
        """
        wanted: dict[str, tuple[str, ...]] = {name: (name,) for name in self.coords}
        wanted |= {name: dimensions for name, (dimensions, _) in self.variables.items()}
        for name, dimensions in wanted.items():
            if name not in arrays:
                raise ValueError(f"{name}: missing")
            shape = tuple(len(self.coords[dim]) for dim in dimensions)
            if tuple(dims[name]) != dimensions or tuple(arrays[name].shape) != shape:
                expected = f"({', '.join(dimensions)}) of lengths {shape}"
                got = f"({', '.join(dims[name])}) of lengths {tuple(arrays[name].shape)}"
                raise ValueError(f"{name}: must be over {expected} (got {got})")
        if unknown := arrays.keys() - wanted.keys():
            raise ValueError(f"{min(unknown)}: no variable of these results")
        for name, (_, dtype) in self.variables.items():
            if arrays[name].dtype != np.dtype(dtype):
                raise ValueError(f"{name}: must be {np.dtype(dtype)} (got {arrays[name].dtype})")

    def check_axes(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Refuse axes with other values; those of rates may differ by rounding.

        Raises:
            ValueError: what is wrong, by name.

        >>> Layout({"seed": [0, 1]}, {}, ()).check_axes({"seed": np.array([1, 0])})
        Traceback (most recent call last):
        ...
        ValueError: seed: must be 0, 1 (got 1, 0)
        """
        for name, values in self.coords.items():
            wanted, got = np.asarray(values), arrays[name]
            rounded = wanted.dtype.kind == got.dtype.kind == "f"
            same = np.allclose(got, wanted, _ROUNDING, 0) if rounded else (got == wanted).all()
            if wanted.dtype.kind != got.dtype.kind or not same:
                raise ValueError(f"{name}: must be {_some(wanted)} (got {_some(got)})")

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


def _some(values: np.ndarray) -> str:
    """The first values of an axis, in words."""
    more = ", …" if len(values) > 3 else ""
    return ", ".join(f"{value!s:.20}" for value in values[:3].tolist()) + more


def _words(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, ('cells', *shape)))})"
