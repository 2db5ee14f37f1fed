"""Rates tuned at the first width and carried to others; and whether wider nets are better.

Under a rule (p, q) a pair moves as η_A → η_A (n / n₀)^p, η_B → η_B (n / n₀)^q, on the raw grid and
by whole cells: nothing is interpolated. A shared rate moves along a line, on which n^−1/2 at odd
ratios of widths asks for a spacing of √2 (`Sweep.lines`).
"""

from typing import NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.stats.intervals import (
    CONFIDENCE,
    Interval,
    crossed,
    drawn,
    few_seeds,
    halves,
    resampled_seeds,
    share_interval,
)
from lora_theory.stats.landscapes import Judge, checked, judging
from lora_theory.stats.scaling import Sweep
from lora_theory.stats.search import log_values


class Rule(NamedTuple):
    """How rates are carried from width to width.

    Attributes:
        p, q: the exponents of η_A and η_B.
        shared: whether there is one rate η_A = η_B, tuned on the line; p and q are equal then.
    """

    p: float
    q: float
    shared: bool = False

    def __str__(self) -> str:
        return f"shared, n^{self.p:g}" if self.shared else f"(n^{self.p:g}, n^{self.q:g})"


class Transfer(NamedTuple):
    """What carrying costs at one width.

    Attributes:
        log2_width: log2 n of it.
        carried, tuned: log2 (η_A, η_B) of the pairs of either half of the seeds: carried from the
            first width, and tuned at this one in the same family.
        lost: log2 loss of carried − tuned on seeds that chose neither, and its interval; NaN where
            there is nothing to compare.
        gap: why there is no loss, or no interval; empty if there are.
    """

    log2_width: float
    carried: tuple[tuple[float, float], ...]
    tuned: tuple[tuple[float, float], ...]
    lost: Interval
    gap: str = ""


class _Grid(NamedTuple):
    """The plane or the line at one width: losses (S, G_a, G_b), of the line (S, G, 1)."""

    losses: np.ndarray
    start: np.ndarray
    axes: tuple[np.ndarray, ...]

    def best(self, chooses: np.ndarray, judge: Judge) -> tuple[int, ...] | None:
        """Places of the best cell on the axes."""
        judged = judge.judge(drawn(self.losses, chooses))
        if not np.isfinite(judged).any():
            return None
        return tuple(map(int, np.unravel_index(np.argmin(judged), judged.shape)))[: len(self.axes)]

    def log2_rates(self, cell: tuple[int, ...]) -> tuple[float, float]:
        """log2 (η_A, η_B) of one cell."""
        rates = [float(eta[k]) for eta, k in zip(self.axes, cell, strict=True)]
        return float(np.log2(rates[0])), float(np.log2(rates[-1]))


def transfer(
    sweep: Sweep,
    rule: Rule,
    judge: Judge | None = None,
    *,
    penalty: float = 1.0,
    resamples: int = 200,
    confidence: float = CONFIDENCE,
) -> tuple[Transfer, ...]:
    """What the rates of the first width lose at each other, against tuning there anew.

    Either half of the seeds chooses at both widths, and the other compares (`crossed`); every seed
    does once.

    Args:
        sweep: landscapes, and lines for shared rules where the diagonals are too coarse; rates of
            0 are not tuned.
        rule: the exponents.
        judge: by what is chosen; the median over seeds by default.
        penalty: what a run counts at most, in losses at t = 0.
        resamples: draws of seeds for the intervals.
        confidence: of the intervals.

    Raises:
        ValueError: a shared rule with two exponents, or a width with fewer than two seeds.
    """
    if not isinstance(rule, Rule):
        raise arguments.refusal("rule", "a Rule", rule)
    widths = np.asarray(sweep.log2_widths, float)
    if len(widths) != len(sweep.lands) or not (np.diff(widths) > 0).all():
        raise ValueError(f"log2_widths: must ascend, a landscape each (got {list(widths)})")
    if rule.shared and rule.p != rule.q:
        raise ValueError(f"rule: a shared rate has one exponent (got {rule.p}, {rule.q})")
    arguments.finite("rule.p", rule.p)
    arguments.finite("rule.q", rule.q)
    arguments.positive("penalty", penalty)
    judge, grids = judging(judge or Judge()), _grids(sweep, rule)
    found = []
    for n, grid in zip(sweep.log2_widths[1:], grids[1:], strict=True):
        move = _Move(grids[0], grid, rule, float(n - sweep.log2_widths[0]), judge)
        found.append(move.cost(float(n), penalty, resamples, confidence))
    return tuple(found)


def _grids(sweep: Sweep, rule: Rule) -> list[_Grid]:
    if rule.shared:
        lines = (checked("lines", line) for line in sweep.shared)
        return [_Grid(at.losses[:, :, None], at.start, (at.eta,)) for at in lines]
    lands = (checked("lands", land).positive for land in sweep.lands)
    return [_Grid(land.losses, land.start, (land.eta_a, land.eta_b)) for land in lands]


