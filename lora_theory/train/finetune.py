"""Fine-tuning with `lora_plus`, as in anybody's training code: clip, AdamW, warmup and cosine.

Mini-batches of token sequences; LoRA factors and head are trained, all else stays as it is::

    optimizer = lora_optimizer(model, 1e-2, 4.0, steps=300, warmup=30, clip=1.0)
    for tokens, answers in batches:
        loss = train_step(model, optimizer, tokens, answers)
"""

from collections.abc import Callable
from typing import Any

import optax
from flax import nnx

from lora_theory.adapters.groups import ParamGroup
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.arrays import Array, Float, Int, Rate, Scalar

TRAINED = nnx.Any(nnx.LoRAParam, nnx.PathContains("head"))


def lora_optimizer(
    model: nnx.Module, rate: Rate, ratio: Rate, *, steps: int, warmup: int, clip: Rate
) -> nnx.Optimizer:
    """LoRA+ over AdamW: A and the head at η(t), B at λ η(t), gradients clipped together.

    η(t) rises linearly to its peak η in the first `warmup` steps, and falls as a cosine to 0.

    Args:
        model: whose LoRA factors and `head` are trained.
        rate: η.
        ratio: λ.
        steps: of the whole schedule.
        warmup: of its rise.
        clip: the largest global norm of the gradients that is left as it is.
    """
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, steps)
    groups = {"head": ParamGroup(match="head")}  # At η, as A.
    plus = lora_plus(lambda t: rate * shape(t), ratio=ratio, groups=groups)
    tx = optax.chain(optax.clip_by_global_norm(clip), plus)
    return nnx.Optimizer(model, tx, wrt=TRAINED)


@nnx.jit
def train_step(
    model: nnx.Module,
    optimizer: nnx.Optimizer,
    tokens: Int[Array, "N L"],
    answers: Int[Array, "N"],
) -> Scalar:
    """One step on one mini-batch; the loss before it."""
    trained = nnx.DiffState(0, optimizer.wrt)
    loss, gradients = nnx.value_and_grad(cross_entropy, argnums=trained)(model, tokens, answers)
    optimizer.update(model, gradients)
    return loss


def cross_entropy(model: Any, tokens: Int[Array, "N L"], answers: Int[Array, "N"]) -> Scalar:
    """Mean over the sequences of −log p(answer)."""
    return optax.softmax_cross_entropy_with_integer_labels(model(tokens), answers).mean()


def accuracy(model: Any, tokens: Int[Array, "N L"], answers: Int[Array, "N"]) -> Scalar:
    """The share of the sequences whose answer has the largest logit."""
    return (model(tokens).argmax(axis=-1) == answers).mean()


def train(
    model: nnx.Module,
    tokens: Int[Array, "T N L"],
    answers: Int[Array, "T N"],
    rate: Rate,
    ratio: Rate,
    *,
    warmup: int,
    clip: Rate,
    optimizer: Callable[..., nnx.Optimizer] = lora_optimizer,
) -> Float[Array, "T"]:
    """All T steps of a run as one program; the model is trained in place.

    Rates may be traced: a grid of them, under `jax.lax.map` or `jax.vmap`, compiles once.

    Args:
        model: as for `lora_optimizer`, which has the rest.
        tokens, answers: a mini-batch a step.
        optimizer: what makes it, from the arguments of `lora_optimizer`; what it trains is trained.

    Returns:
        The loss of each mini-batch before its step.
    """
    made = optimizer(model, rate, ratio, steps=len(tokens), warmup=warmup, clip=clip)

    @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=(nnx.Carry, 0))
    def steps(carry: Any, tokens: Array, answers: Array) -> tuple[Any, Array]:
        model, optimizer = carry
        return carry, train_step(model, optimizer, tokens, answers)

    return steps((model, made), tokens, answers)[1]
