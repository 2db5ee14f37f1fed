"""Which factors belong together, what their shapes tell, and the refusal of an exchange."""

import json
from pathlib import Path

import numpy as np
import pytest

from lora_theory.adapters.labels import guesses
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.adapters.names import Leaf, leaves
from lora_theory.adapters.pairs import Pair, fan_in, fan_out, pairs, rank

TREES = json.loads(Path(__file__).with_name("trees.json").read_text())


def tree_of(entry):
    return {
        "/".join(map(str, names)): np.zeros(shape)
        for names, shape, _, _, group in entry["leaves"]
        if group is not None
    }


def found_in(entry):
    return list(pairs(guesses(leaves(tree_of(entry)), entry["preset"])))


@pytest.mark.parametrize(
    "entry", TREES, ids=[f"{entry['project']}, {entry['tree']}" for entry in TREES]
)
def test_every_factor_of_the_projects_has_its_partner(entry):
    groups = [leaf[-1] for leaf in entry["leaves"]]
    found = found_in(entry)
    assert len(found) == groups.count("A") == groups.count("B")
    for pair in found:
        assert pair.a.names[:-2] == pair.b.names[:-2] or pair.a.names[:-1] == pair.b.names[:-1] or (
            [x for x, y in zip(pair.a.names, pair.b.names, strict=True) if x != y]
            == [x for x in pair.a.names if x.lower() in ("lora_a", "lora_down")]
        )  # fmt: skip


# Read off the forward code: how many features each output of A sums over, where both are matrices.
FAN_IN = {
    "flax nnx.LoRALinear": {10},
    "flax nnx scan": {10},
    "levanter": {10},
    "peft as saved": {10, None},  # Of a convolution shapes do not tell it.
    "flax linen by hand": {10},
}


@pytest.mark.parametrize("project", FAN_IN)
def test_fan_in_of_the_projects(project):
    (entry,) = (e for e in TREES if e["project"] == project and e["tree"] == "trainable")
    assert {fan_in(pair) for pair in found_in(entry)} == FAN_IN[project]


def pair_of(a, b):
    return Pair(Leaf(("lora_a",), np.zeros(a)), Leaf(("lora_b",), np.zeros(b)), None)


@pytest.mark.parametrize("n", [7, 16])
@pytest.mark.parametrize("m", [7, 40])
@pytest.mark.parametrize("r", [1, 3, 7])
@pytest.mark.parametrize("stack", [(), (5,), (2, 3)])
def test_both_layouts(n, m, r, stack):
    for a, b in (((n, r), (r, m)), ((r, n), (m, r))):
        pair = pair_of((*stack, *a), (*stack, *b))
        assert (fan_in(pair), rank(pair), fan_out(pair)) == (n, r, m)


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4, 2), (2, 10)), ((10, 2), (2, 3, 4)), ((8, 2), (3, 5)), ((8,), (8, 2))]
)
def test_what_shapes_do_not_tell(a, b):
    assert fan_in(pair_of(a, b)) is None
    assert rank(pair_of(a, b)) is None
    assert fan_out(pair_of(a, b)) is None


@pytest.mark.parametrize("stack", [(), (5,)])
@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("kernel", ["kernel", "base_module/kernel"])
def test_an_exchanged_pair_is_refused_in_words(exchanged, stack, kernel):
    n, r, m = 8, 2, 5
    params = {
        f"q/{kernel}": np.zeros((*stack, n, m)),
        "q/lora_a": np.zeros((*stack, n, r)),
        "q/lora_b": np.zeros((*stack, r, m)),
    }
    first, second = ("B", "A") if exchanged else ("A", "B")
    labels = {f"q/{kernel}": "frozen", "q/lora_a": first, "q/lora_b": second}
    tx = lora_plus(0.1, ratio=2.0, labels=labels)
    if exchanged:
        with pytest.raises(ValueError, match=r"q\.lora_b .*input of 8 features.*exchange the two"):
            tx.init(params)
    else:
        tx.init(params)


@pytest.mark.parametrize("kernel", [(8, 8), None])
def test_what_can_not_be_told_is_not_refused(kernel):
    params = {"lora_a": np.zeros((8, 2)), "lora_b": np.zeros((2, 8))}
    labels = {"lora_a": "B", "lora_b": "A"}
    if kernel is not None:
        params["kernel"], labels["kernel"] = np.zeros(kernel), "frozen"
    lora_plus(0.1, ratio=2.0, labels=labels).init(params)
