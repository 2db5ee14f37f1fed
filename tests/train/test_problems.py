"""What the engine refuses, in words, before anything is trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory import FeatureLayerToy, LayerToy, LinearToy, LoRA, TwoLayerToy, lora_plus
from lora_theory.data.synthetic import Data, sine_task
from lora_theory.models.toys import Frozen
from lora_theory.train.devices import Policy
from lora_theory.train.problems import Problem, check_problem, check_run, checked_cells
from lora_theory.train.sweep import sweep_cells

KEY = jax.random.key(0)
DATA = Data(
    *(
        jnp.asarray(np.random.default_rng(0).normal(size=shape), "float32")
        for shape in ((4, 6), 6, (4, 3), 3)
    )
)


class Net(nnx.Module):
    """A LoRA layer in the readout, on frozen features."""

    def __init__(self, **parts):
        self.lora = LoRA(4, 4, 2, init="both", key=KEY)
        for name, part in parts.items():
            setattr(self, name, part)

    def features(self, x):
        return x

    def readout(self, z):
        return self.lora(z).sum(axis=0)


class InFeatures(Net):
    def features(self, x):
        return self.lora(x)

    def readout(self, z):
        return z.sum(axis=0)


class InBoth(Net):
    def features(self, x):
        return nnx.jit(lambda m, x: m.first(x))(self, x)

    def readout(self, z):
        return self.lora(z).sum(axis=0)


class Unused(Net):
    def readout(self, z):
        return z.sum(axis=0)


class Biased(Net):
    def readout(self, z):
        return super().readout(z) + self.bias[...]


class Column(Net):
    def readout(self, z):
        return super().readout(z)[:, None]


class Centred(Net):
    def features(self, x):
        return x - x.mean(axis=1, keepdims=True)


class CentredOutputs(Net):
    def readout(self, z):
        f = super().readout(z)
        return f - f.mean()


class NoReadout(nnx.Module):
    def __init__(self):
        self.lora = LoRA(4, 4, 2, init="both", key=KEY)

    def features(self, x):
        return x


def second():
    return LoRA(4, 4, 2, init="both", key=jax.random.key(1))


def bias():
    return nnx.Param(jnp.zeros(()))


MODELS = {
    "no factor": (
        lambda: nnx.Linear(4, 4, rngs=nnx.Rngs(0)),
        "problem: the model must have features",
    ),
    "no readout": (NoReadout, r"problem: the model must have readout\(\) .got NoReadout"),
    "an adapter within features": (
        InFeatures,
        "problem: features must not use what is trained, .* move lora.lora_a into readout",
    ),
    "one of two within features": (
        lambda: InBoth(first=second()),
        "problem: features must not use .* move first.lora_a into readout",
    ),
    "an adapter that nothing uses": (Unused, "problem: readout must use lora.lora_a, which"),
    "a bias beside factors": (
        lambda: Biased(bias=bias()),
        "trainable: must be given, since bias is a parameter too: nnx.LoRAParam trains",
    ),
    "features across samples": (
        Centred,
        "problem: features must treat each sample alone, since training and test samples",
    ),
    "outputs across samples": (CentredOutputs, "problem: readout must treat each sample alone"),
    "an output of another shape": (
        Column,
        r"problem: readout must give one output a sample, \(6,\) .got \(6, 1\)",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_would_not_train_as_they_look_are_refused(name):
    model, message = MODELS[name]
    with pytest.raises(ValueError, match=message):
        check_problem(Problem(model(), DATA), 0, None)


def test_no_factor_at_all_is_refused():
    class Plain(Net):
        def __init__(self):
            self.w = Frozen(jnp.ones(4))

        def readout(self, z):
            return self.w[...] @ z

    with pytest.raises(ValueError, match=r"trainable: must name something .* LoRA factors"):
        check_problem(Problem(Plain(), DATA), 0, None)
    with pytest.raises(ValueError, match="trainable: must name something"):
        check_problem(Problem(Net(), DATA), 0, nnx.BatchStat)


@pytest.mark.parametrize("trainable", [nnx.LoRAParam, nnx.Param])
def test_a_bias_is_frozen_or_trained_as_is_said(trainable):
    check_problem(Problem(Biased(bias=bias()), DATA), 0, trainable)


@pytest.mark.parametrize(
    "model",
    [
        Net,
        lambda: LinearToy(4, init="A", key=KEY),
        lambda: LayerToy(4, 2, init="B", key=KEY),
        lambda: FeatureLayerToy(4, 8, 2, init="A", key=KEY),
        lambda: TwoLayerToy(4, 8, 2, weight="random", init="A", key=KEY),
    ],
)
def test_models_of_two_parts_pass(model):
    check_problem(Problem(model(), DATA), 0, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(zip(("y_train", "y_test"), DATA[3:0:-2], strict=True)), "x_train: must have the 3"),
        ({"y_train": np.ones((6, 1))}, r"y_train: must be one target a sample, .* \(6, 1\)"),
        ({"y_test": np.ones(0), "x_test": np.ones((4, 0))}, "y_test: must be one target a"),
        ({"y_test": np.ones(2)}, "x_test: must have the 2 samples of y_test on axis 1"),
        ({"x_train": np.ones((6, 4))}, "x_train: must have the 6 samples of y_train on axis 1"),
        ({"x_train": [[1.0] * 6] * 4}, "x_train: must be an array .got list"),
        ({"y_train": 1.0}, "y_train: must be an array .got float"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        check_problem(Problem(Net(), DATA._replace(**change)), 0, None)


def test_what_is_no_problem_is_refused():
    with pytest.raises(ValueError, match=r"problem: must be a Problem .got tuple"):
        check_problem((Net(), DATA), 0, None)


POLICY = Policy("cores", 2, 9)


@pytest.mark.parametrize(
    ("steps", "policy", "devices", "axis", "message"),
    [
        (-1, POLICY, 1, 0, "steps: must be an integer of at least 1 .got -1"),
        (0, POLICY, 1, 0, "steps: must be an integer of at least 1"),
        (2.0, POLICY, 1, 0, "steps: must be an integer of at least 1 .got 2.0"),
        (True, POLICY, 1, 0, "steps: must be an integer of at least 1"),
        (2, ("cores", 2, 9), 1, 0, "policy: must be a Policy"),
        (2, POLICY._replace(micro_batch=0), 1, 0, "policy.micro_batch: must be an integer"),
        (2, POLICY._replace(sample_block=1.5), 1, 0, "policy.sample_block: must be an integer"),
        (2, POLICY, 0, 0, "devices: must be different devices, at least one"),
        (2, POLICY, None, 0, "devices: must be different devices"),
        (2, POLICY, "twice", 0, "devices: must be different devices"),
        (2, POLICY, 1, 1, "axis: must be 0 or -1 .got 1"),
    ],
)
def test_what_no_run_can_be_made_of_is_refused(steps, policy, devices, axis, message):
    some = jax.devices("cpu")
    given = {0: [], 1: some[:1], None: None, "twice": [some[0], some[0]]}[devices]
    with pytest.raises(ValueError, match=message):
        check_run(steps, policy, given, axis)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[0.1, -0.1]], "cells: must be finite rates of at least 0"),
        ([[0.1, np.nan]], "cells: must be finite rates of at least 0"),
        ([[0.1, np.inf]], "cells: must be finite rates of at least 0"),
        ([0.1, 0.1], r"cells: must be pairs .* .got \(2,\)"),
        (0.1, "cells: must be pairs"),
        ([], "cells: must be pairs"),
        ([["a", "b"]], "cells: must be pairs"),
        (np.ones((2, 3)), r"cells: must be pairs .* .got \(2, 3\)"),
    ],
)
def test_cells_that_are_no_rates_are_refused(cells, message):
    with pytest.raises(ValueError, match=message):
        checked_cells(cells)


def test_the_engine_asks(devices):
    """Each of the checks, once, from the engine itself."""
    problem = Problem(TwoLayerToy(5, 8, 2, key=KEY), sine_task(5, 6, 3, key=jax.random.key(1)))
    good = {
        "optimizer": functools.partial(lora_plus, base=optax.sgd),
        "loss": "mse",
        "steps": 2,
        "policy": POLICY,
        "devices": devices[:1],
    }
    run = functools.partial(sweep_cells, problem, np.array([[0.1, 0.1]]))
    assert run(**good).train_loss.shape == (1, 3)
    with pytest.raises(ValueError, match="steps: must be"):
        run(**good | {"steps": -1})
    with pytest.raises(ValueError, match="cells: must be"):
        sweep_cells(problem, np.array([[0.1, -0.1]]), **good)
    with pytest.raises(ValueError, match="features must not use"):
        sweep_cells(Problem(InFeatures(), DATA), np.array([[0.1, 0.1]]), **good)
