"""The linear toy of eq. 2 as its exact scalar map, in numbers that neither over- nor underflow.

With s_k = aᵀx_k and the Gram matrix K = XᵀX, training a (n,) and b by full-batch updates never
needs a itself: b and the N numbers s_k are all there is, whatever the width. A width is then as
cheap as any other, and n = 2^4000 as good as n = 10. No prediction is imported here.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.exact.signed_log import SignedLog, finite
from lora_theory.stats.numbers import numbers
from lora_theory.stats.tables import Table

Update = Literal["gd", "sign"]
# Of rates and of ‖x‖² unless others are given: a run is then far from the edge of stability.
CONSTANT = 0.35


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
    schedule: np.ndarray | None = None,
) -> Trajectory:
    """Full-batch training of f = b · aᵀx on L = mean_k ½(f_k − y_k)² (eq. 2).

    Gradient descent: b' = b − η_b mean_k s_k U_k, s'_j = s_j − η_a b mean_k K_jk U_k. With one
    sample this is the paper's map b' = b − η_b s U, s' = s − η_a ‖x‖² b U.

    Sign updates, of one sample: b' = b − η_b sign(s U), s' = s − η_a ‖x‖₁ sign(b U); there `gram`
    is ‖x‖₁. (With several samples sign(Σ_k U_k x_k) needs x itself, not K alone.) They walk on a
    lattice, b = b_0 + k η_b and s = s_0 + m η_a ‖x‖₁ with integers k, m, which are what is summed:
    huge steps that cancel leave b_0 and s_0 as they were. A step that overshoots is taken back by
    the next, so that b or s comes back to a start of exactly 0: at large constants in most seeds.
    Under a schedule that is `uneven` k and m are sums of its numbers, and nothing comes back.

    What cancels to rounding is lost (NaN). A residual of gradient descent that does so has arrived:
    it moves nothing any more, and where no residual is left the δ are lost.

    Args:
        b: (…,) initial b; leading axes (widths, seeds, rates) are independent runs.
        s: (…, N) initial aᵀx_k.
        y: (…, N) or (N,) targets.
        gram: (…, N, N) K_jk = x_j·x_k of the samples.
        eta_a, eta_b: (…,) rates.
        steps: T.
        update: "gd" or "sign".
        schedule: (T,) by what both rates are multiplied at t = 1 … T, each above 0; 1 if not given.

    Returns:
        All sizes at all steps.

    Raises:
        ValueError: no steps, an unknown update, shapes that do not fit, or sign updates of several
            samples.

    >>> one = SignedLog.of(np.ones((1, 1)))
    >>> n = SignedLog.two_to(120.0)
    >>> run = trajectory(SignedLog.of(0.0), one[0], np.array([2.0]), one * n, n**-1, one[0, 0], 2)
    >>> run.f.value()[:, 0].tolist()  # at (−1, 0): Θ(1) after one step, at any width
    [0.0, 2.0, 2.0]
    """
    steps = arguments.integer("steps", steps)
    arguments.one_of("update", update, ("gd", "sign"))
    b, s, gram = (_number(*at) for at in (("b", b), ("s", s), ("gram", gram)))
    eta_a, eta_b, y = _number("eta_a", eta_a), _number("eta_b", eta_b), finite("y", y)
    for name, rate in (("eta_a", eta_a), ("eta_b", eta_b)):
        if (rate.sign < 0).any():
            raise ValueError(f"{name}: must be at least 0 (got a negative rate)")
    samples = _samples(b, s, y, gram, eta_a, eta_b)
    if update == "sign" and samples > 1:
        raise ValueError(f"s: sign updates have a scalar map for one sample only (got {samples})")
    factors = _schedule(schedule, steps)
    residual_mean = SignedLog.of(1.0 / samples)
    step_b, step_s = eta_b, _column(eta_a)
    if update == "sign":
        step_s = step_s * gram[..., 0]
    b_0, s_0, k, m = b, s, np.zeros(()), np.zeros(())
    bs, ss, deltas = [b], [s], []
    for factor in factors:
        u = _column(b) * s - SignedLog.of(y)
        arrived = np.isnan(u.sign).all(axis=-1)
        if update == "gd":
            u = u.or_zero()
        db = -((s * u).sum() * residual_mean)
        ds = -(_column(b) * ((gram * _row(u)).sum() * residual_mean))
        if update == "sign":
            db, ds = db.signs(), ds.signs()
        moved_b, moved_s = step_b * db * factor, step_s * ds * factor
        made = _column(b) * moved_s, _column(moved_b) * s, _column(moved_b) * moved_s
        deltas.append(tuple(_lost(delta, arrived[..., None]) for delta in made))
        if update == "sign":
            k, m = k + factor * db.sign, m + factor * ds.sign
            b, s = b_0 + step_b * _summed(k), s_0 + step_s * _summed(m)
        else:
            b, s = b + moved_b, s + moved_s
        bs.append(b)
        ss.append(s)
    by_name = [_stacked(list(delta)) for delta in zip(*deltas, strict=True)]
    all_b, all_s = _stacked(bs), _stacked(ss)
    return Trajectory(all_b, all_s, _column(all_b) * all_s, _stacked(by_name))


def _lost(x: SignedLog, at: np.ndarray) -> SignedLog:
    return SignedLog(np.where(at, np.nan, x.sign), np.where(at, np.nan, x.log))


def _summed(steps: np.ndarray) -> SignedLog:
    """Sums of steps of ±1, or ± what a schedule has, of which NaN are lost."""
    with np.errstate(divide="ignore"):
        return SignedLog(np.sign(steps), np.log(np.abs(steps)))


def _schedule(given: np.ndarray | None, steps: int) -> list[float]:
    if given is None:
        return [1.0] * steps
    found = finite("schedule", given)
    if found.shape != (steps,) or (found <= 0).any():
        raise arguments.refusal("schedule", f"{steps} positive numbers", given)
    return list(map(float, found))


def uneven(steps: int) -> np.ndarray:
    """(T,) factors in [1/√2, √2] of which no two are equal: a schedule off every lattice.

    2^(t φ mod 1 − 1/2) with the golden φ; rates of Θ(n^c) at each step are all that exponents ask.

    >>> uneven(4).round(3).tolist()
    [1.085, 0.833, 1.278, 0.981]
    """
    t = np.arange(1, arguments.integer("steps", steps) + 1)
    return 2.0 ** ((t * (5**0.5 - 1) / 2) % 1 - 0.5)


def _number(name: str, value: Any) -> SignedLog:
    return value if isinstance(value, SignedLog) else SignedLog.of(finite(name, value))


def _samples(
    b: SignedLog, s: SignedLog, y: np.ndarray, gram: SignedLog, eta_a: SignedLog, eta_b: SignedLog
) -> int:
    """N, if all shapes fit: a Gram matrix (N,), or a number, would be broadcast to another map."""
    count = s.sign.shape[-1] if s.sign.ndim else 0
    if not count:
        raise ValueError(f"s: must have shape (…, N), samples last (got {s.sign.shape})")
    shapes = {
        "b": (b.sign.shape, ()),
        "s": (s.sign.shape, (count,)),
        "y": (y.shape, (count,)),
        "gram": (gram.sign.shape, (count, count)),
        "eta_a": (eta_a.sign.shape, ()),
        "eta_b": (eta_b.sign.shape, ()),
    }
    runs: tuple[int, ...] = ()
    for name, (shape, own) in shapes.items():
        before = len(shape) - len(own)
        fits = before >= 0 and shape[before:] == own
        try:
            runs = np.broadcast_shapes(runs, shape[:before]) if fits else runs
        except ValueError:
            fits = False
        if not fits:
            wanted = f"(…{''.join(f', {size}' for size in own)})"
            raise ValueError(
                f"{name}: must have shape {wanted}, its leading axes those of the runs "
                f"{runs} (got {shape})"
            )
    return count


def logs(run: Trajectory) -> dict[str, np.ndarray]:
    """log2 of the map's sizes f, B, Z_A, δ¹, δ², δ³ at t = 1 … T, of runs with axes (…, S, W).

    Of several samples the root mean square, (mean_k f_k²)^½: lost if one of them is.

    Returns:
        By name, "delta1" for δ¹: (…, W, S, T); −inf for exactly 0, NaN for what is lost.

    >>> runs = random_runs(np.array([60.0, 120.0]), range(3), "A", [-1.0, -1.5], 0.0, samples=4)
    >>> logs(trajectory(*runs, 5))["f"].shape
    (2, 2, 3, 5)
    """
    if run.b.sign.ndim < 3:
        raise ValueError(f"run: must be of axes (…, S, W) (got {run.b.sign.shape[1:]})")
    sizes = {"f": run.f[1:], "B": run.b[1:, ..., None], "Z_A": run.s[1:]}
    sizes |= {f"delta{i + 1}": run.deltas[i] for i in range(3)}
    return {name: np.moveaxis(_rms(size), 0, -1).swapaxes(-2, -3) for name, size in sizes.items()}


def _rms(x: SignedLog) -> np.ndarray:
    """log2 of the root mean square over the last axis."""
    return ((x * x).sum() * (1.0 / x.sign.shape[-1])).log2() / 2


def table(log2_widths: np.ndarray, run: Trajectory) -> Table:
    """The map's sizes (`logs`) as a table, of runs with axes (S, W).

    >>> widths = np.array([1000.0, 2000.0, 4000.0])
    >>> run = trajectory(*random_runs(widths, range(8), "A", -1.0, 0.0), 2)
    >>> abs(table(widths, run).slope("f", 1).value) < 0.01  # Proposition 2
    True
    """
    log2_widths = numbers("log2_widths", log2_widths)
    if run.b.sign.ndim != 3 or run.b.sign.shape[2:] != log2_widths.shape:
        wanted = f"of axes (S, W), W = {len(log2_widths)}"
        raise ValueError(f"run: must be {wanted} (got {run.b.sign.shape[1:]})")
    return Table(log2_widths, np.arange(1, run.b.sign.shape[0]), logs(run))


class Start(NamedTuple):
    """Random starts and constants of runs over widths, seeds and rates."""

    b: SignedLog
    s: SignedLog
    y: np.ndarray
    gram: SignedLog
    eta_a: SignedLog
    eta_b: SignedLog


def random_runs(
    log2_widths: np.ndarray,
    seeds: Sequence[int],
    init: Literal["A", "B"],
    c_a: np.ndarray | float,
    c_b: np.ndarray | float,
    *,
    k_a: np.ndarray | float = CONSTANT,
    k_b: np.ndarray | float = CONSTANT,
    update: Update = "gd",
    samples: int = 1,
    s_0: float = 0.0,
    stream: str = "",
) -> Start:
    """Runs at η_a = k_a n^c_a, η_b = k_b n^c_b, for `trajectory`.

    Init "A": b = 0 and aᵀx ~ N(0, 1) (a ~ N(0, 1/n), x of Θ(1) entries); "B": a = 0, b ~ N(0, 1).
    Targets are drawn from ±[1, 2], and ‖x‖² (or ‖x‖₁) = k n with k = 0.35.

    Of each of k_a, k_b, k a seed takes the given value times a factor of its own, drawn from
    [1/√2, √2]: equal constants would put sign updates on a lattice on which b s = y or b = s may be
    met exactly. To come back to a start of exactly 0, one step after the other, they need no equal
    constants, only large ones: see `uneven`.

    Of N > 1 samples each has its s_k (Init "A"; one b is of all) and its y_k, and the Gram matrix
    is that of random inputs, K = k n (I + n^−1/2 E) with E symmetric, standard normal off the
    diagonal and 0 on it: x_j·x_k of independent entries is smaller than ‖x‖² by n^1/2. Its
    diagonal does not vary, as that of a sum of n squares by n^−1/2 would. (At small n and many
    samples such a K need not be positive: n ≫ 4N keeps it so.)

    Args:
        log2_widths: (W,) log2 n; any size.
        seeds: (S,) which; seed i draws the same at every width, rate, init and update.
        init: "A" or "B".
        c_a, c_b: (…,) exponents of the rates.
        k_a, k_b: (…,) constants of the rates, above 0; all four are broadcast together.
        update: "gd" or "sign".
        samples: N; the first has the draws that it has alone. Sign updates have one.
        s_0: an exponent: aᵀx or b starts at n^s_0, to break the initialisation on purpose.
        stream: any text; seeds of two streams have nothing in common. Without one seed i draws from
            `np.random.default_rng(i)`.

    Returns:
        Arrays with axes (…, S, W); samples last.

    >>> runs = random_runs(np.array([60.0, 120.0]), range(3), "A", -1.0, 0.0)
    >>> trajectory(*runs, 2).f.log2().shape
    (3, 3, 2, 1)
    >>> runs = random_runs([60.0], range(3), "A", -1.0, 0.0, k_a=[0.005, 2], samples=4)
    >>> trajectory(*runs, 2).f.log2().shape
    (3, 2, 3, 1, 4)
    """
    arguments.one_of("init", init, ("A", "B"))
    arguments.one_of("update", update, ("gd", "sign"))
    samples = arguments.integer("samples", samples)
    if update == "sign" and samples > 1:
        raise ValueError(f"samples: sign updates have a scalar map for one only (got {samples})")
    if not isinstance(stream, str):
        raise arguments.refusal("stream", "text", stream)
    log2_widths = finite("log2_widths", numbers("log2_widths", log2_widths))
    if log2_widths.ndim != 1:
        raise arguments.refusal("log2_widths", "of shape (W,)", log2_widths)
    s_0 = arguments.finite("s_0", s_0)
    if not isinstance(seeds, Iterable) or not len(seeds):
        raise arguments.refusal("seeds", "a list of integers, at least one", seeds)
    seeds = [arguments.integer("seeds", seed, 0) for seed in seeds]
    rates = _rates(c_a, c_b, k_a, k_b)
    draws = _draws([_generator(seed, stream) for seed in seeds], samples)
    n = SignedLog.two_to(log2_widths)
    scale = n**s_0
    start = SignedLog.of(draws.start[:, None]) * _column(scale)
    factors = [SignedLog.of(draws.factors[:, i, None]) for i in range(3)]
    zero = SignedLog.of(0.0) * start
    b, s = (zero[..., 0], start) if init == "A" else (start[..., 0], zero)
    gram = SignedLog.of(draws.overlaps[:, None]) * _column(_column(n**-0.5))
    gram = (gram + SignedLog.of(np.eye(samples))) * _column(_column(factors[2] * CONSTANT * n))
    eta_a, eta_b = (
        SignedLog.of(k) * factor * n**c
        for factor, c, k in zip(factors, rates[:2], rates[2:], strict=False)
    )
    return Start(b, s, draws.y[:, None], gram, eta_a, eta_b)


def _rates(*given: np.ndarray | float) -> list[np.ndarray]:
    """c_a, c_b, k_a, k_b with axes (…, 1, 1)."""
    names = ("c_a", "c_b", "k_a", "k_b")
    found = [finite(name, value) for name, value in zip(names, given, strict=True)]
    for name, value in zip(names[2:], found[2:], strict=True):
        if (value <= 0).any():
            raise arguments.refusal(name, "positive", value)
    try:
        return [value[..., None, None] for value in np.broadcast_arrays(*found)]
    except ValueError:
        shapes = ", ".join(f"{value.shape}" for value in found)
        raise ValueError(f"{', '.join(names)}: must have one shape (got {shapes})") from None


def _generator(seed: int, stream: str) -> np.random.Generator:
    """The same for a seed and a text in every process: Python's own hash is not."""
    if not stream:
        return np.random.default_rng(seed)
    digest = hashlib.sha256(stream.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


class _Draws(NamedTuple):
    """What is random in runs: (S, N) starts and targets, (S, 3) factors, (S, N, N) overlaps."""

    start: np.ndarray
    factors: np.ndarray
    y: np.ndarray
    overlaps: np.ndarray


def _draws(generators: list[np.random.Generator], samples: int) -> _Draws:
    """The first sample first, so that it is the same whatever number there are."""
    parts = []
    for rng in generators:
        start, sign = rng.normal(size=1), rng.choice([-1.0, 1.0], size=1)
        factors, y = rng.uniform(0.5**0.5, 2**0.5, size=3), sign * rng.uniform(1, 2, size=1)
        more, signs = rng.normal(size=samples - 1), rng.choice([-1.0, 1.0], size=samples - 1)
        y = np.append(y, signs * rng.uniform(1, 2, size=samples - 1))
        upper = np.triu(rng.normal(size=(samples, samples)), 1)
        parts.append(_Draws(np.append(start, more), factors, y, upper + upper.T))
    return _Draws(*map(np.stack, zip(*parts, strict=True)))


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
