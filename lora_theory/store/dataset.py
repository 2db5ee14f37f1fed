"""Labelled data sets of any named dimensions: one `.npz` with its config and provenance.

Written whole, from pieces, with memory for one piece at a time; every byte under a checksum; equal
results are equal bytes; never unpickled. `open_dataset` gives an `xarray.Dataset`, and NumPy alone
reads the file too.
"""

import contextlib
import dataclasses
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from lora_theory.store.files import ResultsError, atomic_write
from lora_theory.store.layout import Layout
from lora_theory.store.provenance import Provenance

if TYPE_CHECKING:
    from xarray import Dataset

FORMAT = 2
# Format 1 was Figure 2's alone and named no dimensions.
_DIMS_1 = {
    **{name: (name,) for name in ("eta_a", "eta_b", "seed", "step")},
    **dict.fromkeys(("train_loss", "test_loss"), ("seed", "eta_a", "eta_b", "step")),
    "diverged_at": ("seed", "eta_a", "eta_b"),
}
_TEXTS = ("config", "provenance", "dims")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # One time stamp for all files: equal results are equal bytes.


@dataclasses.dataclass(frozen=True)
class Results:
    """What a results file holds.

    Attributes:
        dims: name -> the dimensions of each array.
        arrays: name -> array; the large ones are mapped from disk, not read into memory.
        config: what was run, as plain data.
        provenance: the same with versions and code; None for a file that does not say.
    """

    dims: dict[str, tuple[str, ...]]
    arrays: dict[str, np.ndarray]
    config: dict[str, Any]
    provenance: Provenance | None

    @classmethod
    def load(cls, path: str | Path) -> "Results":
        """Read a results file.

        Raises:
            ResultsError: the file is missing, damaged, or no results file; by name.
        """
        path = Path(path)
        try:
            arrays = _read_npz(path)
            written = int(arrays.pop("format")[()])
            if written not in (1, FORMAT):
                raise ResultsError(f"{path}: written by another version; move it or change out")
            texts = _TEXTS if written == FORMAT else ("config",)
            results = _results(arrays, **{n: json.loads(str(arrays.pop(n)[()])) for n in texts})
        except ResultsError:
            raise
        except FileNotFoundError:
            raise ResultsError(f"{path}: no such results file") from None
        except Exception:  # A damaged zip raises a dozen kinds, from RuntimeError to struct.error.
            raise ResultsError(
                f"{path}: damaged or no results file; delete it to run again"
            ) from None
        return results

    def to_xarray(self) -> "Dataset":
        """The same as an `xarray.Dataset` with named dimensions (needs xarray)."""
        import xarray

        coords = {name: array for name, array in self.arrays.items() if self.dims[name] == (name,)}
        attrs = {"config": json.dumps(self.config)}
        if self.provenance is not None:
            attrs["versions"] = json.dumps(self.provenance.versions)
            attrs["code"] = self.provenance.code
        variables = {n: (self.dims[n], v) for n, v in self.arrays.items() if n not in coords}
        return xarray.Dataset(variables, coords, attrs)


def open_dataset(path: str | Path) -> "Dataset":
    """A results file as an `xarray.Dataset`; `config_of` gives its config (needs xarray).

    Raises:
        ResultsError: the file is missing, damaged, or no results file; by name.
    """
    return Results.load(path).to_xarray()


def config_of(data: "Dataset") -> dict[str, Any]:
    """The config of a data set, as plain data."""
    config: dict[str, Any] = json.loads(data.attrs["config"])
    return config


