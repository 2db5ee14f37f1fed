"""Whose results are: what decides them now, and in what saved ones differ from that."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from experiments.lab import schema
from experiments.lab.schema import Role, flatten
from lora_theory.store.code import code_digest
from lora_theory.store.files import ResultsError
from lora_theory.store.pieces import Pieces
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
    other = now.difference(origin)
    due = experiment.renews and other is not None and not cfg.replot  # type: ignore[attr-defined]
    return Saved(origin, other, None if due else experiment.open(part, cfg, path))


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
