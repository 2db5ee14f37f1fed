"""Typed schemas of configs: what each field allows, and what it is to a result.

Values stand in `conf/`; a schema says what is allowed, and gives every field a role. From the
roles alone follow folder names, what a piece is resumed by, and what saved results are compared
with. No JAX, so that a wrong config is refused before anything is loaded.
"""

import dataclasses
import difflib
import enum
import itertools
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from experiments.lab.values import buildable, expected, finite, shown, typed

T = TypeVar("T")


class ConfigError(Exception):
    """A config that can not be run: one line with the field, what is allowed, and the value."""

    def __init__(self, field: str, allowed: str, value: Any):
        super().__init__(field, allowed, value)  # From which a copy is made, or one elsewhere.
        self.field, self.allowed, self.value = field, allowed, value

    def __str__(self) -> str:
        return f"{self.field}: {self.allowed} (got {shown(self.value)})"


class Role(enum.Enum):
    """What a field is to a result; the one place where that is said.

    | role | folder of results | folder of figures | pieces resumed by it, results compared |
    |---|---|---|---|
    | science | names it | names it | yes |
    | drawing | | names it | |
    | layout, place, part | | | |
    """

    SCIENCE = "decides what is computed"
    DRAWING = "decides how results are drawn"
    LAYOUT = "how work is laid on the machine; the same bits whatever it is"
    PLACE = "where things go, and whether to compute"
    PART = "which parts are made; each has a file of its own, whose config says which it is"


class Rule(NamedTuple):
    """What a field allows: in words, as a test, and what it makes of what was typed."""

    allowed: str
    accepts: Callable[[Any], bool] = lambda _: True
    convert: Callable[[Any], Any] | None = None


def science(
    rule: Rule | None = None, *, default: Any = dataclasses.MISSING, chosen: bool = False
) -> Any:
    """A field that decides what is computed.

    Args:
        rule: what is allowed; None for anything of the field's type.
        default: its value, where no file in `conf/` gives one.
        chosen: null is allowed as well and means that the machine decides; saved results of any
            value then match.
    """
    return _field(Role.SCIENCE, rule, default, chosen)


def drawing(rule: Rule | None = None) -> Any:
    """A field that decides how results are drawn."""
    return _field(Role.DRAWING, rule)


def layout(rule: Rule | None = None, *, default: Any = dataclasses.MISSING) -> Any:
    """A field that lays work on the machine and changes no bit."""
    return _field(Role.LAYOUT, rule, default)


def place(rule: Rule | None = None, *, default: Any = dataclasses.MISSING) -> Any:
    """A field that says where things go, or whether to compute."""
    return _field(Role.PLACE, rule, default)


def part(rule: Rule | None = None) -> Any:
    """A field that chooses among parts with files of their own."""
    return _field(Role.PART, rule)


def variant(schemas: Mapping[str, type]) -> Any:
    """A group that is one of several schemas, told apart by its field `name`."""
    return dataclasses.field(metadata={"variants": schemas}, kw_only=True)


def _field(
    role: Role, rule: Rule | None, default: Any = dataclasses.MISSING, chosen: bool = False
) -> Any:
    if chosen and rule is not None:
        rule = optional(rule)
    metadata = {"role": role, "rule": rule, "chosen": chosen}
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


def integer(low: int, high: int) -> Rule:
    """A whole number within bounds."""
    return Rule(f"must be an integer from {low} to {high}", lambda v: low <= v <= high)


def number(low: float, high: float) -> Rule:
    """A number within bounds."""
    return Rule(f"must be between {low:g} and {high:g}", lambda v: low <= v <= high)


def positive() -> Rule:
    """A positive finite number."""
    return Rule("must be a positive finite number", lambda v: v > 0)


def rate() -> Rule:
    """A rate that float32 holds with room to spare, since training multiplies with it."""
    return Rule("must be between 1e-30 and 1e+30", lambda v: 1e-30 <= v <= 1e30)


def one_of(*names: str) -> Rule:
    """One of some names."""
    return Rule(f"must be one of {', '.join(names)}", lambda v: v in names)


def some_of(*names: str) -> Rule:
    """One of some names or several, each once."""
    return Rule(
        f"must be {', '.join(names)}, or a list of them",
        lambda v: len(v) > 0 and len(set(v)) == len(v) and set(v) <= set(names),
    )


