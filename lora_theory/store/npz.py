"""Arrays of an `.npz`, of which nothing is believed before it has been checked.

Its types are plain, its members as long as their shapes say, every byte is under its checksum, and
what is mapped is the file that was opened. Memory for what is small alone: the rest is mapped.
"""

import contextlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from lora_theory.store.files import ResultsError, plain

_CHUNK = 2**20
_END = 2**16 + 22  # In which the list of members begins, or its place is said.
_READ = 2**30  # No file is read that would take more memory; what is stored as it is, is mapped.
_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Member(NamedTuple):
    """An array that has not been read.

    Attributes:
        info: where in the archive.
        shape, dtype, fortran: as its header says.
        start: of its data, behind its header.
    """

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    start: int

    @property
    def mapped(self) -> bool:
        """Whether it is mapped, not read."""
        large = len(self.shape) > 1 or self.info.file_size > _CHUNK
        stored = self.info.compress_type == zipfile.ZIP_STORED
        return stored and large and not self.fortran and 0 not in self.shape


class Archive(NamedTuple):
    """An opened file of arrays.

    Attributes:
        members: name -> array that has not been read.
        file, opened: what they lie in.
    """

    members: Mapping[str, Member]
    file: IO[bytes]
    opened: zipfile.ZipFile

    def read(self, name: str) -> np.ndarray:
        """One array, its checksum verified.

        Raises:
            ValueError: it is damaged.
        """
        with _damage():
            array = self._mapped(name) if self.members[name].mapped else self._read(name)
            _check_values(name, array)
            return array

    def _read(self, name: str) -> np.ndarray:
        member = self.members[name]
        data = bytearray(self.opened.read(member.info))[member.start :]
        order: Any = "F" if member.fortran else "C"
        return np.frombuffer(data, member.dtype).reshape(member.shape, order=order)

    def _mapped(self, name: str) -> np.ndarray:
        member = self.members[name]
        at = _data_start(self.file, member.info)
        self.file.seek(at)
        left, found = member.info.file_size, 0
        while left and (chunk := self.file.read(min(left, _CHUNK))):
            left, found = left - len(chunk), zlib.crc32(chunk, found)
        if left or found != member.info.CRC:
            raise ValueError(f"{name}: its checksum is another")
        return np.memmap(self.file, member.dtype, "r", at + member.start, member.shape)


@contextlib.contextmanager
def archive(file: IO[bytes]) -> Iterator[Archive]:
    """The members of an opened `.npz`, their headers checked.

    Raises:
        ValueError: it is damaged, or no such file; in the block, if a member is.
    """
    with contextlib.ExitStack() as stack:
        with _damage():
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _END))
            file.read()  # Here, since zipfile takes a disk that fails for damage.
            opened = stack.enter_context(zipfile.ZipFile(file))
            infos = opened.infolist()
            if sum(info.compress_size for info in infos) > size:
                raise ValueError("its members overlap")
            members: dict[str, Member] = {}
            for info in infos:
                name = info.filename.removesuffix(".npy")
                if name in members:
                    raise ValueError(f"{name:.60}: twice")
                members[name] = _member(opened, name, info)
            if sum(m.info.file_size for m in members.values() if not m.mapped) > _READ:
                raise ValueError("compressed, or more than fits into memory")
        yield Archive(members, file, opened)


def read_npz(file: IO[bytes]) -> dict[str, np.ndarray]:
    """All arrays of an opened `.npz`; large ones are mapped.

    Raises:
        ValueError: it is damaged, or no such file.
    """
    with archive(file) as found:
        return {name: found.read(name) for name in found.members}


def _member(opened: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Member:
    stored = info.compress_type == zipfile.ZIP_STORED
    if not (stored or info.compress_type == zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name:.60}: compressed as NumPy never does")
    if stored and info.compress_size != info.file_size:
        raise ValueError(f"{name:.60}: of two lengths")
    with opened.open(info) as data:
        try:
            shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(data)](data)
        except (OSError, zipfile.BadZipFile):
            raise
        except Exception:  # MemoryError too, which is what Python says of too many brackets.
            raise ValueError(f"{name:.60}: a header that can not be understood") from None
        start = data.tell()
    if not plain(dtype) or not dtype.itemsize:
        raise ValueError(f"{name:.60}: of type {dtype!s:.60}, which is not kept")
    size = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or start + size != info.file_size:
        raise ValueError(f"{name:.60}: not as long as its shape says, {shape!s:.60}")
    return Member(info, shape, dtype, fortran, start)


def _data_start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: after its local header, name and extra field."""
    file.seek(info.header_offset + 26)
    name_length = int.from_bytes(file.read(2), "little")
    extra_length = int.from_bytes(file.read(2), "little")
    return info.header_offset + 30 + name_length + extra_length


def _check_values(name: str, array: np.ndarray) -> None:
    """Refuse bytes that are no value of their type, of which NumPy takes any."""
    flat = array.reshape(-1)
    size = _CHUNK // array.itemsize + 1
    for chunk in (flat[i : i + size] for i in range(0, flat.size, size)):
        if array.dtype.kind == "b" and chunk.view(np.uint8).max() > 1:
            raise ValueError(f"{name:.60}: a value that is neither true nor false")
        if array.dtype.kind == "U" and chunk.view(f"{array.dtype.byteorder}u4").max() > 0x10FFFF:
            raise ValueError(f"{name:.60}: a letter that there is not")


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """A damaged zip raises a dozen kinds, from RuntimeError to struct.error: all are ValueError."""
    try:
        yield
    except (ValueError, OSError, MemoryError, ResultsError):
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from None
