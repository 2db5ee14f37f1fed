"""The coordinate check: how large everything in a LoRA model is, step by step, over widths.

Whatever has LoRA layers of this library can be measured. Nothing here knows a prediction.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lora_theory.adapters.layer import FactorA, FactorB, LayerInput, LoRA
from lora_theory.arrays import Array, Outputs, PRNGKey
from lora_theory.keys import seed_key
from lora_theory.stats.slopes import Table

Setup = Callable[..., tuple[Any, Any, Any]]
LossFn = Callable[[Any, Any], Any]
# A scale-free optimizer may feel its ε by this much before the measurement is refused.
_EPSILON_GAP = 0.05
_BATCH = 16  # Runs that step together: more leave the cache of a core.
_DRAWN = 256  # Seeds that are drawn together: more would only take memory.


class EpsilonError(ValueError):
    """Adam's ε is not far below the gradients, so its updates are no Θ(1) of the gradient."""


class Variant(NamedTuple):
    """One of several coordinate checks that share a compilation and their draws.

    Attributes:
        rates: width -> its rates.
        start: width -> by what the A and the B that `setup` draws are multiplied: (0, 1) makes
            Init[2] of a model that draws both.
    """

    rates: Callable[[int], tuple[float, ...]]
    start: Callable[[int], tuple[float, float]] = lambda width: (1.0, 1.0)


class Deltas(NamedTuple):
    """Contributions to one update of f, each of shape (N,): Δf = δ¹ + δ² + δ³.

    Attributes:
        delta1: only A moved.
        delta2: only B moved.
        delta3: what both moves together add.
    """

    delta1: Array
    delta2: Array
    delta3: Array


def half_mse(f: Outputs, y: Outputs) -> Array:
    """L = mean ½ (f − y)², the loss of the paper's toy models."""
    return 0.5 * jnp.mean(jnp.square(f - y))


def deltas(before: nnx.Module, after: nnx.Module, x: Any) -> Deltas:
    """δ¹, δ², δ³ of an update of any model, by moving one factor at a time.

    With f(A, B) the outputs on x, all layers' A (or B) taken together:
    δ¹ = f(A', B) − f(A, B), δ² = f(A, B') − f(A, B), δ³ the rest of f(A', B') − f(A, B).

    Args:
        before, after: the model before and after the update: same structure, and the same
            weights apart from A and B (those of `before` are used).
        x: its inputs.

    >>> import jax, jax.numpy as jnp
    >>> from lora_theory.models.toys import LinearToy
    >>> before = LinearToy(4, init="both", key=jax.random.key(0))
    >>> after = LinearToy(4, init="both", key=jax.random.key(1))
    >>> x = jnp.ones((4, 1))
    >>> bool(jnp.allclose(sum(deltas(before, after, x)), after(x) - before(x)))
    True
    """
    return _contributions(_outputs(before, after, x))


def _outputs(before: nnx.Module, after: nnx.Module, x: Any) -> Array:
    """f(A, B), f(A', B), f(A, B'), f(A', B'), stacked."""
    parts: list[Any] = [nnx.split(model, FactorA, FactorB, ...) for model in (before, after)]
    (graph, a, b, rest), (_, new_a, new_b, _) = parts

    def f(moves: Array) -> Array:
        def choose(move: Array, old: Any, new: Any) -> Any:
            return jax.tree.map(lambda u, v: jnp.where(move, v, u), old, new)

        return nnx.merge(graph, choose(moves[0], a, new_a), choose(moves[1], b, new_b), rest)(x)

    # Compiled once, and one after the other: equal factors give equal bits.
    return jax.lax.map(f, jnp.array([[0, 0], [1, 0], [0, 1], [1, 1]], bool))


def _contributions(outputs: Array) -> Deltas:
    old, one, two, both = outputs
    # In this order what is exactly 0 stays so: without a move of A, both is two and one is old.
    return Deltas(one - old, two - old, (both - two) - (one - old))


