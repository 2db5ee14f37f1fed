"""How the places of a landscape move with the width: optima, λ*, edges, each with an exponent.

A place (`lora_theory.stats.places`) is log2 of a rate, or of λ = η_B / η_A, at each width; its
exponent is the least-squares slope on log2 n.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from scipy.special import ndtri

from lora_theory import arguments
from lora_theory.stats.intervals import CONFIDENCE, drawn, few_seeds, resampled_seeds
from lora_theory.stats.landscapes import Judge, Landscape, Line, checked, judging
from lora_theory.stats.places import (
    AXES,
    AXES_OF,
    EDGES,
    NAMES,
    OPTIMA,
    REGIONS,
    SIDES,
    Near,
    Quantity,
    Reading,
    near,
    read,
)
from lora_theory.stats.slopes import slope_weights

Status = Literal["determined", "undetermined", "no optimum", "no fit"]

WIDEST = 1.0  # An interval wider than this does not tell 0 from −1.
_FEWEST = 3
_Of = TypeVar("_Of", Landscape, Line)


class Sweep(NamedTuple):
    """The landscapes of several widths on one raw grid.

    Attributes:
        log2_widths: (W,) log2 n, ascending.
        lands: a width each; seeds are those of one list, of which a width with fewer has the
            beginning.
        lines: the shared rates of each width, where they are finer than the landscapes' diagonal.
        over: the name of what grows, in words that say at which; "r" of a sweep over ranks.
    """

    log2_widths: np.ndarray
    lands: tuple[Landscape, ...]
    lines: tuple[Line, ...] | None = None
    over: str = "n"

    @property
    def shared(self) -> tuple[Line, ...]:
        """The shared rates: `lines`, or the diagonals."""
        return self.lines or tuple(land.diagonal for land in self.lands)

    def of_widths(self, places: Sequence[int]) -> "Sweep":
        """The same of some widths."""
        lines = tuple(self.lines[w] for w in places) if self.lines else None
        lands = tuple(self.lands[w] for w in places)
        return self._replace(
            log2_widths=np.asarray(self.log2_widths)[list(places)], lands=lands, lines=lines
        )


class Place(NamedTuple):
    """Where something lies at one width; all are log2 of rates or of λ, −∞ for a rate of 0.

    Attributes:
        value: what is fitted: the centre of an optimum, or an edge. NaN where all runs diverged;
            ∓∞ for an edge below or beyond the grid.
        low, high: its bootstrap interval over seeds, without the coarseness of the grid.
        best: the best cell; an edge has none (NaN).
        regions: (low, high) of the cells within 1 % and 5 % of the best (`REGIONS`).
        inside: whether the best cell lies inside the grid.
        open: why the place is not known, on which side; empty if it is.
    """

    value: float
    low: float
    high: float
    best: float
    regions: tuple[tuple[float, float], ...]
    inside: bool
    open: tuple[str, ...]


class Exponent(NamedTuple):
    """The exponent of a place in n.

    Attributes:
        value, low, high: the slope and its interval; NaN if there is no fit.
        status: "determined"; "no optimum": at some width the best cell lies on the border of the
            grid or at rate 0; "no fit": fewer than three widths; "undetermined": some place is
            open, or the interval is too wide.
        why: reasons why it is not determined.
        log2_widths: those of the fit.
        left_out: widths that are not, and why.
        pairs: (value, low, high) between neighbouring widths of the fit. One pair is known to
            ± .8 at best on a grid of powers of 2; `collapse` of a pair is sharper.
    """

    value: float
    low: float
    high: float
    status: Status
    why: tuple[str, ...]
    log2_widths: tuple[float, ...]
    left_out: tuple[str, ...]
    pairs: tuple[tuple[float, float, float], ...]

    @property
    def determined(self) -> bool:
        """Whether it is."""
        return self.status == "determined"

    def __str__(self) -> str:
        number = f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"
        reasons = "; ".join((*self.why, *self.left_out))
        head = self.status if self.status == "no fit" else f"{number} {self.status}"
        return f"{head}: {reasons}" if reasons else head


class Scaling(NamedTuple):
    """Places and exponents of a sweep under one judge.

    Attributes:
        places: quantity -> a `Place` a width.
        exponents: quantity -> `Exponent`.
    """

    judge: Judge
    log2_widths: np.ndarray
    places: dict[Quantity, tuple[Place, ...]]
    exponents: dict[Quantity, Exponent]

    def __str__(self) -> str:
        lines = (f"{NAMES[name]:<16} {found}" for name, found in self.exponents.items())
        return "\n".join((f"exponents in n, {self.judge}", *lines))


def scaling(
    sweep: Sweep,
    judge: Judge | None = None,
    *,
    widest: float = WIDEST,
    resamples: int = 200,
    confidence: float = CONFIDENCE,
) -> Scaling:
    """The exponents of η_A*, η_B*, λ*, of the best shared rate and of three edges of stability.

    Along A the edge is read at the least η_B (0 where the grid has it), along B at the least η_A.
    An edge is where the judged loss turns to ∞: where the share 1 − q of the seeds has diverged at
    this rate or a smaller one, interpolated linearly in log η between cells.

    Intervals: a bootstrap over seeds, the same draws at all widths, stretched for few seeds; and
    in quadrature with it the coarseness of the grid, an error uniform over a cell at each width.
    Without the latter they cover few families whose edges are sharp. With both they are too wide
    rather than too narrow (a bootstrapped optimum has the noise twice): of families in 7 widths,
    13 to 48 seeds, they cover 99 %, at about twice the width that would cover 95 %. No interval
    over 2^6 … 2^12 is shorter than ± .11 on a grid of powers of 2; `collapse`, which sees the whole
    map, is sharper.

    Args:
        sweep: the landscapes.
        judge: what makes a cell good; the median over seeds by default.
        widest: an exponent whose interval is wider is undetermined.
        resamples: draws of seeds.
        confidence: of the intervals; an optimum is open where more than (1 − confidence)/2 of the
            draws have it on one border of the grid.

    Raises:
        ValueError: widths that do not ascend, or landscapes of different grids.

    >>> rates = 2.0 ** np.arange(-9, 1)
    >>> def land(n):  # A basin around η_A = 2^(2 − n), η_B = 2^−4.
    ...     a, b = np.log2(rates)[:, None] + n - 2, np.log2(rates) + 4
    ...     losses = 2.0 ** (0.2 * (a**2 + b**2))[None].repeat(4, axis=0)
    ...     return Landscape(losses, np.full(4, 99.0), rates, rates)
    >>> sweep = Sweep(np.array([5.0, 6.0, 7.0]), tuple(land(n) for n in (5, 6, 7)))
    >>> print(scaling(sweep).exponents["eta_a"])
    -1.00 [-1.40, -0.60] determined
    """
    arguments.positive("widest", widest)
    sweep = _checked(sweep)
    judge, tail = judging(judge or Judge()), (1 - confidence) / 2
    seeds = [len(land.losses) for land in sweep.lands]
    draws = resampled_seeds(max(seeds), resamples if min(seeds) > 1 else 0)
    samples, many = [], []
    for land, line in zip(sweep.lands, sweep.shared, strict=True):
        samples.append((read(land, line, judge), near(land, line, judge)))
        many.append([read(_drawn(land, draw), _drawn(line, draw), judge) for draw in draws])
    stretch = np.array([few_seeds(max(count, 2), confidence) for count in seeds])
    places: dict[Quantity, tuple[Place, ...]] = {}
    exponents: dict[Quantity, Exponent] = {}
    for k, name in enumerate((*OPTIMA, *EDGES)):
        values = np.array([sample.places[k] for sample, _ in samples])
        found = np.array([[at.places[k] for at in width] for width in many])
        fit = _Fit(np.asarray(sweep.log2_widths, float), values, found, stretch, tail)
        if name in EDGES:
            places[name] = tuple(_edge_place(fit, w) for w in range(len(values)))
        else:
            places[name] = tuple(
                _optimum_place(fit, w, name, *samples[w], many[w]) for w in range(len(values))
            )
        exponents[name] = _exponent(fit, places[name], sweep.over, _step(sweep, name), widest)
    return Scaling(judge, sweep.log2_widths, places, exponents)


# --- What is not known ---


def _drawn(at: _Of, draw: np.ndarray) -> _Of:
    return at._replace(losses=drawn(at.losses, draw), start=drawn(at.start, draw))


def _optimum_place(
    fit: "_Fit", w: int, name: Quantity, sample: Reading, around: Near, many: list[Reading]
) -> Place:
    """The place of an optimum at one width, and why it is not known."""
    axes, k, why = AXES_OF[name], OPTIMA.index(name), []
    for axis in axes if np.isfinite(fit.values[w]) else ():
        for side, words in SIDES.items():
            where = words.format(AXES[axis])
            share = np.mean([at.sides[axis] == side for at in many]) if many else 0.0
            if sample.sides[axis] == side:
                why.append(f"best at {where}")
            elif side in around.touched[axis]:
                why.append(f"the {100 * REGIONS[-1]:g} % region reaches {where}")
            elif share > fit.tail:
                why.append(f"draws have it at {where}")
    lost = np.isnan(fit.found[w])
    if np.isfinite(fit.values[w]) and lost.size and lost.mean() > fit.tail:
        why.append("draws have none")
    inside = not any(sample.sides[axis] for axis in axes)
    return Place(*fit.place(w), around.best[k], around.regions[k], inside, tuple(why))


def _edge_place(fit: "_Fit", w: int) -> Place:
    """The place of an edge at one width, and why it is not known."""
    why = []
    for side, where in ((-np.inf, "below the least rate"), (np.inf, "beyond the largest rate")):
        share = float(np.mean(fit.found[w] == side)) if fit.found[w].size else 0.0
        if fit.values[w] == side:
            why.append(where)
        elif share > fit.tail:
            why.append(f"draws have it {where}")
    return Place(*fit.place(w), np.nan, (), True, tuple(why))


# --- Exponents ---


class _Fit(NamedTuple):
    """Places (W,) of one quantity, those of the draws (W, B), the stretch of each width."""

    widths: np.ndarray
    values: np.ndarray
    found: np.ndarray
    stretch: np.ndarray
    tail: float

    def place(self, w: int) -> tuple[float, float, float]:
        """The place at one width, and its interval."""
        value = float(self.values[w])
        return value, *_ends(value, self.found[w], float(self.stretch[w]), self.tail)

    def slope(self, used: np.ndarray, step: float) -> tuple[float, float, float]:
        """The slope over some widths, and its interval."""
        weights = slope_weights(self.widths[used])
        value = float(weights @ self.values[used])
        with np.errstate(invalid="ignore"):
            slopes = weights @ self.found[used]
        low, high = _ends(value, slopes[np.isfinite(slopes)], self.stretch[used].max(), self.tail)
        coarse = float(ndtri(1 - self.tail)) * step * float(np.linalg.norm(weights)) / 12**0.5
        below, above = (np.hypot(np.maximum(d, 0), coarse) for d in (value - low, high - value))
        return value, float(value - below), float(value + above)


def _ends(value: float, found: np.ndarray, stretch: float, tail: float) -> tuple[float, float]:
    """The stretched bootstrap interval; NaN without draws, or of what is no number."""
    found = found[~np.isnan(found)]
    if not found.size or not np.isfinite(value):
        return np.nan, np.nan
    # No interpolation: ∞ among the draws stays what it is.
    ends = np.quantile(found, (tail, 1 - tail), method="inverted_cdf")
    low, high = value + stretch * (ends - value)
    return float(low), float(high)


def _exponent(
    fit: _Fit, places: tuple[Place, ...], over: str, step: float, widest: float
) -> Exponent:
    used = np.flatnonzero(np.isfinite(fit.values))
    reasons: dict[str, list[str]] = {}
    gaps: dict[str, list[str]] = {}
    for w, place in enumerate(places):
        name = sized(fit.widths[w])
        for reason in place.open:
            reasons.setdefault(reason, []).append(name)
        if w not in used:
            gaps.setdefault("no edge" if place.open else "all diverged", []).append(name)
    why = [f"{reason} ({over} = {', '.join(names)})" for reason, names in reasons.items()]
    left_out = tuple(f"{over} = {', '.join(names)} left out: {gap}" for gap, names in gaps.items())
    if len(used) < _FEWEST:
        why.append(f"{len(used)} widths, a fit needs {_FEWEST}")
        nothing = (np.nan, np.nan, np.nan)
        return Exponent(*nothing, "no fit", tuple(why), (), left_out, ())
    value, low, high = fit.slope(used, step)
    if np.isnan(high - low):
        why.append("no interval over seeds")
    elif high - low > widest:
        why.append(f"the interval is {high - low:.2f} wide")
    status: Status = "undetermined" if why else "determined"
    if not all(places[w].inside for w in used):
        status = "no optimum"
    pairs = tuple(fit.slope(np.array(pair), step) for pair in itertools.pairwise(used))
    widths = tuple(float(n) for n in fit.widths[used])
    return Exponent(value, low, high, status, tuple(why), widths, left_out, pairs)


def sized(log2: float) -> str:
    """A width or rank in words.

    >>> sized(6.0), sized(np.log2(100))
    ('2^6', '100')
    """
    return f"2^{log2:g}" if float(log2).is_integer() else f"{2.0**log2:g}"


def _step(sweep: Sweep, name: Quantity) -> float:
    """log2 of the ratio of neighbouring rates; λ's error has those of both, in quadrature."""
    land, line = sweep.lands[0], sweep.shared[0]
    a, b, shared = (_log2_step(rates) for rates in (land.eta_a, land.eta_b, line.eta))
    if name == "ratio":
        return float(np.hypot(a, b))
    return {"eta_a": a, "edge A": a, "eta_b": b, "edge B": b}.get(name, shared)


def _log2_step(rates: np.ndarray) -> float:
    steps = np.diff(np.log2(rates[rates > 0]))
    return float(steps.max()) if steps.size else 0.0


def _checked(sweep: Sweep) -> Sweep:
    """One raw grid: a window that moved with n would impose its own exponents."""
    if not isinstance(sweep, Sweep):
        raise arguments.refusal("sweep", "a Sweep", sweep)
    widths = np.asarray(sweep.log2_widths, float)
    fitting = len(sweep.lands), len(sweep.lines or sweep.lands)
    if not len(widths) or fitting != (len(widths),) * 2 or not (np.diff(widths) > 0).all():
        raise ValueError(f"log2_widths: must ascend, a landscape each (got {list(widths)})")
    lands = tuple(checked("lands", land) for land in sweep.lands)
    lines = sweep.lines and tuple(checked("lines", line) for line in sweep.lines)
    sweep = sweep._replace(log2_widths=widths, lands=lands, lines=lines)
    for grids in (
        [land.eta_a for land in sweep.lands],
        [land.eta_b for land in sweep.lands],
        [line.eta for line in sweep.shared],
    ):
        if not all(np.array_equal(grid, grids[0]) for grid in grids):
            raise ValueError("lands: all widths must have one grid")
    return sweep
