"""Is Δf the sum of the paper's δ¹, δ² and δ³? One step of the linear toy in float64."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.keys import data_half, seed_key
from lora_theory.models.toys import LinearToy
from lora_theory.train.coordinates import half_mse

_WIDTH = 64
_ETA_A, _ETA_B = 0.01, 0.2


def identity_gap(contributions: Sequence[str], seeds: int) -> float:
    """`max |Δf − Σ contributions| / |Δf|` over seeds, with both factors random at the start.

    Δf is what training does; the contributions are computed from the paper's formulas (section
    3.1): δ¹ = −η_a b² U ‖x‖², δ² = −η_b s² U, δ³ = η_a η_b U² b s ‖x‖², U = f − y, s = aᵀx.

    Args:
        contributions: which of delta1, delta2, delta3 are summed.
        seeds: how many.

    >>> identity_gap(("delta1", "delta2", "delta3"), 2) < 1e-12
    True
    """
    wrt = nnx.DiffState(0, nnx.LoRAParam)
    gaps = []
    with jax.enable_x64(True):
        for seed in range(seeds):
            key = seed_key(seed)
            x, y = jax.random.normal(data_half(key), (_WIDTH, 1)), jnp.array([2.0])
            model = LinearToy(_WIDTH, init="both", key=key)
            f = model(x)[0]
            b, s = model.lora.lora_b[0, 0], (model.lora.lora_a[...] @ x)[0, 0]
            u, square = f - y[0], (x**2).sum()
            formulas = {
                "delta1": -_ETA_A * b**2 * u * square,
                "delta2": -_ETA_B * s**2 * u,
                "delta3": _ETA_A * _ETA_B * u**2 * b * s * square,
            }
            plus = lora_plus(_ETA_A, _ETA_B, base=optax.sgd)
            optimizer = nnx.Optimizer(model, plus, wrt=nnx.LoRAParam)
            grads = nnx.grad(lambda m, x=x, y=y: half_mse(m(x), y), argnums=wrt)(model)
            optimizer.update(model, grads)
            df = model(x)[0] - f
            gaps.append(abs(float((df - sum(formulas[c] for c in contributions)) / df)))
    return max(gaps)
