"""How each group of LoRA+ trains: its rate, its optimizer, its weight decay, by the arguments."""

import dataclasses
import difflib
import fnmatch
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lora_theory import arguments
from lora_theory.adapters.labels import GROUPS, Leaf, is_function, labels_of, leaves, unlabelled
from lora_theory.adapters.pairs import check_side, fan_in, pairs
from lora_theory.arrays import Rate

Schedule = Callable[[Any], Any]
Base = Callable[..., optax.GradientTransformation]

# How optimizers of optax name their decay, and the value that turns it off.
_DECAYS: dict[str, float | None] = {
    "weight_decay": 0.0,
    "adam_weight_decay": 0.0,
    "weight_decay_rate": None,
}


# They divide by a sum over all gradients, which is 0 over the factors A at the first step, where
# B = 0: on that group alone they give NaN.
_ONE_STEP_SIZE = ("prodigy", "dadapt_adamw", "dog", "dowg")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """How a group of `lora_plus` differs from what it does by default; new names make new groups.

    A group of your own trains at η_A, and its parameters of one dimension without weight decay,
    unless told otherwise here.

    Args:
        match: patterns of leaf names (one, or a tuple), as in a shell: `head` is that leaf or all
            below it, `*.scale` every leaf that ends so. They come before all other rules; the
            first group that matches has the leaf.
        rate: the rate, a number or a schedule.
        ratio: or the rate in units of η_A, under its schedule too.
        base: the optimizer, as in `lora_plus`.
        weight_decay: of all its parameters, of any dimensions.

    Raises:
        ValueError: a rate and a ratio, a negative or infinite number, a pattern that is no text.

    >>> ParamGroup(match="head", ratio=10.0).match
    ('head',)
    """

    match: Any = ()
    rate: Any = None
    ratio: Any = None
    base: Any = None
    weight_decay: Any = None

    def __post_init__(self) -> None:
        patterns = (self.match,) if isinstance(self.match, str) else tuple(self.match)
        if not all(isinstance(pattern, str) and pattern for pattern in patterns):
            raise arguments.refusal("match", "a pattern of names, as head or *.scale", self.match)
        object.__setattr__(self, "match", tuple(p.replace("/", ".") for p in patterns))
        if self.rate is not None and self.ratio is not None:
            raise ValueError("rate, ratio: must be one of the two (got both)")
        if self.rate is not None:
            check_rate("rate", self.rate)
        if self.ratio is not None:
            check_rate("ratio", self.ratio, schedule=False)
        if self.weight_decay is not None and not callable(self.weight_decay):
            check_rate("weight_decay", self.weight_decay, schedule=False)

    def has(self, path: str) -> bool:
        """Whether a pattern matches the leaf or something that it is in."""
        return any(
            fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}.*")
            for pattern in self.match
        )


