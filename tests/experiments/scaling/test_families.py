"""Families: every combination once, with the seeds it has; what is lost stays lost."""

import numpy as np
import pytest
import xarray
from sweeps import LINE, STEPS, known

from experiments.scaling.families import families
from lora_theory.stats.landscapes import Landscape, Line, judged_alike


def only(data):
    (family,) = families(data)
    return family


def test_a_family_has_the_sizes_and_seeds_that_were_run():
    family = only(known(widths=(16, 32, 128), seeds=(8, 6, 5)))
    assert family.sizes.tolist() == [16, 32, 128]
    assert family.log2_sizes.tolist() == [4, 5, 7]
    assert family.seeds == (8, 6, 5)
    assert (family.over, family.other, family.plane) == ("n", 4, True)
    assert family.steps.tolist() == STEPS
    assert [family.until(t) for t in STEPS] == [0, 1, 2, 3]
    assert str(family) == "gd, both random"
    sweep = family.sweep("test_loss", 10)
    assert [land.losses.shape for land in sweep.lands] == [(s, 10, 9) for s in (8, 6, 5)]
    assert [line.losses.shape for line in sweep.shared] == [(s, len(LINE)) for s in (8, 6, 5)]


def test_what_has_diverged_is_infinite_and_what_was_not_run_is_not_there():
    data = known()
    family = only(data)
    for w, count in enumerate(family.seeds):
        land = family.land("test_loss", 10, w)
        saved = data.test_loss.isel(n=w, step=3).squeeze().values
        assert np.isfinite(land.start).all()
        np.testing.assert_array_equal(np.isinf(land.losses), np.isnan(saved[:count]))
        assert np.isinf(land.losses).any()
        assert np.isnan(saved[count:]).all()
        assert np.isfinite(family.land("test_loss", 0, w).losses).all()
    assert family.seeds[-1] < family.seeds[0]  # Control: one width does lack some.


def test_a_line_alone_is_a_plane_that_is_infinite_off_its_diagonal():
    data = known(plane=False)
    family = only(data)
    assert not family.plane
    sweep = family.sweep("train_loss", 10)
    for land, line in zip(sweep.lands, sweep.shared, strict=True):
        assert land.losses.shape[1:] == (len(LINE),) * 2
        np.testing.assert_array_equal(land.diagonal.losses, line.losses)
        off = ~np.eye(len(LINE), dtype=bool)
        assert np.isinf(land.losses[:, off]).all()
    both = only(known()).sweep("train_loss", 10)
    np.testing.assert_array_equal(both.shared[0].losses, sweep.shared[0].losses)


def grown(data, dim, values):
    """The same at several values of a dimension, each 1 more than the one before."""
    copies = [data.assign_coords({dim: [value]}) for value in values]
    for k, copy in enumerate(copies):
        copies[k] = copy.assign(test_loss=copy.test_loss + k)
    return xarray.concat(copies, dim, data_vars="all")


def test_every_combination_of_what_does_not_vary_is_a_family_over_widths():
    data = grown(grown(known(), "init", ["A", "B"]), "r", [4, 8])
    found = list(families(data))
    over = [(f.over, f.init, f.other) for f in found]
    assert over[:4] == [("n", init, r) for init in "AB" for r in (4, 8)]
    assert over[4:] == [("r", init, n) for init in "AB" for n in (16, 32, 64, 128)]
    base = only(known()).land("test_loss", 10, 2).losses
    for family in found[:4]:
        more = (family.init == "B") + (family.other == 8)
        np.testing.assert_allclose(family.land("test_loss", 10, 2).losses, base + more)
    last = found[-1]
    assert last.sizes.tolist() == [4, 8]
    assert last.seeds == (6, 6)  # Those of n = 128.
    assert str(last) == "gd, Init[2], multiplier 1, n = 128"


def test_one_width_and_one_rank_are_no_family():
    assert list(families(known(widths=(16,), seeds=(4,)))) == []


@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 2)])
def test_above_its_own_start_a_run_counts_as_diverged(shape):
    losses = np.full(shape, 2.0)
    losses[0] = 1.0
    start = np.array([1.0, 1.9, 2.0])
    rates = np.array([0.5, 1.0])
    of = Landscape(losses, start, rates, rates) if len(shape) == 3 else Line(losses, start, rates)
    found = judged_alike(of)
    assert [np.isinf(seed).all() for seed in found.losses] == [False, True, False]
    assert (of.losses < 3).all()


def test_curvature_is_of_the_seeds_that_every_width_has():
    data = known(seeds=(8, 8, 8, 6))
    outer = data.ran.dims
    ends = np.full((*data.ran.shape, 3, 2), np.nan)
    n, seeds = data.n.values[:, None], np.arange(8)
    with_seeds = np.where(seeds < 5, 1.0, np.nan)
    ends[0, 0, 0, 0, 0, :, :, 0, 1] = n * with_seeds  # A grows like n, B like 1,
    ends[0, 0, 0, 0, 0, :, :, 1, 1] = 4 * with_seeds
    ends[0, 0, 0, 0, 0, :, :, 2, 1] = n**0.5 * with_seeds
    ends[..., 0] = -7.0  # and the other end is not looked at.
    data["curvature"] = ((*outer, "block", "end"), ends)
    data = data.assign_coords(block=["A", "B", "both"], end=["least", "largest"])
    found = only(data).log2_curvature()
    widths = np.log2(data.n.values)[:, None] + np.zeros(5)
    for block, expected in {"A": widths, "B": 2, "both": widths / 2, "ratio": widths - 2}.items():
        np.testing.assert_allclose(found[block], np.broadcast_to(expected, (4, 5)))
    ends[..., 1, 1] = 0.0
    zero = only(data).log2_curvature()
    assert "ratio" not in zero
    assert np.isneginf(zero["B"]).all()
    assert only(known()).log2_curvature() == {}


def test_families_over_widths_that_differ_in_rank_have_names_of_their_own():
    data = grown(grown(grown(known(), "r", [4, 8]), "gamma", [0.0, 1.0]), "rho", [0.0, -1.0])
    names = [str(f) for f in families(data)]
    assert len(set(names)) == len(names)
    assert "gd, both random, r = 8, multiplier r^−1, B's variance 1" in names
    # Control: what does not vary is not said.
    assert [str(f) for f in families(known())] == ["gd, both random"]
