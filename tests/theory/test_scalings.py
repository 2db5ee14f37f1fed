"""How landscapes are predicted to move, derived once more: where runs are stable, from the
recursions; ranks, from the claims; curvature, from the sizes of what the gradients are made of.
"""

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import brentq

from lora_theory.terms import Verdict
from lora_theory.theory.claims import claims
from lora_theory.theory.exponents import classify, derive, efficient, shared
from lora_theory.theory.rules import LAYER_SIGN, LINEAR_GD, TWO_LAYER_GD, sized
from lora_theory.theory.scalings import SHARED, best_rank_law, moves, rank_law

HALF = Fraction(1, 2)
# The recursion in S = w B and Z_A of each family. Below a frozen W* gradient descent on the toy has
# that of the linear one, f = S Z_A; under the layer's Init[2] w B starts at n^−1/2.
RULES = {
    ("two_layer", "gd", "both"): (TWO_LAYER_GD, "both"),
    ("two_layer", "gd", "A"): (LINEAR_GD, "A"),
    ("two_layer", "gd", "B"): (LINEAR_GD, "B"),
    ("feature_layer", "sign", "A"): (LAYER_SIGN, "A"),
    ("feature_layer", "adam", "A"): (LAYER_SIGN, "A"),
    ("feature_layer", "sign", "B"): (LAYER_SIGN, sized("B", -HALF)),
    ("feature_layer", "adam", "B"): (LAYER_SIGN, sized("B", -HALF)),
}
ALONE = [family for family in RULES if moves(*family).alone]
STILL = -10  # An exponent at which nothing is seen to move.


def stable(rule, init, c_a, c_b):
    found = classify(rule, init, {"c_a": c_a, "c_b": c_b})
    return found.verdict is not Verdict.UNSTABLE


@pytest.mark.parametrize("family", RULES)
def test_an_edge_is_the_largest_stable_exponent(family):
    rule, init = RULES[family]
    places = moves(*family).places
    lines = {
        "edge A": lambda c: (c, STILL),
        "edge B": lambda c: (STILL, c),
        "edge equal": lambda c: (c, c),
    }
    for name, at in lines.items():
        if name not in places:  # The factor that would move never does: every rate is stable.
            assert stable(rule, init, *at(5)), name
            continue
        edge = places[name]
        assert stable(rule, init, *at(edge)), name
        assert not stable(rule, init, *at(edge + Fraction(1, 100))), name


@pytest.mark.parametrize("family", ALONE)
def test_a_collapse_is_where_training_is_efficient_and_stable_inside(family):
    c_a, c_b = moves(*family).collapse
    (region,) = efficient(*RULES[family])
    assert str(region.cell) == f"c_a = {c_a}, c_b = {c_b}"
    assert all(found != (c_a, c_b) for found in SHARED.values())


@pytest.mark.parametrize("update", ["sign", "adam"])
def test_under_init_2_the_layers_map_keeps_all_its_terms_at_root_n_alone(update):
    """w B₀ and w ΔB have one exponent, and f is Θ(1)."""
    family = "feature_layer", update, "B"
    rule, init = RULES[family]
    found = moves(*family)
    assert not found.alone  # Away from w B₀ the map is one of the product.

    def sizes(c_a, c_b):
        last = derive(rule, init, {"c_a": c_a, "c_b": c_b}, 4)[-1]
        return [last[name].gamma for name in ("f", "delta1", "delta2", "B")]

    assert sizes(*found.collapse) == [0, 0, 0, -HALF]
    assert sizes(-1, 0)[-1] == 0  # Controls: B leaves its start behind,
    assert sizes(-1, -1)[0] == -HALF  # or nothing is learned.


@pytest.mark.parametrize("family", RULES)
def test_places_follow_from_one_another(family):
    found = moves(*family)
    places = found.places
    assert places["edge equal"] == places["equal"]
    assert ("ratio" in places) == found.alone
    if found.alone:
        assert (places["eta_a"], places["eta_b"]) == found.collapse
        assert places["ratio"] == places["eta_b"] - places["eta_a"]
    assert found.source


