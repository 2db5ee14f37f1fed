"""Transformations of A and B together: pairs in the paper's layout, and what a factor spans."""

import dataclasses
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, serialization

from lora_theory.adapters.layer import FactorA
from lora_theory.adapters.names import leaves
from lora_theory.adapters.pairs import Pair, core, pairs
from lora_theory.adapters.plan import planned
from lora_theory.adapters.recipe import Recipe
from lora_theory.arrays import Array, Float


class Direction(NamedTuple):
    """What becomes of the gradients of one layer; A is (…, r, n) and B (…, m, r), as in the paper.

    Attributes:
        init: (A, B) -> a state.
        update: (A, B, g_A, g_B, state) -> what takes the place of g_A and g_B, and a new state.
    """

    init: Callable[[Any, Any], Any]
    update: Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


class Place(NamedTuple):
    """Where the factors of a layer are among the leaves, and whether A is (n, r) there."""

    a: int
    b: int
    turned: bool


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Layout:
    """The pairs of a tree, fixed at `init`: its leaves by name, and which of them belong together.

    `nnx.Optimizer` shows variable types at `init` alone, and only they may tell an axis.
    """

    paths: tuple[str, ...]
    places: tuple[Place, ...]

    @classmethod
    def of(cls, recipe: Recipe, params: Any) -> "Layout":
        """The pairs of parameters, by the arguments of `lora_plus`.

        Raises:
            ValueError: no factors, one without a partner, a pair of different ranks or with more
                axes than a matrix has; what `planned` refuses.
        """
        labelled = [(leaf, part.group) for leaf, part in planned(recipe, params)]
        at = {leaf: k for k, (leaf, _) in enumerate(labelled)}
        found = list(pairs(labelled))
        alone = {leaf for leaf, label in labelled if label in ("A", "B")}
        alone -= {factor for pair in found for factor in (pair.a, pair.b)}
        if alone:
            first = min(alone, key=at.__getitem__)
            raise ValueError(f"{first}: must have a partner beside it, a factor of the other kind")
        if not found:
            raise ValueError(
                "params: must have factors A and B, as lora_a and lora_b "
                f"(got {', '.join(leaf.path for leaf, _ in labelled[:4]) or 'no leaves'})"
            )
        places = tuple(Place(at[pair.a], at[pair.b], is_turned(pair)) for pair in found)
        return cls(tuple(leaf.path for leaf, _ in labelled), places)

    @property
    def digest(self) -> Any:
        """A number that another layout does not have, to be saved with the state."""
        return np.uint32(zlib.crc32(repr((self.paths, self.places)).encode()))


def is_turned(pair: Pair) -> bool:
    """Whether A is (n, r) and B (r, m), as in Flax; else they are (r, n) and (m, r).

    By the shapes, where those allow both readings by the variable types, else by the smaller rank.

    Raises:
        ValueError: the shapes allow no reading, or both with the same rank.

    >>> import numpy as np
    >>> from lora_theory.adapters.names import Leaf
    >>> of = lambda a, b: Pair(Leaf(("a",), np.zeros(a)), Leaf(("b",), np.zeros(b)), None)
    >>> is_turned(of((64, 4), (4, 32))), is_turned(of((4, 64), (64, 4)))
    (True, False)
    """
    a, b = core(pair.a.shape, pair.b.shape)
    if len(a) != 2 or len(b) != 2 or (a[1] != b[0] and a[0] != b[1]):
        raise ValueError(f"{pair.a}: must be a matrix of the rank of {pair.b}")
    if (a[1] == b[0]) != (a[0] == b[1]):
        return a[1] == b[0]
    if pair.a.kind is not None and issubclass(pair.a.kind, nnx.LoRAParam):
        return not issubclass(pair.a.kind, FactorA)
    if a[0] == a[1]:
        raise ValueError(
            f"{pair.a}: must show by its shape which axis is the rank, beside {pair.b}"
        )
    return a[1] < a[0]


class PairsState(NamedTuple):
    """State of `over_pairs`: where pairs are, and a state for each of them."""

    layout: Layout
    inner: tuple[Any, ...]


def _restored(layout: Layout, saved: Any) -> Layout:
    if int(saved["pairs"]) != int(layout.digest):
        raise ValueError("state: must be of the leaves and pairs that it was saved with")
    return layout


serialization.register_serialization_state(
    Layout, lambda layout: {"pairs": layout.digest}, _restored
)


def over_pairs(direction: Direction, recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """A transformation of the gradients of all pairs; those of other leaves pass as they are.

    Args:
        direction: what becomes of one pair.
        recipe: the arguments of the `lora_plus` that stands behind it, which says what is A and B.
    """

    known: list[PairsState] = []

    def init(params: Any) -> PairsState:
        if known and type(params).__name__ == "_ParamsPlaceholder":
            # optax.tree.map_params asks where in the state parameters are: nowhere.
            return known[-1]
        layout = Layout.of(recipe, params)
        inner = [direction.init(a, b) for a, b in _matrices(jax.tree.leaves(params), layout)]
        state = PairsState(layout, tuple(inner))
        known[:] = [jax.tree.map(lambda _: 0, state)]
        return state

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, PairsState]:
        _check(updates, state, params)
        flat, tree = jax.tree.flatten(updates)
        held = _matrices(jax.tree.leaves(params), state.layout)
        grads, inner = _matrices(flat, state.layout), []
        for place, (a, b), (g_a, g_b), old in zip(
            state.layout.places, held, grads, state.inner, strict=True
        ):
            *moves, new = direction.update(a, b, g_a, g_b, old)
            for k, move in zip((place.a, place.b), moves, strict=True):
                flat[k] = _turned(move, place).astype(flat[k].dtype)
            inner.append(new)
        return jax.tree.unflatten(tree, flat), PairsState(state.layout, tuple(inner))

    return optax.GradientTransformationExtraArgs(init, update)


