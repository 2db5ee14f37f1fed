"""Typed schemas of the experiments' configs and their validation, in one place.

Values and defaults stand in `conf/`; here stands what is allowed. No JAX, so that a wrong
config is refused before anything is loaded.
"""

import dataclasses
import difflib
import itertools
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class ConfigError(Exception):
    """A config that can not be run: one line with the field, what is allowed, and the value."""

    def __init__(self, field: str, allowed: str, value: Any):
        super().__init__(f"{field}: {allowed} (got {_shown(value)})")


def _rule(allowed: str, accepts: Callable[[Any], bool]) -> Any:
    return dataclasses.field(metadata={"allowed": allowed, "accepts": accepts})


def _integer(low: int, high: int) -> Any:
    return _rule(f"must be an integer from {low} to {high}", lambda v: low <= v <= high)


def _positive() -> Any:
    return _rule("must be a positive finite number", lambda v: v > 0)


def _rate() -> Any:
    """A rate that float32 holds with room to spare, since training multiplies with it."""
    return _rule("must be between 1e-30 and 1e+30", lambda v: 1e-30 <= v <= 1e30)


def _optional_positive() -> Any:
    return _rule("must be null or a positive finite number", lambda v: v is None or v > 0)


def _optional_integer(low: int, high: int) -> Any:
    return _rule(
        f"must be null or an integer from {low} to {high}", lambda v: v is None or low <= v <= high
    )


def _one_of(*names: str) -> Any:
    return _rule(f"must be one of {', '.join(names)}", lambda v: v in names)


def _ascending(low: int) -> Any:
    return _rule(
        f"must be at least three ascending numbers from {low}",
        lambda v: len(v) >= 3 and v[0] >= low and all(a < b for a, b in itertools.pairwise(v)),
    )


@dataclasses.dataclass(frozen=True)
class TwoLayerConfig:
    """`models.TwoLayerToy` (eq. 3)."""

    name: Literal["two_layer"]
    inputs: int = _integer(1, 10**6)
    width: int = _integer(1, 10**6)
    rank: int = _integer(1, 10**6)
    alpha: float | None = _optional_positive()
    gamma: float = _rule("must be between -10 and 10", lambda v: -10 <= v <= 10)
    init: str = _one_of("A", "B", "both")


