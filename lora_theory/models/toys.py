"""The paper's toy models: the linear one (eq. 2), a LoRA layer alone, the two-layer one (eq. 3).

A LoRA layer on frozen features stands between the last two: the inputs of the two-layer toy,
without the activation above the layer.

A model is an NNX module of two parts, f(x) = readout(features(x)): `features` holds what is
frozen, so the engine computes it once, and `readout` holds every trained factor. Weights are drawn
from the half of the key that is for models (`keys.model_half`).
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from lora_theory import arguments
from lora_theory.adapters.layer import Frozen, LoRA
from lora_theory.arrays import Array, Features, Float, Inputs, Outputs, PRNGKey
from lora_theory.keys import model_half
from lora_theory.models.relu_readout import relu_readout
from lora_theory.terms import PRETRAINED, Init, Pretrained


class Model(Protocol):
    """What the engine asks of a model; see `LinearToy` for the shortest example."""

    def features(self, x: Inputs) -> Features:
        """The frozen part: inputs x (d, N) to features Z (n, N)."""
        ...

    def readout(self, z: Features) -> Outputs:
        """The trained part: features Z (n, N) to outputs f (N,)."""
        ...


class LinearToy(nnx.Module):
    """f(x) = b · aᵀ x (eq. 2 with W* = 0): a LoRA layer of rank 1 and one output.

    Args:
        width: n, the number of inputs.
        init: "A" (Init[1]: a ~ N(0, 1/n), b = 0), "B" (Init[2]: a = 0, b ~ N(0, 1)) or "both".
        key: PRNG key of a and b.

    >>> import jax, jax.numpy as jnp
    >>> model = LinearToy(64, init="A", key=jax.random.key(0))
    >>> model(jnp.ones((64, 3))).tolist()  # b = 0
    [0.0, 0.0, 0.0]
    """

    def __init__(self, width: int, *, init: Init, key: PRNGKey):
        width = arguments.integer("width", width)
        self.lora = LoRA(width, 1, 1, init=init, key=_pair(model_half(key)))

    def features(self, x: Inputs) -> Features:
        """Z = x: nothing comes before the adapter."""
        return x

    def readout(self, z: Features) -> Outputs:
        """f = b · aᵀ Z, shape (N,)."""
        return self.lora(z)[0]

    def __call__(self, x: Inputs) -> Outputs:
        """f(x) for the columns x (n, N), shape (N,)."""
        return self.readout(self.features(x))


class LayerToy(nnx.Module):
    """f(x) = W_out s B A x: a whole LoRA layer, n to n, under a fixed readout (Theorem 1).

    W_out ~ N(0, 1/n²) (1, n): the 1/n readout under which Z_B = Θ(1) gives f = Θ(1) also where
    the update of B is aligned with W_out, as it is after one step.

    Args:
        width: n, both inputs and outputs of the layer.
        rank: r.
        alpha, gamma: of the multiplier s = α r^−γ; without alpha it is 1.
        init: "A" (Init[1]), "B" (Init[2]) or "both".
        rho: ρ of the variance r^ρ of a random B.
        key: PRNG key of all weights.

    >>> import jax, jax.numpy as jnp
    >>> model = LayerToy(64, 4, init="A", key=jax.random.key(0))
    >>> model(jnp.ones((64, 3))).tolist()  # B = 0
    [0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        width: int,
        rank: int,
        *,
        alpha: float | None = None,
        gamma: float = 1.0,
        init: Init,
        rho: float = 0.0,
        key: PRNGKey,
    ):
        _check_sizes(1, width, rank)
        options = {"alpha": alpha, "gamma": gamma, "init": init, "rho": rho}
        self._draw(width, rank, options, model_half(key))

    def _draw(self, width: int, rank: int, options: dict[str, Any], key: PRNGKey) -> None:
        key_lora, key_out = jax.random.split(key)
        self.lora = LoRA(width, width, rank, **options, key=_pair(key_lora))
        self.w_out = Frozen(jax.random.normal(key_out, (width,)) / width)

    def features(self, x: Inputs) -> Features:
        """Z = x: nothing comes before the adapter."""
        return x

    def readout(self, z: Features) -> Outputs:
        """f = W_out s B A Z, shape (N,)."""
        return self.lora.seen_by(self.w_out[...], z)

    def __call__(self, x: Inputs) -> Outputs:
        """f(x) for the columns x (n, N), shape (N,)."""
        return self.readout(self.features(x))


