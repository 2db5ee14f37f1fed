"""Saved sweeps: held against their own plan; what is no loss, or was not to be run, is refused."""

import numpy as np
import pytest
from damage import changed
from sweeps import small

from experiments.lab.origin import check_saved
from experiments.scaling.coordinates import SIZES
from experiments.width import Width
from lora_theory.store.dataset import assemble
from lora_theory.store.files import ResultsError
from lora_theory.store.provenance import Provenance

CFG = small("sweeps.two_layer.curvature.seeds=2", "part=[two_layer,coordinates]")
PARTS = {part.name: part for part in Width().plan(CFG)}


def whole(name):
    """The plan's arrays: all ones, NaN where nothing was to be run."""
    layout = Width().layout(PARTS[name], CFG)
    kinds = {n: (layout.shape(n), dtype) for n, (_, dtype) in layout.variables.items()}
    arrays = {n: np.ones(shape, dtype) for n, (shape, dtype) in kinds.items()}
    if "ran" in arrays:
        arrays["ran"][..., 2, 4:] = False  # seeds=[6,6,4]
        for array in (a for n, a in arrays.items() if n != "ran"):
            array[~arrays["ran"]] = np.nan
    return layout, arrays


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("sweep"), {}
    for name, part in PARTS.items():
        layout, arrays = whole(name)
        config = Width().science(CFG) | dict(part.config)
        count = len(layout.stacked)
        flat = {n: array.reshape(-1, *array.shape[count:]) for n, array in arrays.items()}
        assemble(folder / name, layout, Provenance(config, {}, ""), [lambda flat=flat: flat])
        found[name] = (folder / name).read_bytes()
    return found


def check(name, content, tmp_path, changes):
    path = tmp_path / f"{name}.npz"
    path.write_bytes(content)
    changed(path, changes)
    return check_saved(Width(), PARTS[name], CFG, path).results


@pytest.mark.parametrize("name", PARTS)
def test_what_was_made_of_the_plan_is_accepted(name, contents, tmp_path):
    assert check(name, contents[name], tmp_path, {}).sizes["seed"] > 1


def with_(name, place, value, part="two_layer"):
    array = whole(part)[1][name]
    array[place] = value
    return part, {name: array}


FIRST, UNRUN = (0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 2, 5)
DAMAGE = {
    "negative": (*with_("train_loss", (*FIRST, 0, 0, 1), -1), "train_loss: negative"),
    "infinite": (*with_("line_test_loss", (*FIRST, 0, 1), np.inf), "line_test_loss: infinite"),
    "alone": (*with_("line_train_loss", (*FIRST, 0, -1), np.nan), "line_test_loss: diverged else"),
    "not to be run": (*with_("ran", UNRUN, True), "ran: not what the config asks for"),
    "left out": (*with_("ran", FIRST, False), "ran: not what the config asks for"),
    "out of order": (*with_("curvature", (*FIRST, 0, 0), 2), "curvature: the least is above"),
    "no number": (*with_("f", (0, 0, 0, 0, 0), 2000.0, "coordinates"), "f: larger than any number"),
    "float32": ("coordinates", {SIZES[1]: whole("coordinates")[1]["f"].astype("f4")}, "float64"),
    "another init": ("coordinates", {"init": np.array(["B", "A"])}, "init: must be A, B"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_the_plan_does_not_make_is_refused_by_name(kind, contents, tmp_path):
    name, changes, said = DAMAGE[kind]
    with pytest.raises(ResultsError, match=rf"npz: damaged or no results file \(.*{said}"):
        check(name, contents[name], tmp_path, changes)


def test_losses_of_what_was_not_run_are_refused(contents, tmp_path):
    changes = {}
    for name in ("train_loss", "test_loss"):
        changes |= with_(name, (*UNRUN, ..., 0), 1)[1]
    with pytest.raises(ResultsError, match="train_loss: losses of what was not run"):
        check("two_layer", contents["two_layer"], tmp_path, changes)
