"""Labelled results of a sweep: written atomically with their config, resumed, never unpickled."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

FORMAT = 1
_CURVES = ("train_loss", "test_loss")
_COORDINATES = ("eta_a", "eta_b", "seed", "step")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # One time stamp for all files: equal results are equal bytes.


class ResultsError(Exception):
    """A results file that is damaged, of another config, or that can not be written."""


@dataclasses.dataclass(frozen=True)
class Results:
    """Losses of a whole grid, with coordinates and the resolved config.

    Attributes:
        eta_a: (G_a,) rates of A.
        eta_b: (G_b,) rates of B.
        seed: (S,) seeds.
        step: (T + 1,) updates made before the loss was taken: 0 … T.
        train_loss: (S, G_a, G_b, T + 1), NaN from the step on at which a run diverged.
        test_loss: (S, G_a, G_b, T + 1).
        diverged_at: (S, G_a, G_b) first step at which a loss was not finite; −1 for never.
        config: what was run, as plain data.
    """

    eta_a: np.ndarray
    eta_b: np.ndarray
    seed: np.ndarray
    step: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    diverged_at: np.ndarray
    config: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> "Results":
        """Read a results file; curves are mapped from disk, not read into memory.

        Raises:
            ResultsError: the file is missing, damaged, or no results file; by name.
        """
        path = Path(path)
        try:
            arrays = _read_npz(path)
            config = json.loads(str(arrays.pop("config")[()]))
            if arrays.pop("format")[()] != FORMAT:
                raise ResultsError(f"{path}: written by another version; delete it to run again")
            results = cls(config=config, **arrays)
            _check_shapes(results)
        except ResultsError:
            raise
        except FileNotFoundError:
            raise ResultsError(f"{path}: no such results file") from None
        except Exception:  # A damaged zip raises a dozen kinds, from RuntimeError to struct.error.
            raise ResultsError(
                f"{path}: damaged or no results file; delete it to run again"
            ) from None
        return results

    def to_xarray(self) -> Any:
        """The same as an `xarray.Dataset` with named dimensions (needs xarray)."""
        import xarray

        dims = ("seed", "eta_a", "eta_b", "step")
        return xarray.Dataset(
            {name: (dims, getattr(self, name)) for name in _CURVES}
            | {"diverged_at": (dims[:3], self.diverged_at)},
            coords={name: getattr(self, name) for name in dims},
            attrs={"config": json.dumps(self.config)},
        )


class ChunkStore:
    """Finished pieces of a sweep on disk, so that a killed run goes on where it stopped.

    Chunks of one config share a folder whose name has the config's digest; each chunk is a
    small npz, written atomically. `assemble` streams them into the results file and removes
    them, so memory holds one chunk at a time.

    Args:
        path: the results file to be.
        config: the resolved config; other configs have other folders.
        provenance: versions that decide rounding; chunks of other versions are not reused.
    """

    def __init__(self, path: str | Path, config: dict[str, Any], provenance: dict[str, str]):
        self.path = Path(path)
        self.config = config
        text = json.dumps([config, provenance, FORMAT], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = self.path.parent / f".{self.path.stem}.partial-{digest}"

    def has(self, index: int) -> bool:
        """Whether chunk `index` is finished and whole; a damaged one is removed and said."""
        chunk = self._chunk(index)
        if not chunk.exists():
            return False
        try:
            self.get(index)
        except Exception:  # As in `Results.load`.
            print(f"note: {chunk}: damaged, computed again", file=sys.stderr)
            chunk.unlink()
            return False
        return True

    def get(self, index: int) -> dict[str, np.ndarray]:
        """The arrays of chunk `index`, checked against their checksums."""
        with open(self._chunk(index), "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def put(self, index: int, **arrays: np.ndarray) -> None:
        """Write chunk `index`, all of it or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._chunk(index)) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def assemble(self, count: int, shape: Sequence[int], **coordinates: np.ndarray) -> None:
        """Stream chunks 0 … count − 1, in order, into the results file; then remove them.

        Args:
            count: how many chunks there are.
            shape: (S, G_a, G_b, T + 1).
            coordinates: eta_a, eta_b, seed and step.
        """
        with atomic_write(self.path) as file, zipfile.ZipFile(file, "w") as archive:
            small = coordinates | {
                "config": np.array(json.dumps(self.config, sort_keys=True)),
                "format": np.array(FORMAT),
            }
            for name, array in small.items():
                with _member(archive, name) as out:
                    np.lib.format.write_array(out, array, allow_pickle=False)
            for name in (*_CURVES, "diverged_at"):
                full = tuple(shape if name in _CURVES else shape[:-1])
                first = self.get(0)[name].dtype
                header = {
                    "descr": np.lib.format.dtype_to_descr(first),
                    "fortran_order": False,
                    "shape": full,
                }
                with _member(archive, name) as out:
                    np.lib.format.write_array_header_2_0(out, header)
                    for index in range(count):
                        out.write(np.ascontiguousarray(self.get(index)[name]).tobytes())
        self.remove()

    def remove(self) -> None:
        """Remove all chunks."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _chunk(self, index: int) -> Path:
        return self.folder / f"chunk-{index:06d}.npz"


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


def write_json(path: str | Path, data: Any) -> None:
    """Plain data as JSON, all of it or nothing; numbers that JSON does not know are refused."""
    with atomic_write(path) as file:
        file.write((json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


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


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as out:
        yield out


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an npz: checksums verified, stored members mapped, packed ones read."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(broken)
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as member:
                if info.compress_type != zipfile.ZIP_STORED or name not in _CURVES:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
                    continue
                version = np.lib.format.read_magic(member)
                read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                shape, fortran, dtype = read(member)
                start = _data_start(path, info) + member.tell()
            if fortran:
                raise ValueError(name)
            arrays[name] = np.memmap(path, dtype, "r", start, shape)
    return arrays


def _data_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: after its local header, name and extra field."""
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        name_length = int.from_bytes(file.read(2), "little")
        extra_length = int.from_bytes(file.read(2), "little")
    return info.header_offset + 30 + name_length + extra_length


def _check_shapes(results: Results) -> None:
    shape = tuple(getattr(results, name).size for name in ("seed", "eta_a", "eta_b", "step"))
    for name in _CURVES:
        if getattr(results, name).shape != shape:
            raise ValueError(name)
    if results.diverged_at.shape != shape[:-1]:
        raise ValueError("diverged_at")
