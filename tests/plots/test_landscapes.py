"""Figures: whole files that are not blank, and drawn arrays that equal the saved ones."""

import functools
import json

import numpy as np
import pytest
import xarray
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread
from plots.readable import assert_readable, shown_texts

from lora_theory.plots.landscapes import figure2, judges_figure
from lora_theory.plots.maps import DIVERGED, PAIRS, PUBLISHED, SET
from lora_theory.plots.style import save
from lora_theory.stats import landscapes, optima
from lora_theory.stats.landscapes import JUDGES, Judge, landscape

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


@functools.cache
def drawn():
    """The figure that most tests look at."""
    return figure2(results(), early=10, late=STEPS, published={"best": (1.29e-4, 2.78)})


ODD = {
    "late": {"late": STEPS + 1},
    "early": {"early": -1},
    "curve": {"curve": "loss"},
    "early_cap": {"early_cap": 0.0},
    "late_cap": {"late_cap": np.nan},
    r"published\['x'\]": {"published": {"x": (0, 1)}},
    "judge": {"judge": "median"},
}


@pytest.mark.parametrize("name", ODD)
def test_what_can_not_be_drawn_is_named(name):
    with pytest.raises(ValueError, match=f"^{name}: must be "):
        figure2(results(), **({"early": 1, "late": 2} | ODD[name]))


def test_a_rate_of_0_has_no_place_on_a_logarithmic_axis():
    alone = results().assign_coords(eta_a=[0.0, *RATES[1:]])
    for draw in (
        lambda: figure2(alone, early=1, late=2),
        lambda: judges_figure(alone, curve="test_loss", t=2),
    ):
        with pytest.raises(ValueError, match=r"rates: must be above 0 .* \(got 0\)"):
            draw()


def meshes(figure):
    return [
        mesh
        for sub in figure.subfigs
        for ax in sub.axes
        for mesh in ax.collections
        if isinstance(mesh, QuadMesh) and mesh.get_array().size == POINTS**2
    ]


@pytest.mark.parametrize("q", [0.5, 0.75])
def test_the_maps_are_the_quantiles_of_the_saved_arrays(q):
    saved = results()
    found = meshes(figure2(saved, early=10, late=STEPS, judge=Judge(q)))
    assert len(found) == 4
    wanted = [("train_loss", 10), ("test_loss", 10), ("train_loss", STEPS), ("test_loss", STEPS)]
    for name, t in wanted:
        values = np.nan_to_num(saved[name].values[..., t].astype(np.float64), nan=np.inf)
        expected = np.sort(values, axis=0)[1 if q == 0.5 else 2].T  # Of three seeds.
        matching = [
            mesh
            for mesh in found
            if np.array_equal(
                np.ma.filled(mesh.get_array().reshape(POINTS, POINTS), np.inf), expected
            )
        ]
        assert len(matching) == 1, (name, t)


def test_train_and_test_share_one_stated_colour_scale():
    found = meshes(figure2(results(), early=10, late=STEPS, late_cap=0.5))
    norms = {(m.norm.vmin, m.norm.vmax) for m in found}
    assert len(norms) == 2
    assert 0.5 in {high for _, high in norms}


def pairs_of(saved, judge=JUDGES[0]):
    land = landscape(saved, "test_loss", STEPS)
    judged = judge.judge(land.losses)
    return landscapes.best_pair(land, judged), landscapes.best_equal_pair(land, judged)


