"""How claims are run: the pieces of work, and what each measures.

What is drawn settings do not share: every one, and every phase diagram, has draws of its own, the
same at every width and constant of an exact model. So no two verdicts rest on one set of draws,
unless on one setting. (Landscapes have the seeds of the config.)
"""

from collections.abc import Hashable, Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.claims import exact, landscapes, reduction, vectors
from experiments.claims.landscapes import Window
from experiments.lab.schema import ConfigError
from lora_theory.exact import phases
from lora_theory.exact.escape import escape_slopes, escape_steps, widest
from lora_theory.stats.tables import Table
from lora_theory.terms import Class, Setting, Verdict
from lora_theory.theory.claims import Limit, Reduction, Split, Symmetry

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

_VERDICTS = tuple(Verdict)
_LIMIT_STEPS = 4  # T of the diagram of eq. 3: what grows does so at once.
_WAY = "way "  # Before the names of slopes on the way.


class Group(NamedTuple):
    """Settings that have the same sizes: of one model, update and number of samples.

    Those in vectors differ in rates and starts alone, which are arguments of one compiled program.
    """

    settings: tuple[Setting, ...]

    @property
    def model(self) -> str:
        """Which model."""
        return self.settings[0].model


class Diagram(NamedTuple):
    """The measured classes of some points (c_a, c_b), at each pair of constants."""

    model: str
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


class Escapes(NamedTuple):
    """When runs on the line c_a + c_b = −1 leave their saddle."""

    init: str
    c_b: Fraction


class Symmetries(NamedTuple):
    """Symmetries of one update, which share trajectories."""

    cases: tuple[Symmetry, ...]


class Splits(NamedTuple):
    """Splits of B A under one optimizer, which share trajectories."""

    cases: tuple[Split, ...]


class Limits(NamedTuple):
    """Limits at the same rates, which are compared with one set of runs in vectors."""

    cases: tuple[Limit, ...]


Piece = Group | Diagram | Approach | Escapes | Symmetries | Splits | Limits | Reduction | Window

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
        key = setting.model, setting.update, setting.samples, setting.asked
        found.setdefault(key, []).append(setting)
    return [Group(tuple(group)) for group in found.values()]


def symmetries(cases: Iterable[Symmetry]) -> list[Symmetries]:
    """Each case once, in pieces by update."""
    found: dict[str, dict[Symmetry, None]] = {}
    for case in cases:
        found.setdefault(case.update, {})[case] = None
    return [Symmetries(tuple(group)) for group in found.values()]


def splits(cases: Iterable[Split]) -> list[Splits]:
    """Each case once, in pieces by optimizer."""
    found: dict[str, dict[Split, None]] = {}
    for case in cases:
        found.setdefault(case.optimizer, {})[case] = None
    return [Splits(tuple(group)) for group in found.values()]


def limits(cases: Iterable[Limit]) -> list[Limits]:
    """Each case once, in pieces by what is trained in vectors."""
    found: dict[Hashable, dict[Limit, None]] = {}
    for case in cases:
        found.setdefault((case.rates, case.steps), {})[case] = None
    return [Limits(tuple(group)) for group in found.values()]