def coordinate_check(
    setup: Setup,
    optimizer: Callable[..., optax.GradientTransformation],
    rates: Callable[[int], tuple[float, ...]],
    widths: Sequence[int],
    *,
    seeds: int | Sequence[int] = 8,
    steps: int = 3,
    loss: LossFn = half_mse,
    dtype: Any = jnp.float64,
    trainable: Any = nnx.LoRAParam,
) -> Table:
    """Sizes of everything in a LoRA model after each of the first steps, over widths and seeds.

    At every t: f and its contributions delta1, delta2, delta3 (one factor moved at a time), and
    of every LoRA layer A, B, Z_A = A Z, Z_B = s B A Z, their moves dA, dB, dZ_A = ΔA Z and
    dZ_B, and the contributions delta1_Z_B, delta2_Z_B, delta3_Z_B to dZ_B (the layer's path
    comes first if there are several). A size is the root mean square over coordinates and
    samples; what is exactly 0 stays exactly 0, with logarithm −inf.

    Args:
        setup: (width, key) -> (model, x, y), traceable in the key. Models and tasks of this library
            take the key itself; what is drawn by hand takes `data_key(key)` or `model_key(key)`.
        optimizer: (*rates) -> optax transformation, as `functools.partial(lora_plus, base=…)`.
        rates: width -> its rates, as `lambda n: (0.5 / n, 0.5)`.
        widths: ascending integers; a slope needs three.
        seeds: how many, or which; seed i has the key `seed_key(i)` at every width.
        steps: T; sizes are taken at t = 1 … T.
        loss: (f, y) -> scalar.
        dtype: float64 by default, since deltas are small differences.
        trainable: an NNX filter of what is trained, as `nnx.Any(nnx.LoRAParam, nnx.PathContains(
            "head"))`; contributions are those of A and B, with all else as it was.

    Returns:
        A `slopes.Table`: `.summary()` prints exponents, `.slope("delta1", 2)` gives one,
        `.columns()` the tidy table.

    Raises:
        ValueError: widths that do not ascend, no seeds or steps, another dtype, a model without
            LoRA layers.
        EpsilonError: Adam's ε is too large for the gradients at the largest width.

    >>> import functools, optax
    >>> from lora_theory import LinearToy, linear_task, lora_plus
    >>> def setup(n, key):
    ...     data = linear_task(n, 1, 1, key=key)
    ...     return LinearToy(n, init="A", key=key), data.x_train, data.y_train
    >>> sgd = functools.partial(lora_plus, base=optax.sgd)
    >>> table = coordinate_check(setup, sgd, lambda n: (0.5 / n, 0.5), [64, 256, 1024], seeds=4)
    >>> str(table.slope("delta1", 1))  # B = 0: A does not move at first
    'identically zero'
    """
    variant = Variant(rates)
    (table,) = coordinate_checks(
        setup,
        optimizer,
        [variant],
        widths,
        seeds=seeds,
        steps=steps,
        loss=loss,
        dtype=dtype,
        trainable=trainable,
    )
    return table


def coordinate_checks(
    setup: Setup,
    optimizer: Callable[..., optax.GradientTransformation],
    variants: Sequence[Variant],
    widths: Sequence[int],
    *,
    seeds: int | Sequence[int] = 8,
    steps: int = 3,
    loss: LossFn = half_mse,
    dtype: Any = jnp.float64,
    trainable: Any = nnx.LoRAParam,
) -> list[Table]:
    """`coordinate_check` at several rates, or from several starts, in one compilation a width.

    Args:
        variants: what differs; the other arguments are those of `coordinate_check`.

    Returns:
        A table for each variant.

    >>> import functools, optax
    >>> from lora_theory import LinearToy, linear_task, lora_plus
    >>> def setup(n, key):
    ...     data = linear_task(n, 1, 1, key=key)
    ...     return LinearToy(n, init="both", key=key), data.x_train, data.y_train
    >>> sgd = functools.partial(lora_plus, base=optax.sgd)
    >>> rates = lambda n: (0.5 / n, 0.5)
    >>> variants = [Variant(rates, lambda n: (1, 0)), Variant(rates, lambda n: (1, 1))]
    >>> tables = coordinate_checks(setup, sgd, variants, [64, 128, 256], seeds=4, steps=1)
    >>> [table.slope("delta1", 1).zero for table in tables]
    [True, False]
    """
    if len(widths) == 0 or any(a >= b for a, b in itertools.pairwise(widths)):
        raise ValueError(f"widths: must be ascending integers (got {list(widths)})")
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    if len(chosen) < 1 or steps < 1:
        raise ValueError(f"seeds and steps: must be at least 1 (got {len(chosen)} and {steps})")
    dtype = jnp.dtype(dtype)
    if dtype not in (jnp.float32, jnp.float64):
        raise ValueError(f"dtype: must be float32 or float64 (got {dtype})")
    with jax.enable_x64(dtype == jnp.float64), jax.default_matmul_precision("highest"):
        draw, run = _drawing(setup), _compiled(optimizer, loss, steps, trainable)
        chunks, batch = _chunks(chosen, len(variants))
        sizes: list[dict[str, np.ndarray]] = []
        for width in reversed(widths):  # The largest first: there ε is looked for.
            rates, starts = (
                tuple(jnp.asarray(values, dtype) for values in zip(*rows, strict=True))
                for rows in ([v.rates(width) for v in variants], [v.start(width) for v in variants])
            )
            look = width == widths[-1]
            found = []
            for keys in chunks:
                logs, gap = jax.device_get(run(batch, look, draw(width, keys), rates, starts))
                _check_epsilon(gap, width)
                found.append(logs)
            # (seeds, variants, steps) each, the last chunk's filling cut off
            joined = {name: np.concatenate([logs[name] for logs in found]) for name in found[0]}
            sizes.append({name: log[: len(chosen)] for name, log in joined.items()})
    stacked = {name: np.stack([size[name] for size in reversed(sizes)]) for name in sizes[0]}
    log2_widths, t = np.log2(np.asarray(widths, float)), np.arange(1, steps + 1)
    return [
        Table(log2_widths, t, {name: logs[:, :, i] for name, logs in stacked.items()})
        for i in range(len(variants))
    ]


