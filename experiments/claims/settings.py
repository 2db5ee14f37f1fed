"""How a claim's setting is run: from (model, update, init, rates) to log-magnitudes over widths.

Rates and starts are arguments of compiled functions, so that all settings of one model, update
and γ share a compilation a width, and all updates of a model that of its draws. What is drawn they
do not share: every setting, and every phase diagram, has draws of its own, the same at every width
of the scalar map. So no two verdicts rest on one set of draws, unless on one setting. (Landscapes
have the seeds of the config.)
"""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments import registry
from experiments.claims import landscapes
from experiments.claims.landscapes import Window
from experiments.lab.schema import ConfigError
from lora_theory.exact import phases, scalar_map
from lora_theory.stats.tables import Table
from lora_theory.terms import Class, Setting, Verdict
from lora_theory.theory.claims import Symmetry

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

_MAP_STEPS = 8
_SEEDS = 2**31  # No seed of a probe is that large.
_VERDICTS = tuple(Verdict)


class Group(NamedTuple):
    """Settings of one model, update and γ: they differ in rates and starts, which are arguments of
    one compiled program a size.
    """

    settings: tuple[Setting, ...]

    @property
    def model(self) -> str:
        """Which model."""
        return self.settings[0].model


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


class Symmetries(NamedTuple):
    """Symmetries of one update, which share trajectories."""

    cases: tuple[Symmetry, ...]


Piece = Group | Diagram | Approach | Symmetries | Window

# Of the size of the gradients: where it is far below them, no one feels it.
_SYMMETRY_EPS = 0.01

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
# log2 n, by factors of 4/3 and 3/2: the slowest of them arrives near 2^300.
APPROACH_WIDTHS = np.array([6.0, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768])


def groups(settings: Iterable[Setting]) -> list[Group]:
    """Settings in groups, each of which is a piece."""
    found: dict[Hashable, list[Setting]] = {}
    for setting in settings:
        found.setdefault((setting.model, setting.update, setting.gamma), []).append(setting)
    return [Group(tuple(group)) for group in found.values()]


def symmetries(cases: Iterable[Symmetry]) -> list[Symmetries]:
    """Each case once, in pieces by update."""
    found: dict[str, dict[Symmetry, None]] = {}
    for case in cases:
        found.setdefault(case.update, {})[case] = None
    return [Symmetries(tuple(group)) for group in found.values()]


