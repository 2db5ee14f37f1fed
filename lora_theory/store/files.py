"""Files that appear whole or not at all."""

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np


class ResultsError(Exception):
    """A results file that is damaged, of another config, or that can not be written."""


class WriteError(OSError):
    """A file or folder of results that can not be written, by name."""


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Say of an error of the file system that it came while results were written.

    Raises:
        WriteError: in place of any other OSError.

    >>> with writing("a.txt"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    lora_theory.store.files.WriteError: [Errno 28] No space left on device: 'a.txt'
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        name = error.filename or str(path)
        raise WriteError(error.errno, error.strerror or str(error), name) from error


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder, or a link to one that is elsewhere now.

    Raises:
        WriteError: nobody can say, as where a folder on the way is closed, or the name too long.
    """
    with writing(path):
        return path.is_symlink() or path.exists()


_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def kind_of(handle: int) -> str:
    """What is open, in words: "a file" for a regular one."""
    mode = os.fstat(handle).st_mode
    return next((name for has, name in _KINDS if has(mode)), "a device")


def plain(dtype: np.dtype) -> bool:
    """Whether NumPy's own files hold this type and give it back: numbers, booleans, strings.

    >>> plain(np.dtype("float32")), plain(np.dtype(object))
    (True, False)
    """
    return dtype.kind in "biufcUS"


def cut(text: str, size: int) -> str:
    """The beginning of a text that has at most so many bytes, which is what file systems count.

    >>> cut("ηηη", 5)
    'ηη'
    """
    return text.encode()[:size].decode(errors="ignore")


@contextlib.contextmanager
def atomic_write(path: str | Path, *, folder: bool = True) -> Iterator[IO[bytes]]:
    """A file to write in place of `path`: it appears whole, on success, or not at all.

    Args:
        path: of the file.
        folder: whether its folder is made if it is not there.

    Raises:
        WriteError: the folder can not be written or the disk is full; nothing is left behind.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "a.txt") as file:
    ...     _ = file.write(b"whole")
    >>> [p.name for p in folder.iterdir()], (folder / "a.txt").read_bytes()
    (['a.txt'], b'whole')
    """
    path = Path(path)
    with writing(path):
        if folder:
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
