"""Which group of LoRA+ a leaf belongs to: by variable type, by name, by a preset, or as told."""

import difflib
import glob
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from lora_theory.adapters.names import (
    ARRAYS,
    OF_NORMS,
    PRESETS,
    WANTED,
    Leaf,
    check_letters,
    default,
    in_norm,
    leaves,
    letters,
    neighbours,
    parts,
)

Labelled = Sequence[tuple[Leaf, str | None]]

# What a leaf can be labelled without a group of the user's own.
GROUPS = ("A", "B", "no_decay", "magnitude", "embedding", "head", "frozen")


def lora_labels(params: Any, preset: str | None = None) -> Any:
    """The group of every leaf: by variable type, else by name, else by its dimensions.

    =========  ===========================================================================
    group      leaves
    =========  ===========================================================================
    A, B       `FactorA`, `FactorB`; names `lora_a`, `lora_b` in any case, whole or as an
               ending (`kernel_lora_a`), `lora_kernel_a`, `lora_down` (A) and `lora_up`
               (B), `a` and `b` in `lora`
    embedding  `EmbeddingFactor`; `lora_embedding_a`, `lora_embeddings_b`, …
    magnitude  DoRA's: `magnitude`, `lora_magnitude_vector`, `dora_scale`, …
    no_decay   biases; scales and offsets in a norm; all else of one dimension
    frozen     `Frozen`
    =========  ===========================================================================

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
            factor, or a kernel of another shape than its factors'.

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
        ValueError: a variable to which no rule of `lora_labels` applies, by its path. Where a head
            trains, a dictionary from paths to arrays does without this helper.

    >>> import types
    >>> keras_labels([
    ...     types.SimpleNamespace(path="dense/bias", shape=(3,)),
    ...     types.SimpleNamespace(path="dense/lora_kernel_a", shape=(5, 2)),
    ... ])
    ['no_decay', 'A']
    """
    found = [Leaf(tuple(parts(one.path)), one) for one in variables]
    guessed = guesses(found, None)
    for leaf, label in guessed:
        if label is None:
            raise ValueError(
                f"{leaf.path}: a variable of shape {leaf.shape} has no label; if it trains, give "
                "lora_plus a dictionary, {variable.path: variable.value}, in place of a list, and "
                f'groups={{"head": ParamGroup(match="{_whole(leaf, guessed)}")}}'
            )
    return [label for _, label in guessed if label is not None]


def _complete(guessed: Iterable[tuple[Leaf, str | None]]) -> list[str]:
    known = list(guessed)
    if lost := [leaf for leaf, label in known if label is None]:
        raise unlabelled(lost, known)
    return [label for _, label in known if label is not None]


def guesses(
    found: Sequence[Leaf], preset: str | None, more: Iterable[str] = ()
) -> list[tuple[Leaf, str | None]]:
    """Each leaf with its label, or None where no rule applies.

    `more` are names of groups, which an unknown preset may have been meant to be.

    Raises:
        ValueError: an unknown preset, one that finds no factor, or that its shapes contradict.
    """
    if preset is not None and preset not in PRESETS:
        close = difflib.get_close_matches(str(preset), PRESETS, 1)
        raise ValueError(
            f"labels: must be one of {', '.join((*PRESETS, *more))}, a function, or a tree of "
            f"groups (got {preset!r}{f'; {close[0]}?' if close else ''}); Flax, qwix, tunix, "
            "Keras, PEFT, levanter, gemma and openpi need none"
        )
    beside = neighbours(found)
    rule = default if preset is None else PRESETS[preset]
    by_name = letters if rule is letters else default
    factors = [leaf for leaf in found if by_name(leaf, beside[leaf.names[:-1]]) in ("A", "B")]
    if preset is not None and not factors:
        first = f", as {found[0]}" if found else ""
        raise ValueError(
            f"labels: preset {preset!r} finds no factor among {len(found)} leaves{first}; "
            f"it wants {WANTED[preset]}"
        )
    if preset is not None and rule is letters:
        check_letters(preset, found)
    return [(leaf, rule(leaf, beside[leaf.names[:-1]])) for leaf in found]


