"""The figures of a sweep: from what was measured to what `lora_theory.plots` draws."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.scaling.families import Family, preconditioned
from experiments.scaling.fits import Measured, usable
from experiments.scaling.gains import Gains
from experiments.scaling.verdicts import Verdict, collapsed
from lora_theory.plots.collapse import collapse_figure
from lora_theory.plots.exponents import Exponents, Mark, forest
from lora_theory.plots.gain import Gained, gain_figure
from lora_theory.plots.scaling import Moving, maps_over_widths
from lora_theory.plots.sizes import Curved, coordinate_figure, curvature_figure
from lora_theory.plots.transfer import Carried, Ranked, rank_figure, transfer_figure
from lora_theory.stats.collapse import SAID
from lora_theory.stats.tables import Table
from lora_theory.terms import INIT_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

    from experiments.scaling.config import DecideConfig, ScalingConfig

_NAMES = {"gd": "GD", "sign": "sign GD", "adam": "Adam", "adamw": "AdamW"}  # All full-batch.
_GD_BOUND = 2.0  # η λ_max at the edge of stability of gradient descent.


def of_sweep(
    name: str, found: Sequence[tuple[Measured, Gains]], cfg: "ScalingConfig", prefix: str
) -> "dict[str, Figure]":
    """The figures of one sweep, by file name."""
    return {f"{prefix}_{name}_{what}": drawn for what, drawn in _figures(found, cfg)}


def _figures(
    found: Sequence[tuple[Measured, Gains]], cfg: "ScalingConfig"
) -> "Iterator[tuple[str, Figure]]":
    decide = cfg.decide
    what = f"{decide.curve.replace('_', ' ')} at t = {decide.t}"
    over = [(m, g) for m, g in found if m.family.over == "n" and len(m.family.sizes) > 1]
    planes = [(m, g) for m, g in over if m.family.plane]
    if planes:
        moving = [_moving(m, cfg) for m, _ in planes]
        yield "maps", maps_over_widths(moving, what=what, diverged=_diverged(planes[0][0].family))
        yield "collapse", collapse_figure(moving, what=what)
        gained = [
            Gained(_name(m.family), m.family.log2_sizes, g.searches, g.speed_ups, g.larger)
            for m, g in planes
        ]
        yield "gain", gain_figure(gained, what=what)
    if over:
        carried = [_carried(m, g, cfg) for m, g in over]
        yield "transfer", transfer_figure(carried, what=what)
        panels = {_name(m.family): list(_exponents(m, cfg)) for m, _ in over}
        yield "exponents", forest(panels, over="n")
    curved = [_curved(m, cfg) for m, _ in over if m.curved]
    if curved:
        yield "curvature", curvature_figure(curved)
    ranks: dict[str, list[Measured]] = {}
    for m, _ in found:
        if m.family.over == "r":
            at = f"{_NAMES[m.family.optimizer]}, {INIT_NAMES[m.family.init]}, n = {m.family.other}"
            ranks.setdefault(at, []).append(m)
    for k, (at, of) in enumerate(ranks.items(), 1):
        which, title = f"_{k}" if len(ranks) > 1 else "", f"one shared rate, {at}"
        yield f"ranks{which}", rank_figure([_ranked(m, cfg) for m in of], title=title, what=what)
    if ranks:
        panels = {at: [_of_rank(m, cfg) for m in of] for at, of in ranks.items()}
        yield "exponents_r" if over else "exponents", forest(panels, over="r")


def _name(family: Family) -> str:
    """A family, its optimizer as figures write it."""
    words = str(family)
    return _NAMES[family.optimizer] + words.removeprefix(family.optimizer)


def _moving(measured: Measured, cfg: "ScalingConfig") -> Moving:
    family, decide = measured.family, cfg.decide
    return Moving(
        _name(family),
        usable(family, decide.curve, decide.t),
        measured.scalings[decide.curve, decide.quantile],
        measured.collapses,
        family.seeds,
        _scaled(measured),
    )


def _scaled(measured: Measured) -> tuple[float, float]:
    """The predicted collapse, or that of LoRA+."""
    if measured.moves is None:
        return -1.0, 0.0
    c_a, c_b = measured.moves.collapse
    return float(c_a), float(c_b)


def _diverged(family: Family) -> str:
    """What counts as diverged on the maps."""
    return "diverged" if family.optimizer == "gd" else "diverged, or above its loss at t = 0"


def _carried(measured: Measured, gained: Gains, cfg: "ScalingConfig") -> Carried:
    family, decide = measured.family, cfg.decide
    return Carried(
        _name(family),
        usable(family, decide.curve, decide.t),
        measured.scalings[decide.curve, decide.quantile],
        gained.transfers,
        family.plane,
    )


def _curved(measured: Measured, cfg: "ScalingConfig") -> Curved:
    family, decide = measured.family, cfg.decide
    adam = preconditioned(family.optimizer)
    return Curved(
        _name(family),
        family.log2_sizes,
        family.log2_curvature(),
        measured.scalings[decide.curve, decide.quantile],
        _GD_BOUND if family.optimizer == "gd" else None,
        "largest eigenvalues, preconditioned" if adam else "largest eigenvalues at the start",
    )


def _ranked(measured: Measured, cfg: "ScalingConfig") -> Ranked:
    family, decide = measured.family, cfg.decide
    verdict = next(v for v in measured.verdicts if v.decides and v.what == "shared η*")
    return Ranked(
        family.gamma,
        _variance(family),
        usable(family, decide.curve, decide.t),
        measured.scalings[decide.curve, decide.quantile],
        verdict.predicted,
        str(verdict.outcome),
    )


def _variance(family: Family) -> str:
    if family.init == "A":
        return ""
    return f"B's variance r^{family.rho:g}".replace("-", "−") if family.rho else "B's variance 1"


# --- Verdicts as marks ---


def _exponents(measured: Measured, cfg: "ScalingConfig") -> Iterator[Exponents]:
    """By name; after those of the collapse what they are between neighbouring widths."""
    decide = cfg.decide
    grouped: dict[str, list[Verdict]] = {}
    for v in measured.verdicts:
        grouped.setdefault(v.what, []).append(v)
    for what, verdicts in grouped.items():
        collapse = what.startswith("collapse")
        margin = decide.collapse_margin if collapse else decide.place_margin
        marks = tuple(map(_mark, verdicts))
        yield Exponents(what, verdicts[0].predicted, margin, marks)
        if collapse and measured.pairs:
            between = tuple(_between(measured, what.removeprefix("collapse "), decide))
            yield Exponents(f"{what}, pairs", verdicts[0].predicted, margin, between)


def _of_rank(measured: Measured, cfg: "ScalingConfig") -> Exponents:
    family = measured.family
    verdicts = [v for v in measured.verdicts if v.what == "shared η*"]
    words = ", ".join(filter(None, (f"γ = {family.gamma:g}", _variance(family))))
    marks = tuple(map(_mark, verdicts))
    return Exponents(words, verdicts[0].predicted, cfg.decide.place_margin, marks)


def _mark(verdict: Verdict) -> Mark:
    # Why there is no number: its beginning, the rest stands in the report.
    note = verdict.note.partition(";")[0] if not np.isfinite(verdict.value) else ""
    return Mark(
        verdict.where,
        verdict.value,
        verdict.low,
        verdict.high,
        str(verdict.outcome),
        verdict.determined,
        verdict.primary,
        note,
    )


def _between(measured: Measured, what: str, decide: "DecideConfig") -> Iterator[Mark]:
    """One exponent of the collapse of each two neighbouring sizes."""
    ends = itertools.pairwise(measured.family.sizes)
    for (n, m), pair in zip(ends, measured.pairs, strict=True):
        found = {name: numbers for name, numbers, _ in collapsed(pair, measured.moves, decide)}
        value, low, high = found[what]
        known = not pair.unknown(SAID[what], (value, low, high), decide.widest)
        yield Mark(f"{n} → {m}", value, low, high, "", known, False, "flat")


# --- The coordinate check ---


def of_coordinates(found: Mapping[tuple[str, str], Table], prefix: str) -> "Mapping[str, Figure]":
    """The figure of the coordinate check."""
    return {f"{prefix}_coordinates": coordinate_figure(found)}


def tables(data: "Dataset") -> dict[tuple[str, str], Table]:
    """(scaling, init) -> sizes of a data set of coordinate checks."""
    found = {}
    for i, init in enumerate(data.init.values):
        for k, scaling in enumerate(data.rates.values):
            at = data.isel(init=i, rates=k)
            logs = {str(name): at[name].values for name in data.data_vars}
            key = (str(scaling), INIT_NAMES[str(init)])
            found[key] = Table(np.log2(data.n.values.astype(float)), data.t.values, logs)
    return found
