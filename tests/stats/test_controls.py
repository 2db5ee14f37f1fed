"""The controls of a window: they hold where they must, and fail where the window is too poor."""

import numpy as np
import pytest

from lora_theory.stats.controls import Control, controls, family
from lora_theory.stats.places import EDGES

WIDTHS, SEEDS = (6, 9, 12), (36, 36, 18)
RATES = np.concatenate([[0.0], 2.0 ** np.arange(-12, 1)])


@pytest.mark.parametrize("key", range(2))
@pytest.mark.parametrize("truth", [None, (-1, 0), (-0.5, -0.5), (0, 0), (-1, 0.5)])
def test_controls_hold_on_a_good_window(truth, key):
    window = WIDTHS, (RATES, RATES), SEEDS, key
    (found,) = controls(*window, moves=(truth,), noise=0.2, resamples=8)
    assert found.missed == ()
    assert "as it must be" in str(found)


def test_controls_can_fail():
    good, flat = controls(WIDTHS, (RATES, RATES), SEEDS, moves=((-1, 0), None), resamples=8)
    wrong = good._replace(truth=(0.0, 0.0))
    assert any("eta_a" in miss for miss in wrong.missed)
    assert any("collapse A" in miss for miss in wrong.missed)
    assert not any("eta_b" in miss for miss in wrong.missed)
    assert "eta_a determined" in good._replace(truth=None).missed
    assert "eta_a undetermined" in flat._replace(truth=(-1.0, 0.0)).missed


def test_a_window_that_is_too_small_is_seen():
    small = RATES[5:9]
    (found,) = controls(WIDTHS, (small, small), SEEDS, moves=((-1, 0),), resamples=8)
    assert "eta_a undetermined" in found.missed
    assert found.scaling.exponents["eta_a"].status == "no optimum"


def test_the_family_is_what_it_says():
    truth, widths = (-1, 0.5), (6, 8)
    sweep = family(widths, (RATES, RATES), (3, 2), truth, 0, noise=0.0, scatter=0.0)
    assert [len(land.losses) for land in sweep.lands] == [3, 2]
    for n, land in zip(widths, sweep.lands, strict=True):
        a = np.log2(RATES[1:]) + 6 + (n - 7)
        b = np.log2(RATES[1:]) + 6 - 0.5 * (n - 7)
        for i, j in ((2, 3), (5, 5), (9, 4), (11, 11), (6, 10)):
            gone = a[i] > 2 or b[j] > 2 or a[i] + b[j] > 4
            found = np.log2(land.losses[:, i + 1, j + 1])
            if gone:
                assert np.isinf(found).all()
            else:
                least = min(a[i] ** 2 / 8, 3) + min(b[j] ** 2 / 8, 3)
                # Of a seed's own level: the same in every cell.
                level = (
                    np.log2(land.losses[:, 6, 6]) - min(a[5] ** 2 / 8, 3) - min(b[5] ** 2 / 8, 3)
                )
                np.testing.assert_allclose(found, np.minimum(level + least, 0))
        assert np.isfinite(land.losses[:, 0, 0]).all()
    flat = family(widths, (RATES, RATES), (3, 2), None, 0)
    assert np.isfinite(flat.lands[0].losses).all()


def test_noise_is_as_large_as_said():
    sweep = family((6,), (RATES, RATES), (400,), None, 0, noise=0.1)
    logs = np.log2(sweep.lands[0].losses)
    assert (logs - logs.mean(axis=(1, 2), keepdims=True)).std() == pytest.approx(0.1, rel=0.02)


def test_edges_of_flat_families_are_none():
    (found,) = controls(WIDTHS, (RATES, RATES), (6,) * 3, moves=(None,), resamples=5)
    assert isinstance(found, Control)
    assert {found.scaling.exponents[name].status for name in EDGES} == {"no fit"}
