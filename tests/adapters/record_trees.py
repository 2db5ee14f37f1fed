"""Record small LoRA parameter trees as the JAX projects make them, into trees.json. No test.

    python tests/adapters/record_trees.py [FILE]

Records every project that is installed and keeps the entries of the others, so that it can run once
in each of several environments (lorax needs an older JAX). Trees of projects that do not install
are restated from their sources.

A is the factor that the input of the layer meets, whatever it is called: each entry says in `why`
which axis that is. Layers are rectangular, so that A and B differ in shape. A group of null is a
leaf that nothing in the tree tells anything about, such as a kernel that may be trained or not: it
must be refused.
"""

import importlib.metadata
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

FILE = Path(__file__).with_name("trees.json")
RAN, RESTATED = "ran", "restated from source"
Groups = dict[str, str | None]
Row = tuple[tuple[str | int, ...], tuple[int, ...], str | None]

FACTORS: Groups = {"lora_a": "A", "lora_b": "B"}
# What stands beside the factors in whole trees. Bias and scale act elementwise, whatever their
# shape; a kernel may be trained or frozen.
BESIDE: Groups = {"kernel": None, "bias": "no_decay", "scale": "no_decay"}


def entry(
    project: str,
    tree: str,
    leaves: list[list[Any]],
    why: str,
    *,
    version: str,
    recorded: str = RAN,
    preset: str | None = None,
) -> dict[str, Any]:
    return {
        "project": project,
        "tree": tree,
        "version": version,
        "recorded": recorded,
        "preset": preset,
        "why": why,
        "leaves": leaves,
    }


def restated(
    project: str,
    source: str,
    why: str,
    *rows: Row,
    tree: str = "trainable",
    preset: str | None = None,
    dtype: str = "float32",
    kind: str | None = None,
) -> dict[str, Any]:
    leaves = [[list(path), list(shape), dtype, kind, group] for path, shape, group in rows]
    version = f"file read: {source}"
    return entry(project, tree, leaves, why, version=version, recorded=RESTATED, preset=preset)


def group(path: list[str | int], groups: Groups) -> str | None:
    """By the last two names, else by the last that is no index."""
    names = [name for name in path if isinstance(name, str)]
    return groups["/".join(names[-2:])] if "/".join(names[-2:]) in groups else groups[names[-1]]


def nnx_leaves(state: Any, groups: Groups) -> list[list[Any]]:
    from flax import nnx

    return [
        [list(path), list(leaf.shape), str(leaf.dtype), type(leaf).__name__, group(path, groups)]
        for path, leaf in nnx.to_flat_state(state)
    ]


def tree_leaves(tree: Any, groups: Groups) -> list[list[Any]]:
    """Of any other pytree; what is no array, such as an activation of Equinox, is left out."""
    leaves = []
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, jax.Array | np.ndarray):
            path = [component(key) for key in keys]
            leaves.append([path, list(leaf.shape), str(leaf.dtype), None, group(path, groups)])
    return leaves


def component(key: Any) -> str | int:
    (value,) = (getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name))
    return value if isinstance(value, str | int) else str(value)