def optional(rule: Rule) -> Rule:
    """Null, or what another rule allows."""
    words = rule.allowed.removeprefix("must be ").removeprefix("null or ")
    make = rule.convert
    return Rule(
        f"must be null or {words}",
        lambda v: v is None or rule.accepts(v),
        None if make is None else lambda v: None if v is None else make(v),
    )


def ascending(low: int) -> Rule:
    """At least three numbers, each larger than the one before."""
    return Rule(
        f"must be at least three ascending numbers from {low}",
        lambda v: len(v) >= 3 and v[0] >= low and all(a < b for a, b in itertools.pairwise(v)),
    )


def interval(low: int, high: int) -> Rule:
    """Two ascending integers within bounds."""
    return Rule(
        f"must be two ascending integers from {low} to {high}",
        lambda v: len(v) == 2 and low <= v[0] < v[1] <= high,
    )


def folder() -> Rule:
    """Null or a folder."""
    return Rule("must be null or a folder", lambda v: v is None or v.strip() != "")


class Seeds(tuple[int, ...]):
    """Different seeds, in order; written as 0..2 where they are a range."""

    def __str__(self) -> str:
        whole = self == tuple(range(self[0], self[-1] + 1))
        return f"{self[0]}..{self[-1]}" if whole else ",".join(map(str, self))


def seeds(low: int = 1) -> Rule:
    """Seeds: how many (0, 1, …), a list of them, or a range as 15..29, both ends included.

    >>> [str(seeds().convert(given)) for given in (3, "15..17", [4, 2])]
    ['0..2', '15..17', '4,2']
    """
    allowed = f"must be an integer from {low} to 1000000, a list as [0,5], or a range as 15..29"
    return Rule(allowed, lambda v: low <= len(v) <= 10**6 and len(set(v)) == len(v), _seeds)


