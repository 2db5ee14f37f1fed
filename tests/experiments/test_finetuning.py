"""The program that trains a transformer at all rates: what it costs, holds and trains by."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import finetuning
from experiments.finetuning import ModelConfig, TaskConfig, TrainingConfig
from experiments.lab.schema import ConfigError
from lora_theory.keys import seed_key

TASK = TaskConfig(letters=4, places=3, n_test=50)
MODEL = ModelConfig(width=8, heads=1, blocks=1, rank=2)
TRAINING = TrainingConfig(steps=6, batch=8, warmup=2, clip=1.0)


@pytest.mark.parametrize(("make", "field"), [
    (lambda: ModelConfig(width=8, heads=3, blocks=1, rank=2), "model.heads"),
    (lambda: ModelConfig(width=8, heads=2, blocks=1, rank=9), "model.rank"),
    (lambda: TrainingConfig(steps=6, batch=8, warmup=6, clip=1.0), "training.warmup"),
])  # fmt: skip
def test_what_can_not_be_is_refused_by_name(make, field):
    with pytest.raises(ConfigError, match=rf"^{field}: must"):
        make()


def test_the_largest_arrays_are_told():
    found = {need.what: need.bytes for need in finetuning.needs(TASK, MODEL, TRAINING)}
    assert found["the training sequences"] == 4 * 6 * 8 * 3
    assert found["the attention"] == 4 * 50 * 3 * 3


def test_cost_grows_with_the_steps():
    one, two = (
        finetuning.core_seconds(TASK, MODEL, TrainingConfig(steps=s, batch=8, warmup=2, clip=1.0))
        for s in (1000, 2000)
    )
    assert two / one == pytest.approx(2, rel=0.01)


def losses(optimizer=None):
    program = finetuning.program(TASK, MODEL, TRAINING, optimizer)
    with jax.default_matmul_precision("highest"):
        return np.asarray(program(seed_key(0), np.float32([0.1, 0.0]), np.float32(4.0))[1])


@pytest.mark.slow
def test_another_optimizer_trains_by_its_own_rule():
    """One that does nothing leaves what the rate 0 leaves, which LoRA+ does not."""

    def resting(model, rate, ratio, *, steps, warmup, clip):
        return nnx.Optimizer(model, optax.set_to_zero(), wrt=nnx.Param)

    trained, rested = losses(), losses(resting)
    assert rested[0] == rested[1] == trained[1]
    assert trained[0] != rested[0]