def versions(*packages: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def flax_nnx() -> Iterable[dict[str, Any]]:
    from flax import nnx

    why = "x @ lora_a @ lora_b: x meets axis 0 of lora_a (in, r)"
    base = nnx.Linear(10, 6, rngs=nnx.Rngs(0))
    models = {
        "flax nnx.LoRA": nnx.LoRA(10, 2, 6, base_module=base, rngs=nnx.Rngs(0)),
        "flax nnx.LoRALinear": nnx.LoRALinear(10, 6, lora_rank=2, rngs=nnx.Rngs(0)),
    }
    flax = versions("flax")
    for project, model in models.items():
        for tree, kept in (("trainable", nnx.LoRAParam), ("whole", nnx.Param)):
            leaves = nnx_leaves(nnx.state(model, kept), FACTORS | BESIDE)
            yield entry(project, tree, leaves, why, version=flax)

    class Block(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.norm = nnx.LayerNorm(10, rngs=rngs)
            self.dense = nnx.LoRALinear(10, 6, lora_rank=2, rngs=rngs)

    stacked = nnx.vmap(Block)(nnx.Rngs(0).fork(split=3))
    trained = nnx.Any(nnx.LoRAParam, nnx.PathContains("norm"))
    why = "axis 0 of every leaf is the layer of a scan; inside a layer as nnx.LoRALinear"
    for tree, kept in (("trainable", trained), ("whole", nnx.Param)):
        leaves = nnx_leaves(nnx.state(stacked, kept), FACTORS | BESIDE)
        yield entry("flax nnx scan", tree, leaves, why, version=flax)


def flax_linen() -> Iterable[dict[str, Any]]:
    from flax import linen as nn

    class Adapted(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            down = nn.Dense(2, use_bias=False, name="lora_A")(x)
            return nn.Dense(6, name="dense")(x) + nn.Dense(6, use_bias=False, name="lora_B")(down)

    params = Adapted().init(jax.random.key(0), jnp.ones((1, 10)))["params"]
    groups = BESIDE | {"lora_A/kernel": "A", "lora_B/kernel": "B", "dense/kernel": None}
    factors = {name: params[name] for name in ("lora_A", "lora_B")}
    why = "lora_B(lora_A(x)): x meets axis 0 of lora_A/kernel (in, r)"
    for tree, kept in (("trainable", factors), ("whole", params)):
        leaves = tree_leaves(kept, groups)
        yield entry("flax linen by hand", tree, leaves, why, version=versions("flax"))


def haiku() -> Iterable[dict[str, Any]]:
    import haiku as hk

    def adapted(x: Any) -> Any:
        with hk.experimental.name_scope("block"):
            down = hk.Linear(2, with_bias=False, name="lora_a")(x)
            return hk.Linear(6, name="linear")(x) + hk.Linear(6, False, name="lora_b")(down)

    params = hk.transform(adapted).init(jax.random.key(0), jnp.ones((1, 10)))
    groups: Groups = {
        "block/lora_a/w": "A",
        "block/lora_b/w": "B",
        "block/linear/w": None,
        "block/linear/b": "no_decay",
    }
    factors = {name: leaves for name, leaves in params.items() if "lora" in name}
    why = "lora_b(lora_a(x)): x meets axis 0 of lora_a's w (in, r); module names hold slashes"
    for tree, kept in (("trainable", factors), ("whole", params)):
        leaves = tree_leaves(kept, groups)
        yield entry("haiku by hand", tree, leaves, why, version=versions("dm-haiku"))


QWIX: Groups = {
    "kernel_lora_a": "A",
    "kernel_lora_b": "B",
    "w_lora_a": "A",
    "w_lora_b": "B",
    "w": None,
    "final_norm/w": "no_decay",
    "input_layernorm/w": "no_decay",
    "post_attention_layernorm/w": "no_decay",
    "input_embedding": None,
}


def qwix() -> Iterable[dict[str, Any]]:
    import qwix
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.dense = nnx.Linear(10, 6, rngs=rngs)
            self.query = nnx.Einsum("btd,dnh->btnh", (10, 3, 4), (3, 4), rngs=rngs)
            self.out = nnx.Einsum("btnh,nhd->btd", (3, 4, 10), rngs=rngs)
            self.experts = nnx.Einsum("ebd,edf->ebf", (5, 10, 7), rngs=rngs)
            self.batched = nnx.LinearGeneral(10, 7, batch_axis={0: 5}, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(
                3, in_features=10, qkv_features=12, out_features=8, decode=False, rngs=rngs
            )
            self.conv = nnx.Conv(10, 7, kernel_size=(3,), rngs=rngs)

        def __call__(self, x: Any) -> Any:
            copies = jnp.stack([x[0]] * 5)
            self.out(self.query(x)), self.experts(copies), self.batched(copies)
            self.attention(x), self.conv(x)
            return self.dense(x)

    provider = qwix.LoraProvider(module_path=".*", rank=2, alpha=4.0)
    model = qwix.apply_lora_to_model(
        Model(nnx.Rngs(0)), provider, jnp.ones((2, 3, 10)), rngs=nnx.Rngs(1)
    )
    why = (
        "x is contracted with all axes of kernel_lora_a but its last, r (and a batch axis, if any: "
        "dot_general gives it to both factors, einsum to A alone)"
    )
    for tree, kept in (("trainable", nnx.LoRAParam), ("whole", nnx.Param)):
        leaves = nnx_leaves(nnx.state(model, kept), QWIX | BESIDE)
        yield entry("qwix", tree, leaves, why, version=versions("qwix"))


def tunix() -> Iterable[dict[str, Any]]:
    import qwix
    from flax import nnx
    from tunix.models.llama3 import model as llama

    config = llama.ModelConfig(
        num_layers=1,
        vocab_size=20,
        embed_dim=10,
        hidden_dim=14,
        num_heads=3,
        head_dim=4,
        num_kv_heads=1,
        rope_theta=10_000,
        norm_eps=1e-6,
    )
    base = llama.Llama3(config, rngs=nnx.Rngs(0))
    pattern = ".*(q_proj|k_proj|v_proj|o_proj|gate_proj|down_proj|up_proj)"
    provider = qwix.LoraProvider(module_path=pattern, rank=2, alpha=4.0)
    model = qwix.apply_lora_to_model(base, provider, **base.get_model_input(), rngs=nnx.Rngs(1))
    why = "qwix's factors: x is contracted with all axes of …_lora_a but its last, r"
    for tree, kept in (("trainable", nnx.LoRAParam), ("whole", nnx.Param)):
        leaves = nnx_leaves(nnx.state(model, kept), QWIX | BESIDE)
        yield entry("qwix through tunix", tree, leaves, why, version=versions("google-tunix"))


def keras() -> Iterable[dict[str, Any]]:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    inputs = keras.Input((7,), dtype="int32")
    x = keras.layers.Embedding(20, 10, name="embed")(inputs)
    query = keras.layers.EinsumDense(
        "btd,dnh->btnh", output_shape=(None, 3, 4), bias_axes="nh", name="query"
    )
    x = keras.layers.Reshape((7, 12))(query(x))
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.Conv1D(5, 3, name="conv")(x)
    model = keras.Model(inputs, keras.layers.Dense(6, name="dense")(x))
    for name in ("embed", "query", "conv", "dense"):
        model.get_layer(name).enable_lora(2)
    groups = BESIDE | {
        "lora_kernel_a": "A",
        "lora_kernel_b": "B",
        "lora_embeddings_a": "embedding",
        "lora_embeddings_b": "embedding",
        "embeddings": None,
        "gamma": "no_decay",
        "beta": "no_decay",
    }
    why = (
        "x is contracted with lora_kernel_a, r is its last axis; with einsum A keeps the kernel's "
        "other output axes. JAX sees a list of arrays in this order, paths are variable.path"
    )
    for tree, kept in (("trainable", model.trainable_variables), ("whole", model.variables)):
        leaves = []
        for variable in kept:
            path = variable.path.split("/")
            leaves.append([path, list(variable.shape), variable.dtype, None, group(path, groups)])
        yield entry("keras", tree, leaves, why, version=versions("keras"))


def quax() -> Iterable[dict[str, Any]]:
    import equinox as eqx
    from quax.examples import lora

    model = eqx.nn.MLP(10, 6, 8, 1, key=jax.random.key(0))
    model = lora.loraify(model, rank=2, key=jax.random.key(1))
    factors = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if component(path[-1]) in ("a", "b") else None, model
    )
    groups: Groups = {"b": "A", "a": "B", "_w": "frozen", "bias": "no_decay"}
    why = (
        "w @ x + a @ (b @ x): x meets axis 1 of b (r, in), so b is A although it starts at zero; "
        "the gradient of _w is stopped"
    )
    for tree, kept in (("trainable", factors), ("whole", model)):
        leaves = tree_leaves(kept, groups)
        version = versions("quax", "equinox")
        yield entry("quax example", tree, leaves, why, version=version, preset="quax")


def lorax() -> Iterable[dict[str, Any]]:
    import lorax

    params = {
        "dense": {"kernel": jnp.ones((10, 6)), "bias": jnp.ones(6)},
        "conv": {"kernel": jnp.ones((3, 3, 10, 6))},
    }
    spec = lorax.simple_spec(params, lambda path, leaf: 2, tune_vectors=True)
    params = lorax.init_lora(params, spec, jax.random.PRNGKey(0))
    factors = jax.tree_util.tree_map_with_path(
        lambda path, leaf: None if component(path[-1]) == "w" else leaf, params
    )
    groups: Groups = {"b": "A", "a": "B", "w": "frozen", "bias": "no_decay"}
    why = (
        "x @ w + (x @ b) @ a with kernels (in, out): x meets axis -2 of b (in, r), so b is A; it "
        "starts at zero in dense layers and at random in convolutions; wrap_optimizer freezes w"
    )
    for tree, kept in (("trainable", factors), ("whole", params)):
        leaves = tree_leaves(kept, groups)
        version = versions("jax-lorax", "qax", "jax")
        yield entry("lorax", tree, leaves, why, version=version, preset="lorax")


def from_sources() -> Iterable[dict[str, Any]]:
    """The projects that need accelerators, clusters or PyTorch to install."""
    why = "(x @ lora_a) @ lora_b: x meets axis 0 of lora_a (in, r)"
    for project, source in (
        ("EasyDeL", "erfanzar/EasyDeL easydel/layers/linears/_lora.py"),
        ("EasyDeL by collections", "erfanzar/Spectrax spectrax/core/state.py, spectrax/nn/lora.py"),
    ):
        # As a tree of modules, and as Spectrax exports it: a first key for the collection.
        lead = ("lora",) if "collections" in project else ()
        layer = (*lead, "layers", "0", "self_attn", "q_proj")
        yield restated(
            project,
            source,
            why,
            ((*layer, "lora_a"), (10, 2), "A"),
            ((*layer, "lora_b"), (2, 6), "B"),
            kind=None if lead else "LoraParameter",
        )

    block = ("decoder", "layers", "self_attention")
    maxtext = (
        ((*block, "query", "lora_a.kernel"), (10, 5, 2), "A"),
        ((*block, "query", "lora_b.kernel"), (2, 5, 3, 4), "B"),
        ((*block, "out", "lora_a.kernel"), (3, 5, 4, 2), "A"),
        ((*block, "out", "lora_b.kernel"), (2, 5, 10), "B"),
    )
    yield restated(
        "MaxText legacy",
        "AI-Hypercomputer/maxtext src/maxtext/utils/lora_utils.py",
        "kernel (in, layers, heads, head) += lora_a.kernel (in, layers, r) · lora_b.kernel "
        "(r, layers, heads, head): A has the kernel's leading, input axes; layers are axis 1; keys "
        "hold a dot",
        *maxtext,
    )

    attention, mlp = ("layer_0", "attn"), ("layer_0", "mlp")
    gemma = (
        ((*attention, "_LoRAEinsum_0", "lora", "a"), (10, 2), "A"),
        ((*attention, "_LoRAEinsum_0", "lora", "b"), (2, 3, 4), "B"),
        ((*attention, "_LoRAEinsum_1", "lora", "a"), (3, 4, 2), "A"),
        ((*attention, "_LoRAEinsum_1", "lora", "b"), (2, 10), "B"),
        ((*mlp, "_LoRAEinsum_gating_einsum", "lora", "a"), (10, 2), "A"),
        ((*mlp, "_LoRAEinsum_gating_einsum", "lora", "b"), (2, 2, 14), "B"),
        ((*mlp, "_LoRAEinsum_linear", "lora", "a"), (14, 2), "A"),
        ((*mlp, "_LoRAEinsum_linear", "lora", "b"), (2, 10), "B"),
    )
    beside = (
        ((*attention, "q_einsum", "w"), (3, 10, 4), None),
        ((*mlp, "gating_einsum"), (2, 14, 10), None),
        (("layer_0", "pre_attention_norm", "scale"), (10,), "no_decay"),
    )
    for tree, rows in (("trainable", gemma), ("whole", gemma + beside)):
        yield restated(
            "gemma peft",
            "google-deepmind/gemma gemma/peft/_lora.py, gemma/gm/nn/_lora.py",
            "einsum BTD,Dr,rNH: x is contracted with the axes of a before its last, r; q keeps the "
            "head axes in b, the output projection has them in a",
            *rows,
            tree=tree,
            dtype="bfloat16",
        )

    layers = ("PaliGemma", "llm", "layers")
    attention, mlp = (*layers, "attn"), (*layers, "mlp_1")
    openpi = (
        ((*attention, "q_einsum", "lora_a"), (5, 3, 10, 2), "A"),
        ((*attention, "q_einsum", "lora_b"), (5, 3, 2, 4), "B"),
        ((*attention, "kv_einsum", "lora_a"), (5, 2, 1, 10, 2), "A"),
        ((*attention, "kv_einsum", "lora_b"), (5, 2, 1, 2, 4), "B"),
        ((*attention, "attn_vec_einsum", "lora_a"), (5, 3, 4, 2), "A"),
        ((*attention, "attn_vec_einsum", "lora_b"), (5, 3, 2, 10), "B"),
        ((*mlp, "gating_einsum_lora_a"), (5, 2, 10, 2), "A"),
        ((*mlp, "gating_einsum_lora_b"), (5, 2, 2, 14), "B"),
        ((*mlp, "linear_lora_a"), (5, 14, 2), "A"),
        ((*mlp, "linear_lora_b"), (5, 2, 10), "B"),
    )
    beside = (
        ((*attention, "q_einsum", "w"), (5, 3, 10, 4), None),
        ((*mlp, "gating_einsum"), (5, 2, 10, 14), None),
        ((*layers, "pre_attention_norm", "scale"), (5, 10), "no_decay"),
        (("PaliGemma", "llm", "embedder", "input_embedding"), (20, 10), None),
        (("action_in_proj", "kernel"), (7, 10), None),
        (("action_in_proj", "bias"), (10,), "no_decay"),
    )
    # The trainable tree of the project itself also holds the heads and the image tower, whose
    # kernels nothing tells from frozen ones; "trainable" is the factors alone.
    for tree, rows in (("trainable", openpi), ("whole", openpi + beside)):
        yield restated(
            "openpi",
            "Physical-Intelligence/openpi src/openpi/models/lora.py, gemma.py",
            "einsum of x with lora_a over axis -2 (in), r is axis -1; both factors start random, "
            "axis 0 is the layer of a scan; heads stay in both factors",
            *rows,
            tree=tree,
            kind="Param",
        )

    linear, qkv, out = ("ffn", "linear1"), ("attention", "i_proj"), ("attention", "o_proj")
    axlearn = (
        ((*linear, "adapter", "lora_down", "weight"), (10, 2), "A"),
        ((*linear, "adapter", "lora_up", "weight"), (2, 6), "B"),
        ((*qkv, "adapter", "lora_down", "weight"), (12, 3, 2), "A"),
        ((*qkv, "adapter", "lora_up", "weight"), (3, 2, 3, 4), "B"),
        ((*out, "adapter", "lora_down", "weight"), (2, 3, 4), "A"),
        ((*out, "adapter", "lora_up", "weight"), (2, 12), "B"),
    )
    beside = (
        ((*linear, "layer", "weight"), (10, 6), None),
        ((*linear, "layer", "bias"), (6,), "no_decay"),
    )
    for tree, rows in (("trainable", axlearn), ("whole", axlearn + beside)):
        yield restated(
            "axlearn",
            "apple/axlearn axlearn/common/lora.py",
            "lora_up(lora_down(x)): x meets axis 0 of lora_down (in, r), but axes 1 and 2 of the "
            "output projection's (r, heads, head)",
            *rows,
            tree=tree,
            preset="axlearn",
        )

    # A NamedArray flattens without names: its array is child 0.
    adapted = ("transformer", "layers", "stacked", "attn", "q_proj")
    levanter: tuple[Row, ...] = (
        ((*adapted, "lora", "lora_A", "weight", 0), (5, 2, 10), "A"),
        ((*adapted, "lora", "lora_B", "weight", 0), (5, 6, 2), "B"),
    )
    beside = (
        ((*adapted, "wrapped", "weight", 0), (5, 6, 10), None),
        (("transformer", "ln_f", "weight", 0), (10,), "no_decay"),
    )
    for tree, rows in (("trainable", levanter), ("whole", levanter + beside)):
        yield restated(
            "levanter",
            "levanter 1.1 lora.py, haliax 1.3 core.py",
            "lora_B(lora_A(x)) with out_first: x meets the last axis of lora_A (layers, r, in)",
            *rows,
            tree=tree,
        )

    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    table, conv = "base_model.model.model.embed_tokens", "base_model.model.model.conv"
    peft = (
        (f"{layer}.lora_A{{}}.weight", (2, 10), "A"),
        (f"{layer}.lora_B{{}}.weight", (6, 2), "B"),
        (f"{layer}.lora_B{{}}.bias", (6,), "no_decay"),
        (f"{layer}.lora_magnitude_vector{{}}", (6,), "magnitude"),
        (f"{conv}.lora_A{{}}.weight", (2, 10, 3, 3), "A"),
        (f"{conv}.lora_B{{}}.weight", (6, 2, 1, 1), "B"),
        (f"{conv}.lora_magnitude_vector{{}}", (1, 6, 1, 1), "magnitude"),
        (f"{table}.lora_embedding_A{{}}", (2, 20), "embedding"),
        (f"{table}.lora_embedding_B{{}}", (10, 2), "embedding"),
    )
    for project, adapter in (("peft as saved", ""), ("peft as trained", ".default")):
        rows = tuple(
            # Saving cuts more off the name of a magnitude than off the others.
            (
                (name.format(adapter) + (".weight" if adapter and "magnitude" in name else ""),),
                *rest,
            )
            for name, *rest in peft
        )
        yield restated(
            project,
            "huggingface/peft src/peft/tuners/lora/layer.py, dora.py, "
            "src/peft/utils/save_and_load.py",
            "lora_B(lora_A(x)) with weights (out, in): x meets axis 1 of lora_A (r, in); one flat "
            "key a leaf; a convolution's magnitude has four axes",
            *rows,
        )

    yield restated(
        "keras-hub DoRA",
        "keras-team/keras-hub keras_hub/src/layers/modeling/dora_dense.py",
        "x @ (kernel + lora_a @ lora_b) normed: x meets axis 0 of lora_a (in, r); the magnitude "
        "scales outputs",
        (("dense", "lora_a"), (10, 2), "A"),
        (("dense", "lora_b"), (2, 6), "B"),
        (("dense", "magnitude"), (6,), "magnitude"),
        (("dense", "bias"), (6,), "no_decay"),
    )


RECORDERS: tuple[Callable[[], Iterable[dict[str, Any]]], ...] = (
    flax_nnx,
    flax_linen,
    haiku,
    qwix,
    tunix,
    keras,
    quax,
    lorax,
    from_sources,
)


def main(out: Path) -> None:
    kept = json.loads(FILE.read_text()) if FILE.exists() else []
    entries = {(old["project"], old["tree"]): old for old in kept}
    for recorder in RECORDERS:
        try:
            new = list(recorder())
        except ImportError as error:
            print(f"{recorder.__name__}: kept as it is ({error})")
            continue
        entries |= {(one["project"], one["tree"]): one for one in new}
    out.write_text(dumped([entries[key] for key in sorted(entries)]))
    print(f"{out.name}: {len(entries)} trees")


def dumped(entries: list[dict[str, Any]]) -> str:
    """One line a leaf."""
    blocks = []
    for one in entries:
        fields = [
            f"    {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}"
            for k, v in one.items()
            if k != "leaves"
        ]
        leaves = ",\n".join(f"      {json.dumps(leaf)}" for leaf in one["leaves"])
        fields.append(f'    "leaves": [\n{leaves}\n    ]')
        blocks.append("  {\n" + ",\n".join(fields) + "\n  }")
    return "[\n" + ",\n".join(blocks) + "\n]\n"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
