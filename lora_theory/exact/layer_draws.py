"""What the layer's map needs of random vectors of any length n, without drawing them.

Nothing of a length n is drawn but the first 256 entries: the rest of sums over n entries has its
normal limit. Below 256 all is exact. The same draws serve every width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lora_theory.exact.scalar_map import _generator
from lora_theory.exact.signed_log import SignedLog

_DRAWN = 256  # Coordinates of a vector that are drawn; the sums over the others are normal.


class Draws(NamedTuple):
    """What is random in one run, or stacked over seeds: normal numbers, but for the first three.

    Those of a given rank come last, for all else to be the same at every rank.
    """

    signs: np.ndarray  # (N,) of the targets
    farther: np.ndarray  # (N,) in [1, 2]: how far the targets are
    patterns: np.ndarray  # (256,) which pattern an input has
    z: np.ndarray  # (256,)
    z_rest: np.ndarray  # (2,)
    counts_rest: np.ndarray  # (G,)
    w: np.ndarray  # (256,)
    w_rest: np.ndarray  # (2,)
    a: np.ndarray  # (r, G)
    g: np.ndarray  # (2, r) g₁ and g₂
    above: np.ndarray  # (r, r) above the diagonal of Bartlett's matrix
    squares: np.ndarray  # (r, 256) of which the χ² on its diagonal are made
    squares_rest: np.ndarray  # (r, 2)


def draws_of(seeds: Sequence[int], stream: str, rank: int, samples: int) -> Draws:
    """The draws of each seed (S,), whatever it is drawn with.

    >>> alone, many = draws_of([2], "", 4, 1), draws_of(range(3), "", 8, 1)
    >>> bool((alone.w[0] == many.w[2]).all())
    True
    """
    drawn = [_draws(_generator(seed, stream), rank, samples) for seed in seeds]
    return Draws(*(np.stack(part) for part in zip(*drawn, strict=True)))


def _draws(rng: np.random.Generator, rank: int, samples: int) -> Draws:
    groups = 2 ** (samples - 1)
    shapes: list[tuple[int, ...]] = [(_DRAWN,), (2,), (groups,), (_DRAWN,), (2,)]
    shapes += [(rank, groups), (2, rank), (rank, rank), (rank, _DRAWN), (rank, 2)]
    return Draws(
        rng.choice([-1.0, 1.0], size=samples),
        rng.uniform(1, 2, size=samples),
        rng.integers(groups, size=_DRAWN),
        *(rng.normal(size=shape) for shape in shapes),
    )


def log2_size(log2: np.ndarray) -> np.ndarray:
    """log2 of the integer next to 2^log2, where floats have integers.

    >>> np.exp2(log2_size(np.array([4.0, 4.5, 4000.0]))[:2]).round(9).tolist()
    [16.0, 23.0]
    """
    small = np.minimum(log2, 52.0)
    with np.errstate(divide="ignore"):
        return np.where(log2 < 52, np.log2(np.rint(np.exp2(small))), log2)


def _means(
    drawn: np.ndarray, rest: np.ndarray, log2_n: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means of `|x|` and of x² over n normal numbers x.

    The first 256 of them are given; the sums over the others have their normal limit, with
    var `|x|` = 1 − 2/π, var x² = 2 and cov(`|x|`, x²) = √(2/π).

    Args:
        drawn: (…, 256) the first ones.
        rest: (…, 2) standard normal numbers.
        log2_n: (W, …) log2 n.
    """
    count = np.exp2(np.minimum(log2_n, np.log2(_DRAWN)))
    share = np.minimum(np.exp2(np.log2(count) - log2_n), 1.0)
    root = np.sqrt((1 - share) * np.exp2(-log2_n))
    at = np.rint(count).astype(int)
    mean, spread = np.sqrt(2 / np.pi), np.sqrt(1 - 2 / np.pi)
    slope = mean / spread
    first, second = rest[..., 0], rest[..., 1]
    absolute = share * _first(np.abs(drawn), at) + (1 - share) * mean + root * spread * first
    off = slope * first + np.sqrt(2 - slope**2) * second
    return absolute, share * _first(drawn**2, at) + (1 - share) + root * off


