"""LoRA-RITE (arXiv 2410.20625): moments that do not depend on how B A is split into factors."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from lora_theory.adapters.factors import Direction, one_by_one, reciprocal, spectrum, transposed
from lora_theory.arrays import Array, Float

_eigh, _eigvalsh = one_by_one(jnp.linalg.eigh), one_by_one(jnp.linalg.eigvalsh)


class Moments(NamedTuple):
    """What LoRA-RITE keeps of a factor X whose partner is Y = U R, X Yᵀ being B A or its transpose.

    Attributes:
        basis: U (…, k, r) of the last step.
        first: M̄ (…, rows of X, r), in that basis.
        second: V̄ (…, r, r), in that basis.
        escaped: ρ (…), what V̄ has lost as the basis turned.
    """

    basis: Array
    first: Array
    second: Array
    escaped: Array


class RiteState(NamedTuple):
    """Steps so far, and the moments of A and of B."""

    steps: Array
    a: Moments
    b: Moments


def rite(b1: Any, b2: Any, eps: Any) -> Direction:
    """Algorithm 1 of LoRA-RITE; for B, whose partner is Aᵀ (for A exchange the two):

        Aᵀ = U R,  g = g_B R⁻¹,  P = Uᵀ U_old
        V̄ = β₂ P V̄_old Pᵀ + (1 − β₂) gᵀg / m,  ρ = β₂ (ρ_old + d(V̄_old, P V̄_old Pᵀ))
        M̄ = β₁ M̄_old Pᵀ + (1 − β₁) g (V̄ + ρ)^−1/2,  and M̄ R⁻ᵀ takes the place of g_B .

    d is the largest loss of an eigenvalue, λ_i before less λ_i after, in order of size. U and R
    come from an SVD: any orthonormal basis gives the same update, the paper's polar decomposition
    or the QR of its authors' code.

    Inverses are pseudo-inverses. The root of V̄ + ρ has that of eigenvalues above the rounding u m
    of a sum over m rows, u being the precision; so it blows rounding up to u^1/2 at most, and R⁻¹
    has that of singular values above u^1/2 of the largest. Neither is in the paper, and in that
    code only a cut of R⁻¹ at rounding: with a gradient of lower rank than r, as that of one output,
    a model that starts at B = 0 would diverge at any rate.

    Args:
        b1: β₁.
        b2: β₂; β₁ and β₂ are bias-corrected as in the authors' PyTorch code, β (1 − β^(t−1)) /
            (1 − β^t), which averages over steps and rows. None is Algorithm 1 to the letter:
            V̄ and ρ are sums over steps, gᵀg is not divided by m, β₁ is not corrected.
        eps: ε in 1 / ((λ + ρ)^1/2 + ε) of each eigenvalue λ of V̄, as in that code.
    """

    def init(a: Array, b: Array) -> RiteState:
        return RiteState(jnp.zeros([], jnp.int32), _none(transposed(a), b), _none(b, transposed(a)))

    def update(
        a: Array, b: Array, g_a: Array, g_b: Array, state: RiteState
    ) -> tuple[Array, Array, RiteState]:
        t = state.steps + 1
        now: tuple[Any, Any] = b1, None
        if b2 is not None:
            now = corrected(b1, t, a.dtype), corrected(b2, t, a.dtype)
        move_a, of_a = _moved(transposed(g_a), b, state.a, now, eps)
        move_b, of_b = _moved(g_b, transposed(a), state.b, now, eps)
        return transposed(move_a), move_b, RiteState(t, of_a, of_b)

    return Direction(init, update)


def corrected(decay: Any, step: Any, dtype: Any = float) -> Array:
    """β (1 − β^(t−1)) / (1 − β^t): 0 at t = 1, and a mean over all steps so far ever after.

    >>> float(corrected(0.9, 1)), round(float(corrected(0.5, 2)), 4)
    (0.0, 0.3333)
    """
    decay = jnp.asarray(decay, jnp.result_type(dtype))
    return decay * (1 - decay ** (step - 1)) / (1 - decay**step)


def _none(x: Array, partner: Array) -> Moments:
    """No moments yet: a basis of zeros carries nothing over to the first step."""
    *layers, rows, r = x.shape
    basis = jnp.zeros((*layers, max(partner.shape[-2], r), r), x.dtype)
    zero = jnp.zeros((*layers, r, r), x.dtype)
    return Moments(basis, jnp.zeros((*layers, rows, r), x.dtype), zero, zero[..., 0, 0])


def _moved(
    gradient: Float[Array, "..."],
    partner: Float[Array, "..."],
    old: Moments,
    decays: tuple[Any, Any],
    eps: Any,
) -> tuple[Array, Moments]:
    """The direction of X (…, rows, r), to be subtracted, and its new moments."""
    b1, b2 = decays
    split = spectrum(partner, math.sqrt(jnp.finfo(partner.dtype).eps))
    inverse, turn = split.inverse(), transposed(split.basis) @ old.basis
    g = gradient @ inverse
    second = _symmetric(turn @ old.second @ transposed(turn))
    escaped = old.escaped + _loss(old.second, second)
    square = transposed(g) @ g
    if b2 is None:
        second = second + square
    else:
        second, escaped = b2 * second + (1 - b2) * square / g.shape[-2], b2 * escaped
    whitened = g @ _inverse_root(second, escaped, eps, g.shape[-2])
    first = b1 * old.first @ transposed(turn) + (1 - b1) * whitened
    made = (split.basis, first, second, escaped)
    kept = Moments(*(new.astype(was.dtype) for new, was in zip(made, old, strict=True)))
    return kept.first @ transposed(inverse), kept


def _loss(before: Array, after: Array) -> Array:
    """max_i λ_i(before) − λ_i(after), at least 0, eigenvalues in order of size."""
    gone = _eigvalsh(before) - _eigvalsh(after)
    return jnp.maximum(gone.max(axis=-1), 0)


def _inverse_root(second: Array, escaped: Array, eps: Any, rows: int) -> Array:
    """(V̄ + ρ I)^−1/2 with ε, of what is above the rounding of a sum over rows; else 0.

    Of a gradient of lower rank than r the rest is rounding, which would be blown up to the size of
    the gradient itself, and through R⁻¹ of what it moves to any size.
    """
    values, vectors = _eigh(_symmetric(second))
    squares = jnp.maximum(values, 0) + escaped[..., None]
    rounding = jnp.finfo(squares.dtype).eps * max(rows, squares.shape[-1]) * squares[..., -1:]
    root = reciprocal(jnp.sqrt(squares) + eps, squares > rounding)
    return (vectors * root[..., None, :]) @ transposed(vectors)


def _symmetric(matrix: Array) -> Array:
    return (matrix + transposed(matrix)) / 2
