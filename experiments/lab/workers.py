"""What each process says of its work in a shared folder: a file of its own, read by `status`."""

import contextlib
import dataclasses
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from lora_theory.store.files import ResultsError, WriteError, atomic_write
from lora_theory.store.reading import read_json
from lora_theory.store.records import from_plain

_SUFFIX = ".worker.json"
_SELDOM = 5.0  # Seconds between two writes, but for the first and the last one.
STOPPED = "stopped"  # In place of an error: by a signal, as of a user or a time limit.
_LINE = 300  # Letters of an error that are kept.


@dataclasses.dataclass(frozen=True)
class Record:
    """What one process says of itself.

    Attributes:
        host: name of its machine.
        process: its number there.
        job: what the cluster calls it; empty outside of one.
        pieces: how many it has done.
        units: of work in these.
        seconds: in which it was at one of these, or at several.
        core_seconds: that its threads computed meanwhile.
        expected: those that the experiment's model of costs says; 0 where it has none.
        error: in which it ended, as one line; empty for none.
    """

    host: str
    process: int
    job: str
    pieces: int = 0
    units: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    expected: float = 0.0
    error: str = ""

    def __add__(self, other: "Record") -> "Record":
        """What one process says in two files, or what several have done together."""
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in ("pieces", "units", "seconds", "core_seconds", "expected")
        }
        return dataclasses.replace(self, **sums, error=self.error or other.error)


class Worker:
    """Says how far this process is, and of what it died, if it can: in a file that no other writes.

    Args:
        folder: of the pieces.

    >>> import tempfile
    >>> worker = Worker(Path(tempfile.mkdtemp()))
    >>> with worker.reporting(), worker.at(units=3):
    ...     pass
    >>> [(record.pieces, record.units) for record in records(worker.folder)]
    [(1, 3)]
    """

    def __init__(self, folder: Path):
        self.folder = folder
        host, process = os.uname().nodename, os.getpid()
        self.record = Record(host, process, job_name())
        self._file = folder / f"{host}-{process}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        self._written = -_SELDOM
        self._lock = threading.Lock()  # Several threads of this process may do pieces.
        self._active, self._since = 0, (0.0, 0.0)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Keep the file as long as the block runs; an error in which it ends is written there."""
        self._write(self.record)  # So that it is known who is at the first piece.
        self._written = -_SELDOM
        try:
            yield
        except BaseException as error:
            line = " ".join(f"{type(error).__name__}: {error}".split())[:_LINE]
            line = STOPPED if isinstance(error, KeyboardInterrupt) else line
            self._write(dataclasses.replace(self.record, error=line))
            raise
        self._write(self.record)

    @contextlib.contextmanager
    def at(self, units: int, expected: float = 0.0) -> Iterator[None]:
        """Count a piece, if the block does it.

        Args:
            units: of work in it.
            expected: core-seconds that the model of costs says.
        """
        with self._lock:
            self._spend()
            self._active += 1
        done = False
        try:
            yield
            done = True
        finally:
            with self._lock:
                self._spend()
                self._active -= 1
                if done:
                    before = self.record
                    self.record = dataclasses.replace(
                        before,
                        pieces=before.pieces + 1,
                        units=before.units + units,
                        expected=before.expected + expected,
                    )
                    if time.monotonic() - self._written >= _SELDOM:
                        self._write(self.record)

    def _spend(self) -> None:
        """Add the time since the last change, if there was a piece that it was spent on."""
        now = time.monotonic(), time.process_time()
        if self._active:
            seconds, core_seconds = (at - since for at, since in zip(now, self._since, strict=True))
            self.record = dataclasses.replace(
                self.record,
                seconds=self.record.seconds + seconds,
                core_seconds=self.record.core_seconds + core_seconds,
            )
        self._since = now

    def _write(self, record: Record) -> None:
        """Nothing depends on it, so that what can not be written is left."""
        self._written = time.monotonic()
        with contextlib.suppress(WriteError), atomic_write(self._file, folder=False) as file:
            file.write(json.dumps(dataclasses.asdict(record)).encode())


def records(folder: Path) -> list[Record]:
    """What the processes say that work or have worked in a folder of pieces."""
    found = []
    for file in sorted(folder.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError, ResultsError, ValueError):
            found.append(from_plain(Record, read_json(file)))
    return found


def job_name() -> str:
    """What Slurm calls this process's job, as 123_4; empty outside of one.

    >>> job_name()
    ''
    """
    env = os.environ
    if "SLURM_ARRAY_JOB_ID" in env and "SLURM_ARRAY_TASK_ID" in env:
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env.get("SLURM_JOB_ID", "")