def _matrices(flat: list[Any], layout: Layout) -> Iterator[tuple[Array, Array]]:
    """A (…, r, n) and B (…, m, r) of each pair, at least in single precision."""
    for place in layout.places:
        both = [jnp.asarray(flat[k]) for k in (place.a, place.b)]
        a, b = (_turned(f.astype(jnp.promote_types(f.dtype, jnp.float32)), place) for f in both)
        yield a, b


def _turned(matrix: Array, place: Place) -> Array:
    return jnp.swapaxes(matrix, -1, -2) if place.turned else matrix


def _check(updates: Any, state: Any, params: Any) -> None:
    if params is None:
        raise ValueError("params: must be given to update, as the factors precondition (got None)")
    if not isinstance(state, PairsState):
        raise ValueError(f"state: must be as init gives it (got a {type(state).__name__})")
    for name, tree in (("updates", updates), ("params", params)):
        if tuple(leaf.path for leaf in leaves(tree)) != state.layout.paths:
            raise ValueError(f"{name}: must have the leaves of the parameters at init")


class Spectrum(NamedTuple):
    """The thin SVD Y = U Σ Vᵀ of a factor (…, k, r), with what its rank is.

    Attributes:
        basis: U (…, max(k, r), r); columns of singular values that are 0 to rounding are 0.
        sigma: (…, r) singular values.
        v: V (…, r, r).
        held: (…, r) which of them are above rounding.
    """

    basis: Array
    sigma: Array
    v: Array
    held: Array

    def inverse(self) -> Array:
        """V Σ⁺ (…, r, r), the pseudo-inverse of R = Σ Vᵀ, where Y = U R."""
        return self.v * reciprocal(self.sigma, self.held)[..., None, :]

    def gram_inverse(self, damping: Any) -> Array:
        """(YᵀY + δ I)⁻¹ (…, r, r); at δ = 0 the pseudo-inverse, so that of 0 is 0."""
        damping = jnp.asarray(damping, self.sigma.dtype)
        weight = reciprocal(self.sigma**2 + damping, self.held | (damping > 0))
        return (self.v * weight[..., None, :]) @ transposed(self.v)


def spectrum(y: Float[Array, "..."], tolerance: float | None = None) -> Spectrum:
    """The SVD of a factor (…, k, r), and which of its singular values count.

    Args:
        y: the factor.
        tolerance: those at most this in units of the largest are taken for 0; by default for
            rounding, as in `matrix_rank`: the precision of the type, times max(k, r).

    >>> import jax.numpy as jnp
    >>> spectrum(jnp.array([[2.0], [0.0]])).gram_inverse(0.0).tolist()
    [[0.25]]
    >>> spectrum(jnp.zeros((2, 1))).gram_inverse(0.0).tolist()
    [[0.0]]
    """
    k, r = y.shape[-2:]
    if k < r:  # Rows of zeros make V square, and change nothing else.
        y = jnp.pad(y, [(0, 0)] * (y.ndim - 2) + [(0, r - k), (0, 0)])
    u, sigma, vt = _thin_svd(y)
    rounding = jnp.finfo(y.dtype).eps * max(k, r) if tolerance is None else tolerance
    held = sigma > rounding * sigma[..., :1]
    return Spectrum(u * held[..., None, :], sigma, transposed(vt), held)


def one_by_one(solve: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """The same of matrices (…, k, r), on CPUs one after another, mapped over or stacked.

    JAX shares the matrices of a stack among the threads of a pool, one of which waits until all are
    done. In a program on as many devices as the pool has threads all of them may wait, for good.

    Args:
        solve: an SVD or the like of jax.numpy.

    >>> import jax.numpy as jnp
    >>> one_by_one(jnp.linalg.eigvalsh)(jnp.stack([jnp.eye(2), 3 * jnp.eye(2)])).tolist()
    [[1.0, 1.0], [3.0, 3.0]]
    """
    alone = jax.custom_batching.sequential_vmap(lambda y: solve(y))  # No defaults of its own.

    def solved(y: Array) -> Any:
        if jax.default_backend() != "cpu":
            return solve(y)
        return alone(y) if y.ndim == 2 else jax.vmap(solved)(y)

    return solved


@one_by_one
def _thin_svd(y: Array) -> Any:
    return jnp.linalg.svd(y, full_matrices=False)


def reciprocal(values: Array, where: Array) -> Array:
    """1/x where it is asked for, else 0."""
    return jnp.where(where, 1 / jnp.where(where, values, 1), 0)


def transposed(matrix: Array) -> Array:
    """The transpose of the last two axes."""
    return jnp.swapaxes(matrix, -1, -2)
