"""LoRA+ as an optax transformation: A and B train at different rates, over any optax base."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from lora_theory import arguments
from lora_theory.adapters.labels import GROUPS, leaf_labels_of
from lora_theory.arrays import Rate

Schedule = Callable[[Any], Any]
Base = Callable[..., optax.GradientTransformation]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LoRAPlusState:
    """State of `lora_plus`: the base's states by group, and each leaf's label, fixed at `init`.

    `nnx.Optimizer` passes parameters with their variable types at `init` and bare arrays at
    `update`; the labels travel with the state so that both see the same groups.
    """

    inner: Any
    labels: tuple[str, ...] = dataclasses.field(metadata={"static": True})


def lora_plus(
    eta_a: Rate | Schedule,
    eta_b: Rate | Schedule | None = None,
    *,
    ratio: Rate | None = None,
    base: Base = optax.adamw,
    eta_embedding: Rate | Schedule = 1e-6,
    labels: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """LoRA+ (Hayou, Ghosh, Yu 2024): A at rate η_A, B and 1-d parameters at η_B = λ η_A.

    | group | leaves | transformation |
    |---|---|---|
    | A | factors A | base(η_A) |
    | B | factors B | base(η_B) |
    | no_decay | 1-d parameters (biases, norms) | base(η_B), weight decay 0 |
    | embedding | factors of adapted embeddings | base(η_embedding) |
    | frozen | what is not trained | no update, no state |

    Theorem 1: efficient feature learning needs η_A = Θ(1/n) and η_B = Θ(1), so λ = Θ(n).
    At λ = 1 this is the base itself, bit for bit (of a base with weight decay: on trees without
    1-d parameters).

    Args:
        eta_a: η_A (or "the rate", with `ratio`); a number, a traced scalar, or a schedule.
        eta_b: η_B, the same kinds. Give either `eta_b` or `ratio`.
        ratio: λ = η_B / η_A.
        base: any `rate -> GradientTransformation` of optax: `optax.sgd`, `optax.sign_sgd`,
            `optax.adam`, `optax.adamw`, or a `functools.partial` of one. Where it takes
            `weight_decay`, the group no_decay gets 0.
        eta_embedding: the rate of adapted embeddings, 1e-6 in the official optimizer.
        labels: how leaves are grouped: None for `lora_labels`, a function from the parameters
            to labels, or a tree (or prefix of one) of the names in `GROUPS`.

    Returns:
        An optax transformation for any pytree of parameters: the state of an NNX module
        (`flax.nnx.LoRA` and `LoRALinear` as Flax ships them, or this library's `LoRA`), or
        nested dictionaries.

    Raises:
        ValueError: both or neither of `eta_b` and `ratio`, a rate or ratio that is negative, NaN
            or infinite, or (at `init`) a leaf without a label, by name.

    >>> import jax, jax.numpy as jnp, optax
    >>> from flax import nnx
    >>> model = nnx.LoRALinear(64, 32, lora_rank=4, rngs=nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(model, lora_plus(1e-4, ratio=16), wrt=nnx.LoRAParam)

    >>> params = {"lora_A": jnp.ones((2, 3)), "lora_B": jnp.ones((3, 2))}
    >>> tx = lora_plus(0.1, 0.4, base=optax.sgd)
    >>> updates, _ = tx.update(params, tx.init(params))
    >>> [f"{updates[name].ravel()[0]:.1f}" for name in params]
    ['-0.1', '-0.4']
    """
    if (eta_b is None) == (ratio is None):
        given = "neither" if eta_b is None else "both"
        raise ValueError(f"eta_b, ratio: must be one of the two (got {given})")
    if isinstance(eta_a, tuple | list):
        raise ValueError(
            f"eta_a: must be one rate; give eta_b as the second argument (got {eta_a})"
        )
    _check_rate("eta_a", eta_a)
    if ratio is not None:
        _check_rate("ratio", ratio, schedule=False)
    if not callable(base):
        raise arguments.refusal("base", "a function from a rate, as optax.sgd", base)
    if eta_b is None:
        eta_b = eta_a if _equal(ratio, 1.0) else _times(ratio, eta_a)
    rates = {"eta_b": eta_b, "eta_embedding": eta_embedding}
    for name, rate in rates.items():
        _check_rate(name, rate)
    transforms = {
        "A": base(eta_a),
        "B": base(eta_b),
        "no_decay": base(eta_b, weight_decay=0.0) if _decays(base) else base(eta_b),
        "embedding": base(eta_embedding),
        "frozen": optax.set_to_zero(),
    }
    # Groups trained alike are one group. At λ = 1 the base then sees the tree that it would see
    # alone: split in two, Adam's compiled bias correction rounds differently.
    same = {group: group for group in GROUPS}
    same["B"] = "A" if _equal(eta_a, eta_b) else "B"
    same["no_decay"] = "no_decay" if _decays(base) else same["B"]

    def grouped(leaf_labels: tuple[str, ...], tree: Any) -> optax.GradientTransformationExtraArgs:
        # Only the groups that occur: an empty group would still count steps.
        merged = [same[label] for label in leaf_labels]
        used = {group: transforms[group] for group in GROUPS if group in merged}
        label_tree = jax.tree.unflatten(jax.tree.structure(tree), merged)
        return optax.multi_transform(used, label_tree)

    def init(params: Any) -> LoRAPlusState:
        leaf_labels = leaf_labels_of(params, labels)
        return LoRAPlusState(grouped(leaf_labels, params).init(params), leaf_labels)

    def update(
        updates: Any, state: LoRAPlusState, params: Any = None, **extra: Any
    ) -> tuple[Any, LoRAPlusState]:
        transform = grouped(state.labels, updates)
        updates, inner = transform.update(updates, state.inner, params, **extra)
        return updates, LoRAPlusState(inner, state.labels)

    return optax.GradientTransformationExtraArgs(init, update)


def _times(ratio: Rate | None, rate: Rate | Schedule) -> Rate | Schedule:
    if callable(rate):
        return lambda count: ratio * rate(count)
    return ratio * rate  # type: ignore[operator]


def _equal(left: Any, right: Any) -> bool:
    """Whether two rates are known to be equal; of traced ones and schedules only itself is."""
    known = all(isinstance(rate, int | float | np.number) for rate in (left, right))
    return left is right or (known and bool(left == right))


def _decays(base: Base) -> bool:
    return "weight_decay" in inspect.signature(base).parameters


def _check_rate(name: str, rate: Rate | Schedule, *, schedule: bool = True) -> None:
    """Refuse a senseless rate while it is still a number; a traced one can not be looked at."""
    if (schedule and callable(rate)) or isinstance(rate, jax.core.Tracer):
        return
    arguments.at_least(name, rate, 0)
