"""Layouts: what no file can hold or no pieces can make up is refused before and by name."""

import ml_dtypes
import numpy as np
import pytest

from lora_theory.store.dataset import Results, assemble
from lora_theory.store.layout import Layout
from lora_theory.store.provenance import Provenance

OURS = Provenance({}, {}, "")
COORDS = {"seed": [4, 2], "a": [0.1, 0.2, 0.3], "b": ["x", "y"], "step": range(5)}
CELL = ("seed", "a", "b")
GOOD = Layout(
    COORDS,
    {
        "loss": ((*CELL, "step"), "float32"),
        "floor": (("seed",), "float64"),
        "name": (("seed", "a"), "<U3"),
        "whole": ((), "int64"),
        "curve": (("seed", "step"), "bool"),
    },
    CELL,
)


def made():
    random = np.random.default_rng(0)
    return {
        "loss": random.random((2, 3, 2, 5)).astype("float32"),
        "floor": random.random(2),
        "name": np.array([["a", "bcd", ""], ["e", "f", "g"]], "<U3"),
        "whole": np.array(7),
        "curve": random.random((2, 5)) < 0.5,
    }


def cells(arrays):
    """As pieces give them: of every variable each cell."""

    def spread(name, array):
        dims = GOOD.variables[name][0]
        shape = [len(COORDS[d]) if d in dims else 1 for d in CELL] + list(GOOD.inner(name))
        full = [len(COORDS[d]) for d in CELL] + list(GOOD.inner(name))
        return np.broadcast_to(array.reshape(shape), full).reshape(12, *GOOD.inner(name))

    return {name: spread(name, array) for name, array in arrays.items()}


def readers(flat, sizes):
    ends = np.cumsum(sizes)
    cut = [{n: a[e - s : e] for n, a in flat.items()} for s, e in zip(sizes, ends, strict=True)]
    return [lambda piece=piece: piece for piece in cut]


@pytest.mark.parametrize("sizes", [(12,), (6, 6), (1,) * 12, (5, 4, 3), (0, 7, 0, 5)])
def test_a_variable_may_lack_the_last_stacked_dimensions(sizes, tmp_path):
    GOOD.check()
    assemble(tmp_path / "a.npz", GOOD, OURS, readers(cells(made()), sizes))
    found = Results.load(tmp_path / "a.npz")
    for name, array in made().items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.dims[name] == GOOD.variables[name][0]


@pytest.mark.parametrize("sizes", [(12,), (5, 4, 3), (1,) * 12])
@pytest.mark.parametrize("cell", [1, 5, 6, 11])
def test_what_is_not_constant_along_what_it_lacks_is_refused(cell, sizes, tmp_path):
    flat = cells(made())
    flat["floor"] = flat["floor"].copy()
    flat["floor"][cell] += 1
    with pytest.raises(ValueError, match="floor: pieces are not constant along a dimension"):
        assemble(tmp_path / "a.npz", GOOD, OURS, readers(flat, sizes))
    assert not list(tmp_path.iterdir())


def changed(coords=None, variables=None, stacked=CELL):
    return Layout(COORDS | (coords or {}), GOOD.variables | (variables or {}), stacked)


WRONG = {
    "late: of the stacked dimensions": changed(variables={"late": (("step", "seed"), "float32")}),
    "gap: of the stacked dimensions": changed(variables={"gap": (("seed", "b"), "float32")}),
    "order: of the stacked dimensions": changed(variables={"order": (("a", "seed"), "float32")}),
    "twice: of the stacked dimensions": changed(variables={"twice": (("seed", "seed"), "bool")}),
    "config: a name that the file needs": changed(variables={"config": ((), "bool")}),
    "dims: a name that the file needs": changed({"dims": [1]}),
    "step: a variable and a coordinate": changed(variables={"step": (("step",), "int64")}),
    "odd: dimension width is no coordinate": changed(variables={"odd": (("width",), "int64")}),
    "stacked: dimension width is no": changed(stacked=("width",)),
    "a: a coordinate is one row": changed({"a": [[1, 2], [3, 4]]}),
    "b: a coordinate is one row": changed({"b": [{}, None]}),
    "seed: a coordinate is one row": changed({"seed": [[1], [1, 2]]}),
    "thing: object is no type": changed(variables={"thing": ((), "object")}),
    "half: bfloat16 is no type": changed(variables={"half": ((), ml_dtypes.bfloat16(0).dtype)}),
    "typo: flaot32 is no type": changed(variables={"typo": ((), "flaot32")}),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_wrong_layout_is_refused_by_name(said, tmp_path):
    with pytest.raises(ValueError, match=f"^{said}"):
        WRONG[said].check()
    with pytest.raises(ValueError, match=f"^{said}"):
        assemble(tmp_path / "a.npz", WRONG[said], OURS, [])


def test_a_long_range_is_not_made_to_be_checked():
    changed({"step": range(10**15)}).check()


MISFITS = {
    r"loss: missing in a piece, which must give it as float32 of shape": {"loss": None},
    r"loss: a piece gives float64 of shape \(12, 5\), and must give float32": {
        "loss": np.zeros((12, 5))
    },
    r"loss: a piece gives float32 of shape \(12, 4\)": {"loss": np.zeros((12, 4), "float32")},
    r"floor: a piece gives float64 of shape \(\), and must give float64 of shape \(cells\)": {
        "floor": np.float64(3)
    },
    "a piece has as many cells in every variable": {"floor": np.zeros(2)},
}  # fmt: skip


@pytest.mark.parametrize("said", MISFITS)
def test_a_piece_that_does_not_fit_is_refused_by_name(said):
    arrays = cells(made())
    GOOD.fits(arrays)
    changes = arrays | MISFITS[said]
    with pytest.raises(ValueError, match=said):
        GOOD.fits({name: array for name, array in changes.items() if array is not None})
