"""Compiled programs, shared where it is known that they are the same.

A program is made of parts: functions, filters, numbers. What is *known* has its equality by value
and nothing behind it that could change: numbers and names, what this project's own libraries
define, and partials, tuples and frozen records of such. Of known parts a program is kept, and equal
ones share it. Whatever else there is, a notebook's function that reads a global, a lambda that
closes over something, a bound method, is traced anew at each call, since what it reads may have
changed; a compilation is then shared by what was traced, which says it all.
"""

import dataclasses
import enum
import functools
import hashlib
import re
import sys
import types
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

# Whose code does not change while it runs, as that of a notebook does.
_LIBRARIES = {"builtins", "flax", "jax", "jaxlib", "lora_theory", "numpy", "optax"}
_HERE = Path(__file__).parents[2]
_VALUES = (bool, int, float, complex, str, bytes, enum.Enum, np.dtype, jax.Device, nnx.GraphDef)
_KEPT = 64


class UnknownError(Exception):
    """A part of which nobody can say whether it is the same as before."""


def program(make: Callable[..., Any], *parts: Any, model: Any = None) -> Callable[..., Any]:
    """The jitted function `make(*parts)`, shared with the calls that are known to make the same.

    One that is not known to be the same as another is traced once for what this returns: whoever
    calls it for the same shapes again does so before anything can have changed.

    Args:
        make: from the parts to a function under `jax.jit` without static arguments.
        parts: what the program is made of.
        model: the module of which a part is the `GraphDef`: its classes' code counts too.

    >>> def times(factor):
    ...     return jax.jit(lambda x: factor * x)
    >>> program(times, 2) is program(times, 2), program(times, 2) is program(times, 2.0)
    (True, False)
    """
    try:
        whole = (make, *map(identity, parts), *_modules(model))
        recipe = _ByKey(whole, functools.partial(make, *parts))
    except (UnknownError, TypeError):  # A TypeError is that of a part which has no hash.
        return _Traced(make, parts)
    return _made(recipe)


def identity(part: Any) -> Hashable:
    """What is equal for equal parts, and different for different ones.

    Raises:
        UnknownError: nothing is known of the part.

    >>> import optax
    >>> identity(functools.partial(optax.adam, eps=1e-8)) == identity(
    ...     functools.partial(optax.adam, eps=1e-8))
    True
    """
    if part is None or isinstance(part, _VALUES):
        return type(part), part
    if isinstance(part, type | types.FunctionType) and _of_a_library(part):
        return part
    if isinstance(part, functools.partial):
        named = tuple((name, identity(value)) for name, value in sorted(part.keywords.items()))
        return identity(part.func), tuple(map(identity, part.args)), named
    if isinstance(part, tuple | frozenset) and _of_a_library(type(part)):
        kind = frozenset if isinstance(part, frozenset) else tuple
        return type(part), kind(map(identity, part))
    if dataclasses.is_dataclass(part) and _frozen(type(part)) and _of_a_library(type(part)):
        fields = dataclasses.fields(part)
        return type(part), tuple(identity(getattr(part, field.name)) for field in fields)
    raise UnknownError(repr(part))


def is_known(model: nnx.Module) -> bool:
    """Whether a model's classes are of the libraries, and hold no functions that are not."""
    try:
        _modules(model)
    except UnknownError:
        return False
    return True


def _of_a_library(thing: Any) -> bool:
    """Whether it is what a module of one of the libraries has under its name."""
    module = getattr(thing, "__module__", None) or ""
    found: Any = sys.modules.get(module)
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is thing and _is_library(module.partition(".")[0])


def _is_library(package: str) -> bool:
    """Whether code of a package stays as it is; of `experiments`, those of this project."""
    if package == "experiments":
        file = getattr(sys.modules[package], "__file__", None)
        return file is not None and Path(file).parents[1] == _HERE
    return package in _LIBRARIES


def _frozen(kind: Any) -> bool:
    return bool(kind.__dataclass_params__.frozen and kind.__dataclass_params__.eq)


def _modules(model: Any) -> list[Hashable]:
    """Classes of a model and whatever its modules hold that can be called, as activations.

    A `GraphDef` holds them too, but not what stands behind them.
    """
    if model is None:
        return []
    found: list[Hashable] = []
    for _, module in nnx.iter_modules(model):
        found.append(identity(type(module)))
        held = (v for v in vars(module).values() if not isinstance(v, nnx.Module | nnx.Variable))
        found += [identity(value) for value in held if callable(value)]
    return found


class _ByKey:
    """What makes something, equal to whatever makes the same."""

    def __init__(self, key: Hashable, make: Callable[[], Any]):
        self.key, self.make = key, make
        self.hash = hash(key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByKey) and self.key == other.key


@functools.lru_cache(maxsize=_KEPT)
def _made(recipe: _ByKey) -> Any:
    return recipe.make()


class _Traced:
    """A program of parts of which not all are known: traced at its first call with some shapes.

    What its text does not say belongs to the key: the structure of what it takes and returns, which
    holds classes and attributes of modules, and the devices.
    """

    def __init__(self, make: Callable[..., Any], parts: tuple[Any, ...]):
        self.make, self.parts = make, parts
        self.compiled: dict[Hashable, Any] = {}

    def __call__(self, *args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        shapes = tree, tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)
        if shapes not in self.compiled:
            self.compiled[shapes] = self._compile(*args)
        return self.compiled[shapes](*args)

    def _compile(self, *args: Any) -> Any:
        lowered = self.make(*self.parts).lower(*args)
        if not _takes_all(lowered.as_text(), args):
            return lowered.compile()
        text = hashlib.sha256(lowered.as_text().encode()).digest()
        devices = [part for part in self.parts if isinstance(part, tuple)]
        config: Any = jax.config
        where = repr(devices), str(config.jax_default_device)
        trees = lowered.in_tree, lowered.out_tree
        try:
            recipe = _ByKey((self.make, text, *trees, *where), lowered.compile)
        except TypeError:  # An attribute of a module has no hash.
            return lowered.compile()
        return _made(recipe)


def _takes_all(text: str, args: Any) -> bool:
    """Whether a program has an input for each array that it is given.

    `jax.jit` leaves out what is not read, and the text does not say what: a function of the first
    of two arrays has the text of one of the second. With `keep_unused=True` nothing is left out.
    """
    head = re.search(r"func public @main\((.*?)\) ->", text, re.DOTALL)
    return head is not None and len(re.findall(r"%arg\d+:", head[1])) >= len(jax.tree.leaves(args))
