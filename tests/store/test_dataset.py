"""Results files: whole or absent, refused when damaged or foreign, and the same as in memory."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_theory.store.dataset import Layout, Results, assemble, config_of, open_dataset
from lora_theory.store.files import ResultsError
from lora_theory.store.provenance import Provenance

CONFIG = {"loss": "mse", "grid": {"points": 3}}
OURS = Provenance(CONFIG, {"jax": "0.10"}, "code")
COORDS = {
    "seed": np.array([4, 2]),
    "eta_a": np.geomspace(1e-4, 1, 3),
    "eta_b": np.geomspace(1e-3, 10, 4),
    "step": np.arange(6),
}
CELL = ("seed", "eta_a", "eta_b")
LAYOUT = Layout(
    COORDS,
    {
        "train_loss": ((*CELL, "step"), "float32"),
        "test_loss": ((*CELL, "step"), "float32"),
        "diverged_at": (CELL, "int32"),
    },
    CELL,
)


def made():
    """Every variable, whole."""
    losses = np.random.default_rng(0).random((2, 2, 3, 4, 6)).astype(np.float32)
    losses[:, 0, 0, 0, 3:] = np.nan
    diverged_at = np.where(np.isnan(losses[0, ..., -1]), 3, -1).astype(np.int32)
    return {"train_loss": losses[0], "test_loss": losses[1], "diverged_at": diverged_at}


def pieces(arrays, layout, sizes):
    """Readers of pieces that hold so many cells each."""
    ends = np.cumsum(sizes)
    count = len(layout.stacked)
    flat = {name: array.reshape(-1, *array.shape[count:]) for name, array in arrays.items()}

    def reader(start, stop):
        return lambda: {name: array[start:stop] for name, array in flat.items()}

    return [reader(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def write(path, sizes=(7, 5, 12)):
    assemble(path, LAYOUT, OURS, pieces(made(), LAYOUT, sizes))
    return path


def same(results):
    for name, array in made().items():
        np.testing.assert_array_equal(results.arrays[name], array)
    for name, values in COORDS.items():
        np.testing.assert_array_equal(results.arrays[name], values)
    assert results.config == CONFIG
    return True


@pytest.mark.parametrize("sizes", [(24,), (7, 5, 12), (1,) * 24])
def test_round_trip(sizes, tmp_path):
    results = Results.load(write(tmp_path / "mse.npz", sizes))
    assert same(results)
    assert results.provenance == OURS
    assert [p.name for p in tmp_path.iterdir()] == ["mse.npz"]


@pytest.mark.parametrize("stacked", [("optimizer",), ("optimizer", "width"), ()])
def test_any_named_dimensions(stacked, tmp_path):
    coords = {"optimizer": ["adam", "gd"], "width": [64, 128, 256], "seed": range(5)}
    layout = Layout(coords, {"slope": (("optimizer", "width", "seed"), "float64")}, stacked)
    slopes = np.random.default_rng(1).random((2, 3, 5))
    cells = int(np.prod(slopes.shape[: len(stacked)]))
    found = pieces({"slope": slopes if stacked else slopes[None]}, layout, (1,) * cells)
    if not stacked:
        found = [lambda: {"slope": slopes[None]}]
    assemble(tmp_path / "a.npz", layout, OURS, found)
    data = open_dataset(tmp_path / "a.npz")
    assert dict(data.sizes) == {"optimizer": 2, "width": 3, "seed": 5}
    assert data.slope.dims == ("optimizer", "width", "seed")
    picked = data.slope.sel(optimizer="gd", width=128, seed=4)
    assert float(picked) == slopes[1, 1, 4]


def test_as_xarray_it_says_its_config_and_whose_it_is(tmp_path):
    data = open_dataset(write(tmp_path / "mse.npz"))
    assert dict(data.sizes) == {"seed": 2, "eta_a": 3, "eta_b": 4, "step": 6}
    cell = data.train_loss.sel(seed=2, step=4).isel(eta_a=2, eta_b=3)
    assert float(cell) == made()["train_loss"][1, 2, 3, 4]
    assert config_of(data) == CONFIG
    assert (json.loads(data.attrs["versions"]), data.attrs["code"]) == ({"jax": "0.10"}, "code")


def test_numpy_reads_the_file_without_unpickling(tmp_path):
    with np.load(write(tmp_path / "mse.npz"), allow_pickle=False) as archive:
        assert set(archive.files) >= {*COORDS, *made(), "config"}
        np.testing.assert_array_equal(archive["train_loss"], made()["train_loss"])
        assert json.loads(str(archive["config"])) == CONFIG


def test_a_compressed_file_is_read_as_well(tmp_path):
    with np.load(write(tmp_path / "mse.npz")) as archive:
        np.savez_compressed(tmp_path / "small.npz", **archive)
    assert same(Results.load(tmp_path / "small.npz"))


def test_format_1_still_loads(tmp_path):
    """Figure 2's files before dimensions were named: no dims, no provenance."""
    with np.load(write(tmp_path / "new.npz")) as archive:
        old = {k: v for k, v in archive.items() if k not in ("dims", "provenance")}
        np.savez(tmp_path / "old.npz", **{**old, "format": np.array(1)})
    results = Results.load(tmp_path / "old.npz")
    assert same(results)
    assert results.provenance is None
    assert results.to_xarray().train_loss.dims == (*CELL, "step")