class FeatureLayerToy(LayerToy):
    """f(x) = W_out s B A φ(W_in x), φ = ReLU: the whole LoRA layer of `LayerToy` on features.

    W_in ~ N(0, 1) (n, d) is frozen, so that the inputs x (d, N) are the same at every width, and
    Z = φ(W_in x) has Θ(1) entries. W_out ~ N(0, 1/n²) as in `LayerToy`.

    Args:
        inputs: d.
        width: n, both inputs and outputs of the layer.
        rank: r.
        alpha, gamma: of the multiplier s = α r^−γ; without alpha it is 1.
        init: "A" (Init[1]), "B" (Init[2]) or "both".
        rho: ρ of the variance r^ρ of a random B.
        key: PRNG key of all weights.

    >>> import jax, jax.numpy as jnp
    >>> model = FeatureLayerToy(5, 64, 4, init="A", key=jax.random.key(0))
    >>> model(jnp.ones((5, 3))).tolist()  # B = 0
    [0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        rank: int,
        *,
        alpha: float | None = None,
        gamma: float = 1.0,
        init: Init,
        rho: float = 0.0,
        key: PRNGKey,
    ):
        _check_sizes(inputs, width, rank)
        key_in, key_layer = jax.random.split(model_half(key))
        options = {"alpha": alpha, "gamma": gamma, "init": init, "rho": rho}
        self._draw(width, rank, options, key_layer)
        self.w_in = _w_in(inputs, width, key_in)

    def features(self, x: Inputs) -> Features:
        """Z = φ(W_in x), shape (n, N)."""
        _check_inputs(x, self.w_in)
        return nnx.relu(self.w_in[...] @ x)


class TwoLayerToy(nnx.Module):
    """f(x) = W_out φ((W* + s B A) φ(W_in x)), φ = ReLU, s = α r^−γ (eq. 3; there W* = 0, s = 1).

    W_in ~ N(0, 1) (n, d) and W_out ~ N(0, 1/n) (1, n) are frozen; A and B start as `init` says
    ("both" in the paper's Figure 2). Only A and B are trained.

    ========  ========================  ==============================
    weight    W*                        one factor random at the start
    ========  ========================  ==============================
    "zero"    0, as in the paper        never moves: φ'(0) = 0
    "random"  N(0, 1/n) (n, n), frozen  moves
    ========  ========================  ==============================

    Args:
        inputs: d.
        width: n.
        rank: r.
        alpha: α of the multiplier; without it the multiplier is 1, as in the paper.
        gamma: γ of the multiplier.
        init: which factors are random at the start.
        rho: ρ of the variance r^ρ of a random B.
        weight: the pretrained weight W*; the other weights are the same with either.
        key: PRNG key of all weights.

    Raises:
        ValueError: a size below 1, r > n, or an unknown init or weight.

    >>> import jax, jax.numpy as jnp
    >>> model = TwoLayerToy(5, 100, 4, init="both", key=jax.random.key(0))
    >>> model(jnp.ones((5, 7))).shape
    (7,)
    >>> pretrained = TwoLayerToy(5, 100, 4, init="A", weight="random", key=jax.random.key(0))
    >>> pretrained.features(jnp.ones((5, 7))).shape  # Z above W* Z
    (200, 7)
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        rank: int,
        *,
        alpha: float | None = None,
        gamma: float = 1.0,
        init: Init = "both",
        rho: float = 0.0,
        weight: Pretrained = "zero",
        key: PRNGKey,
    ):
        _check_sizes(inputs, width, rank)
        arguments.one_of("weight", weight, PRETRAINED)
        key = model_half(key)
        key_in, key_lora, key_out = jax.random.split(key, 3)
        self.w_in = _w_in(inputs, width, key_in)
        self.w_out = Frozen(jax.random.normal(key_out, (width,)) / jnp.sqrt(width))
        pretrained = None
        if weight == "random":
            # `fold_in(key, i)` is the i-th of a split: this is the fourth, the others stay.
            key_weight = jax.random.fold_in(key, 3)
            pretrained = jax.random.normal(key_weight, (width, width)) / jnp.sqrt(width)
        self.lora = LoRA(
            width,
            width,
            rank,
            alpha=alpha,
            gamma=gamma,
            init=init,
            rho=rho,
            weight=pretrained,
            key=_pair(key_lora),
        )

    def features(self, x: Inputs) -> Features:
        """Z = φ(W_in x), shape (n, N); under a weight W* Z below it: (2n, N).

        What is frozen is computed once, the product with W* too.
        """
        _check_inputs(x, self.w_in)
        z = nnx.relu(self.w_in[...] @ x)
        frozen = self.lora.weight
        return z if frozen is None else jnp.concatenate([z, frozen[...] @ z])

    def preactivation(self, features: Float[Array, "_ N"]) -> Features:
        """(W* + s B A) Z, shape (n, N), from what `features` gives."""
        z, offset = self._parts(features)
        update = self.lora.lora_b[...] @ self.lora.down(z)
        return update if offset is None else offset + update

    def readout(self, z: Features) -> Outputs:
        """f = W_out φ((W* + s B A) Z), shape (N,), from what `features` gives."""
        z, offset = self._parts(z)
        return relu_readout(self.w_out[...], self.lora.lora_b[...], self.lora.down(z), offset)

    def __call__(self, x: Inputs) -> Outputs:
        """f(x) for the columns x (d, N), shape (N,)."""
        return self.readout(self.features(x))

    def _parts(self, features: Float[Array, "_ N"]) -> tuple[Features, Features | None]:
        """Z and W* Z, each (n, N); None for W* = 0."""
        if self.lora.weight is None:
            return features, None
        z, offset = jnp.split(features, 2)
        return z, offset


def _pair(key: PRNGKey) -> tuple[PRNGKey, PRNGKey]:
    """The keys of A and of B."""
    key_a, key_b = jax.random.split(key)
    return key_a, key_b


def _w_in(inputs: int, width: int, key: PRNGKey) -> Frozen:
    """W_in ~ N(0, 1) (n, d)."""
    return Frozen(jax.random.normal(key, (width, inputs)))


def _check_inputs(x: Inputs, w_in: Frozen) -> None:
    inputs = w_in.shape[1]
    if not hasattr(x, "shape") or not x.shape or x.shape[0] != inputs:
        raise arguments.refusal("x", f"columns of {inputs} inputs", x)


def _check_sizes(inputs: int, width: int, rank: int) -> None:
    """Refuse sizes in the toys' own words, before anything is drawn."""
    arguments.integer("inputs", inputs)
    arguments.integer("width", width)
    arguments.integer("rank", rank, 1, width)
