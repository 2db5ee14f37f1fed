"""Which group of LoRA+ a leaf belongs to: by variable type, by name, by a preset, or as told."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from lora_theory.adapters.layer import EmbeddingFactor, FactorA, FactorB, Frozen

# What a leaf can be labelled without a group of the user's own.
GROUPS = ("A", "B", "no_decay", "magnitude", "embedding", "head", "frozen")

_TYPES: tuple[tuple[type, str], ...] = (
    (FactorA, "A"),
    (FactorB, "B"),
    (EmbeddingFactor, "embedding"),
    (Frozen, "frozen"),
)
# A name is the whole of what a leaf is called, or its end after a "_": never a part within a word,
# so `lora_block` is no B and `flora_a` no A.
_FACTOR = re.compile(r"(?:.+_)?lora_(?:kernel_)?(?:(?P<letter>[ab])|(?P<way>down|up))", re.I)
_EMBEDDING = re.compile(r"(?:.+_)?lora_embeddings?_[ab]", re.I)
_MAGNITUDE = re.compile(
    r"(?:lora_)?magnitude(?:_vector)?|weight_magnitude|dora_(?:scale|magnitude)", re.I
)
# Norms and biases, which a scan over layers stacks to two dimensions.
_NORM = re.compile(r"(?:.*_)?(?:\w*norm|ln|ln_\w+)(?:_?\d+)?", re.I)
_OF_NORMS = {"scale", "weight", "w", "gamma", "beta", "offset", "bias"}
# Below the name of a factor: what frameworks call its only array.
_ARRAYS = {"weight", "kernel", "w", "array", "value", "raw_value"}
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
        names = tuple(part for entry in path for part in _parts(entry))
        names = names[:-1] if names[-1:] == ("value",) else names
        kind = type(node) if _is_variable(node) else None
        # A variable may hold no array (where optax masks it) or several (a quantised one).
        yield from (Leaf(names, array, kind) for array in jax.tree.leaves(node))


def _parts(entry: Any) -> list[str]:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            entry = getattr(entry, attribute)
            break
    return [part for part in re.split(r"[./:]", str(entry)) if part not in ("", "~")]


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)


def lora_labels(params: Any, preset: str | None = None) -> Any:
    """The group of every leaf: by variable type, else by name, else by its dimensions.

    | group | leaves |
    |---|---|
    | A, B | `FactorA`, `FactorB`; names `lora_a`, `lora_b` in any case, whole or as an ending \
(`kernel_lora_a`), `lora_kernel_a`, `lora_down` (A) and `lora_up` (B), `a` and `b` in `lora` |
    | embedding | `EmbeddingFactor`; `lora_embedding_a`, `lora_embeddings_b`, … |
    | magnitude | DoRA's: `magnitude`, `lora_magnitude_vector`, `dora_scale`, … |
    | no_decay | `bias`; what a norm holds; all else of one dimension |
    | frozen | `Frozen` |

    Below the name of a factor may stand what frameworks call its array and PEFT an adapter:
    `lora_A.weight`, `lora_a.kernel`, `lora_A.default.weight`. Keys with dots or slashes are names
    in parts, so that flat dictionaries (safetensors, Haiku) work.

    Args:
        params: any pytree of arrays or NNX variables.
        preset: a name of `PRESETS`, for trees whose names do not say which factor reads the input.

    Returns:
        A tree of the same structure with a name of `GROUPS` at each leaf.

    Raises:
        ValueError: a leaf to which no rule applies, by name; an unknown preset; one that finds no
            factor.

    >>> import jax.numpy as jnp
    >>> lora_labels({"lora_A": jnp.ones((2, 3)), "lora_B": jnp.ones((3, 2)), "bias": jnp.ones(3)})
    {'bias': 'no_decay', 'lora_A': 'A', 'lora_B': 'B'}
    >>> lora_labels({"w": jnp.ones((5, 3)), "a": jnp.ones((2, 3)), "b": jnp.ones((5, 2))}, "lorax")
    {'a': 'B', 'b': 'A', 'w': 'frozen'}
    >>> lora_labels({"classifier": jnp.ones((3, 3))})
    Traceback (most recent call last):
    ...
    ValueError: classifier: a leaf of shape (3, 3) has no label; if it trains, write \
