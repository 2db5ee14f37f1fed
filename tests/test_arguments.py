"""What a public function can not use is refused in one line that names the argument."""

import math

import jax
import numpy as np
import pytest

from lora_theory import FeatureLayerToy, LayerToy, LinearToy, TwoLayerToy, arguments, sine_task
from lora_theory.adapters.layer import LoRA
from lora_theory.data.synthetic import objective
from lora_theory.exact.scalar_map import random_runs, trajectory
from lora_theory.exact.signed_log import SignedLog
from lora_theory.models.relu_readout import relu_readout
from lora_theory.plots.gain import gain_figure
from lora_theory.plots.theory import phase_diagrams
from lora_theory.stats import intervals
from lora_theory.stats.collapse import Collapse, collapse, log_losses
from lora_theory.stats.controls import family
from lora_theory.stats.equivalence import compare, within
from lora_theory.stats.landscapes import Judge, Landscape, Line, best_pair, edge, flatness
from lora_theory.stats.optima import cloud, gain, unbeaten
from lora_theory.stats.places import near, read
from lora_theory.stats.scaling import Sweep, scaling
from lora_theory.stats.search import (
    chances,
    expected_best,
    larger_b,
    log_values,
    search,
    steps_to_reach,
)
from lora_theory.stats.slopes import Slope
from lora_theory.stats.transfer import Rule, transfer, wider
from lora_theory.theory.exponents import Rule as Rule_
from lora_theory.theory.exponents import derive, solve, width_rates
from lora_theory.theory.regions import lattice
from lora_theory.theory.rules import LINEAR_GD
from lora_theory.train.devices import resolve_policy

KEY = jax.random.key(0)
SLOPE = Slope(0.0, 0.1, 30)
RATES = 2.0 ** np.arange(4)
LAND = Landscape(np.ones((4, 4, 4)), np.ones(4), RATES, RATES)
HOLED = LAND._replace(losses=np.where(np.eye(4) > 0, np.nan, LAND.losses))
SWEEP = Sweep(np.array([1.0, 2.0, 3.0]), (LAND,) * 3)
FIT = Collapse((0, 0), (0, 0), (0, 0), {}, 9, np.zeros((5, 2)), 9)
CURVES = (np.ones((4, 3)),) * 2
MAPS = [np.random.default_rng(0).normal(size=(4, 5, 5))] * 3
ENDS = Rule_("ends", lambda start, eta: iter(()), ("c",), width_rates("eta"), {"A": ()})
ONE = SignedLog.of(np.ones((1, 1)))
PAIR = SignedLog.of(np.ones(2))

