"""What is trained in vectors: the same whatever is trained beside it, with seeds of its own."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from experiments import registry
from experiments.claims import vectors
from experiments.claims.experiment import ClaimsConfig
from experiments.lab.command_line import load
from lora_theory.terms import Setting

NO, ONE = Fraction(0), Fraction(-1)
TINY = [
    "constants.scales=[0.2,2]",
    "constants.ratios=[1,16]",
    "widths=[8,16,32]",
    "seeds.layer=3",
    "steps=3",
]


@pytest.fixture(scope="module")
def cfg():
    return load("claims", ClaimsConfig, TINY)


@pytest.mark.slow
def test_sizes_are_those_of_constants_widths_seeds_and_steps(cfg):
    found = vectors.measure(Setting("layer", "sign", "A", ONE, NO), cfg)
    assert {"f", "Z_A", "dB", "delta1", "delta2_Z_B"} <= found.keys()
    assert {values.shape for values in found.values()} == {(4, 3, 3, 3)}
    assert np.isneginf(found["delta1"][..., 0]).all()  # B = 0 at the start.
    assert np.isfinite(found["delta1"][..., 1]).all()


@pytest.mark.slow
def test_a_pair_of_constants_gives_the_same_alone_as_with_others(cfg):
    setting = Setting("layer", "sign", "B", ONE, NO)
    constants = dataclasses.replace(cfg.constants, scales=(2.0,), ratios=(1.0,))
    one = dataclasses.replace(cfg, constants=constants)
    at = cfg.constants.pairs.index(one.constants.pairs[0])
    among, alone = vectors.measure(setting, cfg), vectors.measure(setting, one)
    for name, values in alone.items():
        np.testing.assert_allclose(values[0], among[name][at], rtol=1e-6, atol=1e-5)
    assert not np.allclose(alone["f"][0], among["f"][1 - at], atol=1e-2)  # Control.


def test_rates_are_powers_of_n_at_the_given_constants():
    rates = vectors.rates(Setting("layer", "gd", "A", Fraction(-1, 2), Fraction(1, 4)), 0.5, 3.0)
    assert rates(16) == pytest.approx((0.5 / 4, 3.0 * 2))
    assert rates(256) == pytest.approx((0.5 / 16, 3.0 * 4))


@pytest.mark.parametrize(("init", "factors"), [("A", (1, 0)), ("B", (0, 1)), ("both", (1, 1))])
def test_an_init_leaves_what_is_random_of_both(init, factors):
    assert vectors.start(init)(64) == vectors.start(init)(128) == factors


def test_the_seeds_of_a_setting_follow_from_its_name_alone():
    """The same in every process and version of Python."""
    assert vectors.own_seeds([0, 1, 7], "map, gd") == [322347603, 322347604, 322347610]
    assert vectors.own_seeds([2**31 - 1], "any") == [2**31 - 1]
    assert vectors.own_seeds(range(4), "a") != vectors.own_seeds(range(4), "b")


@pytest.mark.parametrize("name", registry.PROBES)
def test_every_probe_can_be_set_up_with_both_factors_drawn(name):
    from lora_theory.keys import seed_key

    model, x, y = vectors.setup(name, {**registry.PROBES[name].task_options})(8, seed_key(0))
    assert np.asarray(model.lora.lora_a[...]).any()
    assert np.asarray(model.lora.lora_b[...]).any()
    assert model(x).shape == y.shape
