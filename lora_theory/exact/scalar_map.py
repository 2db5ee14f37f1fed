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
    is ‖x‖₁. (With several samples sign(Σ_k U_k x_k) needs x itself, not K alone.) They walk on a
    lattice, b = b_0 + k η_b and s = s_0 + m η_a ‖x‖₁ with integers k, m, which are what is summed:
    huge steps that cancel leave b_0 and s_0 as they were.

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
    residual_mean = SignedLog.of(1.0 / samples)
    step_b, step_s = eta_b, _column(eta_a)
    if update == "sign":
        step_s = step_s * gram[..., 0]
    b_0, s_0, k, m = b, s, np.zeros(()), np.zeros(())
    bs, ss, deltas = [b], [s], []
    for _ in range(steps):
        u = _column(b) * s - SignedLog.of(y)
        arrived = np.isnan(u.sign).all(axis=-1)
        if update == "gd":
            u = u.or_zero()
        db = -((s * u).sum() * residual_mean)
        ds = -(_column(b) * ((gram * _row(u)).sum() * residual_mean))
        if update == "sign":
            db, ds = db.signs(), ds.signs()
        moved_b, moved_s = step_b * db, step_s * ds
        made = _column(b) * moved_s, _column(moved_b) * s, _column(moved_b) * moved_s
        deltas.append(tuple(_lost(delta, arrived[..., None]) for delta in made))
        if update == "sign":
            k, m = k + db.sign, m + ds.sign
            b, s = b_0 + step_b * _integers(k), s_0 + step_s * _integers(m)
        else:
            b, s = b + moved_b, s + moved_s
        bs.append(b)
        ss.append(s)
    by_name = [_stacked(list(delta)) for delta in zip(*deltas, strict=True)]
    all_b, all_s = _stacked(bs), _stacked(ss)
    return Trajectory(all_b, all_s, _column(all_b) * all_s, _stacked(by_name))


def _lost(x: SignedLog, at: np.ndarray) -> SignedLog:
    return SignedLog(np.where(at, np.nan, x.sign), np.where(at, np.nan, x.log))


def _integers(count: np.ndarray) -> SignedLog:
    """Integers, of which NaN are lost."""
    with np.errstate(divide="ignore"):
        return SignedLog(np.sign(count), np.log(np.abs(count)))


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


def table(log2_widths: np.ndarray, run: Trajectory) -> Table:
    """The map's sizes f, B, Z_A, δ¹, δ², δ³ at t = 1 … T as a table, of runs with axes (S, W).

    >>> widths = np.array([1000.0, 2000.0, 4000.0])
    >>> run = trajectory(*random_runs(widths, range(8), "A", -1.0, 0.0), 2)
    >>> abs(table(widths, run).slope("f", 1).value) < 0.01  # Proposition 2
    True
    """
    log2_widths = numbers("log2_widths", log2_widths)
    if run.b.sign.ndim != 3 or run.b.sign.shape[2:] != log2_widths.shape:
        wanted = f"of axes (S, W), W = {len(log2_widths)}"
        raise ValueError(f"run: must be {wanted} (got {run.b.sign.shape[1:]})")
    sizes = {"f": run.f[1:][..., 0], "B": run.b[1:], "Z_A": run.s[1:][..., 0]}
    sizes |= {f"delta{i + 1}": run.deltas[i][..., 0] for i in range(3)}
    logs = {name: np.moveaxis(size.log2(), 0, -1).swapaxes(0, 1) for name, size in sizes.items()}
    steps = np.arange(1, run.b.log.shape[0])
    return Table(log2_widths, steps, logs)


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
    seeds: Sequence[int],
    init: Literal["A", "B"],
    c_a: np.ndarray | float,
    c_b: np.ndarray | float,
    *,
    update: Update = "gd",
    s_0: float = 0.0,
    stream: str = "",
) -> Start:
    """One-sample runs at η_a = k_a n^c_a, η_b = k_b n^c_b, for `trajectory`.

    Init "A": b = 0 and aᵀx ~ N(0, 1) (a ~ N(0, 1/n), x of Θ(1) entries); "B": a = 0, b ~ N(0, 1).
    ‖x‖² (or ‖x‖₁) = k n. The constants k_a, k_b, k are drawn from [1/4, 1/2] and y from ±[1, 2],
    for each seed anew: γ does not see them, equal ones would put sign updates on a lattice where b
    or s comes back to exactly 0, and larger ones pass the edge of stability.

    Args:
        log2_widths: (W,) log2 n; any size.
        seeds: (S,) which; seed i draws the same at every width, rate, init and update.
        init: "A" or "B".
        c_a, c_b: (…,) exponents of the rates, broadcast together.
        update: "gd" or "sign".
        s_0: an exponent: aᵀx or b starts at n^s_0, to break the initialisation on purpose.
        stream: any text; seeds of two streams have nothing in common. Without one seed i draws from
            `np.random.default_rng(i)`.

    Returns:
        Arrays with axes (…, S, W); samples last.

    >>> runs = random_runs(np.array([60.0, 120.0]), range(3), "A", -1.0, 0.0)
    >>> trajectory(*runs, 2).f.log2().shape
    (3, 3, 2, 1)
    """
    arguments.one_of("init", init, ("A", "B"))
    arguments.one_of("update", update, ("gd", "sign"))
    if not isinstance(stream, str):
        raise arguments.refusal("stream", "text", stream)
    log2_widths = finite("log2_widths", numbers("log2_widths", log2_widths))
    if log2_widths.ndim != 1:
        raise arguments.refusal("log2_widths", "of shape (W,)", log2_widths)
    c_a, c_b, s_0 = finite("c_a", c_a), finite("c_b", c_b), arguments.finite("s_0", s_0)
    if not isinstance(seeds, Iterable) or not len(seeds):
        raise arguments.refusal("seeds", "a list of integers, at least one", seeds)
    seeds = [arguments.integer("seeds", seed, 0) for seed in seeds]
    try:
        c_a, c_b = np.broadcast_arrays(c_a, c_b)
    except ValueError:
        shapes = f"{np.shape(c_a)}, {np.shape(c_b)}"
        raise ValueError(f"c_a, c_b: must have one shape (got {shapes})") from None
    draws = np.array([_draws(_generator(seed, stream)) for seed in seeds])
    start, k_a, k_b, k = (SignedLog.of(draws[:, i, None]) for i in range(4))
    y = draws[:, 4, None]
    n = SignedLog.two_to(np.asarray(log2_widths, np.float64))
    c_a, c_b = (c[..., None, None] for c in (c_a, c_b))
    start = start * n**s_0
    zero = SignedLog.of(0.0) * start
    b, s = (zero, start) if init == "A" else (start, zero)
    gram = k * n
    return Start(b, _column(s), y[..., None], _column(_column(gram)), k_a * n**c_a, k_b * n**c_b)


def _generator(seed: int, stream: str) -> np.random.Generator:
    """The same for a seed and a text in every process: Python's own hash is not."""
    if not stream:
        return np.random.default_rng(seed)
    digest = hashlib.sha256(stream.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _draws(rng: np.random.Generator) -> tuple[float, ...]:
    """What is random in one run: the random factor, k_a, k_b, k and y."""
    start, sign = rng.normal(), rng.choice([-1.0, 1.0])
    return (start, *rng.uniform(0.25, 0.5, size=3), sign * rng.uniform(1, 2))


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
