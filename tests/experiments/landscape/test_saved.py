"""Saved landscapes: held against their own plan, whatever they say of themselves."""

import json
import zipfile

import numpy as np
import pytest
from damage import NO_FILES, changed, no_file, npy

from experiments.fig2 import Fig2
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.origin import Origins, check_saved
from experiments.lab.work import Slab, Work
from experiments.landscape.experiment import LandscapeConfig, Piece
from lora_theory.store.dataset import assemble
from lora_theory.store.files import ResultsError
from lora_theory.store.pieces import Pieces, stamped
from lora_theory.store.provenance import Provenance

CFG = load("fig2", LandscapeConfig, ["loss=mse", "grid.points=3", "seeds=2", "steps=4",
                                     "plot.late=4", "plot.early=1"])  # fmt: skip
(PART,) = Fig2().plan(CFG)
LAYOUT = Fig2().layout(PART, CFG)
OURS = Provenance(Fig2().science(CFG) | {"loss": "mse"}, {}, "code")
SHAPE = LAYOUT.shape("train_loss")


def whole():
    """Curves of which one diverges at t = 0 and one at t = 2."""
    losses = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32) + 0.5
    losses[:, 1, 2, 2], losses[:, 0, 1, 2, 2:] = np.nan, np.nan
    lengths = (~np.isnan(losses[0])).sum(axis=-1)
    floors = np.ones(2, np.float32)
    return {
        "train_loss": losses[0],
        "test_loss": losses[1],
        "diverged_at": np.where(lengths == 5, -1, lengths).astype(np.int32),
        "train_floor": floors,
        "test_floor": floors,
    }


def with_(name, place, value):
    array = whole()[name]
    array[place] = value
    return {name: array}


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("landscape") / "mse.npz"
    flat = {name: array.reshape(-1, *array.shape[3:]) for name, array in whole().items()}
    flat |= dict.fromkeys(("train_floor", "test_floor"), np.ones(len(flat["diverged_at"]), "f4"))
    assemble(path, LAYOUT, OURS, [lambda: flat])
    return path.read_bytes()


@pytest.fixture
def path(content, tmp_path):
    (tmp_path / "mse.npz").write_bytes(content)
    return tmp_path / "mse.npz"


def test_what_was_made_of_the_plan_is_accepted(path):
    results = check_saved(Fig2(), PART, CFG, path).results
    np.testing.assert_array_equal(results.train_loss, whole()["train_loss"])
    target = path.rename(path.parent / "elsewhere")
    path.symlink_to(target)
    assert check_saved(Fig2(), PART, CFG, path).results.equals(results)


ETA = LAYOUT.coords["eta_a"]
BYTES = whole()["train_loss"].tobytes()
DIMS = {name: [name] for name in LAYOUT.coords}
DIMS |= {name: list(dims) for name, (dims, _) in LAYOUT.variables.items()}


def dims(**changes):
    return {"dims": np.array(json.dumps(DIMS | changes))}


