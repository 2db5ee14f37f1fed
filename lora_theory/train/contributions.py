"""δ¹, δ², δ³: what A alone, B alone and both together add to an update of f (section 3.1)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lora_theory.arrays import Array
from lora_theory.train.layers import fresh, split_factors


class Deltas(NamedTuple):
    """Contributions to one update of f, each of the shape of f: Δf = δ¹ + δ² + δ³.

    Attributes:
        delta1: only A moved.
        delta2: only B moved.
        delta3: what both moves together add.
    """

    delta1: Array
    delta2: Array
    delta3: Array


def deltas(before: nnx.Module, after: nnx.Module, x: Any) -> Deltas:
    """δ¹, δ², δ³ of an update of any model, by moving one factor at a time.

    With f(A, B) the outputs on x, all layers' A (or B) taken together:
    δ¹ = f(A', B) − f(A, B), δ² = f(A, B') − f(A, B), δ³ the rest of f(A', B') − f(A, B).

    Args:
        before, after: the model before and after the update: same structure, and the same
            weights apart from A and B (those of `before` are used). LoRA layers are this
            library's or Flax's.
        x: its inputs.

    Raises:
        ValueError: a model without factors, or with LoRA parameters that are neither A nor B;
            factors of other shapes; outputs that are not one array.

    >>> import jax, jax.numpy as jnp
    >>> from lora_theory.models.toys import LinearToy
    >>> before = LinearToy(4, init="both", key=jax.random.key(0))
    >>> after = LinearToy(4, init="both", key=jax.random.key(1))
    >>> x = jnp.ones((4, 1))
    >>> bool(jnp.allclose(sum(deltas(before, after, x)), after(x) - before(x)))
    True
    """
    return contributions(outputs(before, after, x))


def outputs(before: nnx.Module, after: nnx.Module, x: Any) -> Array:
    """f(A, B), f(A', B), f(A, B'), f(A', B'), stacked."""
    graph, a, b, rest = split_factors(before)
    _, new_a, new_b, _ = split_factors(after)
    if not jax.tree.leaves((a, b)):
        raise ValueError("before: must have a LoRA layer of this library or of Flax (got none)")
    shapes = [jax.tree.map(jnp.shape, factors) for factors in ((a, b), (new_a, new_b))]
    if jax.tree.leaves(shapes[0]) != jax.tree.leaves(shapes[1]):
        raise ValueError("after: must have factors of the shapes that those of before have")

    def f(moves: Array) -> Array:
        def choose(move: Array, old: Any, new: Any) -> Any:
            return jax.tree.map(lambda u, v: jnp.where(move, v, u), old, new)

        chosen = choose(moves[0], a, new_a), choose(moves[1], b, new_b)
        found = nnx.merge(graph, *chosen, fresh(rest))(x)
        if not isinstance(found, Array):
            raise ValueError(f"before: must give one array of outputs (got {type(found).__name__})")
        return found

    # Compiled once, and one after the other: equal factors give equal bits.
    return jax.lax.map(f, jnp.array([[0, 0], [1, 0], [0, 1], [1, 1]], bool))


def contributions(outputs: Array) -> Deltas:
    """δ¹, δ², δ³ from what `outputs` gives."""
    old, one, two, both = outputs
    # In this order what is exactly 0 stays so: without a move of A, both is two and one is old.
    return Deltas(one - old, two - old, (both - two) - (one - old))
