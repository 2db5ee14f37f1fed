"""How a claim's setting is run: from (model, update, init, rates) to log-magnitudes over widths.

Rates are arguments of compiled functions, so that all settings of one model, update and init
share a compilation per width.
"""

import functools
import math
import zlib
from collections.abc import Callable, Hashable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab.schema import ConfigError
from lora_theory.exact import phases, scalar_map
from lora_theory.stats.slopes import Table
from lora_theory.terms import Class, Setting, Verdict

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

_MAP_STEPS = 8
_VERDICTS = tuple(Verdict)


class Diagram(NamedTuple):
    """The measured classes of some points (c_a, c_b)."""

    update: str
    init: str
    points: tuple[tuple[Fraction, Fraction], ...]


class Approach(NamedTuple):
    """Slopes of the scalar map between neighbouring widths, and the limit they approach."""

    label: str
    setting: Setting
    quantity: str
    t: int
    limit: Fraction


Piece = Setting | Diagram | Approach

_half = Fraction(1, 2)
APPROACHES = (
    Approach(
        "$Z_A$, sign, Init[1], (−1/2, −1/2)",
        Setting("map", "sign", "A", -_half, -_half),
        "Z_A",
        3,
        _half,
    ),
    Approach(
        r"$\delta^2$, sign, Init[1], (−3/4, −1/4)",
        Setting("map", "sign", "A", Fraction(-3, 4), Fraction(-1, 4)),
        "delta2",
        4,
        Fraction(0),
    ),
    Approach(
        "$f$, GD, Init[1], (−1/2, −5/12)",
        Setting("map", "gd", "A", -_half, Fraction(-5, 12)),
        "f",
        4,
        Fraction(-1, 6),
    ),
)
# 2^6 … 2^120
APPROACH_WIDTHS = np.arange(6.0, 121.0, 6.0)


def measure(piece: Piece, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """Run one piece; `table` and `classes` read what it gives."""
    if isinstance(piece, Diagram):
        return _measure_diagram(piece, cfg)
    if isinstance(piece, Approach):
        rng = np.random.default_rng(0)
        return _arrays(_map_table(piece.setting, APPROACH_WIDTHS, cfg, piece.t, rng))
    if piece.model == "map":
        rng = np.random.default_rng(zlib.crc32(str(piece).encode()))
        widths = np.asarray(cfg.map_log2_widths)
        return _arrays(_map_table(piece, widths, cfg, _MAP_STEPS, rng))
    return _arrays(_measure_model(piece, cfg))


def compiled_with(piece: Piece) -> Hashable:
    """What decides the compilation; pieces of one such key should follow each other."""
    if isinstance(piece, Setting) and piece.model != "map":
        return piece.model, piece.update, piece.init, piece.start, piece.gamma
    return piece


def table(arrays: dict[str, np.ndarray]) -> Table:
    """The table of a setting or a curve, as `measure` gave it.

    Raises:
        ValueError: arrays that are no table.
    """
    logs = dict(arrays)
    widths, steps = logs.pop("log2_widths"), logs.pop("steps")
    if {log.shape[::2] for log in logs.values()} != {(widths.size, steps.size)}:
        raise ValueError("no table")
    return Table(widths, steps, logs)


def classes(arrays: dict[str, np.ndarray]) -> list[Class | None]:
    """The classes of a diagram, as `measure` gave them."""
    pairs = zip(arrays["verdict"].tolist(), arrays["from_t"].tolist(), strict=True)
    return [None if v < 0 else Class(_VERDICTS[v], t or None) for v, t in pairs]


def _arrays(found: Table) -> dict[str, np.ndarray]:
    return {"log2_widths": found.log2_widths, "steps": found.steps, **found.logs}


def _map_table(
    setting: Setting, widths: np.ndarray, cfg: "ClaimsConfig", steps: int, rng: np.random.Generator
) -> Table:
    assert setting.c_a is not None
    update: Any = setting.update
    runs = scalar_map.random_runs(
        widths,
        len(cfg.seeds["map"]),
        setting.init,  # type: ignore[arg-type]
        float(setting.c_a),
        float(setting.c_b),
        rng=rng,
        update=update,
        s_0=float(setting.start),
    )
    return scalar_map.table(widths, scalar_map.trajectory(*runs, steps, update=update))


def _measure_diagram(diagram: Diagram, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    found = phases.measured_classes(
        np.array(diagram.points, float),
        diagram.update,
        diagram.init,
        log2_widths=np.asarray(cfg.map_log2_widths),
        seeds=len(cfg.seeds["lattice"]),
        steps=cfg.lattice_steps,
        confidence=cfg.confidence,
    )
    verdicts = [-1 if c is None else _VERDICTS.index(c.verdict) for c in found]
    return {
        "verdict": np.array(verdicts),
        "from_t": np.array([(c and c.from_t) or 0 for c in found]),
    }


def _measure_model(setting: Setting, cfg: "ClaimsConfig") -> Table:
    from lora_theory.train.coordinates import EpsilonError, coordinate_check

    probe = registry.PROBES[setting.model]
    try:
        return coordinate_check(
            _setup(setting.model, setting.init, setting.start, setting.gamma, cfg.rank_width),
            registry.optimizer(setting.update, cfg.adam_eps),
            _rates(setting, cfg),
            getattr(cfg, probe.varies[1]),
            seeds=len(cfg.seeds[setting.model]),
            steps=cfg.steps,
        )
    except EpsilonError as error:
        raise ConfigError("adam_eps", f"{error} ({setting})", cfg.adam_eps) from None


def _rates(setting: Setting, cfg: "ClaimsConfig") -> Callable[[int], tuple[float, float]]:
    k = float(cfg.rates[setting.model] * setting.constant)
    k *= cfg.rank_width ** float(setting.c_n)

    def rates(size: int) -> tuple[float, float]:
        eta_a = 0.0 if setting.c_a is None else k * float(size) ** float(setting.c_a)
        return eta_a, k * float(size) ** float(setting.c_b)

    return rates


@functools.cache
def _setup(
    name: str, init: str, start: Fraction, gamma: Fraction, rank_width: int
) -> Callable[[int, Any], tuple[Any, Any, Any]]:
    """(width or rank, key) -> (model, x, y); one object a model shares its compilations."""
    probe = registry.PROBES[name]
    varied = probe.varies[0]
    options: dict[str, Any] = {"name": probe.model, "init": init, **probe.options}
    if varied == "rank":
        options |= {"width": rank_width, "gamma": float(gamma)}
    schema = registry.MODELS[probe.model].schema

    def setup(size: int, key: Any) -> tuple[Any, Any, Any]:
        config = schema(**options | {varied: size})
        model, data = registry.draw(config, probe.task, probe.task_options)(key)
        if start:
            model.lora.lora_b[...] *= math.pow(size, start)
        return model, data.x_train, data.y_train

    return setup
