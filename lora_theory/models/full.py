"""A toy whose layer trains as a whole: full fine-tuning, to compare adapters with."""

import jax.numpy as jnp
from flax import nnx

from lora_theory.arrays import Features, Inputs, Outputs
from lora_theory.models.toys import FeatureLayerToy, TwoLayerToy


class FullLayer(nnx.Module):
    """f(x) = W_out φ(W φ(W_in x)), or W_out W φ(W_in x), with W (n, n) trained in place of factors.

    W starts as W* + s B A of the toy, so that both start as the same function.

    Args:
        toy: whose layer it is, and whose frozen weights.

    >>> import jax, jax.numpy as jnp
    >>> toy = TwoLayerToy(5, 32, 4, key=jax.random.key(0))
    >>> x = jnp.ones((5, 3))
    >>> bool(jnp.allclose(FullLayer(toy)(x), toy(x), rtol=1e-4))
    True
    """

    def __init__(self, toy: TwoLayerToy | FeatureLayerToy):
        self.w_in, self.w_out = toy.w_in, toy.w_out
        self.weight = nnx.Param(toy.lora.merged())
        self.activated = isinstance(toy, TwoLayerToy)

    def features(self, x: Inputs) -> Features:
        """Z = φ(W_in x), shape (n, N)."""
        return nnx.relu(self.w_in[...] @ x)

    def readout(self, z: Features) -> Outputs:
        """f = W_out φ(W Z), or (W_out W) Z, shape (N,)."""
        w_out, weight = self.w_out[...], self.weight[...]
        return w_out @ nnx.relu(weight @ z) if self.activated else jnp.dot(w_out @ weight, z)

    def __call__(self, x: Inputs) -> Outputs:
        """f(x) for the columns x (d, N), shape (N,)."""
        return self.readout(self.features(x))
