"""What counts as an array of numbers."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from lora_theory.stats.numbers import numbers


@pytest.mark.parametrize(
    "value", [[1, 2], (1.0, 2.0), np.array([1, 2]), jnp.array([1, 2], "bfloat16"), [Fraction(1), 2]]
)
def test_numbers_of_every_kind_are_float64(value):
    found = numbers("x", value)
    assert found.dtype == np.float64
    assert found.tolist() == [1.0, 2.0]


def test_infinities_and_nan_are_numbers_and_a_number_has_no_axis():
    assert numbers("x", [np.inf, -np.inf]).tolist() == [np.inf, -np.inf]
    assert numbers("x", 3, 0).shape == ()
    with pytest.raises(ValueError, match="x: must be numbers"):
        numbers("x", 3)


@pytest.mark.parametrize("value", ["1", ["1"], None, [None], [], [[1], [1, 2]], 1j, {}, object()])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"x: must be numbers, at least one \(got "):
        numbers("x", value, 0)
