"""Which λ? Two rates from a few probing steps on the model at hand."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import optax
from flax import nnx

from lora_theory import arguments
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.stats.intervals import Interval, mean_interval
from lora_theory.terms import Init
from lora_theory.train.coordinates import half_mse
from lora_theory.train.probing import Batch, Found, Probe
from lora_theory.train.reaching import NOTHING, reach

_FIRST = -16.0  # log2 of the first rate that is tried.
_MOST = 2.0  # A training whose loss has grown by more than this is lost.


@dataclasses.dataclass(frozen=True)
class Variation:
    """Rates with another κ or T."""

    kappa: float
    steps: int
    eta_a: float
    eta_b: float


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Two rates, how well they are known and what they rest on; `print` shows all of it.

    Attributes:
        init: which factors are random at the start.
        log2_eta_a: log2 η_A, with the interval of 95 % over groups of batches; NaN of one.
        log2_eta_b: that of η_B.
        log2_ratio: that of λ.
        kappa: κ.
        step: the part of the loss; None where both factors are random.
        steps: T.
        moved: relative change by layer at these rates, in the first group of batches; NaN of one
            without a gradient, of all where the loss more than doubles. A leaf of stacked layers,
            as `nnx.scan` makes it, counts as one.
        varied: rates with half and twice κ, and half T; of the first group of batches.
        spent: training steps taken.
        groups: of batches.
    """

    init: Init
    log2_eta_a: Interval
    log2_eta_b: Interval
    log2_ratio: Interval
    kappa: float
    step: float | None
    steps: int
    moved: tuple[float, ...]
    varied: tuple[Variation, ...]
    spent: int
    groups: int

    @property
    def eta_a(self) -> float:
        """η_A, the geometric mean over groups of batches."""
        return float(np.exp2(self.log2_eta_a.mean))

    @property
    def eta_b(self) -> float:
        """η_B, the same."""
        return float(np.exp2(self.log2_eta_b.mean))

    @property
    def ratio(self) -> float:
        """λ = η_B / η_A."""
        return float(np.exp2(self.log2_ratio.mean))

    def scaled(
        self,
        *,
        width: float = 1,
        rank: float = 1,
        alpha: float = 1,
        gamma: float = 1,
        rho: float = 0,
    ) -> tuple[float, float]:
        """(η_A, η_B) of a model that is so many times as wide, of so many times the rank and α.

        ====  ==========================  ================
        init  η_A ∝                       η_B ∝
        ====  ==========================  ================
        "A"   n^−1                        1 / (α r^(1−γ))
        "B"   n^−1/2 / (α r^(1−γ+ρ/2))    n^−1/2 r^(ρ/2)
        ====  ==========================  ================

        For Adam and sign updates, of a loss that reads the layer by a 1/n readout. That of α is an
        exact symmetry of training; those of n and r are powers that the conditions have for one
        sample, and hold as well as that describes the model.

        Args:
            width: n in units of the n of the probed model.
            rank: r in units of its r.
            alpha: α in units of its α.
            gamma: γ of the multiplier α r^−γ; 0 where it is 1 at every rank, as in Flax's layers.
            rho: ρ of the variance r^ρ of a random B.

        Raises:
            ValueError: a factor that is not positive; both factors random, for which there are no
                such powers.
        """
        n, r, by = (
            arguments.positive(name, value)
            for name, value in (("width", width), ("rank", rank), ("alpha", alpha))
        )
        gamma, rho = arguments.finite("gamma", gamma), arguments.finite("rho", rho)
        step = 1 / (by * r ** (1 - gamma))
        if self.init == "A":
            return self.eta_a / n, self.eta_b * step
        if self.init == "B":
            size = r ** (rho / 2)
            return self.eta_a * n**-0.5 * step / size, self.eta_b * n**-0.5 * size
        raise ValueError("init: must be A or B to be carried over to other sizes (got both)")

    def __str__(self) -> str:
        lines = [
            f"{name:<5} {2**value.mean:.3g}{_between(value)}"
            for name, value in (
                ("η_A", self.log2_eta_a),
                ("η_B", self.log2_eta_b),
                ("λ", self.log2_ratio),
            )
        ]
        kept = {"A": "A's moves change B's gradient", "B": "B's moves change A's gradient"}
        what = kept.get(self.init, "either's moves change the other's gradient")
        rest = [f"{what} by κ = {self.kappa:g} of itself in T = {self.steps} steps"]
        if self.step is not None:
            other = "B" if self.init == "A" else "A"
            rest.append(f"{other} alone takes {self.step:g} of the loss off in them")
        groups = f"{self.groups} group{'s' * (self.groups > 1)} of batches"
        rest.append(f"{self.spent} training steps on {groups}; {self._layers()}")
        rest += [
            f"with κ = {one.kappa:g}, T = {one.steps}: η_A {one.eta_a:.3g}, η_B {one.eta_b:.3g}, "
            f"λ {one.eta_b / one.eta_a:.3g}"
            for one in self.varied
        ]
        return "\n".join([*lines, *rest])

    def _layers(self) -> str:
        """κ by layer, or that there is none."""
        known = np.array([moved for moved in self.moved if math.isfinite(moved)])
        if not known.size:
            return "at both rates together the loss more than doubles; ask for a smaller κ"
        moving = _moving(known)
        return f"by layer κ is {moving.min():.3g} … {moving.max():.3g}"


