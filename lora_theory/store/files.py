"""Files that appear whole or not at all, and a lock that ends with its process."""

import contextlib
import fcntl
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np


class ResultsError(Exception):
    """A results file that is damaged, of another config, or that can not be written."""


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write in place of `path`: it appears whole, on success, or not at all.

    Raises:
        OSError: the folder can not be written or the disk is full; nothing is left behind.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "a.txt") as file:
    ...     _ = file.write(b"whole")
    >>> [p.name for p in folder.iterdir()], (folder / "a.txt").read_bytes()
    (['a.txt'], b'whole')
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Text as UTF-8, all of it or nothing."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, data: Any) -> None:
    """Plain data as JSON, all of it or nothing; numbers that JSON does not know are refused."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def write_csv(path: str | Path, columns: Mapping[str, np.ndarray]) -> None:
    """Columns of equal length as CSV, all of it or nothing.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "table.csv"
    >>> write_csv(path, {"t": np.array([1, 2]), "f": np.array([0.5, 0.25])})
    >>> path.read_text().split()
    ['t,f', '1,0.5', '2,0.25']
    """
    lines = [",".join(columns)]
    lines += [",".join(str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    write_text(path, "\n".join(lines) + "\n")


@contextlib.contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Hold the lock of a results file; a second run waits. The lock ends with its process."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"note: another run is writing {path}; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever holds the lock is the only writer: what is left here was left by a kill.
        for stale in path.parent.glob(f".{path.name}.*.tmp"):
            stale.unlink(missing_ok=True)
        yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
