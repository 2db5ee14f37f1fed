"""How long the saddle holds: the linear map by itself."""

import math

import numpy as np
import pytest

from lora_theory.theory.escape import growth, steps_per_log


@pytest.mark.parametrize(("eta_a", "eta_b", "y"), [(0.3, 0.02, 1.5), (2.0, 3.0, -1.0)])
def test_the_growth_is_the_largest_eigenvalue_of_the_linear_map(eta_a, eta_b, y):
    """b' = b + η_b y s, s' = s + η_a ‖x‖² y b, with ‖x‖² = 7."""
    step = np.array([[1, eta_b * y], [7 * eta_a * y, 1]])
    assert growth(7 * eta_a * eta_b, y) == pytest.approx(np.linalg.eigvals(step).max())


def test_steps_are_those_that_bring_f_from_its_power_of_n_to_one():
    product, y, c_b, n = 0.04, 1.5, -0.5, 2.0**300
    steps = steps_per_log(c_b, product, y) * math.log(n)
    assert n**c_b * growth(product, y) ** (2 * steps) == pytest.approx(1)
    assert steps_per_log(-c_b, product, -y) == steps_per_log(c_b, product, y)


def test_what_does_not_grow_is_refused():
    with pytest.raises(ValueError, match="y: must be a target at which f grows"):
        steps_per_log(-0.5, 0.1, 0.0)
    with pytest.raises(ValueError, match="product: must be positive"):
        growth(0.0, 1.0)
