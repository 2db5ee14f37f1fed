"""Families of landscapes whose exponents are known: does a window tell them, and nothing else?

On the very grid, widths and seeds of a sweep, a family that moves must give its exponents back, one
that does not move (0, 0), and one that is flat and noisy nothing at all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.stats.collapse import Collapse, Exponents, collapse, log_losses
from lora_theory.stats.landscapes import Landscape
from lora_theory.stats.numbers import numbers
from lora_theory.stats.places import NAMES, Quantity
from lora_theory.stats.scaling import Scaling, Sweep, scaling

MOVES: tuple[Exponents, ...] = ((-1, 0), (-0.5, -0.5), (0, 0), (-1, 0.5))
_OPTIMA: tuple[Quantity, ...] = ("eta_a", "eta_b", "ratio")


class Control(NamedTuple):
    """A family and what was found.

    Attributes:
        truth: its exponents (c_a, c_b); None for the flat one.
        scaling: of its optima and edges.
        collapse: of its maps.
    """

    truth: Exponents | None
    scaling: Scaling
    collapse: Collapse

    @property
    def missed(self) -> tuple[str, ...]:
        """What is not as it must be; empty if the control holds.

        Of a flat family no optimum and neither exponent of the collapse may be determined. Of
        another one both must be, with the truth within twice their intervals: of so many intervals
        of 95 % some miss it.
        """
        if self.truth is None:
            optima = (name for name in _OPTIMA if self.scaling.exponents[name].determined)
            return tuple(f"{name} determined" for name in (*optima, *self._collapses()))
        c_a, c_b = self.truth
        truths = {"eta_a": c_a, "eta_b": c_b, "ratio": c_b - c_a, "edge A": c_a, "edge B": c_b}
        truths |= {"collapse A": c_a, "collapse B": c_b}
        known = self._collapses()
        for quantity, found in self.scaling.exponents.items():
            if found.determined and quantity in truths:
                known[quantity] = found.value, found.low, found.high
        missed = []
        for name, truth in truths.items():
            if name in known:
                value, low, high = known[name]
                if not 2 * low - value <= truth <= 2 * high - value:
                    missed.append(f"{name} [{low:+.2f}, {high:+.2f}] is not {truth:g}")
            elif not name.startswith("edge"):
                missed.append(f"{name} undetermined")
        return tuple(missed)

    def _collapses(self) -> dict[str, tuple[float, float, float]]:
        """The determined exponents of the collapse, and their intervals."""
        axes = zip("AB", *self.collapse[:3], self.collapse.determined(), strict=True)
        return {f"collapse {at}": (value, low, high) for at, value, low, high, on in axes if on}

    def __str__(self) -> str:
        name = "flat" if self.truth is None else "n^({:g}, {:g})".format(*self.truth)
        a, b = (
            f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
            for value, low, high in zip(*self.collapse[:3], strict=True)
        )
        lines = (f"  {NAMES[at]:<9} {self.scaling.exponents[at]}" for at in _OPTIMA)
        head = f"control {name}: {'; '.join(self.missed) or 'as it must be'}"
        return "\n".join((head, *lines, f"  collapse  {a}; {b}; {self.collapse.cells} cells"))


def family(
    log2_widths: Sequence[float] | np.ndarray,
    rates: tuple[np.ndarray, np.ndarray],
    seeds: Sequence[int],
    truth: Exponents | None,
    key: int,
    *,
    noise: float = 0.3,
    scatter: float = 0.5,
    middle: Exponents = (0.0, 0.0),
) -> Sweep:
    """A basin that moves as η_A ∝ n^c_a, η_B ∝ n^c_b, diverged beyond edges that move with it.

    With a = log2 η_A − c_a log2 n, b alike, from the middle of the window at the middle width,

        log2 L = −5 + min(a² / 8, 3) + min(b² / 8, 3) + noise,    at most 0, the loss at t = 0;

    a run diverges where a, b or (a + b) / 2 is more than 2 above 0. Each seed's basin and edges are
    shifted along both axes at every width; a seed is as hard at all widths.

    Args:
        log2_widths: (W,) log2 n.
        rates: those of η_A and of η_B, ascending, 0 first or not.
        seeds: of each width.
        truth: (c_a, c_b); None for a flat family: no basin, no edge, noise alone.
        key: of the random numbers.
        noise: standard deviation of each run's log2 loss: 0.3 is a factor of 1.23.
        scatter: standard deviation of the shifts, in powers of 2.
        middle: log2 of how far above the middle of the window the basin lies at the middle width.
    """
    seeds = [arguments.integer("seeds", count) for count in seeds]
    if len(seeds) != len(log2_widths):
        raise ValueError(f"seeds: must be one a width, {len(log2_widths)} (got {len(seeds)})")
    for name, pair in (("truth", truth), ("middle", middle)):
        if pair is not None and not (
            np.shape(pair) == (2,) and np.isfinite(numbers(name, pair)).all()
        ):
            raise arguments.refusal(name, "a pair (c_a, c_b)", pair)
    noise = arguments.at_least("noise", noise, 0)
    scatter = arguments.at_least("scatter", scatter, 0)
    if not all((np.asarray(eta) > 0).any() for eta in rates):
        raise arguments.refusal("rates", "two axes with rates above 0", rates)
    rng = np.random.default_rng(arguments.integer("key", key, 0))
    hard = 0.5 * rng.normal(size=(max(seeds), 1, 1))
    lands = []
    for n, count in zip(log2_widths, seeds, strict=True):
        a, b = (_from_middle(eta) for eta in rates)
        losses = -3.0 + hard[:count] + np.zeros((count, len(a), len(b)))
        broken = np.zeros(losses.shape, bool)
        if truth is not None:
            shift = scatter * rng.normal(size=(2, count, 1))
            far = np.multiply(truth, n - (log2_widths[0] + log2_widths[-1]) / 2) + middle
            a, b = a - far[0] - shift[0], b - far[1] - shift[1]
            a, b = a[:, :, None], b[:, None, :]
            losses += np.minimum(a**2 / 8, 3) + np.minimum(b**2 / 8, 3) - 2
            broken = (a > 2) | (b > 2) | (a + b > 4)
        losses += noise * rng.normal(size=losses.shape)
        losses = np.where(broken, np.inf, 2.0 ** np.minimum(losses, 0))
        lands.append(Landscape(losses, np.ones(count), *rates))
    return Sweep(np.asarray(log2_widths, float), tuple(lands))


def _from_middle(rates: np.ndarray) -> np.ndarray:
    """log2 of rates, from the middle of the positive ones; −∞ for 0."""
    with np.errstate(divide="ignore"):
        logs = np.log2(rates)
    positive = logs[np.isfinite(logs)]
    return np.asarray(logs - (positive[0] + positive[-1]) / 2)


def controls(
    log2_widths: Sequence[float] | np.ndarray,
    rates: tuple[np.ndarray, np.ndarray],
    seeds: Sequence[int],
    key: int = 0,
    *,
    moves: Sequence[Exponents | None] = (None, *MOVES),
    noise: float = 0.3,
    resamples: int = 100,
) -> tuple[Control, ...]:
    """Families that move in several ways, and one that is flat, read as a sweep is.

    Args:
        log2_widths, rates, seeds, noise: the window of the sweep, as in `family`.
        key: of the random numbers.
        moves: the exponents of the families, None for a flat one.
        resamples: draws of seeds.

    >>> rates = 2.0 ** np.arange(-12, 1)
    >>> window = (6, 8, 10, 12), (rates, rates), (24, 24, 24, 12)
    >>> [control.missed for control in controls(*window, moves=(None, (0, 0)), resamples=20)]
    [(), ()]
    """
    found = []
    for truth in moves:
        sweep = family(log2_widths, rates, seeds, truth, key, noise=noise)
        logs = [log_losses(land.positive) for land in sweep.lands]
        fit = collapse(logs, sweep.log2_widths, steps=_steps(rates), resamples=resamples)
        found.append(Control(truth, scaling(sweep, resamples=resamples), fit))
    return tuple(found)


def _steps(rates: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    a, b = (float(np.diff(np.log2(eta[eta > 0])).max(initial=1e-9)) for eta in rates)
    return a, b
