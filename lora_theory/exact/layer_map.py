"""The LoRA layer toy as its exact reduced dynamics, in numbers that neither over- nor underflow.

A layer f = s wᵀB A Z with a fixed readout w (n_out,), B (n_out, r), A (r, n_in) is trained on
L = mean_k ½(f_k − y_k)² by sign updates, or by Adam with ε = 0. With U = f − y, Z_A = A Z (r, N)
and v = Bᵀw (r,) the gradients are, but for the positive factor s/N,

    ∂L/∂A = v (Σ_k U_k z_k)ᵀ,    ∂L/∂B = w (Σ_k U_k Z_A,k)ᵀ.

Both updates see no positive factor of a coordinate's gradients, and are odd. So where the inputs
are ±1, the columns of A whose inputs have one pattern p ∈ {±1}^N, or −p, move alike: in a group g
of n_g such columns by −η_A P_jg, or η_A P_jg, with P of the gradients v_j Σ_k U_k p_gk; and all
rows of B move alike, by −η_B sign(w_i) Q_j, with Q of Σ_k U_k Z_A,jk:

    Z_A' = Z_A − η_A Σ_g n_g P_g p_gᵀ,   v' = v − η_B ‖w‖₁ Q,   f = s vᵀZ_A.

P is the sign of the gradient (sign(0) = 0), or Adam's m̂/√v̂ (0/0 = 0). One sample z of any entries
is one group of p = 1 and n_g = ‖z‖₁.

The sizes over B's n_out rows need no rows. B = sign(w) qᵀ + E with Eᵀ sign(w) = 0, of which only
q moves, q' = q − η_B Q: so mean_i (B x)_i² = (qᵀx)² + ‖R x‖², whatever x is, with any R of
RᵀR = EᵀE/n_out, as r or r + 1 rows.

A width is then as cheap as any other. What moves is summed as it is, in units of η: steps that
cancel leave what was there before, of whatever size. No prediction is imported here.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.exact.layer_draws import draws_of, log2_size, random_inputs, random_outputs
from lora_theory.exact.parts import Parts, Size, dot, real, scaled, settled
from lora_theory.exact.signed_log import SignedLog, finite
from lora_theory.stats.numbers import numbers

Update = Literal["sign", "adam"]
Init = Literal["A", "B", "both"]

_Bounded = tuple[SignedLog, np.ndarray]
_ORDINARY = ("y", "patterns", "weights")
#: Size of targets so far away that no residual changes its sign, and no update is taken back.
FAR = 2.0**40
_MOST_SAMPLES = 8  # 2^7 patterns.


class Start(NamedTuple):
    """All that a run of the layer needs to know of its vectors; leading axes are runs.

    Attributes:
        z_a: (…, r, N) Z_A = A Z at the start.
        v: (…, r) Bᵀw at the start.
        aligned: (…, r) q = Bᵀ sign(w) / n_out at the start.
        across: (…, m, r) R, for any m: the rest of BᵀB / n_out = q qᵀ + RᵀR.
        y: (…, N) targets.
        patterns: (N, G) ±1, the inputs of each group of columns of A; (1, 1) of one sample.
        weights: (…, L, G) how many columns a group has (‖z‖₁ of one sample), as a sum over L of
            `units` times ordinary numbers: n/4 and a deviation of √n are two.
        units: (…, L) units of the weights.
        w_norm: (…,) ‖w‖₁.
        eta_a, eta_b: (…,) rates.
        scale: (…,) the multiplier s.
    """

    z_a: SignedLog
    v: SignedLog
    aligned: SignedLog
    across: SignedLog
    y: np.ndarray
    patterns: np.ndarray
    weights: np.ndarray
    units: SignedLog
    w_norm: SignedLog
    eta_a: SignedLog
    eta_b: SignedLog
    scale: SignedLog


class Moves(NamedTuple):
    """Updates of one factor, without their rate, or sums of them.

    Attributes:
        value: (…, r) or (…, r, G).
        whole: (…,) whether all of a run's are integers times one number, so that a sum of them
            that cancels is exactly 0: signs are, and Adam's up to its first gradients.
    """

    value: np.ndarray
    whole: np.ndarray


class Trajectory(NamedTuple):
    """What the layer passes through.

    Attributes:
        start: where it came from.
        f: (T + 1, …, N) outputs at t = 0 … T.
        v: (T + 1, …, r) Bᵀw.
        z_a: (T + 1, …, r, N) Z_A = A Z.
        moves_a: P of the updates t = 1 … T: what −η_A multiplies, (T, …, r, G) by group.
        moves_b: Q of the updates: what −η_B sign(w) multiplies, (T, …, r).
    """

    start: Start
    f: SignedLog
    v: SignedLog
    z_a: SignedLog
    moves_a: Moves
    moves_b: Moves


def trajectory(
    start: Start, steps: int, *, update: Update = "sign", b1: float = 0.9, b2: float = 0.999
) -> Trajectory:
    """Full-batch training of the layer by sign updates, or by Adam with ε = 0.

    What cancels to rounding is lost (NaN), with all that it matters to: a residual that has
    arrived, f = y to rounding, too. Signs are summed exactly, so that 0 is 0.

    Args:
        start: of `start_of` or `random_starts`.
        steps: T.
        update: "sign" or "adam".
        b1, b2: β₁, β₂ of Adam.

    Returns:
        All states and moves; `logs` has the sizes.

    Raises:
        ValueError: no steps, an unknown update, a start whose shapes do not fit, negative rates,
            or a multiplier that is not positive.

    >>> start = start_of(np.ones((1, 2)), np.zeros((2, 1)), np.array([0.5, -0.5]),
    ...                  np.array([1.0, 2.0]), 4.0, 0.1, 0.25, 1.0)
    >>> trajectory(start, 2).f.value().round(6).tolist()  # 0, 0.25 · 3, 0.5 · (3 + 0.3)
    [[0.0], [0.75], [1.65]]
    """
    steps = arguments.integer("steps", steps)
    arguments.one_of("update", update, ("sign", "adam"))
    b1, b2 = arguments.between("b1", b1, 0, 1), arguments.between("b2", b2, 0, 1)
    start, runs = _checked(start)
    rank, groups = start.v.sign.shape[-1], start.patterns.shape[-1]
    process_a, process_b = (_Signs() if update == "sign" else _Adam(b1, b2) for _ in "AB")
    y, patterns = SignedLog.of(start.y), SignedLog.of(start.patterns)
    shapes = (*runs, rank, groups), (*runs, rank)
    sum_a, sum_b = (Moves(np.zeros(shape), np.ones(runs, bool)) for shape in shapes)
    states, of_a, of_b = [_state(start, sum_a, sum_b)], [], []
    for _ in range(steps):
        f, v, (z_a, doubt) = states[-1]
        u = settled(f[0] - y, f[1])
        by_group = (u[..., :, None] * patterns).sum(axis=-2)
        pull = (u[..., None, :] * z_a).sum()
        # A sample of which Z_A is not known may matter to no one.
        pull = settled(pull, (u.log[..., None, :] + doubt).max(axis=-1))
        of_a.append(process_a(v[..., :, None] * by_group[..., None, :], 2))
        of_b.append(process_b(pull, 1))
        sum_a = Moves(sum_a.value + of_a[-1].value, of_a[-1].whole)
        sum_b = Moves(sum_b.value + of_b[-1].value, of_b[-1].whole)
        states.append(_state(start, sum_a, sum_b))
    outputs, vs, hidden = zip(*states, strict=True)
    return Trajectory(
        start,
        _stacked([settled(*f) for f in outputs]),
        _stacked(vs),
        _stacked([settled(*z) for z in hidden]),
        _in_time(of_a),
        _in_time(of_b),
    )


def _in_time(moves: list[Moves]) -> Moves:
    values, whole = zip(*moves, strict=True)
    return Moves(np.stack(values), np.stack(whole))


def logs(run: Trajectory) -> dict[str, np.ndarray]:
    """log2 of the sizes that `train.coordinates.coordinate_check` has of a model of one layer.

    Root mean squares over coordinates and samples, at t = 1 … T, of f and its contributions
    delta1, delta2, delta3, of B, Z_A, Z_B, of their moves dB, dZ_A, dZ_B, and of delta1_Z_B,
    delta2_Z_B, delta3_Z_B. (A and dA alone need A's coordinates.)

    Args:
        run: of `trajectory`.

    Returns:
        quantity -> (…, T) log2 of its size: −inf where it is exactly 0, NaN where it is lost. Of
        `random_starts` the axes are (…, W, S, T).

    >>> widths = np.array([1000.0, 2000.0, 4000.0])
    >>> sizes = logs(trajectory(random_starts(widths, range(8), "A", -1, 0, k_a=0.1, k_b=0.1), 2))
    >>> bool(np.isneginf(sizes["delta1_Z_B"][..., 0]).all())  # B = 0: A does nothing at first,
    True
    >>> growth = np.diff(sizes["delta1_Z_B"][..., 1].mean(axis=1))
    >>> bool((abs(growth) < 1).all())  # and at t = 2 as much at n = 2^1000 as at n = 2^4000.
    True
    """
    start = run.start
    old, new = slice(None, -1), slice(1, None)
    sum_a, sum_b = _sums(run.moves_a), _sums(run.moves_b)
    z, v, q = _z_a(start, sum_a), _v(start, sum_b), _q(start, sum_b)
    dz, dq = _move_of_z_a(start, run.moves_a), _move_of_q(start, run.moves_b)
    by_a, by_b, by_both = dot(q.at(old), dz), dot(dq, z.at(old)), dot(dq, dz)
    by_either = by_a.plus(dot(dq, z.at(new)))
    s, s_w = start.scale.log, (start.scale * start.w_norm).log
    sizes = {
        "f": s + _size(dot(v.at(new), z.at(new))).known(),
        "delta1": s + _size(dot(v.at(old), dz)).known(),
        "delta2": s_w + _size(by_b).known(),
        "delta3": s_w + _size(by_both).known(),
        "B": _rows(start).beside(_size(q.at(new))).known(),
        "Z_A": _size(z.at(new), 2).known(),
        "Z_B": s + _across(start, z.at(new)).beside(_size(dot(q.at(new), z.at(new)))).known(),
        "dB": _size(dq).known(),
        "dZ_A": _size(dz, 2).known(),
        "dZ_B": s + _across(start, dz).beside(_size(by_either)).known(),
        "delta1_Z_B": s + _across(start, dz).beside(_size(by_a)).known(),
        "delta2_Z_B": s + _size(by_b).known(),
        "delta3_Z_B": s + _size(by_both).known(),
    }
    shape = run.moves_b.whole.shape
    return {
        name: np.moveaxis(np.broadcast_to(log, shape), 0, -1) / np.log(2.0)
        for name, log in sizes.items()
    }


def start_of(
    a: np.ndarray,
    b: np.ndarray,
    w: np.ndarray,
    z: np.ndarray,
    y: np.ndarray | float,
    eta_a: float,
    eta_b: float,
    scale: float,
) -> Start:
    """The start of one run from its vectors: f = s wᵀB A z.

    Args:
        a: (r, n_in) A.
        b: (n_out, r) B.
        w: (n_out,) the readout, without a 0.
        z: (n_in,) or (n_in, N) inputs as columns: one of any entries, or several of entries ±1.
        y: () or (N,) targets.
        eta_a, eta_b: rates, at least 0.
        scale: the multiplier s > 0.

    Returns:
        A `Start` without leading axes.

    Raises:
        ValueError: what is none of these, by name.

    >>> rng = np.random.default_rng(0)
    >>> a, b, w = rng.normal(size=(2, 8)), rng.normal(size=(6, 2)), rng.normal(size=6)
    >>> start = start_of(a, b, w, np.sign(rng.normal(size=(8, 3))), np.ones(3), 0.1, 0.2, 1.0)
    >>> start.patterns.shape[0], float(start.weights.sum())
    (3, 8.0)
    >>> start_of(a, b, w, rng.normal(size=(8, 3)), np.ones(3), 0.1, 0.2, 1.0)
    Traceback (most recent call last):
    ...
    ValueError: z: must be one sample, or several of entries ±1 (got an array of shape (8, 3))
    """
    a, b, w, z = (finite(*at) for at in (("a", a), ("b", b), ("w", w), ("z", z)))
    z = z[:, None] if z.ndim == 1 else z
    for name, value in (("a", a), ("b", b), ("z", z)):
        if value.ndim != 2:
            raise arguments.refusal(name, "a matrix", value)
    rank, samples = a.shape[0], z.shape[1]
    y = np.atleast_1d(finite("y", y))
    shapes = {
        "b": (b.shape, (len(b), rank)),
        "w": (w.shape, (len(b),)),
        "z": (z.shape, (a.shape[1], samples)),
        "y": (y.shape, (samples,)),
    }
    for name, (shape, wanted) in shapes.items():
        if shape != wanted:
            raise ValueError(f"{name}: must have shape {wanted} (got {shape})")
    if (w == 0).any():
        raise arguments.refusal("w", "without a 0", w)
    patterns, weights = _groups(z)
    signs = np.sign(w)
    aligned = signs @ b / len(w)
    rest = (b - np.outer(signs, aligned)) / np.sqrt(len(w))
    across = np.asarray(np.linalg.qr(rest, mode="r"))
    return Start(
        SignedLog.of(a @ z),
        SignedLog.of(w @ b),
        SignedLog.of(aligned),
        SignedLog.of(across),
        y,
        patterns,
        weights[None],
        SignedLog.of(np.ones(1)),
        SignedLog.of(np.abs(w).sum()),
        SignedLog.of(arguments.at_least("eta_a", eta_a, 0)),
        SignedLog.of(arguments.at_least("eta_b", eta_b, 0)),
        SignedLog.of(arguments.positive("scale", scale)),
    )


def _groups(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patterns (N, G) of the rows of inputs (n, N), and the weight of each (G,)."""
    if z.shape[1] == 1:
        return np.ones((1, 1)), np.abs(z).sum(keepdims=True)[0]
    if (np.abs(z) != 1).any():
        raise arguments.refusal("z", "one sample, or several of entries ±1", z)
    patterns, counts = np.unique(z * z[:, :1], axis=0, return_counts=True)
    return patterns.T, counts.astype(float)


def random_starts(
    log2_widths: np.ndarray,
    seeds: Sequence[int],
    init: Init,
    c_a: np.ndarray | float,
    c_b: np.ndarray | float,
    *,
    k_a: np.ndarray | float,
    k_b: np.ndarray | float,
    rank: int = 4,
    samples: int = 1,
    multiplier: float = 1.0,
    inputs: float = 1.0,
    outputs: float = 1.0,
    b_size: float = 1.0,
    start: float = 0.0,
    target: float = 100.0,
    stream: str = "",
) -> Start:
    """Random starts of `models.toys.LayerToy` at η_A = k_a n^c_a, η_B = k_b n^c_b.

    n_in = n^inputs, n_out = n^outputs; A ~ N(0, 1/n_in), B ~ N(0, 1), w ~ N(0, 1/n_out²). One
    sample is z ~ N(0, I); several have entries ±1. All is drawn from its law without a vector (see
    `layer_draws`), exactly but for sums over more than 256 entries: these have normal limits.

    The rates are exactly those asked for. Sign updates walk on a lattice, on which v or Z_A may
    come back to exactly where it was; from init "A" or "B" neither does while residuals keep
    their signs, which far targets y = ±target see to for the first steps (from "both", v does in
    some seeds). Those of several samples are ±target · [1, 2], so that no two residuals cancel.

    Args:
        log2_widths: (W,) log2 n; any size at which n_in and n_out are at least r, and n_out 2.
        seeds: (S,) which; seed i draws the same at every width, rate, init, start and size.
        init: which factors are random at the start: "A" (Init[1]), "B" (Init[2]) or "both".
        c_a, c_b: (…,) exponents of the rates.
        k_a, k_b: (…,) constants of the rates, at least 0; all four are broadcast together.
        rank: r; others have draws of A and B of their own, and the same w, inputs and targets.
        samples: N, at most 8.
        multiplier: s.
        inputs, outputs: exponents of n_in and n_out.
        b_size: what a random B is multiplied by: r^(ρ/2) for a variance r^ρ.
        start: an exponent: the random factors are n^start times as large, to break the
            initialisation on purpose.
        target: size of the targets.
        stream: any text; seeds of two streams have nothing in common.

    Returns:
        A `Start` with leading axes (…, W, S).

    Raises:
        ValueError: what is none of these, by name.

    >>> starts = random_starts(np.array([8.0, 4000.0]), range(3), "B", [-1, 0], 0, k_a=1, k_b=1)
    >>> logs(trajectory(starts, 2, update="adam"))["Z_B"].shape
    (2, 2, 3, 2)
    """
    arguments.one_of("init", init, ("A", "B", "both"))
    if not isinstance(stream, str):
        raise arguments.refusal("stream", "text", stream)
    rank = arguments.integer("rank", rank)
    samples = arguments.integer("samples", samples, 1, _MOST_SAMPLES)
    for name, value in (("inputs", inputs), ("outputs", outputs), ("multiplier", multiplier),
                        ("b_size", b_size), ("target", target)):  # fmt: skip
        arguments.positive(name, value)
    start = arguments.finite("start", start)
    log2_widths = finite("log2_widths", numbers("log2_widths", log2_widths))
    if log2_widths.ndim != 1:
        raise arguments.refusal("log2_widths", "of shape (W,)", log2_widths)
    for name, exponent, least in (("inputs", inputs, rank), ("outputs", outputs, max(rank, 2))):
        if (log2_size(exponent * log2_widths) < np.log2(least)).any():
            wanted = f"so large that n^{name} is at least {least}, for the rank {rank}"
            raise arguments.refusal("log2_widths", wanted, log2_widths)
    if not isinstance(seeds, Iterable) or not len(seeds):
        raise arguments.refusal("seeds", "a list of integers, at least one", seeds)
    seeds = [arguments.integer("seeds", seed, 0) for seed in seeds]
    eta_a, eta_b = _rates(log2_widths, c_a, c_b, k_a, k_b)
    draws = draws_of(seeds, stream, rank, samples)
    log2_in, log2_out = (log2_size(e * log2_widths)[:, None] for e in (inputs, outputs))
    size = SignedLog.two_to(start * log2_widths)[:, None, None, None]
    z_a, patterns, weights, units = random_inputs(draws, log2_in)
    v, aligned, across, w_norm = random_outputs(draws, log2_out)
    size_a, size_b = size * float(init != "B"), size * (float(init != "A") * b_size)
    far = draws.signs * (target if samples == 1 else target * draws.farther)
    return Start(
        z_a * size_a,
        v * size_b[..., 0],
        aligned * size_b[..., 0],
        across * size_b,
        far,
        patterns,
        weights,
        units,
        w_norm,
        eta_a,
        eta_b,
        SignedLog.of(multiplier),
    )


def _rates(log2_widths: np.ndarray, *given: Any) -> tuple[SignedLog, SignedLog]:
    """η_A and η_B (…, W, 1), of exponents and constants."""
    names = ("c_a", "c_b", "k_a", "k_b")
    values = [finite(name, value) for name, value in zip(names, given, strict=True)]
    for name, value in zip(names[2:], values[2:], strict=True):
        if (value < 0).any():
            raise ValueError(f"{name}: must be at least 0 (got {value.min():g})")
    try:
        found = np.broadcast_arrays(*values)
    except ValueError:
        shapes = ", ".join(str(value.shape) for value in values)
        raise ValueError(f"{', '.join(names)}: must have one shape (got {shapes})") from None
    c_a, c_b, k_a, k_b = (value[..., None, None] for value in found)
    n = SignedLog.two_to(log2_widths)[:, None]
    return SignedLog.of(k_a) * n**c_a, SignedLog.of(k_b) * n**c_b


class _Signs:
    """sign(g) of gradients g whose last axes are those of a run."""

    def __call__(self, gradient: SignedLog, axes: int) -> Moves:
        sign = gradient.sign
        return Moves(sign, np.ones(sign.shape[:-axes], bool))


class _Adam:
    """m̂/√v̂ of a sequence of gradients, as a float: it knows nothing of their size.

    The moments are kept relative to the largest gradient so far, so that none overflows.
    """

    def __init__(self, b1: float, b2: float):
        self.b1, self.b2, self.t = b1, b2, 0
        self.largest, self.m, self.v = np.array(-np.inf), np.zeros(()), np.zeros(())
        self.seen = np.zeros((), int)

    def __call__(self, gradient: SignedLog, axes: int) -> Moves:
        self.t += 1
        largest = np.maximum(self.largest, gradient.log)
        unit = np.where(np.isneginf(largest), 0.0, largest)
        shrunk, new = np.exp(self.largest - unit), gradient.sign * np.exp(gradient.log - unit)
        self.m = self.b1 * self.m * shrunk + (1 - self.b1) * new
        self.v = self.b2 * self.v * shrunk**2 + (1 - self.b2) * new**2
        self.largest = largest
        m, v = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        self.seen = self.seen + (gradient.sign != 0)
        move = np.where(v == 0, 0.0, m / np.sqrt(np.where(v == 0, 1.0, v)))
        return Moves(move, np.all(self.seen <= 1, axis=tuple(range(-axes, 0))))


def _state(start: Start, sum_a: Moves, sum_b: Moves) -> tuple[_Bounded, SignedLog, _Bounded]:
    """f, v and Z_A after moves of these sums; f and Z_A with a bound of what is not known."""
    z, v = _z_a(start, sum_a), _v(start, sum_b)
    f, doubt = dot(v, z).bounded()
    scale = start.scale[..., None]
    return (scale * f, scale.log + doubt), v.total(), z.bounded()


def _z_a(start: Start, sum_a: Moves) -> Parts:
    """Z_A = Z_A,0 − η_A Σ_g n_g p_g Σ P_g."""
    return _move_of_z_a(start, sum_a).after(start.z_a, 2)


def _v(start: Start, sum_b: Moves) -> Parts:
    """v = v_0 − η_B ‖w‖₁ Σ Q."""
    moved = _move_of_q(start, sum_b)
    return moved._replace(unit=start.w_norm[..., None, None] * moved.unit).after(start.v, 1)


def _q(start: Start, sum_b: Moves) -> Parts:
    """q = q_0 − η_B Σ Q."""
    return _move_of_q(start, sum_b).after(start.aligned, 1)


def _move_of_z_a(start: Start, move: Moves) -> Parts:
    value = np.einsum("...lg,kg,...jg->...jkl", start.weights, start.patterns, move.value)
    size = np.einsum("...lg,...jg->...jl", np.abs(start.weights), np.abs(move.value))
    size = np.broadcast_to(size[..., None, :], value.shape)
    unit = -(start.eta_a[..., None] * start.units)[..., None, None, :]
    return Parts(unit, value, size, move.whole).cleared()


def _move_of_q(start: Start, move: Moves) -> Parts:
    value = move.value[..., None]
    return Parts(-start.eta_b[..., None, None], value, np.abs(value), move.whole)


def _sums(moves: Moves) -> Moves:
    """The sums of the moves up to t = 0 … T."""
    value, whole = moves
    return Moves(
        np.concatenate([np.zeros_like(value[:1]), np.cumsum(value, axis=0)]),
        np.concatenate([np.ones_like(whole[:1]), whole]),
    )


def _size(parts: Parts, axes: int = 1) -> Size:
    return Size.of(*parts.bounded(), axes)


def _across(start: Start, x: Parts) -> Size:
    """The root mean square over samples of ‖R x_k‖, x (…, r, N)."""
    number, doubt = x.bounded()
    (unit_r, rows), (unit_x, value) = scaled(start.across, 2), scaled(number, 2)
    seen = real(np.linalg.norm(rows @ value, axis=-2))
    bound = start.across.log.max(axis=(-2, -1)) + doubt.max(axis=(-2, -1))
    return Size.of((unit_r * unit_x)[..., 0] * seen, bound[..., None])


def _rows(start: Start) -> Size:
    """The root of the mean over columns of Σ_m R_mj²."""
    entry = Size.of(start.across, np.full((1, 1), -np.inf), 2)
    return entry._replace(log=entry.log + 0.5 * np.log(start.across.sign.shape[-2]))


def _stacked(parts: Sequence[SignedLog]) -> SignedLog:
    return SignedLog(np.stack([part.sign for part in parts]), np.stack([p.log for p in parts]))


def _checked(start: Start) -> tuple[Start, tuple[int, ...]]:
    """A start of fitting shapes, and the shape of its runs."""
    if not isinstance(start, Start):
        raise arguments.refusal("start", "a Start", start)
    given: dict[str, Any] = start._asdict()
    for name, value in given.items():
        if name in _ORDINARY or not isinstance(value, SignedLog):
            value = finite(name, value)
            given[name] = value if name in _ORDINARY else SignedLog.of(value)
    start = Start(**given)
    runs = _runs(start)
    if not ((start.eta_a.sign >= 0).all() and (start.eta_b.sign >= 0).all()):
        raise ValueError("eta_a, eta_b: must be at least 0")
    if not ((start.scale.sign > 0).all() and (start.w_norm.sign > 0).all()):
        raise ValueError("scale, w_norm: must be positive")
    if (np.abs(start.patterns) != 1).any():
        raise ValueError("patterns: must be of entries ±1")
    for name, factor, axes in (
        ("z_a", start.z_a, 2),
        ("v", start.v, 1),
        ("aligned", start.aligned, 1),
    ):
        if ((scaled(factor, axes)[1] == 0) & (factor.sign != 0)).any():
            raise ValueError(f"{name}: must have entries within 10^300 of one another, in a run")
    return start, runs


def _runs(start: Start) -> tuple[int, ...]:
    """The leading axes, if all shapes fit."""
    fields: dict[str, Any] = start._asdict()
    shapes = {name: (x if name in _ORDINARY else x.sign).shape for name, x in fields.items()}
    matrices = {"z_a": "(…, r, N)", "across": "(…, m, r)", "weights": "(…, L, G)"}
    for name, wanted in matrices.items():
        if len(shapes[name]) < 2:
            raise ValueError(f"{name}: must have shape {wanted} (got {shapes[name]})")
    (rank, samples), (levels, groups) = shapes["z_a"][-2:], shapes["weights"][-2:]
    own = dict.fromkeys(Start._fields, ()) | {
        "z_a": (rank, samples),
        "v": (rank,),
        "aligned": (rank,),
        "across": (shapes["across"][-2], rank),
        "y": (samples,),
        "patterns": (samples, groups),
        "weights": (levels, groups),
        "units": (levels,),
    }
    runs: tuple[int, ...] = ()
    for name, shape in shapes.items():
        before = len(shape) - len(own[name])
        fits = before >= 0 and shape[before:] == own[name] and not (name == "patterns" and before)
        try:
            runs = np.broadcast_shapes(runs, shape[:before]) if fits else runs
        except ValueError:
            fits = False
        if not fits:
            wanted = ", ".join(["…", *(str(length) for length in own[name])])
            raise ValueError(
                f"{name}: must have shape ({wanted}), its leading axes those of the runs "
                f"{runs} (got {shape})"
            )
    return runs