class _Move(NamedTuple):
    """From the first width to another, so many powers of 2 wider."""

    first: _Grid
    grid: _Grid
    rule: Rule
    octaves: float
    judge: Judge

    def cells(self, chooses: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]] | str:
        """The carried and the tuned cell, or why there is none."""
        best, tuned = self.first.best(chooses, self.judge), self.grid.best(chooses, self.judge)
        if best is None or tuned is None:
            return "all runs diverged"
        carried = []
        for k, place in enumerate(best):
            power = (self.rule.p, self.rule.q)[k]
            rate = float(np.log2(self.first.axes[k][place])) + power * self.octaves
            at = _place(rate, np.log2(self.grid.axes[k]))
            if isinstance(at, str):
                return at
            carried.append(at)
        return tuple(carried), tuned

    def cost(self, n: float, penalty: float, resamples: int, confidence: float) -> Transfer:
        """What carrying costs at this width, log2 n."""
        seeds = len(self.grid.losses)
        logs = log_values(self.grid.losses, self.grid.start, penalty)

        def lost(chooses: np.ndarray, compares: np.ndarray) -> np.ndarray:
            cells = self.cells(chooses)
            if isinstance(cells, str):
                return np.full(len(compares), np.nan)
            (i, j), (k, m) = ((*cell, 0)[:2] for cell in cells)
            return np.asarray(logs[compares, i, j] - logs[compares, k, m])

        chosen = [self.cells(half) for half in halves(seeds)]
        interval = crossed(lost, seeds, resamples=resamples, confidence=confidence)
        gaps = [cells for cells in chosen if isinstance(cells, str)]
        pairs = [cells for cells in chosen if not isinstance(cells, str)]
        if gaps:
            return Transfer(n, (), (), interval, gaps[0])
        carried, tuned = (
            tuple(self.grid.log2_rates(cell) for cell in cells)
            for cells in zip(*pairs, strict=True)
        )
        gap = "in some draws of seeds there is no cell" if np.isnan(interval.low) else ""
        return Transfer(n, carried, tuned, interval, gap)


def _place(aim: float, logs: np.ndarray) -> int | str:
    """The place of a rate among rates, all as log2, or why it has none."""
    place = int(np.argmin(np.abs(logs - aim)))
    if abs(logs[place] - aim) < 1e-6:
        return place
    where = "between the rates of" if logs[0] <= aim <= logs[-1] else "beyond"
    return f"2^{aim:g} lies {where} the grid"


# --- Wider is better ---


class Wider(NamedTuple):
    """A width and the next one, at kept steps.

    Attributes:
        log2_widths: log2 n of both.
        share: of the steps at which the wider net's mean log loss is the lower.
        low, high: its bootstrap interval over seeds.
        seeds: how many seeds have the lower log loss, in the mean over steps, in the wider net; and
            of how many.
        sign: the exact binomial interval of that share: above 1/2, wider is better.
    """

    log2_widths: tuple[float, float]
    share: float
    low: float
    high: float
    seeds: tuple[int, int]
    sign: tuple[float, float]


def wider(
    log2_widths: np.ndarray,
    curves: tuple[np.ndarray, ...],
    *,
    after: int = 1,
    penalty: float = 1.0,
    resamples: int = 400,
    confidence: float = CONFIDENCE,
) -> tuple[Wider, ...]:
    """Whether the wider of two neighbouring widths has the lower loss at every step.

    Steps are not independent: what is resampled, and what has a sign, are seeds.

    Args:
        log2_widths: (W,) log2 n, ascending.
        curves: of each width (S, K), losses at the kept steps from t = 0 on, at rates that other
            seeds have chosen; ∞ from where a run diverged. Seeds are those of one list.
        after: how many of the first kept steps do not count.
        penalty: what a run counts at most, in losses at t = 0.
        resamples: draws of seeds, the same at both widths.
        confidence: of the intervals.

    Raises:
        ValueError: no steps are left.
    """
    arguments.positive("penalty", penalty)
    arguments.between("confidence", confidence, 0, 1)
    after = arguments.integer("after", after, 0)
    curves = tuple(np.asarray(at, float) for at in curves)
    if any(at.ndim != 2 for at in curves) or len(curves) != len(log2_widths):
        shapes = [at.shape for at in curves]
        wanted = f"of shape (S, K) at each of {len(log2_widths)} widths"
        raise ValueError(f"curves: must be {wanted} (got {shapes})")
    if not (np.diff(np.asarray(log2_widths, float)) > 0).all():
        raise arguments.refusal("log2_widths", "ascending", log2_widths)
    logs = [log_values(at, at[:, 0], penalty)[:, after:] for at in curves]
    if not logs or not all(at.shape[1] for at in logs):
        raise ValueError(f"after: must leave some of the kept steps (got {after})")
    return tuple(
        _wider(
            (float(log2_widths[w]), float(log2_widths[w + 1])),
            logs[w],
            logs[w + 1],
            resamples,
            confidence,
        )
        for w in range(len(logs) - 1)
    )


def _wider(
    widths: tuple[float, float],
    narrow: np.ndarray,
    wide: np.ndarray,
    resamples: int,
    confidence: float,
) -> Wider:
    seeds, tail = min(len(narrow), len(wide)), (1 - confidence) / 2
    lower = narrow[:seeds] - wide[:seeds]  # Positive where the wider net is the better.
    share = float((lower.mean(axis=0) > 0).mean())
    draws = resampled_seeds(seeds, resamples)
    many = (lower[draws].mean(axis=1) > 0).mean(axis=1)
    low = high = np.nan
    if seeds > 1:
        ends = np.quantile(many, (tail, 1 - tail))
        low, high = np.clip(share + few_seeds(seeds, confidence) * (ends - share), 0, 1)
    hits = int((lower.mean(axis=1) > 0).sum())
    return Wider(
        widths,
        share,
        float(low),
        float(high),
        (hits, seeds),
        share_interval(hits, seeds, confidence),
    )
