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
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lora_theory.store.files import ResultsError, atomic_write
from lora_theory.store.layout import Layout
from lora_theory.store.npz import Archive, Member, archive
from lora_theory.store.provenance import Provenance
from lora_theory.store.reading import parsed, regular

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
    def load(cls, path: str | Path, layout: Layout | None = None) -> "Results":
        """Read a results file, all of which is checked.

        Args:
            path: the file, or a link to it.
            layout: what it must hold; None for whatever it says itself.

        Raises:
            ResultsError: the file is missing, damaged, or no results file; by name.
        """
        with _opened(path) as (found, heading):
            heads = {name: found.members[name] for name in heading.dims}
            _check_dims(heading.dims, heads)
            if layout is not None:  # Before anything large is read.
                layout.check_shapes(heading.dims, heads)
            arrays = {name: found.read(name) for name in heads}
            if layout is not None:
                layout.check_axes(arrays)
            return cls(heading.dims, arrays, heading.config, heading.provenance)

    @staticmethod
    def origin(path: str | Path) -> Provenance | None:
        """Whose a results file is; of its arrays nothing is read.

        Raises:
            ResultsError: the file is missing, damaged, or no results file; by name.
        """
        with _opened(path) as (_, heading):
            return heading.provenance

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


class _Heading(NamedTuple):
    """What a file says of itself."""

    dims: dict[str, tuple[str, ...]]
    config: dict[str, Any]
    provenance: Provenance | None


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Archive, _Heading]]:
    """A results file, its heading read; what is found wrong in the block is said of it."""
    try:
        with regular(path) as file, archive(file) as found:
            written = _format(found)
            if written not in (1, FORMAT):
                raise ResultsError(f"{path}: written by another version; move it or change out")
            yield found, _heading(found, _TEXTS if written == FORMAT else ("config",))
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such results file") from None
    except ValueError as error:
        raise damaged(path, error) from None


def damaged(path: str | Path, why: object) -> ResultsError:
    """The error of a results file that was read, and is none."""
    return ResultsError(f"{path}: damaged or no results file ({why}); delete it to run again")


def _format(found: Archive) -> int:
    array = _scalar(found, "format")
    if array.dtype.kind not in "iu":
        raise ValueError(f"format: must be an integer (got {array})")
    return int(array)


def _heading(found: Archive, texts: Sequence[str]) -> _Heading:
    groups = {name: _group(found, name) for name in texts}
    config = groups["config"]
    dims = groups.get("dims", _DIMS_1)
    origin = groups.get("provenance")
    named = {}
    for name, given in dims.items():
        if not (isinstance(given, list | tuple) and all(isinstance(dim, str) for dim in given)):
            raise ValueError(f"dims.{name}: must be a list of dimensions (got {given!r:.60})")
        named[name] = tuple(given)
    if others := named.keys() ^ (found.members.keys() - {"format", *texts}):
        raise ValueError(f"{min(others):.60}: an array and its dimensions must both be there")
    provenance = None if origin is None else Provenance.of({"config": config, **origin})
    return _Heading(named, config, provenance)


def _group(found: Archive, name: str) -> dict[str, Any]:
    text = _scalar(found, name)
    data = parsed(str(text)) if text.dtype.kind == "U" else text
    if not isinstance(data, dict):
        raise ValueError(f"{name}: must be a group of keys (got {data!r:.60})")
    return data


def _scalar(found: Archive, name: str) -> np.ndarray:
    if name not in found.members:
        raise ValueError(f"{name}: missing")
    if found.members[name].shape != ():
        raise ValueError(f"{name}: must be one value (got shape {found.members[name].shape})")
    return found.read(name)


def _check_dims(dims: Mapping[str, tuple[str, ...]], heads: Mapping[str, Member]) -> None:
    """Refuse arrays that have not the dimensions that the file says, of one length each."""
    for name, named in dims.items():
        for dim in named:
            if dims.get(dim) != (dim,) or len(heads[dim].shape) != 1:
                raise ValueError(f"{name:.60}: dimension {dim:.60} is no axis")
        expected = tuple(heads[dim].shape[0] for dim in named)
        if len(set(named)) < len(named) or heads[name].shape != expected:
            shape = str(heads[name].shape)
            raise ValueError(f"{name:.60}: must be of shape {expected} (got {shape:.60})")
