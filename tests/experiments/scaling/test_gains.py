"""Gains: once for lines and figures, where there is a plane, and several widths."""

from types import SimpleNamespace

import numpy as np
import xarray as xr

from experiments.scaling.families import families
from experiments.scaling.gains import RULES, gains

DECIDE = SimpleNamespace(curve="test_loss", t=5, quantile=0.5, resamples=4, confidence=0.5)
CFG = SimpleNamespace(decide=DECIDE)
RATES = 2.0 ** np.arange(-6.0, 1)


def data(over, plane=True):
    """A basin around n η_A = 2^−1, η_B = 2^−3 for n = 2, 4; the loss at t = 0 is 4."""
    sizes = {"n": [2, 4], "r": [1]} if over == "n" else {"n": [4], "r": [1, 2]}
    a, b = np.log2(RATES)[:, None], np.log2(RATES)
    last = [2 ** (0.1 * ((a + np.log2(n) + 1) ** 2 + (b + 3) ** 2)) for n in sizes["n"]]
    at = {"optimizer": ["gd"], "init": ["A"], "gamma": [0.0], "rho": [0.0], **sizes}
    at |= {"seed": range(6), "eta_a": RATES, "eta_b": RATES, "eta": RATES, "step": [0, 5]}
    found = xr.Dataset(coords=at)
    shape = (1, 1, len(sizes["r"]), 1, 1, len(sizes["n"]), 6)
    stacked = ("optimizer", "init", "r", "gamma", "rho", "n", "seed")
    found["ran"] = (stacked, np.ones(shape, bool))
    losses = np.stack([np.full((len(last), 7, 7), 4.0), np.array(last)], axis=-1)
    losses = np.broadcast_to(losses[:, None], (*shape, 7, 7, 2))
    for curve in ("train_loss", "test_loss"):
        if plane:
            found[curve] = ((*stacked, "eta_a", "eta_b", "step"), losses)
        k = np.arange(7)
        found[f"line_{curve}"] = ((*stacked, "eta", "step"), losses[..., k, k, :])
    return found


def test_every_width_is_searched_and_two_rates_carry_without_a_loss():
    (family,) = families(data("n"))
    found = gains(family, CFG)
    assert [len(at) for at in (found.searches, found.speed_ups, found.larger)] == [2, 2, 2]
    assert [list(search.trials) for search in found.searches] == [list(range(1, 8))] * 2
    sides = [(at.larger, at.equal, at.smaller) for at in found.larger]
    assert sides == [(0, 0, 6), (0, 6, 0)]  # η_A* = 2^−2, then 2^−3; η_B* = 2^−3
    assert list(found.transfers) == list(RULES)
    _, _, (steep,), (kept,) = found.transfers.values()
    assert float(kept.lost.mean) == 0
    assert float(steep.lost.mean) > 0


def test_a_line_alone_has_no_gain_and_no_rule_of_two_rates():
    (family,) = families(data("n", plane=False))
    found = gains(family, CFG)
    assert (found.searches, found.speed_ups, found.larger) == ((), (), ())
    assert list(found.transfers) == [name for name, rule in RULES.items() if rule.shared]


def test_ranks_have_neither():
    (family,) = families(data("r"))
    assert gains(family, CFG) == ((), (), (), {}, ())


def test_wider_nets_are_compared_at_carried_rates():
    """n = 2 has its best at η_A = 2^−2; at n = 4 that is carried to 2^−3, the best there."""
    (family,) = families(data("n"))
    (found,) = gains(family, CFG).wider
    assert found.log2_widths == (1.0, 2.0)
    assert (found.share, found.seeds) == (0.0, (0, 3))  # The same loss is not a lower one.
    better = data("n")
    better["test_loss"] = better.test_loss.copy()
    better.test_loss[{"n": 1, "step": 1}] *= 0.5
    (family,) = families(better)
    (found,) = gains(family, CFG).wider
    assert (found.share, found.seeds) == (1.0, (3, 3))
