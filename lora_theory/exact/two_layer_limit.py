"""The two-layer toy (eq. 3) in its large-n reduction, in which n enters through the rates alone.

f(x) = W_out φ(B A φ(W_in x)) with φ = ReLU and both factors random, trained by gradient descent on
L = mean_k ½(f_k − y_k)². Of W_in only the Gram matrix K of the features is left; the r numbers
h_k = A φ(W_in x_k) of each sample move, and the function F of h that the n rows of B and W_out make
is a Gaussian random one, G (`random_relu`), and a kernel learner on top. With α = n η_A, β = η_B,

    K_jk = ‖x_j‖ ‖x_k‖ (sin θ + (π − θ) cos θ) / 2π,     θ the angle between x_j and x_k
    F_t(h) = G(h) − β Σ_{τ<t} Σ_k (U_k^τ / N) (h_k^τ·h) κ0(h_k^τ, h),     U = f − y
    h_j^{t+1} = h_j^t − α Σ_k K_jk (U_k^t / N) ∇F_t(h_k^t)

with κ0 = (π − θ) / 2π, the probability that a row of B has both gates open. So widths at which
every crossover of two powers is over cost what any other costs. No prediction is imported here. It
was derived for this project and is checked against trained vectors, not proven.

Neglected is what is of relative order n^−1/2: how the Gram matrix of the features, and sums over
rows, fluctuate about their means. And rows of B move lazily, so that gates of about n^1/2 rows flip
and no more: n^−1/2 β ‖U‖ ‖h‖ ≪ 1. At the first update that is c_b < 1/2. Later ones need it of the
U and h that they meet: where f does not grow (c_a ≤ −1, c_b ≤ 0) it holds at every t, and where f
grows sizes are right until n^−1/2 β ‖U‖ ‖h‖ is 1. Of B itself, then, the root mean square is 1, and
what it moves by is given at leading order. With n = 1024 rows and β up to 1 mean log2 sizes agree
within what some hundred seeds tell; at β = 8 δ² of the first update is 0.35 bits smaller than here,
with 4096 rows 0.2.

F has kinks at the points that it was trained on, which n rows smooth over angles of the order of
n^−1/2 β ‖U‖ ‖h‖. Features that move by less (c_a + 1 < c_b − 1/2) feel none: there δ³ of vectors is
smaller by a quarter of a bit than with the kinks, and δ¹ from t = 2 on has another constant.
Exponents do not change.

Numerics: points within 10^−4 (radians, seen from 0) of where gradients were last taken have these
gradients, and of a kink the mean of both sides. ∇G changes by θ^1/2 over an angle θ, so that 1 % of
a contribution is lost at most; but h·∇G changes by θ^3/2, which at smaller θ would drown in the
jitter of the covariance, 10^−13, and put a floor below δ¹.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.exact.random_relu import Field, Pairs, direction, norm, pairs
from lora_theory.exact.scalar_map import _generator
from lora_theory.exact.signed_log import finite
from lora_theory.stats.numbers import numbers

_NEAR = 1e-4  # Radians: points that are nearer count as one for what depends on directions.
_LARGEST = 900  # n η_A and η_B are 2^±900 at most, so that float64 holds a few products.
_TOGETHER = 512  # Runs at a time: one takes 50 to 300 KB.


class Start(NamedTuple):
    """What is random: S runs with N samples each, of rank r.

    Attributes:
        gram: (S, N, N) K_jk.
        y: (S, N) targets.
        h: (S, N, r) features at t = 0.
        normals: (S, T + 1, N r) standard normal numbers, of which the gradients of G are made.
    """

    gram: np.ndarray
    y: np.ndarray
    h: np.ndarray
    normals: np.ndarray


class Trajectory(NamedTuple):
    """What training passes through, at t = 1 … T; the axes between are those of runs.

    Attributes:
        h: (T, …, N, r) features after the update.
        dh: (T, …, N, r) their moves.
        f: (T, …, N) outputs after it.
        deltas: (3, T, …, N) δ¹, δ², δ³ at every sample.
        rows: (3, T, …) n^1/2 times the root mean square of ΔB, of ΔB h and of ΔB Δh, h before the
            update, over rows and coordinates or samples.
    """

    h: np.ndarray
    dh: np.ndarray
    f: np.ndarray
    deltas: np.ndarray
    rows: np.ndarray


def random_runs(
    log2_widths: np.ndarray,
    seeds: Sequence[int],
    c_a: np.ndarray | float,
    c_b: np.ndarray | float,
    *,
    k_a: np.ndarray | float,
    k_b: np.ndarray | float,
    rank: int = 4,
    samples: int = 8,
    inputs: int = 5,
    steps: int = 3,
    stream: str = "",
) -> dict[str, np.ndarray]:
    """log2 of the sizes of everything at η_A = k_a n^c_a, η_B = k_b n^c_b.

    Sizes are root mean squares over coordinates and samples, by the names that the coordinate
    check has for them.

    Args:
        log2_widths: (W,) log2 n; any size.
        seeds: (S,) which; seed i draws the same at every width and rate.
        c_a, c_b: (…,) exponents of the rates.
        k_a, k_b: (…,) their constants, positive; all four are broadcast together.
        rank: r.
        samples: N of the sine task, x ~ N(0, I_d), y = sin(mean(x)).
        inputs: d.
        steps: T.
        stream: any text; seeds of two streams have nothing in common. Without one seed i draws from
            `np.random.default_rng(i)`.

    Returns:
        quantity -> (…, W, S, T) `log2 |v|` at t = 1 … T: −inf where v is exactly 0, inf from where
        a run has left the range of float64.

    Raises:
        ValueError: an argument that is none, by name.

    >>> widths = np.array([20.0, 40.0, 60.0])
    >>> logs = random_runs(widths, range(20), -0.5, -0.5, k_a=0.2, k_b=8.0, steps=1)
    >>> slopes = {name: (log[2] - log[0]).mean() / 40 for name, log in logs.items()}
    >>> [round(float(slopes[f"delta{i}"]), 1) + 0 for i in (1, 2, 3)]  # c_a + 1, c_b, c_a + c_b + 1
    [0.5, -0.5, 0.0]
    """
    log2_widths = np.asarray(finite("log2_widths", numbers("log2_widths", log2_widths)))
    if log2_widths.ndim != 1:
        raise arguments.refusal("log2_widths", "of shape (W,)", log2_widths)
    given = {"c_a": np.asarray(finite("c_a", c_a)), "c_b": np.asarray(finite("c_b", c_b))}
    given |= {"k_a": _rate("k_a", k_a), "k_b": _rate("k_b", k_b)}
    c_a, c_b, k_a, k_b = (rate[..., None] for rate in _together(given))
    alpha = _power("c_a", np.log2(k_a) + (c_a + 1) * log2_widths)[..., None]
    beta = _power("c_b", np.log2(k_b) + c_b * log2_widths)[..., None]
    start = random_start(
        seeds, rank=rank, samples=samples, inputs=inputs, steps=steps, stream=stream
    )
    together = max(1, _TOGETHER // alpha.size)
    firsts = range(0, len(start.y), together)
    parts = [Start(*(drawn[i : i + together] for drawn in start)) for i in firsts]
    found = [sizes(log2_widths, trajectory(part, alpha, beta)) for part in parts]
    return {name: np.concatenate([logs[name] for logs in found], axis=-2) for name in found[0]}


def _rate(name: str, value: Any) -> np.ndarray:
    """Finite positive numbers."""
    found = np.asarray(finite(name, value))
    if not (found > 0).all():
        raise arguments.refusal(name, "positive", found)
    return found


def _together(given: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Arrays by name, broadcast."""
    try:
        return np.broadcast_arrays(*given.values())
    except ValueError:
        shapes = ", ".join(str(value.shape) for value in given.values())
        raise ValueError(f"{', '.join(given)}: must have one shape (got {shapes})") from None


