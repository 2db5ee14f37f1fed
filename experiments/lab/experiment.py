"""The skeleton of every experiment: plan pieces, run them, keep what they make up, report it.

An experiment says what is particular to it; `conduct` owns the rest: folders, disk check, resume,
progress, provenance, replot, what is printed, exit status.
"""

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from experiments.lab import folders as places
from experiments.lab import schema
from experiments.lab.backend import started
from experiments.lab.folders import Folders
from experiments.lab.memory import Need, check_memory
from experiments.lab.origin import Saved, check_saved, pieces_of
from experiments.lab.plan import plan_of
from experiments.lab.schema import Role
from experiments.lab.show import show
from experiments.lab.status import status_of
from experiments.lab.work import SMALLER, Slab, Work
from lora_theory.store.claims import exclusive
from lora_theory.store.dataset import Results, assemble, damaged
from lora_theory.store.files import is_there
from lora_theory.store.layout import Layout
from lora_theory.store.provenance import Provenance

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
        pieces: name -> what is computed, in the order of the file.
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
        kept: file name -> text, written beside the figures, which outlive the results.
    """

    lines: Sequence[str]
    figures: Mapping[str, "Figure"] = {}
    texts: Mapping[str, str] = {}
    after: Sequence[str] = ()
    status: int = 0
    kept: Mapping[str, str] = {}


class Experiment(Generic[C, P, R]):
    """What is particular to an experiment; see docs/experiments.md for the shortest one.

    Attributes:
        name: of the experiment, its config and its folders.
        schema: of its config; every field has a role.
        suffix: of its results files.
        renews: whether finished results of another provenance are computed anew; otherwise they
            are loaded, and a note says whose they are.
    """

    name: str
    schema: type[C]
    suffix = ".npz"
    renews = False

    def plan(self, cfg: C) -> Sequence[Part[P]]:
        """What is to be computed; starts no JAX.

        A piece is resumed under its name and its `repr`, which therefore says all of it and is
        always the same: numbers, strings, tuples and frozen dataclasses of them have such a one.
        """
        raise NotImplementedError

    def run(self, piece: P, cfg: C) -> Arrays:
        """Compute one piece; nothing but the piece and the config's science decides it.

        Returns:
            name -> array; of what `layout` names, with a leading axis that counts the cells of
            the piece, in the type that `layout` says.
        """
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

    def open(self, part: Part[P], cfg: C, path: Path) -> R:
        """Read what `keep` made and refuse what it can not have made; by default an
        `xarray.Dataset`, held against `layout` and `check`.

        Raises:
            ResultsError: it is damaged, or no such file; by name.
        """
        results = Results.load(path, self.layout(part, cfg))
        try:
            self.check(part, results.arrays, cfg)
        except ValueError as error:
            raise damaged(path, error) from None
        return results.to_xarray()  # type: ignore[return-value]

    def check(self, part: Part[P], arrays: Arrays, cfg: C, piece: P | None = None) -> None:
        """Refuse values that no run gives, where arrays have the form that `layout` says.

        Args:
            part: whose they are.
            arrays: name -> array, of one piece or of all.
            cfg: the config.
            piece: whose they are; None for those of the whole part.

        Raises:
            ValueError: what is wrong, by name.
        """

    def origin(self, path: Path) -> Provenance | None:
        """Whose a results file is, before it is opened."""
        return Results.origin(path)

    def start(self, cfg: C) -> dict[str, Any]:
        """Start what computes (JAX, devices); returns values that the machine decides.

        They are recorded with the results. `cfg` keeps its nulls: `run` asks for them again.
        """
        return {}

    def science(self, cfg: C, *, settled: bool = True) -> dict[str, Any]:
        """What of the config decides the results: by default all fields with that role."""
        return schema.having(cfg, Role.SCIENCE, settled=settled)

    def memory(self, cfg: C) -> Sequence[Need]:
        """The largest things that a run holds at once; what can not fit is refused."""
        return ()

    def tables(self, part: Part[P], cfg: C) -> Mapping[str, Collection[str]]:
        """Of tables of code, which entries this uses: {"experiments.registry:MODELS": ["toy"]}.

        Others do not count for the provenance; of a table that is not named, all do.
        """
        return {}

    def halved(self, piece: P, cfg: C) -> C | None:
        """The config with which a piece takes half the memory; None if there is none.

        What it changes may round otherwise; the results say of which pieces it is.
        """
        return None

    def group(self, piece: P) -> Hashable:
        """Pieces of one group share a compilation."""
        return None

    def units(self, piece: P) -> int:
        """How much work a piece is, for the progress bar."""
        return 1

    def core_seconds(self, piece: P, cfg: C) -> float | None:
        """What a piece takes of one core's time, as a model of measured costs says; None: unknown.

        It says what a run would take, and how much of it is left; of no result it decides anything.
        """
        return None

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
        BackendError: what computes can not be started.
        WriteError: a folder can not be written.
        SystemExit: a report's status is not 0.
        TypeError, ValueError: a mistake of the experiment, by name.
    """
    if cfg.plan or cfg.status:  # type: ignore[attr-defined]
        answer = plan_of if cfg.plan else status_of  # type: ignore[attr-defined]
        print("\n".join(answer(experiment, cfg, folders)))
        return
    parts, slab = experiment.plan(cfg), Slab.of(cfg)
    layouts = _checked(experiment, parts, cfg)
    paths = [folders.results / f"{part.name}{experiment.suffix}" for part in parts]
    replot: bool = cfg.replot  # type: ignore[attr-defined]
    # All of them before anything is computed: what is refused is refused at once. A link to nothing
    # is somebody's file that is elsewhere now.
    saved = [
        check_saved(experiment, part, cfg, path) if replot or is_there(path) else None
        for part, path in zip(parts, paths, strict=True)
    ]
    due = [found is None or found.results is None for found in saved]
    sizes = [made.bytes() for made, is_due in zip(layouts, due, strict=True) if is_due and made]
    places.check_room(folders.results, 2 * sum(sizes))  # Pieces, and the file they end in.
    chosen: Mapping[str, Any] = {}
    if any(due):
        chosen, backend = started(experiment, cfg)
        if backend == "cpu":  # Of others it is not known how much memory they have.
            check_memory(experiment.memory(cfg))
    places.check_writable(folders)  # Last, for it makes them.
    work = functools.partial(Work, experiment, cfg=cfg, chosen=chosen)
    begun: dict[str, Work[C, P, R]] = {}
    if slab.shared:
        for part, path, is_due in zip(parts, paths, due, strict=True):
            if is_due:  # Those of all parts, before any that others are at is waited for.
                begun[part.name] = work(part, path=path)
                begun[part.name].pieces(slab, wait=False)
    status = 0
    for part, path, found, is_due in zip(parts, paths, saved, due, strict=True):
        if is_due:
            if found is not None:
                line = f"note: {places.shown(path)}: computed anew ({found.other})"
                print(line, file=sys.stderr)
            (begun.get(part.name) or work(part, path=path)).complete(slab)
        here = None if is_due else found
        shown = functools.partial(_shown, experiment, part, cfg, path, folders, here)
        # Jobs that share show once what they have computed, unless each draws it otherwise.
        if is_due and slab.shared and folders.beside:
            with exclusive(path):
                status = max(status, shown(once=True))
        else:
            status = max(status, shown())
    if status:
        sys.exit(status)