def _first(x: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean over the first `count` (W, …) of the last axis of x (…, 256); 0 of none."""
    total = np.concatenate([np.zeros((*x.shape[:-1], 1)), np.cumsum(x, axis=-1)], axis=-1)
    shape = np.broadcast_shapes(count.shape, x.shape[:-1])
    at = np.broadcast_to(count, shape)[..., None]
    total = np.broadcast_to(total, (*shape, total.shape[-1]))
    return np.take_along_axis(total, at, axis=-1)[..., 0] / np.maximum(at[..., 0], 1)


def random_inputs(
    draws: Draws, log2_n: np.ndarray
) -> tuple[SignedLog, np.ndarray, np.ndarray, SignedLog]:
    """Z_A of A ~ N(0, 1/n), and the groups of its columns.

    One sample is z ~ N(0, I), of which ‖z‖₁ and ‖z‖² are needed; several have entries ±1, of
    which the counts of patterns are.

    Args:
        draws: (S, …) of `draws_of`.
        log2_n: (W, 1) log2 of integers n.

    Returns:
        Z_A (W, S, r, N), patterns (N, G), weights (W, S, L, G) and their units (W, 1, L); see
        `layer_map.Start`.

    >>> log2_n = np.array([[6.0], [4000.0]])
    >>> _, patterns, weights, units = random_inputs(draws_of([0], "", 4, 3), log2_n)
    >>> patterns.shape, weights[0, 0].sum(), units.log2()[1, 0].round().tolist()
    ((3, 4), np.float64(64.0), [4000.0, 2000.0])
    """
    groups, n = draws.a.shape[-1], SignedLog.two_to(log2_n)
    if groups == 1:
        absolute, square = _means(draws.z, draws.z_rest, log2_n)
        z_a = SignedLog.of(np.sqrt(square)[..., None, None] * draws.a)
        return z_a, np.ones((1, 1)), absolute[..., None, None], n[..., None]
    patterns = _patterns(draws.signs.shape[-1])
    weights, shares = _counts(draws, log2_n)
    z_a = np.einsum("...jg,...g,kg->...jk", draws.a, np.sqrt(shares), patterns)
    largest = np.where(log2_n <= np.log2(_DRAWN), 0.0, n.log)
    units = np.stack([largest, n.log / 2], axis=-1)
    return SignedLog.of(z_a), patterns, weights, SignedLog(np.ones_like(units), units)


def _counts(draws: Draws, log2_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of n entries have each pattern, (W, S, 2, G), and which share of them (W, S, G).

    Up to 256 entries these are integers; above, n times 1/G and √n times a deviation.
    """
    groups = draws.a.shape[-1]
    log2_n = log2_n[..., None]
    drawn, one_in = np.exp2(np.minimum(log2_n, np.log2(_DRAWN))), np.exp2(-log2_n)
    is_in = draws.patterns[:, None, :] == np.arange(groups)[:, None]
    counts = np.rint(drawn * _first(is_in.astype(float), np.rint(drawn).astype(int)))
    rest = draws.counts_rest - draws.counts_rest.mean(axis=-1, keepdims=True)
    rest = rest * np.sqrt(np.maximum(1 - drawn * one_in, 0.0) / groups)
    deviation = (counts - drawn / groups) * np.sqrt(one_in) + rest
    none = -np.exp2(np.minimum(log2_n, 100.0) / 2) / groups
    deviation = np.maximum(deviation, none)
    exact = log2_n <= np.log2(_DRAWN)
    shares = np.where(exact, counts * one_in, 1 / groups + deviation * np.sqrt(one_in))
    levels = np.where(exact, counts, 1 / groups), np.where(exact, 0.0, deviation)
    return np.stack(levels, axis=-2), np.maximum(shares, 0.0)


def _patterns(samples: int) -> np.ndarray:
    """All patterns of ±1 (N, G) up to a sign: the first sample's is 1."""
    rest = np.arange(2 ** (samples - 1)) >> np.arange(samples - 1)[:, None] & 1
    return np.concatenate([np.ones((1, rest.shape[1])), 1.0 - 2.0 * rest])


def random_outputs(
    draws: Draws, log2_n: np.ndarray
) -> tuple[SignedLog, SignedLog, SignedLog, SignedLog]:
    """What B ~ N(0, 1) (n, r) and w ~ N(0, 1/n²) have to do with one another.

    With e₁ = sign(w)/√n and e₂ in the plane of w and e₁, Bᵀe₁ = g₁ and Bᵀe₂ = g₂ ~ N(0, I_r) are
    independent of a Wishart matrix of n − 2 degrees across both, of which Bartlett's decomposition
    has the root:

        Bᵀw = ⟨w, e₁⟩ g₁ + ⟨w, e₂⟩ g₂,   BᵀB = g₁ g₁ᵀ + g₂ g₂ᵀ + TᵀT.

    Args:
        draws: (S, …) of `draws_of`.
        log2_n: (W, 1) log2 of integers n, at least 2.

    Returns:
        Bᵀw and Bᵀ sign(w)/n (W, S, r), the rows of g₂/√n and T/√n (W, S, r + 1, r) and ‖w‖₁ (W, S).

    >>> v, aligned, across, w_norm = random_outputs(draws_of([0], "", 4, 1), np.array([[4000.0]]))
    >>> across.log2()[0, 0].max().round(), w_norm.value().round(2).tolist()
    (np.float64(0.0), [[0.8]])
    """
    absolute, square = _means(draws.w, draws.w_rest, log2_n)
    g_1, g_2 = draws.g[..., 0, :], draws.g[..., 1, :]
    beside = np.sqrt(np.maximum(square - absolute**2, 0.0))
    root = SignedLog.two_to(-log2_n / 2)[..., None]
    v = SignedLog.of(absolute[..., None] * g_1 + beside[..., None] * g_2) * root
    rank = g_1.shape[-1]
    # n − 2 − i degrees of freedom; what has none left has no row.
    lost = (2 + np.arange(rank)) * np.exp2(-log2_n)
    with np.errstate(divide="ignore"):
        log2_degrees = log2_n + np.log2(np.maximum(1 - lost, 0.0))
    exists = log2_degrees > -0.5
    mean = _means(draws.squares, draws.squares_rest, np.maximum(log2_degrees, 0.0)[:, None])[1]
    diagonal = np.sqrt(mean * np.maximum(1 - lost, 0.0)[:, None])
    narrow = np.exp2(-log2_n / 2)[..., None]
    above = np.triu(draws.above, 1) * narrow[..., None]
    bartlett = (above + diagonal[..., None] * np.eye(rank)) * exists[:, None, :, None]
    across = np.concatenate([(narrow * g_2)[..., None, :], bartlett], axis=-2)
    return v, SignedLog.of(g_1) * root, SignedLog.of(across), SignedLog.of(absolute)
