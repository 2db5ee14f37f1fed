"""The skeleton of every experiment: plan pieces, run them, keep what they make up, report it.

An experiment says what is particular to it; `conduct` owns the rest: folders, disk check, resume,
progress, provenance, replot, what is printed, exit status.
"""

import functools
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from experiments.lab import folders as places
from experiments.lab import schema
from experiments.lab.folders import Folders
from experiments.lab.progress import progress
from experiments.lab.schedule import in_groups, run_all
from experiments.lab.schema import Role
from lora_theory.store.dataset import Layout, Results, assemble
from lora_theory.store.files import ResultsError, exclusive, write_text
from lora_theory.store.pieces import Pieces
from lora_theory.store.provenance import (
    Provenance,
    code_digest,
    difference,
    library_versions,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

C = TypeVar("C")
P = TypeVar("P", bound=Hashable)
R = TypeVar("R")
Arrays = Mapping[str, np.ndarray]


class Part(NamedTuple, Generic[P]):
    """What goes into one results file.

    Attributes:
        name: of the file.
        pieces: name -> what is computed, in the order of the file; a name says all of it.
        config: what the part adds to the config of the experiment, as {"loss": "mse"}.
    """

    name: str
    pieces: Mapping[str, P]
    config: Mapping[str, Any] = {}


class Report(NamedTuple):
    """What is shown of the results.

    Attributes:
        lines: printed.
        figures: name -> figure, written as PNG and PDF.
        texts: file name -> text, written beside the results.
        after: printed after the names of the files.
        status: exit status.
    """

    lines: Sequence[str]
    figures: Mapping[str, "Figure"] = {}
    texts: Mapping[str, str] = {}
    after: Sequence[str] = ()
    status: int = 0


class Experiment(Generic[C, P, R]):
    """What is particular to an experiment; see docs/experiments.md for the shortest one.

    Attributes:
        name: of the experiment, its config and its folders.
        schema: of its config; every field has a role.
        suffix: of its results files.
        renews: whether results are computed anew even where finished ones lie.
    """

    name: str
    schema: type[C]
    suffix = ".npz"
    renews = False

    def plan(self, cfg: C) -> Sequence[Part[P]]:
        """What is to be computed; starts no JAX."""
        raise NotImplementedError

    def run(self, piece: P, cfg: C) -> Arrays:
        """Compute one piece; nothing but the piece and the config's science decides it."""
        raise NotImplementedError

    def report(self, part: Part[P], results: R, cfg: C) -> Report:
        """What is shown of one part's results."""
        raise NotImplementedError

    def layout(self, part: Part[P], cfg: C) -> Layout | None:
        """How the pieces make up the data set; None if `keep` does something else with them."""
        return None

    def keep(
        self,
        part: Part[P],
        pieces: Mapping[str, Callable[[], Arrays]],
        cfg: C,
        path: Path,
        provenance: Provenance,
    ) -> None:
        """Make the results file of the finished pieces: by default a labelled data set."""
        data_layout = self.layout(part, cfg)
        assert data_layout is not None
        assemble(path, data_layout, provenance, list(pieces.values()))

    def open(self, path: Path) -> R:
        """Read a results file: by default as an `xarray.Dataset`."""
        return Results.load(path).to_xarray()  # type: ignore[return-value]

    def origin(self, path: Path) -> Provenance | None:
        """Whose a results file is."""
        return Results.load(path).provenance

    def start(self, cfg: C) -> dict[str, Any]:
        """Start what computes (JAX, devices); returns values that the machine decides."""
        return {}

    def group(self, piece: P) -> Hashable:
        """Pieces of one group share a compilation."""
        return None

    def units(self, piece: P) -> int:
        """How much work a piece is, for the progress bar."""
        return 1

    def marks(self, arrays: Arrays) -> Mapping[str, int]:
        """How many units of a finished piece bear a mark that the bar should show."""
        return {}

    def workers(self) -> int:
        """Threads that run pieces."""
        return 1


def conduct(experiment: Experiment[C, P, R], cfg: C, folders: Folders) -> None:
    """Compute or load every part, draw its figures, print its lines.

    Raises:
        ConfigError: the config can not be run, or the disk is too full.
        ResultsError: saved results are damaged or of another config, or `replot` finds none.
        OSError: a folder can not be written.
        SystemExit: a report's status is not 0.
    """
    parts = experiment.plan(cfg)
    places.check_writable(folders)
    paths = [folders.results / f"{part.name}{experiment.suffix}" for part in parts]
    replot: bool = cfg.replot  # type: ignore[attr-defined]
    if not replot:
        todo = [part for part, path in zip(parts, paths, strict=True) if not path.exists()]
        layouts = [experiment.layout(part, cfg) for part in todo]
        need = sum(made.bytes() for made in layouts if made is not None)
        places.check_room(folders.results, 2 * need)  # Pieces, and the file they end in.
    status = 0
    for part, path in zip(parts, paths, strict=True):
        if not replot and (experiment.renews or not path.exists()):
            compute(experiment, part, cfg, path)
        _check_saved(experiment, part, cfg, path)
        report = experiment.report(part, experiment.open(path), cfg)
        _show(report, path, folders, cfg)
        status = max(status, report.status)
    if status:
        sys.exit(status)


def compute(experiment: Experiment[C, P, R], part: Part[P], cfg: C, path: Path) -> None:
    """Run the pieces that are not on disk yet, and make the results file of them all.

    Pieces are removed once the file that needs them is on disk.
    """
    provenance = provenance_of(experiment, part, cfg)
    store = Pieces(path, provenance)
    for line in store.foreign():
        print(f"note: {line}: not resumed; delete it to free its space", file=sys.stderr)

    def finished() -> bool:
        return path.exists() and not experiment.renews

    def attempt(name: str) -> bool:
        piece = part.pieces[name]
        arrays: Arrays | None = store.get(name)
        if arrays is None and not finished():
            with store.claimed(name) as mine:
                if not mine:
                    return False
                if (arrays := store.get(name)) is None:
                    arrays = experiment.run(piece, cfg)
                    store.put(name, arrays)
        advance(experiment.units(piece), experiment.marks(arrays or {}))
        return True

    groups = in_groups(part.pieces, lambda name: experiment.group(part.pieces[name]))
    units = sum(map(experiment.units, part.pieces.values()))
    while True:
        with progress(f"{experiment.name} {part.name}", units) as advance:
            run_all(groups, attempt, experiment.workers())
        with exclusive(path):
            complete = all(map(store.has, part.pieces))
            if complete and not finished():
                readers = {name: functools.partial(_read, store, name) for name in part.pieces}
                experiment.keep(part, readers, cfg, path, provenance)
            if complete or finished():  # Else another run has used them up: again.
                store.remove()
                return


def provenance_of(experiment: Experiment[C, P, R], part: Part[P], cfg: C) -> Provenance:
    """What decides a part's pieces and results; starts the backend, which belongs to it."""
    import jax

    config = _merged(schema.having(cfg, Role.SCIENCE) | dict(part.config), experiment.start(cfg))
    versions = library_versions() | {"backend": jax.default_backend()}
    return Provenance(config, versions, code_digest(type(experiment).run))


def _read(store: Pieces, name: str) -> Arrays:
    arrays = store.get(name)
    if arrays is None:
        raise ResultsError(f"{store.folder}: {name} is gone; run again")
    return arrays


def _check_saved(experiment: Experiment[C, P, R], part: Part[P], cfg: C, path: Path) -> None:
    """Refuse results of another config; say whose they are, if of other code or versions."""
    origin = experiment.origin(path)
    if origin is None:
        raise ResultsError(f"{path}: written by an older version; delete it to run again")
    asked = schema.having(cfg, Role.SCIENCE, settled=False) | dict(part.config)
    if (found := difference(asked, origin.config)) is not None:
        key, wanted, saved = found
        raise ResultsError(
            f"{path}: of another config ({key} is {saved}, not {wanted}); delete it or change out"
        )
    here = library_versions() | {"backend": origin.versions.get("backend", "")}
    now = Provenance(origin.config, here, code_digest(type(experiment).run))
    if (other := now.difference(origin)) is not None:
        print(
            f"note: {places.shown(path)}: computed elsewhere or earlier ({other}); delete it to "
            "compute it here",
            file=sys.stderr,
        )


def _show(report: Report, path: Path, folders: Folders, cfg: Any) -> None:
    files = [path]
    for name, text in report.texts.items():
        write_text(folders.results / name, text)
        files.append(folders.results / name)
    if report.figures:
        from lora_theory.plots.style import save

        for name, figure in report.figures.items():
            files += save(figure, folders.figures / name, dpi=_dpi(cfg))
    print("\n".join(report.lines))
    print("files:", *(places.shown(file) for file in files))
    print("\n".join(report.after), flush=True)


def _dpi(cfg: Any) -> int:
    dpi: int = cfg.plot.dpi if hasattr(cfg, "plot") else cfg.dpi
    return dpi


def _merged(config: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Nested data with some values replaced or added."""
    merged = dict(config)
    for key, value in more.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged
