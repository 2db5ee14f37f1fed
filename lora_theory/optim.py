"""LoRA+ as an optax transformation: A and B train at different rates, over any optax base."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lora_theory.arrays import Rate
from lora_theory.lora import EmbeddingFactor, FactorA, FactorB, Frozen

Schedule = Callable[[Any], Any]
Base = Callable[..., optax.GradientTransformation]

# What a leaf can be labelled; the groups of the paper's official optimizer, and "frozen".
GROUPS = ("A", "B", "no_decay", "embedding", "frozen")

BASES: dict[str, Base] = {
    "sgd": optax.sgd,
    "sign": optax.sign_sgd,
    "adam": optax.adam,
    "adamw": optax.adamw,
}

# Name of the leaf, whole and in lower case: never a substring, so `lora_block` is no B.
_NAMES = {
    "lora_a": "A",
    "lora_b": "B",
    "lora_embedding_a": "embedding",
    "lora_embedding_b": "embedding",
}
_TYPES: tuple[tuple[type, str], ...] = (
    (FactorA, "A"),
    (FactorB, "B"),
    (EmbeddingFactor, "embedding"),
    (Frozen, "frozen"),
)


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
        raise ValueError("give either eta_b or ratio, not both and not neither")
    if isinstance(eta_a, tuple | list):
        raise ValueError(
            f"eta_a: must be one rate; give eta_b as the second argument (got {eta_a})"
        )
    if ratio is not None:
        _check_rate("ratio", ratio)
    if eta_b is None:
        eta_b = eta_a if _equal(ratio, 1.0) else _times(ratio, eta_a)
    rates = {"eta_a": eta_a, "eta_b": eta_b, "eta_embedding": eta_embedding}
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
        leaf_labels = _leaf_labels(params, labels)
        return LoRAPlusState(grouped(leaf_labels, params).init(params), leaf_labels)

    def update(
        updates: Any, state: LoRAPlusState, params: Any = None, **extra: Any
    ) -> tuple[Any, LoRAPlusState]:
        transform = grouped(state.labels, updates)
        updates, inner = transform.update(updates, state.inner, params, **extra)
        return updates, LoRAPlusState(inner, state.labels)

    return optax.GradientTransformationExtraArgs(init, update)


def lora_labels(params: Any) -> Any:
    """The group of every leaf: by variable type, else by exact name, else 1-d.

    `FactorA`, `FactorB`, `EmbeddingFactor` and `Frozen` variables are grouped by type. Other
    leaves go by their own name, in any case: `lora_a`, `lora_b`, `lora_embedding_a`,
    `lora_embedding_b` (or a mapping of that name with a single leaf, as in `lora_A.weight`).
    What is left and has one dimension is "no_decay".

    Args:
        params: any pytree of arrays or NNX variables.

    Returns:
        A tree of the same structure with a name of `GROUPS` at each leaf.

    Raises:
        ValueError: a leaf to which no rule applies, by name.

    >>> import jax.numpy as jnp
    >>> lora_labels({"lora_A": jnp.ones((2, 3)), "lora_B": jnp.ones((3, 2)), "bias": jnp.ones(3)})
    {'bias': 'no_decay', 'lora_A': 'A', 'lora_B': 'B'}
    >>> lora_labels({"head": jnp.ones((3, 3))})
    Traceback (most recent call last):
    ...
    ValueError: head: a leaf of shape (3, 3) has no label; name it lora_a or lora_b, give it \
a variable type of lora_theory.lora, or pass labels=
    """
    return jax.tree_util.tree_map_with_path(_label, params, is_leaf=_is_variable)


def _label(path: tuple[Any, ...], leaf: Any) -> str:
    for kind, label in _TYPES:
        if isinstance(leaf, kind):
            return label
    names = [_key_name(entry) for entry in path if _key_name(entry) != "value"]
    # PyTorch ports keep a factor as lora_A.weight: there the module's name decides.
    own = names[-2:] if names[-1:] == ["weight"] else names[-1:]
    for name in reversed(own):
        if name.lower() in _NAMES:
            return _NAMES[name.lower()]
    shape = jnp.shape(leaf[...] if _is_variable(leaf) else leaf)
    if len(shape) == 1:
        return "no_decay"
    raise ValueError(
        f"{'.'.join(names) or 'the parameter'}: a leaf of shape {shape} has no label; name it "
        "lora_a or lora_b, give it a variable type of lora_theory.lora, or pass labels="
    )


def _leaf_labels(params: Any, labels: Any) -> tuple[str, ...]:
    """Labels in the order of the leaves of `params`; `labels` may be a function or a prefix."""
    tree = lora_labels(params) if labels is None else labels
    if callable(tree):
        tree = tree(params)
    flat: list[str] = []
    jax.tree.map(
        lambda label, part: flat.extend([label] * len(jax.tree.leaves(part))), tree, params
    )
    for label in flat:
        if label not in GROUPS:
            raise ValueError(f"labels: must be among {', '.join(GROUPS)} (got {label!r})")
    return tuple(flat)


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)


def _key_name(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


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


def _check_rate(name: str, rate: Rate | Schedule) -> None:
    """Refuse a senseless rate while it is still a number; a traced one can not be looked at."""
    if callable(rate) or isinstance(rate, jax.core.Tracer):
        return
    if not (math.isfinite(float(rate)) and float(rate) >= 0):
        raise ValueError(f"{name}: must be a finite rate of at least 0 (got {float(rate)})")