def test_equal_results_are_equal_bytes(tmp_path):
    one = write(tmp_path / "one.npz", (7, 5, 12)).read_bytes()
    assert one == write(tmp_path / "two.npz", (24,)).read_bytes()


WRONG_PIECES = {
    "too few": (made(), (7, 5)),
    "too many": ({name: np.concatenate([a, a]) for name, a in made().items()}, (24, 24)),
    "another dtype": (made() | {"train_loss": made()["train_loss"].astype(float)}, (24,)),
    "another shape": (made() | {"train_loss": made()["train_loss"][..., :5]}, (24,)),
}


@pytest.mark.parametrize("wrong", WRONG_PIECES)
def test_pieces_that_do_not_make_up_the_layout_are_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match=r"train_loss: .*piece"):
        assemble(tmp_path / "mse.npz", LAYOUT, OURS, pieces(WRONG_PIECES[wrong][0], LAYOUT,
                                                           WRONG_PIECES[wrong][1]))  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_the_size_is_known_before_anything_is_computed():
    assert LAYOUT.bytes() == sum(array.nbytes for array in made().values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole") / "mse.npz").read_bytes()


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
    assert same(results)


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


def hostile(**changes):
    """A small file of format 2 with something changed."""
    whole = {
        "x": np.arange(3.0),
        "y": np.ones((3, 2)),
        "z": np.arange(2),
        "config": np.array("{}"),
        "dims": np.array(json.dumps({"x": ["x"], "y": ["x", "z"], "z": ["z"]})),
        "provenance": np.array(json.dumps({"versions": {}, "code": ""})),
        "format": np.array(2),
    }
    return npz(**{k: v for k, v in (whole | changes).items() if v is not None})


def test_the_hostile_files_differ_from_one_that_loads(tmp_path):
    (tmp_path / "mse.npz").write_bytes(hostile())
    assert Results.load(tmp_path / "mse.npz").arrays["y"].shape == (3, 2)


HOSTILE = {
    "empty": b"",
    "text": b"not a zip",
    "nothing": npz(),
    "no arrays": npz(config=np.array("{}"), format=np.array(1)),
    "pickle": npz(config=np.array({"a": 1}, dtype=object), format=np.array(1)),
    "bad json": hostile(config=np.array("{")),
    "pickled variable": hostile(y=np.array([[{}, 1]] * 3, dtype=object)),
    "dimensions of another length": hostile(y=np.ones((3, 3))),
    "too few dimensions": hostile(y=np.ones(3)),
    "unknown dimension": hostile(dims=np.array('{"x": ["x"], "y": ["x", "w"], "z": ["z"]}')),
    "a variable without dimensions": hostile(w=np.ones(3)),
    "dimensions without a variable": hostile(y=None),
    "no provenance": hostile(provenance=None),
    "odd provenance": hostile(provenance=np.array('{"versions": {}}')),
    "no format": hostile(format=None),
}
SAID = {
    "config: must be a group of keys (got None)": hostile(config=np.array("null")),
    "config: must be a group of keys (got [1])": hostile(config=np.array("[1]")),
    "config: must be a group of keys (got 3)": hostile(config=np.array("3")),
    "config: must be a group of keys (got array(3))": hostile(config=np.array(3)),
    "config: must be one value (got shape (1,))": hostile(config=np.array(["{}"])),
    "NaN: no number": hostile(config=np.array('{"a": NaN}')),
    "nested without end": hostile(config=np.array("[" * 10**5)),
    "format: must be an integer (got True)": hostile(format=np.array(True)),
    "format: must be an integer (got 2.0)": hostile(format=np.array(2.0)),
    "format: must be one value (got shape (1,))": hostile(format=np.array([2])),
    "dims.x: must be a list of dimensions (got 3)": hostile(dims=np.array('{"x": 3}')),
    "dims.x: must be a list of dimensions (got [3])": hostile(dims=np.array('{"x": [3]}')),
    "provenance: must be a config": hostile(provenance=np.array('{"versions": 3, "code": ""}')),
    "x: dimension x is no axis": hostile(
        x=np.ones((3, 2)), dims=np.array('{"x": ["x", "z"], "y": ["x", "z"], "z": ["z"]}')
    ),
    "y: must be of shape (3, 3)": hostile(
        y=np.ones((3, 3)), dims=np.array('{"x": ["x"], "y": ["x", "x"], "z": ["z"]}')
    ),
}


@pytest.mark.parametrize("said", SAID)
def test_what_is_wrong_is_said_by_name(said, tmp_path):
    path = tmp_path / "mse.npz"
    path.write_bytes(SAID[said])
    with pytest.raises(ResultsError) as refused:
        Results.load(path)
    assert f"damaged or no results file ({said}" in str(refused.value)
    assert str(refused.value).endswith("; delete it to run again")


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "mse.npz"
    path.write_bytes(content)
    assert refused(path)


def test_a_missing_file_is_refused(tmp_path):
    assert refused(tmp_path / "mse.npz")


@pytest.mark.parametrize("number", [0, 3])
def test_a_file_of_another_format_is_refused(number, tmp_path):
    (tmp_path / "mse.npz").write_bytes(hostile(format=np.array(number)))
    with pytest.raises(ResultsError, match="another version"):
        Results.load(tmp_path / "mse.npz")


def test_stored_arrays_are_mapped_not_read(tmp_path):
    path = write(tmp_path / "mse.npz")
    assert isinstance(Results.load(path).arrays["train_loss"], np.memmap)
    with zipfile.ZipFile(path) as archive:
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