def measure(piece: Piece, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """Run one piece; `tables`, `classes` and `landscapes.Families` read what it gives, of
    symmetries it is the gaps.
    """
    if isinstance(piece, Window):
        return landscapes.measure(piece, cfg)
    if isinstance(piece, Diagram):
        return _measure_diagram(piece, cfg)
    if isinstance(piece, Approach):
        return _arrays([_map_table(piece.setting, APPROACH_WIDTHS, cfg, piece.t)])
    if isinstance(piece, Symmetries):
        return {"gaps": np.array([_measure_symmetry(case) for case in piece.cases])}
    if piece.model == "map":
        widths = np.asarray(cfg.map_log2_widths)
        return _arrays([_map_table(setting, widths, cfg, _MAP_STEPS) for setting in piece.settings])
    return _arrays(_measure_models(piece.settings, cfg))


def tables(arrays: dict[str, np.ndarray]) -> list[Table]:
    """The tables of a group or a curve, as `measure` gave them.

    Raises:
        ValueError: arrays that are no tables.
    """
    logs = dict(arrays)
    widths, steps = logs.pop("log2_widths"), logs.pop("steps")
    if {(log.shape[1], log.shape[3]) for log in logs.values()} != {(widths.size, steps.size)}:
        raise ValueError("no tables")
    count = len(next(iter(logs.values())))
    return [
        Table(widths, steps, {name: log[i] for name, log in logs.items()}) for i in range(count)
    ]


def classes(arrays: dict[str, np.ndarray]) -> list[Class | None]:
    """The classes of a diagram, as `measure` gave them."""
    pairs = zip(arrays["verdict"].tolist(), arrays["from_t"].tolist(), strict=True)
    return [None if v < 0 else Class(_VERDICTS[v], t or None) for v, t in pairs]


def _arrays(found: list[Table]) -> dict[str, np.ndarray]:
    logs = {name: np.stack([table.logs[name] for table in found]) for name in found[0].logs}
    return {"log2_widths": found[0].log2_widths, "steps": found[0].steps, **logs}


def _map_table(setting: Setting, widths: np.ndarray, cfg: "ClaimsConfig", steps: int) -> Table:
    assert setting.c_a is not None
    update: Any = setting.update
    runs = scalar_map.random_runs(
        widths,
        cfg.seeds["map"],
        setting.init,  # type: ignore[arg-type]
        float(setting.c_a),
        float(setting.c_b),
        update=update,
        s_0=float(setting.start),
        stream=str(setting),
    )
    return scalar_map.table(widths, scalar_map.trajectory(*runs, steps, update=update))


def _measure_diagram(diagram: Diagram, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    at = np.array(diagram.points, float), diagram.update, diagram.init
    least = phases.needs(*at)
    for field, given, asked in (
        ("map_log2_widths", cfg.map_log2_widths[0], least.log2_width),
        ("lattice_steps", cfg.lattice_steps, least.steps),
    ):
        if given < asked.max():
            wanted = f"must be at least {asked.max():.0f} for the phase diagrams"
            raise ConfigError(field, wanted, given)
    found = phases.measured_classes(
        *at,
        log2_widths=np.asarray(cfg.map_log2_widths),
        seeds=cfg.seeds["lattice"],
        steps=cfg.lattice_steps,
        confidence=cfg.confidence,
        stream=f"phases {diagram.update} {diagram.init}",
    )
    verdicts = [-1 if c is None else _VERDICTS.index(c.verdict) for c in found]
    return {
        "verdict": np.array(verdicts),
        "from_t": np.array([(c and c.from_t) or 0 for c in found]),
    }


def _measure_symmetry(case: Symmetry) -> float:
    from lora_theory.train.symmetry import Powers, symmetry_gap

    return symmetry_gap(
        case.model,
        case.update,
        case.init,  # type: ignore[arg-type]
        float(case.p),
        float(case.q),
        powers=Powers(case.rate, case.eps, case.decay),
        eps=_SYMMETRY_EPS,
        double=not case.exact,
    )


def _measure_models(settings: tuple[Setting, ...], cfg: "ClaimsConfig") -> list[Table]:
    """Each setting by itself: what is compiled is shared, what is drawn is not."""
    from lora_theory.train.coordinates import EpsilonError, Variant, coordinate_checks

    first = settings[0]
    probe = registry.PROBES[first.model]
    setup = _setup(first.model, cfg.rank_width, float(first.gamma))
    optimizer = registry.optimizer(first.update, cfg.adam_eps)
    found = []
    for setting in settings:
        try:
            found += coordinate_checks(
                setup,
                optimizer,
                [Variant(_rates(setting, cfg), _start(setting))],
                getattr(cfg, probe.varies[1]),
                seeds=own_seeds(cfg.seeds[first.model], str(setting)),
                steps=cfg.steps,
            )
        except EpsilonError as error:
            raise ConfigError("adam_eps", f"{error} ({setting})", cfg.adam_eps) from None
    return found


def own_seeds(seeds: Sequence[int], name: str) -> list[int]:
    """The seeds of one setting: those of the config, moved by a number that follows from its name.

    So that what is found of one setting says nothing of another, and is found again.
    """
    room = _SEEDS - max(seeds)
    digest = hashlib.sha256(name.encode()).digest()
    return [seed + int.from_bytes(digest[:8], "big") % room for seed in seeds]


def _rates(setting: Setting, cfg: "ClaimsConfig") -> Callable[[int], tuple[float, float]]:
    k = float(cfg.rates[setting.model] * setting.constant)
    k *= cfg.rank_width ** float(setting.c_n)

    def rates(size: int) -> tuple[float, float]:
        eta_a = 0.0 if setting.c_a is None else k * float(size) ** float(setting.c_a)
        return eta_a, k * float(size) ** float(setting.c_b)

    return rates


def _start(setting: Setting) -> Callable[[int], tuple[float, float]]:
    """size -> by what A and B are multiplied, both being drawn: by 0 in Init[1] or Init[2]."""
    a, b = float(setting.init != "B"), float(setting.init != "A")
    return lambda size: (a, b * float(size) ** float(setting.start))


def _setup(name: str, rank_width: int, gamma: float) -> registry.Setup:
    """(width or rank, key) -> (model, x, y), both factors drawn."""
    probe = registry.PROBES[name]
    varied = probe.varies[0]
    options: dict[str, Any] = {"name": probe.model, "init": "both", **probe.options}
    if varied == "rank":
        options |= {"width": rank_width, "gamma": gamma}
    config = registry.MODELS[probe.model].schema(**options)
    return registry.setup(config, varied, probe.task, probe.task_options)
