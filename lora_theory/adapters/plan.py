"""Where each leaf trains: its group, by patterns, types and names, and the part of it."""

import dataclasses
import glob
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lora_theory.adapters.groups import Part, matches
from lora_theory.adapters.labels import GROUPS, is_function, labels_of, unlabelled
from lora_theory.adapters.names import Leaf, is_vector, leaves
from lora_theory.adapters.pairs import check_side, fan_in, pairs
from lora_theory.adapters.recipe import Recipe


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Plan:
    """Where each leaf trains, fixed at `init`: names, and parts in the same order.

    `record` is what the arguments said of it, so that others are noticed.
    """

    paths: tuple[str, ...]
    parts: tuple[Part, ...]
    record: tuple[Any, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe, params: Any) -> "Plan":
        """The plan of parameters, by the arguments of `lora_plus`.

        Raises:
            ValueError: what `planned` refuses.
        """
        found = planned(recipe, params)
        paths, parts = tuple(leaf.path for leaf, _ in found), tuple(part for _, part in found)
        return cls(paths, parts, record_of(recipe))

    @property
    def used(self) -> tuple[Part, ...]:
        """The parts that occur."""
        return tuple(dict.fromkeys(self.parts))

    @property
    def digest(self) -> Any:
        """A number that another plan does not have, to be saved with the state."""
        text = repr([(path, part.name) for path, part in zip(self.paths, self.parts, strict=True)])
        return np.uint32(zlib.crc32(text.encode()))


def record_of(recipe: Recipe) -> tuple[Any, ...]:
    """What decides where a leaf trains, as far as it can be compared."""
    told: Any = "a function"
    if not is_function(recipe.labels):
        told = tuple((leaf.path, leaf.array) for leaf in leaves(recipe.labels))
    matched = tuple((name, group.match) for name, group in recipe.mine.items() if group.match)
    decays = tuple(
        name
        for name, group in recipe.mine.items()
        if group.weight_decay is not None and name not in ("A", "B", "embedding")
    )
    return told, matched, decays, recipe.reference_fan_in


def planned(recipe: Recipe, params: Any) -> list[tuple[Leaf, Part]]:
    """Every leaf, and the part that it trains in.

    Raises:
        ValueError: a leaf without a group, of an unknown one, or of a type that does not
            train; a pattern that matches nothing; factors whose kernel says the opposite; a
            fan-in that shapes do not tell; a decay that can not be turned off; a shared
            optimizer whose parts decay differently or have rates of their own.
    """
    grouped = grouped_by(recipe, params)
    if lost := [leaf for leaf, label in grouped if label is None]:
        raise unlabelled(lost, grouped)
    labelled = [(leaf, label) for leaf, label in grouped if label is not None]
    for leaf, label in labelled:
        if label != "frozen" and not _trains(leaf):
            raise ValueError(
                f"{leaf.path}: must be of a real floating type to train, or in the group "
                f'frozen, as groups={{"frozen": ParamGroup(match="{glob.escape(leaf.path)}")}} '
                f"(got {getattr(leaf.array, 'dtype', type(leaf.array).__name__)})"
            )
    sizes = {}
    for pair in pairs(labelled):
        check_side(pair)
        sizes[pair.a] = fan_in(pair)
    parts = [(leaf, part_of(recipe, leaf, label, sizes.get(leaf))) for leaf, label in labelled]
    recipe.check(parts)
    return parts


def grouped_by(recipe: Recipe, params: Any) -> list[tuple[Leaf, str | None]]:
    """Every leaf and its group; None where no rule applies.

    Raises:
        ValueError: a group that is none, a pattern that gets no leaf.
    """
    found = leaves(params)
    matched = _matched(recipe, found)
    allowed = (*GROUPS, *(name for name in recipe.mine if name not in GROUPS))
    told = labels_of(found, params, recipe.labels, matched, allowed)
    labels = [name or label for name, label in zip(matched, told, strict=True)]
    for leaf, label in zip(found, labels, strict=True):
        if label is not None and label not in allowed:
            raise ValueError(
                f"labels: must be among {', '.join(allowed)} (got {label!r} for {leaf.path})"
            )
    return list(zip(found, labels, strict=True))


def _matched(recipe: Recipe, found: Sequence[Leaf]) -> list[str | None]:
    """The group whose pattern has each leaf: the first one."""
    patterns = [(name, p) for name, group in recipe.mine.items() for p in group.match]
    first = [
        next(((name, p) for name, p in patterns if matches(p, leaf.path)), None) for leaf in found
    ]
    for name, pattern in patterns:
        if not any(matches(pattern, leaf.path) for leaf in found):
            deeper = any(matches(f"*.{pattern}", leaf.path) for leaf in found)
            raise ValueError(
                f"groups[{name!r}].match: must match a leaf (got {pattern}; "
                f"{f'*.{pattern} does; ' if deeper else ''}leaves are "
                f"{', '.join(leaf.path for leaf in found[:4])}{', …' * (len(found) > 4)})"
            )
    for name, group in recipe.mine.items():
        if group.match and not any(at is not None and at[0] == name for at in first):
            raise ValueError(
                f"groups[{name!r}].match: must match a leaf that no group before it has (got "
                f"{', '.join(group.match)}); give the narrower group first"
            )
    return [None if at is None else at[0] for at in first]


def part_of(recipe: Recipe, leaf: Leaf, label: str, n: int | None) -> Part:
    """Where a leaf trains: factors decay as the base says, other vectors only if told to.

    n is the input size of a factor A, where its shape tells it.
    """
    told = recipe.said(label).weight_decay is not None
    decays = label in ("A", "B", "embedding") or (
        label not in ("no_decay", "magnitude") and not is_vector(leaf)
    )
    scaled = label == "A" and recipe.reference_fan_in is not None
    if scaled and n is None:
        raise ValueError(
            f"reference_fan_in: must find the input size of {leaf}, which its shape beside "
            "B's does not tell; give it a group with a rate of its own, as "
            f'groups={{"wide": ParamGroup(match="{glob.escape(leaf.path)}", ratio=…)}}'
        )
    return Part(label, decays or told, n if scaled else None)


def _trains(leaf: Leaf) -> bool:
    return jnp.issubdtype(getattr(leaf.array, "dtype", type(leaf.array)), jnp.floating)