def measure(piece: Piece, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """Run one piece; `tables`, `ways`, `classes` and `landscapes.Families` read what it gives, of
    symmetries, splits and reductions it is the gaps.
    """
    if isinstance(piece, Window):
        return landscapes.measure(piece, cfg)
    if isinstance(piece, Diagram):
        return _measure_diagram(piece, cfg)
    if isinstance(piece, Escapes):
        return _measure_escape(piece, cfg)
    if isinstance(piece, Limits):
        return reduction.limit_sizes(piece.cases, cfg)
    if isinstance(piece, Reduction):
        return {"gaps": np.array([reduction.gap(piece, cfg)])}
    if isinstance(piece, Symmetries):
        return {"gaps": np.array([_measure_symmetry(case) for case in piece.cases])}
    if isinstance(piece, Splits):
        return {"gaps": np.array([_measure_split(case) for case in piece.cases])}
    if isinstance(piece, Approach):
        middle = np.array([cfg.constants.middle])
        runs = exact.Runs(APPROACH_WIDTHS, tuple(cfg.seeds["map"]), middle, middle)
        return _stacked([exact.logs(piece.setting, runs)])
    measured = exact.measure if piece.model in exact.MODELS else vectors.measure
    return _stacked([measured(setting, cfg) for setting in piece.settings])


def tables(arrays: dict[str, np.ndarray], log2_sizes: np.ndarray) -> list[list[Table]]:
    """The tables of each setting of a group, or of a curve, one for each pair of constants.

    Args:
        arrays: as `measure` gave them.
        log2_sizes: of the widths or ranks.

    Raises:
        ValueError: arrays that are no tables.
    """
    logs = {name: log for name, log in arrays.items() if not name.startswith(_WAY)}
    ((settings, constants, _, _, steps),) = {log.shape for log in logs.values()}
    t = np.arange(1, steps + 1)
    return [
        [
            Table(log2_sizes, t, {name: log[i, c] for name, log in logs.items()})
            for c in range(constants)
        ]
        for i in range(settings)
    ]


def log2_sizes(group: Group, cfg: "ClaimsConfig") -> np.ndarray:
    """log2 of the widths, or of the ranks, at which a group is judged."""
    if group.model not in exact.MODELS:
        return np.log2(cfg.widths)
    if group.model == "rank_map":
        return np.log2(exact.ranks(group.settings[0], cfg))
    return exact.decisive(group.settings[0], cfg)


def ways(arrays: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """quantity -> (C, K, T) slopes on the way of one setting of a group; empty in vectors."""
    return {
        name.removeprefix(_WAY): slopes[index]
        for name, slopes in arrays.items()
        if name.startswith(_WAY)
    }


def classes(arrays: dict[str, np.ndarray]) -> list[list[Class | None]]:
    """The classes of a diagram's points, as `measure` gave them, for each pair of constants."""
    return [
        [None if v < 0 else Class(_VERDICTS[v], t or None) for v, t in zip(*row, strict=True)]
        for row in zip(arrays["verdict"].tolist(), arrays["from_t"].tolist(), strict=True)
    ]


def _stacked(found: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([sizes[name] for sizes in found]) for name in found[0]}


def _measure_diagram(diagram: Diagram, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """(C, points): the verdict by its place, −1 where none is, and t, 0 where there is none."""
    found = [_classes(diagram, cfg, *pair) for pair in cfg.constants.pairs]
    verdicts = [[-1 if c is None else _VERDICTS.index(c.verdict) for c in row] for row in found]
    from_t = [[(c and c.from_t) or 0 for c in row] for row in found]
    return {"verdict": np.array(verdicts), "from_t": np.array(from_t)}


def _classes(diagram: Diagram, cfg: "ClaimsConfig", k_a: float, k_b: float) -> list[Class | None]:
    points, update, init = np.array(diagram.points, float), diagram.update, diagram.init
    options: dict[str, Any] = {
        "seeds": cfg.seeds["lattice"],
        "confidence": cfg.confidence,
        "stream": f"phases {diagram.model} {update} {init}",
        "k_a": k_a,
        "k_b": k_b,
    }
    if diagram.model == "two_layer_limit":
        widths, steps = np.asarray(cfg.limit_log2_widths), _LIMIT_STEPS
        return phases.two_layer_classes(points, log2_widths=widths, steps=steps, **options)
    options["log2_widths"] = np.asarray(cfg.exact_log2_widths)
    least = phases.needs(points, "gd" if update == "gd" else "sign", init, k_a=k_a, k_b=k_b)
    for field, given, asked in (
        ("exact_log2_widths", cfg.exact_log2_widths[0], least.log2_width),
        ("lattice_steps", cfg.lattice_steps, least.steps),
    ):
        if given < asked.max():
            wanted = f"must be at least {asked.max():.0f} for the phase diagrams"
            raise ConfigError(field, wanted, given)
    if diagram.model == "layer_map":
        return phases.layer_classes(points, update, init, **options)
    return phases.measured_classes(points, update, init, steps=cfg.lattice_steps, **options)


def _measure_escape(escape: Escapes, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """(C, S) steps for each unit of ln n, and what of each seed they depend on."""
    k_a, k_b = np.array(cfg.constants.pairs).T
    log2_widths, c_b = np.asarray(cfg.exact_log2_widths), float(escape.c_b)
    if log2_widths.max() > widest(c_b):
        wanted = f"must be at most {widest(c_b):g} for runs that leave their saddle"
        raise ConfigError("exact_log2_widths", wanted, cfg.exact_log2_widths[-1])
    init: Any = escape.init
    options = {"k_a": k_a, "k_b": k_b, "init": init, "stream": repr(escape)}
    found = escape_steps(log2_widths, cfg.seeds["map"], c_b, **options)
    y = np.broadcast_to(found.y, found.product.shape)
    slopes = escape_slopes(log2_widths, found.steps)
    return {"slopes": slopes, "product": found.product, "y": y.copy()}


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


def _measure_split(case: Split) -> float:
    """Of all seeds the one that speaks most against the case."""
    from lora_theory.train.splits import split_gaps

    gaps = split_gaps(case.model, case.optimizer, case.init, case.mixing)  # type: ignore[arg-type]
    return float(gaps.max() if case.least is None else gaps.min())
