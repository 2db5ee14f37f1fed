"""What `lora_plus` would do with given parameters, leaf by leaf, before a step is taken."""

import dataclasses
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lora_theory import arguments
from lora_theory.adapters.bases import called, takes
from lora_theory.adapters.groups import Part
from lora_theory.adapters.names import Leaf, default, leaves, neighbours
from lora_theory.adapters.pairs import Pair, check_side, fan_in, fan_out, pairs
from lora_theory.adapters.plan import grouped_by, part_of, planned
from lora_theory.adapters.recipe import Recipe

_HEADER = (
    "leaf", "shape", "group", "side", "rate at 0", "largest", "at the end", "decay", "rate × decay",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf: where it stands and how it trains.

    Attributes:
        leaf: its name, in parts joined by dots.
        shape: its shape.
        group: its group, or None if `lora_plus` would refuse it.
        side: "reads n = …" or "writes m = …" of a factor, where shapes tell it.
        rate: the rate at step 0.
        last: the rate at the last step.
        largest: the largest rate of a schedule, of 201 steps.
        decay: the weight decay that the base gets, None of a base that has none.
    """

    leaf: str
    shape: tuple[int, ...]
    group: str | None
    side: str = ""
    rate: float | None = None
    last: float | None = None
    largest: float | None = None
    decay: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        rate = self.rate if self.largest is None else self.largest
        product = None if rate is None or self.decay is None else rate * self.decay
        numbers = (self.rate, self.largest, self.last, self.decay, product)
        shape = "×".join(map(str, self.shape)) or "()"
        return self.leaf, shape, self.group or "none", self.side, *map(_number, numbers)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A table of leaves, counts of groups, and what looks wrong; `print` shows all of it."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many leaves each group has."""
        return dict(Counter(row.group or "none" for row in self.rows))

    def __str__(self) -> str:
        table = [_HEADER, *(row.cells() for row in self.rows)]
        if all(row.largest is None for row in self.rows):  # No schedule whose steps are known.
            column = _HEADER.index("largest")
            table = [(*cells[:column], *cells[column + 1 :]) for cells in table]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        counted = ", ".join(f"{group} {count}" for group, count in self.counts.items())
        return "\n".join([*lines, f"leaves: {counted}", *(f"! {text}" for text in self.warnings)])


def explain(
    params: Any,
    eta_a: Any,
    eta_b: Any = None,
    *,
    steps: int | None = None,
    wrt: Any = nnx.LoRAParam,
    **settings: Any,
) -> Explanation:
    """What `lora_plus` with the same arguments does with parameters: leaf, group, rate, decay.

    Args:
        params: what the optimizer would get at `init`, or an `nnx.Module`.
        eta_a: η_A, as of `lora_plus`.
        eta_b: η_B, if not `ratio=`.
        steps: T, to show rates at step T − 1 of a schedule.
        wrt: of a module, what trains, as in `nnx.Optimizer(…, wrt=)`.
        settings: the other arguments of `lora_plus`.

    Returns:
        Rows and warnings: leaves without a group, factors exchanged, a group without leaves, all
        leaves in one group, a matrix at A's rate that is no factor, B that starts away from zero
        where A is zero, equal rates.

    Raises:
        ValueError: arguments that `lora_plus` refuses whatever the parameters are; no leaves.

    >>> import jax.numpy as jnp
    >>> params = {"lora_a": jnp.ones((64, 4)), "lora_b": jnp.zeros((4, 32)), "bias": jnp.ones(32)}
    >>> print(explain(params, 1e-4, ratio=16))
    leaf    shape  group     side           rate at 0  at the end  decay   rate × decay
    bias    32     no_decay                 0.0016     0.0016      0       0
    lora_a  64×4   A         reads n = 64   0.0001     0.0001      0.0001  1e-08
    lora_b  4×32   B         writes m = 32  0.0016     0.0016      0.0001  1.6e-07
    leaves: no_decay 1, A 1, B 1
    """
    if isinstance(params, nnx.Optimizer):
        raise ValueError("params: must be parameters or a module (got an optimizer)")
    known = {field.name for field in dataclasses.fields(Recipe)}
    if other := sorted(settings.keys() - known):
        raise TypeError(f"explain() got an unexpected keyword argument {other[0]!r}")
    recipe = Recipe(eta_a=eta_a, eta_b=eta_b, **settings)
    if steps is not None:
        arguments.integer("steps", steps)
    around: list[Leaf] = []
    if isinstance(params, nnx.Module):
        around = leaves(nnx.state(params, nnx.Not(wrt)))
        params = nnx.state(params, wrt)
    grouped = grouped_by(recipe, params)
    if not grouped:
        raise ValueError("params: must have leaves that train (got none; wrt= says which train)")
    found = list(pairs([*grouped, *((leaf, None) for leaf in around)]))
    sides = {leaf: side for pair in found for leaf, side in _sides(pair).items()}
    sizes = {pair.a: fan_in(pair) for pair in found}
    rows = tuple(
        _row(leaf, label, recipe, sides.get(leaf, ""), sizes.get(leaf), steps)
        for leaf, label in grouped
    )
    texts = _warnings(grouped, found, recipe)
    try:
        planned(recipe, params)
    except ValueError as error:
        refused = f"lora_plus refuses such trees: {error}"
        texts = [refused, *(text for text in texts if text not in refused)]
    return Explanation(rows, tuple(texts))


def _sides(pair: Pair) -> dict[Leaf, str]:
    n, m = fan_in(pair), fan_out(pair)
    return {} if not n or not m else {pair.a: f"reads n = {n}", pair.b: f"writes m = {m}"}


def _row(
    leaf: Leaf, label: str | None, recipe: Recipe, side: str, n: int | None, steps: int | None
) -> Row:
    if label is None or label == "frozen":
        return Row(leaf.path, leaf.shape, label)
    try:
        part = part_of(recipe, leaf, label, n)
        decay = _decay(recipe, part)
    except ValueError:  # Among the warnings, as what lora_plus refuses.
        return Row(leaf.path, leaf.shape, label, side)
    rate = recipe.rate(part)
    if not callable(rate):
        return Row(leaf.path, leaf.shape, label, side, float(rate), float(rate), None, decay)
    at = [float(rate(jnp.int32(step))) for step in _some_of(steps)]
    last, largest = (None, None) if steps is None else (at[-1], max(at))
    return Row(leaf.path, leaf.shape, label, side, at[0], last, largest, decay)


def _some_of(steps: int | None) -> list[int]:
    """Steps of a schedule, the first and the last among them."""
    return sorted({int(step) for step in np.linspace(0, (steps or 1) - 1, 201)})


def _decay(recipe: Recipe, part: Part) -> float | None:
    found = recipe.told(part).get("weight_decay")
    return None if found is None or callable(found) else float(found)


def _warnings(
    grouped: list[tuple[Leaf, str | None]], found: list[Pair], recipe: Recipe
) -> list[str]:
    texts = []
    lost = [leaf for leaf, label in grouped if label is None]
    if len(lost) > 1:
        texts.append(f"{len(lost)} leaves have no group")
    for pair in found:
        try:
            check_side(pair)
        except ValueError as error:
            texts.append(str(error))
    used = {label for _, label in grouped if label is not None}
    texts += [f"group {group} is empty" for group in ("A", "B", *recipe.mine) if group not in used]
    if len(used) == 1 and len(grouped) > 1 and not lost:
        texts.append(f"all {len(grouped)} leaves are in one group, {next(iter(used))}")
    factors = {leaf for pair in found for leaf in (pair.a, pair.b)}
    texts += _swallowed(grouped) + _not_orthogonal(grouped, recipe)
    texts += [
        f"{leaf} trains at A's rate, and no B stands beside it"
        for leaf, label in grouped
        if label == "A" and leaf not in factors and default(leaf, set()) != "A"
    ]
    for pair in () if recipe.labels in ("lorax", "quax") else found:  # They start so.
        if _zero(pair.a) and _zero(pair.b) is False:
            texts.append(
                f"{pair.a.path} is zero and {pair.b.path} is not: Init[2], or A and B are exchanged"
            )
    if {"A", "B"} <= used and recipe.rate(Part("A", True)) is recipe.rate(Part("B", True)):
        texts.append("A and B train at one rate: this is LoRA, not LoRA+")
    return texts


def _swallowed(grouped: list[tuple[Leaf, str | None]]) -> list[str]:
    """Both factors of a layer in one group, by a pattern that is wider than it was meant."""
    beside = neighbours([leaf for leaf, _ in grouped])
    by_name = [(leaf, default(leaf, beside[leaf.names[:-1]])) for leaf, _ in grouped]
    groups = dict(grouped)
    slow = [
        f"{leaf} is a factor of an embedding, and trains in the group {groups[leaf]}"
        for leaf, label in by_name
        if label == "embedding" and groups[leaf] not in ("embedding", "frozen", None)
    ]
    return slow + [
        f"{pair.a.path} and {pair.b.path} train at one rate, in the group {groups[pair.a]}"
        for pair in pairs(by_name)
        if groups[pair.a] == groups[pair.b] and groups[pair.a] not in (None, "frozen")
    ]


def _not_orthogonal(grouped: list[tuple[Leaf, str | None]], recipe: Recipe) -> list[str]:
    return [
        f"{leaf} has not two dimensions, and Muon trains it with Adam unless it is told "
        "muon_weight_dimension_numbers"
        for leaf, label in grouped
        if label not in (None, "frozen")
        and len(leaf.shape) > 2
        and called(recipe.base_of(label)) == "muon"
        and takes(recipe.base_of(label)).get("muon_weight_dimension_numbers") is None
    ]


def _zero(leaf: Leaf) -> bool | None:
    """Whether all of it is zero; None where there are no values, as under `jax.eval_shape`."""
    if not isinstance(leaf.array, jax.Array | np.ndarray) or isinstance(
        leaf.array, jax.core.Tracer
    ):
        return None
    return not np.any(np.asarray(leaf.array))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