@dataclasses.dataclass(frozen=True)
class Part:
    """Leaves that train in the same way: of one group, decaying or not, of one fan-in."""

    group: str
    decays: bool
    fan_in: int | None = None

    @property
    def name(self) -> str:
        """What it is called in the state."""
        plain = self.group == "no_decay" or self.decays
        return (
            self.group + ("" if plain else "_no_decay") + (f"_{self.fan_in}" if self.fan_in else "")
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The arguments of `lora_plus`, checked; what each part of the parameters gets from them."""

    eta_a: Any
    eta_b: Any = None
    ratio: Any = None
    base: Any = "adamw"
    eta_embedding: Any = 1e-6
    labels: Any = None
    groups: Any = None
    reference_fan_in: Any = None
    equal_decay: bool = False
    shared: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.eta_a, tuple | list):
            raise ValueError(
                f"eta_a: must be one rate; give eta_b as the second argument (got {self.eta_a})"
            )
        check_rate("eta_a", self.eta_a)
        if (self.eta_b is None) == (self.ratio is None):
            given = "neither" if self.eta_b is None else "both"
            raise ValueError(f"eta_b, ratio: must be one of the two (got {given})")
        if self.ratio is not None:
            check_rate("ratio", self.ratio, schedule=False)
        else:
            check_rate("eta_b", self.eta_b)
        check_rate("eta_embedding", self.eta_embedding)
        base = resolved("base", self.base)
        if _name(base) in _ONE_STEP_SIZE and not self.shared:
            raise ValueError(
                f"base: must be shared by all groups where it estimates one step size, as "
                f'lora_plus({self.eta_a}, …, base="{_name(base)}", shared=True) (got shared=False)'
            )
        if self.shared and self.equal_decay:
            raise ValueError(
                "equal_decay, shared: must be at most one of the two, since a shared optimizer "
                "decays before its update is scaled (got both)"
            )
        if self.reference_fan_in is not None:
            arguments.integer("reference_fan_in", self.reference_fan_in)
        told = self.labels is None or is_function(self.labels) or jax.tree.leaves(self.labels)
        if not told or isinstance(self.labels, int | float):
            raise arguments.refusal("labels", "a preset, a function or a tree", self.labels)
        if not isinstance(self.mine, Mapping):
            raise arguments.refusal("groups", "a mapping of names to ParamGroup", self.groups)
        for name, group in self.mine.items():
            self._check_group(name, group)

    def _check_group(self, name: str, group: Any) -> None:
        if not isinstance(name, str) or not isinstance(group, ParamGroup):
            raise arguments.refusal(f"groups[{name!r}]", "a ParamGroup under a name", group)
        where = f"groups[{name!r}]"
        if name in ("A", "B") and (group.rate is not None or group.ratio is not None):
            raise ValueError(f"{where}: must have no rate; eta_a, eta_b and ratio say it")
        if name not in GROUPS and not group.match and self.labels is None:
            close = difflib.get_close_matches(name, GROUPS, 1)
            raise ValueError(
                f"{where}: must say which leaves it has, as ParamGroup(match=…), or be one of "
                f"{', '.join(GROUPS)} (got neither{f'; {close[0]}?' if close else ''})"
            )
        if group.base is not None:
            resolved(f"{where}.base", group.base)
        if group.weight_decay is not None and "weight_decay" not in _takes(self.base_of(name)):
            raise ValueError(
                f"{where}.weight_decay: must stand beside a base that takes weight_decay, as "
                f"optax.adamw (got {_name(group.base or self.base)})"
            )

    @property
    def mine(self) -> Any:
        """The groups that the user says something of."""
        return {} if self.groups is None else self.groups

    def plan(self, params: Any) -> list[tuple[Leaf, Part]]:
        """Every leaf, and the part that it trains in.

        Raises:
            ValueError: a leaf without a group, of an unknown one, or of a type that does not
                train; a pattern that matches nothing; factors whose kernel says the opposite; a
                fan-in that shapes do not tell; a decay that can not be turned off.
        """
        grouped = self.grouped(params)
        if lost := [leaf for leaf, label in grouped if label is None]:
            raise unlabelled(lost)
        labelled = [(leaf, label) for leaf, label in grouped if label is not None]
        for leaf, label in labelled:
            if label != "frozen" and not _trains(leaf):
                raise ValueError(
                    f"{leaf.path}: must be of a real floating type to train, or in the group "
                    f'frozen, as groups={{"frozen": ParamGroup(match="{leaf.path}")}} '
                    f"(got {getattr(leaf.array, 'dtype', type(leaf.array).__name__)})"
                )
        sizes = {}
        for pair in pairs(labelled):
            check_side(pair)
            sizes[pair.a] = fan_in(pair)
        parts = [(leaf, self.part(leaf, label, sizes.get(leaf))) for leaf, label in labelled]
        self._check_decay(parts)
        return parts

    def grouped(self, params: Any) -> list[tuple[Leaf, str | None]]:
        """Every leaf and its group; None where no rule applies.

        Raises:
            ValueError: a group that is none, a pattern that matches nothing.
        """
        found = leaves(params)
        matched = [
            next((name for name, group in self.mine.items() if group.has(leaf.path)), None)
            for leaf in found
        ]
        for name, group in self.mine.items():
            if group.match and not any(group.has(leaf.path) for leaf in found):
                raise ValueError(
                    f"groups[{name!r}].match: must match a leaf (got {', '.join(group.match)}; "
                    f"leaves are {', '.join(leaf.path for leaf in found[:4])}"
                    f"{', …' if len(found) > 4 else ''})"
                )
        told = labels_of(found, params, self.labels, matched)
        labels = [name or label for name, label in zip(matched, told, strict=True)]
        allowed = (*GROUPS, *(name for name in self.mine if name not in GROUPS))
        for leaf, label in zip(found, labels, strict=True):
            if label is not None and label not in allowed:
                raise ValueError(
                    f"labels: must be among {', '.join(allowed)} (got {label!r} for {leaf.path})"
                )
        return list(zip(found, labels, strict=True))

    def part(self, leaf: Leaf, label: str, n: int | None) -> Part:
        """Where a leaf trains: factors decay as the base says, other vectors only if told to.

        n is the input size of a factor A, where its shape tells it.
        """
        group = self.mine.get(label, ParamGroup())
        decays = label in ("A", "B", "embedding") or (
            label not in ("no_decay", "magnitude") and len(leaf.shape) > 1
        )
        scaled = label == "A" and self.reference_fan_in is not None
        if scaled and n is None:
            raise ValueError(
                f"reference_fan_in: must find the input size of {leaf}, which its shape beside "
                "B's does not tell; give it a group with a rate of its own, as "
                f'groups={{"wide": ParamGroup(match="{leaf.path}", ratio=…)}}'
            )
        return Part(label, decays or group.weight_decay is not None, n if scaled else None)

    def times(self, part: Part) -> Any:
        """The part's rate in units of η_A, or None if it has one of its own."""
        group = self.mine.get(part.group, ParamGroup())
        if group.rate is not None:
            return None
        if group.ratio is not None:
            return group.ratio
        if part.group == "A" and part.fan_in is not None:
            return (self.reference_fan_in or 1) / part.fan_in
        if part.group in ("B", "no_decay", "magnitude"):
            return self.ratio if self.eta_b is None else None
        return None if part.group == "embedding" else 1.0

    def rate(self, part: Part) -> Any:
        """The rate of a part: a number or a schedule, η_A itself where the factor is 1."""
        times = self.times(part)
        if times is not None:
            return _times(times, self.eta_a)
        own = self.mine.get(part.group, ParamGroup()).rate
        if own is not None:
            return own
        return self.eta_embedding if part.group == "embedding" else self.eta_b

    def base_of(self, group: str) -> Base:
        """The optimizer of a group."""
        own = self.mine.get(group, ParamGroup()).base
        return resolved("base", self.base if own is None else own)

    def decay(self, part: Part) -> dict[str, Any]:
        """What the base is told of weight decay; nothing where its own default holds."""
        takes = _takes(self.base_of(part.group))
        own = self.mine.get(part.group, ParamGroup()).weight_decay
        if own is not None:
            return {"weight_decay": own}
        if not part.decays:
            return {name: off for name, off in _DECAYS.items() if name in takes}
        if not self.equal_decay:
            return {}
        if "weight_decay" not in takes:
            raise ValueError(
                "equal_decay: must stand beside a base that takes weight_decay, as optax.adamw "
                f"(got {_name(self.base)})"
            )
        times = self._relative("equal_decay", part)
        # What does not move does not decay, whatever its decay is.
        return {"weight_decay": takes["weight_decay"] / (1.0 if _equal(times, 0) else times)}

    def told(self, part: Part) -> dict[str, Any]:
        """All arguments of the base but the rate, its defaults too."""
        return _takes(self.base_of(part.group)) | self.decay(part)

    def _relative(self, asked: str, part: Part) -> Any:
        """η / η_A of a part, constant over all steps."""
        times = self.times(part)
        rate = self.rate(part)
        if _equal(rate, self.eta_a):
            times = 1.0
        elif times is None and not callable(rate) and not callable(self.eta_a):
            times = rate / self.eta_a if not _equal(self.eta_a, 0) else 1.0
        if times is None:
            raise ValueError(
                f"{asked}: must stand beside ratio=, or beside rates that are numbers (got a "
                f"schedule of its own for group {part.group})"
            )
        return times

    def transform(self, part: Part) -> optax.GradientTransformation:
        """The optimizer of a part: at its own rate, or at η_A where it is shared."""
        if part.group == "frozen":
            return optax.set_to_zero()
        rate = self.eta_a if self.shared else self.rate(part)
        return self.base_of(part.group)(rate, **self.decay(part))

    def scale(self, part: Part) -> Any:
        """What a part's update is multiplied with: η / η_A where its optimizer ran at η_A."""
        return self._relative("shared", part) if self.shared else 1.0

    def families(self, parts: Sequence[Part]) -> list[list[Part]]:
        """Parts that one transformation serves.

        At λ = 1 the base then sees the tree that it would see alone, and gives the same bits:
        split in two, a bias correction that one array alone reads is compiled otherwise. Only
        optimizers of optax itself are known to treat each leaf by itself; others, which may clip
        by a norm over leaves, work part by part at every λ, unless they are shared at every λ.
        """
        families: list[list[Part]] = []
        for part in parts:
            family = next((family for family in families if self._alike(family[0], part)), None)
            if family is None:
                families.append([part])
            else:
                family.append(part)
        return families

    def _alike(self, one: Part, other: Part) -> bool:
        if "frozen" in (one.group, other.group):
            return False
        base = self.base_of(one.group)
        return (
            base is self.base_of(other.group)
            and (self.shared or (_of_optax(base) and _equal(self.rate(one), self.rate(other))))
            and self.told(one) == self.told(other)
        )

    def _check_decay(self, parts: Sequence[tuple[Leaf, Part]]) -> None:
        for leaf, part in parts:
            own = self.mine.get(part.group, ParamGroup()).base
            if part.decays or part.group == "frozen" or own is not None:
                continue
            if not _of_optax(self.base_of(part.group)) and not self.decay(part):
                if _decays(self.base_of(part.group)):
                    raise ValueError(
                        f"base: must let weight decay be turned off for {leaf.path}: take an "
                        "argument weight_decay, as functools.partial(optax.adamw, weight_decay=…) "
                        f'does; or let it decay, as groups={{"{part.group}": ParamGroup(base=…)}} '
                        f"(got {_name(self.base)})"
                    )
                return


def check_rate(name: str, rate: Any, *, schedule: bool = True) -> None:
    """Refuse a senseless rate while it is still a number; a traced one can not be looked at.

    Raises:
        ValueError: what is neither a schedule nor one finite number of at least 0.
    """
    if schedule and callable(rate):
        return
    if isinstance(rate, jax.core.Tracer) and rate.shape == ():
        return
    arguments.at_least(name, rate, 0)


def resolved(name: str, base: Any) -> Base:
    """A function from a rate to a transformation; a text is looked up in optax.

    Raises:
        ValueError: what is none.
    """
    if isinstance(base, str):
        found = getattr(optax, base, None) or getattr(optax.contrib, base, None)
        if not callable(found) or "learning_rate" not in inspect.signature(found).parameters:
            close = difflib.get_close_matches(base, dir(optax), 1)
            raise ValueError(
                f"{name}: must be the name of an optimizer of optax, as sgd, or a function from a "
                f"rate (got {base!r}{f'; {close[0]}?' if close else ''})"
            )
        return found
    if not callable(base):
        wanted = "a function from a rate, as optax.sgd, or the name of one"
        raise arguments.refusal(name, wanted, base)
    return base


def _takes(base: Base) -> dict[str, Any]:
    """The names and defaults of a base's arguments."""
    return {name: one.default for name, one in inspect.signature(base).parameters.items()}


def _of_optax(base: Any) -> bool:
    while isinstance(base, functools.partial):
        base = base.func
    home = str(getattr(base, "__module__", ""))
    return home.startswith("optax.") and not home.startswith("optax.contrib")


@functools.lru_cache(maxsize=32)
def _decays(base: Base) -> bool:
    """Whether a base moves parameters that have no gradient; False where it can not be tried."""
    try:
        with jax.ensure_compile_time_eval():
            params = {"vector": jnp.ones(2), "matrix": jnp.ones((2, 2))}
            tx = base(1.0)
            zeros = jax.tree.map(jnp.zeros_like, params)
            updates, _ = tx.update(zeros, tx.init(params), params)
            return bool((updates["vector"] != 0).any())
    except Exception:
        return False


def _name(base: Any) -> str:
    return base if isinstance(base, str) else str(getattr(base, "__name__", base))


def _trains(leaf: Leaf) -> bool:
    return jnp.issubdtype(getattr(leaf.array, "dtype", type(leaf.array)), jnp.floating)


def _times(ratio: Any, rate: Rate | Schedule) -> Any:
    if _equal(ratio, 1.0):
        return rate
    if callable(rate):
        return lambda count: ratio * rate(count)
    return ratio * rate


def _equal(left: Any, right: Any) -> bool:
    """Whether two rates are known to be equal; of traced ones and schedules only itself is."""
    known = all(isinstance(rate, int | float | np.number) for rate in (left, right))
    return left is right or (known and bool(left == right))