def _shown(
    experiment: Experiment[C, P, R],
    part: Part[P],
    cfg: C,
    path: Path,
    folders: Folders,
    saved: Saved[R] | None,
    *,
    once: bool = False,
) -> int:
    """Show a part whose results are on disk; the exit status that its report asks for.

    Args:
        experiment, part, cfg, path, folders: what and where.
        saved: the results, if they have been read.
        once: whether nothing is shown where somebody has done so since they were computed.
    """
    origin, other, results = saved or check_saved(experiment, part, cfg, path)
    assert results is not None
    pieces = pieces_of(experiment, part, cfg, path, origin)
    if once and not is_there(pieces.folder):
        print(f"{places.shown(path)}: shown by another job")
        return 0
    if other is not None:
        how = "run without replot=true" if experiment.renews else "delete it"
        print(
            f"note: {places.shown(path)}: computed elsewhere or earlier ({other}); {how} to "
            "compute it here",
            file=sys.stderr,
        )
    for smaller, count in Counter(map(_words, origin.config.get(SMALLER, {}).values())).items():
        print(
            f"note: {places.shown(path)}: {count} of its pieces did not fit in memory and were "
            f"computed with {smaller}, which near the edge of stability rounds otherwise",
            file=sys.stderr,
        )
    report = experiment.report(part, results, cfg)
    show(report, path, folders, cfg)
    if other is None:  # Not before: what fails while it draws costs no measurement.
        with contextlib.nullcontext() if once else exclusive(path):  # Nobody begins with them now.
            pieces.remove()
    return report.status


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _checked(
    experiment: Experiment[C, P, R], parts: Sequence[Part[P]], cfg: C
) -> list[Layout | None]:
    """The layout of every part, once nothing is missing."""
    kind = type(experiment)
    for name in ("run", "report"):
        if getattr(kind, name) is getattr(Experiment, name):
            raise TypeError(f"{kind.__name__} needs a method {name}")
    names = [part.name for part in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two parts have the name {twice[0]}, and would be one file")
    layouts = [experiment.layout(part, cfg) for part in parts]
    for layout in layouts:
        if layout is not None:
            layout.check()
        elif kind.keep is Experiment.keep:
            raise TypeError(f"{kind.__name__} needs a method layout, or a method keep of its own")
    return layouts
