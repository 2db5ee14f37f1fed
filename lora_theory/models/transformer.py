"""A small pre-norm transformer with LoRA layers for query and value, and a head at the last token.

Everything but the LoRA factors and the head is drawn at random and meant to stay: a stand-in for
pretrained weights. Samples come first here and features last, as in most networks.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from lora_theory import arguments
from lora_theory.adapters.layer import LoRA
from lora_theory.arrays import Array, Float, Int, PRNGKey
from lora_theory.keys import model_half


class Attention(nnx.Module):
    """softmax(Q Kᵀ / √d_h) V W_out in each of h heads of d_h = n/h features, over all tokens.

    Q = (W_Q + B_Q A_Q) x and V = (W_V + B_V A_V) x are LoRA layers (Init[1]).

    Args:
        width: n.
        heads: h.
        rank: r.
        key: PRNG key of all weights.
    """

    def __init__(self, width: int, heads: int, rank: int, *, key: PRNGKey):
        key_query, key_value, key_frozen = jax.random.split(key, 3)
        rngs = nnx.Rngs(key_frozen)
        self.query, self.value = (_adapted(width, rank, k) for k in (key_query, key_value))
        self.key, self.out = (_linear(width, width, rngs) for _ in range(2))
        self.heads = heads

    def __call__(self, x: Float[Array, "N L n"]) -> Float[Array, "N L n"]:
        """What each token reads of all tokens, shape (N, L, n)."""
        split = (*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
        q, k, v = (project(x).reshape(split) for project in (self.query, self.key, self.value))
        scores = jnp.einsum("nlhd,nmhd->nhlm", q, k) / jnp.sqrt(split[-1])
        read = jnp.einsum("nhlm,nmhd->nlhd", nnx.softmax(scores), v)
        return self.out(read.reshape(x.shape))


class Block(nnx.Module):
    """x + attention(norm(x)), and then x + W_down φ(W_up norm(x)), φ = ReLU, 4 n hidden units."""

    def __init__(self, width: int, heads: int, rank: int, *, key: PRNGKey):
        key_attention, key_mlp = jax.random.split(key)
        rngs = nnx.Rngs(key_mlp)
        self.attention = Attention(width, heads, rank, key=key_attention)
        self.up, self.down = _linear(width, 4 * width, rngs), _linear(4 * width, width, rngs)
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])

    def __call__(self, x: Float[Array, "N L n"]) -> Float[Array, "N L n"]:
        """The tokens after the block, shape (N, L, n)."""
        x = x + self.attention(self.norms[0](x))
        return x + self.down(nnx.relu(self.up(self.norms[1](x))))


class Transformer(nnx.Module):
    """Tokens to logits of the answer, read at the last token: head(norm(blocks(embed(tokens)))).

    Args:
        tokens: how many there are.
        length: L, tokens of a sequence.
        answers: how many there are.
        width: n.
        heads: h, a divisor of n.
        blocks: how many.
        rank: r of the LoRA layers.
        key: PRNG key of all weights.

    >>> import jax, jax.numpy as jnp
    >>> def logits(tokens, key):
    ...     return Transformer(28, 13, 16, width=32, heads=2, blocks=1, rank=4, key=key)(tokens)
    >>> jax.eval_shape(logits, jnp.zeros((5, 13), int), jax.random.key(0)).shape
    (5, 16)
    """

    def __init__(
        self,
        tokens: int,
        length: int,
        answers: int,
        *,
        width: int,
        heads: int,
        blocks: int,
        rank: int,
        key: PRNGKey,
    ):
        if arguments.integer("width", width) % arguments.integer("heads", heads):
            raise ValueError(f"heads: must divide the width {width} (got {heads})")
        key_rest, *key_blocks = jax.random.split(model_half(key), 1 + blocks)
        rngs, normal = nnx.Rngs(key_rest), nnx.initializers.normal(1.0)
        self.embed = nnx.Embed(tokens, width, embedding_init=normal, rngs=rngs)
        self.place = nnx.Embed(length, width, embedding_init=normal, rngs=rngs)
        self.blocks = nnx.List([Block(width, heads, rank, key=k) for k in key_blocks])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = _linear(width, answers, rngs)

    def __call__(self, tokens: Int[Array, "N L"]) -> Float[Array, "N answers"]:
        """Logits of the answers, shape (N, answers).

        Raises:
            ValueError: sequences of another length.
        """
        length = self.place.num_embeddings
        if tokens.ndim != 2 or tokens.shape[1] != length:
            raise arguments.refusal("tokens", f"sequences (N, L) of L = {length} tokens", tokens)
        x = self.embed(tokens) + self.place.embedding[...][None]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, -1]))


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    """N(0, 1/inputs) weights without biases."""
    return nnx.Linear(inputs, outputs, use_bias=False, rngs=rngs)


def _adapted(width: int, rank: int, key: PRNGKey) -> LoRA:
    """A LoRA layer on a frozen W* ~ N(0, 1/n)."""
    key_weight, key_a, key_b = jax.random.split(key, 3)
    weight = jax.random.normal(key_weight, (width, width)) / jnp.sqrt(width)
    return LoRA(width, width, rank, weight=weight, axis=-1, key=(key_a, key_b))
