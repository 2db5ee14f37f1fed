"""The experiment: its config, its pieces, and the way from pieces to the report."""

import dataclasses
import itertools
import os
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import registry
from experiments.claims import cost, settings
from experiments.claims import report as shown
from experiments.claims.judge import Judge, Record
from experiments.claims.landscapes import LOSS, TASK, DecideConfig, WindowConfig, windows
from experiments.claims.measured import check_measured
from experiments.claims.saved import read_origin, read_record
from experiments.claims.settings import Diagram, Group, Piece
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
from lora_theory.theory import claims as theory
from lora_theory.theory.claims import Case, Claim, Exponents, Moving, Phase, Symmetry
from lora_theory.theory.regions import lattice

# Seeds of the scalar map and of the phase diagrams, which every report has.
_OF_ALL = ("map", "lattice")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClaimsConfig(schema.Common):
    """What `make claims` checks, at which widths, with how many seeds; see `conf/claims.yaml`."""

    only: tuple[str, ...] | None = science(
        Rule(
            "must be null or a list of different claim ids",
            lambda v: v is None or (v != () and len(set(v)) == len(v)),
        )
    )
    widths: tuple[int, ...] = science(ascending(4))
    ranks: tuple[int, ...] = science(ascending(1))
    rank_width: int = science(integer(4, 10**5))
    map_log2_widths: tuple[float, ...] = science(
        Rule(
            "must be at least three ascending numbers from 1 to 1e6, the last at least twice the "
            "first",
            lambda v: (
                len(v) >= 3
                and 1 <= 2 * v[0] <= v[-1] <= 1e6
                and all(a < b for a, b in itertools.pairwise(v))
            ),
        )
    )
    seeds: dict[str, schema.Seeds] = science(schema.seeds(2))
    steps: int = science(integer(3, 100))
    lattice_steps: int = science(integer(26, 1000))
    rates: dict[str, float] = science(positive())
    adam_eps: float = science(positive())
    margin: float = science(positive())
    map_margin: float = science(positive())
    confidence: float = science(number(0.5, 0.9999))
    landscapes: dict[str, WindowConfig] = science()
    decide: DecideConfig
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        if max(self.ranks) > self.rank_width:
            raise ConfigError(
                "ranks", f"must be at most rank_width = {self.rank_width}", self.ranks
            )
        _check_keys("seeds", self.seeds, [*_OF_ALL, *registry.PROBES])
        _check_keys("rates", self.rates, [*registry.PROBES])


class Claims(Experiment[ClaimsConfig, Piece, Record]):
    """A piece is a group of settings at all widths, a landscape, symmetries, a phase diagram or a
    curve.
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
        pieces |= {repr(group): group for group in _longest_first(settings.groups(found), cfg)}
        for group in settings.symmetries(c for c in cases if isinstance(c, Symmetry)):
            pieces[f"symmetry {group.cases[0].update}"] = group
        points = {*lattice(12), *(p for c in cases if isinstance(c, Phase) for p in c.points)}
        for update, init in itertools.product(("gd", "sign"), "AB"):
            pieces[f"phases {update} {init}"] = Diagram(update, init, tuple(sorted(points)))
        pieces |= {f"approach {curve}": curve for curve in settings.APPROACHES}
        return [Part("claims", pieces)]

    def start(self, cfg: ClaimsConfig) -> dict[str, Any]:
        """Numerics as the project has them."""
        from lora_theory.train.devices import pin_numerics

        pin_numerics()
        return {}

    def science(self, cfg: ClaimsConfig, *, settled: bool = True) -> dict[str, Any]:
        """Seeds and rates of the models that the chosen claims speak of, and all the rest."""
        found = super().science(cfg, settled=settled)
        used = _models(chosen(cfg))
        for field, also in (("seeds", _OF_ALL), ("rates", ())):
            found[field] = {k: v for k, v in found[field].items() if k in used or k in also}
        families = {case.family for case in _cases(chosen(cfg)) if isinstance(case, Moving)}
        models = {family.model for family in families}
        found["landscapes"] = {k: v for k, v in found["landscapes"].items() if k in models}
        return found

    def tables(self, part: Part[Piece], cfg: ClaimsConfig) -> Mapping[str, Collection[str]]:
        """What the registry has for the chosen claims."""
        cases = _cases(chosen(cfg))
        found = [case.setting for case in cases if isinstance(case, Exponents)]
        families = [case.family for case in cases if isinstance(case, Moving)]
        used = registry.used_by_probes(
            {s.model for s in found}, {s.update for s in found} | {f.update for f in families}
        )
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
