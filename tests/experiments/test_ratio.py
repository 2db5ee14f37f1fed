"""The suggested λ on toys: what decides, a small run from end to end, what is said of it."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from experiments.ratio import Piece, Ratio, RatioConfig, _cells, _fell, judged, lines
from lora_theory.store.dataset import Results

SMALL = [
    "widths=[8,16,32]", "rank=2", "task.n_train=8", "task.n_test=8", "steps=6", "seeds=2", "dpi=30",
    "probing=3", "judge.resamples=100", "judge.control=4", "log4_ratios=[-1,1]", "~toys.two_layer",
    "~toys.two_layer_init1", "~toys.two_layer_init2", "toys.layer_init1.log2_rates=[-6,-4]",
    "toys.layer_init2.log2_rates=[-6,-4]",
]  # fmt: skip


def config(*overrides):
    return load("ratio", RatioConfig, list(overrides))


def test_what_decides_stands_in_the_config():
    """Seeds are none of those on whose maps κ and step were chosen."""
    cfg = config()
    assert (cfg.widths, cfg.steps, cfg.seeds) == ((64, 256, 1024), 200, tuple(range(100, 124)))
    judge = cfg.judge
    assert (judge.margin, judge.control, judge.confidence) == (0.05, 4096, 0.95)
    probed = {name: (toy.optimizer, toy.kappa, toy.step) for name, toy in cfg.toys.items()}
    adam, descent = ("adam", 4.0, 0.05), ("gd", 0.3, 0.5)
    assert list(probed.values()) == [adam, adam, descent, descent, descent]
    assert cfg.ratios.tolist() == [4.0**k for k in range(-3, 8)]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("widths=[64,256]", "widths: must be at least three"),
        ("rank=65", "rank: must be at most the least width = 64"),
        ("toys.two_layer.log2_rates=[-9,1]", "toys: must have log2_rates of one length"),
        ("log4_ratios=[1,3]", "log4_ratios: must have 0"),
        ("toys.two_layer.optimizer=muon", "toys.two_layer.optimizer: must be one of"),
        ("toys.two_layer.kappa=0", "toys.two_layer.kappa: must be"),
        ("judge.control=3", "judge.control: must be an integer from 4"),
    ],
)
def test_what_can_not_be_run_is_refused(override, words):
    with pytest.raises(ConfigError, match=f"^{words}"):
        config(override)


def test_cells_have_the_ratio_and_the_mean_rate_that_they_say():
    cells = _cells(np.array([1.0, 16.0]), np.array([0.5, 2.0]))
    np.testing.assert_allclose(cells[:, 1] / cells[:, 0], [1, 1, 16, 16])
    np.testing.assert_allclose(np.sqrt(cells.prod(axis=1)), [0.5, 2, 0.5, 2])


def test_what_diverged_or_rose_fell_by_nothing():
    found = _fell(np.full(4, 1.0), np.array([0.01, 2.0, np.nan, np.inf]))
    np.testing.assert_allclose(found, [2, 0, 0, 0])


@pytest.mark.slow
def test_a_small_run_from_end_to_end(tmp_path):
    cfg, folders = config(*SMALL), Folders(tmp_path / "results", tmp_path / "figures")
    conduct(Ratio(), cfg, folders)
    data = Results.load(tmp_path / "results/ratio.npz").to_xarray()
    assert data.score.shape == (2, 3, 2, 3, 3)
    again = Ratio().run(Piece("layer_init2", 16, 1), cfg)
    for name in ("score", "beside", "untuned", "log2_rate"):
        stored = data[name].sel(toy="layer_init2", n=16, seed=1)
        np.testing.assert_array_equal(again[name][0], stored)
    # With λ as suggested and a rate as suggested it is what untuned is.
    page = (tmp_path / "figures/ratio.md").read_text()
    assert page.startswith("# The suggested λ on toys, over widths\n")
    assert page.count("| one layer, Adam, Init[") == 6
    written = {path.name for path in tmp_path.rglob("*.*") if not path.name.startswith(".")}
    assert written == {f"ratio.{kind}" for kind in ("npz", "md", "png", "pdf")}


def data(cfg, suggested=1.0, control=0.5):
    """Scores of 1 at all λ, but for what lies beside the suggested λ; λ = n / 8."""
    seeds, places = 12, len(cfg.log2_rates("layer_init1"))
    cells = (len(cfg.toys), len(cfg.widths), seeds)
    noise = 0.001 * np.random.default_rng(0).random((*cells, len(cfg.ratios), places))
    beside = np.broadcast_to(np.array([suggested, control, 1.0])[:, None], (*cells, 3, places))
    logs = np.zeros((*cells, 2))
    logs[..., 0] = -np.log2(cfg.widths)[:, None]
    logs[..., 1] = -3
    each = ("toy", "n", "seed")
    return xr.Dataset(
        {
            "score": ((*each, "ratio", "place"), 1 + noise),
            "beside": ((*each, "times", "place"), beside),
            "untuned": (each, np.full(cells, suggested)),
            "log2_rate": ((*each, "factor"), logs),
        },
        {"toy": list(cfg.toys), "n": list(cfg.widths), "seed": range(seeds),
         "ratio": cfg.ratios, "factor": ["A", "B"]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(1.3, "better"), (0.7, "worse"), (1.01, "no difference beyond the margin")],
)
def test_a_verdict_is_what_scores_say(score, verdict):
    cfg = config(*SMALL)
    said = "\n".join(_said(data(cfg, score, control=score - 0.3), cfg))
    assert (
        f"the suggested λ against λ = 1: **{verdict}** on one layer, Adam, Init[1], n = 8;" in said
    )
    assert said.count(f"**{verdict}**") == 7
    assert "must be worse. It is." in said
    assert "η_A −1.000 ± 0.000, η_B +0.000 ± 0.000, λ +1.000 ± 0.000" in said
    assert "| 1 (1, 1) |" in said


def test_a_control_that_is_as_good_is_said():
    cfg = config(*SMALL)
    assert "**Not seen** on one layer, Adam, Init[1], n = 8;" in "\n".join(
        _said(data(cfg, control=1.0), cfg)
    )


def test_a_best_rate_at_the_border_is_said():
    """Here the first of equal rates counts as the best."""
    said = "\n".join(_said(data(config(*SMALL)), config(*SMALL)))
    assert "beyond the grid of" in said
    assert "the suggested λ (one layer, Adam, Init[1], n = 8)" in said
    inside = data(config(*SMALL))
    for name in ("score", "beside"):
        inside[name] = inside[name] + xr.DataArray([0, 0.1, 0], dims="place")
    assert "beyond the grid of" not in "\n".join(_said(inside, config(*SMALL)))


def test_a_wider_margin_finds_no_difference():
    cfg = config(*SMALL, "judge.margin=0.5")
    said = "\n".join(_said(data(cfg, 1.3), cfg))
    assert said.count("**no difference beyond the margin**") == 7


def _said(results, cfg):
    found = {toy: [judged(results, toy, n, cfg) for n in cfg.widths] for toy in cfg.toys}
    return lines(found, results, cfg)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, None), ({"score": -0.1}, "score"), ({"beside": np.nan}, "beside"),
        ({"untuned": np.inf}, "untuned"), ({"log2_rate": np.nan}, "log2_rate"),
    ],
)  # fmt: skip
def test_values_that_no_run_gives_are_refused(changed, words):
    values = {"score": 1.0, "beside": 1.0, "untuned": 0.0, "log2_rate": -3.0} | changed
    arrays = {name: np.array([value]) for name, value in values.items()}
    if words is None:
        Ratio().check(None, arrays, config())
        return
    with pytest.raises(ValueError, match=f"^{words}: must be finite"):
        Ratio().check(None, arrays, config())


def test_a_wide_seed_list_changes_nothing_of_a_piece():
    """Pieces do not know of one another."""
    cfg = config(*SMALL)
    more = dataclasses.replace(cfg, seeds=(0, 1, 2))
    assert set(Ratio().plan(cfg)[0].pieces) < set(Ratio().plan(more)[0].pieces)
    costs = [Ratio().core_seconds(p, cfg) for p in Ratio().plan(cfg)[0].pieces.values()]
    assert min(costs) > 0
    assert costs[0] <= costs[-1]
