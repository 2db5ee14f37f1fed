"""What a coordinate check is given, looked at before anything is measured."""

import contextlib
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
from lora_theory.adapters.layer import Frozen
from lora_theory.arrays import Array
from lora_theory.train.layers import inputs, layers, split_factors

_CHANGES = (
    "setup: the model must not change while it is called, as Dropout and BatchNorm do while they "
    "train; call model.eval() first"
)


def check_functions(**given: Any) -> None:
    """Refuse what is no function.

    Raises:
        ValueError: the first one, by name.
    """
    for name, value in given.items():
        if not callable(value):
            raise arguments.refusal(name, "a function", value)


def checked_rates(
    rates: Callable[[int], Any], optimizer: Callable[..., Any], width: int
) -> tuple[float, ...]:
    """The rates at a width, one for each argument of the optimizer.

    Raises:
        ValueError: no tuple of finite numbers of at least 0, or not as many as are taken.
    """
    check_functions(rates=rates)
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
        ValueError: none, or no different integers from 0 to 2^31.
    """
    found = list(range(seeds)) if _whole(seeds) else _listed(seeds)
    known = all(_whole(seed) and 0 <= seed < 2**31 for seed in found)
    if not found or not known or len(set(found)) < len(found):
        raise arguments.refusal("seeds", "at least 1, or different integers from 0", seeds)
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
    _check_call(model, x)
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


def _check_call(model: nnx.Module, x: Any) -> None:
    """Call the model once, in the abstract: whatever is wrong shows here."""
    graph, state = nnx.split(model)

    def call(state: Any, x: Any) -> Any:
        model = nnx.merge(graph, state)
        before = _moving(model)
        found = model(x)
        for path, value in _moving(model).items():
            if value is not before.get(path):
                raise ValueError(f"{_CHANGES} (got another {path})")
        if not isinstance(found, Array) or not jnp.issubdtype(found.dtype, jnp.floating):
            raise ValueError(
                "setup: the model must give one array of real outputs (got "
                f"{getattr(found, 'dtype', type(found).__name__)})"
            )
        return found, list(inputs(model, x).values())

    jax.make_jaxpr(call)(state, x)


def _moving(model: nnx.Module) -> dict[str, Any]:
    """What a call may change: all variables but parameters and frozen weights, by path."""
    fixed = nnx.Param | Frozen
    return {
        ".".join(map(str, path)): variable[...]
        for path, variable in nnx.to_flat_state(nnx.state(model))
        if not isinstance(variable, fixed)
    }


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """What JAX and Flax say of models that can not be measured, as a user's error.

    Raises:
        ValueError: in place of theirs.
    """
    try:
        yield
    except flax.errors.TraceContextError as error:
        raise ValueError(f"{_CHANGES} ({str(error).splitlines()[0]})") from None
    except TypeError as error:
        # Of a traced value that has left its trace JAX sometimes only says how many there are.
        left = isinstance(error, jax.errors.UnexpectedTracerError)
        if not left and "Computation compiled for" not in str(error):
            raise
        raise ValueError(
            "setup: LoRA layers must be called on whole arrays, outside of jax.vmap, jax.jit and "
            "other transformations, within which their input can not be seen"
        ) from None
