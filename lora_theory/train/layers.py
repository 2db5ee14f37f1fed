"""The LoRA layers of a model, this library's and Flax's: their factors, and what they read.

Flax keeps A as `lora_a` (n, r) and B as `lora_b` (r, m) and has samples first; here every layer is
seen as the paper writes it, Z_B = s B A Z with A (r, n), B (m, r) and samples as columns.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lora_theory.adapters.layer import FactorA, FactorB, LayerInput, LoRA
from lora_theory.arrays import Array

Path = tuple[Any, ...]


class Layer(NamedTuple):
    """One LoRA layer: A (r, n), B (m, r) and the multiplier s."""

    a: Array
    b: Array
    scale: float


def layers(model: nnx.Module) -> dict[Path, Layer]:
    """Every LoRA layer by its path in the model.

    Raises:
        ValueError: one of a class with a call of its own, whose multiplier nobody knows.

    >>> from lora_theory.models.toys import LinearToy
    >>> import jax
    >>> list(layers(LinearToy(4, init="A", key=jax.random.key(0))))
    [('lora',)]
    >>> layers(nnx.LoRALinear(4, 3, lora_rank=2, rngs=nnx.Rngs(0)))["lora",].a.shape
    (2, 4)
    """
    found = {}
    for path, module in nnx.iter_modules(model):
        for kind in (LoRA, nnx.LoRA):
            if isinstance(module, kind) and type(module).__call__ is not kind.__call__:
                raise ValueError(
                    f"model: the LoRA layer {_name(path)} must compute as {kind.__name__} does "
                    f"(got {type(module).__name__} with a __call__ of its own)"
                )
        if isinstance(module, LoRA):
            found[path] = Layer(module.lora_a[...], module.lora_b[...], module.scale)
        elif isinstance(module, nnx.LoRA):
            found[path] = Layer(module.lora_a[...].T, module.lora_b[...].T, 1.0)
    return found


def scale_factors(model: nnx.Module, by_a: Any, by_b: Any) -> None:
    """Multiply A and B of every layer; what layers share, once."""
    done: set[int] = set()
    for _, module in nnx.iter_modules(model):
        if isinstance(module, LoRA | nnx.LoRA):
            for factor, by in ((module.lora_a, by_a), (module.lora_b, by_b)):
                if id(factor) not in done:
                    done.add(id(factor))
                    factor[...] *= by


def split_factors(model: nnx.Module) -> tuple[Any, Any, Any, Any]:
    """`nnx.split` into all A, all B and the rest.

    Factors are what has their type (`FactorA`, `FactorB`) and those of Flax's LoRA layers.

    Raises:
        ValueError: LoRA parameters that are neither, as those of an embedding.
    """
    of_flax = [path for path, module in nnx.iter_modules(model) if isinstance(module, nnx.LoRA)]
    is_a, is_b = (
        nnx.Any(kind, _at({(*path, name) for path in of_flax}))
        for kind, name in ((FactorA, "lora_a"), (FactorB, "lora_b"))
    )
    parts: Any = nnx.split(model, is_a, is_b, ...)
    graph, a, b, rest = parts
    for path, value in nnx.to_flat_state(rest):
        if isinstance(value, nnx.LoRAParam):
            raise ValueError(
                f"model: {_name(path)} must be A or B of a LoRA layer of this library or of Flax "
                f"(got {type(value).__name__}, of neither)"
            )
    return graph, a, b, rest


def _at(paths: set[Path]) -> Callable[[Path, Any], bool]:
    """The NNX filter of what is at one of some paths."""
    return lambda path, value: tuple(path) in paths


def fresh(state: Any) -> Any:
    """The same state in variables of this trace, which transformations of Flax within ask for."""
    return jax.tree.map(lambda leaf: leaf, state)


def inputs(model: nnx.Module, x: Any) -> dict[Path, Array]:
    """The columns (n, …) that each LoRA layer reads when the model is called, of all its calls.

    Raises:
        ValueError: a layer that is not called.
    """
    graph, state = nnx.split(model)
    seen = nnx.merge(graph, fresh(state))  # Of which the classes are changed below.
    for _, module in nnx.iter_modules(seen):
        if isinstance(module, nnx.LoRA):
            module.__class__ = _showing(type(module))
    _, captured = nnx.capture(lambda model, x: model(x), LayerInput)(seen, x)
    found = nnx.to_pure_dict(captured)
    return {path: _columns(found, path) for path in layers(model)}


@functools.cache
def _showing(kind: Any) -> Any:
    """The same layer of Flax, which also lets `nnx.capture` see what it reads."""

    def call(self: Any, x: Array, *args: Any, **kwargs: Any) -> Any:
        self.sow(LayerInput, "z", jnp.moveaxis(x, -1, 0))
        return kind.__call__(self, x, *args, **kwargs)

    return type(kind)(kind.__name__, (kind,), {"__call__": call})


def _columns(found: Any, path: Path) -> Array:
    try:
        for key in path:
            found = found[key]
        read = found["z"]
    except KeyError:
        raise ValueError(
            f"model: the LoRA layer {_name(path)} must be called on an input to be measured (it is "
            "not used, or only its .merged() is)"
        ) from None
    return jnp.concatenate([z.reshape(z.shape[0], -1) for z in read], axis=1)


def _name(path: Path) -> str:
    return ".".join(map(str, path)) or "itself"
