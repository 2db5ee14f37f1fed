"""The linear toy of eq. 2 as its exact scalar map, in numbers that neither over- nor underflow.

With s_k = aᵀx_k and the Gram matrix K = XᵀX, training a (n,) and b by full-batch updates never
needs a itself: b and the N numbers s_k are all there is, whatever the width. A width is then as
cheap as any other, and n = 2^4000 as good as n = 10. Nothing of the library is imported here but
the glossary's symbols.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

Update = Literal["gd", "sign"]


class SignedLog:
    """Real numbers as sign · e^log: arrays that reach from e^−10^300 to e^10^300.

    A sum keeps its sign and its logarithm exact to rounding; a product is exact to rounding of
    the sum of logarithms, so a number e^L has the relative error of about |L| · 10^−16.

    Args:
        sign: −1, 0 or 1.
        log: natural logarithm of the magnitude; −inf where the sign is 0.

    >>> n = SignedLog.of(2.0) ** 4000
    >>> (n - n).sign.item(), round(((n * n) / n).log2().item(), 6)
    (0.0, 4000.0)
    >>> (SignedLog.of([3.0, -5.0]) + SignedLog.of(2.0)).value().round(12).tolist()
    [5.0, -3.0]
    """

    __array_ufunc__ = None

    def __init__(self, sign: np.ndarray, log: np.ndarray):
        self.sign, self.log = np.broadcast_arrays(sign, log)

    @classmethod
    def of(cls, value: "SignedLog | np.ndarray | list[float] | float") -> "SignedLog":
        """From ordinary, finite numbers."""
        if isinstance(value, SignedLog):
            return value
        value = np.asarray(value, np.float64)
        if not np.isfinite(value).all():
            raise ValueError("a SignedLog needs finite numbers (got NaN or an infinity)")
        with np.errstate(divide="ignore"):
            return cls(np.sign(value), np.log(np.abs(value)))

    @classmethod
    def two_to(cls, exponent: np.ndarray | float) -> "SignedLog":
        """2^exponent, for widths."""
        log = np.asarray(exponent, np.float64) * np.log(2.0)
        return cls(np.ones_like(log), log)

    def __mul__(self, other: "SignedLog | float") -> "SignedLog":
        other = SignedLog.of(other)
        sign = self.sign * other.sign
        return SignedLog(sign, np.where(sign == 0, -np.inf, self.log + other.log))

    __rmul__ = __mul__

    def __truediv__(self, other: "SignedLog | float") -> "SignedLog":
        other = SignedLog.of(other)
        if (other.sign == 0).any():
            raise ZeroDivisionError("division of a SignedLog by zero")
        return self * SignedLog(other.sign, -other.log)

    def __pow__(self, exponent: np.ndarray | float) -> "SignedLog":
        if (self.sign <= 0).any():
            raise ValueError("a real power needs a positive SignedLog")
        return SignedLog(self.sign, self.log * exponent)

    def __neg__(self) -> "SignedLog":
        return SignedLog(-self.sign, self.log)

    def __sub__(self, other: "SignedLog | float") -> "SignedLog":
        return self + (-SignedLog.of(other))

    def __add__(self, other: "SignedLog | float") -> "SignedLog":
        other = SignedLog.of(other)
        swap = other.log > self.log
        big, small = np.where(swap, other.log, self.log), np.where(swap, self.log, other.log)
        sign = np.where(swap, other.sign, self.sign)
        ratio = np.exp(small - np.where(np.isneginf(big), 0.0, big))  # 0 + 0 has no ratio.
        equal = self.sign * other.sign >= 0
        with np.errstate(divide="ignore"):
            log = big + np.where(equal, np.log1p(ratio), np.log1p(-np.where(equal, 0.0, ratio)))
        return SignedLog(np.where(np.isneginf(log), 0.0, sign), log)

    __radd__ = __add__

    def sum(self, axis: int = -1) -> "SignedLog":
        """The sum over one axis."""
        terms = [
            SignedLog(np.take(self.sign, i, axis), np.take(self.log, i, axis))
            for i in range(self.sign.shape[axis])
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def __getitem__(self, index: Any) -> "SignedLog":
        return SignedLog(self.sign[index], self.log[index])

    def signs(self) -> "SignedLog":
        """sign(x) as numbers: −1, 0 or 1."""
        return SignedLog.of(self.sign)

    def log2(self) -> np.ndarray:
        """log2 of the magnitude; −inf for exactly 0."""
        return self.log / np.log(2.0)

    def value(self) -> np.ndarray:
        """As float64, where that can hold it."""
        return self.sign * np.exp(self.log)

    def __repr__(self) -> str:
        return f"SignedLog(sign={self.sign}, log={self.log})"


class Trajectory(NamedTuple):
    """What the map passes through; index 0 of the first axis is t = 1 for the deltas.

    Attributes:
        b: (T + 1, …) the factor b at t = 0 … T.
        s: (T + 1, …, N) s_k = aᵀx_k.
        f: (T + 1, …, N) outputs b s_k.
        deltas: (3, T, …, N) δ¹, δ², δ³ of the updates t = 1 … T, at every sample.
    """

    b: SignedLog
    s: SignedLog
    f: SignedLog
    deltas: SignedLog


def trajectory(
    b: SignedLog,
    s: SignedLog,
    y: np.ndarray,
    gram: SignedLog,
    eta_a: SignedLog,
    eta_b: SignedLog,
    steps: int,
    *,
    update: Update = "gd",
) -> Trajectory:
    """Full-batch training of f = b · aᵀx on L = mean_k ½(f_k − y_k)² (eq. 2).

    Gradient descent: b' = b − η_b mean_k s_k U_k, s'_j = s_j − η_a b mean_k K_jk U_k. With one
    sample this is the paper's map b' = b − η_b s U, s' = s − η_a ‖x‖² b U.

    Sign updates, of one sample: b' = b − η_b sign(s U), s' = s − η_a ‖x‖₁ sign(b U); there `gram`
    is ‖x‖₁. (With several samples sign(Σ_k U_k x_k) needs x itself, not K alone.)

    Args:
        b: (…,) initial b; leading axes (widths, seeds, rates) are independent runs.
        s: (…, N) initial aᵀx_k.
        y: (…, N) or (N,) targets.
        gram: (…, N, N) K_jk = x_j·x_k of the samples.
        eta_a, eta_b: (…,) rates.
        steps: T.
        update: "gd" or "sign".

    Returns:
        All sizes at all steps.

    Raises:
        ValueError: no steps, an unknown update, or sign updates of several samples.

    >>> one = SignedLog.of(np.ones((1, 1)))
    >>> n = SignedLog.two_to(120.0)
    >>> run = trajectory(SignedLog.of(0.0), one[0], np.array([2.0]), one * n, n**-1, one[0, 0], 2)
    >>> run.f.value()[:, 0].tolist()  # at (−1, 0): Θ(1) after one step, at any width
    [0.0, 2.0, 2.0]
    """
    if steps < 1:
        raise ValueError(f"steps: must be at least 1 (got {steps})")
    if update not in ("gd", "sign"):
        raise ValueError(f"update: must be gd or sign (got {update!r})")
    samples = s.sign.shape[-1]
    if update == "sign" and samples > 1:
        raise ValueError(f"s: sign updates have a scalar map for one sample only (got {samples})")
    residual_mean = SignedLog.of(1.0 / samples)
    bs, ss, deltas = [b], [s], []
    for _ in range(steps):
        u = _column(b) * s - SignedLog.of(y)
        db = (s * u).sum() * residual_mean
        ds = _column(b) * ((gram * _row(u)).sum() * residual_mean)
        if update == "sign":
            db, ds = db.signs(), ds.signs() * gram[..., 0]
        db, ds = -(eta_b * db), -(_column(eta_a) * ds)
        deltas.append((_column(b) * ds, _column(db) * s, _column(db) * ds))
        b, s = b + db, s + ds
        bs.append(b)
        ss.append(s)
    by_name = [_stacked(list(delta)) for delta in zip(*deltas, strict=True)]
    all_b, all_s = _stacked(bs), _stacked(ss)
    return Trajectory(all_b, all_s, _column(all_b) * all_s, _stacked(by_name))


class Start(NamedTuple):
    """Random starts and constants of one-sample runs over widths, seeds and rates."""

    b: SignedLog
    s: SignedLog
    y: np.ndarray
    gram: SignedLog
    eta_a: SignedLog
    eta_b: SignedLog


def random_runs(
    log2_widths: np.ndarray,
    seeds: int,
    init: Literal["A", "B"],
    c_a: np.ndarray | float,
    c_b: np.ndarray | float,
    *,
    rng: np.random.Generator,
    update: Update = "gd",
    s_0: float = 0.0,
) -> Start:
    """One-sample runs at η_a = k_a n^c_a, η_b = k_b n^c_b, for `trajectory`.

    Init "A": b = 0 and aᵀx ~ N(0, 1) (a ~ N(0, 1/n), x of Θ(1) entries); "B": a = 0, b ~ N(0, 1).
    ‖x‖² (or ‖x‖₁) = k n. The constants k_a, k_b, k are drawn from [1/4, 1/2] and y from ±[1, 2],
    for each seed anew: γ does not see them, equal ones would put sign updates on a lattice where b
    or s comes back to exactly 0, and larger ones pass the edge of stability.

    Args:
        log2_widths: (W,) log2 n; any size.
        seeds: S, the same draws at every width.
        init: "A" or "B".
        c_a, c_b: (…,) exponents of the rates, broadcast together.
        rng: the source of the draws.
        update: "gd" or "sign".
        s_0: an exponent: aᵀx or b starts at n^s_0, to break the initialisation on purpose.

    Returns:
        Arrays with axes (…, S, W); samples last.

    >>> rng = np.random.default_rng(0)
    >>> runs = random_runs(np.array([60.0, 120.0]), 3, "A", -1.0, 0.0, rng=rng)
    >>> trajectory(*runs, 2).f.log2().shape
    (3, 3, 2, 1)
    """
    if init not in ("A", "B"):
        raise ValueError(f'init: must be "A" or "B" (got {init!r})')
    shape = (seeds, 1)
    start = SignedLog.of(rng.normal(size=shape))
    k_a, k_b, k = (SignedLog.of(rng.uniform(0.25, 0.5, size=shape)) for _ in range(3))
    y = rng.uniform(1, 2, size=shape) * rng.choice([-1.0, 1.0], size=shape)
    n = SignedLog.two_to(np.asarray(log2_widths, np.float64))
    c_a, c_b = (np.asarray(c, np.float64)[..., None, None] for c in np.broadcast_arrays(c_a, c_b))
    start = start * n**s_0
    zero = SignedLog.of(0.0) * start
    b, s = (zero, start) if init == "A" else (start, zero)
    gram = k * n
    return Start(b, _column(s), y[..., None], _column(_column(gram)), k_a * n**c_a, k_b * n**c_b)


def _column(x: SignedLog) -> SignedLog:
    return x[..., None]


def _row(x: SignedLog) -> SignedLog:
    return x[..., None, :]


def _stacked(parts: list[SignedLog]) -> SignedLog:
    shape = np.broadcast_shapes(*(part.sign.shape for part in parts))
    stack: Callable[[list[np.ndarray]], np.ndarray] = np.stack
    return SignedLog(
        stack([np.broadcast_to(part.sign, shape) for part in parts]),
        stack([np.broadcast_to(part.log, shape) for part in parts]),
    )