REFUSED = {
    # Adapters, models, data
    "alpha, gamma": [
        lambda: LoRA(8, 8, 4, alpha=1.0, gamma=2000.0, key=KEY),
        lambda: LoRA(8, 8, 4, alpha=1e300, gamma=-100.0, key=KEY),
        lambda: LoRA(8, 8, 4, alpha=1e300, gamma=-1e3, key=KEY),
    ],
    "alpha": [lambda: LoRA(8, 8, 4, alpha=math.inf, key=KEY)],
    "gamma": [lambda: LoRA(8, 8, 4, gamma=math.nan, key=KEY)],
    "rho": [
        lambda: LoRA(8, 8, 4, rho=2000.0, init="B", key=KEY),
        lambda: LoRA(8, 8, 4, rho=-400.0, init="B", key=KEY),
    ],
    "in_features": [lambda: LoRA(0, 8, 4, key=KEY)],
    "out_features": [lambda: LoRA(8, -1, 4, key=KEY)],
    "rank": [
        lambda: LoRA(8, 8, 0, key=KEY),
        lambda: TwoLayerToy(5, 8, 9, key=KEY),
        lambda: LayerToy(8, 0, init="A", key=KEY),
    ],
    "width": [
        lambda: TwoLayerToy(5, -1, 2, key=KEY),
        lambda: LayerToy(0, 2, init="A", key=KEY),
        lambda: FeatureLayerToy(5, -3, 2, init="A", key=KEY),
        lambda: LinearToy(0, init="A", key=KEY),
        lambda: resolve_policy(0, 10),
    ],
    "inputs": [
        lambda: TwoLayerToy(0, 8, 2, key=KEY),
        lambda: FeatureLayerToy(-1, 8, 2, init="A", key=KEY),
        lambda: sine_task(0, 1, 1, key=KEY),
    ],
    # Devices
    "samples": [
        lambda: resolve_policy(8, -1, name="batch"),
        lambda: intervals.quantile(np.ones((0, 3))),
        lambda: intervals.quantile_interval(np.array(3.0)),
    ],
    "micro_batch": [lambda: resolve_policy(8, 10, micro_batch=0)],
    "sample_block": [lambda: resolve_policy(8, 10, name="batch", sample_block=0)],
    "batch_bytes": [lambda: resolve_policy(8, 10, name="batch", batch_bytes=0)],
    "name": [lambda: resolve_policy(8, 10, name="tpu"), lambda: resolve_policy(8, 10, name="")],
    # Statistics
    "confidence": [
        lambda: compare(SLOPE, 0.0, margin=0.1, confidence=95),
        lambda: SLOPE.half_width(1.0),
        lambda: intervals.student(3, 0.0),
        lambda: intervals.mean_interval(np.ones(3), -0.9),
        lambda: intervals.quantile_interval(np.ones(9), 0.5, 95),
        lambda: intervals.few_seeds(9, 95),
        lambda: intervals.share_interval(1, 2, math.nan),
        lambda: intervals.crossed(lambda one, other: np.ones(other.size), 8, confidence=95),
        lambda: FIT.interval((1, 0), 95),
        lambda: collapse(MAPS, (1, 2, 3), confidence=95),
        lambda: search(LAND, confidence=95),
        lambda: larger_b(LAND, confidence=-0.9),
        lambda: scaling(SWEEP, confidence=95),
        lambda: transfer(SWEEP, Rule(0, 0), confidence=95),
        lambda: wider(np.arange(2), CURVES, confidence=95),
        lambda: unbeaten(LAND.losses, Judge(), confidence=95),
    ],
    "margin": [
        lambda: compare(SLOPE, 0.0, margin=-0.1, confidence=0.95),
        lambda: within(0.0, 1.0, 0.5, -0.1),
        lambda: within(0.0, 1.0, 0.5, math.nan),
    ],
    "predicted": [
        lambda: compare(SLOPE, math.nan, margin=0.1, confidence=0.95),
        lambda: within(0.0, 1.0, math.inf, 0.1),
    ],
    "quantile": [lambda: Judge(75), lambda: Judge(0), lambda: Judge(1.0), lambda: Judge("0.5")],
    "around": [lambda: Judge(0.5, "all")],
    "q": [lambda: intervals.quantile(np.ones(3), 75), lambda: intervals.fewest_seeds(1.0)],
    "hits": [lambda: intervals.share_interval(5, 3)],
    "widest": [lambda: scaling(SWEEP, widest=-1.0)],
    "penalty": [lambda: search(LAND, penalty=-1.0), lambda: wider([1, 2], CURVES, penalty=0)],
    "trials": [lambda: chances(4, 5), lambda: chances(4, 2.5)],
    "logs": [lambda: collapse([at * np.nan for at in MAPS], (1, 2, 3))],
    "land.losses": [
        lambda: log_losses(HOLED),
        lambda: search(HOLED),
        lambda: larger_b(LAND._replace(eta_a=RATES[:3])),
        lambda: edge(HOLED, "A"),
        lambda: gain(HOLED, np.arange(4) < 2, Judge()),
        lambda: read(HOLED, LAND.diagonal, Judge()),
        lambda: near(HOLED, LAND.diagonal, Judge()),
    ],
    "land.eta_a": [lambda: flatness(LAND._replace(eta_a=-RATES[::-1]), 0.1)],
    "land.start": [lambda: larger_b(LAND._replace(start=np.ones(3)))],
    "line.losses": [lambda: read(LAND, Line(np.ones((4, 2)), np.ones(4), RATES), Judge())],
    "lands.losses": [
        lambda: scaling(SWEEP._replace(lands=(HOLED,) * 3)),
        lambda: transfer(SWEEP._replace(lands=(HOLED,) * 3), Rule(0, 0)),
    ],
    "losses": [lambda: unbeaten(HOLED.losses, Judge()), lambda: cloud(HOLED.losses, None)],
    "along": [lambda: edge(LAND, "C")],
    "chosen_on": [lambda: gain(LAND, np.array([0, 1]), Judge())],
    "values": [lambda: expected_best(np.ones(3), np.ones(4), 2)],
    "steps, curves, targets": [lambda: steps_to_reach([0, 1], np.ones((2, 3)), np.ones(2))],
    "curves": [lambda: wider([1, 2, 3], CURVES)],
    # The scalar map: a Gram matrix (N,), or a number, would be another map.
    "gram": [
        lambda: trajectory(PAIR[0], PAIR, np.ones(2), PAIR, PAIR[0], PAIR[0], 1),
        lambda: trajectory(PAIR[0], PAIR, np.ones(2), PAIR[0], PAIR[0], PAIR[0], 1),
        lambda: trajectory(ONE[0, 0], ONE[0], np.ones(1), ONE[0, 0], ONE[0, 0], ONE[0, 0], 1),
    ],
    "y": [lambda: trajectory(ONE[0, 0], ONE[0], np.ones(2), ONE, ONE[0, 0], ONE[0, 0], 1)],
    "eta_a": [
        lambda: trajectory(PAIR, PAIR[:, None], np.ones(1), ONE, SignedLog.of(np.ones(3)), PAIR, 1)
    ],
    "s": [lambda: trajectory(ONE[0, 0], ONE[0, 0], 1.0, ONE, ONE[0, 0], ONE[0, 0], 1)],
    "seeds": [lambda: random_runs([6.0], [-1], "A", 0.0, 0.0)],
    "c_a": [lambda: random_runs([6.0], [1], "A", math.nan, 0.0)],
    "log2_widths": [
        lambda: collapse(MAPS, (1, 2, math.nan)),
        lambda: scaling(SWEEP._replace(log2_widths=[1, math.nan, 3])),
        lambda: transfer(SWEEP._replace(log2_widths=[3, 2, 1]), Rule(0, 0)),
        lambda: wider([2, 1], CURVES),
        lambda: random_runs([], [1], "A", 0.0, 0.0),
    ],
    "judged": [
        lambda: best_pair(LAND, np.ones((9, 9))),
        lambda: best_pair(LAND, np.eye(4) * np.nan),
    ],
    "judge": [lambda: search(LAND, judge="median"), lambda: read(LAND, LAND.diagonal, None)],
    "losses, start": [lambda: log_values(-np.ones((2, 2)), np.ones(2))],
    "line": [lambda: read(LAND, None, Judge())],
    "truth": [lambda: family([6, 8], (RATES, RATES), (3, 3), (math.nan, 0), 0)],
    "value": [lambda: SignedLog.of("1"), lambda: SignedLog.of([[1], [1, 2]])],
    "exponent": [lambda: SignedLog.of(2.0) ** math.nan, lambda: SignedLog.two_to(math.inf)],
    "families": [lambda: gain_figure([], what="")],
    "diagrams": [lambda: phase_diagrams([None] * 5)],
    # Theory
    "init": [
        lambda: derive(LINEAR_GD, None, {"c_a": 0, "c_b": 0}, 1),
        lambda: derive(LINEAR_GD, ("0", "0"), {"c_a": 0, "c_b": 0}, 1),
    ],
    "exponents": [lambda: derive(LINEAR_GD, "A", [0, 0], 1)],
    "step": [lambda: lattice(0)],
    "run": [
        lambda: solve(
            Rule_("r", lambda start, eta: iter(()), ("c",), width_rates("eta"), {"A": ()}), "A"
        )
    ],
    "inits": [lambda: Rule_("r", lambda start, eta: iter(()), ("c",), width_rates("eta"), ("A",))],
    "steps": [
        lambda: steps_to_reach([1, 0], np.ones((1, 2)), np.ones(1)),
        lambda: derive(LINEAR_GD, "A", {"c_a": 0, "c_b": 0}, -1),
        lambda: derive(LINEAR_GD, "A", {"c_a": 0, "c_b": 0}, 1.5),
        lambda: trajectory(PAIR[0], PAIR, np.ones(2), ONE, PAIR[0], PAIR[0], 0),
    ],
}
CALLS = [(name, call) for name, calls in REFUSED.items() for call in calls]


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[name for name, _ in CALLS])
def test_odd_calls_name_their_argument(name, call):
    with pytest.raises(ValueError, match=f"^{name}: must ") as error:
        call()
    assert "\n" not in str(error.value)