def test_the_curves_are_the_saved_arrays():
    saved = results()
    panels = [ax for ax in drawn().subfigs[1].axes if ax.get_ylabel()]
    for ax, name in zip(panels, ("train_loss", "test_loss"), strict=True):
        lines = [line.get_ydata() for line in ax.lines]
        for cell in pairs_of(saved):
            curves = saved[name].values[:, cell.i, cell.j].astype(np.float64)
            for expected in (np.median(curves, axis=0), *curves):
                assert any(np.allclose(expected, line, rtol=1e-6) for line in lines)
        inset = ax.child_axes[0]
        assert inset.get_xlim() == (STEPS - STEPS // 10, STEPS)


def panel(figure, title):
    return next(ax for ax in figure.subfigs[0].axes if ax.get_title() == title)


def outlines(ax, colour):
    """The ends of all pieces of the outlines of one colour."""
    found = [
        lines
        for lines in ax.collections
        if isinstance(lines, LineCollection) and to_hex(lines.get_colors()[0]) == colour
    ]
    return [piece for lines in found for piece in lines.get_segments()]


def test_the_marks_are_where_they_should_be():
    saved = results()
    ax = panel(drawn(), f"test loss, t = {STEPS}")
    for key, cell in zip(PAIRS, pairs_of(saved), strict=True):
        marks = [line for line in ax.lines if line.get_color() == PAIRS[key][0]]
        assert [(m.get_xdata()[0], m.get_ydata()[0]) for m in marks] == [(cell.eta_a, cell.eta_b)]
    (ring,) = [line for line in ax.lines if line.get_color() == PUBLISHED]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (1.29e-4, 2.78)
    diagonal = next(line for line in ax.lines if line.get_linestyle() == "--")
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


@pytest.mark.parametrize("seeds", [3, 20])
def test_the_set_of_cells_is_outlined_where_there_are_seeds_enough(seeds):
    saved = results(seeds=seeds)
    ax = panel(figure2(saved, early=10, late=STEPS), f"test loss, t = {STEPS}")
    pieces = outlines(ax, SET)
    found = optima.unbeaten(landscape(saved, "test_loss", STEPS).losses, JUDGES[0])
    assert (found is None) == (seeds == 3)
    if found is None:
        assert pieces == []
        return
    # As many pieces as there are neighbours on different sides, the grid's outside being out.
    padded = np.pad(found, 1).astype(int)
    assert len(pieces) == sum(int(np.abs(np.diff(padded, axis=axis)).sum()) for axis in (0, 1))


def test_the_legend_says_that_few_seeds_have_no_interval():
    for seeds, expected in ((3, True), (6, False)):
        figure = figure2(results(seeds=seeds), early=10, late=STEPS)
        words = [text.get_text() for legend in figure.subfigs for text in legend.legends[0].texts]
        assert any("no interval" in word for word in words) is expected


@pytest.mark.parametrize(("seeds", "said"), [(3, "3 seeds: no set"), (6, "hold all optima")])
def test_the_legend_of_the_judges_names_sets_only_where_there_are_some(seeds, said):
    figure = judges_figure(results(seeds=seeds), curve="test_loss", t=STEPS)
    words = [text.get_text() for text in figure.axes[5].get_legend().texts]
    assert any(word.startswith(said) for word in words)
    assert ("the same for one rate" in words) == (seeds == 6)


def test_the_cloud_shows_where_the_best_cell_jumps():
    saved = results(seeds=8)
    figure = judges_figure(saved, curve="test_loss", t=STEPS)
    land = landscape(saved, "test_loss", STEPS)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:5] == [*map(str, JUDGES), "mean, as in the paper"]
    for ax, judge in zip(figure.axes, (*JUDGES, None), strict=False):
        shares = optima.cloud(land.losses, judge)
        (discs,) = [c for c in ax.collections if isinstance(c, PathCollection)]
        areas = discs.get_sizes()
        assert areas.sum() == pytest.approx(areas.max() * shares.sum() / shares.max())
        i, j = np.nonzero(shares)
        np.testing.assert_array_equal(discs.get_offsets(), np.stack([RATES[i], RATES[j]], axis=1))


def test_the_files_exist_and_are_not_blank(tmp_path):
    png, pdf = save(drawn(), tmp_path / "fig2_mse", dpi=120)
    image = imread(png)[..., :3]
    assert image.shape[0] > 250
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
    face = np.array(to_rgb(DIVERGED["facecolor"]), np.float32)
    assert np.isclose(image, face, atol=2e-3).all(axis=-1).mean() > 0.02  # Between the hatches.
    assert pdf.read_bytes().startswith(b"%PDF")
    assert pdf.stat().st_size > 5000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fig2_mse.pdf", "fig2_mse.png"]


@pytest.mark.slow
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
    both = figure2(odd, early=10, late=STEPS), judges_figure(odd, curve="test_loss", t=STEPS)
    for name, figure in zip(("figure2.png", "judges.png"), both, strict=True):
        assert_readable(figure)
        figure.savefig(tmp_path / name, dpi=40)
        assert (tmp_path / name).stat().st_size > 1000


