"""The pieces of one part, done beside whoever else works in the same folder."""

import functools
import hashlib
import json
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from experiments.lab.memory import ran_out
from experiments.lab.origin import Origins, origins_of
from experiments.lab.progress import Progress, progress
from experiments.lab.schedule import in_groups, run_all
from experiments.lab.schema import ConfigError, filled, flatten
from experiments.lab.workers import Worker
from lora_theory.store.claims import exclusive
from lora_theory.store.files import ResultsError, WriteError, is_there
from lora_theory.store.layout import Layout
from lora_theory.store.pieces import Pieces, stamped
from lora_theory.store.provenance import Provenance

if TYPE_CHECKING:
    from experiments.lab.experiment import Experiment, Part

C = TypeVar("C")
P = TypeVar("P", bound=Hashable)
R = TypeVar("R")
T = TypeVar("T")
Arrays = Mapping[str, np.ndarray]
SMALLER = "smaller"  # What was halved, in a piece; and in the config of the results, by piece.


class Slab(NamedTuple):
    """Where one of several processes begins; what others leave it does as well.

    Attributes:
        number: of the slab, from 0.
        jobs: how many slabs there are.
    """

    number: int
    jobs: int

    @classmethod
    def of(cls, cfg: Any) -> "Slab":
        """That of a config.

        Raises:
            ConfigError: there is no such slab.
        """
        if (cfg.slab or 0) >= cfg.jobs:
            raise ConfigError("slab", f"must be null or below jobs = {cfg.jobs}", cfg.slab)
        return cls(cfg.slab or 0, cfg.jobs)

    @property
    def shared(self) -> bool:
        """Whether there are others."""
        return self.jobs > 1

    def first(self, pieces: list[T]) -> list[T]:
        """Pieces with those of the slab before all others.

        >>> Slab(1, 2).first([0, 1, 2, 3])
        [2, 3, 0, 1]
        """
        start = self.number * len(pieces) // self.jobs
        return pieces[start:] + pieces[:start]


