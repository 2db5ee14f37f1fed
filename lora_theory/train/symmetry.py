"""The exact symmetry of LoRA's training: α/(pq), p A and q B, with rates to match, give the same f.

The product (α/(pq)) (qB) (pA) is that of before, the gradient of pA is 1/p of that of A, and so:

================================  ======  =======  ===========
update                            η_A     ε_A      decay of A
================================  ======  =======  ===========
sign                              p η_A
Adam                              p η_A   ε_A / p
AdamW (the decay times the rate)  p η_A   ε_A / p  decay_A / p
gradient descent                  p² η_A
================================  ======  =======  ===========

and q in place of p for B. The trajectory f_t of both runs is the same bit for bit if p and q are
powers of two and nothing under- or overflows (Adam squares its gradients, so 1/p² counts). With
others it is the same to rounding as long as no sign depends on it: sign updates and Adam see the
sign of a gradient however small it is. Adam with ε = 0 is 0/0 where a gradient is exactly 0, as
that of A is where B = 0.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lora_theory.adapters.layer import FactorA, FactorB
from lora_theory.arrays import Array
from lora_theory.data.synthetic import linear_task, sine_task
from lora_theory.keys import seed_key
from lora_theory.models.toys import LayerToy, TwoLayerToy
from lora_theory.terms import INITS, Init
from lora_theory.train.coordinates import half_mse

_WIDTH, _RANK, _SAMPLES = 64, 4, 8
# α r^−γ = 3/4: a multiplier of exactly 1 would leave out a product that the other run has.
_ALPHA = 3.0
_DECAY = 0.1
_BASES: dict[str, Callable[[float, float, float], optax.GradientTransformation]] = {
    "gd": lambda eta, eps, decay: optax.sgd(eta),
    "sign": lambda eta, eps, decay: optax.sign_sgd(eta),
    "adam": lambda eta, eps, decay: optax.adam(eta, eps=eps),
    "adamw": lambda eta, eps, decay: optax.adamw(eta, eps=eps, weight_decay=decay),
}


class _Toy(NamedTuple):
    """A model, its task, the width of its inputs, and (η_A, η_B) at which f moves and stays."""

    build: Callable[..., Any]
    task: Callable[..., Any]
    inputs: int
    gd: tuple[float, float]
    processed: tuple[float, float] = (0.005, 0.1)  # Of sign updates and Adam.


_TOYS = {
    "layer": _Toy(functools.partial(LayerToy, _WIDTH, _RANK), linear_task, _WIDTH, (0.1, 16.0)),
    "two_layer": _Toy(functools.partial(TwoLayerToy, 5, _WIDTH, _RANK), sine_task, 5, (0.01, 0.3)),
}


class Powers(NamedTuple):
    """Powers of p by which what belongs to A is multiplied, and of q what belongs to B.

    Attributes:
        rate: of η.
        eps: of Adam's ε.
        decay: of AdamW's weight decay.
    """

    rate: int = 1
    eps: int = -1
    decay: int = -1


_MATCHED = Powers()


def symmetry_gap(
    model: str,
    update: str,
    init: Init,
    p: float,
    q: float,
    *,
    powers: Powers = _MATCHED,
    eps: float = 1e-8,
    steps: int = 8,
    seeds: int = 4,
    double: bool = False,
) -> float:
    """`max |f' − f| / max |f|`: how far α/(pq), p A, q B take the training of a toy from its own.

    Args:
        model: "layer" (`LayerToy`) or "two_layer" (`TwoLayerToy`), of width 64 and rank 4.
        update: gd, sign, adam or adamw.
        init: which factors are random. The two-layer toy never moves from a one-sided init.
        p, q: factors of the initial A and B.
        powers: how rates, ε and weight decays follow p and q.
        eps: Adam's ε of both groups.
        steps: T; f_0 … f_T are compared.
        seeds: how many; `max |f|` is over the steps and samples of a seed.
        double: in float64 instead of float32.

    Returns:
        The largest gap over seeds, steps and samples: exactly 0 if all bits are equal.

    Raises:
        KeyError: an unknown model, update or init.
        ValueError: an f that is not finite or does not move, of which nothing could be learned.

    >>> symmetry_gap("layer", "sign", "A", 8.0, 0.5)
    0.0
    >>> symmetry_gap("layer", "gd", "A", 8.0, 0.5, powers=Powers(rate=2))
    0.0
    >>> symmetry_gap("layer", "gd", "A", 8.0, 0.5, powers=Powers(rate=1)) > 0.1
    True
    """
    run = functools.partial(_trajectories, model, update, eps, steps, seeds, double)
    chosen = INITS.index(init)
    f, other = run(1.0, 1.0, _MATCHED)[chosen], run(float(p), float(q), powers)[chosen]
    if not (np.isfinite(f).all() and np.isfinite(other).all()):
        raise ValueError(f"{model}, {update}, {init}: f is not finite")
    if (f == f[:, :1]).all(axis=(1, 2)).any():
        raise ValueError(f"{model}, {update}, {init}: f does not move")
    gaps = np.abs(other - f).max(axis=(1, 2)) / np.abs(f).max(axis=(1, 2))
    return float(gaps.max())


@functools.lru_cache(maxsize=32)
def _trajectories(
    model: str,
    update: str,
    eps: float,
    steps: int,
    seeds: int,
    double: bool,
    p: float,
    q: float,
    powers: Powers,
) -> np.ndarray:
    """f_0 … f_T of every init and seed, (3, seeds, T + 1, N): one compilation."""
    toy = _TOYS[model]
    rates = toy.gd if update == "gd" else toy.processed
    groups = {
        name: _BASES[update](
            eta * factor**powers.rate, eps * factor**powers.eps, _DECAY * factor**powers.decay
        )
        for name, eta, factor in zip("AB", rates, (p, q), strict=True)
    }
    transform = optax.multi_transform(groups, {"A": "A", "B": "B"})

    def drawn(init: Init, seed: int) -> tuple[Any, tuple[Any, ...]]:
        data = toy.task(toy.inputs, _SAMPLES, 1, key=seed_key(seed))
        built = toy.build(alpha=_ALPHA / (p * q), init=init, key=seed_key(seed))
        built.lora.lora_a[...] *= p
        built.lora.lora_b[...] *= q
        parts: Any = nnx.split(built, FactorA, FactorB, ...)
        graph, a, b, rest = parts
        return graph, ({"A": a, "B": b}, rest, data.x_train, data.y_train)

    with jax.enable_x64(double), jax.default_matmul_precision("highest"):
        runs = [drawn(init, seed) for init in INITS for seed in range(seeds)]
        graph = runs[0][0]

        def trained(params: Any, rest: Any, x: Array, y: Array) -> Array:
            def f(params: Any) -> Array:
                return nnx.merge(graph, params["A"], params["B"], rest)(x)

            return path(f, params, y, transform, steps)

        stacked = jax.tree.map(lambda *values: jnp.stack(values), *(run for _, run in runs))
        f = np.asarray(jax.jit(jax.vmap(trained))(*stacked))
    return f.reshape(len(INITS), seeds, *f.shape[1:])


def path(
    f: Callable[[Any], Array],
    params: Any,
    y: Array,
    transform: optax.GradientTransformation,
    steps: int,
) -> Array:
    """f_t (steps + 1, N) of training on ½ mean (f − y)², from t = 0 on."""

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        grads = jax.grad(lambda params: half_mse(f(params), y))(params)
        updates, state = transform.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), f(params)

    carry, outputs = jax.lax.scan(step, (params, transform.init(params)), length=steps)
    return jnp.concatenate([outputs, f(carry[0])[None]])
