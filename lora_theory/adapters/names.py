"""What names and types of leaves say: which factor of LoRA reads the input, what is a norm or bias.

A name counts as a whole, or its end after a "_", never a part within a word: `lora_block` is no B,
and `flora_a` no A. What projects call their leaves is recorded in tests/adapters/trees.json.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from flax import nnx

from lora_theory.adapters.layer import EmbeddingFactor, FactorA, FactorB, Frozen

_TYPES: tuple[tuple[type, str], ...] = (
    (FactorA, "A"),
    (FactorB, "B"),
    (EmbeddingFactor, "embedding"),
    (Frozen, "frozen"),
)
_FACTOR = re.compile(r"(?:.+_)?lora_(?:kernel_)?(?:(?P<letter>[ab])|(?P<way>down|up))", re.I)
_EMBEDDING = re.compile(r"(?:.+_)?lora_embeddings?_[ab]", re.I)
_MAGNITUDE = re.compile(
    r"(?:lora_)?magnitude(?:_vector)?|weight_magnitude|dora_(?:scale|magnitude)", re.I
)
_BIAS = re.compile(r"(?:(?:in_proj|qkv|[qkvo])_)?bias", re.I)
# Norms, which a scan over layers stacks to two dimensions; a `weight` of two may be a matrix.
_NORM = re.compile(r"(?:.*_)?(?:[a-z]*norm|ln)(?:_?\d+|_[a-z]|_embedding)?", re.I)
OF_NORMS = ("scale", "gamma", "beta", "offset")
# Below the name of a factor: what frameworks call its only array, and PEFT an adapter.
ARRAYS = {"weight", "kernel", "w", "array", "value", "raw_value"}
_ADAPTED = re.compile(r"lora_(?:[ab]|embedding_[ab]|magnitude_vector)", re.I)
_KERNELS = {"w", "_w", "weight", "kernel", "_kernel"}


@dataclasses.dataclass(frozen=True, eq=False)
class Leaf:
    """An array of the parameters: the parts of its name, and the type of its variable.

    Dotted and slashed keys are taken apart: `q_proj.lora_A.weight` is three parts.
    """

    names: tuple[str, ...]
    array: Any
    kind: type | None = None

    @property
    def path(self) -> str:
        """The name in one piece, for messages and patterns."""
        return ".".join(self.names) or "params"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; of numbers too."""
        return tuple(getattr(self.array, "shape", ()))

    def __str__(self) -> str:
        return f"{self.path} {self.shape}"


def leaves(params: Any) -> list[Leaf]:
    """The arrays of `params` in the order of `jax.tree.leaves`, with names and variable types."""
    return list(_leaves(params))


def _leaves(params: Any) -> Iterator[Leaf]:
    flat, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_variable)
    for path, node in flat:
        names = tuple(part for entry in path for part in parts(_key(entry)))
        kind = type(node) if _is_variable(node) else None
        # A variable may hold no array (where optax masks it) or several (a quantised one).
        yield from (Leaf(names, array, kind) for array in jax.tree.leaves(node))


def _key(entry: Any) -> Any:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return entry


def parts(key: Any) -> list[str]:
    """A key taken apart, one of `flax.traverse_util.flatten_dict` too.

    >>> parts("mlp/~/linear/lora_a"), parts(("q", "lora_B.weight"))
    (['mlp', 'linear', 'lora_a'], ['q', 'lora_B', 'weight'])
    """
    keys = key if isinstance(key, tuple) else (key,)
    split = [part for one in keys for part in re.split(r"[./:]", str(one))]
    return [part for part in split if part not in ("", "~")]


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)


Rule = Callable[[Leaf, set[str]], str | None]


def default(leaf: Leaf, beside: set[str]) -> str | None:
    """The group of a leaf by its type, its name, its dimensions; None where none of them tells."""
    for kind, label in _TYPES:
        if leaf.kind is not None and issubclass(leaf.kind, kind):
            return label
    return _by_name(leaf, beside) or ("no_decay" if leaf.names and is_vector(leaf) else None)


def _by_name(leaf: Leaf, beside: set[str]) -> str | None:
    own = _own_name(leaf)
    if found := _FACTOR.fullmatch(own):
        letter = found["letter"] or {"down": "a", "up": "b"}[found["way"].lower()]
        return letter.upper()
    if _EMBEDDING.fullmatch(own):
        return "embedding"
    if _MAGNITUDE.fullmatch(own):
        return "magnitude"
    # A letter says which side only where the one library that writes `lora` over it means it;
    # beside a kernel it may be the other way round.
    if leaf.names[-2:-1] == ("lora",) and own in ("a", "b") and not beside & _KERNELS:
        return own.upper()
    return None


