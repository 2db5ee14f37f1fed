"""The coordinate check: one piece of all inits and scalings, and what it says of a LoRA layer."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.landscape.experiment import TaskConfig
from experiments.scaling import coordinates
from experiments.scaling.coordinates import INITS, SCALINGS, CoordinatesConfig

ASKED = CoordinatesConfig(
    model="feature_layer",
    task=TaskConfig(name="sine", n_train=8, n_test=1),
    optimizer="sign",
    rank=2,
    gamma=0.0,
    widths=(32, 128, 512),
    seeds=4,
    steps=1,
    eta=0.0625,
)


@pytest.fixture(scope="module")
def sizes():
    cfg = SimpleNamespace(
        coordinates=ASKED, adam_eps=1e-17, seeds_of=lambda asked: range(asked.seeds)
    )
    return coordinates.measure(cfg)


def test_the_piece_fits_its_layout(sizes):
    made = coordinates.layout(ASKED, range(ASKED.seeds))
    made.check()
    made.fits(sizes)


def slope(sizes, name, init, scaling, t):
    logs = sizes[name][
        INITS.index(init) * len(SCALINGS) + list(SCALINGS).index(scaling), ..., t - 1
    ]
    return (logs.mean(axis=1)[-1] - logs.mean(axis=1)[0]) / 4


@pytest.mark.parametrize(
    ("name", "init", "t", "exponents"),
    [("dZ_A", "B", 1, (0.5, 0, 0)), ("dB", "A", 1, (-0.5, -1, 0)), ("dA", "B", 1, (-0.5, -1, -1))],
)
def test_sizes_scale_as_the_rates_say(sizes, name, init, t, exponents):
    found = [slope(sizes, name, init, scaling, t) for scaling in SCALINGS]
    np.testing.assert_allclose(found, exponents, atol=0.1)


def test_the_factor_above_one_that_is_zero_does_not_move_at_first(sizes):
    first = len(SCALINGS)
    assert np.isneginf(sizes["dA"][:first, ..., 0]).all()
    assert np.isneginf(sizes["dB"][first:, ..., 0]).all()
    assert np.isfinite(sizes["dA"][first:]).all()
