"""The experiment: its config, its pieces, and the way from pieces to the report."""

import dataclasses
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import registry
from experiments.claims import report as shown
from experiments.claims import settings
from experiments.claims.judge import Judge, Record
from experiments.claims.settings import Diagram, Group, Piece
from experiments.lab import schema
from experiments.lab.experiment import Arrays, Experiment, Part, Report
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
from lora_theory.store.files import ResultsError, write_json
from lora_theory.store.provenance import Provenance
from lora_theory.store.records import from_plain
from lora_theory.theory import claims as theory
from lora_theory.theory.claims import Claim, Exponents, Phase
from lora_theory.theory.regions import lattice


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
    dpi: int = drawing(integer(30, 1200))

    def __post_init__(self) -> None:
        if max(self.ranks) > self.rank_width:
            raise ConfigError(
                "ranks", f"must be at most rank_width = {self.rank_width}", self.ranks
            )


class Claims(Experiment[ClaimsConfig, Piece, Record]):
    """A piece is a group of settings at all widths, a phase diagram, or a curve of slopes."""

    name = "claims"
    schema = ClaimsConfig
    suffix = ".json"
    renews = True  # What a claim says may have changed, which no piece depends on.

    def plan(self, cfg: ClaimsConfig) -> list[Part[Piece]]:
        """Every setting of the chosen claims once, and what the figures show."""
        cases = [case for c in chosen(cfg) for case in (*c.cases, *c.control)]
        found = {case.setting: None for case in cases if isinstance(case, Exponents)}
        pieces: dict[str, Piece] = {
            repr(group): group for group in _longest_first(settings.groups(found), cfg)
        }
        points = {*lattice(12), *(p for c in cases if isinstance(c, Phase) for p in c.points)}
        for update, init in itertools.product(("gd", "sign"), "AB"):
            pieces[f"phases {update} {init} {len(points)}"] = Diagram(
                update, init, tuple(sorted(points))
            )
        pieces |= {f"approach {curve}": curve for curve in settings.APPROACHES}
        return [Part("claims", pieces)]

    def start(self, cfg: ClaimsConfig) -> dict[str, Any]:
        """Numerics as the project has them."""
        from lora_theory.train.devices import pin_numerics

        pin_numerics()
        return {}

    def run(self, piece: Piece, cfg: ClaimsConfig) -> Arrays:
        """Measure a setting, a diagram or a curve."""
        return settings.measure(piece, cfg)

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
        write_json(path, {"provenance": provenance._asdict(), **dataclasses.asdict(record)})

    def open(self, path: Path) -> Record:
        """The judgements, as `keep` wrote them."""
        data = _read(path)
        del data["provenance"]
        try:
            return from_plain(Record, data)
        except ValueError:
            raise _damaged(path) from None

    def origin(self, path: Path) -> Provenance | None:
        """Whose judgements they are."""
        try:
            return Provenance(**_read(path)["provenance"])
        except (KeyError, TypeError):
            raise _damaged(path) from None

    def report(self, part: Part[Piece], results: Record, cfg: ClaimsConfig) -> Report:
        """Tables, figures, and exit status 1 if the record is contradicted."""
        return Report(
            [*shown.table(results, cfg), ""],
            shown.figures(results),
            {"claims.md": "\n".join(shown.markdown(results, cfg)) + "\n"},
            [shown.summary(results)],
            status=1 if shown.broken(results) else 0,
        )


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


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise ResultsError(f"{path}: no report to draw; run without replot=true") from None
    except ValueError:
        raise _damaged(path) from None
    if not isinstance(data, dict):
        raise _damaged(path)
    return data


def _damaged(path: Path) -> ResultsError:
    return ResultsError(f"{path}: damaged or no report; run without replot=true")


registry.offer_probes()
