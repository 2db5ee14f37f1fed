"""The families of a sweep: what one optimizer, init, rank and multiplier do over widths."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from lora_theory.stats.landscapes import Landscape, Line
from lora_theory.stats.scaling import Sweep
from lora_theory.terms import INIT_NAMES

if TYPE_CHECKING:
    from xarray import Dataset

Over = Literal["n", "r"]


class Family(NamedTuple):
    """Landscapes of several widths, or ranks, and nothing else that differs.

    Attributes:
        over: what varies, n or r.
        optimizer, init, gamma, rho: what does not.
        other: the rank, or the width, that does not vary.
        sizes: (W,) the widths or ranks that were run.
        seeds: how many each has.
        data: the data set of all, with the dimensions that vary.
        apart: which of rank, γ and ρ other families have others of, so that the name says it.
    """

    over: Over
    optimizer: str
    init: str
    gamma: float
    rho: float
    other: int
    sizes: np.ndarray
    seeds: tuple[int, ...]
    data: "Dataset"
    apart: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join([f"{self.optimizer}, {INIT_NAMES[self.init]}", *self._fixed()])

    def _fixed(self) -> Iterator[str]:
        """What of the rank, the multiplier, B's variance and the width does not vary."""
        ranks = self.over == "r"
        if "r" in self.apart and not ranks:
            yield f"r = {self.other}"
        if ranks or "gamma" in self.apart:
            yield f"multiplier r^−{self.gamma:g}" if self.gamma else "multiplier 1"
        if (ranks and self.rho) or "rho" in self.apart:
            yield f"B's variance r^{self.rho:g}".replace("-", "−") if self.rho else "B's variance 1"
        if ranks:
            yield f"n = {self.other}"

    @property
    def log2_sizes(self) -> np.ndarray:
        """log2 of the widths or ranks."""
        return np.asarray(np.log2(self.sizes))

    @property
    def plane(self) -> bool:
        """Whether the whole plane was run, and not the line alone."""
        return "test_loss" in self.data

    @property
    def steps(self) -> np.ndarray:
        """The kept t."""
        return np.asarray(self.data.step.values)

    def losses(self, name: str, w: int) -> np.ndarray:
        """A variable of one size, (S, …, K), ∞ from where a run diverged."""
        values = self.data[name].isel({self.over: w}).values[: self.seeds[w]].astype(np.float64)
        return np.where(np.isfinite(values), values, np.inf)

    def until(self, t: int) -> int:
        """The place of step t."""
        return int(np.flatnonzero(self.steps == t)[0])

    def sweep(self, curve: str, t: int) -> Sweep:
        """The landscapes at step t; a line alone is a plane that is ∞ off its diagonal."""
        lines = self._lines(curve, t) if f"line_{curve}" in self.data else None
        if self.plane:
            lands = tuple(self.land(curve, t, w) for w in range(len(self.sizes)))
        else:
            assert lines is not None
            lands = tuple(_around(line) for line in lines)
        return Sweep(self.log2_sizes, lands, lines, self.over)

    def land(self, curve: str, t: int, w: int) -> Landscape:
        """The landscape of one size at step t."""
        losses, eta_a, eta_b = self.losses(curve, w), self.data.eta_a, self.data.eta_b
        return Landscape(losses[..., self.until(t)], losses[:, 0, 0, 0], eta_a.values, eta_b.values)

    def log2_curvature(self) -> dict[str, np.ndarray]:
        """log2 of the largest eigenvalue in A, in B and in both, and of the ratio of A to B, where
        neither is 0: (W, S) of the seeds that have one.
        """
        if "curvature" not in self.data:
            return {}
        largest = self.data.curvature.sel(end="largest").transpose(self.over, "seed", "block")
        seen = np.isfinite(largest.values).all(axis=(0, 2))
        with np.errstate(divide="ignore"):
            logs = np.log2(np.maximum(largest.values[:, seen], 0.0))
        found = {str(block): logs[..., k] for k, block in enumerate(self.data.block.values)}
        if np.isfinite(logs[..., :2]).all():
            found["ratio"] = found["A"] - found["B"]
        return found

    def _lines(self, curve: str, t: int) -> tuple[Line, ...]:
        found = []
        for w in range(len(self.sizes)):
            losses = self.losses(f"line_{curve}", w)
            found.append(Line(losses[..., self.until(t)], losses[:, 0, 0], self.data.eta.values))
        return tuple(found)


def preconditioned(optimizer: str) -> bool:
    """Whether curvature is measured as Adam preconditions it; else it is the Hessian's own."""
    return optimizer == "adam"


def _around(line: Line) -> Landscape:
    losses = np.full((*line.losses.shape, line.eta.size), np.inf)
    places = np.arange(line.eta.size)
    losses[:, places, places] = line.losses
    return Landscape(losses, line.start, line.eta, line.eta)


def families(data: "Dataset") -> Iterator[Family]:
    """Over widths where there are several, and over ranks where there are."""
    fixed = ("optimizer", "init", "gamma", "rho")
    apart = tuple(dim for dim in ("r", "gamma", "rho") if data.sizes[dim] > 1)
    for over, other in (("n", "r"), ("r", "n")):
        if data.sizes[over] < 2:
            continue
        for index in np.ndindex(*(data.sizes[dim] for dim in (*fixed, other))):
            at = data.isel(dict(zip((*fixed, other), index, strict=True)))
            seeds = at.ran.sum("seed").values
            yield Family(
                over,  # type: ignore[arg-type]
                str(at.optimizer.values),
                str(at.init.values),
                float(at.gamma),
                float(at.rho),
                int(at[other]),
                at[over].values,
                tuple(map(int, seeds)),
                at,
                apart if over == "n" else (),
            )
