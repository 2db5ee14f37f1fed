"""Groups of LoRA+: what a user says of one, and the parts in which it trains."""

import dataclasses
import fnmatch
from typing import Any

import jax

from lora_theory import arguments


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """How a group of `lora_plus` differs from what it does by default; new names make new groups.

    A group of your own trains at η_A, and its biases, norms and other vectors without weight
    decay, unless told otherwise here.

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
        patterns = (self.match,) if isinstance(self.match, str) else self.match
        if not isinstance(patterns, tuple | list) or not all(
            isinstance(pattern, str) and pattern for pattern in patterns
        ):
            raise arguments.refusal("match", "a pattern of names, as head or *.scale", self.match)
        object.__setattr__(self, "match", tuple(p.replace("/", ".") for p in patterns))
        if self.rate is not None and self.ratio is not None:
            raise ValueError("rate, ratio: must be one of the two (got both)")
        if self.rate is not None:
            object.__setattr__(self, "rate", checked_rate("rate", self.rate))
        if self.ratio is not None:
            ratio = checked_rate("ratio", self.ratio, schedule=False)
            object.__setattr__(self, "ratio", ratio)
        if self.weight_decay is not None:
            checked_rate("weight_decay", self.weight_decay)


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a leaf or something that it is in.

    >>> matches("head", "head.kernel"), matches("*.kernel", "head.kernel"), matches("he", "head")
    (True, True, False)
    """
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}.*")


@dataclasses.dataclass(frozen=True)
class Part:
    """Leaves that train in the same way: of one group, decaying or not, of one fan-in."""

    group: str
    decays: bool
    fan_in: int | None = None

    @property
    def name(self) -> str:
        """What it is called in the state.

        >>> Part("head", False).name, Part("A", True, 64).name, Part("no_decay", False).name
        ('head-no_decay', 'A-64', 'no_decay')
        """
        plain = self.group == "no_decay" or self.decays
        suffix = "" if plain else "-no_decay"
        return self.group + suffix + (f"-{self.fan_in}" if self.fan_in else "")


def checked_rate(name: str, rate: Any, *, schedule: bool = True) -> Any:
    """A rate; numbers as Python's, which leave the type of an update alone.

    A traced number can not be looked at.

    Raises:
        ValueError: what is neither a schedule nor one finite number of at least 0.
    """
    if schedule and callable(rate):
        return rate
    if isinstance(rate, jax.core.Tracer) and rate.shape == ():
        return rate
    return arguments.at_least(name, rate, 0)