@functools.lru_cache(maxsize=32)
def _drawing(setup: Setup) -> Callable[..., Any]:
    """(width, keys) -> model (split), x and y of every key.

    Compiling draws takes longer than compiling steps: so that all optimizers share it.
    """

    def draw(width: int, keys: Any) -> Any:
        def one(key: PRNGKey) -> Any:
            model, x, y = setup(width, key)
            if not _layers(model):
                raise ValueError("setup: the model has no LoRA layer of this library")
            return nnx.split(model), x, y

        return jax.vmap(one)(keys)

    return jax.jit(draw, static_argnums=0, compiler_options=_compiler_options())


@functools.lru_cache(maxsize=32)
def _compiled(
    optimizer: Callable[..., Any], loss: LossFn, steps: int, trainable: Any
) -> Callable[..., tuple[dict[str, Array], Array]]:
    """(batch, whether to look at ε, drawn, rates, starts) -> log2 sizes by name; compiled once a
    width. Rates and starts have an axis of variants, what is drawn one of seeds.
    """

    def run(batch: int, look: bool, drawn: Any, rates: Any, starts: Any) -> Any:
        def one(drawn: Any, rates: Any, start: Any) -> tuple[dict[str, Array], Array]:
            split, x, y = drawn
            model = nnx.merge(*split)
            for _, layer in _layers(model):
                layer.lora_a[...] *= start[0]
                layer.lora_b[...] *= start[1]
            return _run(model, x, y, optimizer(*rates), loss, steps, trainable, look)

        variants = jax.vmap(one, in_axes=(None, 0, 0))
        return jax.lax.map(lambda d: variants(d, rates, starts), drawn, batch_size=batch)

    return jax.jit(run, static_argnums=(0, 1), compiler_options=_compiler_options())


def _compiler_options() -> dict[str, Any] | None:
    """Seconds of compilation for milliseconds of work: on a CPU, optimise little."""
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None


