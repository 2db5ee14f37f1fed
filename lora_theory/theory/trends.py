"""What becomes of a rule's sizes: whether its exponents have settled, or change for ever, and how.

What a generator does next follows from where it stands in its code and from what its variables
hold. `moments` notes both after every update, so that `trend` can tell from a few updates about
all that follow:

- the same sizes again after q updates: they come again for ever, whatever the rule;
- the same growth again in q updates, and no comparison that it will ever turn: the rule is affine
  in the exponents from there on, and the growth goes on;
- at least the same growth again, in a rule that only adds, multiplies and takes positive powers:
  exponents are then a convex F with no negative slope, so that from x to x + D and on to
  x + D + D' with D' ≥ D, F gains at least D' the next time, and so for ever;
- no growth in such a rule: what was smaller makes what follows smaller.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from lora_theory.theory.powers import ONE, ZERO, Power, RuleError, watched


class Moment(NamedTuple):
    """A rule after an update.

    Attributes:
        step: what it yielded.
        place: where the generator stands, and what it keeps besides sizes.
        kept: the sizes that it keeps.
        compared: ratios of the sizes that it compared on the way.
        convex: whether it only added, multiplied and took positive powers on the way, but for
            negative ones of constants and rates.
        inverts: whether there were such.
    """

    step: Any
    place: tuple[Any, ...]
    kept: tuple[Power, ...]
    compared: tuple[Power, ...]
    convex: bool
    inverts: bool


class Trend(NamedTuple):
    """What is certain of all further updates.

    Attributes:
        period: after so many updates all sizes are the same, or have grown.
        round: so many updates of the rule belong together; a part of the period.
        growth: in every further period: "none", the "same" as in the last one, "more", at least
            as much, f among the sizes that grow, or "less": no size grows, and some shrink.
    """

    period: int
    round: int
    growth: Literal["none", "same", "more", "less"]

    def grows(self, past: list[Moment], name: str) -> bool:
        """Whether a size of the steps, by name, grows from period to period."""
        return 1 in self._orders(past, name)

    def changes(self, past: list[Moment], name: str) -> bool:
        """Whether a size of the steps, by name, grows or shrinks from period to period."""
        return self._orders(past, name) != {0}

    def _orders(self, past: list[Moment], name: str) -> set[int]:
        if self.growth == "none":
            return {0}
        now, before = past[-self.period :], past[-2 * self.period : -self.period]
        pairs = ((new.step.sizes(), old.step.sizes()) for new, old in zip(now, before, strict=True))
        return {new.get(name, ZERO).compare(old.get(name, ZERO)) for new, old in pairs}


def moments(run: Any, period: int | None = None) -> Iterator[Moment]:
    """Run a generator, and note after every update what it keeps.

    Args:
        run: a generator that yields a step per update.
        period: of the update, if it depends on t; numbers that the generator keeps are then not
            looked at.

    Raises:
        RuleError: `run` is no generator, ends, or keeps something that can not be looked at.
    """
    if not inspect.isgenerator(run):
        raise RuleError(
            "run: must be a generator, a function that has `yield Step(…)` in a loop (got "
            f"{_kind(run)})"
        )
    for t in itertools.count():
        with watched() as watch:
            try:
                step = next(run)
            except StopIteration:
                raise RuleError(
                    "run: must yield a Step per update without end, in a `while True:` loop (it "
                    f"ended after {t})"
                ) from None
        place, kept = _standing(run)
        if period is not None:
            place = (t % period,)
        yield Moment(step, place, tuple(kept), tuple(watch.compared), watch.convex, watch.inverts)


def trend(past: list[Moment]) -> Trend | None:
    """What the last moments make certain of all that follow; None if nothing yet."""
    now = past[-1]
    returns = [q for q in range(1, len(past)) if past[-1 - q].place == now.place]
    cycles = len(now.kept) or 1  # No more than all sizes can feed each other in a cycle.
    for q in returns[:cycles]:
        gained = _gained(past[-1 - q].kept, now.kept)
        if gained is None:
            continue
        if all(gain == ONE for gain in gained):
            return Trend(q, returns[0], "none")
        if 2 * q < len(past) and (growth := _growth(past, q, gained)):
            return Trend(q, returns[0], growth)
    return None


def _growth(
    past: list[Moment], q: int, gained: list[Power]
) -> Literal["same", "more", "less"] | None:
    now, before, earlier = past[-1], past[-1 - q], past[-1 - 2 * q]
    first = _gained(earlier.kept, before.kept) if earlier.place == now.place else None
    if first is None:
        return None
    orders = {gain.compare(old) for gain, old in zip(gained, first, strict=True)}
    if orders == {0} and all(_lasts(past[-1 - i], past[-1 - i - q]) for i in range(q)):
        return "same"
    recent = past[-2 * q :]
    # A product of constants may be a size that changes, and its inverse then falls as it grows.
    inverts = any(moment.inverts for moment in recent) and any(
        size.fixed and gain != ONE for size, gain in zip(now.kept, gained, strict=True)
    )
    monotone = all(moment.convex for moment in recent) and not inverts
    if orders <= {0, 1} and monotone and past[-1].step.f.compare(before.step.f) > 0:
        return "more"
    if monotone and all(gain.compare(ONE) <= 0 for gain in gained):
        return "less"
    return None


def _lasts(now: Moment, before: Moment) -> bool:
    """Whether every comparison came out as a period ago, and will as the ratios go on growing."""
    if len(now.compared) != len(before.compared):
        return False
    for ratio, old in zip(now.compared, before.compared, strict=True):
        order = ratio.compare(ONE)
        if old.compare(ONE) != order or ratio.compare(old) not in (0, order):
            return False
    return True


def _gained(before: tuple[Power, ...], after: tuple[Power, ...]) -> list[Power] | None:
    """The factor by which every size has grown; None where others are exactly zero."""
    if len(before) != len(after):
        return None
    gained = []
    for old, new in zip(before, after, strict=True):
        if (old == ZERO) != (new == ZERO):
            return None
        gained.append(ONE if new == ZERO else new / old)
    return gained


def _standing(run: Any) -> tuple[tuple[Any, ...], list[Power]]:
    """Where a generator stands, with what it delegates to, and the sizes that it keeps."""
    place: list[Any] = []
    kept: list[Power] = []
    while inspect.isgenerator(run) and run.gi_frame is not None:
        place.append(run.gi_frame.f_lasti)
        for name, value in run.gi_frame.f_locals.items():
            place.append(name)
            _look(name, value, place, kept)
        run = run.gi_yieldfrom
    if run is not None and not inspect.isgenerator(run):
        raise RuleError(f"run: must yield from generators alone (got {_kind(run)})")
    return tuple(place), kept


def _look(name: str, value: Any, place: list[Any], kept: list[Power]) -> None:
    if isinstance(value, Power):
        kept.append(value)
    elif value is None or isinstance(value, str | int | float | Fraction):
        place.append(value)
    elif isinstance(value, list | tuple):
        place.append(len(value))
        for item in value:
            _look(name, item, place, kept)
    elif isinstance(value, Mapping):
        place.append(tuple(value))
        for item in value.values():
            _look(name, item, place, kept)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _look(name, vars(value), place, kept)
    elif callable(value) or inspect.ismodule(value):
        place.append(id(value))
    else:
        raise RuleError(
            "run: must keep sizes and numbers alone in its variables, so that one can tell "
            f"whether they settle ({name} is {_kind(value)})"
        )


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