groups={"head": ParamGroup(match="classifier")}; if it is a factor, name it lora_a or lora_b, give \
it a variable type of lora_theory.adapters.layer, or pass labels=
    """
    labels = _complete(guesses(leaves(params), preset))
    return jax.tree.unflatten(jax.tree.structure(params), labels)


def keras_labels(variables: Iterable[Any]) -> list[str]:
    """The groups of Keras variables, for the lists of arrays of its stateless interface.

    Args:
        variables: `model.trainable_variables`; what has a `path` and a `shape`.

    Returns:
        A list for `lora_plus(labels=)`, in the order of the list of arrays.

    Raises:
        ValueError: a variable to which no rule of `lora_labels` applies, by its path.

    >>> import types
    >>> keras_labels([
    ...     types.SimpleNamespace(path="dense/bias", shape=(3,)),
    ...     types.SimpleNamespace(path="dense/lora_kernel_a", shape=(5, 2)),
    ... ])
    ['no_decay', 'A']
    """
    return _complete(guesses([Leaf(tuple(_parts(one.path)), one) for one in variables], None))


def _complete(guessed: Iterable[tuple[Leaf, str | None]]) -> list[str]:
    known = list(guessed)
    if lost := [leaf for leaf, label in known if label is None]:
        raise unlabelled(lost)
    return [label for _, label in known if label is not None]


def guesses(found: Sequence[Leaf], preset: str | None) -> list[tuple[Leaf, str | None]]:
    """Each leaf with its label, or None where no rule applies.

    Raises:
        ValueError: an unknown preset, or one that finds no factor.
    """
    beside: dict[tuple[str, ...], set[str]] = {}
    for leaf in found:
        beside.setdefault(leaf.names[:-1], set()).update(leaf.names[-1:])
    rule = _default if preset is None else _preset(preset)
    labels = [rule(leaf, beside[leaf.names[:-1]]) for leaf in found]
    names = _letters if rule is _letters else _default
    factors = [leaf for leaf in found if names(leaf, beside[leaf.names[:-1]]) in ("A", "B")]
    if preset is not None and not factors:
        first = f", as {found[0]}" if found else ""
        raise ValueError(
            f"labels: preset {preset!r} finds no factor among {len(found)} leaves{first}; "
            f"it wants {_WANTED[preset]}"
        )
    return list(zip(found, labels, strict=True))


def _preset(name: str) -> Callable[[Leaf, set[str]], str | None]:
    if name not in PRESETS:
        close = difflib.get_close_matches(str(name), PRESETS, 1)
        raise ValueError(
            f"labels: must be one of {', '.join(PRESETS)}, a function, or a tree of groups "
            f"(got {name!r}{f'; {close[0]}?' if close else ''}); Flax, qwix, tunix, Keras, PEFT, "
            "levanter, gemma and openpi need none"
        )
    return PRESETS[name]


def _default(leaf: Leaf, beside: set[str]) -> str | None:
    for kind, label in _TYPES:
        if leaf.kind is not None and issubclass(leaf.kind, kind):
            return label
    return _by_name(leaf, beside) or ("no_decay" if len(leaf.shape) == 1 else None)


def _by_name(leaf: Leaf, beside: set[str]) -> str | None:
    own = _own_name(leaf.names)
    if own.lower() == "bias" or _in_norm(leaf):
        return "no_decay"
    if _MAGNITUDE.fullmatch(own):
        return "magnitude"
    if _EMBEDDING.fullmatch(own):
        return "embedding"
    if found := _FACTOR.fullmatch(own):
        letter = found["letter"] or {"down": "a", "up": "b"}[found["way"].lower()]
        return letter.upper()
    # A letter says which side only where the one library that writes `lora` over it means it;
    # beside a kernel it may be the other way round.
    if leaf.names[-2:-1] == ("lora",) and own in ("a", "b") and not beside & _KERNELS:
        return own.upper()
    return None


def _own_name(names: tuple[str, ...]) -> str:
    """What a leaf is called: without the names of its array and of PEFT's adapter below it."""
    own = list(names)
    while len(own) > 1 and (own[-1] in _ARRAYS or (own[-1].isdigit() and own[-2] in _ARRAYS)):
        own.pop()
    named = re.compile(r"lora_([ab]|embedding_[ab]|magnitude_vector)", re.I)
    if len(own) > 1 and not _known(own[-1]) and named.fullmatch(own[-2]):
        own.pop()
    return own[-1] if own else ""


def _known(name: str) -> bool:
    return name.lower() in _OF_NORMS or any(
        rule.fullmatch(name) for rule in (_FACTOR, _EMBEDDING, _MAGNITUDE, _NORM)
    )


def _in_norm(leaf: Leaf) -> bool:
    return (
        len(leaf.names) > 1
        and leaf.names[-1].lower() in _OF_NORMS
        and _NORM.fullmatch(leaf.names[-2]) is not None
    )


