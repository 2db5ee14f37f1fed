"""Both ends of a symmetric operator's spectrum from products alone: Lanczos, reorthogonalised."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lora_theory.arrays import Array, Float


class Ends(NamedTuple):
    """The least and the largest eigenvalue, and how far each is known.

    Attributes:
        low, high: the ends. Ritz values: up to rounding, low is never below the true end and high
            never above it.
        low_residual, high_residual: ‖H u − θ u‖ of each end θ with its vector u, ‖u‖ = 1. Within
            that distance of θ lies an eigenvalue; the error is about its square over the distance
            of the next eigenvalue.
    """

    low: Any
    high: Any
    low_residual: Any
    high_residual: Any

    @property
    def zero(self) -> bool:
        """Whether the operator is exactly 0: every product was."""
        return not any(self)


def ends(
    product: Callable[[Float[Array, "d"]], Float[Array, "d"]],
    dimension: int,
    *,
    iterations: int,
    dtype: Any = jnp.float32,
) -> Ends:
    """The ends of the spectrum of a symmetric H, of which only products v ↦ H v are known.

    An orthonormal basis V of the Krylov space of a random start (the same in every call) is
    built, each H v orthogonalised twice against all of V, and the ends are those of V H Vᵀ
    (Rayleigh and Ritz). H and −H are alike to it, so it does not stall on a pair ±λ as power
    iteration does. Where the Krylov space ends early (H of low rank, repeated eigenvalues), the
    basis goes on from some other vector orthogonal to it, the start shifted where rounding errors
    give none: a multiple eigenvalue is found like any other, and as many iterations as dimensions
    give the whole of H. Of H = 0 everything found is exactly 0.

    Args:
        product: v (d,) -> H v (d,), traceable.
        dimension: d.
        iterations: products that are taken, at most d.
        dtype: of the vectors.

    Returns:
        The ends, as scalars that may be traced.

    >>> diagonal = jnp.concatenate([jnp.array([-3.0, 3.0]), jnp.linspace(-1, 1, 500)])
    >>> found = ends(lambda v: diagonal * v, 502, iterations=30)
    >>> [f"{value:.3f}" for value in found[:2]]
    ['-3.000', '3.000']
    """
    count = min(iterations, dimension)

    start = jnp.asarray(np.random.default_rng(0).standard_normal(dimension), dtype)

    def step(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, images, v = carry
        image = product(v)
        basis, images = basis.at[j].set(v), images.at[j].set(image)
        once = _beside(basis, image)
        twice = _beside(basis, once)
        # What a second pass still takes half of was nothing but rounding errors.
        goes_on = _norm(twice) > 0.5 * _norm(once)
        follows = jax.lax.cond(
            goes_on,
            lambda: twice,
            lambda: _beside(basis, _beside(basis, jnp.roll(start, j + 1))),
        )
        return basis, images, _unit(follows)

    empty = jnp.zeros((count, dimension), dtype)
    basis, images, _ = jax.lax.fori_loop(0, count, step, (empty, empty, _unit(start)))
    projected = basis @ images.T
    values, vectors = jnp.linalg.eigh(0.5 * (projected + projected.T))
    found, weights = values[jnp.array([0, -1])], vectors[:, jnp.array([0, -1])].T
    residuals = weights @ images - found[:, None] * (weights @ basis)
    return Ends(*found, *jax.vmap(_norm)(residuals))


def _beside(basis: Array, v: Array) -> Array:
    """What of v is orthogonal to the rows of the basis; rows of zeros do nothing."""
    return v - (basis @ v) @ basis


def _norm(v: Array) -> Array:
    """‖v‖, scaled first: small entries do not underflow."""
    scale = jnp.max(jnp.abs(v))
    return scale * jnp.linalg.norm(v / jnp.where(scale > 0, scale, 1.0))


def _unit(v: Array) -> Array:
    norm = _norm(v)
    return v / jnp.where(norm > 0, norm, 1.0)