@pytest.mark.parametrize("family", RULES)
def test_curvature_follows_from_the_sizes_at_the_start(family):
    """∂f/∂A = S Zᵀ and ∂f/∂B = w (A Z)ᵀ. Gradient descent: squares of these, n S² and Z_A², and
    residual · n^1/2 in between. As Adam preconditions, divided by their entries, S and Z_A: n S and
    Z_A, once either has moved.
    """
    _, update, init = family
    s = {"A": None, "B": Fraction(0), "both": Fraction(0)}[init]
    z_a = {"A": Fraction(0), "B": None, "both": Fraction(0)}[init]
    known = moves(*family).curvature
    if update == "gd":
        a = None if s is None else 1 + 2 * s
        b = None if z_a is None else 2 * z_a
        both = max(e for e in (a, b, HALF) if e is not None)
        assert (known["A"], known["B"], known["both"]) == (a, b, both)
    else:
        s = -HALF if init == "B" else Fraction(0)  # η_B Θ(1) where it starts at 0.
        a, b = 1 + s, Fraction(0)
        assert (known["A"], known["B"]) == (a, b)
    if a is None or b is None:
        assert "ratio" not in known
    else:
        assert known["ratio"] == a - b


@pytest.mark.parametrize(
    ("claim", "rho"), [("rank-init1", 0), ("rank-init2", -1), ("rank-init2-unit-law", 0)]
)
def test_rank_laws_are_those_of_the_claims(claim, rho):
    (found,) = claims((claim,))
    for case in found.cases:
        at = case.setting
        stated = case.predicted["eta"] if at.asked else at.c_b
        assert rank_law(at.init, float(at.gamma), rho) == stated
    assert len(found.cases) == 9
    # Control: those that the claim refutes.
    assert found.control
    for case in found.control:
        at = case.setting
        stated = case.predicted["eta"] if at.asked else at.c_b
        assert rank_law(at.init, float(at.gamma), -1 if at.start else 0) != stated


def reaches(init, rank, gamma, rho, log2_eta):
    """log2 f after four sign steps without feedback, in units n = 1: r numbers S and Z_A."""
    rng, eta = np.random.default_rng(0), 2.0**log2_eta
    # Init[1] at its n^−1/2, where A's start is n^−1/2 of what it moves.
    s = 0.0 if init == "A" else rng.normal(size=rank) * rank ** (rho / 2)
    z_a = 2.0**-40 * rng.normal(size=rank) if init == "A" else 0.0
    for _ in range(4):
        s, z_a = s + eta * np.sign(z_a), z_a + eta * np.sign(s)
    return np.log2(rank**-gamma * np.sum(s * z_a))


@pytest.mark.parametrize(
    ("init", "rho"), [("A", 0), ("B", 0), ("B", -1)], ids=["Init[1]", "Init[2]", "Init[2], 1/r"]
)
@pytest.mark.parametrize("gamma", [0, 0.5, 1])
def test_the_best_rate_by_the_loss_is_where_f_is_of_order_1(init, rho, gamma):
    def best(rank):
        return brentq(lambda log2_eta: reaches(init, rank, gamma, rho, log2_eta), -24, 6, xtol=1e-3)

    slope = (best(2**18) - best(2**12)) / 6
    law = best_rank_law(init, gamma, rho)
    assert abs(slope - law) < 0.05
    # Control: the size of ΔZ_B has another law wherever B starts at random.
    assert (abs(slope - rank_law(init, gamma, rho)) > 0.3) == (init == "B")


def test_one_rate_for_both_is_no_scaling_of_two():
    for c_a, c_b in SHARED.values():
        assert c_a == c_b
    assert not efficient(shared(LINEAR_GD), "A")
    assert moves("two_layer", "adam", "both") is None
    with pytest.raises(ValueError, match="init: must be"):
        rank_law("both", 0.0, 0.0)
    with pytest.raises(ValueError, match="init: must be"):
        best_rank_law("both", 0.0, 0.0)
