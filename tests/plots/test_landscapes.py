"""Figures: whole files that are not blank, and plotted arrays that equal the saved ones."""

import json

import numpy as np
import pytest
import xarray
from matplotlib.collections import QuadMesh
from matplotlib.image import imread

from lora_theory.plots.landscapes import figure2
from lora_theory.plots.style import save
from lora_theory.stats import landscapes

POINTS, SEEDS, STEPS = 7, 3, 40
RATES = np.geomspace(1e-4, 10, POINTS)
CONFIG = {
    "loss": "mse",
    "model": {"name": "two_layer", "width": 20},
    "task": {"n_train": 50},
    "optimizer": {"name": "gd"},
}


def results(points=POINTS, seeds=SEEDS, *, diverged=True, loss="mse", scale=1.0):
    """A grid of decaying curves with a diverged corner."""
    rates = np.geomspace(1e-4, 10, points)
    speed = np.log10(rates[:, None] * 1e5) + 2 * np.log10(rates[None, :] * 1e5)
    t = np.arange(STEPS + 1)
    noise = 1 + 0.1 * np.random.default_rng(0).random((seeds, points, points, 1))
    train = scale * noise * np.exp(-0.01 * speed[None, ..., None] * t)
    diverged_at = np.full((seeds, points, points), -1)
    if diverged:
        diverged_at[:, points - 2 :, :] = 12
        diverged_at[0, 0, -1] = 5
    train[(diverged_at[..., None] >= 0) & (t >= diverged_at[..., None])] = np.nan
    train = train.astype(np.float32)
    dims = ("seed", "eta_a", "eta_b", "step")
    return xarray.Dataset(
        {
            "train_loss": (dims, train),
            "test_loss": (dims, 1.1 * train),
            "diverged_at": (dims[:3], diverged_at),
        },
        {"seed": np.arange(seeds), "eta_a": rates, "eta_b": rates, "step": t},
        {"config": json.dumps(CONFIG | {"loss": loss})},
    )


def meshes(figure):
    return [
        mesh
        for sub in figure.subfigs
        for ax in sub.axes
        for mesh in ax.collections
        if isinstance(mesh, QuadMesh) and mesh.get_array().size == POINTS**2
    ]


def test_the_maps_are_the_saved_arrays():
    saved = results()
    drawn = meshes(figure2(saved, early=10, late=STEPS))
    assert len(drawn) == 4
    wanted = [("train_loss", 10), ("test_loss", 10), ("train_loss", STEPS), ("test_loss", STEPS)]
    for name, t in wanted:
        expected = saved[name].values[..., t].astype(np.float64).mean(axis=0).T
        matching = [
            mesh
            for mesh in drawn
            if np.array_equal(
                np.ma.filled(mesh.get_array().reshape(POINTS, POINTS), np.nan), expected, True
            )
        ]
        assert len(matching) == 1, (name, t)


def test_train_and_test_share_one_stated_colour_scale():
    drawn = meshes(figure2(results(), early=10, late=STEPS, late_cap=0.5))
    norms = {(m.norm.vmin, m.norm.vmax) for m in drawn}
    assert len(norms) == 2
    assert 0.5 in {high for _, high in norms}


def test_the_curves_are_the_saved_arrays():
    saved = results()
    figure = figure2(saved, early=10, late=STEPS)
    mean = landscapes.seed_mean(saved, "test_loss", STEPS)
    cells = landscapes.best_pair(saved, mean), landscapes.best_equal_pair(saved, mean)
    panels = [ax for ax in figure.subfigs[1].axes if ax.get_ylabel()]
    for ax, name in zip(panels, ("train_loss", "test_loss"), strict=True):
        lines = [line.get_ydata() for line in ax.lines]
        for cell in cells:
            curves = saved[name].values[:, cell.i, cell.j].astype(np.float64)
            for expected in (curves.mean(axis=0), *curves):
                assert any(np.allclose(expected, line, rtol=1e-6) for line in lines)
        inset = ax.child_axes[0]
        assert inset.get_xlim() == (STEPS - STEPS // 10, STEPS)


def test_the_marks_are_where_they_should_be():
    saved = results()
    figure = figure2(saved, early=10, late=STEPS)
    ax = next(a for a in figure.subfigs[0].axes if a.get_title() == f"test loss, t = {STEPS}")
    crosses = next(line for line in ax.lines if line.get_marker() == "+")
    i, j = np.nonzero(landscapes.near_best(landscapes.seed_mean(saved, "test_loss", STEPS)))
    np.testing.assert_array_equal(crosses.get_xdata(), RATES[i])
    np.testing.assert_array_equal(crosses.get_ydata(), RATES[j])
    diagonal = next(line for line in ax.lines if line.get_linestyle() == "--")
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


def test_the_files_exist_and_are_not_blank(tmp_path):
    figure = figure2(results(), early=10, late=STEPS)
    png, pdf = save(figure, tmp_path / "fig2_mse", dpi=60)
    image = imread(png)[..., :3]
    assert image.shape[0] > 250
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
    grey = np.array([0xC8 / 255] * 3, np.float32)
    assert np.isclose(image, grey, atol=2e-3).all(axis=-1).mean() > 0.02  # The diverged corner.
    assert pdf.read_bytes().startswith(b"%PDF")
    assert pdf.stat().st_size > 5000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fig2_mse.pdf", "fig2_mse.png"]


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        save(figure2(results(), early=10, late=STEPS), tmp_path / name, dpi=40)
    for kind in ("png", "pdf"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()


@pytest.mark.parametrize(
    "odd",
    [
        results(points=1, diverged=False),
        results(points=2),
        results(seeds=1),
        results(diverged=False, loss="all_pairs"),
        results(scale=0.0, diverged=False),
        results(scale=np.nan),
        results(scale=1e30),
    ],
    ids=["one cell", "two", "one seed", "all pairs", "zero loss", "all diverged", "huge"],
)
def test_odd_grids_are_drawn_without_warning(odd, tmp_path):
    figure = figure2(odd, early=10, late=STEPS)
    assert all(p.stat().st_size > 1000 for p in save(figure, tmp_path / "odd", dpi=40))


@pytest.mark.parametrize(("early", "late"), [(0, 1), (1, 1), (10, 5), (40, 40)])
def test_any_pair_of_times_is_drawn(early, late):
    figure = figure2(results(), early=early, late=late)
    titles = [ax.get_title() for ax in figure.subfigs[0].axes if ax.get_title()]
    shown = [min(early, late), late]
    assert sorted(titles) == sorted(f"{n} loss, t = {t}" for n in ("train", "test") for t in shown)
