"""The search for a rate: it ends where the value is the target, or says why there is none."""

import math

import pytest

from lora_theory.train.reaching import reach


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("target", [1e-6, 1.0, 300.0])
@pytest.mark.parametrize("near", [-40.0, -16.0, 5.0])
def test_a_rate_is_found_from_anywhere(power, target, near):
    at = reach("η", "kappa", target, lambda rate: (50 * rate) ** power, near)
    assert abs(math.log2((50 * 2**at) ** power / target)) < 0.06


@pytest.mark.parametrize("near", [-16.0, -3.0, 6.0])
def test_where_training_overshoots_or_diverges(near):
    """rate · e^−rate has its largest value, 1/e, at 1; beyond 20 all is lost."""

    def value(rate):
        return rate * math.exp(-rate) if rate < 20 else math.nan

    at = reach("η", "step", 0.2, value, near)
    assert value(2**at) == pytest.approx(0.2, rel=0.06)
    words = r"^step: must be below what some η reaches before the loss doubles, 0\.[23]"
    with pytest.raises(ValueError, match=words):
        reach("η", "step", 0.9, value, near)


@pytest.mark.parametrize("near", [-40.0, -16.0, 5.0])
def test_a_value_that_jumps_over_the_target(near):
    """Within an octave it is taken, beyond it is told."""

    def value(top):
        return lambda rate: 0.1 if rate < 0.01 else top

    at = reach("η", "kappa", 1.0, value(1.9), near)
    assert 0.01 <= 2**at < 0.0104
    words = r"^kappa: must be what some η gives, and not lie where it jumps, from 0.1 to 10 at"
    with pytest.raises(ValueError, match=words):
        reach("η", "kappa", 1.0, value(10.0), near)


@pytest.mark.parametrize("near", [-40.0, -16.0, 5.0])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3.0, "kappa: must be what some η gives .got 1, and more at any rate, 3 at η"),
        (0.0, "optimizer: must move the factor that η trains"),
        (-1.0, "optimizer: must move the factor that η trains"),
        (math.nan, "loss: must have a gradient in some layer"),
        (math.inf, "optimizer: must train at some η"),
    ],
)
def test_a_value_that_no_rate_changes(value, words, near):
    with pytest.raises(ValueError, match=f"^{words}"):
        reach("η", "kappa", 1.0, lambda rate: value, near)