def labels_of(
    found: Sequence[Leaf],
    params: Any,
    labels: Any,
    settled: Sequence[str | None],
    allowed: Sequence[str] = GROUPS,
) -> list[str | None]:
    """The label of each leaf, by `labels`: a preset, a function, or a tree of names or a prefix.

    None stands where no rule applies. A tree is matched by names, whatever its containers are, and
    need not speak of leaves that are settled. A text that is allowed is the label of all.

    Raises:
        ValueError: a tree without a label for a leaf, or with one for nothing; a label that is no
            text; what `guesses` refuses.
    """
    if labels is None or (isinstance(labels, str) and labels not in allowed):
        own = [name for name in allowed if name not in GROUPS]
        return [label for _, label in guesses(found, labels, own)]
    tree = labels(params) if is_function(labels) else labels
    told = {leaf.names: leaf.array for leaf in leaves(tree)}
    for names, label in told.items():
        if not isinstance(label, str):
            raise ValueError(
                f"labels: must hold names of groups, as {', '.join(GROUPS)} "
                f"(got {type(label).__name__} at {'.'.join(names) or 'its top'})"
            )
    above = [_prefix(leaf.names, told) for leaf in found]
    if spare := sorted(".".join(names) for names in told.keys() - set(above) if names):
        raise ValueError(
            f"labels: must name leaves of the parameters from their top, as {found[0].path} (got "
            f"{spare[0]!r}); a pattern of names has the others, as "
            f'groups={{"A": ParamGroup(match="*.{spare[0]}")}}'
        )
    for leaf, key, done in zip(found, above, settled, strict=True):
        if key is None and done is None:
            raise ValueError(
                f'labels: must say a group for {leaf}, as {{"{leaf.path}": "frozen"}} (got '
                f"{', '.join('.'.join(names) for names in told) or 'none'})"
            )
    return [None if key is None else told[key] for key in above]


def is_function(labels: Any) -> bool:
    """Whether labels are a function; a tree can be callable too, as a module of Equinox is."""
    return callable(labels) and all(leaf is labels for leaf in jax.tree.leaves(labels))


def _prefix(names: tuple[str, ...], told: Mapping[tuple[str, ...], str]) -> tuple[str, ...] | None:
    """The longest beginning of a name that has a label."""
    return next((names[:k] for k in range(len(names), -1, -1) if names[:k] in told), None)


def unlabelled(lost: Sequence[Leaf], known: Labelled) -> ValueError:
    """The refusal of leaves to which no rule applies: the most telling one, and the line to write.

    `known` are all leaves and their labels.

    Beside a letter that says nothing the kernel has no label either, and the preset settles both.
    """
    leaf = next((leaf for leaf in lost if leaf.names[-1:] in (("a",), ("b",))), lost[0])
    what = f"{leaf.path}: a leaf of shape {leaf.shape} has no label"
    if not leaf.names:
        return ValueError(f'{what}; pass labels="A" or labels="B"')
    if leaf.names[-1] in ("a", "b"):
        return ValueError(
            f"{what}, since its letter does not say which side of the layer it is; where b reads "
            'the input, as in lorax and quax, pass labels="lorax" or labels="quax", else a tree of '
            'groups, as labels={"a": "A", "b": "B"}'
        )
    more = f" ({len(lost) - 1} more have none; is wrt= too wide?)" if len(lost) > 1 else ""
    if leaf.names[-1].lower() in OF_NORMS or in_norm(leaf.names):
        return ValueError(
            f"{what}{more}; if it is part of a norm, write "
            f'groups={{"no_decay": ParamGroup(match="{glob.escape(leaf.path)}")}}'
        )
    head = _whole(leaf, known)
    return ValueError(
        f'{what}{more}; if it trains, write groups={{"head": ParamGroup(match="{head}")}}; '
        "if it is a factor, name it lora_a or lora_b, give it a variable type of "
        "lora_theory.adapters.layer, or pass labels="
    )


def _whole(leaf: Leaf, known: Labelled) -> str:
    """A pattern for the layer of a kernel, so that its bias is in the same group; but not for what
    has a group of another kind there, as LoRA factors have.
    """
    above = leaf.names[:-1]
    inside = {label for other, label in known if other.names[: len(above)] == above}
    whole = above and leaf.names[-1] in ARRAYS and inside <= {None, "no_decay"}
    return glob.escape(".".join(above if whole else leaf.names))