def suggest_rates(
    model: Any,
    batches: Sequence[Batch],
    loss: Callable[[Any, Any], Any] = half_mse,
    *,
    optimizer: Callable[[Any, Any], optax.GradientTransformation] = lora_plus,
    kappa: float = 4.0,
    step: float = 0.05,
    steps: int = 8,
    init: str | None = None,
    trainable: Any = nnx.LoRAParam,
    labels: Any = None,
) -> Suggestion:
    """η_A and η_B of LoRA+ from a few probing steps on a model at its start.

    One factor's rate follows from how far it may move what the other one is trained by, the other
    rate from the step that is wanted; λ = η_B / η_A. With κ_A = ‖∇_B L(A_T) − ∇_B L(A_0)‖ /
    ‖∇_B L(A_0)‖ at B_0 (for one sample ‖ΔZ_A‖ / ‖Z_A‖), κ_B the mirror, after T steps:

    ============  =================================  ==========================================
    init          first                              then
    ============  =================================  ==========================================
    "A" (B = 0)   η_B: −⟨∇_B L, ΔB⟩ = step · L,      η_A: κ_A = κ, B training at η_B
                  A at rest
    "B" (A = 0)   η_A: −⟨∇_A L, ΔA⟩ = step · L,      η_B: κ_B = κ, A training at η_A
                  B at rest
    "both"        η_A: κ_A = κ, B at rest            η_B: κ_B = κ, A at rest
    ============  =================================  ==========================================

    Of several layers κ is the geometric mean; a leaf of stacked ones counts as one. The two
    conditions alone say nothing of what is best: κ and step are choices, and those that stand here
    were made for Adam; docs/ratio.md says how they were found and what they are worth. Gradient
    descent wants less of the first and more of the second, κ = 0.3, step = 0.5.

    Args:
        model: an NNX network with adapters at their start, in evaluation mode (`model.eval()`); or
            a pair (params, apply), apply(params, x) -> f.
        batches: T pairs (x, y) of one shape, or several times as many, drawn anew: groups, for an
            interval. Of a few groups it is too narrow where one in many differs by octaves.
        loss: (f, y) -> scalar.
        optimizer: (η_A, η_B) -> optax transformation, as `functools.partial(lora_plus, groups=…)`;
            of a schedule T steps are probed, so leave out what rises from 0.
        kappa: κ.
        step: the part of the loss that the first T steps of one factor take off, to first order.
        steps: T, at least 2: from B = 0 the first step moves B alone.
        init: "both" to say that both factors are random at the start, which else is refused.
        trainable: an NNX filter of what the optimizer trains, as `wrt=`.
        labels: as in `lora_plus`, where names do not tell A and B.

    Returns:
        A `Suggestion`.

    Raises:
        ValueError: no adapters, one that is trained already or zero in both factors; a network in
            training mode; batches that are none, of one sample, or not finite; a loss or an
            optimizer that is none; a factor that no rate moves; a κ or step that no rate reaches,
            with the largest reached, or over which it jumps.

    >>> from lora_theory import LayerToy, seed_key
    >>> from lora_theory.data.synthetic import signs_task
    >>> data = signs_task(64, 4, 1, target=100.0, key=seed_key(0))
    >>> model = LayerToy(64, 4, init="A", key=seed_key(0))
    >>> found = suggest_rates(model, [(data.x_train, data.y_train)] * 8)
    >>> found.init, found.ratio > 1
    ('A', True)
    """
    kappa, step = arguments.positive("kappa", kappa), arguments.positive("step", step)
    steps = arguments.integer("steps", steps, 2)
    probe = Probe(model, batches, loss, optimizer, trainable, labels)
    start = _started(probe, init)
    count = len(probe.batches) // steps
    if not count:
        raise ValueError(
            f"batches: must be at least steps = {steps}, one a step (got {len(probe.batches)})"
        )
    groups = [range(k * steps, (k + 1) * steps) for k in range(count)]
    found: list[tuple[float, float]] = []
    for group in groups:
        found.append(_rates(probe, group, start, kappa, step, *found[-1:]))
    log_a, log_b = np.array(found).T
    middle = float(np.exp2(log_a.mean())), float(np.exp2(log_b.mean()))
    return Suggestion(
        start,
        log2_eta_a=mean_interval(log_a),
        log2_eta_b=mean_interval(log_b),
        log2_ratio=mean_interval(log_b - log_a),
        kappa=kappa,
        step=None if start == "both" else step,
        steps=steps,
        moved=_by_layer(probe(groups[0], *middle), start),
        varied=tuple(_varied(probe, groups[0], start, kappa, step, found[0])),
        spent=probe.steps,
        groups=count,
    )


