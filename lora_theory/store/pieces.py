"""Finished pieces of a computation on disk, so that a killed run goes on where it stopped.

Each piece is a small file with a name of its own, written by whoever computes it: any number of
processes may write into one folder without a lock. Pieces of one provenance (config, versions,
code) share a folder whose name has its digest; those of another are never taken up.
"""

import contextlib
import glob
import hashlib
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lora_theory.store.claims import Claims, exclusive, is_held
from lora_theory.store.files import (
    ResultsError,
    WriteError,
    atomic_write,
    cut,
    is_there,
    plain,
    write_json,
    writing,
)
from lora_theory.store.npz import read_npz
from lora_theory.store.provenance import Provenance
from lora_theory.store.reading import read_json, regular

_RECORD = "provenance.json"
_UNKNOWN = "of unknown provenance"
_CHOSEN = "chosen.json"
_HALVED = ".halved"
_COUNT = re.compile(r"[1-9]\d?")  # A hundred halvings are of no machine.


class Listing(NamedTuple):
    """Which pieces are there, at one moment.

    Attributes:
        done: names of those that are on disk.
        claims: name -> the claim on a piece that somebody is at; of several the last one, for
            whoever made it took those before for dead.
    """

    done: set[str]
    claims: Mapping[str, Path]


class Pieces:
    """The pieces of one results file.

    Args:
        path: the results file to be; pieces wait beside it.
        provenance: what decides them.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.npz"
    >>> pieces = Pieces(path, Provenance({"seeds": [0]}, {"numpy": "2.0"}, "code"))
    >>> pieces.make()
    >>> pieces.put("seed 0", {"loss": np.ones(2)})
    >>> pieces.get("seed 0")["loss"].tolist(), pieces.get("seed 1")
    ([1.0, 1.0], None)
    """

    def __init__(self, path: str | Path, provenance: Provenance):
        path = Path(path)
        self.provenance = provenance
        self._beside = f".{path.name}.pieces-"
        self.folder = path.parent / f"{self._beside}{provenance.digest}"
        self._claims = Claims()

    @classmethod
    def beside(cls, path: str | Path) -> list["Pieces"]:
        """Those that wait beside a results file, of every provenance that can be read."""
        path, found = Path(path), []
        for folder in sorted(path.parent.glob(f".{glob.escape(path.name)}.pieces-*")):
            with contextlib.suppress(OSError, ResultsError, ValueError):
                pieces = cls(path, Provenance.of(read_json(folder / _RECORD)))
                if pieces.folder == folder:
                    found.append(pieces)
        return found

    def make(self) -> None:
        """Make the folder, with a record of whose pieces they are.

        Once, before the first piece: a shared folder that has gone since is not made again on
        whatever disk lies below.

        Raises:
            WriteError: it can not be made.
        """
        record = self.folder / _RECORD
        if not is_there(record):
            write_json(record, self.provenance._asdict())

    def settled(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """What the machine decides, as the first process that came here decided it.

        Raises:
            WriteError: it can not be recorded.
            ResultsError: the record can not be read, or says something else than `chosen` does.
        """
        record = self.folder / _CHOSEN
        with exclusive(record):
            if not is_there(record):
                try:
                    write_json(record, chosen)
                except WriteError:  # Whoever took this for dead has made it.
                    if not is_there(record):
                        raise
            try:
                found = read_json(record)
            except (FileNotFoundError, ValueError):
                found = None
        if not _alike(found, chosen):
            raise ResultsError(f"{record}: damaged; delete {self.folder}")
        assert isinstance(found, dict)
        return found

    def chosen(self) -> dict[str, Any]:
        """What the machine has decided here; nothing where it has not, or where it can not be read.

        >>> import tempfile
        >>> Pieces(Path(tempfile.mkdtemp()) / "a.npz", Provenance({}, {}, "")).chosen()
        {}
        """
        with contextlib.suppress(OSError, ResultsError, ValueError):
            found = read_json(self.folder / _CHOSEN)
            return found if isinstance(found, dict) else {}
        return {}

    def listing(self, names: Iterable[str]) -> Listing:
        """Which of some pieces are on disk or being computed; reads one folder and no file."""
        there: set[str] = set()
        with contextlib.suppress(OSError):  # It has gone, or is not ours to read.
            there = set(os.listdir(self.folder))
        last: dict[str, int] = {}
        for entry in there:
            stem, _, generation = entry.rpartition(".claim")
            if stem and generation.isdecimal():
                last[stem] = max(int(generation), last.get(stem, 0))
        done, claims = set(), {}
        for name in names:
            file = self._file(name)
            if file.name in there:
                done.add(name)
            if file.stem in last:
                claim = self._claim(name)
                claims[name] = claim.with_name(f"{claim.name}{last[file.stem]}")
        return Listing(done, claims)

    def halvings(self, key: str) -> int:
        """How often work of a kind had to be halved to fit in memory, by anybody."""
        counts = (f.name.rpartition(_HALVED)[2] for f in self.folder.glob(f"{key}{_HALVED}*"))
        return max((int(c) for c in counts if _COUNT.fullmatch(c)), default=0)

    def any_halved(self) -> bool:
        """Whether any work had to be halved."""
        return any(self.folder.glob(f"*{_HALVED}*"))

    def halve(self, key: str, count: int) -> None:
        """Say that work of a kind had to be halved so often.

        Raises:
            WriteError: it can not be written.
        """
        file = self.folder / f"{key}{_HALVED}{count}"
        with writing(file):
            file.touch()

    def has(self, name: str) -> bool:
        """Whether the piece is on disk; whether it is whole, `get` finds out."""
        return is_there(self._file(name))

    def get(
        self, name: str, check: Callable[[dict[str, np.ndarray]], None] | None = None
    ) -> dict[str, np.ndarray] | None:
        """The arrays of a piece, checked against their checksums; None if it is not there.

        A damaged one is removed, and said.

        Args:
            name: of the piece.
            check: raises ValueError for arrays that are not those of this piece.

        Raises:
            ResultsError: something that can not be read is in its place; it stays.
        """
        path = self._file(name)
        try:
            with regular(path) as file:
                arrays = read_npz(file)
            if check is not None:
                check(arrays)
            return arrays
        except FileNotFoundError:
            return None
        except ValueError as error:
            print(f"note: {path}: damaged, computed again ({error})", file=sys.stderr)
            path.unlink(missing_ok=True)
            return None

    def put(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a piece, all of it or nothing.

        Raises:
            ValueError: an array of a type that could not be read again.
            WriteError: the folder is not there or can not be written, or the disk is full.
        """
        for key, array in arrays.items():
            if not plain(np.asarray(array).dtype):
                raise ValueError(f"{key}: of type {np.asarray(array).dtype}, which is not kept")
        with atomic_write(self._file(name), folder=False) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Whether this process is the one to compute a piece now; see `store.claims`.

        Raises:
            WriteError: the claim can not be made, as where the folder is gone.
        """
        with self._claims.held(self._claim(name)) as mine:
            yield mine

    def remove(self) -> None:
        """Remove all pieces of this provenance, at once for whoever writes there still."""
        away = self.folder.with_name(f"{self.folder.name}.{uuid.uuid4().hex[:8]}.removed")
        with contextlib.suppress(OSError):  # There are none.
            self.folder.rename(away)
        for left in self.folder.parent.glob(f"{glob.escape(self.folder.name)}.*.removed"):
            shutil.rmtree(left, ignore_errors=True)  # By a kill, others than this.

    def foreign(self) -> list[str]:
        """Of pieces beside these that are not taken up: where they are, why not, what to do."""
        found = []
        for folder in sorted(self.folder.parent.glob(f"{glob.escape(self._beside)}*")):
            if (
                folder.suffix != ".removed"
                and folder != self.folder
                and (why := self._why_not(folder))
            ):
                found.append(f"{folder}: {why}")
        return found

    def _why_not(self, folder: Path) -> str | None:
        try:
            record = read_json(folder / _RECORD)
            why = self.provenance.difference(Provenance.of(record))
        except (FileNotFoundError, ValueError):
            why = _UNKNOWN
        except ResultsError:  # What can not be read may be somebody's.
            return f"{_UNKNOWN}: not resumed"
        if why and any(map(is_held, folder.glob("*.claim*"))):
            return f"{why}: not resumed; another run may be at work there"
        if why and why != _UNKNOWN and not any(folder.glob("*.npz")):
            return None  # There is nothing to free.
        return why and f"{why}: not resumed; delete it to free its space"

    def _file(self, name: str) -> Path:
        """A name as a file; one that no file can bear gets a digest in place of what is odd."""
        safe = "".join(c if c.isalnum() or c in "=,._-" else "_" for c in name)
        if safe != name or len(safe.encode()) > 150:
            safe = f"{cut(safe, 150)}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        return self.folder / f"{safe}.npz"

    def _claim(self, name: str) -> Path:
        return self._file(name).with_suffix(".claim")


def _alike(found: Any, wanted: Any) -> bool:
    """Whether plain data has the same keys, and values of the same types."""
    if not isinstance(wanted, dict):
        return type(found) is type(wanted)
    same = isinstance(found, dict) and found.keys() == wanted.keys()
    return same and all(_alike(found[key], wanted[key]) for key in wanted)


def stamped(name: str, piece: Any) -> str:
    """A piece's name with a digest of the piece itself, so that a changed one is never taken up.

    >>> stamped("seed=0", 0)
    'seed=0,5feceb66ffc8'
    """
    return f"{name},{hashlib.sha256(repr(piece).encode()).hexdigest()[:12]}"
