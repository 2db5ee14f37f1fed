"""The budgets from end to end, small: what is planned, written, resumed and refused."""

import numpy as np
import pytest

from experiments.budget.experiment import Budget, Piece
from experiments.budget.ways import ARMS
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from lora_theory.store.dataset import Results


def test_a_piece_is_a_seed_of_a_task(small):
    (part,) = Budget().plan(small())
    assert list(part.pieces.values())[:3] == [
        Piece("transformer", 0), Piece("transformer", 1), Piece("two_layer", 0),
    ]  # fmt: skip
    assert len(part.pieces) == 6
    assert "task=two_layer,seed=1" in part.pieces


def test_all_arms_cost_more_than_one(small):
    cfg = small()
    costs = [Budget().core_seconds(piece, cfg) for piece in Budget().plan(cfg)[0].pieces.values()]
    assert min(costs) > 0
    assert costs[0] == costs[1]


def computed(folder, cfg):
    folders = Folders(folder / "results", folder / "figures")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Budget, "workers", lambda self: 1)
        conduct(Budget(), cfg, folders)
    return Results.load(folder / "results/budget.npz").to_xarray()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_scores(small, tmp_path, monkeypatch):
    cfg, run, done = small(), Budget.run, []

    def stopped(self, piece, cfg):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(piece)
        return run(self, piece, cfg)

    with monkeypatch.context() as patched:
        patched.setattr(Budget, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            computed(tmp_path, cfg)

    def counted(self, piece, cfg):
        done.append(piece)
        return run(self, piece, cfg)

    with monkeypatch.context() as patched:
        patched.setattr(Budget, "run", counted)
        data = computed(tmp_path, cfg)
    assert sorted(done) == sorted(Budget().plan(cfg)[0].pieces.values())
    again = Budget().run(Piece("two_layer", 1), cfg)
    np.testing.assert_array_equal(again["score"][0], data.score.sel(task="two_layer", seed=1))
    at_rest = data.score.sel(arm="b_rests", task="feature_layer").values
    assert (at_rest == 0).all()
    unit = data.unit.values
    plain = np.array(list(ARMS)) != "suggested"
    assert (unit[..., plain] == 1).all()
    assert (unit[..., ~plain] != 1).all()
    aside, lora = (data.score.sel(arm=name).values for name in ("aside", "lora"))
    assert (aside != lora).any(axis=(1, 2)).all()
    written = {path.name for path in tmp_path.rglob("*.*") if not path.name.startswith(".")}
    assert written == {f"budget.{kind}" for kind in ("npz", "csv", "md", "png", "pdf")}
    page = (tmp_path / "figures/budget.md").read_bytes()
    conduct(Budget(), small("replot=true"), Folders(tmp_path / "results", tmp_path / "figures"))
    assert (tmp_path / "figures/budget.md").read_bytes() == page


@pytest.mark.parametrize(
    ("score", "loss", "seconds", "words"),
    [
        (0.5, 0.3, 1.0, None), (0.0, np.nan, 1.0, None), (0.5, np.nan, 1.0, "score: must be 0"),
        (-0.1, 0.3, 1.0, "score: must be finite"), (np.nan, 0.3, 1.0, "score: must be finite"),
        (0.5, -1.0, 1.0, "test_loss"), (0.5, np.inf, 1.0, "test_loss"), (0.5, 0.3, 0.0, "seconds"),
    ],
)  # fmt: skip
def test_values_that_no_run_gives_are_refused(small, score, loss, seconds, words):
    values = {"score": score, "test_loss": loss, "seconds": seconds, "ratio": 1.0, "unit": 1.0}
    arrays = {name: np.array([value]) for name, value in values.items()}
    if words is None:
        Budget().check(None, arrays, small())
        return
    with pytest.raises(ValueError, match=words):
        Budget().check(None, arrays, small())