def _started(probe: Probe, told: str | None) -> Init:
    """Which factors are random, if that is where training starts."""
    if told is not None:
        arguments.one_of("init", told, ("A", "B", "both"))
    found = probe.init()
    if told not in (None, found):
        raise ValueError(f"init: must be what the model has, {found} (got {told!r})")
    if found == "both" and told is None:
        raise ValueError(
            "model: must be at its start, where one factor is 0 (got A and B that are not; is it "
            'trained already? If both are drawn at random, say init="both")'
        )
    return found


def _rates(
    probe: Probe,
    at: Sequence[int],
    init: Init,
    kappa: float,
    step: float,
    near: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """log2 η_A and log2 η_B that meet both conditions on some batches."""
    near_a, near_b = near or (_FIRST, _FIRST)

    def rate_a(name: str, target: float, field: str, eta_b: float) -> float:
        return reach("η_A", name, target, lambda a: _kept(probe(at, a, eta_b), field), near_a)

    def rate_b(name: str, target: float, field: str, eta_a: float) -> float:
        return reach("η_B", name, target, lambda b: _kept(probe(at, eta_a, b), field), near_b)

    if init == "both":
        return rate_a("kappa", kappa, "moved_a", 0.0), rate_b("kappa", kappa, "moved_b", 0.0)
    if init == "A":
        log_b = rate_b("step", step, "step_b", 0.0)
        return rate_a("kappa", kappa, "moved_a", 2**log_b), log_b
    log_a = rate_a("step", step, "step_a", 0.0)
    return log_a, rate_b("kappa", kappa, "moved_b", 2**log_a)


def _kept(found: Found, name: str) -> float:
    """A field of what was found; ∞ where the loss has more than doubled, so that none counts.

    Of layers the geometric mean of those that have a gradient and move, NaN if none has one: a
    layer that is frozen, or not used, says nothing of the others.
    """
    if not found.grew <= _MOST:
        return math.inf
    if name.startswith("step"):
        of_it = found.moved_a if name == "step_b" else found.moved_b  # NaN without a gradient.
        return math.nan if np.isnan(of_it).all() else float(getattr(found, name))
    moved = getattr(found, name)
    if np.isnan(moved).all():
        return math.nan
    moving = _moving(moved)
    return float(np.exp(np.log(moving).mean())) if moving.size else 0.0


def _moving(moved: np.ndarray) -> np.ndarray:
    return moved[moved > NOTHING * np.nanmax(moved)]


def _by_layer(found: Found, init: Init) -> tuple[float, ...]:
    sides = {"A": (found.moved_a,), "B": (found.moved_b,), "both": (found.moved_a, found.moved_b)}
    moved = np.concatenate(sides[init])
    return tuple((moved if found.grew <= _MOST else np.full_like(moved, np.nan)).tolist())


def _varied(
    probe: Probe,
    group: Sequence[int],
    init: Init,
    kappa: float,
    step: float,
    near: tuple[float, float],
) -> Iterator[Variation]:
    """Rates with half and twice κ, and with half T; NaN where none reaches them."""
    half = max(2, len(group) // 2)
    for by, t in ((0.5, len(group)), (2.0, len(group)), (1.0, half)):
        try:
            rates = _rates(probe, group[:t], init, by * kappa, step, near)
        except ValueError:
            rates = math.nan, math.nan
        yield Variation(by * kappa, t, *map(float, np.exp2(rates)))


def _between(value: Interval) -> str:
    """The interval of a logarithm, as factors."""
    if not math.isfinite(float(value.low)):
        return " (no interval: one group of batches)"
    return f" [{2**value.low:.3g}, {2**value.high:.3g}]"
