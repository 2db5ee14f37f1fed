"""Keys taken apart, vectors, and the names that say nothing of a side; labels have the rest."""

import numpy as np
import pytest

from lora_theory.adapters.names import Leaf, default, is_vector, parts


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.b/c:w", ["a", "b", "c", "w"]),
        ("mlp/~/linear", ["mlp", "linear"]),
        (3, ["3"]),
        (("q", "lora_a.kernel"), ["q", "lora_a", "kernel"]),
    ],
)
def test_keys_are_taken_apart(key, expected):
    assert parts(key) == expected


@pytest.mark.parametrize(
    ("names", "shape", "expected"),
    [
        (("x",), (3,), True),
        (("x",), (), False),
        (("ln_1", "scale"), (2, 3), True),
        (("ln_1", "weight"), (2, 3), False),
        (("ln_1", "weight"), (3,), True),
        (("qkv_bias",), (2, 3), True),
        (("q_bias",), (2, 3), True),
        (("unbiased",), (2, 3), False),
        (("scale",), (2, 3), False),
        (("kernel", "scale"), (2, 3), False),
        (("eln", "scale"), (2, 3), False),
        (("norm_flow", "scale"), (2, 3), False),
        (("ln_proj", "scale"), (2, 3), False),
        (("normal_head", "scale"), (2, 3), False),
        (("relative_attention_bias",), (32, 8), False),
        (("RMSNorm_0", "scale"), (2, 3), True),
        (("input_layernorm", "scale"), (2, 3), True),
        (("norm", "scale", "value"), (2, 3), True),
    ],
)
def test_vectors(names, shape, expected):
    assert is_vector(Leaf(names, np.zeros(shape))) is expected


@pytest.mark.parametrize(
    "name",
    ["flora_a", "lora_alpha", "lora_a2", "lora_up_proj", "lora", "lora_ab", "a", "downlora_a"],
)
def test_parts_within_a_word_say_nothing(name):
    assert default(Leaf((name,), np.zeros((2, 3))), {name}) is None
