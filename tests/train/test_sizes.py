"""Sizes in powers of 2: what is exactly 0, what overflowed and what rounding hides."""

import jax.numpy as jnp
import numpy as np
import pytest

from lora_theory import LinearToy
from lora_theory.keys import seed_key
from lora_theory.train.layers import Layer, layers
from lora_theory.train.sizes import log2_rms, sizes_of

TINY, HUGE = np.finfo("float32").tiny, np.finfo("float32").max


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([3.0, -4.0], 0.5 * np.log2(12.5)),
        ([0.0, 0.0], -np.inf),
        ([HUGE, HUGE], 128.0),
        ([TINY, 0.0], -126.5),
        ([1.0, np.inf], np.inf),
        ([1.0, np.nan], np.inf),
    ],
)
def test_only_an_exact_0_is_minus_infinity_and_only_an_overflow_infinity(values, size):
    assert float(log2_rms(jnp.asarray(values, "float32"))) == pytest.approx(size, abs=1e-5)


def moved(by):
    """The sizes of an update of the linear toy by so much of its factors."""
    before, after = (LinearToy(16, init="both", key=seed_key(0)) for _ in range(2))
    (path,) = layers(before)
    layer = layers(before)[path]
    after.lora.lora_a[...], after.lora.lora_b[...] = (1 + by) * layer.a, (1 + by) * layer.b
    move = Layer(by * layer.a, by * layer.b, layer.scale)
    found = sizes_of(before, after, {path: move}, jnp.ones((16, 1)))
    return {name: float(value) for name, value in found.items()}


def test_contributions_as_small_as_rounding_are_none_and_those_of_the_layer_are():
    large, small = moved(0.5), moved(2.0**-20)
    f = large["f"] - 2 * np.log2(1.5)
    assert large["delta1"] == pytest.approx(f - 1, abs=1e-3)
    assert large["delta3"] == pytest.approx(f - 2, abs=1e-3)
    assert np.isnan(small["delta1"])
    assert small["delta1_Z_B"] == pytest.approx(f - 20, abs=1e-3)
    assert small["delta3_Z_B"] == pytest.approx(f - 40, abs=1e-3)