DAMAGE = {
    "objects": ({"train_loss": npy("|O", SHAPE, BYTES)}, "train_loss: of type object"),
    "float64": ({"train_loss": whole()["train_loss"].astype(float)}, "train_loss: must be float32"),
    "big-endian": ({"train_loss": whole()["train_loss"].astype(">f4")}, "must be float32 .got >f4"),
    "whole": ({"test_loss": np.ones(SHAPE, np.int32)}, "test_loss: must be float32"),
    "short": ({"train_loss": npy("<f4", SHAPE, BYTES[:-8])}, "train_loss: not as long as"),
    "one step less": ({"train_loss": whole()["train_loss"][..., :4]}, "train_loss: must be of sh"),
    "no curve": ({"train_loss": None}, "train_loss: an array and its dimensions"),
    "one more": ({"more": np.ones(2)} | dims(more=["seed"]), "more: no variable of these"),
    "less": ({"train_floor": None} | {"dims": np.array(json.dumps({k: v for k, v in DIMS.items()
             if k != "train_floor"}))}, "train_floor: missing"),
    "turned": (dims(train_floor=["eta_a"]), "train_floor: must be"),
    "infinite": (with_("train_loss", (0, 0, 0, 1), np.inf), "train_loss: infinite"),
    "negative": (with_("test_loss", (1, 0, 0, 4), -1), "test_loss: negative"),
    "zero": ({"train_loss": np.where(np.isnan(whole()["train_loss"]), np.nan, 0).astype("f4")},
             "train_loss: zero throughout"),
    "again": (with_("train_loss", (0, 0, 0, 1), np.nan), "train_loss: finite again"),
    "one alone": (with_("test_loss", (0, 0, 0, 4), np.nan), "test_loss: diverged elsewhere"),
    "never": (with_("diverged_at", (0, 1, 2), -1), "diverged_at: not where"),
    "later": (with_("diverged_at", (0, 1, 2), 3), "diverged_at: not where"),
    "too early": (with_("diverged_at", (0, 0, 0), 0), "diverged_at: not where"),
    "floor": (with_("train_floor", 0, np.nan), "train_floor: must be finite"),
    "rates reversed": ({"eta_a": ETA[::-1]}, "eta_a: must be 0.0001, .*got 10.0, "),
    "other rates": ({"eta_a": ETA * 1.001}, "eta_a: must be"),
    "rates of NaN": ({"eta_b": ETA * np.nan}, "eta_b: must be"),
    "whole rates": ({"eta_b": np.arange(3)}, "eta_b: must be"),
    "a rate less": ({"eta_a": ETA[:2]}, "must be"),
    "a plane of rates": ({"eta_a": np.ones((3, 1))}, "dimension eta_a is no axis|must be"),
    "other seeds": ({"seed": np.array([0, 2])}, "seed: must be 0, 1 .got 0, 2"),
    "seeds in words": ({"seed": np.array(["0", "1"])}, "seed: must be"),
    "steps from 1": ({"step": np.arange(1, 6)}, "step: must be 0, 1, 2, … .got 1, 2, 3, …"),
    "no config": ({"config": np.array("null")}, "config: must be a group"),
    "a true format": ({"format": np.array(True)}, "format: must be an integer"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_the_plan_does_not_make_is_refused_by_name_and_left(kind, path):
    changes, said = DAMAGE[kind]
    changed(path, changes)
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=rf"mse\.npz: damaged or no results file \(.*{said}"):
        check_saved(Fig2(), PART, CFG, path)
    assert path.read_bytes() == before


def test_rates_that_another_machine_rounded_are_accepted(path):
    changed(path, {"eta_a": np.nextafter(ETA, 2 * ETA)})
    assert check_saved(Fig2(), PART, CFG, path).results.eta_a[0] > ETA[0]


def test_a_compressed_file_is_held_against_the_plan_too(path):
    changed(path, {}, compression=zipfile.ZIP_DEFLATED)
    assert check_saved(Fig2(), PART, CFG, path).results.sizes["seed"] == 2
    changed(path, with_("train_loss", (0, 0, 0, 1), np.inf), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ResultsError, match="train_loss: infinite"):
        check_saved(Fig2(), PART, CFG, path)


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused_before_anything_is_computed(kind, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    no_file(kind, tmp_path / "results/mse.npz")
    monkeypatch.setattr(Fig2, "run", None)
    with pytest.raises(ResultsError, match=rf"mse\.npz: can not be read \({kind}.*move it or"):
        conduct(Fig2(), CFG, Folders(tmp_path / "results", tmp_path / "figures"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("train_loss", -np.ones((9, 5), "f4"), "train_loss: negative"),
        ("train_loss", np.ones((9, 5)), "train_loss: a piece gives float64"),
        ("diverged_at", np.zeros(9, "i4"), "diverged_at: not where"),
        ("diverged_at", np.zeros(8, "i4"), "a piece has as many cells"),
        ("test_floor", -np.ones(9, "f4"), "test_floor: must be finite"),
    ],
)
def test_a_piece_that_no_run_gives_is_computed_again(
    name, value, said, tmp_path, monkeypatch, capsys
):
    good = {
        "train_loss": np.ones((9, 5), "f4"),
        "test_loss": np.ones((9, 5), "f4"),
        "diverged_at": np.full(9, -1, "i4"),
        "train_floor": np.ones(9, "f4"),
        "test_floor": np.ones(9, "f4"),
    }
    monkeypatch.setattr(Fig2, "run", lambda *arguments: good)
    monkeypatch.setattr(Fig2, "start", lambda *arguments: {})
    origins = Origins(OURS, OURS)
    monkeypatch.setattr("experiments.lab.work.origins_of", lambda *arguments: origins)
    store = Pieces(tmp_path / "mse.npz", OURS)
    piece = stamped("seed=0,cells=0-9", Piece("mse", 0, 0, 9))
    store.make()
    store.put(piece, good | {name: value})
    Work(Fig2(), PART, CFG, tmp_path / "mse.npz", {}).complete(Slab(0, 1))
    assert f"damaged, computed again ({said}" in capsys.readouterr().err
    results = check_saved(Fig2(), PART, CFG, tmp_path / "mse.npz").results
    assert (results.train_loss == 1).all()
