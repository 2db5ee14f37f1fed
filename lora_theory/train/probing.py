"""A few probing steps from a model's start, and what they change for the other factor.

Nothing here knows how an adapter computes: all is read off gradients, so that whatever has factors
that `lora_plus` finds can be probed.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lora_theory import arguments
from lora_theory.adapters.labels import labels_of
from lora_theory.adapters.names import Leaf, leaves
from lora_theory.arrays import Array
from lora_theory.terms import Init
from lora_theory.train.layers import fresh
from lora_theory.train.programs import program

Batch = tuple[Any, Any]


class Found(NamedTuple):
    """What T steps at some rates did.

    Attributes:
        moved_a: relative change of the gradient of each B by the moves of all A,
            ‖∇_B L(A_T) − ∇_B L(A_0)‖ / ‖∇_B L(A_0)‖, with B and the gradient of the outputs as at
            the start; NaN where B has no gradient. Of one sample it is ‖ΔZ_A‖ / ‖Z_A‖.
        moved_b: the mirror, of each A by the moves of all B.
        step_a: −⟨∇_A L, A_T − A_0⟩ / L, what the moves of A take off the loss, to first order.
        step_b: the mirror.
        grew: mean loss on these batches after the steps, in units of that before.
    """

    moved_a: np.ndarray
    moved_b: np.ndarray
    step_a: float
    step_b: float
    grew: float


class Probe:
    """A model at its start, compiled once to be trained for T steps at any rates.

    Args:
        model: an NNX network, or a pair (params, apply) with apply(params, x) -> f.
        batches: pairs (x, y), of one shape.
        loss: (f, y) -> scalar.
        optimizer: (η_A, η_B) -> optax transformation.
        trainable: an NNX filter, of a network.
        labels: as in `lora_plus`.
    """

    def __init__(
        self,
        model: Any,
        batches: Sequence[Batch],
        loss: Callable[[Any, Any], Any],
        optimizer: Callable[[Any, Any], optax.GradientTransformation],
        trainable: Any,
        labels: Any,
    ):
        two = "(η_A, η_B) -> an optax transformation"
        _check_takes_two("optimizer", two, optimizer)
        _check_takes_two("loss", "(f, y) -> a number", loss)
        self.params, self.rest, apply = _split(model, trainable)
        self.batches = checked_batches(batches)
        self.of_a, self.of_b = factors(self.params, labels)
        self.steps, self.known = 0, dict[tuple[Any, ...], Found]()
        places = tuple(self.of_a), tuple(self.of_b)
        self.run = program(_training, apply, loss, optimizer, *places)

    def __call__(self, at: Sequence[int], eta_a: float, eta_b: float) -> Found:
        """What steps on the batches at some places do, one batch a step; each asked for once."""
        asked = tuple(at), eta_a, eta_b
        if asked not in self.known:
            self.known[asked] = self._found(at, eta_a, eta_b)
        return self.known[asked]

    def _found(self, at: Sequence[int], eta_a: float, eta_b: float) -> Found:
        chosen = [self.batches[k] for k in at]
        stacked = jax.tree.map(lambda *leaf: jnp.stack(leaf), *chosen)
        self.steps += len(at)
        rates = map(np.float32, (eta_a, eta_b))
        # NaN is an answer here: of a layer without a gradient, of a rate that is too large.
        with jax.debug_nans(False), jax.debug_infs(False):
            found = jax.device_get(self.run(self.params, self.rest, stacked, *rates))
        if not (math.isfinite(found["loss"]) and found["loss"] > 0):
            raise ValueError(
                "loss: must be a positive number at the model's start, of which steps take a part "
                f"off (got {found['loss']:g}; NaN in the batches or the weights?)"
            )
        del found["loss"]
        return Found(**found)

    def init(self) -> Init:
        """Which factors are random at the start: "A", "B" or "both".

        Raises:
            ValueError: both are zero in a layer, layers start differently, or NaN among them.
        """
        flat = leaves(self.params)
        for leaf in (flat[k] for k in (*self.of_a, *self.of_b)):
            if not _is_finite("model", "of arrays of numbers", leaf.array):
                raise ValueError(f"model: must be finite (got NaN or ∞ in {leaf.path})")
        zero_a, zero_b = (
            {not np.any(np.asarray(flat[k].array)) for k in places}
            for places in (self.of_a, self.of_b)
        )
        starts: dict[tuple[bool, bool], Init] = {
            (False, True): "A",
            (True, False): "B",
            (False, False): "both",
        }
        if len(zero_a) > 1 or len(zero_b) > 1:
            raise ValueError(
                "model: must start alike in all layers, A = 0 or B = 0 or neither (got some of "
                "each); suggest rates for one kind at a time, with the others frozen"
            )
        start = zero_a.pop(), zero_b.pop()
        if start not in starts:
            raise ValueError(
                "model: must have a random factor in each layer (got A = 0 and B = 0, whose "
                "gradients are both 0); draw A anew, as N(0, 1/n)"
            )
        return starts[start]


def _training(
    apply: Callable[..., Any],
    loss: Callable[[Any, Any], Any],
    optimizer: Callable[[Any, Any], optax.GradientTransformation],
    of_a: Sequence[int],
    of_b: Sequence[int],
) -> Callable[..., dict[str, Array]]:
    """(params, rest, batches, η_A, η_B) -> the fields of `Found`, and the loss at the start."""

    def run(params: Any, rest: Any, batches: Batch, eta_a: Any, eta_b: Any) -> dict[str, Array]:
        transform = _made(optimizer, eta_a, eta_b)

        def loss_of(params: Any, batch: Batch) -> Any:
            return _real(loss(apply(params, rest, batch[0]), batch[1]))

        def step(carry: Any, batch: Batch) -> Any:
            params, state = carry
            updates, state = transform.update(jax.grad(loss_of)(params, batch), state, params)
            return (optax.apply_updates(params, updates), state), None

        def seen(leaves: list[Any]) -> list[Array]:
            """Gradients at other weights, with those of the outputs as at the start."""
            at = jax.tree.unflatten(jax.tree.structure(params), leaves)

            def one(total: Any, batch: Batch) -> Any:
                x, y = batch
                of_f = jax.grad(loss)(apply(params, rest, x), y)
                _, pull = jax.vjp(lambda p: apply(p, rest, x), at)
                return jax.tree.map(jnp.add, total, *pull(of_f)), None

            total, _ = jax.lax.scan(one, jax.tree.map(jnp.zeros_like, at), batches)
            return [leaf / steps for leaf in jax.tree.leaves(total)]

        steps = jax.tree.leaves(batches)[0].shape[0]
        value = jax.lax.map(lambda batch: loss_of(params, batch), batches).mean()
        (moved, _), _ = jax.lax.scan(step, (params, transform.init(params)), batches)
        end_value = jax.lax.map(lambda batch: loss_of(moved, batch), batches).mean()
        start, end = jax.tree.leaves(params), jax.tree.leaves(moved)
        grads, by_a, by_b = (
            seen([end[k] if k in places else leaf for k, leaf in enumerate(start)])
            for places in ((), of_a, of_b)
        )

        def step_of(places: Sequence[int]) -> Array:
            return sum(jnp.vdot(grads[k], start[k] - end[k]) for k in places) / value

        return {
            "moved_a": jnp.stack([_change(grads[k], by_a[k]) for k in of_b]),
            "moved_b": jnp.stack([_change(grads[k], by_b[k]) for k in of_a]),
            "step_a": step_of(of_a),
            "step_b": step_of(of_b),
            "grew": end_value / value,
            "loss": value,
        }

    return jax.jit(run, keep_unused=True)  # So that a compilation can be shared.


def factors(params: Any, labels: Any) -> tuple[list[int], list[int]]:
    """Places of all A and of all B among the leaves.

    Raises:
        ValueError: there are none of one kind.
    """
    found = leaves(params)
    known = labels_of(found, params, labels, [None] * len(found))
    of_a, of_b = ([k for k, label in enumerate(known) if label == side] for side in "AB")
    if not of_a or not of_b:
        raise ValueError(
            "model: must have adapters, factors A and B that train, as lora_a and lora_b "
            f"(got {_names(found)})"
        )
    return of_a, of_b


def checked_batches(batches: Any) -> list[Batch]:
    """Pairs (x, y) of one shape, of several samples each.

    Raises:
        ValueError: no such pairs, NaN among them, or one sample.
    """
    try:
        given = list(batches)
        found = [(x, y) for x, y in given]
    except (TypeError, ValueError):
        raise arguments.refusal("batches", "pairs (x, y), one a step", batches) from None
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(batch)] for batch in found]
    trees: list[Any] = [jax.tree.structure(batch) for batch in found]
    for k, batch in enumerate(found):
        if trees[k] != trees[0]:
            raise ValueError(
                f"batches: must be alike, {trees[0]} as the first (got {trees[k]} at {k})"
            )
        if shapes[k] != shapes[0]:
            raise ValueError(
                f"batches: must have one shape, {shapes[0]} as the first (got {shapes[k]} at {k}; "
                "leave a last, smaller one out)"
            )
        for leaf in jax.tree.leaves(batch):
            if not _is_finite("batches", "pairs (x, y) of arrays of numbers", leaf):
                raise ValueError(f"batches: must be finite (got NaN or ∞ in batch {k})")
    for _, y in found[:1]:
        samples = next((np.shape(leaf)[0] for leaf in jax.tree.leaves(y) if np.shape(leaf)), None)
        if samples is None:
            wanted = "pairs (x, y) with an array y, samples on its first axis"
            raise arguments.refusal("batches", wanted, y)
        if samples < 2:
            raise ValueError(
                f"batches: must have several samples each (got {samples}); a gradient of one says "
                "nothing of the size of a training step"
            )
    return found


def _split(model: Any, trainable: Any) -> tuple[Any, Any, Callable[[Any, Any, Any], Any]]:
    """What trains, what does not, and f of both and x."""
    if isinstance(model, nnx.Module):
        _check_mode(model)
        try:
            nnx.filterlib.to_predicate(trainable)
        except Exception:  # Flax raises whatever comes.
            wanted = "an NNX filter, as nnx.LoRAParam"
            raise arguments.refusal("trainable", wanted, trainable) from None
        parts: Any = nnx.split(model, trainable, ...)
        graph, params, rest = parts

        def apply(params: Any, rest: Any, x: Any) -> Any:
            return nnx.merge(graph, *map(fresh, (params, rest)))(x)

        return params, rest, apply
    if isinstance(model, tuple) and len(model) == 2 and callable(model[1]):
        given, function = model
        _check_takes_two("model", "a pair (params, apply) with apply(params, x) -> f", function)
        return given, (), lambda params, rest, x: function(params, x)
    raise arguments.refusal("model", "an nnx.Module, or a pair (params, apply)", model)


def _check_mode(model: nnx.Module) -> None:
    """Refuse a network whose Dropout draws or whose norms follow the batch."""
    for path, module in nnx.iter_modules(model):
        rate = getattr(module, "rate", getattr(module, "dropout_rate", 0))
        draws = getattr(module, "deterministic", True) is False and rate
        if draws or getattr(module, "use_running_average", True) is False:
            name = f"{type(module).__name__} {'.'.join(map(str, path))}".strip()
            raise ValueError(
                f"model: must be in evaluation mode (got {name} in training mode); call "
                "model.eval() before"
            )


def _check_takes_two(name: str, wanted: str, function: Any) -> None:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:  # Or it can not be called at all.
        raise arguments.refusal(name, wanted, function) from None
    except ValueError:  # Of a function of C nobody knows.
        pass


def _made(optimizer: Any, eta_a: Any, eta_b: Any) -> Any:
    try:
        found = optimizer(eta_a, eta_b)
    except jax.errors.JAXTypeError:
        raise ValueError(
            "optimizer: must take rates that jax.jit traces (got one that asks for their values, "
            "by float() or if)"
        ) from None
    if not (hasattr(found, "init") and hasattr(found, "update")):
        raise arguments.refusal("optimizer", "(η_A, η_B) -> an optax transformation", found)
    return found


def _real(value: Any) -> Any:
    """A loss, if it is one."""
    if not jax.tree_util.all_leaves([value]):
        raise arguments.refusal("loss", "(f, y) -> one number, without more beside it", value)
    if np.shape(value) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        what = f"{jnp.result_type(value)} of shape {np.shape(value)}"
        raise ValueError(f"loss: must give one real number (got {what}); take the mean of samples")
    return value


def _is_finite(name: str, wanted: str, leaf: Any) -> bool:
    if jnp.issubdtype(getattr(leaf, "dtype", np.float64), jax.dtypes.extended):
        return True  # A key.
    try:
        return bool(np.isfinite(np.asarray(leaf, np.complex128)).all())
    except (TypeError, ValueError):
        raise arguments.refusal(name, wanted, leaf) from None


def _change(before: Array, after: Array) -> Array:
    """‖after − before‖ / ‖before‖; NaN without a before."""
    size = jnp.linalg.norm(before.ravel())
    moved = jnp.linalg.norm((after - before).ravel())
    return jnp.where(size > 0, moved / jnp.where(size > 0, size, 1), jnp.nan)


def _names(found: Sequence[Leaf]) -> str:
    return ", ".join(leaf.path for leaf in found[:4]) or "nothing that trains"