def assemble(
    path: str | Path,
    layout: Layout,
    provenance: Provenance,
    pieces: Sequence[Callable[[], Mapping[str, np.ndarray]]],
) -> None:
    """Stream pieces, in order, into one results file.

    Args:
        path: the file, which appears whole or not at all.
        layout: dimensions and variables.
        provenance: saved with it.
        pieces: what reads each piece; called once for every variable, so that memory holds one.

    Raises:
        WriteError: the folder can not be written or the disk is full.
        ValueError: the layout is none, or the pieces do not make it up.
    """
    layout.check()
    dims: dict[str, tuple[str, ...]] = {name: (name,) for name in layout.coords}
    dims |= {name: dimensions for name, (dimensions, _) in layout.variables.items()}
    origin = {"versions": provenance.versions, "code": provenance.code}
    texts = {"config": provenance.config, "provenance": origin, "dims": dims}
    small = {name: np.asarray(values) for name, values in layout.coords.items()}
    small |= {name: np.array(json.dumps(text, sort_keys=True)) for name, text in texts.items()}
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in {**small, "format": np.array(FORMAT)}.items():
            with _member(archive, name) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)
        for name, (_, dtype) in layout.variables.items():
            with _member(archive, name) as out:
                header = {
                    "descr": np.dtype(dtype).str,
                    "fortran_order": False,
                    "shape": layout.shape(name),
                }
                np.lib.format.write_array_header_2_0(out, header)
                _write_pieces(out, layout, name, (read()[name] for read in pieces))


def _write_pieces(out: IO[bytes], layout: Layout, name: str, pieces: Iterable[np.ndarray]) -> None:
    alone = layout._replace(variables={name: layout.variables[name]})
    stride = layout.stride(name)
    cells, held = 0, np.empty(0)
    for piece in pieces:
        alone.fits({name: piece})
        kept = piece if stride == 1 else _once(name, piece, cells, stride, held)
        if len(piece):  # The value of its last cell goes on in the next piece.
            held = piece[-1:]
        out.write(np.ascontiguousarray(kept).tobytes())
        cells += len(piece)
    expected = math.prod(len(layout.coords[dim]) for dim in layout.stacked)
    if cells != expected:
        raise ValueError(f"{name}: pieces hold {cells} cells of {expected}")


def _once(name: str, piece: np.ndarray, start: int, stride: int, held: np.ndarray) -> np.ndarray:
    """Of every `stride` cells in a row, the first; the others must be the same.

    Args:
        name: of the variable.
        piece: cells from `start` on.
        start, stride: in cells of the whole.
        held: the cell before `start`.
    """
    places = start + np.arange(len(piece))
    kept = piece[places % stride == 0]
    values = np.concatenate([held, kept]) if start % stride else kept
    if values[places // stride - start // stride].tobytes() != piece.tobytes():
        raise ValueError(f"{name}: pieces are not constant along a dimension that it lacks")
    return kept


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as out:
        yield out


def _results(
    arrays: dict[str, np.ndarray],
    config: dict[str, Any],
    dims: dict[str, Any] = _DIMS_1,
    provenance: dict[str, Any] | None = None,
) -> Results:
    """Checked: every array has the dimensions that the file says, of one length each."""
    named = {name: tuple(dimensions) for name, dimensions in dims.items()}
    if named.keys() != arrays.keys():
        raise ValueError("arrays")
    for name, array in arrays.items():
        if array.shape != tuple(arrays[dim].size for dim in named[name]):
            raise ValueError(name)
    origin = None if provenance is None else Provenance(config, **provenance)
    return Results(named, arrays, config, origin)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an npz: checksums verified, large stored members mapped, others read."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(broken)
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                shape, fortran, dtype = read(member)
                start = _data_start(path, info) + member.tell()
            mapped = info.compress_type == zipfile.ZIP_STORED and len(shape) > 1 and not fortran
            if mapped and not dtype.hasobject:
                arrays[name] = np.memmap(path, dtype, "r", start, shape)
                continue
            with archive.open(info) as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def _data_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: after its local header, name and extra field."""
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)
        name_length = int.from_bytes(file.read(2), "little")
        extra_length = int.from_bytes(file.read(2), "little")
    return info.header_offset + 30 + name_length + extra_length
