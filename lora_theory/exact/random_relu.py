"""The Gaussian function that infinitely many random ReLU make, sampled where it is visited.

G(h) = lim_n Σ_i w_i φ(B_i·h) for rows B_i ~ N(0, I_r) and w_i ~ N(0, 1/n), φ = ReLU, has mean 0 and
the arc-cosine kernel of order 1 as its covariance. It is 1-homogeneous, G(h) = h·∇G(h), so its
gradients, which see the direction of h alone, are all that has to be sampled.
"""

from typing import NamedTuple

import numpy as np

# Of the covariance's diagonal: above the rounding of sums over some hundred numbers of size 1.
JITTER = 1e-13


class Pairs(NamedTuple):
    """Two sets of directions, h (…, N, r) and p (…, M, r), pair by pair.

    Attributes:
        angle: (…, N, M) θ.
        total, apart: (…, N, M, r) s = h + p and d = h − p, which are orthogonal.
        tan, cot: (…, N, M, 1) of θ/2; where s (or d) is 0 and has no direction, tan (or cot) is 0.
    """

    angle: np.ndarray
    total: np.ndarray
    apart: np.ndarray
    tan: np.ndarray
    cot: np.ndarray

    def open(self) -> np.ndarray:
        """κ0 = (π − θ) / 2π (…, N, M): the probability that the gates of h and p are both open."""
        return (np.pi - self.angle) / (2 * np.pi)

    def kernel(self) -> np.ndarray:
        """E[φ(B·h) φ(B·p)] = (sin θ + (π − θ) cos θ) / 2π (…, N, M), for h, p of length 1."""
        return np.sin(self.angle) / (2 * np.pi) + self.open() * np.cos(self.angle)

    def slope(self, p: np.ndarray) -> np.ndarray:
        """∇_h of (p·h) κ0(p, h) (…, N, M, r): p κ0 + cos θ q / 2π, q ⟂ h of length 1 towards p.

        On h itself, where it has a kink, it is the mean of both sides, p / 2.
        """
        q = (self.tan * self.total - self.cot * self.apart) / 2
        along = self.open()[..., None] * p[..., None, :, :]
        return along + np.cos(self.angle)[..., None] * q / (2 * np.pi)

    def covariance(self, together: np.ndarray) -> np.ndarray:
        """Cov(∇G(h), ∇G(p)) as a matrix (…, N r, M r); 0 of pairs that are not `together`.

        E[B Bᵀ 1{B·h>0} 1{B·p>0}] = ((π − θ) I + s sᵀ tan(θ/2) / 2 − d dᵀ cot(θ/2) / 2) / 2π. No
        term is large, whatever the angle, so that the error is the rounding of numbers of size 1.
        """
        blocks = (self.tan / 2 * self.total)[..., :, None] * self.total[..., None, :]
        blocks -= (self.cot / 2 * self.apart)[..., :, None] * self.apart[..., None, :]
        blocks += (np.pi - self.angle)[..., None, None] * np.eye(blocks.shape[-1])
        blocks *= (together / (2 * np.pi))[..., None, None]
        *runs, rows, columns, rank, _ = blocks.shape
        return blocks.swapaxes(-3, -2).reshape(*runs, rows * rank, columns * rank)


def pairs(h: np.ndarray, p: np.ndarray) -> Pairs:
    """All pairs of the directions h (…, N, r) and p (…, M, r).

    >>> right = pairs(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    >>> float(right.open()[0, 0])
    0.25
    """
    total = h[..., :, None, :] + p[..., None, :, :]
    apart = h[..., :, None, :] - p[..., None, :, :]
    cosine, sine = np.linalg.norm(total, axis=-1) / 2, np.linalg.norm(apart, axis=-1) / 2
    tan = np.divide(sine, cosine, out=np.zeros_like(sine), where=cosine > 0)
    cot = np.divide(cosine, sine, out=np.zeros_like(sine), where=sine > 0)
    return Pairs(2 * np.arctan2(sine, cosine), total, apart, tan[..., None], cot[..., None])


def norm(h: np.ndarray) -> np.ndarray:
    """Lengths (…,) of h (…, r), whose squares need not be in float64's range."""
    largest = np.abs(h).max(axis=-1, keepdims=True)
    return np.asarray(largest[..., 0] * np.linalg.norm(h / largest, axis=-1))


def direction(h: np.ndarray) -> np.ndarray:
    """h / ‖h‖ (…, r); NaN of what is 0 or not finite.

    >>> direction(np.array([3e200, 4e200])).tolist()
    [0.6, 0.8]
    """
    scaled = h / np.abs(h).max(axis=-1, keepdims=True)
    return np.asarray(scaled / np.linalg.norm(scaled, axis=-1, keepdims=True))


class Field:
    """∇G at one set of points after the other, each conditioned on those before.

    A Cholesky factor of all covariances grows by a row of blocks with each set of N points: in all
    O((N r T)³) operations and O((N r T)²) numbers for T sets.
    """

    def __init__(self) -> None:
        self.roots: list[list[np.ndarray]] = []
        self.fresh: list[np.ndarray] = []
        self.normals: list[np.ndarray] = []

    def gradients(self, to: list[Pairs], fresh: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """∇G at N new points.

        Args:
            to: the new points' pairs with all sets that were visited, themselves last.
            fresh: (…, N) which of them are new indeed. The others, which count as one with a point
                that was visited before, have no part in this; what is returned of them means
                nothing.
            normal: (…, N r) standard normal numbers.

        Returns:
            (…, N, r).

        >>> h = direction(np.array([[1.0, 2.0], [3.0, -1.0]]))
        >>> Field().gradients([pairs(h, h)], np.full(2, True), np.ones(4)).shape
        (2, 2)
        """
        self.fresh.append(fresh)
        self.normals.append(normal)
        row: list[np.ndarray] = []
        for i, pair in enumerate(to):
            together = fresh[..., :, None] & self.fresh[i][..., None, :]
            own = i == len(to) - 1
            past = row if own else self.roots[i]
            if own:
                together = together | np.eye(fresh.shape[-1], dtype=bool)
            rest = pair.covariance(together)
            for mine, other in zip(row, past, strict=False):
                rest = rest - mine @ _transposed(other)
            if own:
                row.append(np.linalg.cholesky(rest + JITTER * np.eye(rest.shape[-1])))
            else:
                row.append(_transposed(np.linalg.solve(past[i], _transposed(rest))))
        self.roots.append(row)
        parts = [root @ at[..., None] for root, at in zip(row, self.normals, strict=True)]
        g = sum(parts[1:], start=parts[0])
        return np.asarray(g.reshape(*g.shape[:-2], fresh.shape[-1], -1))


def _transposed(matrix: np.ndarray) -> np.ndarray:
    return matrix.swapaxes(-1, -2)