@dataclasses.dataclass(frozen=True)
class LinearConfig:
    """`models.LinearToy` (eq. 2)."""

    name: Literal["linear"]
    width: int = _integer(1, 10**6)
    init: str = _one_of("A", "B", "both")


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """How many samples the task has."""

    n_train: int = _integer(1, 10**7)
    n_test: int = _integer(1, 10**7)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The base of LoRA+."""

    name: str = _one_of("sgd", "sign", "adam", "adamw")


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """Rates of A and of B: `points` of a logarithmic grid from `low` to `high`."""

    points: int = _integer(1, 4096)
    low: float = _rate()
    high: float = _rate()


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """How the sweep is laid on the machine; null means chosen by `sweep.resolve_policy`."""

    policy: str | None = _rule(
        "must be null, cores or batch", lambda v: v in (None, "cores", "batch")
    )
    micro_batch: int | None = _optional_integer(1, 10**6)
    sample_block: int | None = _optional_integer(1, 10**8)
    devices: int | None = _optional_integer(1, 1024)
    chunk: int = _integer(1, 10**7)


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """What the figure shows: the two times of the heatmaps, and the colour range at each."""

    early: int = _integer(0, 10**9)
    late: int = _integer(1, 10**9)
    early_cap: float | None = _optional_positive()
    late_cap: float | None = _optional_positive()
    dpi: int = _integer(30, 1200)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fig2Config:
    """Everything that decides Figure 2; see `conf/fig2.yaml` for the paper's values."""

    model: TwoLayerConfig | LinearConfig
    task: TaskConfig
    optimizer: OptimizerConfig
    grid: GridConfig
    loss: tuple[str, ...] = _rule(
        "must be mse, all_pairs, or a list of them",
        lambda v: len(v) > 0 and len(set(v)) == len(v) and set(v) <= {"mse", "all_pairs"},
    )
    seeds: int = _integer(1, 10**6)
    steps: int = _integer(1, 10**9)
    out: str | None = _rule("must be null or a folder", lambda v: v is None or v.strip() != "")
    replot: bool
    engine: EngineConfig
    plot: PlotConfig

    def __post_init__(self) -> None:
        if isinstance(self.model, TwoLayerConfig) and self.model.rank > self.model.width:
            raise ConfigError(
                "model.rank",
                f"must be at most model.width = {self.model.width}",
                self.model.rank,
            )
        grid = self.grid
        if grid.low > grid.high or (grid.low == grid.high and grid.points > 1):
            raise ConfigError("grid.high", f"must be above grid.low = {grid.low:g}", grid.high)
        if grid.points > 1 and math.log(grid.high / grid.low) / (grid.points - 1) < 1e-5:
            raise ConfigError(
                "grid.points", "must leave neighbouring rates 0.001 % apart", grid.points
            )
        if self.plot.late > self.steps:
            raise ConfigError("plot.late", f"must be at most steps = {self.steps}", self.plot.late)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What `make bench` measures."""

    repeats: int = _integer(1, 1000)
    cells: int = _integer(1, 10**6)
    steps: int = _integer(1, 10**6)
    rate: float = _positive()
    widths: tuple[int, ...] = _rule(
        "must be a list of integers of at least 4 (the rank)",
        lambda v: len(v) > 0 and min(v) >= 4,
    )
    fig2: bool
    out: str | None = _rule("must be null or a folder", lambda v: v is None or v.strip() != "")


@dataclasses.dataclass(frozen=True)
class SeedsConfig:
    """Seeds of each model of the claims; a standard error needs two."""

    map: int = _integer(2, 10**6)
    lattice: int = _integer(2, 10**4)
    linear: int = _integer(2, 10**6)
    layer: int = _integer(2, 10**6)
    two_layer: int = _integer(2, 10**6)
    rank: int = _integer(2, 10**6)


@dataclasses.dataclass(frozen=True)
class RatesConfig:
    """The constants k_a = k_b of η_a = k_a n^c_a, η_b = k_b n^c_b, by model of the claims."""

    linear: float = _positive()
    layer: float = _positive()
    two_layer: float = _positive()
    rank: float = _positive()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimsConfig:
    """What `make claims` checks, at which widths, with how many seeds; see `conf/claims.yaml`."""

    only: tuple[str, ...] | None = _rule(
        "must be null or a list of different claim ids",
        lambda v: v is None or (v != () and len(set(v)) == len(v)),
    )
    widths: tuple[int, ...] = _ascending(4)
    ranks: tuple[int, ...] = _ascending(1)
    rank_width: int = _integer(4, 10**5)
    map_log2_widths: tuple[float, ...] = _rule(
        "must be at least three ascending numbers from 1 to 1e6, the last at least twice the first",
        lambda v: (
            len(v) >= 3
            and 1 <= 2 * v[0] <= v[-1] <= 1e6
            and all(a < b for a, b in itertools.pairwise(v))
        ),
    )
    seeds: SeedsConfig
    steps: int = _integer(3, 100)
    lattice_steps: int = _integer(26, 1000)
    rates: RatesConfig
    adam_eps: float = _positive()
    margin: float = _positive()
    map_margin: float = _positive()
    confidence: float = _rule("must be between 0.5 and 0.9999", lambda v: 0.5 <= v <= 0.9999)
    out: str | None = _rule("must be null or a folder", lambda v: v is None or v.strip() != "")
    replot: bool
    dpi: int = _integer(30, 1200)

    def __post_init__(self) -> None:
        if max(self.ranks) > self.rank_width:
            raise ConfigError(
                "ranks", f"must be at most rank_width = {self.rank_width}", self.ranks
            )


def build(schema: type[T], data: Any, path: str = "") -> T:
    """Turn plain data into a schema's frozen record, or say in one line what is wrong.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing key, a wrong type, or
            a value out of bounds.

    >>> build(GridConfig, {"points": 46, "low": 1e-4, "high": 10})
    GridConfig(points=46, low=0.0001, high=10.0)
    >>> build(GridConfig, {"points": -4, "low": 1e-4, "high": 10})
    Traceback (most recent call last):
    ...
    lora_theory.config.ConfigError: points: must be an integer from 1 to 4096 (got -4)
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
            raise ConfigError(f"{path}{name}", "must be given", "nothing")
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


def _value(hint: Any, rule: Mapping[str, Any], value: Any, path: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    groups: list[Any] = [option for option in options if dataclasses.is_dataclass(option)]
    if len(groups) == 1:
        return build(groups[0], value, f"{path}.")
    if groups:
        return _variant(groups, value, path)
    allowed, given = rule["allowed"] if "allowed" in rule else _expected(hint), value
    several = next((option for option in options if typing.get_origin(option) is tuple), None)
    if several is not None and not (value is None and type(None) in options):
        item = typing.get_args(several)[0]
        values = list(value) if isinstance(value, list | tuple) else [value]
        if item is float:
            values = [float(v) if type(v) is int else v for v in values]
        if not all(type(v) is item for v in values):
            raise ConfigError(path, allowed, given)
        value = tuple(values)
    elif float in options and type(value) is int:
        value = float(value)
    elif several is None and typing.get_origin(hint) is not Literal and type(value) not in options:
        raise ConfigError(path, allowed, value)
    numbers = value if isinstance(value, tuple) else (value,)
    finite = all(not isinstance(v, float) or math.isfinite(v) for v in numbers)
    if not finite or ("accepts" in rule and not rule["accepts"](value)):
        raise ConfigError(path, allowed, given)
    return value


def _variant(groups: list[Any], value: Any, path: str) -> Any:
    """One of several schemas, told apart by their `name`."""
    by_name = {typing.get_args(typing.get_type_hints(group)["name"])[0]: group for group in groups}
    name = value["name"] if isinstance(value, Mapping) and "name" in value else None
    if name not in by_name:
        raise ConfigError(f"{path}.name", f"must be one of {', '.join(by_name)}", name)
    return build(by_name[name], value, f"{path}.")


def _expected(hint: Any) -> str:
    return "must be true or false" if hint is bool else f"must be of type {hint}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
