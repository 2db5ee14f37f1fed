"""The coordinate check: how large everything in a LoRA model is, step by step, over widths.

Whatever has LoRA layers of this library can be measured. Nothing here knows a prediction.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lora_theory import arguments
from lora_theory.arrays import Array, Float, PRNGKey
from lora_theory.keys import seed_key
from lora_theory.stats.tables import Predicted, Table, check_predicted
from lora_theory.train.epsilon import EpsilonError, check_epsilon, epsilon_gap
from lora_theory.train.layers import fresh, layers, scale_factors
from lora_theory.train.programs import program
from lora_theory.train.setups import (
    check_functions,
    checked_dtype,
    checked_rates,
    checked_seeds,
    checked_setup,
    checked_widths,
    in_words,
)
from lora_theory.train.sizes import sizes_of

__all__ = ["EpsilonError", "Variant", "coordinate_check", "coordinate_checks", "half_mse"]

Setup = Callable[..., tuple[Any, Any, Any]]
LossFn = Callable[[Any, Any], Any]
_BATCH = 16  # Runs that step together: more leave the cache of a core.
_DRAWN = 256  # Seeds that are drawn together: more would only take memory.


class Variant(NamedTuple):
    """One of several coordinate checks that share a compilation and their draws.

    Attributes:
        rates: width -> its rates.
        start: width -> by what the A and the B that `setup` draws are multiplied: (0, 1) makes
            Init[2] of a model that draws both.
        predicted: what is predicted at these rates; see `stats.tables.Table`.
    """

    rates: Callable[[int], tuple[float, ...]]
    start: Callable[[int], tuple[float, float]] = lambda width: (1.0, 1.0)
    predicted: Predicted = MappingProxyType({})


def half_mse(f: Float[Array, "..."], y: Float[Array, "..."]) -> Array:
    """L = mean ½ (f − y)², the loss of the paper's toy models.

    Raises:
        ValueError: f and y of different shapes, which would be broadcast to pairs.
    """
    if jnp.shape(f) != jnp.shape(y):
        raise ValueError(f"y: must have the shape of f, {jnp.shape(f)} (got {jnp.shape(y)})")
    return 0.5 * jnp.mean(jnp.square(f - y))


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
    predicted: Predicted | None = None,
    margin: float = 0.1,
    confidence: float = 0.95,
) -> Table:
    """Sizes of everything in a LoRA model after each of the first steps, over widths and seeds.

    Any NNX network with this library's LoRA layers or Flax's (`nnx.LoRA`, `nnx.LoRALinear`) can
    be measured, with samples as columns or first, as long as calling it changes nothing in it.

    At every t: f and its contributions delta1, delta2, delta3 (one factor moved at a time), and
    of every LoRA layer A, B, Z_A = A Z, Z_B = s B A Z, their moves dA, dB, dZ_A = ΔA Z and
    dZ_B, and the contributions delta1_Z_B, delta2_Z_B, delta3_Z_B to dZ_B (the layer's path
    comes first if there are several). A size is the root mean square over coordinates and
    samples; what is exactly 0 stays exactly 0, with logarithm −inf, and a delta that is as small
    as the rounding of f, or of a part that computes in a narrower type (attention's softmax is
    float32 in Flax), is not measured.

    Args:
        setup: (width, key) -> (model, x, y), traceable in the key. Models and tasks of this library
            take the key itself; what is drawn by hand takes `data_key(key)` or `model_key(key)`.
            All floating numbers are cast to `dtype`.
        optimizer: `(*rates)` -> optax transformation, as `functools.partial(lora_plus, base=…)`.
        rates: width -> its rates, as `lambda n: (0.5 / n, 0.5)`.
        widths: ascending integers; a slope needs three.
        seeds: how many, or which; seed i has the key `seed_key(i)` at every width.
        steps: T; sizes are taken at t = 1 … T.
        loss: (f, y) -> scalar.
        dtype: float64 by default, since deltas are small differences.
        trainable: an NNX filter of what is trained, as `nnx.Any(nnx.LoRAParam, nnx.PathContains(
            "head"))`; contributions are those of A and B, with all else as it was.
        predicted: quantity -> its exponent, as {"f": 0, "delta1": [-math.inf, 0, 0]}, one for all
            steps or a row with one for each: −inf for "identically zero", None for nothing.
        margin: exponents this close to the predicted ones are taken for equal.
        confidence: of the intervals of all predictions together.

    Returns:
        A `tables.Table`: `.summary()` prints exponents, with pass, fail or undecided beside those
        that are predicted, `.slope("delta1", 2)` gives one, `.columns()` the tidy table.

    Raises:
        ValueError: an argument that is none (by name), a model without LoRA layers, one that can
            not be measured, predictions of what is not measured.
        EpsilonError: Adam's ε is too large for the gradients at the largest width.

    >>> import functools, optax
    >>> from lora_theory import LinearToy, linear_task, lora_plus
    >>> def setup(n, key):
    ...     data = linear_task(n, 1, 1, key=key)
    ...     return LinearToy(n, init="A", key=key), data.x_train, data.y_train
    >>> sgd = functools.partial(lora_plus, base=optax.sgd)
    >>> table = coordinate_check(setup, sgd, lambda n: (0.5 / n, 0.5), [16, 32, 64], seeds=4)
    >>> str(table.slope("delta1", 1))  # B = 0: A does not move at first
    'identically zero'
    """
    arguments.positive("margin", margin)
    arguments.between("confidence", confidence, 0, 1)
    variant = Variant(rates, predicted=predicted or {})
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
    return dataclasses.replace(table, margin=margin, confidence=confidence)


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

    >>> import functools, optax, jax.numpy as jnp
    >>> from lora_theory import LinearToy, linear_task, lora_plus
    >>> def setup(n, key):
    ...     data = linear_task(n, 1, 1, key=key)
    ...     return LinearToy(n, init="both", key=key), data.x_train, data.y_train
    >>> sgd = functools.partial(lora_plus, base=optax.sgd)
    >>> rates = lambda n: (0.5 / n, 0.5)
    >>> variants = [Variant(rates, lambda n: (1, 0)), Variant(rates, lambda n: (1, 1))]
    >>> tables = coordinate_checks(setup, sgd, variants, [64], seeds=4, steps=1)
    >>> [bool((table.logs["delta1"] == -jnp.inf).all()) for table in tables]
    [True, False]
    """
    check_functions(setup=setup, optimizer=optimizer, loss=loss)
    arguments.some("variants", variants)
    widths, steps = checked_widths(widths), arguments.integer("steps", steps)
    chosen, dtype = checked_seeds(seeds), checked_dtype(dtype)
    scaled = [_rates_and_starts(variants, optimizer, width, dtype) for width in widths]
    # A run that overflows is a result, also where NaN are looked for.
    with _settings(dtype), in_words():
        chunks, batch = _chunks(chosen, len(variants))
        sizes: list[dict[str, np.ndarray]] = []
        for width, arrays in reversed(list(zip(widths, scaled, strict=True))):
            look = width == widths[-1]  # The largest first: there ε is looked for.
            draw, run = program(_drawing, setup, width, str(dtype)), None
            found = []
            for keys in chunks:
                drawn = draw(keys)
                if run is None:  # What the model's classes do belongs to the program.
                    model = nnx.merge(*drawn[0])
                    parts = optimizer, loss, steps, trainable, batch, look
                    run = program(_running, *parts, model=model)
                logs, gap = jax.device_get(run(drawn, *arrays))
                check_epsilon(gap, width)
                found.append(logs)
            for variant in variants:  # Refused before the other widths are run.
                check_predicted(variant.predicted, found[0], steps)
            # (seeds, variants, steps) each, the last chunk's filling cut off
            joined = {name: np.concatenate([logs[name] for logs in found]) for name in found[0]}
            sizes.append({name: log[: len(chosen)] for name, log in joined.items()})
    stacked = {name: np.stack([size[name] for size in reversed(sizes)]) for name in sizes[0]}
    log2_widths, t = np.log2(np.asarray(widths, float)), np.arange(1, steps + 1)
    return [
        Table(
            log2_widths,
            t,
            {name: logs[:, :, i] for name, logs in stacked.items()},
            variant.predicted,
            seeds=chosen,
        )
        for i, variant in enumerate(variants)
    ]


