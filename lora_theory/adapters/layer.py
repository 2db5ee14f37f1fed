"""The LoRA layer W* + α r^−γ · B A (Definition 1), its initialisations, and its merge."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from lora_theory import arguments
from lora_theory.arrays import Array, Float, PRNGKey
from lora_theory.keys import layer_key
from lora_theory.terms import Init

_LEAST, _MOST = (float(size) for size in (jnp.finfo("float32").tiny, jnp.finfo("float32").max))


class FactorA(nnx.LoRAParam):
    """The type of A (r, n): what reads the layer's input."""


class FactorB(nnx.LoRAParam):
    """The type of B (m, r): what writes the layer's output."""


class EmbeddingFactor(nnx.LoRAParam):
    """The type of both factors of an adapted embedding, which LoRA+ trains at a rate of its own."""


class LayerInput(nnx.Intermediate):
    """The type under which `nnx.capture` finds the columns Z that a LoRA layer reads."""


class Frozen(nnx.Variable):
    """The type of weights that are never trained; not an `nnx.Param`, so `wrt=` skips it."""


class LoRA(nnx.Module):
    """A frozen weight with a trained low-rank update: W = W* + α r^−γ · B A.

    γ = 1 is the paper's α/r; γ = 1/2 is rsLoRA. Initialisation (section 3.1, appendix C.1.1):

    ==========================  =========  =========
    init                        A          B
    ==========================  =========  =========
    "A" (Init[1])               N(0, 1/n)  0
    "B" (Init[2])               0          N(0, r^ρ)
    "both" (the two-layer toy)  N(0, 1/n)  N(0, r^ρ)
    ==========================  =========  =========

    ρ = 0 in the LoRA+ paper; ρ = −1, B ~ N(0, 1/r), where the best rate is followed over ranks
    (arXiv 2602.06204).

    Args:
        in_features: n, columns of A.
        out_features: m, rows of B.
        rank: r.
        alpha: α of the multiplier α r^−γ; without it α = r^γ, a multiplier of exactly 1.
        gamma: γ of the multiplier.
        init: which factors are random at the start.
        rho: ρ of the variance r^ρ of a random B.
        weight: W* (m, n), or None for W* = 0.
        axis: where the features of an input are: 0 (samples are columns, Z (n, N), as in the paper)
            or -1 (samples come first, Z (…, n), as in most networks).
        key: PRNG key of the initial factors, or a pair of keys, of A and of B.

    Raises:
        ValueError: a size below 1, r > min(n, m), an unknown init, a W* of another shape, or an
            α, γ or ρ that is no usable number.

    >>> import jax, jax.numpy as jnp
    >>> layer = LoRA(64, 32, 4, alpha=8.0, init="A", key=jax.random.key(0))
    >>> layer.scale
    2.0
    >>> layer(jnp.ones((64, 5))).shape  # B = 0: the update starts at zero
    (32, 5)
    >>> layer.merged().shape
    (32, 64)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        *,
        alpha: float | None = None,
        gamma: float = 1.0,
        init: Init = "A",
        rho: float = 0.0,
        weight: Float[Array, "m n"] | None = None,
        axis: int = 0,
        key: PRNGKey | tuple[PRNGKey, PRNGKey],
    ):
        in_features = arguments.integer("in_features", in_features)
        out_features = arguments.integer("out_features", out_features)
        rank = arguments.integer("rank", rank)
        if rank > min(in_features, out_features):
            raise ValueError(
                f"rank: must be at most min(n, m) = {min(in_features, out_features)} (got {rank})"
            )
        if init not in ("A", "B", "both"):
            raise ValueError(f'init: must be "A", "B" or "both" (got {init!r})')
        if weight is not None and jnp.shape(weight) != (out_features, in_features):
            raise ValueError(
                f"weight: must have shape {(out_features, in_features)} (got {jnp.shape(weight)})"
            )
        if axis not in (0, -1):
            raise ValueError(f"axis: must be 0 or -1 (got {axis})")
        spread = _held("rho", rho, "r^(ρ/2)", 1.0, rank, arguments.finite("rho", rho) / 2)
        scale = _scale(rank, alpha, gamma)
        key_a, key_b = key if isinstance(key, tuple) else jax.random.split(layer_key(key))
        a = jax.random.normal(key_a, (rank, in_features)) / jnp.sqrt(in_features)
        b = jax.random.normal(key_b, (out_features, rank))
        if rho != 0:
            b = spread * b
        self.lora_a = FactorA(jnp.zeros_like(a) if init == "B" else a)
        self.lora_b = FactorB(jnp.zeros_like(b) if init == "A" else b)
        self.weight = None if weight is None else Frozen(jnp.asarray(weight))
        self.axis = axis
        self.scale = scale

    def down(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """α r^−γ · Z_A = α r^−γ · A Z, the r features that B reads, on the axis of Z's features."""
        self._show(z)
        z_a = self._times(self.lora_a[...], z)
        # A multiplier of 1 costs no pass over the features.
        return z_a if self.scale == 1.0 else self.scale * z_a

    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """W Z = W* Z + α r^−γ · B A Z, with the m outputs on the axis of Z's features.

        Raises:
            ValueError: an input of another shape.
        """
        z_b = self._times(self.lora_b[...], self.down(z))
        return z_b if self.weight is None else self._times(self.weight[...], z) + z_b

    def seen_by(self, w: Float[Array, "m"], z: Float[Array, "..."]) -> Float[Array, "..."]:
        """α r^−γ · wᵀ B A Z: what an output with weights w (m,) reads of the update, one a sample.

        As ((wᵀ B) A) Z, forward and backward pass take one product of Z with a vector each;
        (wᵀ B)(A Z) takes r, and wᵀ (B (A Z)) also 2 r m N operations a pass for Z_B.
        """
        self._show(z)
        row = w @ self.lora_b[...]
        return self._times((row if self.scale == 1.0 else self.scale * row) @ self.lora_a[...], z)

    def merged(self) -> Float[Array, "m n"]:
        """The matrix W = W* + α r^−γ · B A (m, n), for use without the adapter."""
        update = self.scale * (self.lora_b[...] @ self.lora_a[...])
        return update if self.weight is None else self.weight[...] + update

    def _show(self, z: Float[Array, "..."]) -> None:
        """Check the input, and let `nnx.capture` see it as columns; outside of one, sow would warn.

        A third axis beside columns would be taken for a batch of matrices, and fit by chance.
        """
        features = self.lora_a.shape[1]
        if not hasattr(z, "shape") or not z.shape or z.shape[self.axis] != features:
            raise arguments.refusal("z", f"of {features} features on axis {self.axis}", z)
        if self.axis == 0 and len(z.shape) > 2:
            raise arguments.refusal("z", "a matrix, its features on axis 0", z)
        if hasattr(self, "__captures__"):
            self.sow(LayerInput, "z", z if self.axis == 0 else jnp.moveaxis(z, -1, 0))

    def _times(self, matrix: Float[Array, "..."], z: Float[Array, "..."]) -> Float[Array, "..."]:
        """A matrix (out, in), or one row of it (in,), applied to the features of z."""
        return matrix @ z if self.axis == 0 else z @ matrix.T


def _scale(rank: int, alpha: float | None, gamma: float) -> float:
    """α r^−γ, or 1 without α: a multiplier of 0 or ∞ in single precision trains nothing."""
    power = arguments.finite("gamma", gamma)
    if alpha is None:
        return 1.0
    factor = arguments.positive("alpha", alpha)
    return _held("alpha, gamma", (alpha, gamma), "α r^−γ", factor, rank, -power)


def _held(name: str, given: object, what: str, factor: float, rank: int, power: float) -> float:
    """factor · r^power, if single precision can hold it."""
    try:
        found = factor * float(rank) ** power
    except OverflowError:
        found = math.inf
    if not _LEAST <= found <= _MOST:
        wanted = f"such that {what} is from {_LEAST:.1e} to {_MOST:.1e} at r = {rank}"
        raise arguments.refusal(name, wanted, given)
    return found
