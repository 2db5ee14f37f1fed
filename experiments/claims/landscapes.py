"""Landscapes over (η_A, η_B) at several widths: how claims train them, and what they say.

The width sweeps (`experiments.width`) are the same at full size.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments import registry
from experiments.lab import schema
from experiments.lab.schema import ConfigError, ascending, integer, science
from experiments.landscape.experiment import pairs, powers_of_2
from lora_theory.stats.collapse import SAID, Collapse, collapse, log_losses
from lora_theory.stats.equivalence import Comparison, within
from lora_theory.stats.landscapes import Judge, Landscape, Line, judged_alike
from lora_theory.stats.places import NAMES, Quantity
from lora_theory.stats.scaling import Sweep, scaling
from lora_theory.stats.transfer import Rule as Carrying
from lora_theory.stats.transfer import transfer
from lora_theory.store.files import ResultsError
from lora_theory.theory.claims import Carried, Collapsing, Family, Moving, Placed

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig


TASK, LOSS = "sine", "mse"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """The landscapes of one model: η = 2^k for whole k on either axis, 2^(k/2) along η_A = η_B."""

    widths: tuple[int, ...] = science(ascending(4))
    seeds: schema.Seeds = science(schema.seeds(4))
    steps: int = science(integer(1, 1000))
    n_train: int = science(integer(2, 10**5))
    log2_a: tuple[int, ...] = science(schema.interval(-60, 60))
    log2_b: tuple[int, ...] = science(schema.interval(-60, 60))
    line: tuple[int, ...] = science(schema.interval(-60, 60))

    @property
    def rates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """η_A, η_B and the shared η, ascending."""
        return powers_of_2(self.log2_a), powers_of_2(self.log2_b), powers_of_2(self.line, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecideConfig:
    """What decides the claims about landscapes.

    Attributes:
        exponent: exponents this close are taken for equal.
        lost: log2 of the loss that carried rates may cost.
        quantile: over seeds, of what judges a cell, a diverged run being ∞.
        resamples: draws of seeds.
    """

    exponent: float = science(schema.positive())
    lost: float = science(schema.positive())
    quantile: float = science(schema.number(0.01, 0.99))
    resamples: int = science(integer(20, 10**5))


class Window(NamedTuple):
    """The landscape of one family at one width, of all seeds."""

    family: Family
    width: int


def windows(cases: Iterable[Moving], cfg: "ClaimsConfig") -> list[Window]:
    """What the cases need, the widest first.

    Raises:
        ConfigError: no landscapes are configured for a model.
    """
    found = dict.fromkeys(case.family for case in cases)
    for family in found:
        if family.model not in cfg.landscapes:
            raise ConfigError(f"landscapes.{family.model}", "must be given", "nothing")
    all_widths = (
        Window(family, width) for family in found for width in cfg.landscapes[family.model].widths
    )
    return sorted(all_widths, key=lambda window: -window.width)


def measure(window: Window, cfg: "ClaimsConfig") -> dict[str, np.ndarray]:
    """Train losses at t = 0, `start` (S,), and at the last step, `plane` (S, G_a, G_b) and `line`
    (S, G), NaN where a run diverged.
    """
    import jax

    from lora_theory.keys import seed_key
    from lora_theory.train.devices import resolve_policy, start_devices
    from lora_theory.train.sweep import sweep_cells

    family, at = window.family, cfg.landscapes[window.family.model]
    model = registry.MODELS[family.model]
    config = model.schema(name=family.model, width=window.width, init=family.init)
    # The engine asks for test samples; nobody looks at them.
    problem = jax.jit(registry.draw(config, TASK, {"n_train": at.n_train, "n_test": 1}))
    eta_a, eta_b, eta = at.rates
    plane = pairs(eta_a, eta_b)
    cells = np.concatenate([plane, np.repeat(eta[:, None], 2, axis=1)])
    devices = start_devices()  # One a core; the bits do not depend on how many there are.
    policy = resolve_policy(window.width, at.n_train + 1, gate=model.gate)
    losses = np.empty((len(at.seeds), len(cells), 2), np.float32)
    for place, seed in enumerate(at.seeds):
        curves = sweep_cells(
            problem(seed_key(seed)),
            cells,
            optimizer=registry.optimizer(family.update, cfg.adam_eps),
            loss=registry.resolve(registry.LOSSES[LOSS]),
            steps=at.steps,
            policy=policy,
            devices=devices,
        )
        losses[place] = curves.train_loss[:, [0, -1]]
    shape = (len(at.seeds), len(eta_a), len(eta_b))
    return {
        "start": losses[:, 0, 0],
        "plane": losses[:, : len(plane), 1].reshape(shape),
        "line": losses[:, len(plane) :, 1],
    }


class Found(NamedTuple):
    """What is said of one number, and what was found.

    Attributes:
        name: which number.
        said, found: in words, what is predicted and what was measured.
        value, low, high: measured, with its interval.
        comparison: what it says about the prediction.
        badness: how far off, in margins.
        margin: the largest difference that counts as none.
    """

    name: str
    said: str
    found: str
    value: float
    low: float
    high: float
    comparison: Comparison
    badness: float
    margin: float


class Families:
    """Reads the landscapes of several widths together.

    Args:
        cfg: windows, and what decides.
        pieces: what reads each window.
    """

    def __init__(
        self, cfg: "ClaimsConfig", pieces: Mapping[Window, Callable[[], Mapping[str, np.ndarray]]]
    ):
        self.cfg = cfg
        self._pieces = pieces
        self._sweeps: dict[Family, Sweep] = {}
        self._collapses: dict[Family, Collapse] = {}

    def where(self, family: Family) -> str:
        """The setting in words."""
        at = self.cfg.landscapes[family.model]
        return (
            f"{family}; train loss at t = {at.steps}; n = {', '.join(map(str, at.widths))}; "
            f"{len(at.seeds)} seeds"
        )

    def judged(self, case: Moving, confidence: float) -> Iterator[Found]:
        """All numbers of a case, each at this confidence."""
        if isinstance(case, Collapsing):
            yield from self._collapsing(case, confidence)
        elif isinstance(case, Placed):
            yield self._placed(case, confidence)
        else:
            yield self._carried(case, confidence)

    def sweep(self, family: Family) -> Sweep:
        """The landscapes of a family. Sign and Adam updates rarely overflow: of theirs what ends
        above its loss at t = 0 has diverged.
        """
        if family not in self._sweeps:
            at = self.cfg.landscapes[family.model]
            eta_a, eta_b, eta = at.rates
            lands, lines = [], []
            for width in at.widths:
                window = Window(family, width)
                start, plane, line = _losses(window, self._pieces[window])
                land: Landscape | Line = Landscape(plane, start, eta_a, eta_b)
                shared: Landscape | Line = Line(line, start, eta)
                if family.update != "gd":
                    land, shared = judged_alike(land), judged_alike(shared)
                lands.append(land)
                lines.append(shared)
            self._sweeps[family] = Sweep(np.log2(at.widths), tuple(lands), tuple(lines))  # type: ignore[arg-type]
        return self._sweeps[family]

    def _collapsing(self, case: Collapsing, confidence: float) -> Iterator[Found]:
        fit = self._collapse(case.family)
        for name, exponent in case.predicted.items():
            numbers = fit.interval(SAID[name], confidence)
            gap = fit.unknown(SAID[name], numbers)
            yield self._exponent(case, name, f"{name} = {exponent}", float(exponent), numbers, gap)

    def _collapse(self, family: Family) -> Collapse:
        if family not in self._collapses:
            sweep = self.sweep(family)
            self._collapses[family] = collapse(
                [log_losses(land) for land in sweep.lands],
                sweep.log2_widths,
                resamples=self.cfg.decide.resamples,
            )
        return self._collapses[family]

    def _placed(self, case: Placed, confidence: float) -> Found:
        decide, place = self.cfg.decide, case.place
        quantity: Quantity = place  # type: ignore[assignment]
        fit = scaling(
            self.sweep(case.family),
            Judge(decide.quantile),
            resamples=decide.resamples,
            confidence=confidence,
        ).exponents[quantity]
        gap = "" if fit.determined else "; ".join((*fit.why, *fit.left_out)) or fit.status
        said = f"{NAMES[quantity]} at n^{case.exponent}"
        numbers = (fit.value, fit.low, fit.high)
        return self._exponent(case, place, said, float(case.exponent), numbers, gap)

    def _exponent(
        self,
        case: Moving,
        name: str,
        said: str,
        predicted: float,
        numbers: tuple[float, float, float],
        gap: str,
    ) -> Found:
        margin, seeds = self.cfg.decide.exponent, len(self.cfg.landscapes[case.family.model].seeds)
        value, low, high = numbers
        if gap:
            return _unknown(name, said, numbers, gap, margin)
        return Found(
            name,
            said,
            f"{value:+.2f} [{low:+.2f}, {high:+.2f}]",
            *numbers,
            within(low, high, predicted, margin, seeds=seeds),
            max(abs(low - predicted), abs(high - predicted)) / margin,
            margin,
        )

    def _carried(self, case: Carried, confidence: float) -> Found:
        decide = self.cfg.decide
        p, q = map(float, case.exponents)
        sweep, rule = self.sweep(case.family), Carrying(p, q, case.shared)
        last = transfer(
            sweep,
            rule,
            Judge(decide.quantile),
            resamples=decide.resamples,
            confidence=confidence,
        )[-1]
        octaves = sweep.log2_widths[-1] - sweep.log2_widths[0]
        said = f"loss at most 2^{decide.lost:g} of that tuned, over {octaves:g} doublings of n"
        numbers = (float(last.lost.mean), float(last.lost.low), float(last.lost.high))
        if last.gap or not np.isfinite(numbers).all():
            gap = last.gap or "no interval over seeds"
            return _unknown("lost", said, numbers, gap, decide.lost)
        value, low, high = numbers
        # Being better than what was tuned is no fault.
        seeds = len(self.cfg.landscapes[case.family.model].seeds)
        comparison = within(max(low, 0), max(high, 0), 0, decide.lost, seeds=seeds)
        found = f"2^{value:+.2f} (2^{low:+.2f} to 2^{high:+.2f}), carried as {rule},"
        return Found(
            "lost", said, found, *numbers, comparison, max(high, 0) / decide.lost, decide.lost
        )


def _losses(window: Window, read: Callable[[], Mapping[str, np.ndarray]]) -> list[np.ndarray]:
    """Losses as `measure` gave them, ∞ where a run diverged."""
    arrays = read()
    try:
        found = [np.asarray(arrays[name], np.float64) for name in ("start", "plane", "line")]
    except KeyError:
        raise ResultsError(f"{window}: a damaged piece; run again") from None
    return [np.where(np.isfinite(losses), losses, np.inf) for losses in found]


def _unknown(
    name: str, said: str, numbers: tuple[float, float, float], gap: str, margin: float
) -> Found:
    return Found(
        name, said, f"undetermined ({gap})", *numbers, Comparison("undecided"), 1e8, margin
    )
