"""What a sweep over widths or ranks says in words: verdicts, places, gain, transfer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from experiments.lab.experiment import Report
from experiments.scaling import fits, verdicts
from experiments.scaling.families import Family, families
from experiments.scaling.fits import Measured
from experiments.scaling.gains import Gains, gains
from experiments.scaling.summary import summary
from experiments.scaling.verdicts import Verdict
from lora_theory.stats.collapse import Collapse
from lora_theory.stats.controls import controls
from lora_theory.stats.places import NAMES, OPTIMA
from lora_theory.stats.scaling import Place
from lora_theory.stats.transfer import Transfer
from lora_theory.store.dataset import config_of

if TYPE_CHECKING:
    from xarray import Dataset

    from experiments.scaling.config import ScalingConfig

_TRIALS = (1, 2, 4, 8, 16)


def of_sweep(name: str, data: "Dataset", cfg: "ScalingConfig", prefix: str) -> Report:
    """The report of one sweep: what decides is printed, all of it written beside the results."""
    from experiments.scaling import figures

    config = config_of(data)["sweep"]
    first = data.seed.values[0]
    seeds = f"seeds from {first} on" if cfg.seeds is None else f"seeds {cfg.seeds}"
    title = f"{name}: {config['model']}, {seeds}; t = {cfg.decide.t}"
    short, full = [title], [f"# {title}"]
    found = [verdicts.measure(family, name, config["model"], cfg) for family in families(data)]
    also = [gains(measured.family, cfg) for measured in found]
    for measured, gain in zip(found, also, strict=True):
        family = measured.family
        head = f"{family}; {family.over} = {_list(family.sizes)}; seeds {_list(family.seeds)}"
        gained, moved = list(_gain_lines(family, gain)), list(_transfer_lines(family, gain))
        short += ["", head, *_verdict_lines(measured, cfg, all_of=False), *moved]
        full += ["", f"## {head}", "", "```", *_collapse_lines(measured)]
        full += [*_verdict_lines(measured, cfg, all_of=True), *_place_lines(measured, cfg)]
        full += [*gained, *moved, *_wider_lines(gain), "```"]
        if name == cfg.decide.sweep:
            full += ["", "What decides, under other constants:", "", "```"]
            full += [
                f"{words:<26}{_pair(fit)}" for words, fit in fits.variations(family, cfg).items()
            ]
            full += [
                "```",
                "",
                "Families whose exponents are known, on the same window:",
                "",
                "```",
            ]
            full += [*_control_lines(family, cfg), "```"]
    return Report(
        short,
        figures.of_sweep(name, list(zip(found, also, strict=True)), cfg, prefix),
        kept={  # Beside the figures: what decides moves both, and no result.
            f"{prefix}_{name}.md": "\n".join(full) + "\n",
            f"{prefix}_{name}.json": summary(title, found, cfg),
        },
    )


def _wider_lines(gain: Gains) -> Iterator[str]:
    if gain.wider:
        yield "wider is better, at the first width's rates carried as η_A ∝ 1/n (other seeds):"
    for at in gain.wider:
        sizes = " to ".join(f"{2**n:g}" for n in at.log2_widths)
        better, of = at.seeds
        low, high = at.sign
        yield (
            f"  {sizes}: lower loss at {at.share:.0%} [{at.low:.0%}, {at.high:.0%}] of the kept "
            f"steps; on {better} of {of} seeds ({low:.0%} to {high:.0%})"
        )


def _control_lines(family: Family, cfg: "ScalingConfig") -> Iterator[str]:
    land = family.land(cfg.decide.curve, cfg.decide.t, 0)
    window = family.log2_sizes, (land.eta_a, land.eta_b), family.seeds
    for control in controls(*window, resamples=cfg.decide.beside):
        yield from str(control).splitlines()


def of_coordinates(data: "Dataset", prefix: str) -> Report:
    """The report of the coordinate check: a table of exponents an init and scaling."""
    from experiments.scaling import figures

    found = figures.tables(data)
    full = ["# Coordinate check: exponents in n of sizes", ""]
    for (scaling, init), table in found.items():
        full += [f"## {init}, {scaling}", "", "```", table.summary(), "```", ""]
    lines = [f"coordinates: n = {_list(data.n.values)}; {len(data.seed)} seeds"]
    drawn = figures.of_coordinates(found, prefix)
    return Report(lines, drawn, kept={f"{prefix}_coordinates.md": "\n".join(full)})


def _list(values: object) -> str:
    return ", ".join(map(str, values))  # type: ignore[call-overload]


def _collapse_lines(measured: Measured) -> Iterator[str]:
    if not measured.collapses:
        return
    yield "collapse of the mean map of log loss, (c_a, c_b); variance left under each scaling:"
    for (curve, t), fit in measured.collapses.items():
        left = ", ".join(f"{name} {share:.2f}" for name, share in fit.left.items())
        yield f"  {curve:<11} t = {t:<4} {_pair(fit)}  {left}"
    sizes = measured.family.sizes
    for w, fit in enumerate(measured.pairs):
        yield f"  {sizes[w]} to {sizes[w + 1]}: {_pair(fit)}"


def _pair(fit: Collapse) -> str:
    ends = zip(fit.exponents, fit.low, fit.high, strict=True)
    return ", ".join(f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" for value, low, high in ends)


def _verdict_lines(measured: Measured, cfg: "ScalingConfig", *, all_of: bool) -> Iterator[str]:
    """Of all losses, steps and judges, or of what decides and is predicted."""
    confidence = f"intervals of {100 * cfg.decide.confidence:g} %"
    yield f"exponents in {measured.family.over}: predicted, measured, verdict ({confidence})"
    for v in measured.verdicts:
        if all_of or (v.decides and v.predicted is not None):
            yield "  " + verdict_line(v)


def verdict_line(v: Verdict) -> str:
    """One exponent as a line."""
    predicted = "   -  " if v.predicted is None else f"{v.predicted:+6.2f}"
    number = f"{v.value:+.2f} [{v.low:+.2f}, {v.high:+.2f}]" if np.isfinite(v.value) else "-"
    mark = "PRIMARY " if v.primary else ""
    line = f"{v.what:<20}{v.where:<32}{predicted} {number:<24}{v.outcome:<10} {mark}{v.note}"
    return line.rstrip()


def _place_lines(measured: Measured, cfg: "ScalingConfig") -> Iterator[str]:
    family, decide = measured.family, cfg.decide
    scaled = measured.scalings[decide.curve, decide.quantile]
    yield f"places, log2 (best cell; cells within 5 %), {decide.curve}, t = {decide.t}:"
    for name in OPTIMA:
        if family.plane or name == "equal":
            cells = (_place(place) for place in scaled.places[name])
            yield f"  {NAMES[name]:<16}" + " ".join(f"{cell:>18}" for cell in cells)


def _place(place: Place) -> str:
    low, high = place.regions[-1]
    return f"{place.best:g} ({low:g} to {high:g})"


def _gain_lines(family: Family, gained: Gains) -> Iterator[str]:
    if not gained.searches:
        return
    yield "gain of two rates over one, log2 loss of the best of k random trials, on other seeds:"
    for n, found in zip(family.sizes, gained.searches, strict=True):
        last = len(found.trials)
        cells = []
        for k in (*(k for k in _TRIALS if k < last), last):
            gain = found.gain
            ends = f"{gain.mean[k - 1]:+.2f} [{gain.low[k - 1]:+.2f}, {gain.high[k - 1]:+.2f}]"
            cells.append(f"k = {k}: {ends}")
        yield f"  n = {n}: " + "; ".join(cells)
    for n, quick, own in zip(family.sizes, gained.speed_ups, gained.larger, strict=True):
        words = "no finite pair"
        if quick is not None:
            r = quick.ratio
            words = f"{float(r.value):.2f} [{float(r.low):.2f}, {float(r.high):.2f}] times sooner"
        yield (
            f"  n = {n}: the best pair has the line's final loss {words}; own best "
            f"η_B* > η_A* on {own.larger}, = on {own.equal}, < on {own.smaller} seeds "
            f"({own.low:.0%} to {own.high:.0%})"
        )


def _transfer_lines(family: Family, gained: Gains) -> Iterator[str]:
    if not gained.transfers:
        return
    yield f"transfer from n = {family.sizes[0]}: log2 loss above that of tuning anew at each width"
    for name, found in gained.transfers.items():
        yield f"  {name:<26}" + " ".join(f"{_lost(at):>20}" for at in found)


def _lost(at: Transfer) -> str:
    value, low, high = map(float, at.lost)
    if np.isnan(value):
        return at.gap
    return f"{value:+.2f} " + ("no interval" if np.isnan(low) else f"[{low:+.2f}, {high:+.2f}]")