def _power(name: str, log2: np.ndarray) -> np.ndarray:
    furthest = log2.flat[np.abs(log2).argmax()]
    if abs(furthest) > _LARGEST:
        allowed = f"from 2^-{_LARGEST} to 2^{_LARGEST} at every width"
        raise ValueError(f"{name}: n η_A and η_B must be {allowed} (got 2^{furthest:.0f})")
    return np.asarray(np.exp2(log2))


def random_start(
    seeds: Sequence[int],
    *,
    rank: int = 4,
    samples: int = 8,
    inputs: int = 5,
    steps: int = 3,
    stream: str = "",
) -> Start:
    """What is random in runs of T steps; see `random_runs`, whose arguments these are.

    >>> random_start(range(3), steps=2).normals.shape
    (3, 3, 32)
    """
    rank, samples = arguments.integer("rank", rank), arguments.integer("samples", samples)
    inputs, steps = arguments.integer("inputs", inputs), arguments.integer("steps", steps)
    if not isinstance(stream, str):
        raise arguments.refusal("stream", "text", stream)
    if not isinstance(seeds, Iterable) or not len(seeds):
        raise arguments.refusal("seeds", "a list of integers, at least one", seeds)
    generators = [_generator(arguments.integer("seeds", seed, 0), stream) for seed in seeds]
    shapes = (samples, inputs), (samples, rank), (steps + 1, samples * rank)
    draws = [[rng.normal(size=shape) for shape in shapes] for rng in generators]
    x, h, normals = (np.stack(drawn) for drawn in zip(*draws, strict=True))
    gram = gram_of(x)
    return Start(gram, np.sin(x.mean(axis=-1)), np.linalg.cholesky(gram) @ h, normals)


