"""Whose results are: what decides them now, and in what saved ones differ from that."""

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from experiments.lab import schema
from experiments.lab.schema import Role, filled, flatten
from lora_theory.store.code import code_digest
from lora_theory.store.files import ResultsError, is_there
from lora_theory.store.pieces import Pieces, stamped
from lora_theory.store.provenance import Provenance, difference, library_versions

if TYPE_CHECKING:
    from experiments.lab.experiment import Experiment, Part

    AnyExperiment = Experiment[Any, Any, Any]

C = TypeVar("C")
P = TypeVar("P", bound=Hashable)
R = TypeVar("R")
# What computes a piece, and what makes the results of the pieces besides.
_RUN = ("run", "start", "__init__", "__post_init__")
_KEEP = (*_RUN, "keep")


class Saved(NamedTuple, Generic[R]):
    """Saved results, and whose they are.

    Attributes:
        origin: what decided them.
        other: in words, what would be another now, the config aside; None if nothing.
        results: as the experiment opens them; None if they are due to be computed anew.
    """

    origin: Provenance
    other: str | None
    results: R | None


class There(NamedTuple, Generic[C, P]):
    """What is there of a part's pieces on one backend, at one moment.

    Attributes:
        store: the pieces.
        cfg: the config as it was settled for them.
        part: the part in that config.
        done: names of the pieces that are on disk.
        claims: name -> the claim on a piece that somebody is at.
    """

    store: Pieces
    cfg: C
    part: "Part[P]"
    done: set[str]
    claims: Mapping[str, Path]


class Origins(NamedTuple):
    """What decides a part's pieces, and what its results.

    Pieces have the config as it was asked: what the machine decides is decided once for all of
    them, by whoever comes first, and stands with the results.
    """

    pieces: Provenance
    results: Provenance


def origins_of(
    experiment: "AnyExperiment", part: "Part[Any]", cfg: Any, chosen: Mapping[str, Any]
) -> Origins:
    """What decides a part; the backend, which belongs to it, has been started.

    Args:
        experiment: whose part it is.
        part: the part.
        cfg: the config as it was asked.
        chosen: what the machine decides.
    """
    import jax

    versions = library_versions() | {"backend": jax.default_backend()}
    asked = _asked(experiment, part, cfg)
    run, keep = (code_of(experiment, part, cfg, entries) for entries in (_RUN, _KEEP))
    config = experiment.science(cfg) | dict(part.config)
    return Origins(
        Provenance(asked, versions, run), Provenance(_merged(config, chosen), versions, keep)
    )


def _asked(experiment: "AnyExperiment", part: "Part[Any]", cfg: Any) -> dict[str, Any]:
    return experiment.science(cfg, settled=False) | dict(part.config)


def check_saved(experiment: "Experiment[C, P, R]", part: "Part[P]", cfg: C, path: Path) -> Saved[R]:
    """Saved results, and whose they are.

    Raises:
        ResultsError: they are of another config, damaged, not there, or do not say whose they are.
    """
    origin, other = whose(experiment, part, cfg, path)
    due = experiment.renews and other is not None and not cfg.replot  # type: ignore[attr-defined]
    return Saved(origin, other, None if due else experiment.open(part, cfg, path))


def whose(
    experiment: "AnyExperiment", part: "Part[Any]", cfg: Any, path: Path
) -> tuple[Provenance, str | None]:
    """What decided saved results, and in words, what would be another now; None if nothing.

    Raises:
        ResultsError: they are of another config, damaged, not there, or do not say whose they are.
    """
    origin = experiment.origin(path)
    if origin is None:
        raise ResultsError(
            f"{path}: written by version 0.1.0, which lora_theory.Results.load reads; move it or "
            "change out"
        )
    asked = flatten(_asked(experiment, part, cfg))
    if (found := difference(asked, _comparable(experiment, cfg, asked, origin))) is not None:
        key, wanted, saved = found
        raise ResultsError(
            f"{path}: of another config ({key} is {saved!s:.80}, not {wanted}); delete it or "
            "change out"
        )
    here = library_versions() | {"backend": origin.versions.get("backend", "")}
    now = Provenance(origin.config, here, code_of(experiment, part, cfg, _KEEP))
    return origin, now.difference(origin)


def finished(experiment: "AnyExperiment", part: "Part[Any]", cfg: Any, path: Path) -> bool:
    """Whether a run would compute nothing: results are there, and not due to be renewed.

    Raises:
        ResultsError: they are of another config, or damaged.
    """
    if not is_there(path):
        return False
    _, other = whose(experiment, part, cfg, path)
    return not (experiment.renews and other is not None)


def there(
    experiment: "Experiment[C, P, R]", part: "Part[P]", cfg: C, path: Path
) -> list[There[C, P]]:
    """What is there of a part's pieces, of this config and today's code; starts no backend.

    Args:
        experiment: whose part it is.
        part: the part.
        cfg: the config as it was asked.
        path: of the results file to be.

    Returns:
        One for each backend, or other versions, with which somebody has begun.
    """
    asked = json.loads(json.dumps(_asked(experiment, part, cfg)))  # As the records have it.
    code, found = code_of(experiment, part, cfg, _RUN), []
    for store in Pieces.beside(path):
        origin = store.provenance
        if origin.code == code and difference(asked, origin.config) is None:
            settled = filled(cfg, store.chosen())
            here = next(p for p in experiment.plan(settled) if p.name == part.name)
            names = {stamped(name, piece): name for name, piece in here.pieces.items()}
            done, claims = store.listing(names)
            at = {names[file]: claim for file, claim in claims.items()}
            found.append(There(store, settled, here, {names[file] for file in done}, at))
    return found


def pieces_of(
    experiment: "AnyExperiment", part: "Part[Any]", cfg: Any, path: Path, origin: Provenance
) -> Pieces:
    """The pieces that results of the present provenance were made of, if any are left."""
    asked, code = _asked(experiment, part, cfg), code_of(experiment, part, cfg, _RUN)
    return Pieces(path, Provenance(asked, origin.versions, code))


def _comparable(
    experiment: "AnyExperiment", cfg: Any, asked: dict[str, Any], origin: Provenance
) -> dict[str, Any]:
    """What of a saved config is compared: not what the machine decides, nor what `start` added."""
    roles = schema.roles(type(cfg))
    left = flatten(experiment.science(cfg)).keys() - asked.keys()
    return {
        key: value
        for key, value in flatten(origin.config).items()
        if key in asked or (key not in left and schema.role_of(roles, key) is Role.SCIENCE)
    }


def code_of(
    experiment: "AnyExperiment", part: "Part[Any]", cfg: Any, entries: tuple[str, ...]
) -> str:
    """Digest of the code that some methods run, for one part of one config."""
    return code_digest(
        type(experiment),
        entries,
        records=schema.records(type(cfg)),
        tables=experiment.tables(part, cfg),
        outside="experiments.lab",
    )


def _merged(config: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Nested data with some values replaced or added."""
    merged = dict(config)
    for key, value in more.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged
