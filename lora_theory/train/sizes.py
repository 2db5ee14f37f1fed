"""How large everything in a LoRA model is after an update, in powers of 2."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lora_theory.arrays import Array
from lora_theory.train.contributions import contributions, outputs
from lora_theory.train.layers import Layer, Path, inputs, layers

# A contribution below so many times eps · |f| is rounding of the outputs of which it is made.
_ROUNDED = 64


def sizes_of(
    before: nnx.Module, after: nnx.Module, moves: dict[Path, Layer], x: Any
) -> dict[str, Array]:
    """log2 of the root mean squares of f, its contributions, and what each layer holds.

    Args:
        before, after: the model before and after an update.
        moves: what the optimizer added to the factors of each layer.
        x: the model's inputs.

    Returns:
        quantity -> `log2 |v|`: −inf where v is exactly 0, inf where it is not finite, NaN where v
        is a contribution to f as small as the rounding of f. Layers come with their path if there
        are several.
    """
    f = outputs(before, after, x)
    # With all else as it was; a head that trains too moves f further.
    sizes = {"f": log2_rms(f[3])}
    hidden = log2_rms(jnp.abs(f).max(axis=0)) + jnp.log2(_ROUNDED * coarsest(before, x))
    for name, delta in contributions(f)._asdict().items():
        size = log2_rms(delta)
        sizes[name] = jnp.where((size < hidden) & ~jnp.isneginf(size), jnp.nan, size)
    old, new, read = layers(before), layers(after), inputs(after, x)
    for path, move in moves.items():
        prefix = f"{'.'.join(map(str, path))}." if len(moves) > 1 else ""
        for name, value in _layer_sizes(old[path], new[path], move, read[path]).items():
            sizes[prefix + name] = log2_rms(value)
    return sizes


def log2_rms(v: Array) -> Array:
    """log2 of the root mean square: −inf of an exact 0, inf of what is not finite.

    Scaled first, so that nothing else has either.
    """
    largest = jnp.max(jnp.abs(v))
    unit = jnp.maximum(largest, jnp.finfo(v.dtype).tiny)
    root = 1 / jnp.sqrt(unit)  # Twice: 1 / unit may be too small a number.
    size = 0.5 * jnp.log2(jnp.mean(jnp.square(root * v * root))) + jnp.log2(unit)
    return jnp.where(largest == 0, -jnp.inf, jnp.where(largest < jnp.inf, size, jnp.inf))


def _layer_sizes(before: Layer, after: Layer, move: Layer, z: Array) -> dict[str, Array]:
    """What is measured of one layer; the moves are the optimizer's own, so nothing cancels."""
    z_a, dz_a, s = before.a @ z, move.a @ z, before.scale
    parts = {
        "delta1_Z_B": s * before.b @ dz_a,
        "delta2_Z_B": s * move.b @ z_a,
        "delta3_Z_B": s * move.b @ dz_a,
    }
    new_z_a = after.a @ z
    return {
        "A": after.a,
        "B": after.b,
        "Z_A": new_z_a,
        "Z_B": s * after.b @ new_z_a,
        "dA": move.a,
        "dB": move.b,
        "dZ_A": dz_a,
        "dZ_B": parts["delta1_Z_B"] + parts["delta2_Z_B"] + parts["delta3_Z_B"],
        **parts,
    }


def coarsest(model: nnx.Module, x: Any) -> float:
    """The largest ε of the floating types in which a model computes its outputs."""
    graph, state = nnx.split(model)
    traced = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(state, x)
    kinds = {*_floating(traced.jaxpr), *(aval.dtype for aval in traced.out_avals)}
    return max(float(jnp.finfo(kind).eps) for kind in kinds)


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
