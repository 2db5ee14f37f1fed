"""wᵀ φ(C + B H) and its gradients through the gate alone: what the two-layer toy takes time for."""

from typing import Any

import jax
import jax.numpy as jnp

from lora_theory.arrays import Array, Float

# Up to this rank a sum of outer products, fused with the comparison, beats a matrix product:
# 19 µs against 42 µs a gate of 100 × 1100 on one core at r = 4.
_UNROLLED_RANK = 8


@jax.custom_vjp
def relu_readout(
    w: Float[Array, "n"],
    b: Float[Array, "n r"],
    h: Float[Array, "r N"],
    offset: Float[Array, "n N"] | None = None,
) -> Float[Array, "N"]:
    """f = wᵀ φ(C + B H), through the gate M = 1{C + BH > 0} alone.

    With S = (w ∘ B)ᵀ M: f = Σ_r S ∘ H + Σ_n M ∘ (w ∘ C). The backward pass reuses M and S, so
    nothing of size n × N but the gate is ever stored (twice as fast as autodiff through φ on a
    CPU): dB = w ∘ (M (g ∘ H)ᵀ), dH = S ∘ g, dC = w ∘ M ∘ g,
    dw = rowsum(B ∘ M (g ∘ H)ᵀ + M ∘ C ∘ g). An offset takes two thirds more time; with its part
    as a product, wᵀ (M ∘ C), it would take three times as much.

    Args:
        w: (n,) output weights.
        b: (n, r) the factor B.
        h: (r, N) the features A Z.
        offset: (n, N) C, as W* Z of a frozen weight; None for 0.

    Returns:
        f, shape (N,).

    >>> import jax.numpy as jnp
    >>> w, b, h = jnp.array([1.0, -1.0]), jnp.array([[1.0], [-1.0]]), jnp.array([[2.0, -3.0]])
    >>> relu_readout(w, b, h).tolist()
    [2.0, -3.0]
    >>> relu_readout(w, b, h, jnp.array([[-1.0, 4.0], [0.0, 0.0]])).tolist()
    [1.0, -2.0]
    """
    return _relu_readout_forward(w, b, h, offset)[0]


def _gate(b: Array, h: Array, offset: Array | None) -> Array:
    rank = h.shape[0]
    if rank > _UNROLLED_RANK:
        preactivation = b @ h
    else:
        preactivation = jnp.asarray(sum(b[:, i, None] * h[None, i, :] for i in range(rank)))
    if offset is not None:
        preactivation = preactivation + offset
    return (preactivation > 0).astype(h.dtype)


def _relu_readout_forward(
    w: Array, b: Array, h: Array, offset: Array | None
) -> tuple[Array, tuple[Array | None, ...]]:
    gate = _gate(b, h, offset)
    s = (w[:, None] * b).T @ gate
    f = (s * h).sum(axis=0)
    if offset is not None:
        f = f + (gate * (w[:, None] * offset)).sum(axis=0)
    return f, (w, b, h, offset, gate, s)


def _relu_readout_backward(
    saved: tuple[Any, ...], g: Float[Array, "N"]
) -> tuple[Array, Array, Array, Array | None]:
    w, b, h, offset, gate, s = saved
    mgh = gate @ (g[None, :] * h).T
    dw, db, dh = (b * mgh).sum(axis=1), w[:, None] * mgh, s * g[None, :]
    if offset is None:
        return dw, db, dh, None
    # The offset's own gradient is dropped by the compiler where nobody asks for it.
    return dw + (gate * offset) @ g, db, dh, w[:, None] * gate * g[None, :]


relu_readout.defvjp(_relu_readout_forward, _relu_readout_backward)