def words(figure):
    return [words for words, _ in shown_texts(figure)]


def test_where_all_diverged_every_panel_says_so_and_no_scale_is_made_up():
    saved = results(points=4, scale=np.nan)
    both = figure2(saved, early=10, late=STEPS)
    assert words(both).count("diverged everywhere") == 4 + 2
    assert not [w for w in words(both) if w.startswith("loss, capped") or w == "single seeds"]
    judges = words(judges_figure(saved, curve="test_loss", t=STEPS))
    assert judges.count("diverged everywhere") == len(JUDGES)
    assert judges.count("every cell lost a seed") == 1
    trained = words(drawn())
    assert "diverged everywhere" not in trained
    assert sum(w.startswith("loss, capped") for w in trained) == 2


@pytest.mark.parametrize(("least", "said"), [(1e-3, False), (1e-12, True)])
def test_the_colour_bar_says_that_lower_losses_look_alike(least, said):
    saved = results(points=4, diverged=False)
    for name in ("train_loss", "test_loss"):
        saved[name].values[..., 1:] = 0.5
        saved[name].values[:, 0, 0, 1:] = least
    figure = figure2(saved, early=10, late=STEPS)
    assert_readable(figure)
    bars = [w for w in words(figure) if w.startswith("loss, capped")]
    assert [w.split("\n")[1:] for w in bars] == [["and below 5e-07 as that"] * said] * 2


@pytest.mark.parametrize("exponent", [0, -3, -4, -6, -11, 8])
@pytest.mark.parametrize("factor", [1.0, 7.7])
def test_labels_of_the_zoom_stay_within_the_panel(exponent, factor):
    saved = results(points=3, seeds=1, diverged=False, scale=factor * 10.0**exponent)
    figure = figure2(saved, early=10, late=STEPS)
    found = 0
    for ax in figure.subfigs[1].axes:
        for inset in ax.child_axes:
            low, high = sorted(inset.get_ylim())
            for tick in inset.yaxis.get_major_ticks():
                if low <= tick.get_loc() <= high:
                    assert tick.label2.get_window_extent().x1 < ax.get_window_extent().x1
                    found += 1
    assert found >= 2


@pytest.mark.parametrize("seeds", [3, 20])
@pytest.mark.parametrize("loss", ["mse", "all_pairs"])
def test_the_figures_can_be_read_on_a_page(seeds, loss):
    saved = results(points=19, seeds=seeds, loss=loss)
    published = {"best": (1.29e-4, 2.78)}
    assert_readable(figure2(saved, early=10, late=STEPS, published=published))
    assert_readable(judges_figure(saved, curve="test_loss", t=STEPS))


def test_losses_over_many_decades_can_be_read():
    """As of a model that learns its task to the last bit."""
    saved = results(points=8, seeds=1, diverged=False)
    for name in ("train_loss", "test_loss"):
        saved[name].values[:] = np.maximum(saved[name].values ** 9, 3e-14)
    figure = figure2(saved, early=10, late=STEPS)
    assert_readable(figure)
    insets = [child for ax in figure.subfigs[1].axes for child in ax.child_axes]
    assert insets
    assert all(not inset.yaxis.get_offset_text().get_text() for inset in insets)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [("gd", "full-batch gradient descent"), ("adam", "full-batch Adam"), ("mine", "mine")],
)
def test_the_title_names_the_optimizer_and_how_many_seeds(optimizer, said):
    saved = results(points=2, seeds=1)
    saved.attrs["config"] = json.dumps(CONFIG | {"optimizer": {"name": optimizer}})
    title = figure2(saved, early=1, late=2).get_suptitle()
    assert f", {said}; median of 1 seed; " in title


@pytest.mark.parametrize(("early", "late"), [(0, 1), (1, 1), (10, 5), (40, 40)])
def test_any_pair_of_times_is_drawn(early, late):
    figure = figure2(results(), early=early, late=late)
    titles = [ax.get_title() for ax in figure.subfigs[0].axes if ax.get_title()]
    shown = [min(early, late), late]
    assert sorted(titles) == sorted(f"{n} loss, t = {t}" for n in ("train", "test") for t in shown)
