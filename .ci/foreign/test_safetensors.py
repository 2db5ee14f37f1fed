"""LoRA+ on the flat keys of an adapter file of PEFT."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.flax import load_file, save_file

from lora_theory import lora_labels, lora_plus

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("adapter", ["", ".default"])
def test_an_adapter_file_trains(adapter, tmp_path, same_bits):
    a, b = (f"{LAYER}.lora_{factor}{adapter}.weight" for factor in "AB")
    key_a, key_b = jax.random.split(jax.random.key(0))
    saved = {a: jax.random.normal(key_a, (2, 10)), b: jax.random.normal(key_b, (6, 2))}
    save_file(saved, tmp_path / "adapter_model.safetensors")
    params = load_file(tmp_path / "adapter_model.safetensors")
    same_bits(params, saved)
    assert lora_labels(params) == {a: "A", b: "B"}

    x = jnp.ones((3, 10))
    tx = lora_plus(1e-3, ratio=16.0, base=optax.adam)
    grads = jax.grad(lambda p: (x @ p[a].T @ p[b].T).sum())(params)
    updates, _ = tx.update(grads, tx.init(params), params)
    for name, rate in ((a, 1e-3), (b, 16e-3)):
        np.testing.assert_allclose(jnp.abs(updates[name]).max(), rate, rtol=1e-3)
