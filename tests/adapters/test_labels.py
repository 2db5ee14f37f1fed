"""The group of every leaf: trees of the projects, the official grouping, names, refusals."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lora_theory.adapters.groups import ParamGroup
from lora_theory.adapters.labels import keras_labels, lora_labels
from lora_theory.adapters.layer import EmbeddingFactor, LoRA
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.adapters.names import PRESETS, leaves

PARAMS = {"lora_a": jnp.ones((3, 8)), "lora_b": jnp.ones((8, 3)), "bias": jnp.ones(8)}
# tests/adapters/record_trees.py says how they were recorded.
TREES = json.loads(Path(__file__).with_name("trees.json").read_text())


def shaped(shape, dtype="float32"):
    return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))


def nested(entries):
    """A tree of dictionaries from paths; keys with dots stay whole, as the projects have them."""
    tree = {}
    for names, shape, dtype, *_ in entries:
        *above, own = names
        place = tree
        for name in above:
            place = place.setdefault(name, {})
        place[own] = shaped(shape, dtype)
    return tree


def by_path(tree):
    return {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def expected(entries):
    tree = {}
    for names, *_, group in entries:
        *above, own = names
        place = tree
        for name in above:
            place = place.setdefault(name, {})
        place[own] = group
    return by_path(jax.tree.map(str, tree, is_leaf=lambda group: group is None))


@pytest.mark.parametrize(
    "entry", TREES, ids=[f"{entry['project']}, {entry['tree']}" for entry in TREES]
)
def test_trees_of_the_projects(entry):
    kept = [leaf for leaf in entry["leaves"] if leaf[-1] is not None]
    labels = lora_labels(nested(kept), entry["preset"])
    assert by_path(labels) == expected(kept)
    assert {"A", "B"} & set(jax.tree.leaves(labels))
    for leaf in entry["leaves"]:
        if leaf[-1] is None:
            with pytest.raises(ValueError, match="has no label"):
                lora_labels(nested([*kept, leaf]), entry["preset"])


def test_the_trees_are_of_every_project():
    recorded = " ".join(entry["project"] for entry in TREES).lower()
    for project in (
        "flax nnx.lora", "easydel", "qwix", "tunix", "maxtext", "gemma", "openpi", "keras",
        "axlearn", "levanter", "lorax", "quax", "peft", "linen", "haiku", "scan",
    ):  # fmt: skip
        assert project in recorded


@pytest.mark.parametrize("project", ["lorax", "quax"])
def test_where_the_letter_is_a_trap_the_error_names_the_preset(project):
    for entry in TREES:
        if entry["project"].startswith(project):
            with pytest.raises(ValueError, match=f'labels="{project}"|has no label'):
                lora_labels(nested(entry["leaves"]))


@pytest.mark.parametrize("name", ["head", "lora_block", "flora_a", "lora_a2", "lora_ab", "kernel"])
def test_a_leaf_without_label_is_named(name):
    params = {"layer": PARAMS | {name: jnp.ones((2, 2))}}
    with pytest.raises(ValueError, match=rf"layer\.{name}: .*no label.*match=\"layer\.{name}\""):
        lora_plus(0.1, 0.1).init(params)


def test_a_single_array_is_labelled_by_hand():
    with pytest.raises(ValueError, match=r'params: a leaf of shape \(2, 3\) .* labels="A" or'):
        lora_labels(jnp.ones((2, 3)))
    assert lora_plus(0.1, 0.2, labels="B").init(jnp.ones((2, 3))).plan.parts[0].group == "B"


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (("dec", "head", "kernel"), 'groups={"head": ParamGroup(match="dec.head")}'),
        (("dec", "table"), 'groups={"head": ParamGroup(match="dec.table")}'),
        (("blocks", "n", "scale"), 'groups={"no_decay": ParamGroup(match="blocks.n.scale")}'),
    ],
)
def test_the_line_to_write_is_for_a_whole_layer(names, line):
    params = PARAMS | {".".join(names): jnp.ones((2, 3))}
    with pytest.raises(ValueError, match=re.escape(line)):
        lora_labels(params)
    with pytest.raises(ValueError, match=r"\(1 more have none; is wrt= too wide\?\)"):
        lora_labels(params | {"other": jnp.ones((2, 3))})


@pytest.mark.parametrize("beside", ["w", "_w", "weight", "kernel"])
def test_a_letter_beside_a_kernel_says_nothing(beside):
    """Also below `lora`: there a and b are safe only where no kernel is among them."""
    factors = {"a": jnp.ones((3, 8)), "b": jnp.ones((8, 3))}
    assert lora_labels({"lora": factors}) == {"lora": {"a": "A", "b": "B"}}
    for tree in ({"lora": factors | {beside: jnp.ones((8, 8))}}, {"layer": factors}, factors):
        with pytest.raises(ValueError, match=r'does not say which side .*labels="lorax"'):
            lora_labels(tree)


@pytest.mark.parametrize("preset", ["lorax", "quax"])
def test_where_b_reads_the_input(preset):
    first, second = jnp.ones((5, 2)), jnp.ones((2, 3))
    factors = {"lorax": {"b": first, "a": second}, "quax": {"a": first, "b": second}}
    tree = {"w": jnp.ones((5, 3))} | factors.pop(preset)
    assert lora_labels(tree, preset) == {"w": "frozen", "a": "B", "b": "A"}
    other = {"w": jnp.ones((5, 3))} | factors.popitem()[1]
    with pytest.raises(ValueError, match=rf"preset '{preset}' must find .* of the shape of w"):
        lora_labels(other, preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_that_matches_nothing_is_refused(preset):
    with pytest.raises(ValueError, match=f"labels: preset '{preset}' finds no factor .*wants"):
        lora_plus(0.1, 0.1, labels=preset).init({"norm": {"scale": jnp.ones(3)}})


def test_a_preset_of_other_names_is_refused():
    with pytest.raises(ValueError, match="preset 'lorax' finds no factor"):
        lora_plus(0.1, 0.1, labels="lorax").init(PARAMS)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"labels: must be one of .*lorax.*'lorx'; lorax\?"):
        lora_plus(0.1, 0.1, labels="lorx").init(PARAMS)


def test_an_unknown_label_is_refused():
    with pytest.raises(ValueError, match=r"labels: must be among .* 'C' for bias"):
        lora_plus(0.1, 0.1, labels=lambda p: dict.fromkeys(p, "C")).init(PARAMS)


LABELS = {"lora_a": "A", "lora_b": "B", "bias": "frozen"}


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        lambda _: LABELS,
        {"layer": LABELS},
        {"layer": "B"},
        {"layer.lora_a": "A", "layer": "B"},
    ],
    ids=["leaves", "function", "nested", "prefix", "longest prefix"],
)
def test_labels_are_matched_by_names_whatever_the_containers(labels):
    class Model(nnx.Module):
        def __init__(self):
            self.layer = nnx.data({name: nnx.Param(array) for name, array in PARAMS.items()})

    top = not isinstance(labels, dict) or "lora_a" in labels
    for params in (PARAMS if top else {"layer": PARAMS}, nnx.state(Model())):
        told = {"layer": LABELS} if top and not isinstance(params, dict) else labels
        plan = lora_plus(0.1, 0.1, labels=told).init(params).plan
        both = zip(plan.paths, plan.parts, strict=True)
        groups = {path.rsplit(".", 1)[-1]: part.group for path, part in both}
        wanted = dict.fromkeys(PARAMS, "B") if told == {"layer": "B"} else LABELS
        if isinstance(told, dict) and "layer.lora_a" in told:
            wanted = dict.fromkeys(PARAMS, "B") | {"lora_a": "A"}
        assert groups == wanted


def test_a_leaf_called_value_labels_no_other():
    params = {"attention": dict.fromkeys(("query", "key", "value"), jnp.ones((3, 3)))}
    labels = {"attention": {"query": "A", "value": "B"}}
    with pytest.raises(ValueError, match=r"labels: must say a group for attention\.key"):
        lora_plus(0.1, 0.1, labels=labels).init(params)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"lora_a": "A"}, r"labels: must say a group for bias \(8,\), as .*\(got lora_a\)"),
        (
            LABELS | {"heads": "A"},
            r"labels: must name leaves .*'heads'\); .*match=\"\*\.heads",
        ),
        ({"lora_a": 1, "lora_b": "B", "bias": "B"}, "labels: must hold names of groups.*lora_a"),
        (3, r"labels: must be a preset, a function or a tree \(got 3\)"),
        ({}, "labels: must be a preset, a function or a tree"),
    ],
)
def test_a_tree_of_labels_that_does_not_fit_is_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        lora_plus(0.1, 0.1, labels=labels).init(PARAMS)


class Adapted(nnx.Module):
    """A small model of all kinds of parameters that the official optimizer tells apart."""

    def __init__(self, rngs):
        key = jax.random.key(0)
        self.embed_a = EmbeddingFactor(jnp.ones((2, 20)))
        self.embed_b = EmbeddingFactor(jnp.ones((8, 2)))
        self.query = nnx.LoRALinear(8, 8, lora_rank=2, rngs=rngs)
        self.value = LoRA(8, 8, 2, weight=jnp.eye(8), key=key)
        self.magnitude = nnx.Param(jnp.ones(8))
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.rms_norm = nnx.RMSNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)
        self.renamed = LoRA(8, 8, 2, key=key)
        self.unbiased = nnx.data({"lora_b": nnx.Param(jnp.ones((8, 2)))})


def official_group(name, module, ndim):
    """Which group the paper's optimizer puts a trained parameter in, restated from its rules:
    adapted embeddings first; then every B and every 1-d parameter, without decay for biases and
    LayerNorms; all else with A.
    """
    if module == "embedding adapter":
        return "embedding"
    if "lora_B" in name or ndim == 1:
        return "no_decay" if "bias" in name or module == "LayerNorm" else "B"
    return "A"


TORCH_NAMES = {
    ("embed_a",): ("embed.lora_embedding_A", "embedding adapter", 2),
    ("embed_b",): ("embed.lora_embedding_B", "embedding adapter", 2),
    ("query", "lora", "lora_a"): ("query.lora_A.weight", "linear adapter", 2),
    ("query", "lora", "lora_b"): ("query.lora_B.weight", "linear adapter", 2),
    ("value", "lora_a"): ("value.lora_A.weight", "linear adapter", 2),
    ("value", "lora_b"): ("value.lora_B.weight", "linear adapter", 2),
    ("norm", "scale"): ("norm.weight", "LayerNorm", 1),
    ("norm", "bias"): ("norm.bias", "LayerNorm", 1),
    ("renamed", "lora_a"): ("renamed.lora_A.weight", "linear adapter", 2),
    ("renamed", "lora_b"): ("renamed.lora_B.weight", "linear adapter", 2),
}
# Where our default differs: a magnitude and an RMSNorm do not decay; a head wants to be named.
OTHERWISE = {
    ("magnitude",): ("query.lora_magnitude_vector", "linear adapter", 1),
    ("rms_norm", "scale"): ("rms_norm.weight", "RMSNorm", 1),
    ("head", "kernel"): ("head.weight", "linear", 2),
    ("head", "bias"): ("head.bias", "linear", 1),
    ("unbiased", "lora_b"): ("unbiased.lora_B.weight", "linear adapter", 2),
}


def trained(*others):
    return nnx.state(
        Adapted(nnx.Rngs(0)),
        nnx.Any(nnx.LoRAParam, *(nnx.PathContains(name) for name in others)),
    )


def test_the_default_is_the_official_grouping_where_both_agree():
    labels = dict(nnx.to_flat_state(lora_labels(trained("norm"))))
    assert labels == {path: official_group(*TORCH_NAMES[path]) for path in TORCH_NAMES}


def test_the_official_grouping_under_its_name():
    params = trained("norm", "magnitude", "rms_norm", "head", "unbiased")
    labels = dict(nnx.to_flat_state(lora_labels(params, "official")))
    wanted = TORCH_NAMES | OTHERWISE
    assert labels == {path: official_group(*wanted[path]) for path in wanted}


def test_where_the_default_differs_from_the_official_grouping():
    labels = dict(nnx.to_flat_state(lora_labels(trained("norm", "magnitude", "rms_norm"))))
    differing = {path: labels[path] for path in (("magnitude",), ("rms_norm", "scale"))}
    assert differing == {("magnitude",): "magnitude", ("rms_norm", "scale"): "no_decay"}
    with pytest.raises(ValueError, match=r"head\.kernel: .*has no label"):
        lora_labels(trained("head"))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"lora_A": {"weight": jnp.ones((2, 3))}}, {"lora_A": {"weight": "A"}}),
        (
            {"lora_B": {"other": {"weight": jnp.ones((2, 3))}}},
            {"lora_B": {"other": {"weight": "B"}}},
        ),
        ({"lora_B": {"inner": {"deep": {"weight": jnp.ones((2, 3))}}}}, None),
        ([{"lora_b": jnp.ones((2, 3))}], [{"lora_b": "B"}]),
        ({"lora_embedding_B": jnp.ones((2, 3))}, {"lora_embedding_B": "embedding"}),
        ({"lora_a.norm.scale": jnp.ones((2, 3))}, {"lora_a.norm.scale": "no_decay"}),
        ({"lora_B.default.bias": jnp.ones(3)}, {"lora_B.default.bias": "no_decay"}),
        ({"mlp/~/linear/lora_a": {"w": jnp.ones((2, 3))}}, {"mlp/~/linear/lora_a": {"w": "A"}}),
        ({"scale": jnp.ones((2, 3))}, None),
        # Beside a norm and below it, a matrix is no norm; what a scan stacks is one.
        ({"ln_proj.weight": jnp.ones((2, 3))}, None),
        ({"norm.w": jnp.ones((2, 3))}, None),
        ({"lora_A.my_ln.weight": jnp.ones((2, 3))}, {"lora_A.my_ln.weight": "A"}),
        (
            {"layernorm_embedding.scale": jnp.ones((2, 3))},
            {"layernorm_embedding.scale": "no_decay"},
        ),
        ({"norm_f.scale": jnp.ones((2, 3))}, {"norm_f.scale": "no_decay"}),
        ({"in_proj_bias": jnp.ones((2, 3))}, {"in_proj_bias": "no_decay"}),
        # A key is a key, also one that Flax gives to what its variables hold.
        ({"lora_a": {"value": jnp.ones((2, 3))}}, {"lora_a": {"value": "A"}}),
        ({("q", "lora_a"): jnp.ones((2, 3))}, {("q", "lora_a"): "A"}),
        ({"block": {"weight": jnp.ones((2, 3))}}, None),
    ],
)
def test_names(params, expected):
    if expected is None:
        with pytest.raises(ValueError, match="no label"):
            lora_labels(params)
    else:
        assert lora_labels(params) == expected


@pytest.mark.parametrize(
    "name",
    ["magnitude", "lora_magnitude_vector", "lora_magnitude", "dora_scale", "weight_magnitude"],
)
@pytest.mark.parametrize("shape", [(6,), (1, 6)])
def test_magnitudes_of_dora(name, shape):
    assert lora_labels({"q": {name: jnp.ones(shape)}}) == {"q": {name: "magnitude"}}


def test_keras_variables():
    entry = next(entry for entry in TREES if entry["project"] == "keras")
    variables = [
        SimpleNamespace(path="/".join(names), shape=tuple(shape))
        for names, shape, *_ in entry["leaves"]
    ]
    labels = keras_labels(variables)
    assert labels == [leaf[-1] for leaf in entry["leaves"]]
    arrays = [jnp.zeros(one.shape) for one in variables]
    plan = lora_plus(0.1, ratio=2.0, labels=labels).init(arrays).plan
    assert [part.group for part in plan.parts] == labels
    with pytest.raises(ValueError, match=r"dense\.kernel: .*a dictionary, .*match=\"dense\"\)"):
        keras_labels([SimpleNamespace(path="dense/kernel", shape=(3, 4))])


def test_masked_variables_hold_no_leaves():
    state = nnx.state(nnx.LoRA(5, 2, 3, rngs=nnx.Rngs(0)))
    masked = jax.tree.map(lambda leaf: optax.MaskedNode() if leaf.shape == (5, 2) else leaf, state)
    assert [leaf.path for leaf in leaves(state)] == ["lora_a", "lora_b"]
    assert [leaf.path for leaf in leaves(masked)] == ["lora_b"]


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


FACTORS = {"m": {"lora_a": jnp.ones((8, 2)), "lora_b": jnp.ones((2, 5))}}


@pytest.mark.parametrize(
    "lost",
    [
        {"head": {"kernel": jnp.ones((5, 3)), "bias": jnp.ones(3)}},
        {"head[0]": {"kernel": jnp.ones((5, 3))}},
        {"q": {"kernel": jnp.ones((8, 5)), "lora_a": jnp.ones((8, 2)), "lora_b": jnp.ones((2, 5))}},
        {"q": {"kernel": jnp.ones((8, 5)), "dora_scale": jnp.ones(5)}},
        {"embed": {"weight": jnp.ones((9, 6)), "lora_embedding_A": jnp.ones((2, 9))}},
        {"blk": {"RMSNorm_0": {"weight": jnp.ones((3, 8))}}},
        {"n": {"scale": jnp.ones((3, 8))}},
        {"table": jnp.ones((3, 8))},
    ],
    ids=str,
)
def test_the_line_to_write_works_as_it_is_pasted(lost):
    """It settles the leaf, and leaves what has a group of another kind in it."""
    params = FACTORS | lost
    with pytest.raises(ValueError, match="has no label") as caught:
        lora_plus(0.1, ratio=2.0).init(params)
    (line,) = re.findall(r"groups=(\{.*?\)\})", str(caught.value))
    groups = eval(line, {"ParamGroup": ParamGroup})
    plan = lora_plus(0.1, ratio=2.0, groups=groups).init(params).plan
    found = {
        path: part.group
        for path, part in zip(plan.paths, plan.parts, strict=True)
        if part.group not in (*groups, "no_decay")
    }
    by_name = {
        "lora_a": "A",
        "lora_b": "B",
        "dora_scale": "magnitude",
        "lora_embedding_A": "embedding",
    }
    assert found == {path: by_name[path.rsplit(".", 1)[-1]] for path in found}
    kept = [path for path in plan.paths if path.rsplit(".", 1)[-1] in by_name]
    assert sorted(found) == sorted(kept)
