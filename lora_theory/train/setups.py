"""What a coordinate check is given, looked at before anything is measured."""

import functools
import inspect
import itertools
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
from flax import nnx

from lora_theory import arguments
from lora_theory.arrays import Array
from lora_theory.train.layers import inputs, layers, split_factors


def checked_rates(
    rates: Callable[[int], Any], optimizer: Callable[..., Any], width: int
) -> tuple[float, ...]:
    """The rates at a width, one for each argument of the optimizer.

    Raises:
        ValueError: no tuple of finite numbers of at least 0, or not as many as are taken.
    """
    found = rates(width)
    if not isinstance(found, tuple | list):
        raise ValueError(
            "rates: must give a tuple with a rate for each argument of the optimizer, as "
            f"(0.5 / n, 0.5) (got {found!r} at n = {width})"
        )
    values = tuple(arguments.at_least(f"rates at n = {width}", rate, 0) for rate in found)
    try:
        inspect.signature(optimizer).bind(*found)
    except TypeError as error:
        raise ValueError(
            f"rates: must be as many as the optimizer takes (got {len(found)}: {error})"
        ) from None
    except ValueError:  # Of some callables Python knows no signature.
        pass
    return values


def checked_widths(widths: Any) -> list[int]:
    """The widths.

    Raises:
        ValueError: no ascending integers from 1.
    """
    found = _listed(widths)
    ok = len(found) > 0 and all(_whole(n) and n >= 1 for n in found)
    if not ok or any(a >= b for a, b in itertools.pairwise(found)):
        raise arguments.refusal("widths", "ascending integers from 1", widths)
    return list(map(int, found))


def checked_seeds(seeds: Any) -> list[int]:
    """The seeds that are meant.

    Raises:
        ValueError: none, or no integers from 0.
    """
    found = list(range(seeds)) if _whole(seeds) else _listed(seeds)
    if not (found and all(_whole(seed) and seed >= 0 for seed in found)):
        raise arguments.refusal("seeds", "at least 1, or a list of integers from 0", seeds)
    return list(map(int, found))


def checked_dtype(dtype: Any) -> jnp.dtype:
    """The type in which is measured.

    Raises:
        ValueError: another than float32 and float64.
    """
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found not in (jnp.float32, jnp.float64):
        raise arguments.refusal("dtype", "float32 or float64", dtype)
    return found


def _listed(values: Any) -> list[Any]:
    """What can be run through, as a list; of anything else, nothing."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else []


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def checked_setup(found: Any, dtype: jnp.dtype) -> tuple[nnx.Module, Array, Any]:
    """Model, inputs and targets of a setup, with all floating numbers in one type.

    Raises:
        ValueError: what is given is not that, or can not be measured; in words.
    """
    if not (isinstance(found, tuple | list) and len(found) == 3):
        raise ValueError(
            f"setup: must give (model, x, y) (got {type(found).__name__}"
            + (f" of {len(found)})" if isinstance(found, tuple | list) else ")")
        )
    model, x, y = found
    if not isinstance(model, nnx.Module):
        raise ValueError(f"setup: the model must be an nnx.Module (got {type(model).__name__})")
    if not layers(model):
        raise ValueError("setup: the model must have a LoRA layer of this library or of Flax")
    split_factors(model)
    to = functools.partial(_cast, dtype)
    graph, state = nnx.split(model)
    model, x, y = nnx.merge(graph, to(state)), *map(to, map(_array, (x, y)))
    _check_call(model, x, dtype)
    return model, x, y


def _array(values: Any) -> Any:
    """Rows of plain numbers as an array; any other tree of arrays as it is."""
    plain = isinstance(values, list) and all(
        isinstance(leaf, numbers.Number) for leaf in jax.tree.leaves(values)
    )
    return jnp.asarray(values) if plain else values


def _cast(dtype: jnp.dtype, tree: Any) -> Any:
    def cast(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def _check_call(model: nnx.Module, x: Any, dtype: jnp.dtype) -> None:
    """Call the model once, in the abstract: whatever is wrong shows here."""
    try:
        traced = jax.make_jaxpr(lambda x: (model(x), list(inputs(model, x).values())))(x)
    except flax.errors.TraceContextError as error:
        raise ValueError(
            "setup: the model must not change while it is called, as Dropout and BatchNorm do "
            f"while they train; call model.eval() first ({str(error).splitlines()[0]})"
        ) from None
    except jax.errors.UnexpectedTracerError:
        raise ValueError(
            "setup: LoRA layers must be called on whole arrays, outside of jax.vmap and other "
            "transformations, within which their input can not be seen"
        ) from None
    other = {found for found in _floating(traced.jaxpr) if found != dtype}
    if other:
        raise ValueError(
            f"setup: the model must compute in {dtype}, since contributions are small differences; "
            f"it computes in {', '.join(sorted(map(str, other)))} too (a layer's dtype=?)"
        )


def _floating(jaxpr: Any) -> Iterator[Any]:
    """Types of all floating numbers in a traced function, of those within it too."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            kind = getattr(variable.aval, "dtype", None)
            if kind is not None and jnp.issubdtype(kind, jnp.floating):
                yield kind
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from _floating(inner)
