"""Results files: whole or absent, refused when damaged or foreign, and the same as in memory."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_theory.results import ChunkStore, Results, ResultsError, atomic_write, exclusive

SHAPE = (2, 3, 4, 6)
CONFIG = {"loss": "mse", "grid": {"points": 3}}
COORDINATES = {
    "eta_a": np.geomspace(1e-4, 1, 3),
    "eta_b": np.geomspace(1e-3, 10, 4),
    "seed": np.arange(2),
    "step": np.arange(6),
}


def curves():
    values = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    values[:, 0, 0, 0, 3:] = np.nan
    return values


def write(path, sizes=(7, 5, 12)):
    """A results file made of chunks of these sizes, and what was put in."""
    train, test = curves()
    diverged_at = np.where(np.isnan(train[..., -1]), 3, -1).astype(np.int32)
    store = ChunkStore(path, CONFIG, {})
    start = 0
    for index, size in enumerate(sizes):
        part = slice(start, start + size)
        store.put(
            index,
            train_loss=train.reshape(24, 6)[part],
            test_loss=test.reshape(24, 6)[part],
            diverged_at=diverged_at.reshape(24)[part],
        )
        start += size
    store.assemble(len(sizes), SHAPE, **COORDINATES)
    return train, test, diverged_at


@pytest.mark.parametrize("sizes", [(24,), (7, 5, 12), (1,) * 24])
def test_round_trip(sizes, tmp_path):
    path = tmp_path / "mse.npz"
    train, test, diverged_at = write(path, sizes)
    results = Results.load(path)
    np.testing.assert_array_equal(results.train_loss, train)
    np.testing.assert_array_equal(results.test_loss, test)
    np.testing.assert_array_equal(results.diverged_at, diverged_at)
    assert results.config == CONFIG
    for name, values in COORDINATES.items():
        np.testing.assert_array_equal(getattr(results, name), values)
    assert [p.name for p in tmp_path.iterdir()] == ["mse.npz"]  # The chunks are gone.


def test_numpy_reads_the_file_without_unpickling(tmp_path):
    train, _, _ = write(tmp_path / "mse.npz")
    with np.load(tmp_path / "mse.npz", allow_pickle=False) as archive:
        assert set(archive.files) >= {
            *("eta_a", "eta_b", "seed", "step", "train_loss", "test_loss", "diverged_at", "config")
        }
        np.testing.assert_array_equal(archive["train_loss"], train)
        assert json.loads(str(archive["config"])) == CONFIG


def test_a_compressed_file_is_read_as_well(tmp_path):
    write(tmp_path / "mse.npz")
    with np.load(tmp_path / "mse.npz") as archive:
        np.savez_compressed(tmp_path / "small.npz", **archive)
    left, right = (Results.load(tmp_path / name) for name in ("mse.npz", "small.npz"))
    np.testing.assert_array_equal(left.test_loss, right.test_loss)


def test_equal_results_are_equal_bytes(tmp_path):
    for name in ("one.npz", "two.npz"):
        write(tmp_path / name, (7, 5, 12) if name == "one.npz" else (24,))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_to_xarray(tmp_path):
    train, _, _ = write(tmp_path / "mse.npz")
    data = Results.load(tmp_path / "mse.npz").to_xarray()
    assert dict(data.sizes) == {"seed": 2, "eta_a": 3, "eta_b": 4, "step": 6}
    cell = data.train_loss.sel(seed=1, step=4).isel(eta_a=2, eta_b=3)
    assert float(cell) == train[1, 2, 3, 4]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "mse.npz"
    write(path)
    return path.read_bytes()


def refused(path):
    with pytest.raises(ResultsError, match=r"mse\.npz: "):
        Results.load(path)
    return True


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_file_with_one_changed_byte_is_refused_or_means_the_same(data, whole, tmp_path_factory):
    """Every byte of the arrays is under a checksum; slack in zip headers may change nothing."""
    place = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda v: v != whole[place]))
    path = tmp_path_factory.getbasetemp() / "mse.npz"
    path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
    try:
        results = Results.load(path)
    except ResultsError:
        assert refused(path)
        return
    train, test = curves()
    np.testing.assert_array_equal(results.train_loss, train)
    np.testing.assert_array_equal(results.test_loss, test)
    assert results.config == CONFIG


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_file_cut_short_is_refused(data, whole, tmp_path_factory):
    length = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.getbasetemp() / "mse.npz"
    path.write_bytes(whole[:length])
    assert refused(path)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a zip",
        npz(),
        npz(config=np.array("{}"), format=np.array(1)),
        npz(config=np.array("{"), format=np.array(1)),
        npz(config=np.array({"a": 1}, dtype=object), format=np.array(1)),
        npz(**COORDINATES, config=np.array("{}"), format=np.array(1), train_loss=np.ones(3),
            test_loss=np.ones(3), diverged_at=np.ones(3)),
    ],
    ids=["empty", "text", "nothing", "no arrays", "bad json", "pickle", "wrong shapes"],
)  # fmt: skip
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "mse.npz"
    path.write_bytes(content)
    assert refused(path)


def test_a_missing_file_is_refused(tmp_path):
    assert refused(tmp_path / "mse.npz")


def test_a_file_of_another_format_is_refused(tmp_path):
    write(tmp_path / "old.npz")
    with np.load(tmp_path / "old.npz") as archive:
        np.savez(tmp_path / "mse.npz", **{**archive, "format": np.array(0)})
    with pytest.raises(ResultsError, match="another version"):
        Results.load(tmp_path / "mse.npz")


class FullError(Exception):
    pass


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "mse.npz"
    path.write_bytes(b"before")

    def fail():
        with atomic_write(path) as file:
            file.write(b"half")
            raise FullError

    with pytest.raises(FullError):
        fail()
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["mse.npz"]


def test_a_damaged_chunk_is_computed_again(tmp_path, capsys):
    store = ChunkStore(tmp_path / "mse.npz", CONFIG, {})
    for index in range(3):
        store.put(index, train_loss=np.arange(1000.0))
    chunks = sorted(store.folder.iterdir())
    content = bytearray(chunks[0].read_bytes())
    content[len(content) // 2] ^= 1
    chunks[0].write_bytes(content)
    chunks[1].write_bytes(chunks[1].read_bytes()[:100])
    assert [store.has(index) for index in range(4)] == [False, False, True, False]
    said = capsys.readouterr().err
    assert str(chunks[0]) in said
    assert str(chunks[1]) in said
    assert not chunks[0].exists()


@pytest.mark.parametrize("other", [{"loss": "all_pairs"}, {"steps": 3}])
def test_chunks_of_another_config_are_not_seen(other, tmp_path):
    ChunkStore(tmp_path / "mse.npz", CONFIG, {}).put(0, train_loss=np.ones(3))
    assert ChunkStore(tmp_path / "mse.npz", CONFIG, {}).has(0)
    assert not ChunkStore(tmp_path / "mse.npz", CONFIG | other, {}).has(0)
    assert not ChunkStore(tmp_path / "mse.npz", CONFIG, {"jax": "0"}).has(0)


def test_the_lock_removes_what_a_killed_writer_left(tmp_path):
    (tmp_path / ".mse.npz.abc.tmp").write_bytes(b"half")
    (tmp_path / "all_pairs.npz").write_bytes(b"other")
    with exclusive(tmp_path / "mse.npz"):
        names = {p.name for p in tmp_path.iterdir()}
    assert names == {".mse.npz.lock", "all_pairs.npz"}


def test_stored_arrays_are_mapped_not_read(tmp_path):
    write(tmp_path / "mse.npz")
    assert isinstance(Results.load(tmp_path / "mse.npz").train_loss, np.memmap)
    with zipfile.ZipFile(tmp_path / "mse.npz") as archive:
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
