"""One rule from a seed to everything random; data and model of one key are independent."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import registry
from experiments.registry import resolve
from lora_theory import FeatureLayerToy, LayerToy, LinearToy, LoRA, TwoLayerToy
from lora_theory.keys import data_half, data_key, layer_key, model_half, model_key, seed_key


def test_seeds_have_different_keys_and_each_the_same_again():
    data = [tuple(np.asarray(jax.random.key_data(seed_key(i)))) for i in (*range(100), 7)]
    assert len(set(data)) == 100
    assert data[7] == data[-1]


TASKS = {
    f"task {name}": lambda key, task=task: resolve(task)(64, 30, 10, key=key)[::2]
    for name, task in registry.TASKS.items()
}
TASKS["task by hand"] = lambda key: jax.random.normal(data_key(key), (64, 40))
NORMAL = nnx.initializers.normal(1.0)
MODELS = {
    "linear": lambda key: nnx.state(LinearToy(64, init="both", key=key)),
    "layer": lambda key: nnx.state(LayerToy(64, 4, init="both", key=key)),
    "feature_layer": lambda key: nnx.state(FeatureLayerToy(5, 64, 4, init="both", key=key)),
    "two_layer": lambda key: nnx.state(TwoLayerToy(5, 64, 4, weight="random", key=key)),
    "by hand": lambda key: nnx.state(
        nnx.LoRALinear(
            64,
            64,
            lora_rank=4,
            kernel_init=NORMAL,
            a_initializer=NORMAL,
            b_initializer=NORMAL,
            rngs=nnx.Rngs(model_key(key)),
        )
    ),
    "a layer alone": lambda key: nnx.state(LoRA(64, 64, 4, init="both", key=key)),
}


@functools.cache
def drawn():
    """Sizes of all that each task and each model draws from the key of seed 3: one compilation."""
    made = jax.jit(lambda key: {n: jax.tree.leaves(f(key)) for n, f in (TASKS | MODELS).items()})
    return {
        name: np.concatenate([np.abs(np.asarray(v)).ravel() for v in values])
        for name, values in made(seed_key(3)).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_data_and_model_of_one_key_have_nothing_in_common(model, task):
    """Numbers of one stream are equal to all digits; of two, one in some hundreds by chance."""
    for scale in (1, 64, 8, 1 / 8):  # By what the models divide their weights.
        weights, data = np.round(scale * drawn()[model], 6), np.round(drawn()[task], 6)
        assert np.isin(weights, data).mean() < 0.02


PAIRS = [("by hand", "a layer alone"), ("by hand", "two_layer"), ("layer", "a layer alone"),
         ("task by hand", "task sine"), ("task by hand", "task linear")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_the_docs_let_share_a_key_has_nothing_in_common_either(one, other):
    for scale in (1, 64, 8, 1 / 8):
        left, right = np.round(scale * drawn()[one], 6), np.round(drawn()[other], 6)
        assert np.isin(left, right).mean() < 0.02


def test_a_key_given_to_jax_and_split_alike_would_show():
    """Control: what the test above looks for."""
    key = seed_key(3)
    x = jax.random.normal(jax.random.split(layer_key(key))[0], (64, 40))
    a = LoRA(64, 64, 4, init="both", key=key).lora_a[...]
    assert np.isin(np.round(8 * np.asarray(a), 4), np.round(np.asarray(x), 4)).mean() > 0.5


def test_what_keys_are_for_tells_them_apart():
    for_all = (seed_key, data_half, model_half, data_key, model_key, layer_key)
    keys = [
        jax.random.key_data(make(3) if make is seed_key else make(seed_key(3))) for make in for_all
    ]
    assert len({tuple(np.asarray(key)) for key in keys}) == len(for_all)
