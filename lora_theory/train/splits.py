"""Does training depend on how B A is split? (B G, G⁻¹ A) is the same model; which f_t does it have?

What leaves every f_t as it is, to rounding, of the optimizers that are trained here:

======================================  ===========  ========  =======  =======
optimizer                               permutation  rotation  scale    general
======================================  ===========  ========  =======  =======
scaled gradient descent, LoRA-RITE      yes          yes       yes      yes
gradient descent, scaled and damped     yes          yes       no       no
Adam, AdamW, LoRA+, scaled AdamW        yes          no        no       no
Adafactor                               yes          no        yes      no
======================================  ===========  ========  =======  =======

The columns are kinds of G: a signed permutation; orthogonal; 3 I; any invertible one. Under the
first row a factor of lower rank allows the first three of them alone, if its rank is one to
rounding; where it is so nearly, a pseudo-inverse makes rounding large. Under Adafactor a scale
needs two factors that are not 0, of which it would take the size for 10^−3.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.adapters.rivals import lora_rite, scaled_adamw, scaled_gd
from lora_theory.arrays import Array
from lora_theory.data.synthetic import linear_task, sine_task
from lora_theory.keys import model_key, seed_key
from lora_theory.models.toys import LayerToy, TwoLayerToy
from lora_theory.terms import INITS, Init
from lora_theory.train.symmetry import path

WIDTH, RANK, SAMPLES, STEPS = 64, 4, 8, 20
_SCALE = 3.0
# A model, its task, and the width of its inputs.
_TOYS: dict[str, tuple[Callable[..., Any], Callable[..., Any], int]] = {
    "layer": (functools.partial(LayerToy, WIDTH, RANK), linear_task, WIDTH),
    "two_layer": (functools.partial(TwoLayerToy, 5, WIDTH, RANK), sine_task, 5),
}
# Of one rate; where others have weight decay, momentum or ε by default, so have these.
_OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "scaled_gd": scaled_gd,
    "scaled_gd_damped": functools.partial(scaled_gd, damping=0.1),
    "scaled_gd_hardly_damped": functools.partial(scaled_gd, damping=1e-6),
    "lora_rite": lora_rite,
    "gd": optax.sgd,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "lora_plus": functools.partial(lora_plus, ratio=4),
    "scaled_adamw": scaled_adamw,
    "adafactor": optax.adafactor,
}
# (layer, two_layer): from both factors random losses fall to less than 3/4, on seeds 1000 to 1003.
_RATES = {
    "scaled_gd": (1.0, 0.1),
    "scaled_gd_damped": (1.0, 0.1),
    "scaled_gd_hardly_damped": (1.0, 0.1),
    "lora_rite": (0.01, 0.003),
    "gd": (0.03, 0.003),
    "adam": (0.01, 0.003),
    "adamw": (0.01, 0.003),
    "lora_plus": (0.003, 0.001),
    "scaled_adamw": (0.01, 0.003),
    "adafactor": (0.01, 0.01),
}
_MIXINGS = ("none", "permutation", "rotation", "scale", "general", "B alone")


def split_gaps(model: str, optimizer: str, init: Init, mixing: str, seeds: int = 4) -> np.ndarray:
    """`max |f' − f| / max |f|` for each seed: how far training from (B G, G⁻¹ A) is from (B, A).

    In float64, over f_0 … f_T of all samples.

    Args:
        model: "layer" (`LayerToy`) or "two_layer" (`TwoLayerToy`), of width 64 and rank 4.
        optimizer: scaled_gd, scaled_gd_damped (δ = 1/10), scaled_gd_hardly_damped (10^−6),
            lora_rite, gd, adam, adamw, lora_plus (over AdamW, η_B = 4 η_A), scaled_adamw or
            adafactor; each at one rate, and all else as its library has it.
        init: which factors are random. The two-layer toy never moves from a one-sided init.
        mixing: which G: "permutation" (signed), "rotation" (orthogonal), "scale" (3 I), "general"
            (normal entries), each drawn anew for a seed; or "B alone", the general one without its
            inverse on A, which is another model.
        seeds: how many.

    Returns:
        Shape (seeds,); ∞ where f' is not finite.

    Raises:
        KeyError: an unknown name.
        ValueError: an f that is not finite or moves by 1 % at most, of which nothing could be
            learned.

    >>> bool(split_gaps("layer", "gd", "both", "rotation").max() < 1e-12)
    True
    >>> bool(split_gaps("layer", "gd", "both", "scale").min() > 0.01)
    True
    """
    found = _trajectories(model, optimizer, seeds)
    f, other = found[init, "none"], found[init, mixing]
    where = f"{model}, {optimizer}, {init}"
    if not np.isfinite(f).all():
        raise ValueError(f"{where}: f is not finite")
    if (np.abs(f - f[:, :1]).max(axis=(1, 2)) <= 0.01 * np.abs(f).max(axis=(1, 2))).any():
        raise ValueError(f"{where}: f does not move")
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = np.abs(other - f).max(axis=(1, 2)) / np.abs(f).max(axis=(1, 2))
    return np.where(np.isfinite(gaps), gaps, np.inf)


def mixed(mixing: str, key: Any) -> tuple[np.ndarray, np.ndarray]:
    """G and what multiplies A, G⁻¹ but for "B alone", both (r, r)."""
    normal = np.asarray(jax.random.normal(key, (RANK, RANK)), float)
    rotation = np.linalg.qr(normal)[0]
    g = {
        "none": np.eye(RANK),
        "scale": _SCALE * np.eye(RANK),
        "permutation": np.diag(np.sign(normal[0])) @ np.eye(RANK)[np.argsort(normal[1])],
        "rotation": rotation,
        "general": normal,
        "B alone": normal,
    }[mixing]
    return g, np.eye(RANK) if mixing == "B alone" else np.linalg.inv(g)


@functools.lru_cache(maxsize=32)
def _trajectories(model: str, optimizer: str, seeds: int) -> dict[tuple[Init, str], np.ndarray]:
    """f_0 … f_T (seeds, T + 1, N) for each init and mixing: one compilation."""
    build, task, inputs = _TOYS[model]
    transform = _OPTIMIZERS[optimizer](_RATES[optimizer][list(_TOYS).index(model)])
    grid = [(init, mixing) for init in INITS for mixing in _MIXINGS]

    def drawn(init: Init, mixing: str, seed: int) -> tuple[Any, tuple[Any, ...]]:
        key = seed_key(seed)
        data, built = task(inputs, SAMPLES, 1, key=key), build(init=init, key=key)
        g, on_a = mixed(mixing, model_key(key))
        built.lora.lora_a[...] = on_a @ built.lora.lora_a[...]
        built.lora.lora_b[...] = built.lora.lora_b[...] @ g
        parts: Any = nnx.split(built, nnx.LoRAParam, ...)
        graph, params, rest = parts
        return graph, (params, rest, data.x_train, data.y_train)

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        runs = [drawn(*which, seed) for which in grid for seed in range(seeds)]
        graph = runs[0][0]

        def trained(params: Any, rest: Any, x: Array, y: Array) -> Array:
            def f(params: Any) -> Array:
                return nnx.merge(graph, params, rest)(x)

            return path(f, params, y, transform, STEPS)

        stacked = jax.tree.map(lambda *values: jnp.stack(values), *(run for _, run in runs))
        f = np.asarray(jax.jit(jax.vmap(trained))(*stacked))
    return dict(zip(grid, f.reshape(len(grid), seeds, *f.shape[1:]), strict=True))
