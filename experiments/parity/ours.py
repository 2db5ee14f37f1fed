"""The side of this library: its transformer and its `lora_plus`; an adapted embedding beside."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.parity import setting
from experiments.parity.setting import Run, Told
from lora_theory.adapters.groups import ParamGroup
from lora_theory.adapters.layer import EmbeddingFactor, Frozen
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.models.transformer import Transformer
from lora_theory.train.finetune import cross_entropy

# The end of a name here, and in PyTorch.
_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "lora_a": "lora_A.weight",
    "lora_b": "lora_B.weight",
    "lora_embedding_a": "lora_embedding_A",
    "lora_embedding_b": "lora_embedding_B",
}
_TRAINED = nnx.Any(nnx.LoRAParam, *map(nnx.PathContains, ("head", "norm", "norms")))


class AdaptedEmbed(nnx.Module):
    """Rows of the frozen table and of its update: E[t] + B A[:, t]."""

    def __init__(self, tokens: int, width: int, rank: int):
        self.embedding = Frozen(jnp.zeros((tokens, width)))
        self.lora_embedding_a = EmbeddingFactor(jnp.zeros((rank, tokens)))
        self.lora_embedding_b = EmbeddingFactor(jnp.zeros((width, rank)))

    def __call__(self, tokens: Any) -> Any:
        """The vectors of the tokens."""
        update = self.lora_embedding_a[...].T[tokens] @ self.lora_embedding_b[...].T
        return self.embedding[...][tokens] + update


def network() -> Any:
    """The model with its weights; an RMSNorm before the head, for it is no LayerNorm."""
    s = setting
    sizes = {"width": s.WIDTH, "heads": s.HEADS, "blocks": s.BLOCKS, "rank": s.RANK}
    model: Any = Transformer(s.TOKENS, s.LENGTH, s.ANSWERS, **sizes, key=jax.random.key(0))
    model.embed = AdaptedEmbed(s.TOKENS, s.WIDTH, s.RANK)
    rngs = nnx.Rngs(0)
    model.norm = nnx.RMSNorm(s.WIDTH, epsilon=s.NORM_EPSILON, rngs=rngs)
    model.head = nnx.Linear(s.WIDTH, s.ANSWERS, rngs=rngs)
    given = setting.weights()
    state = nnx.to_flat_state(nnx.state(model))
    for path, variable in state:
        array = given.pop(name_of(path))
        variable.set_value(jnp.asarray(array.T if path[-1] == "kernel" else array, float))
    assert not given, f"weights without a place: {', '.join(given)}"
    nnx.update(model, nnx.from_flat_state(state))
    return model


def name_of(path: tuple[Any, ...]) -> str:
    """A leaf's name in PyTorch.

    >>> name_of(("blocks", 0, "attention", "query", "lora_a"))
    'blocks.0.attention.query.lora_A.weight'
    """
    *above, own = map(str, path)
    return ".".join((*above, _NAMES.get(own, own)))


def optimizer(told: Told) -> optax.GradientTransformationExtraArgs:
    """The recipe that is the official optimizer's."""

    def falling(rate: Any) -> Any:
        return lambda step: rate * (1 - told.fall * step / setting.STEPS)

    groups = None
    if told.exempt is not None:
        groups = {"no_decay": ParamGroup(weight_decay=told.exempt)}
    adam = {"b1": told.beta1, "b2": told.beta2, "eps": told.epsilon}
    return lora_plus(
        falling(told.rate),
        ratio=told.ratio,
        eta_embedding=falling(told.embedding),
        base=functools.partial(optax.adamw, **adam, weight_decay=told.decay),
        labels="official",
        groups=groups,
    )


def train(told: Told, *, double: bool = True) -> Run:
    """All steps, in float64 or float32."""
    with jax.enable_x64(double), jax.default_matmul_precision("highest"):
        losses, moved = _train(told, *setting.batches())
        return Run(np.asarray(losses), {name: float(way) for name, way in moved.items()})


@jax.jit
def _train(told: Told, tokens: Any, answers: Any) -> Any:
    """Compiled once for all numbers that an optimizer may be told."""
    model = network()
    tx, start = nnx.Optimizer(model, optimizer(told), wrt=_TRAINED), _trained(model)

    @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=(nnx.Carry, 0))
    def steps(carry: Any, tokens: Any, answers: Any) -> tuple[Any, Any]:
        model, tx = carry
        trained = nnx.DiffState(0, _TRAINED)
        loss, gradients = nnx.value_and_grad(cross_entropy, argnums=trained)(model, tokens, answers)
        tx.update(model, gradients)
        return carry, loss

    losses = steps((model, tx), tokens, answers)[1]
    end = _trained(model)
    return losses, {name: jnp.sqrt(((end[name] - start[name]) ** 2).sum()) for name in end}


def _trained(model: Any) -> dict[str, Any]:
    flat = nnx.to_flat_state(nnx.state(model, _TRAINED))
    return {name_of(path): variable[...] for path, variable in flat}
