"""How each group of LoRA+ trains: its rate, its optimizer, its weight decay, by the arguments."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lora_theory import arguments
from lora_theory.adapters.bases import (
    ONE_STEP_SIZE,
    Base,
    called,
    hides_decay,
    leafwise,
    made,
    moves_without_gradient,
    no_decay,
    resolved,
    takes,
)
from lora_theory.adapters.groups import ParamGroup, Part, checked_rate
from lora_theory.adapters.labels import GROUPS, is_function
from lora_theory.adapters.names import Leaf
from lora_theory.arrays import Rate

Schedule = Callable[[Any], Any]

# How the parts of a group are called beside the group itself.
_PART = re.compile(r".*-(?:no_decay|\d+)")
_PLAIN = ParamGroup()


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
        self._check_rates()
        resolved("base", self.base)
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
        self._check_bases()

    def _check_rates(self) -> None:
        if isinstance(self.eta_a, tuple | list):
            raise ValueError(
                f"eta_a: must be one rate; give eta_b as the second argument (got {self.eta_a})"
            )
        rates = {"eta_a": checked_rate("eta_a", self.eta_a)}
        if (self.eta_b is None) == (self.ratio is None):
            given = "neither" if self.eta_b is None else "both"
            raise ValueError(f"eta_b, ratio: must be one of the two (got {given})")
        if self.ratio is not None:
            rates["ratio"] = checked_rate("ratio", self.ratio, schedule=False)
        else:
            rates["eta_b"] = checked_rate("eta_b", self.eta_b)
        rates["eta_embedding"] = checked_rate("eta_embedding", self.eta_embedding)
        for name, rate in rates.items():
            object.__setattr__(self, name, rate)

    def _check_group(self, name: str, group: Any) -> None:
        where = f"groups[{name!r}]"
        if not isinstance(name, str) or not isinstance(group, ParamGroup):
            raise arguments.refusal(where, "a ParamGroup under a name", group)
        if _PART.fullmatch(name):
            raise ValueError(f"{where}: must not end as a part of a group does (got {name!r})")
        rated = group.rate is not None or group.ratio is not None
        if name in ("A", "B") and rated:
            raise ValueError(f"{where}: must have no rate; eta_a, eta_b and ratio say it")
        if name == "frozen" and group != ParamGroup(match=group.match):
            raise ValueError(f"{where}: must say nothing but match=, since nothing of it trains")
        if name not in GROUPS and not group.match and self.labels is None:
            close = difflib.get_close_matches(name, GROUPS, 1)
            raise ValueError(
                f"{where}: must say which leaves it has, as ParamGroup(match=…), or be one of "
                f"{', '.join(GROUPS)} (got neither{f'; {close[0]}?' if close else ''})"
            )
        if group.base is not None:
            resolved(f"{where}.base", group.base)
        if group.weight_decay is not None and "weight_decay" not in takes(self.base_of(name)):
            raise ValueError(
                f"{where}.weight_decay: must stand beside a base that takes weight_decay, as "
                f"optax.adamw (got {called(group.base or self.base)})"
            )

    def _check_bases(self) -> None:
        """Whether bases that look at more than a leaf are shared, and others are not."""
        for name in ("A", *self.mine) if self.shared else ():
            if called(self.base_of(name)).startswith("schedule_free"):
                raise ValueError(
                    "shared: must stand beside a base that moves in proportion to its rate (got "
                    f"{called(self.base_of(name))}, which keeps parameters of its own)"
                )
        base, other = self.base_of("A"), self.base_of("B")
        if called(base) in ONE_STEP_SIZE and not (self.shared and base is other):
            raise ValueError(
                "base: must be shared by A and B where it estimates one step size, as "
                f'lora_plus({self.eta_a}, …, base="{called(base)}", shared=True) (got '
                f"{'' if base is other else f'{called(other)} for B, '}shared={self.shared})"
            )

    @property
    def mine(self) -> Any:
        """The groups that the user says something of."""
        return {} if self.groups is None else self.groups

    def said(self, group: str) -> ParamGroup:
        """What the user says of a group; nothing, by default."""
        return self.mine.get(group, _PLAIN)

    def times(self, part: Part) -> Any:
        """The part's rate in units of η_A, or None if it has one of its own."""
        group = self.said(part.group)
        if group.rate is not None:
            return None
        if group.ratio is not None:
            return group.ratio
        if part.group == "A" and part.fan_in is not None:
            return self.reference_fan_in / part.fan_in
        if part.group in ("B", "no_decay", "magnitude"):
            return self.ratio if self.eta_b is None else None
        return None if part.group == "embedding" else 1.0

    def rate(self, part: Part) -> Any:
        """The rate of a part: a number or a schedule, η_A itself where the factor is 1."""
        times = self.times(part)
        if times is not None:
            return _times(times, self.eta_a)
        own = self.said(part.group).rate
        if own is not None:
            return own
        return self.eta_embedding if part.group == "embedding" else self.eta_b

    def base_of(self, group: str) -> Base:
        """The optimizer of a group."""
        own = self.said(group).base
        return resolved("base", self.base if own is None else own)

    def decay(self, part: Part) -> dict[str, Any]:
        """What the base is told of weight decay; nothing where its own default holds."""
        base = self.base_of(part.group)
        own = self.said(part.group).weight_decay
        if own is not None:
            return {"weight_decay": own}
        if not part.decays:
            return no_decay(base)
        if not self.equal_decay or part.group == "frozen":
            return {}
        of_a = self.said("A").weight_decay
        of_a = takes(self.base_of("A")).get("weight_decay") if of_a is None else of_a
        for known, of in ((of_a, "A"), (takes(base).get("weight_decay"), part.group)):
            if callable(known) or getattr(known, "shape", None if known is None else ()) != ():
                raise ValueError(
                    "equal_decay: must stand beside bases with a number as weight_decay, as "
                    f"optax.adamw (got {called(self.base_of(of))} for the group {of})"
                )
        return {"weight_decay": of_a * self._inverse(part)}

    def _inverse(self, part: Part) -> Any:
        """η_A / η of a part; 1 of one that does not move, and so does not decay either."""
        times = self._relative("equal_decay", part)
        if isinstance(times, int | float):
            return 1.0 / times if times else 1.0
        return jnp.where(times == 0, 1.0, 1.0 / jnp.where(times == 0, 1.0, times))

    def _relative(self, asked: str, part: Part) -> Any:
        """η / η_A of a part, constant over all steps."""
        times, rate = self.times(part), self.rate(part)
        if _equal(rate, self.eta_a):
            return 1.0
        if times is not None:
            return times
        if callable(rate) or callable(self.eta_a):
            raise ValueError(
                f"{asked}: must stand beside rates in proportion to eta_a, as ratio= makes them "
                f"(got a rate of its own for the group {part.group}, and a schedule)"
            )
        if _equal(self.eta_a, 0):
            raise ValueError(f"eta_a: must be above 0 beside {asked}=True (got {self.eta_a})")
        return rate / self.eta_a

    def told(self, part: Part) -> dict[str, Any]:
        """All arguments of the base but the rate, its defaults too."""
        return takes(self.base_of(part.group)) | self.decay(part)

    def transform(self, part: Part) -> optax.GradientTransformation:
        """The optimizer of a part: at its own rate, or at η_A where it is shared."""
        if part.group == "frozen":
            return optax.set_to_zero()
        rate = self.eta_a if self.shared else self.rate(part)
        return made(self.base_of(part.group), rate, self.decay(part))

    def scale(self, part: Part) -> Any:
        """What a part's update is multiplied with: η / η_A where its optimizer ran at η_A."""
        if not self.shared or part.group == "frozen":
            return 1.0
        return self._relative("shared", part)

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
        if base is not self.base_of(other.group):
            return False
        if not (self.shared or (leafwise(base) and _equal(self.rate(one), self.rate(other)))):
            return False
        ours, theirs = self.told(one), self.told(other)
        return all(_equal(ours[name], theirs[name]) for name in ours)

    def check(self, parts: Sequence[tuple[Leaf, Part]]) -> None:
        """Refuse what can not train as the arguments say.

        Raises:
            ValueError: a decay that can not be turned off; a shared optimizer whose parts decay
                differently or have rates of their own.
        """
        self._check_decay(parts)
        used = list(dict.fromkeys(part for _, part in parts))
        for part in used:
            self.decay(part)
            self.scale(part)
        if self.shared:
            self._check_shared(used)

    def _check_decay(self, parts: Sequence[tuple[Leaf, Part]]) -> None:
        """A base whose decay can not be turned off has no leaves that must not decay."""
        tried: set[tuple[Part, int]] = set()
        for leaf, part in parts:
            own = self.said(part.group).base
            base, kind = self.base_of(part.group), (part, len(leaf.shape))
            free = part.decays or part.group == "frozen" or own is not None or leafwise(base)
            if free or kind in tried:
                continue
            tried.add(kind)
            if hides_decay(base) and moves_without_gradient(base, max(1, len(leaf.shape))):
                raise ValueError(
                    f"base: must leave {leaf.path} alone where it has no gradient, and has no "
                    "argument weight_decay to turn its decay off, as "
                    "functools.partial(optax.adamw, weight_decay=…) has; or let it decay, as "
                    f'groups={{"{part.group}": ParamGroup(base=…)}} (got {called(base)})'
                )

    def _check_shared(self, parts: Sequence[Part]) -> None:
        seen: list[tuple[Base, Part]] = []
        for family in self.families([part for part in parts if part.group != "frozen"]):
            base, part = self.base_of(family[0].group), family[0]
            if other := next((at for known, at in seen if known is base), None):
                raise ValueError(
                    f"shared: must be one optimizer, but {other.name} and {part.name} differ "
                    "in weight decay; give the base weight_decay=0, or each group the same, as "
                    f'groups={{"{part.group}": ParamGroup(weight_decay=…)}}'
                )
            seen.append((base, part))


def _times(ratio: Any, rate: Rate | Schedule) -> Any:
    if _equal(ratio, 1.0):
        return rate
    if callable(rate):
        return lambda count: ratio * rate(count)
    return ratio * rate


def _equal(left: Any, right: Any) -> bool:
    """Whether two rates are known to be equal; of traced ones and schedules only itself is."""
    known = all(isinstance(value, int | float | str | np.generic) for value in (left, right))
    return left is right or (known and bool(left == right))
