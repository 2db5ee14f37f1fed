"""Arrays of an npz: nothing that it says of itself is believed."""

import io
import struct
import zipfile

import numpy as np
import pytest
from damage import changed, npy

from lora_theory.store.npz import archive, read_npz
from lora_theory.store.reading import regular

WHOLE = {
    "x": np.arange(3.0),
    "curve": np.arange(6, dtype=np.float32).reshape(2, 3),
    "ran": np.array([True, False]),
    "name": np.array(["a", "η"]),
    "empty": np.ones((0, 4)),
    "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
}
DATA = WHOLE["curve"].tobytes()


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "a.npz", **WHOLE)
    return tmp_path / "a.npz"


def read(path):
    with regular(path) as file:
        return read_npz(file)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_was_written_comes_back(compression, path):
    changed(path, {}, compression=compression)
    found = read(path)
    assert found.keys() == WHOLE.keys()
    for name, array in WHOLE.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert isinstance(found["curve"], np.memmap) == (compression == zipfile.ZIP_STORED)


class Said(str):
    """What a header says as it is."""

    def __repr__(self):
        return str(self)


MEMBERS = {
    "objects": (npy("|O", (1, 3), DATA), "of type object, which is not kept"),
    "objects within": (npy([("a", "|O")], (1, 3), DATA), r"of type .*, which is not kept"),
    "records": (npy([("a", "<f4"), ("b", "<i4")], (1, 3), DATA), "which is not kept"),
    "times": (npy("<M8[s]", (1, 3), DATA), "which is not kept"),
    "nothing": (npy("<U0", (2, 3), b""), "which is not kept"),
    "shorter": (npy("<f4", (2, 4), DATA), "not as long as its shape says"),
    "longer": (npy("<f4", (2, 2), DATA), "not as long as its shape says"),
    "negative": (npy("<f4", (-2, -3), DATA), "not as long as its shape says"),
    "endless": (npy("<f4", (2**62, 2**62), DATA), "not as long as its shape says"),
    "no type": (npy("<f9", (2, 3), DATA), "a header that"),
    "no shape": (npy("<f4", 6, DATA), "a header that"),
    "brackets": (npy("<f4", Said("-" * 9000 + "1"), DATA), "a header that"),
    "version 3": (npy("<f4", (2, 3), DATA, version=(3, 0)), "a header that"),
    "no header": (b"\x93NUMPY", "a header that"),
    "no array": (b"text", "a header that"),
}


@pytest.mark.parametrize("kind", MEMBERS)
def test_a_member_that_lies_is_refused_before_it_is_mapped(kind, path):
    member, said = MEMBERS[kind]
    changed(path, {"curve": member})
    with pytest.raises(ValueError, match=said):
        read(path)


@pytest.mark.parametrize(
    ("name", "member", "said"),
    [
        ("ran", npy("|b1", (2,), b"\x02\x01"), "ran: a value that is neither true nor false"),
        ("name", npy("<U1", (1,), b"\xff\xff\xff\xff"), "name: a letter that there is not"),
    ],
)
def test_bytes_that_are_no_value_are_refused(name, member, said, path):
    changed(path, {name: member})
    with pytest.raises(ValueError, match=said):
        read(path)


def test_a_name_that_is_there_twice_is_refused(path):
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("x", npy("<f8", (0,), b""))
    with pytest.raises(ValueError, match="x: twice"):
        read(path)


def test_another_compression_is_refused(path):
    changed(path, {}, compression=zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match="compressed as NumPy never does"):
        read(path)


def test_what_grows_beyond_memory_is_refused_before_it_is_read(path, monkeypatch):
    monkeypatch.setattr("lora_theory.store.npz._READ", 1000)
    assert read(path)
    changed(path, {"curve": np.zeros((100, 100))}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="more than fits into memory"):
        read(path)


def directory(data, name):
    """Where the entry of a member begins in the list at the end of a zip."""
    return data.rindex(name) - 46


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [(16, 1, "CRC"), (20, 1, "lengths"), (20, 10**6, "overlap"), (24, 1, "lengths")],
)
def test_a_list_of_members_that_lies_is_refused(offset, value, said, path):
    data = bytearray(path.read_bytes())
    at = directory(data, b"curve.npy") + offset
    data[at : at + 4] = struct.pack("<I", value)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=said):
        read(path)


def test_a_disk_that_fails_is_no_damage(path):
    class Failing(io.FileIO):
        def read(self, *size):
            raise OSError(5, "Input/output error")

    with Failing(path) as file, pytest.raises(OSError, match="Input/output"), archive(file):
        pass


def test_what_is_mapped_is_the_file_that_was_opened(path, tmp_path):
    np.savez(tmp_path / "other.npz", **WHOLE | {"curve": np.full((2, 3), 9, np.float32)})
    with regular(path) as file, archive(file) as found:
        (tmp_path / "other.npz").replace(path)
        np.testing.assert_array_equal(found.read("curve"), WHOLE["curve"])
    assert (read(path)["curve"] == 9).all()