class Work(Generic[C, P, R]):
    """What there is to do for one part.

    Args:
        experiment: whose part it is.
        part: the part.
        cfg: the config as it was asked.
        path: of the results file to be.
        chosen: what this machine would decide.

    Raises:
        WriteError: the folder of the pieces can not be made.
    """

    def __init__(
        self,
        experiment: "Experiment[C, P, R]",
        part: "Part[P]",
        cfg: C,
        path: Path,
        chosen: Mapping[str, Any],
    ):
        self.experiment, self.path = experiment, path
        self._asked = part, cfg, chosen
        self.origins: Origins = origins_of(experiment, part, cfg, chosen)
        self.store = Pieces(path, self.origins.pieces)
        self.worker = Worker(self.store.folder)
        for line in self.store.foreign():
            print(f"note: {line}", file=sys.stderr)
        self._begin()

    def _begin(self) -> None:
        """Make the folder of the pieces, unless the results are there, and settle the config."""
        part, cfg, chosen = self._asked
        with exclusive(self.path):  # Pieces are not removed meanwhile.
            self.done = self._finished()
            if not self.done:
                self.store.make()
                settled = self.store.settled(dict(chosen))
                if settled != chosen:  # Somebody else has decided.
                    self.origins = origins_of(self.experiment, part, cfg, settled)
                    chosen = settled
        self.cfg = filled(cfg, chosen)
        self.part = next(p for p in self.experiment.plan(self.cfg) if p.name == part.name)
        self.layout: Layout | None = self.experiment.layout(self.part, self.cfg)
        self.files = {name: stamped(name, piece) for name, piece in self.part.pieces.items()}

    def pieces(self, slab: Slab, *, wait: bool = True) -> None:
        """Do every piece that nobody has done, beginning with those of a slab.

        Args:
            slab: where this process begins.
            wait: whether to wait for the pieces that others are at, and to take over those of the
                dead.
        """
        if self.done:
            return
        groups = in_groups(slab.first(list(self.part.pieces)), self._group)
        units = sum(map(self.experiment.units, self.part.pieces.values()))
        with (
            self.worker.reporting(),
            progress(f"{self.experiment.name} {self.part.name}", units) as advance,
        ):
            attempt = functools.partial(self._attempt, advance=advance)
            run_all(groups, attempt, self.experiment.workers(), wait=wait)

    def complete(self, slab: Slab) -> None:
        """Do the pieces and make the results file of them all, unless somebody else does.

        Pieces stay; `conduct` removes them when all has been shown.
        """
        self.pieces(slab)
        # Otherwise another run has used the pieces up, and its file is gone: again.
        while not self._kept(slab):
            self._begin()
            self.pieces(slab)

    def _kept(self, slab: Slab) -> bool:
        """Make the results file, if there is none: whether there is one now."""
        with exclusive(self.path, quiet=slab.shared):
            if self._finished():
                return True
            if not all(map(self.store.has, self.files.values())):
                return False
            readers = {n: functools.partial(self._read, at) for n, at in self.files.items()}
            try:
                self.experiment.keep(self.part, readers, self.cfg, self.path, self._provenance())
            except WriteError:  # Whoever took this for dead may have made it.
                if not self._finished():
                    raise
            return True

    def _finished(self) -> bool:
        experiment = self.experiment
        return is_there(self.path) and (
            not experiment.renews or experiment.origin(self.path) == self.origins.results
        )

    def _attempt(self, name: str, advance: Progress) -> bool:
        """Do a piece, unless somebody else is at it."""
        piece = self.part.pieces[name]
        try:
            arrays = self._got(name)
            if arrays is None and not self._finished():
                with self.store.claimed(self.files[name]) as mine:
                    if not mine:
                        return False
                    if (arrays := self._got(name)) is None:
                        expected = self.experiment.core_seconds(piece, self.cfg) or 0.0
                        with self.worker.at(self.experiment.units(piece), expected):
                            arrays = self._made(piece)
                            self._check(piece, arrays)
                            self.store.put(self.files[name], arrays)
        except WriteError:
            if not self._finished():  # Then somebody has used the pieces up, and removed them.
                raise
            arrays = None
        advance(self.experiment.units(piece), self.experiment.marks(arrays or {}))
        return True

    def _made(self, piece: P) -> Arrays:
        """Run a piece; where memory does not do, in halves, and so those that follow it."""
        key = hashlib.sha256(repr(self.experiment.group(piece)).encode()).hexdigest()[:12]
        while True:
            cfg, halvings = self.cfg, self.store.halvings(key)
            for _ in range(halvings):
                cfg = self.experiment.halved(piece, cfg) or cfg
            try:
                return {**self.experiment.run(piece, cfg), **self._smaller(cfg)}
            except Exception as error:
                if not ran_out(error) or self.experiment.halved(piece, cfg) is None:
                    raise
            print(f"note: {self.part.name}: out of memory, tried again in halves", file=sys.stderr)
            self.store.halve(key, halvings + 1)

    def _smaller(self, cfg: C) -> Arrays:
        """What a piece says of how it was made, where that was in halves."""
        if cfg is self.cfg:
            return {}
        whole, half = (flatten(self.experiment.science(c)) for c in (self.cfg, cfg))
        other = {key: value for key, value in half.items() if whole[key] != value}
        return {SMALLER: np.array(json.dumps(other))}

    def _provenance(self) -> Provenance:
        """That of the results, with what is mixed in them."""
        if not self.store.any_halved():
            return self.origins.results
        read = {name: self._read(file) for name, file in self.files.items()}
        mixed = {n: json.loads(str(a[SMALLER])) for n, a in read.items() if SMALLER in a}
        origin = self.origins.results
        return origin._replace(config=origin.config | ({SMALLER: mixed} if mixed else {}))

    def _got(self, name: str) -> Arrays | None:
        check = functools.partial(self._check, self.part.pieces[name])
        return self.store.get(self.files[name], check)

    def _group(self, name: str) -> Hashable:
        return self.experiment.group(self.part.pieces[name])

    def _check(self, piece: P, arrays: Any) -> None:
        if self.layout is not None:
            self.layout.fits(arrays)
        self.experiment.check(self.part, arrays, self.cfg, piece)

    def _read(self, name: str) -> Arrays:
        arrays = self.store.get(name)
        if arrays is None:
            raise ResultsError(f"{self.store.folder}: {name} is gone; run again")
        return arrays