def gram_of(x: np.ndarray) -> np.ndarray:
    """K (…, N, N) of inputs x (…, N, d): E[φ(w·x_j) φ(w·x_k)] over rows w ~ N(0, I) of W_in.

    >>> gram_of(np.array([[2.0, 0.0]])).tolist()
    [[2.0]]
    """
    length, towards = norm(x), direction(x)
    kernel = pairs(towards, towards).kernel()
    return np.asarray(length[..., :, None] * length[..., None, :] * kernel)


def trajectory(start: Start, alpha: np.ndarray, beta: np.ndarray) -> Trajectory:
    """T updates at the rates α = n η_A and β = η_B.

    F is 1-homogeneous, F(h) = h·∇F(h), so that δ¹ = F_t(h + Δh) − F_t(h) is made as
    (h + Δh)·(∇F_t(h + Δh) − ∇F_t(h)) + Δh·∇F_t(h), and δ³ likewise: nothing cancels, however small
    a move is.

    Args:
        start: of `random_start`.
        alpha, beta: (…, S) or (…, 1) positive rates.

    >>> run = trajectory(random_start(range(3), steps=2), np.array([0.1]), np.array([0.2]))
    >>> before, after = run.f
    >>> bool(np.allclose(run.deltas[:, 1].sum(axis=0), after - before))
    True
    """
    runs = len(start.y)
    given = {"alpha": _rate("alpha", alpha), "beta": _rate("beta", beta)}
    for name, rate in given.items():
        if rate.shape[-1:] not in ((1,), (runs,)):
            raise arguments.refusal(name, f"of shape (…, {runs}) or (…, 1)", rate)
    alpha, beta = _together(given)
    with np.errstate(all="ignore"):  # What leaves float64 stays inf or NaN.
        moments = list(_moments(start, alpha[..., None], beta[..., None]))
    h, dh, f, deltas, rows = (np.stack(each) for each in zip(*moments, strict=True))
    return Trajectory(h, dh, f, deltas.swapaxes(0, 1), rows.swapaxes(0, 1))