def _own_name(leaf: Leaf) -> str:
    """What a leaf is called: without the names of its array and of PEFT's adapter below it."""
    own = list(leaf.names)
    while len(own) > 1 and (own[-1] in ARRAYS or (own[-1].isdigit() and own[-2] in ARRAYS)):
        own.pop()
    below = len(own) > 1 and _ADAPTED.fullmatch(own[-2])
    # A bias or a norm below a factor is a vector of its own, a magnitude is one itself.
    matrix = len(leaf.shape) > 1 and not _named_vector(leaf)
    if below and (matrix or "magnitude" in own[-2]) and not _FACTOR.fullmatch(own[-1]):
        own.pop()
    return own[-1] if own else ""


def is_vector(leaf: Leaf) -> bool:
    """Whether a leaf is a bias, part of a norm, or of one dimension.

    >>> import numpy as np
    >>> [is_vector(Leaf(names, np.zeros((3, 8)))) for names in (("ln", "scale"), ("head", "w"))]
    [True, False]
    """
    return len(leaf.shape) == 1 or _named_vector(leaf)


def _named_vector(leaf: Leaf) -> bool:
    if not leaf.names:
        return False
    names = leaf.names[:-1] if leaf.names[-1] == "value" else leaf.names
    own = "".join(names[-1:])
    return _BIAS.fullmatch(own) is not None or (in_norm(names) and own.lower() in OF_NORMS)


def in_norm(names: tuple[str, ...]) -> bool:
    """Whether what holds a leaf is called a norm.

    >>> in_norm(("block", "RMSNorm_0", "weight")), in_norm(("norm_flow", "scale"))
    (True, False)
    """
    return any(_NORM.fullmatch(above) is not None for above in names[-2:-1])


def official(leaf: Leaf, beside: set[str]) -> str | None:
    """The groups of the paper's own optimizer: what is neither B nor 1-d trains with A.

    B and what has one dimension decay there, a magnitude or an RMSNorm too, but for LayerNorms and
    names with "bias" in them. Here a LayerNorm is what has a bias beside it; so a GroupNorm counts
    for one, and a LayerNorm without a bias does not.
    """
    label = default(leaf, beside)
    if label in ("A", "embedding", "frozen"):
        return label
    layer_norm = leaf.names[-1:] and is_vector(leaf) and beside & {"bias", "beta", "offset"}
    if label == "B" or is_vector(leaf):
        return "no_decay" if "bias" in leaf.path or layer_norm else "B"
    return "B" if len(leaf.shape) == 1 else "A"


def letters(leaf: Leaf, beside: set[str]) -> str | None:
    """`a` and `b`, of which b reads the input, and the frozen kernel `w` beside them."""
    own = "".join(leaf.names[-1:])
    if {"a", "b"} <= beside and own in ("a", "b", "w", "_w"):
        return {"a": "B", "b": "A"}.get(own, "frozen")
    label = default(leaf, beside)
    return None if label in ("A", "B") else label


# Trees whose names are not enough. In lorax W + b·a with kernels (in, out), in the example of quax
# a·b with kernels (out, in): what is called b reads the input, and starts at zero.
PRESETS: dict[str, Rule] = {
    "axlearn": default,
    "lorax": letters,
    "official": official,
    "quax": letters,
}
WANTED = {
    "axlearn": "leaves lora_down and lora_up",
    "lorax": "leaves a and b side by side",
    "official": "leaves lora_a and lora_b",
    "quax": "leaves a and b side by side",
}


def neighbours(found: Sequence[Leaf]) -> dict[tuple[str, ...], set[str]]:
    """The names that stand in each place of a tree."""
    beside: dict[tuple[str, ...], set[str]] = {}
    for leaf in found:
        beside.setdefault(leaf.names[:-1], set()).update(leaf.names[-1:])
    return beside


def check_letters(preset: str, found: Sequence[Leaf]) -> None:
    """Refuse a preset whose product of a and b does not have the shape of the kernel beside.

    Raises:
        ValueError: it names the leaf and the other preset.
    """
    at = {leaf.names: leaf for leaf in found}
    for leaf in found:
        own = leaf.names[-1:]
        if own not in (("w",), ("_w",)):
            continue
        a, b = (at.get((*leaf.names[:-1], letter)) for letter in "ab")
        if a is None or b is None or not 1 < len(leaf.shape) == len(a.shape) == len(b.shape) < 4:
            continue
        first, second = (b, a) if preset == "lorax" else (a, b)
        outer, inner = (first.shape[-2], second.shape[-1]), (first.shape[-1], second.shape[-2])
        if outer != leaf.shape[-2:] or inner[0] != inner[1]:
            other = {"lorax": "quax", "quax": "lorax"}[preset]
            raise ValueError(
                f"labels: preset {preset!r} must find {first.path.rsplit('.')[-1]}·"
                f"{second.path.rsplit('.')[-1]} of the shape of {leaf} (got {first.shape} and "
                f'{second.shape}); is it labels="{other}"?'
            )