def test_shapes_that_would_broadcast_to_another_function_are_refused():
    one = jax.numpy.ones
    for name, shapes in {"h": ((3,), (3, 2), (1, 4)), "b": ((3,), (2, 2), (2, 4))}.items():
        with pytest.raises(Exception, match=f"{name}: must be an array of shape|Type-check"):
            relu_readout(*map(one, shapes))
    data = sine_task(5, 3, 3, key=KEY)
    with pytest.raises(ValueError, match=r"y_train: must have shape \(N,\)"):
        objective(data._replace(y_train=data.y_train[:2]), "mse")


def test_numbers_of_every_library_are_numbers():
    for five in (5, np.int32(5), np.array(5), jax.numpy.asarray(5)):
        assert arguments.integer("n", five) == 5
        assert arguments.positive("x", five) == 5.0
    for half in (0.5, np.float32(0.5), np.array(0.5), jax.numpy.asarray(0.5, "bfloat16")):
        assert arguments.between("x", half, 0, 1) == 0.5
        with pytest.raises(ValueError, match=r"n: must be an integer of at least 1 \(got 0\.5\)"):
            arguments.integer("n", half)


@pytest.mark.parametrize("value", ["1", True, None, [1.0], np.ones(1), 1j, 10**400, math.inf])
def test_what_is_no_number_is_refused_in_one_short_line(value):
    with pytest.raises(ValueError, match=r"^x: must be a finite number \(got ") as error:
        arguments.finite("x", value)
    assert len(str(error.value)) < 120
