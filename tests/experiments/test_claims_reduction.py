"""An exact model is the one in vectors, size by size; one that is wrong by little is found."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from experiments.claims import exact, reduction
from experiments.claims.experiment import ClaimsConfig
from experiments.lab.command_line import load
from lora_theory.exact import layer_map, scalar_map
from lora_theory.theory.claims import Limit, Reduction, claims

NO, ONE, HALF = Fraction(0), Fraction(-1), Fraction(-1, 2)
INITS = ("A", "B", "both")
CASES = {
    "gd": Reduction("linear", "gd", 2, INITS, ((ONE, NO), (HALF, HALF))),
    "sign": Reduction("layer", "sign", 1, INITS, ((ONE, NO), (HALF, HALF))),
    "adam": Reduction("layer", "adam", 1, INITS, ((ONE, NO), (HALF, HALF))),
    "adam of three samples": Reduction("layer", "adam", 3, INITS, ((ONE, NO),)),
    "sign on eq. 2": Reduction("linear", "sign", 1, INITS, ((ONE, NO), (HALF, HALF))),
    "gd of a layer": Reduction("layer", "gd", 1, ("A", "B"), ((ONE, NO), (HALF, HALF))),
}
MOST = 1e-8  # What the judge allows.


@pytest.fixture(scope="module")
def cfg():
    return load("claims", ClaimsConfig, ["constants.scales=[0.2,2]", "constants.ratios=[1,16]"])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(reduction, "WIDTHS", (16,))
    monkeypatch.setattr(reduction, "SEEDS", 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_right_ones_differ_by_rounding_and_wrong_ones_by_much_more(cfg, kind):
    right = CASES[kind]
    assert reduction.gap(right, cfg) < MOST / 10
    assert reduction.gap(right.__class__(**vars(right) | {"wrong": "gram"}), cfg) > 1e-4


def without_last(trajectory):
    """The last output is the one before."""

    def wrong(*args, **options):
        run = trajectory(*args, **options)
        return run._replace(f=run.f[[*range(run.f.sign.shape[0] - 1), -2]])

    return wrong


def at_another_rate(trajectory):
    """A is trained at a rate that is larger by little."""

    def wrong(b, s, y, gram, eta_a, eta_b, steps, **options):
        return trajectory(b, s, y, gram, eta_a * (1 + 1e-5), eta_b, steps, **options)

    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [without_last, at_another_rate])
def test_a_map_that_is_wrong_by_a_term_is_found(cfg, mutant, monkeypatch):
    monkeypatch.setattr(scalar_map, "trajectory", mutant(scalar_map.trajectory))
    assert reduction.gap(CASES["gd"], cfg) > 100 * MOST


LAYER_NAMES = ["f", "delta1", "delta3", "Z_B", "dB", "delta2_Z_B"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYER_NAMES)
def test_every_size_counts(cfg, name, monkeypatch):
    """One that is larger by a millionth at one step alone."""
    logs = layer_map.logs

    def wrong(run):
        found = dict(logs(run))
        found[name] = found[name].copy()
        found[name][..., -1] += 1e-6
        return found

    monkeypatch.setattr(layer_map, "logs", wrong)
    assert reduction.gap(CASES["sign"], cfg) > 10 * MOST


def gaps(exact, trained):
    return list(reduction._gaps({k: np.array(v) for k, v in exact.items()},
                                {k: np.array(v) for k, v in trained.items()}))  # fmt: skip


NAN, ZERO = np.nan, -np.inf


@pytest.mark.parametrize(
    ("exact", "trained", "gap"),
    [
        ({"f": [3.0]}, {"f": [3.0]}, 0),
        ({"f": [3.0]}, {"f": [4.0]}, 0.5),
        ({"f": [-900.0]}, {"f": [-901.0]}, 0.5),
        ({"f": [ZERO]}, {"f": [ZERO]}, 0),
        ({"f": [ZERO]}, {"f": [-40.0]}, 1),
        ({"f": [5.0]}, {"f": [NAN]}, 0),
        ({"f": [5.0, 1.0]}, {"f": [NAN, 2.0]}, 0.5),
        # Of a contribution beside what it contributes to.
        ({"f": [0.0], "delta1": [ZERO]}, {"f": [0.0], "delta1": [-40.0]}, 2.0**-40),
        ({"f": [0.0], "delta1": [-1.0]}, {"f": [0.0], "delta1": [-2.0]}, 0.25),
        ({"f": [-9.0], "delta1": [3.0]}, {"f": [-9.0], "delta1": [2.0]}, 0.5),
        ({"Z_B": [0.0], "delta2_Z_B": [-3.0]}, {"Z_B": [0.0], "delta2_Z_B": [ZERO]}, 0.125),
    ],
    ids=str,
)
def test_a_difference_is_relative_to_the_larger(exact, trained, gap):
    assert max(gaps(exact, trained)) == pytest.approx(gap)


def test_every_update_of_an_exact_model_has_a_claim_of_its_reduction():
    found = {
        (case.model, case.update): claim
        for claim in claims()
        for case in claim.cases
        if isinstance(case, Reduction)
    }
    assert {("linear", "gd"), ("linear", "sign")} < found.keys()
    assert {("layer", update) for update in ("gd", "sign", "adam")} < found.keys()
    for claim in found.values():
        assert [case.wrong for case in claim.cases] == [""] * len(claim.cases)
        assert claim.control == tuple(
            dataclasses.replace(case, wrong="gram") for case in claim.cases
        )
        for case in claim.cases:  # Under gradient descent the layer's are one-sided.
            one_sided = (case.model, case.update) == ("layer", "gd")
            assert set(case.inits) == set(INITS) - ({"both"} if one_sided else set())


@pytest.mark.slow
def test_a_layer_whose_readout_is_forgotten_is_not_the_one_in_vectors(cfg, monkeypatch):
    """‖w‖² left out of what moves B: no exponent of r tells."""
    descent = exact.descent

    def wrong(v, z_a, y, gram, rates, row, scale, steps):
        return descent(v, z_a, y, gram, rates, row**0.0, scale, steps)

    monkeypatch.setattr(exact, "descent", wrong)
    assert reduction.gap(CASES["gd of a layer"], cfg) > 1e-2


@pytest.mark.slow
def test_the_limit_is_near_vectors_and_far_at_other_rates(monkeypatch):
    monkeypatch.setattr(reduction, "LIMIT_WIDTH", 256)
    options = ["constants.scales=[0.1]", "constants.ratios=[1,4]", "seeds.limit=400"]
    cfg = load("claims", ClaimsConfig, options)
    right = Limit((ONE, NO), (1,))
    found = reduction.limit_sizes([right, dataclasses.replace(right, wrong=Fraction(3, 2))], cfg)
    assert set(found) == set(right.predicted)
    for name in ("delta1, t = 1", "delta2, t = 1", "dZ_A, t = 1", "dB, t = 1"):
        trained, *limits = found[name].mean(axis=-1)
        for limit, low, high in zip(limits, (-0.4, -3.0), (0.4, -0.9), strict=True):
            assert ((low < trained - limit) & (trained - limit < high)).all(), name
