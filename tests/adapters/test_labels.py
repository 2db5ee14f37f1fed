"""The group of every leaf: the official grouping, exact names, types, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory.adapters.labels import lora_labels
from lora_theory.adapters.layer import EmbeddingFactor, LoRA
from lora_theory.adapters.lora_plus import lora_plus

PARAMS = {"lora_a": jnp.ones((3, 8)), "lora_b": jnp.ones((8, 3)), "bias": jnp.ones(8)}


@pytest.mark.parametrize("name", ["head", "lora_block", "my_lora_a", "kernel"])
def test_a_leaf_without_label_is_named(name):
    params = {"layer": PARAMS | {name: jnp.ones((2, 2))}}
    with pytest.raises(ValueError, match=rf"layer\.{name}: .*no label"):
        lora_plus(0.1, 0.1).init(params)


def test_an_unknown_label_is_refused():
    with pytest.raises(ValueError, match=r"labels: must be among .* 'C'"):
        lora_plus(0.1, 0.1, labels=lambda p: dict.fromkeys(p, "C")).init(PARAMS)


class Adapted(nnx.Module):
    """A small model of all kinds of parameters that the official optimizer tells apart."""

    def __init__(self, rngs):
        key = jax.random.key(0)
        self.embed_a = EmbeddingFactor(jnp.ones((2, 20)))
        self.embed_b = EmbeddingFactor(jnp.ones((8, 2)))
        self.query = nnx.LoRALinear(8, 8, lora_rank=2, rngs=rngs)
        self.value = LoRA(8, 8, 2, weight=jnp.eye(8), key=key)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.renamed = LoRA(8, 8, 2, key=key)


def official_group(name, module, ndim):
    """Which group the paper's optimizer puts a trained parameter in, restated from its rules:
    adapted embeddings first; then every B and every 1-d parameter, without decay for biases and
    norms; all else with A.
    """
    if module == "embedding adapter":
        return "embedding"
    if "lora_B" in name or ndim == 1:
        return "no_decay" if "bias" in name or module == "norm" else "B"
    return "A"


def test_grouping_equals_the_official_optimizer():
    model = Adapted(nnx.Rngs(0))
    trained = nnx.state(model, nnx.Any(nnx.LoRAParam, nnx.PathContains("norm")))
    torch_names = {
        ("embed_a",): ("embed.lora_embedding_A", "embedding adapter", 2),
        ("embed_b",): ("embed.lora_embedding_B", "embedding adapter", 2),
        ("query", "lora", "lora_a"): ("query.lora_A.weight", "linear adapter", 2),
        ("query", "lora", "lora_b"): ("query.lora_B.weight", "linear adapter", 2),
        ("value", "lora_a"): ("value.lora_A.weight", "linear adapter", 2),
        ("value", "lora_b"): ("value.lora_B.weight", "linear adapter", 2),
        ("norm", "scale"): ("norm.weight", "norm", 1),
        ("norm", "bias"): ("norm.bias", "norm", 1),
        ("renamed", "lora_a"): ("renamed.lora_A.weight", "linear adapter", 2),
        ("renamed", "lora_b"): ("renamed.lora_B.weight", "linear adapter", 2),
    }
    labels = dict(nnx.to_flat_state(lora_labels(trained)))
    assert labels == {path: official_group(*torch_names[path]) for path in torch_names}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"lora_A": {"weight": jnp.ones((2, 3))}}, {"lora_A": {"weight": "A"}}),
        ({"lora_B": {"default": {"weight": jnp.ones((2, 3))}}}, None),
        ([{"lora_b": jnp.ones((2, 3))}], [{"lora_b": "B"}]),
        ({"lora_embedding_B": jnp.ones((2, 3))}, {"lora_embedding_B": "embedding"}),
    ],
)
def test_names_are_matched_whole(params, expected):
    if expected is None:
        with pytest.raises(ValueError, match="no label"):
            lora_labels(params)
    else:
        assert lora_labels(params) == expected


def test_the_type_decides_whatever_the_name():
    class Renamed(nnx.Module):
        def __init__(self):
            inner = LoRA(4, 4, 2, init="both", key=jax.random.key(0))
            self.up, self.down = inner.lora_b, inner.lora_a

    model = Renamed()
    optimizer = nnx.Optimizer(model, lora_plus(0.0, 1.0, base=optax.sgd), wrt=nnx.LoRAParam)
    before = np.asarray(model.down[...]), np.asarray(model.up[...])
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.LoRAParam))
    optimizer.update(model, grads)
    np.testing.assert_array_equal(model.down[...], before[0])
    np.testing.assert_allclose(model.up[...], before[1] - 1.0, atol=1e-6)
