"""What the engine is given, looked at before anything is trained."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.interpreters.partial_eval import dce_jaxpr

from lora_theory import arguments
from lora_theory.arrays import Array
from lora_theory.data.synthetic import Data
from lora_theory.train.devices import Policy
from lora_theory.train.programs import is_known


class Problem(NamedTuple):
    """What one seed trains: a `models.Model` and its data, both drawn from that seed's key."""

    model: Any
    data: Data


def checked_cells(cells: Any) -> np.ndarray:
    """The rates as (cells, 2).

    Raises:
        ValueError: no pairs of finite rates of at least 0.
    """
    try:
        found = np.asarray(cells, float)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 2 or found.shape[1] != 2 or len(found) == 0:
        shape = np.shape(found) if found.size else "none"
        raise ValueError(f"cells: must be pairs (η_A, η_B), shape (cells, 2) (got {shape})")
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise ValueError("cells: must be finite rates of at least 0")
    return found


def check_run(steps: Any, policy: Any, devices: Any, axis: Any) -> None:
    """Refuse what no run can be made of.

    Raises:
        ValueError: steps, policy, devices or axis, by name.
    """
    arguments.integer("steps", steps)
    if not isinstance(policy, Policy):
        raise arguments.refusal("policy", "a Policy, as of resolve_policy", policy)
    arguments.integer("policy.micro_batch", policy.micro_batch)
    arguments.integer("policy.sample_block", policy.sample_block)
    known = isinstance(devices, Sequence) and all(isinstance(d, jax.Device) for d in devices)
    if not known or not devices or len(set(devices)) < len(devices):
        raise arguments.refusal("devices", "different devices, at least one", devices)
    if axis not in (0, -1):
        raise arguments.refusal("axis", "0 or -1", axis)


def check_problem(problem: Any, axis: int, trainable: Any) -> None:
    """Refuse a model or data that would be trained in another way than they look.

    Args:
        problem: the problem.
        axis: where the features of x are.
        trainable: an NNX filter; None if all that could be trained has to be LoRA factors.

    Raises:
        ValueError: what is wrong, by name.
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"problem: must be a Problem (got {type(problem).__name__})")
    model, data = problem
    _check_data(data, axis)
    for name in ("features", "readout"):
        if not callable(getattr(model, name, None)):
            raise ValueError(f"problem: the model must have {name}() (got {type(model).__name__})")
    parts: Any = nnx.split(model, nnx.LoRAParam if trainable is None else trainable, ...)
    graph, trained, frozen = parts
    paths = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(trained)]
    if not paths:
        raise ValueError(
            "trainable: must name something of the model (got "
            f"{'LoRA factors, of which it has none' if trainable is None else trainable})"
        )
    if trainable is None:
        _check_frozen(frozen)
    z = _check_features(graph, trained, frozen, paths, data.x_train)
    _check_readout(graph, trained, frozen, paths, z, data.y_train.size)
    if not is_known(model):  # Of this library's own models it is.
        _check_samples(graph, trained, frozen, jnp.asarray(data.x_train), axis)


def _check_data(data: Data, axis: int) -> None:
    samples = 1 if axis == 0 else 0
    for part in ("train", "test"):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        for name, value in ((f"x_{part}", x), (f"y_{part}", y)):
            if not isinstance(value, Array | np.ndarray):
                raise ValueError(f"{name}: must be an array (got {type(value).__name__})")
        if y.ndim != 1 or y.size < 1:
            raise ValueError(f"y_{part}: must be one target a sample, (N,) (got shape {y.shape})")
        if x.ndim < 2 or x.shape[samples] != y.size:
            raise ValueError(
                f"x_{part}: must have the {y.size} samples of y_{part} on axis {samples} "
                f"(got shape {x.shape})"
            )


def _check_frozen(frozen: Any) -> None:
    """Nobody has said what becomes of other parameters: NNX trains them as a rule."""
    for path, value in nnx.to_flat_state(frozen):
        if isinstance(value, nnx.Param):
            raise ValueError(
                f"trainable: must be given, since {'.'.join(map(str, path))} is a parameter too: "
                "nnx.LoRAParam trains the factors alone, nnx.Param all"
            )


def _check_features(graph: Any, trained: Any, frozen: Any, paths: list[str], x: Any) -> Any:
    """Features are computed once, so that nothing in them can train. Returns their shape."""

    def features(trained: Any) -> Any:
        return nnx.merge(graph, trained, frozen).features(jnp.asarray(x))

    for path, used in zip(paths, _used(features, trained), strict=True):
        if used:
            raise ValueError(
                f"problem: features must not use what is trained, since they are computed once: "
                f"move {path} into readout"
            )
    return jax.eval_shape(features, trained)


def _check_readout(
    graph: Any, trained: Any, frozen: Any, paths: list[str], z: Any, samples: int
) -> None:
    def readout(trained: Any) -> Any:
        return nnx.merge(graph, trained, frozen).readout(jnp.zeros(z.shape, z.dtype))

    found = jax.eval_shape(readout, trained)
    if found.shape != (samples,):
        raise ValueError(
            f"problem: readout must give one output a sample, {(samples,)} (got {found.shape})"
        )
    for path, used in zip(paths, _used(readout, trained), strict=True):
        if not used:
            raise ValueError(f"problem: readout must use {path}, which would not be trained")


def _check_samples(graph: Any, trained: Any, frozen: Any, x: Array, axis: int) -> None:
    """Training and test samples stand side by side, in blocks: no sample may see another."""
    of_sample = 1 if axis == 0 else 0
    drawn = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size) + 1.0), trained)
    some = jax.tree.map(lambda v, leaf: v.reshape(leaf.shape).astype(leaf.dtype), drawn, trained)

    def parts(x: Array) -> tuple[Array, Array]:
        model = nnx.merge(graph, some, frozen)
        z = model.features(x)
        return jax.lax.slice_in_dim(z, 0, 1, axis=of_sample), model.readout(z)[:1]

    if x.shape[of_sample] < 2:
        return
    # In the engine's precision: an accelerator's own may round one sample otherwise than two.
    with jax.default_matmul_precision("highest"):
        alone, beside = (parts(jax.lax.slice_in_dim(x, 0, k, axis=of_sample)) for k in (1, 2))
    for name, one, two in zip(("features", "readout"), alone, beside, strict=True):
        if not jnp.allclose(one, two, rtol=1e-3, atol=1e-5 * jnp.abs(two).max(), equal_nan=True):
            raise ValueError(
                f"problem: {name} must treat each sample alone, since training and test samples "
                "go through it side by side (got others with another sample beside)"
            )


def _used(function: Callable[[Any], Any], trained: Any) -> list[bool]:
    """Of each leaf, whether the function's value depends on it."""
    traced = jax.make_jaxpr(function)(trained).jaxpr
    return list(dce_jaxpr(traced, [True] * len(traced.outvars))[1])
