"""How curved the train loss is in A, in B and in both: ends of the Hessian's spectrum.

Nothing here knows a prediction.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

from lora_theory.adapters.layer import FactorA, FactorB
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.arrays import Array
from lora_theory.data.synthetic import Loss, objective
from lora_theory.train import lanczos
from lora_theory.train.lanczos import Ends
from lora_theory.train.problems import Problem, check_problem
from lora_theory.train.programs import program

ITERATIONS = 64


class Adam(NamedTuple):
    """Steps of LoRA+ over Adam after which its preconditioned Hessian is taken.

    Attributes:
        eta_a, eta_b: η_A, η_B of these steps; small ones leave the parameters about where they are.
        steps: k, at least 1. Of one-sided factors one has no gradient at the first step: take 2.
        b1, b2: β_1, β_2.
        eps: ε, far below the gradients.
    """

    eta_a: float
    eta_b: float
    steps: int
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-30


class Curvature(NamedTuple):
    """Ends of the Hessian of the train loss, by block.

    Attributes:
        a: of the block of A alone.
        b: of the block of B alone.
        both: of the whole.
        unmoved_a, unmoved_b: the share of entries that Adam had not moved; without Adam 0.
    """

    a: Ends
    b: Ends
    both: Ends
    unmoved_a: float = 0.0
    unmoved_b: float = 0.0

    @property
    def ratio(self) -> float:
        """λ_max(A) / λ_max(B): what η_B/η_A is where each η ∝ 1/λ_max; NaN if a block is 0."""
        return self.a.high / self.b.high if self.a.high and self.b.high else math.nan


def curvature(
    problem: Problem,
    *,
    loss: Loss,
    iterations: int = ITERATIONS,
    adam: Adam | None = None,
    axis: int = 0,
) -> Curvature:
    """Ends of the spectrum of H = ∇² L_train at the problem's parameters, in A, B and both.

    With `adam`, of P^−1/2 H P^−1/2 after its k steps, both taken there: P = diag(√v̂ + ε), v̂ the
    second moment corrected for its start, so that P⁻¹ times the first moment is Adam's step. An
    entry whose gradient was exactly 0 in every step has v̂ = 0: Adam has not moved it, and it
    is held fixed here too (its row and column are 0, where ε would make them 1/ε), and counted
    in `unmoved_a` and `unmoved_b`.

    Products with H are forward over reverse, linearised once; a gate's derivative is 0, as
    almost everywhere. Without Adam, a block on which the loss does not depend to second order
    (of one-sided factors one block) is exactly 0: `Ends.zero` says so.

    Args:
        problem: model and data, as the engine takes them; all factors A and all factors B of
            the model are a block each.
        loss: "mse" or "all_pairs", or what `data.synthetic.objective` takes else.
        iterations: of Lanczos. By default the ends of the toy models are known to 1e-5 of the
            block's largest `|eigenvalue|`; the residuals say it of a given case.
        adam: steps of Adam at whose end the preconditioned Hessian is taken; None for H here.
        axis: where the features of x and Z are: 0 (samples are columns), or -1 (samples first).

    Returns:
        The ends, with a residual each. In float32 (as the parameters are) they are rounded by
        about 1e-6 of the largest, so that the 0 of a singular block has either sign; one gate
        that rounding opens or shuts moves them by 1e-5 to 1e-4. With Adam, entries whose gradients
        nearly vanish weigh most: against float64, up to 3 % off after one step and 0.2 % after
        ten (two-layer toy, n = 512, 8 seeds). Residuals see neither.

    Raises:
        ValueError: a model without factors A or B, or with factors within `features`, no
            iterations, an unknown axis, a train loss of test samples, or rates and steps that are
            none.

    >>> import jax
    >>> from lora_theory.data.synthetic import linear_task
    >>> from lora_theory.models.toys import LinearToy
    >>> data = linear_task(64, 1, 1, key=jax.random.key(0))
    >>> found = curvature(Problem(LinearToy(64, init="A", key=jax.random.key(1)), data), loss="mse")
    >>> found.a.zero, found.b.zero  # b = 0
    (True, False)
    >>> s = LinearToy(64, init="A", key=jax.random.key(1)).lora.down(data.x_train)[0, 0]
    >>> bool(abs(found.b.high / (2 * s**2) - 1) < 1e-5)
    True
    """
    if iterations < 1:
        raise ValueError(f"iterations: must be at least 1 (got {iterations})")
    if axis not in (0, -1):
        raise ValueError(f"axis: must be 0 or -1 (got {axis})")
    parts: Any = nnx.split(problem.model, FactorA, FactorB, ...)
    graph, a, b, rest = parts
    if not (jax.tree.leaves(a) and jax.tree.leaves(b)):
        raise ValueError("problem: the model needs factors of both types, FactorA and FactorB")
    check_problem(problem, axis, nnx.LoRAParam)
    rates = None if adam is None else _rates(adam)
    # Rates are arguments; the rest of Adam is part of the program.
    fixed = None if adam is None else adam._replace(eta_a=0.0, eta_b=0.0)
    goal = objective(problem.data, loss)
    samples = problem.data.y_train.size  # Training samples come first.
    if np.any(goal.weight[0, samples:]):
        raise ValueError("loss: must weigh training samples alone (got weights of test samples)")
    squares = goal.target[:samples], goal.weight[0, :samples]
    run = program(_ending, graph, iterations, fixed, axis, model=problem.model)
    found = jax.device_get(run(a, b, rest, problem.data.x_train, squares, rates))
    in_a, in_b, both = (Ends(*map(float, block)) for block in found[:3])
    return Curvature(in_a, in_b, both, *map(float, found[3:]))


def _rates(adam: Adam) -> Array:
    rates = np.array([adam.eta_a, adam.eta_b], float)
    if not (np.isfinite(rates).all() and (rates >= 0).all()):
        raise ValueError(f"adam: rates must be finite and at least 0 (got {rates.tolist()})")
    if adam.steps < 1:
        raise ValueError(f"adam: steps must be at least 1 (got {adam.steps})")
    return jnp.asarray(rates)


def _ending(
    graph: Any, iterations: int, adam: Adam | None, axis: int
) -> Callable[..., tuple[Any, ...]]:
    """The compiled program of a model structure; weights, data and rates are arguments."""

    def run(a: Any, b: Any, rest: Any, x: Array, squares: Any, rates: Array | None) -> Any:
        target, weight = squares
        z = nnx.merge(graph, a, b, rest).features(x)

        def loss(params: Any) -> Array:
            f = nnx.merge(graph, *params, rest).readout(z)
            return weight @ jnp.square(f - target)

        if adam is None or rates is None:
            scales: tuple[Any, ...] = (None, None)
            unmoved: tuple[Any, ...] = (0.0, 0.0)
        else:
            (a, b), scales = _precondition(loss, (a, b), adam, rates)
            unmoved = tuple(jnp.mean(scale == 0) for scale in scales)
        both = None if scales[0] is None else jnp.concatenate(scales)
        found = (
            _ends(lambda part: loss((part, b)), a, scales[0], iterations),
            _ends(lambda part: loss((a, part)), b, scales[1], iterations),
            _ends(loss, (a, b), both, iterations),
        )
        return *found, *unmoved

    def precise(*args: Any) -> tuple[Any, ...]:
        with jax.default_matmul_precision("highest"):
            return run(*args)

    # As in the engine: what threads share is cut differently on another machine.
    options = {"xla_cpu_multi_thread_eigen": False} if jax.default_backend() == "cpu" else None
    return jax.jit(precise, compiler_options=options)


def _ends(loss: Callable[[Any], Array], params: Any, scale: Array | None, iterations: int) -> Ends:
    """Ends of the Hessian in `params`, rows and columns multiplied by `scale`."""
    flat, unravel = ravel_pytree(params)
    hessian = jax.linearize(jax.grad(lambda v: loss(unravel(v))), flat)[1]

    def product(v: Array) -> Array:
        return hessian(v) if scale is None else scale * hessian(scale * v)

    return lanczos.ends(product, flat.size, iterations=iterations, dtype=flat.dtype)


def _precondition(
    loss: Callable[[Any], Array], params: Any, adam: Adam, rates: Array
) -> tuple[Any, tuple[Array, Array]]:
    """Parameters after the steps of Adam, and the diagonals of P^−1/2 in A and in B."""
    base = functools.partial(optax.adam, b1=adam.b1, b2=adam.b2, eps=adam.eps)
    transform = lora_plus(rates[0], rates[1], base=base)

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        updates, state = transform.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (params, transform.init(params))
    (params, state), _ = jax.lax.scan(step, start, length=adam.steps)
    moments = [nu for _, nu in optax.tree_utils.tree_get_all_with_path(state, "nu")]

    def root(factor: int) -> Array:
        # Each group's moments have the others' leaves masked, that is, absent.
        v = ravel_pytree([jax.tree.leaves(nu[factor]) for nu in moments])[0]
        v = v / (1 - adam.b2**adam.steps)
        return jnp.where(v > 0, 1 / jnp.sqrt(jnp.sqrt(v) + adam.eps), 0.0)

    return params, (root(0), root(1))
