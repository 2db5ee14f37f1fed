"""Which group of LoRA+ a leaf belongs to: by variable type, by exact name, or as the user says."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lora_theory.adapters.layer import EmbeddingFactor, FactorA, FactorB, Frozen

# What a leaf can be labelled; the groups of the paper's official optimizer, and "frozen".
GROUPS = ("A", "B", "no_decay", "embedding", "frozen")

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
a variable type of lora_theory.adapters.layer, or pass labels=
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
        "lora_a or lora_b, give it a variable type of lora_theory.adapters.layer, or pass labels="
    )


def leaf_labels_of(params: Any, labels: Any) -> tuple[str, ...]:
    """Labels in the order of the leaves of `params`; `labels` may be a function or a prefix.

    Raises:
        ValueError: a leaf without a label, or a label that is no group, by name.
    """
    tree = lora_labels(params) if labels is None else labels
    if callable(tree):
        tree = tree(params)
    flat: list[str] = []
    try:
        jax.tree.map(
            lambda label, part: flat.extend([label] * len(jax.tree.leaves(part))), tree, params
        )
    except ValueError as error:
        where = str(error).splitlines()[0]
        raise ValueError(
            f"labels: must be a tree of the parameters' structure, or a prefix of it (got {where})"
        ) from error
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