def _official(leaf: Leaf, beside: set[str]) -> str | None:
    """The groups of the paper's own optimizer: what is neither B nor 1-d trains with A.

    1-d parameters but biases and LayerNorms decay there, as a magnitude or an RMSNorm; a LayerNorm
    is told from an RMSNorm by its bias.
    """
    label = _default(leaf, beside)
    if label in ("A", "B", "embedding", "frozen"):
        return label
    if _own_name(leaf.names).lower() == "bias":
        return "no_decay"
    layer_norm = _in_norm(leaf) and beside & {"bias", "beta", "offset"}
    if len(leaf.shape) == 1:
        return "no_decay" if layer_norm else "B"
    return "A"


def _letters(leaf: Leaf, beside: set[str]) -> str | None:
    """`a` and `b`, of which b reads the input, and the frozen kernel `w` beside them."""
    if {"a", "b"} <= beside and leaf.names[-1] in ("a", "b", "w", "_w"):
        return {"a": "B", "b": "A"}.get(leaf.names[-1], "frozen")
    label = _default(leaf, beside)
    return None if label in ("A", "B") else label


# Trees whose names are not enough. In lorax W + b·a with kernels (in, out), in the example of quax
# a·b with kernels (out, in): what is called b reads the input, and starts at zero.
PRESETS: dict[str, Callable[[Leaf, set[str]], str | None]] = {
    "axlearn": _default,
    "lorax": _letters,
    "official": _official,
    "quax": _letters,
}
_WANTED = {
    "axlearn": "leaves lora_down and lora_up",
    "lorax": "leaves a and b side by side",
    "official": "leaves lora_a and lora_b",
    "quax": "leaves a and b side by side",
}


def labels_of(
    found: Sequence[Leaf], params: Any, labels: Any, settled: Sequence[str | None]
) -> list[str | None]:
    """The label of each leaf, by `labels`: a preset, a function, or a tree of names or a prefix.

    None stands where no rule applies. A tree is matched by names, whatever its containers are, and
    need not speak of leaves that are settled.

    Raises:
        ValueError: a tree without a label for a leaf, or with one for nothing; a label that is no
            text; what `guesses` refuses.
    """
    if labels is None or (isinstance(labels, str) and labels not in GROUPS):
        return [label for _, label in guesses(found, labels)]
    tree = labels(params) if is_function(labels) else labels
    told = {leaf.names: leaf.array for leaf in leaves(tree)}
    for names, label in told.items():
        if not isinstance(label, str):
            raise ValueError(
                f"labels: must hold names of groups, as {', '.join(GROUPS)} "
                f"(got {type(label).__name__} at {'.'.join(names) or 'its top'})"
            )
    above = [_prefix(leaf.names, told) for leaf in found]
    for leaf, key, done in zip(found, above, settled, strict=True):
        if key is None and done is None:
            raise ValueError(
                f'labels: must say a group for {leaf}, as {{"{leaf.path}": "frozen"}} (got '
                f"{', '.join('.'.join(names) for names in told) or 'none'})"
            )
    if spare := sorted(".".join(names) for names in told.keys() - set(above) if names):
        raise ValueError(f"labels: must name leaves of the parameters (got {spare[0]!r})")
    return [None if key is None else told[key] for key in above]


def is_function(labels: Any) -> bool:
    """Whether labels are a function; a tree can be callable too, as a module of Equinox is."""
    return callable(labels) and all(leaf is labels for leaf in jax.tree.leaves(labels))


def _prefix(names: tuple[str, ...], told: Mapping[tuple[str, ...], str]) -> tuple[str, ...] | None:
    """The longest beginning of a name that has a label."""
    return next((names[:k] for k in range(len(names), -1, -1) if names[:k] in told), None)


def unlabelled(lost: Sequence[Leaf]) -> ValueError:
    """The refusal of leaves to which no rule applies: the most telling one, and the line to write.

    Beside a letter that says nothing the kernel has no label either, and the preset settles both.
    """
    leaf = next((leaf for leaf in lost if leaf.names[-1:] in (("a",), ("b",))), lost[0])
    what = f"{leaf.path}: a leaf of shape {leaf.shape} has no label"
    if not leaf.names:
        return ValueError(f'{what}; pass labels="A" or labels="B"')
    if leaf.names[-1:] in (("a",), ("b",)):
        return ValueError(
            f"{what}, since its letter does not say which side of the layer it is; where b reads "
            'the input, as in lorax and quax, pass labels="lorax" or labels="quax", else a tree of '
            'groups, as labels={"a": "A", "b": "B"}'
        )
    return ValueError(
        f'{what}; if it trains, write groups={{"head": ParamGroup(match="{leaf.path}")}}; if it is '
        "a factor, name it lora_a or lora_b, give it a variable type of "
        "lora_theory.adapters.layer, or pass labels="
    )