def _rates_and_starts(
    variants: Sequence[Variant], optimizer: Callable[..., Any], width: int, dtype: Any
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Each rate, and each factor of a start, of all variants at one width."""
    rates = [checked_rates(variant.rates, optimizer, width) for variant in variants]
    starts = [variant.start(width) for variant in variants]
    by_rate, by_factor = zip(*rates, strict=True), zip(*starts, strict=True)
    return tuple(np.array(v, dtype) for v in by_rate), tuple(np.array(v, dtype) for v in by_factor)


@contextlib.contextmanager
def _settings(dtype: Any) -> Iterator[None]:
    """JAX's settings under which sizes are measured."""
    with (
        jax.enable_x64(dtype == jnp.float64),
        jax.default_matmul_precision("highest"),
        jax.debug_nans(False),
        jax.debug_infs(False),
    ):
        yield


def _drawing(setup: Setup, width: int, dtype: str) -> Callable[..., Any]:
    """keys -> model (split), x and y of every key.

    Compiling draws takes longer than compiling steps: so that all optimizers share it.
    """

    def draw(keys: Any) -> Any:
        def one(key: PRNGKey) -> Any:
            model, x, y = checked_setup(setup(width, key), jnp.dtype(dtype))
            return nnx.split(model), x, y

        return jax.vmap(one)(keys)

    return jax.jit(draw, compiler_options=_compiler_options())


def _running(
    optimizer: Callable[..., Any],
    loss: LossFn,
    steps: int,
    trainable: Any,
    batch: int,
    look: bool,
) -> Callable[..., tuple[dict[str, Array], Array]]:
    """(drawn, rates, starts) -> log2 sizes by name; compiled once a width, `batch` runs at a time.

    Rates and starts have an axis of variants, what is drawn one of seeds. `look`: at ε.
    """

    def run(drawn: Any, rates: Any, starts: Any) -> Any:
        def one(drawn: Any, rates: Any, start: Any) -> tuple[dict[str, Array], Array]:
            split, x, y = drawn
            model = nnx.merge(*split)
            scale_factors(model, *start)
            return _run(model, x, y, optimizer(*rates), loss, steps, trainable, look)

        variants = jax.vmap(one, in_axes=(None, 0, 0))
        return jax.lax.map(lambda d: variants(d, rates, starts), drawn, batch_size=batch)

    return jax.jit(run, compiler_options=_compiler_options())


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
    if not jax.tree.leaves(params):
        raise ValueError(f"trainable: must name something of the model (got {trainable})")
    resting = jax.tree.map(_zeros, rest)  # What does not train does not move.

    def merged(params: Any) -> Any:
        return nnx.merge(graph, fresh(params), fresh(rest))

    def loss_of(params: Any) -> Array:
        value = loss(merged(params)(x), y)
        if jnp.shape(value):
            raise ValueError(f"loss: must give a scalar (got shape {jnp.shape(value)})")
        return value

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        grads = jax.grad(loss_of)(params)
        updates, state = transform.update(grads, state, params)
        moved = optax.apply_updates(params, updates)
        moves = layers(nnx.merge(graph, updates, resting))
        logs = sizes_of(merged(params), merged(moved), moves, x)
        gap = epsilon_gap(transform, grads, params) if look else jnp.zeros(())
        return (moved, state), (logs, gap)

    return jax.lax.scan(step, (params, transform.init(params)), length=steps)[1]


def _zeros(v: Array) -> Array:
    return jnp.zeros_like(v) if jnp.issubdtype(v.dtype, jnp.floating) else v