def _seeds(given: Any) -> Seeds:
    if type(given) is int and 0 <= given <= 10**6:
        return Seeds(range(given))
    if isinstance(given, str):
        first, _, last = given.partition("..")
        bounds = int(first), int(last)
        if first.isdecimal() and last.isdecimal() and bounds[1] < min(2**31, bounds[0] + 10**6):
            return Seeds(range(bounds[0], bounds[1] + 1))
    elif isinstance(given, list | tuple) and all(type(v) is int and 0 <= v < 2**31 for v in given):
        return Seeds(given)
    raise ValueError(given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """The fields of every experiment.

    Attributes:
        out: folder for results and figures; None for the repository, or runs/<what differs>.
        replot: only draw, from saved results.
        plan: only say what a run would take; nothing is started.
        status: only say how far it is, whoever works on it.
        jobs: how many processes share the work; the last one to end makes figures.
        slab: where this one of them begins, from 0; None outside of such a share.
    """

    out: str | None = place(folder())
    replot: bool = place()
    plan: bool = place(default=False)
    status: bool = place(default=False)
    jobs: int = layout(integer(1, 10**4), default=1)
    slab: int | None = layout(optional(integer(0, 10**4 - 1)), default=None)


def roles(schema: type, path: str = "") -> dict[str, Role]:
    """The role of every field, by dotted name; of a choice between schemas, of all of them.

    Raises:
        TypeError: a field without a role, or of a type that no config can give.
    """
    found: dict[str, Role] = {}
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        groups = field.metadata.get("variants", {}).values() or [hint]
        for group in groups:
            if dataclasses.is_dataclass(group):
                found |= roles(group, f"{path}{field.name}.")  # type: ignore[arg-type]
        if not dataclasses.is_dataclass(hint):
            if "role" not in field.metadata:
                raise TypeError(f"{schema.__name__}.{field.name} has no role")
            rule = field.metadata["rule"]
            if not (rule and rule.convert) and not buildable(hint):
                raise TypeError(f"{schema.__name__}.{field.name}: no config gives a {hint}")
            found[f"{path}{field.name}"] = field.metadata["role"]
    return found


def role_of(roles: Mapping[str, Role], key: str) -> Role | None:
    """The role of a key; of one in a mapping, that of the mapping; None of an unknown one.

    >>> role_of({"rates": Role.SCIENCE}, "rates.layer").name
    'SCIENCE'
    """
    while key not in roles:
        key, dot, _ = key.rpartition(".")
        if not dot:
            return None
    return roles[key]


def records(schema: type) -> list[type]:
    """A schema and those of all its groups.

    >>> [record.__name__ for record in records(Common)]
    ['Common']
    """
    found = [schema]
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        named = typing.get_args(hint)[1:] if typing.get_origin(hint) is dict else [hint]
        for group in field.metadata.get("variants", {}).values() or named:
            if dataclasses.is_dataclass(group):
                found += records(group)  # type: ignore[arg-type]
    return found


def having(record: Any, role: Role, *, settled: bool = True) -> dict[str, Any]:
    """The fields of one role as nested plain data.

    Args:
        record: a built config.
        role: which fields.
        settled: whether nulls that the machine decides are included.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            if inner := having(value, role, settled=settled):
                found[field.name] = inner
        elif field.metadata["role"] is role and (
            settled or value is not None or not field.metadata["chosen"]
        ):
            found[field.name] = plain(value)
    return found


def filled(record: T, chosen: Mapping[str, Any]) -> T:
    """A built config whose nulls are what the machine has decided, where it has.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Engine:
    ...     policy: str | None = science(optional(one_of("cores", "batch")))
    >>> filled(Engine(policy=None), {"policy": "cores", "more": 1})
    Engine(policy='cores')
    >>> filled(Engine(policy="batch"), {"policy": "cores"})
    Engine(policy='batch')
    """
    values = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        value, given = getattr(record, field.name), chosen.get(field.name)
        if dataclasses.is_dataclass(value) and isinstance(given, Mapping):
            values[field.name] = filled(value, given)
        elif value is None and given is not None:
            values[field.name] = given
    return dataclasses.replace(record, **values) if values else record  # type: ignore[type-var]


def plain(value: Any) -> Any:
    """A value of a config as JSON will give it back."""
    if isinstance(value, Seeds):
        return str(value)
    if dataclasses.is_dataclass(value):  # One of a mapping, whose role is that of the mapping.
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def build(schema: type[T], data: Any, path: str = "") -> T:
    """Turn plain data into a schema's frozen record, or say in one line what is wrong.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing key, a wrong type, or
            a value out of bounds.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Grid:
    ...     points: int = science(integer(1, 4096))
    >>> build(Grid, {"points": 46})
    Grid(points=46)
    >>> build(Grid, {"points": -4})
    Traceback (most recent call last):
    ...
    experiments.lab.schema.ConfigError: points: must be an integer from 1 to 4096 (got -4)
    """
    if not isinstance(data, Mapping):
        raise ConfigError(path.rstrip("."), "must be a group of keys", data)
    fields = {field.name: field for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(schema)
    for key in data:
        if key not in fields:
            raise ConfigError(f"{path}{key}", unknown_key(str(key), fields), data[key])
    values = {}
    for name, field in fields.items():
        if name not in data:
            if field.default is dataclasses.MISSING:
                raise ConfigError(f"{path}{name}", "must be given", "nothing")
            values[name] = field.default
            continue
        values[name] = _value(hints[name], field.metadata, data[name], f"{path}{name}")
    return schema(**values)


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say of an unknown key.

    >>> unknown_key("widht", ["width", "rank"])
    'unknown key; did you mean width?'
    """
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)
    return f"unknown key; did you mean {near[0]}?" if near else "unknown key; --help lists all"


def flatten(data: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested groups as one mapping with dotted keys.

    >>> flatten({"model": {"width": 100}, "steps": 200})
    {'model.width': 100, 'steps': 200}
    """
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat


def _value(hint: Any, metadata: Mapping[str, Any], value: Any, path: str) -> Any:
    if "variants" in metadata:
        by_name = metadata["variants"]
        name = value["name"] if isinstance(value, Mapping) and "name" in value else None
        if not isinstance(name, str) or name not in by_name:
            raise ConfigError(f"{path}.name", f"must be one of {', '.join(by_name)}", name)
        return build(by_name[name], value, f"{path}.")
    if dataclasses.is_dataclass(hint):
        return build(hint, value, f"{path}.")  # type: ignore[arg-type]
    if typing.get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(path, "must be a group of keys", value)
        item = typing.get_args(hint)[1]
        return {str(k): _value(item, metadata, v, f"{path}.{k}") for k, v in value.items()}
    rule: Rule = metadata.get("rule") or Rule(expected(hint))
    try:
        nothing = value is None and metadata.get("chosen", False)
        made = rule.convert(value) if rule.convert is not None else typed(hint, value, nothing)
        allowed = finite(made) and rule.accepts(made)
    except (TypeError, ValueError, OverflowError):
        allowed = False
    if not allowed:
        raise ConfigError(path, rule.allowed, value)
    return made
