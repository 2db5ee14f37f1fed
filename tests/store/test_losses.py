"""Curves that no training gives are refused, however many there are."""

import numpy as np
import pytest

from lora_theory.store import losses
from lora_theory.store.losses import check_diverged, check_losses

NAN, INF = np.nan, np.inf
GOOD = np.array([[[3, 2, 1], [3, 4, NAN]], [[2, NAN, NAN], [NAN, NAN, NAN]]], np.float32)
LENGTHS = np.array([[3, 2], [1, 0]])


@pytest.fixture(autouse=True, params=[1, 2**18])
def chunk(request, monkeypatch):
    monkeypatch.setattr(losses, "_CHUNK", request.param)


def test_curves_end_where_they_diverge():
    found = check_losses(["train_loss", "test_loss"], [GOOD, 2 * GOOD])
    np.testing.assert_array_equal(found, LENGTHS)
    check_diverged(np.array([[-1, 2], [1, 0]]), found, 3)


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ([3, -1, 1], "test_loss: negative"),
        ([3, INF, 1], "test_loss: infinite"),
        ([3, -INF, 1], "test_loss: negative"),
        ([3, NAN, 1], "test_loss: finite again"),
        ([3, NAN, NAN], "test_loss: diverged elsewhere than train_loss"),
    ],
)
@pytest.mark.parametrize("place", [(0, 0), (1, 1)])
def test_a_wrong_curve_is_refused_by_name(curve, said, place):
    wrong = GOOD.copy()
    wrong[place] = curve
    if "elsewhere" in said and place == (1, 1):
        wrong[place] = [1, NAN, NAN]
    with pytest.raises(ValueError, match=said):
        check_losses(["train_loss", "test_loss"], [GOOD, wrong])


def test_curves_that_are_zero_throughout_are_refused():
    with pytest.raises(ValueError, match="test_loss: zero throughout"):
        check_losses(["train_loss", "test_loss"], [GOOD, 0 * GOOD])
    with pytest.raises(ValueError, match="train_loss: zero throughout"):
        check_losses(["train_loss"], [np.zeros((2, 3))])
    check_losses(["train_loss"], [np.full((2, 3), NAN)])  # All diverged at t = 0, or none was run.


@pytest.mark.parametrize("place", [-1, -2, 0, 1, 3])
def test_where_it_diverged_follows_from_the_curves(place):
    with pytest.raises(ValueError, match="diverged_at: not where the curves diverge"):
        check_diverged(np.array([[-1, place], [1, 0]]), LENGTHS, 3)
