"""The experiment: its config, its pieces, and the way from pieces to the report."""

import dataclasses
import itertools
import math
import os
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from experiments import registry
from experiments.claims import cost, exact, settings
from experiments.claims import report as shown
from experiments.claims.judge import Judge
from experiments.claims.landscapes import LOSS, TASK, DecideConfig, WindowConfig, windows
from experiments.claims.measured import check_measured
from experiments.claims.rows import Record
from experiments.claims.saved import read_origin, read_record
from experiments.claims.settings import Diagram, Escapes, Group, Piece
from experiments.lab import schema
from experiments.lab.experiment import Arrays, Experiment, Part, Report
from experiments.lab.memory import cores
from experiments.lab.schema import (
    ConfigError,
    Rule,
    ascending,
    drawing,
    integer,
    number,
    positive,
    science,
)
from lora_theory.store.files import write_json
from lora_theory.store.provenance import Provenance
from lora_theory.terms import Setting
from lora_theory.theory import claims as theory
from lora_theory.theory.claims import (
    Case,
    Claim,
    Escape,
    Exponents,
    Limit,
    Moving,
    Phase,
    Reduction,
    Split,
    Symmetry,
)
from lora_theory.theory.regions import lattice

# Seeds of the scalar map and of the phase diagrams, which every report has.
_OF_ALL = ("map", "lattice", "limit")
_LOG2_WIDTHS = Rule(
    "must be at least three ascending numbers from 1 to 1e6, the last at least twice the first",
    lambda v: (
        len(v) >= 3
        and 1 <= 2 * v[0] <= v[-1] <= 1e6
        and all(a < b for a, b in itertools.pairwise(v))
    ),
)
_LIMIT_WIDTHS = Rule(
    "must be at least three ascending numbers from 1 to 300",
    lambda v: (
        len(v) >= 3 and v[0] >= 1 and v[-1] <= 300 and all(a < b for a, b in itertools.pairwise(v))
    ),
)
_POSITIVE = Rule(
    "must be different positive numbers, at least one",
    lambda v: bool(v) and all(0 < number < 1e9 for number in v) and len(set(v)) == len(v),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstantsConfig:
    """The constants of η_A = k_a n^c_a, η_B = k_b n^c_b at which claims of exponents are judged.

    Attributes:
        scales: √(k_a k_b).
        ratios: k_a / k_b.
    """

    scales: tuple[float, ...] = science(_POSITIVE)
    ratios: tuple[float, ...] = science(_POSITIVE)

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """(k_a, k_b), every scale at every ratio."""
        return [
            (scale * ratio**0.5, scale / ratio**0.5)
            for scale in self.scales
            for ratio in self.ratios
        ]

    @property
    def middle(self) -> float:
        """The geometric mean of the scales."""
        return math.prod(self.scales) ** (1 / len(self.scales))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimsConfig(schema.Common):
    """What `make claims` checks, at which widths, with how many seeds; see `conf/claims.yaml`."""

    only: tuple[str, ...] | None = science(
        Rule(
            "must be null or a list of different claim ids",
            lambda v: v is None or (v != () and len(set(v)) == len(v)),
        )
    )
    constants: ConstantsConfig
    widths: tuple[int, ...] = science(ascending(4))
    ranks: tuple[int, ...] = science(ascending(1))
    descent_ranks: tuple[int, ...] = science(ascending(1))
    exact_log2_widths: tuple[float, ...] = science(_LOG2_WIDTHS)
    limit_log2_widths: tuple[float, ...] = science(_LIMIT_WIDTHS)
    way_log2_widths: tuple[float, ...] = science(_LOG2_WIDTHS)
    seeds: dict[str, schema.Seeds] = science(schema.seeds(2))
    way_seeds: int = science(integer(2, 10**5))
    steps: int = science(integer(1, 100))
    lattice_steps: int = science(integer(26, 1000))
    adam_eps: float = science(positive())
    margin: float = science(positive())
    exact_margin: float = science(positive())
    rank_margin: float = science(positive())
    limit_margin: float = science(positive())
    confidence: float = science(number(0.5, 0.9999))
    landscapes: dict[str, WindowConfig] = science()
    decide: DecideConfig
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        for name, given in (("ranks", self.ranks), ("descent_ranks", self.descent_ranks)):
            most = min(self.exact_log2_widths[0], self.way_log2_widths[-1]) - 1
            if math.log2(max(given)) > most:
                raise ConfigError(name, f"must be at most half the widest n, 2^{most:g}", given)
        _check_keys("seeds", self.seeds, [*_OF_ALL, *exact.MODELS[1:], *registry.PROBES])


class Claims(Experiment[ClaimsConfig, Piece, Record]):
    """A piece is a group of settings at all widths, a landscape, symmetries, splits, a phase
    diagram or a curve.
    """

    name = "claims"
    schema = ClaimsConfig
    suffix = ".json"
    renews = True  # A claim may say something else now, on which no piece depends.

    def plan(self, cfg: ClaimsConfig) -> list[Part[Piece]]:
        """Every setting of the chosen claims once, and what the figures show."""
        cases = _cases(chosen(cfg))
        found = {case.setting: None for case in cases if isinstance(case, Exponents)}
        pieces: dict[str, Piece] = {
            f"landscapes {window.family}, n = {window.width}": window
            for window in windows((c for c in cases if isinstance(c, Moving)), cfg)
        }
        pieces |= {repr(case): case for case in cases if isinstance(case, Reduction)}
        compared = settings.limits(case for case in cases if isinstance(case, Limit))
        pieces |= {f"limit {group.cases[0]}": group for group in compared}
        escapes = [Escapes(case.init, case.c_b) for case in cases if isinstance(case, Escape)]
        pieces |= {repr(escape): escape for escape in escapes}
        pieces |= {repr(group): group for group in _longest_first(settings.groups(found), cfg)}
        for group in settings.symmetries(c for c in cases if isinstance(c, Symmetry)):
            pieces[f"symmetry {group.cases[0].update}"] = group
        for split in settings.splits(c for c in cases if isinstance(c, Split)):
            pieces[f"split {split.cases[0].optimizer}"] = split
        for (model, update, init), points in _phases(cases).items():
            pieces[f"phases {model} {update} {init}"] = Diagram(model, update, init, points)
        pieces |= {f"approach {curve}": curve for curve in settings.APPROACHES}
        return [Part("claims", pieces)]

    def start(self, cfg: ClaimsConfig) -> dict[str, Any]:
        """Numerics as the project has them."""
        from lora_theory.train.devices import pin_numerics

        pin_numerics()
        return {}

    def science(self, cfg: ClaimsConfig, *, settled: bool = True) -> dict[str, Any]:
        """Seeds of the models that the chosen claims speak of, and all the rest."""
        found = super().science(cfg, settled=settled)
        used = _models(chosen(cfg))
        found["seeds"] = {k: v for k, v in found["seeds"].items() if k in used or k in _OF_ALL}
        families = {case.family for case in _cases(chosen(cfg)) if isinstance(case, Moving)}
        models = {family.model for family in families}
        found["landscapes"] = {k: v for k, v in found["landscapes"].items() if k in models}
        return found

    def tables(self, part: Part[Piece], cfg: ClaimsConfig) -> Mapping[str, Collection[str]]:
        """What the registry has for the chosen claims."""
        cases = _cases(chosen(cfg))
        found = [case.setting for case in cases if isinstance(case, Exponents)]
        reduced = [case for case in cases if isinstance(case, Reduction)]
        limits = [case for case in cases if isinstance(case, Limit)]
        families = [case.family for case in cases if isinstance(case, Moving)]
        trained = [s for s in found if s.model not in exact.MODELS]
        probed: list[Setting | Reduction] = [*trained, *reduced]
        probed += [Setting("two_layer", "gd", "both") for _ in limits]
        updates = {s.update for s in probed} | {f.update for f in families}
        used = registry.used_by_probes({s.model for s in probed}, updates)
        if families:
            landscapes = {"MODELS": {f.model for f in families}, "TASKS": {TASK}, "LOSSES": {LOSS}}
            for table, names in landscapes.items():
                key = f"experiments.registry:{table}"
                used[key] = {*used[key], *names}
        return used

    def run(self, piece: Piece, cfg: ClaimsConfig) -> Arrays:
        """Measure a setting, a diagram or a curve."""
        return settings.measure(piece, cfg)

    def core_seconds(self, piece: Piece, cfg: ClaimsConfig) -> float:
        """As measured, scaled by settings, seeds, sizes and steps."""
        return cost.core_seconds(piece, cfg)

    def group(self, piece: Piece) -> Piece:
        """Each piece is a compilation of its own."""
        return piece

    def workers(self) -> int:
        """Most of the time is compilation, which leaves Python free: groups run side by side."""
        return os.cpu_count() or 1

    def keep(
        self,
        part: Part[Piece],
        pieces: Mapping[str, Callable[[], Arrays]],
        cfg: ClaimsConfig,
        path: Path,
        provenance: Provenance,
    ) -> None:
        """Judge the claims by their measurements."""
        read = {part.pieces[name]: reader for name, reader in pieces.items()}
        record = Judge(cfg, read).record(chosen(cfg))
        record = dataclasses.replace(record, made=_made(provenance.versions))
        write_json(path, {"provenance": provenance._asdict(), **dataclasses.asdict(record)})

    def open(self, part: Part[Piece], cfg: ClaimsConfig, path: Path) -> Record:
        """The judgements, as `keep` wrote them."""
        diagrams = [piece for piece in part.pieces.values() if isinstance(piece, Diagram)]
        return read_record(path, chosen(cfg), diagrams, cfg)

    def check(
        self, part: Part[Piece], arrays: Arrays, cfg: ClaimsConfig, piece: Piece | None = None
    ) -> None:
        """Arrays as `settings.measure` gives them, with all that the judge asks for."""
        assert piece is not None
        check_measured(piece, arrays, cfg, _cases(chosen(cfg)))

    def origin(self, path: Path) -> Provenance | None:
        """Whose judgements they are."""
        return read_origin(path)

    def report(self, part: Part[Piece], results: Record, cfg: ClaimsConfig) -> Report:
        """Tables, figures, and exit status 1 if the record is contradicted."""
        page, text = "claims.md", "\n".join(shown.page(results, cfg)) + "\n"
        return Report(
            [*shown.table(results, cfg), ""],
            shown.figures(results),
            {page: text},
            [shown.summary(results)],
            status=1 if shown.broken(results) else 0,
            kept={page: text},
        )


def _made(versions: Mapping[str, str]) -> str:
    """The versions and the machine that measure, in words."""
    named = {"python": "Python", "jax": "JAX", "flax": "Flax", "numpy": "NumPy", "scipy": "SciPy"}
    used = [f"{words} {versions[name]}" for name, words in named.items() if name in versions]
    where = f"a {versions.get('backend', 'cpu').upper()}, {cores()} {platform.machine()} cores"
    return f"{', '.join(used)} on {where}"


def _cases(claims: Iterable[Claim]) -> list[Case]:
    """What the claims say and what their controls say."""
    return [case for claim in claims for case in (*claim.cases, *claim.control)]


def _phases(
    cases: Iterable[Case],
) -> dict[tuple[str, str, str], tuple[tuple[Fraction, Fraction], ...]]:
    """The points of every phase diagram, by model, update and init: those of the scalar map are
    drawn, whatever is claimed.
    """
    twelfths = lattice(12)
    drawn = itertools.product(("gd", "sign"), "AB")
    found: dict[tuple[str, str, str], set[tuple[Fraction, Fraction]]]
    found = {("map", update, init): set(twelfths) for update, init in drawn}
    for case in cases:
        if isinstance(case, Phase):
            found.setdefault((case.model, case.update, case.init), set()).update(case.points)
    return {key: tuple(sorted(points)) for key, points in found.items()}


def _models(claims: Iterable[Claim]) -> set[str]:
    """The models of which claims speak in exponents."""
    return {case.setting.model for case in _cases(claims) if isinstance(case, Exponents)}


def _check_keys(field: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in known:
        if name not in given:
            raise ConfigError(f"{field}.{name}", "must be given", "nothing")
    for name in given:
        if name not in known:
            raise ConfigError(f"{field}.{name}", schema.unknown_key(name, known), given[name])


def _longest_first(groups: Sequence[Group], cfg: ClaimsConfig) -> list[Group]:
    """So that threads end together; models take turns, so that no two begin with the same draws."""
    runs = {group: len(group.settings) * len(cfg.seeds[group.model]) for group in groups}
    by_runs = sorted(groups, key=lambda group: -runs[group])
    seen, turns = Counter[str](), {}
    for group in by_runs:
        turns[group] = seen[group.model]
        seen[group.model] += 1
    return sorted(by_runs, key=lambda group: turns[group])


def chosen(cfg: ClaimsConfig) -> list[Claim]:
    """The claims that are judged.

    Raises:
        ConfigError: an unknown id.
    """
    known = [claim.id for claim in theory.claims()]
    for name in cfg.only or ():
        if name not in known:
            raise ConfigError("only", f"must be among {', '.join(known)}", name)
    return theory.claims(cfg.only)


registry.offer_probes()