def _moments(start: Start, alpha: np.ndarray, beta: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """What `Trajectory` holds, of one update after the other."""
    field, trained = Field(), list[_Trained]()
    h, samples = start.h, start.y.shape[-1]
    points = [direction(h)]
    to = [pairs(points[0], points[0])]
    grad = field.gradients(to, np.full(h.shape[:-1], True), start.normals[:, 0])
    for normal in np.moveaxis(start.normals[:, 1:], 1, 0):
        u = (_dot(h, grad) - start.y) / samples
        dh = -alpha[..., None] * (start.gram @ (u[..., None] * grad))
        rows = beta[..., 0] * _rows(to[-1].open(), u, h, dh)
        trained.append(_Trained(points[-1], -beta * u * norm(h)))
        pull, new_h = trained[-1].pull(to[-1]), h + dh
        kept = ~_apart(new_h, points[-1])[..., None]
        points.append(np.where(kept, points[-1], direction(new_h)))
        to = [pairs(points[-1], point) for point in points]
        new_grad = field.gradients(to, ~kept[..., 0], normal)
        *pulls, new_pull = (past.pull(pair) for past, pair in zip(trained, to[:-1], strict=True))
        new_grad = np.where(kept, grad, new_grad + sum(pulls))
        new_pull = np.where(kept, pull, new_pull)
        delta1 = _dot(dh, grad) + _dot(new_h, new_grad - grad)
        delta2 = _dot(h, pull)
        delta3 = _dot(dh, pull) + _dot(new_h, new_pull - pull)
        h, grad = new_h, new_grad + new_pull
        yield h, dh, _dot(h, grad), np.stack(np.broadcast_arrays(delta1, delta2, delta3)), rows


class _Trained(NamedTuple):
    """What one update has added to F: κ(h) = Σ_k push_k (p_k·h) κ0(p_k, h), p_k of length 1."""

    points: np.ndarray
    push: np.ndarray

    def pull(self, pair: Pairs) -> np.ndarray:
        """∇κ at each h (…, N, r)."""
        slopes = pair.slope(self.points)
        return np.asarray((self.push[..., None, :, None] * slopes).sum(axis=-2))


def _apart(h: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Whether h (…, N, r) is seen from 0 further than `_NEAR` from a direction.

    What has left float64, or is 0, stays where it was: its sizes are what they are.
    """
    return np.asarray(np.linalg.norm(direction(h) - point, axis=-1) > _NEAR)


def _dot(h: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.asarray((h * p).sum(axis=-1))


def _rows(gates: np.ndarray, u: np.ndarray, h: np.ndarray, dh: np.ndarray) -> np.ndarray:
    """n^1/2 / β times the root mean square of ΔB, ΔB h and ΔB Δh: (3, …).

    ΔB_i = −β w_i Σ_k u_k 1{B_i·h_k > 0} h_k with w_i² = 1/n on average.
    """
    moves = u[..., None] * h
    made = moves, moves @ h.swapaxes(-1, -2), moves @ dh.swapaxes(-1, -2)
    return np.stack(np.broadcast_arrays(*(_rms_of_rows(gates, each) for each in made)))


def _rms_of_rows(gates: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Root mean square of Σ_k 1{B_i·h_k > 0} v_kj over rows i and over j, for v (…, N, J)."""
    largest = np.abs(made).max(axis=(-1, -2))
    scaled = made / largest[..., None, None]
    squares = (scaled * (gates @ scaled)).sum(axis=-2)
    return np.where(largest == 0, 0.0, largest * np.sqrt(squares.mean(axis=-1)))


def sizes(log2_widths: np.ndarray, run: Trajectory) -> dict[str, np.ndarray]:
    """log2 root mean squares (…, W, S, T) of runs with axes (…, W, S), by quantity.

    Rows of B are N(0, I) but for n^−1/2, so that the root mean square of B is 1, that of B h is
    the length of h, and B Δh alike.
    """
    rank = run.h.shape[-1]
    named = {"f": run.f, "delta1": run.deltas[0], "delta2": run.deltas[1], "delta3": run.deltas[2]}
    logs = {name: _log2_rms(v, 1) for name, v in named.items()}
    logs |= {"Z_A": _log2_rms(run.h, 2), "dZ_A": _log2_rms(run.dh, 2)}
    logs |= {"B": np.where(np.isposinf(logs["f"]), np.inf, 0.0)}
    logs |= {"Z_B": logs["Z_A"] + np.log2(rank) / 2, "delta1_Z_B": logs["dZ_A"] + np.log2(rank) / 2}
    for name, v in zip(("dB", "delta2_Z_B", "delta3_Z_B"), run.rows, strict=True):
        logs[name] = _log2_rms(v, 0) - log2_widths[:, None] / 2
    return {name: np.moveaxis(log, 0, -1) for name, log in logs.items()}


def _log2_rms(v: np.ndarray, axes: int) -> np.ndarray:
    """Over so many last axes; inf of what is not finite."""
    over = tuple(range(-axes, 0))
    largest = np.abs(v).max(axis=over, keepdims=True)
    with np.errstate(all="ignore"):
        log = np.log2(np.mean(np.square(v / largest), axis=over)) / 2
        log = log + np.log2(largest.reshape(log.shape))
    zero = largest.reshape(log.shape) == 0
    return np.where(np.isfinite(log), log, np.where(zero, -np.inf, np.inf))