def _chunks(seeds: Sequence[int], variants: int) -> tuple[list[Array], int]:
    """Keys of seeds that are drawn together, and how many of them step together.

    All chunks have one size, whose last is filled up; it does not depend on the variants.
    """
    batch = min(max(1, _BATCH >> (variants - 1).bit_length()), len(seeds))
    count = -(-len(seeds) // _DRAWN)
    unit = _BATCH if len(seeds) > _BATCH else batch
    size = -(-len(seeds) // (count * unit)) * unit
    filled = [*seeds, *[seeds[-1]] * (count * size - len(seeds))]
    return list(jax.vmap(seed_key)(jnp.array(filled)).reshape(count, size)), batch


def _run(
    model: Any,
    x: Any,
    y: Any,
    transform: Any,
    loss: LossFn,
    steps: int,
    trainable: Any,
    look: bool,
) -> tuple[dict[str, Array], Array]:
    """log2 sizes of everything after each step of one run, and how much ε is felt."""
    parts: Any = nnx.split(model, trainable, ...)
    graph, params, rest = parts

    def merged(params: Any) -> Any:
        return nnx.merge(graph, params, rest)

    gradient = jax.grad(lambda params: loss(merged(params)(x), y))

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        grads = gradient(params)
        updates, state = transform.update(grads, state, params)
        moved = optax.apply_updates(params, updates)
        logs = _sizes(merged(params), merged(moved), merged(updates), x)
        gap = _epsilon_gap(transform, grads, params) if look else jnp.zeros(())
        return (moved, state), (logs, gap)

    return jax.lax.scan(step, (params, transform.init(params)), length=steps)[1]


def _sizes(before: Any, after: Any, moves: Any, x: Any) -> dict[str, Array]:
    _, captured = nnx.capture(lambda model, x: model(x), LayerInput)(after, x)
    inputs = nnx.to_pure_dict(captured)
    outputs = _outputs(before, after, x)
    # With all else as it was; a head that trains too moves f further.
    sizes = {"f": outputs[3]} | _contributions(outputs)._asdict()
    layers = [dict(_layers(model)) for model in (before, after, moves)]
    for path in layers[0]:
        old, new, move = (found[path] for found in layers)
        prefix = f"{'.'.join(map(str, path))}." if len(layers[0]) > 1 else ""
        for name, value in _layer_sizes(old, new, move, _input(inputs, path)).items():
            sizes[prefix + name] = value
    return {name: _log2_rms(value) for name, value in sizes.items()}


def _log2_rms(v: Array) -> Array:
    """log2 of the root mean square; scaled first, so that only an exact 0 has −inf."""
    scale = 1 / jnp.maximum(jnp.max(jnp.abs(v)), jnp.finfo(v.dtype).tiny)
    return 0.5 * jnp.log2(jnp.mean(jnp.square(scale * v))) - jnp.log2(scale)


def _layer_sizes(before: LoRA, after: LoRA, move: LoRA, z: Array) -> dict[str, Array]:
    """Sizes of one layer; the moves are the optimizer's own, so nothing cancels."""
    a, b = before.lora_a[...], before.lora_b[...]
    da, db = move.lora_a[...], move.lora_b[...]
    z_a, dz_a, s = a @ z, da @ z, before.scale
    parts = {"delta1_Z_B": s * b @ dz_a, "delta2_Z_B": s * db @ z_a, "delta3_Z_B": s * db @ dz_a}
    new_z_a = after.lora_a[...] @ z
    return {
        "A": after.lora_a[...],
        "B": after.lora_b[...],
        "Z_A": new_z_a,
        "Z_B": s * after.lora_b[...] @ new_z_a,
        "dA": da,
        "dB": db,
        "dZ_A": dz_a,
        "dZ_B": parts["delta1_Z_B"] + parts["delta2_Z_B"] + parts["delta3_Z_B"],
        **parts,
    }


def _layers(model: Any) -> list[tuple[tuple[Any, ...], LoRA]]:
    return [(path, module) for path, module in nnx.iter_modules(model) if isinstance(module, LoRA)]


def _input(inputs: Any, path: tuple[Any, ...]) -> Array:
    """The columns that the layer at `path` read, of all its calls side by side."""
    for key in path:
        inputs = inputs[key]
    return jnp.concatenate([z.reshape(z.shape[0], -1) for z in inputs["z"]], axis=1)


def _epsilon_gap(transform: Any, grads: Any, params: Any) -> Array:
    """How much a first update depends on the size of the gradient, where it should not.

    Adam does not feel the scale of its gradients but through ε. An optimizer whose updates are
    the same for gradients of size 10^10 and 10^12 is of that kind; if those for the gradients as
    they are differ, ε is felt. For other optimizers the gap is 0.
    """

    def update(scale: float | None) -> list[Array]:
        def scaled(g: Array) -> Array:
            size = jnp.sqrt(jnp.mean(jnp.square(g)))
            return g if scale is None else scale * g / jnp.where(size > 0, size, 1.0)

        scaled_grads = jax.tree.map(scaled, grads)
        return jax.tree.leaves(transform.update(scaled_grads, transform.init(params), params)[0])

    def apart(left: Array, right: Array) -> Array:
        size = jnp.linalg.norm(right)
        return jnp.linalg.norm(left - right) / jnp.where(size > 0, size, 1.0)

    own, large, larger = update(None), update(1e10), update(1e12)
    gaps = [
        jnp.where(apart(u, v) < _EPSILON_GAP / 5, apart(g, v), 0.0)
        for g, u, v in zip(own, large, larger, strict=True)
    ]
    return jnp.stack(gaps).max()


def _check_epsilon(gap: np.ndarray, width: int) -> None:
    worst = float(np.nanmax(gap, initial=0.0))
    if worst > _EPSILON_GAP:
        raise EpsilonError(
            f"optimizer: its ε is too large for the gradients at n = {width}: updates are "
            f"{worst:.0%} off those of larger gradients, at most {_EPSILON_GAP:.0%} are allowed; "
            "lower eps (optax.adam, eps=1e-30) or the widths"
        )
