"""What is said of a landscape in words: the pairs of each judge, where the optimum may lie, what
two rates gain on other seeds, the edge of stability, how flat it is.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lora_theory.stats import landscapes, optima
from lora_theory.stats.intervals import (
    QuantileInterval,
    fewest_seeds,
    mean_interval,
    quantile_interval,
)
from lora_theory.stats.landscapes import CURVES, JUDGES, Cell, Judge, Landscape
from lora_theory.store.dataset import config_of

if TYPE_CHECKING:
    from xarray import Dataset

_WIDE = 32  # A loss and its interval.
_PENALTIES = (1.0, 10.0)  # What a diverged run counts on held-out seeds, in losses at t = 0.
_EDGES = (("A", "η_A, at the least η_B"), ("B", "η_B, at the least η_A"), ("equal", "one rate"))
_FLAT = 0.05
_CAREFUL = Judge(0.75)
_FEWEST = f"{fewest_seeds(0.5)} seeds, and {fewest_seeds(_CAREFUL.quantile)} by a 75 % quantile"


class Published(NamedTuple):
    """What the paper's Figure 2 says, at t = 200; losses read off the curves."""

    eta_a: float
    eta_b: float
    test_loss: str


# The caption prints the best pair in the other order; text and figure say η_B ≫ η_A.
PUBLISHED = {
    "best": Published(1.29e-4, 2.78, "0.17-0.18"),
    "best equal": Published(2.15e-2, 2.15e-2, "about 0.18"),
}


def published(data: "Dataset", t: int) -> dict[str, Published]:
    """The published pairs, if they speak of this setting; grid and seeds may differ."""
    config = config_of(data)
    model = config["model"]
    toy = (model["name"], model["width"]) == ("two_layer", 100)
    toy = toy and ("weight" not in model or model["weight"] == "zero")  # Older ones had no other.
    return PUBLISHED if toy and config["optimizer"]["name"] == "gd" and t == 200 else {}


def lines(data: "Dataset", curve: str, t: int, judge: Judge) -> list[str]:
    """The report of one loss at step t.

    Args:
        data: a landscape.
        curve: train_loss or test_loss: the one that decides.
        t: the step at which cells are judged.
        judge: the one that decides; others are shown beside it.
    """
    both = sorted(CURVES, key=lambda name: name != curve)
    land = landscapes.landscape(data, curve, t)
    return [
        *_head(data, curve, t, judge),
        *(row for name in both for row in _pairs(data, t, name, judge)),
        *_published_rows(data, t),
        *(row for name in both for row in _sets(data, t, name, judge)),
        *_gains(land, judge),
        *_edge_lines(land),
        *(_flat_line(landscapes.landscape(data, name, t), name) for name in both),
    ]


def _with(judge: Judge) -> list[Judge]:
    """The judge that decides, and the others."""
    return [judge, *(other for other in JUDGES if other != judge)]


def _head(data: "Dataset", curve: str, t: int, judge: Judge) -> list[str]:
    config, seeds = config_of(data), data.seed.values
    above = ", above each seed's own Var(y)" if _has_floor(data) else ""
    losses = landscapes.landscape(data, curve, t).losses
    runs, cells = np.isinf(losses).mean(), np.isinf(judge.judge(losses)).mean()
    return [
        f"{config['loss']}{above}: {config['model']['name']}, n = {config['model']['width']}, "
        f"t = {t}, {_listed(seeds)}; {runs:.0%} of runs diverged and count as ∞, so that in "
        f"{cells:.0%} of cells the {judge} is ∞; decides: {curve.replace('_', ' ')}, {judge}",
        f"{'curve':<6}{'judge':<27}{'η_A':>9}{'η_B':>9}{'λ':>9}  {'loss (95 %)':<{_WIDE}}"
        f"{'η_A=η_B':>9}  {'loss (95 %)':<{_WIDE}}",
    ]


def _listed(seeds: np.ndarray) -> str:
    """How many seeds, and which.

    >>> _listed(np.array([0, 1, 2])), _listed(np.array([5])), _listed(np.array([4, 9]))
    ('3 seeds (0..2)', '1 seed (5)', '2 seeds (chosen)')
    """
    if len(seeds) == 1:
        return f"1 seed ({seeds[0]})"
    whole = len(seeds) == seeds[-1] - seeds[0] + 1
    return f"{len(seeds)} seeds ({f'{seeds[0]}..{seeds[-1]}' if whole else 'chosen'})"


def _short(curve: str) -> str:
    return curve.removesuffix("_loss")


def _has_floor(data: "Dataset") -> bool:
    return "test_floor" in data and bool((data.test_floor.values > 0).any())


def _pairs(data: "Dataset", t: int, curve: str, judge: Judge) -> list[str]:
    """A row a judge: the best pair, and the best with η_A = η_B."""
    rows = []
    land = landscapes.landscape(data, curve, t)
    for one in _with(judge):
        seen, judged = one.seen(land.losses), one.judge(land.losses)
        pairs = landscapes.best_pair(land, judged), landscapes.best_equal_pair(land, judged)
        shown = [_loss(seen, cell, one) for cell in pairs]
        rows.append(f"{_short(curve):<6}{one!s:<27}" + _row(pairs, shown))
    mean = landscapes.papers_mean(land.losses)
    pairs = landscapes.best_pair(land, mean), landscapes.best_equal_pair(land, mean)
    shown = ["every cell lost a seed" if cell is None else _number(cell.loss) for cell in pairs]
    return [*rows, f"{_short(curve):<6}{'mean, as in the paper':<27}" + _row(pairs, shown)]


def _row(pairs: Sequence[Cell | None], shown: Sequence[str]) -> str:
    best, equal = pairs
    rates = (
        f"{'-':>9}" * 3
        if best is None
        else f"{best.eta_a:>9.3g}{best.eta_b:>9.3g}{best.ratio:>9.3g}"
    )
    one = f"{'-':>9}" if equal is None else f"{equal.eta_a:>9.3g}"
    border = "  best pair on the border: no optimum" if best is not None and best.on_border else ""
    return f"{rates}  {shown[0]:<{_WIDE}}{one}  {shown[1]:<{_WIDE}}{border}".rstrip()


def _loss(seen: np.ndarray, cell: Cell | None, judge: Judge) -> str:
    if cell is None:
        return "diverged everywhere"
    return _interval(quantile_interval(seen[:, cell.i, cell.j], judge.quantile), _number)


def _interval(found: QuantileInterval, form: Callable[[float], str]) -> str:
    value, low, high = (float(v) for v in found)
    ends = "no interval" if np.isnan(low) else f"{form(low)} to {form(high)}"
    return f"{form(value)} ({ends})".replace("inf", "∞")


def _number(value: float, sign: str = "") -> str:
    """Four decimals; three significant digits of what they would show as nothing or as a row.

    >>> _number(0.0107), _number(3.21e-7), _number(-4.5e-5, "+"), _number(2e18), _number(0)
    ('0.0107', '3.21e-07', '-4.50e-05', '2.00e+18', '0.0000')
    """
    plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{value + 0.0:{sign}{'.4f' if plain else '.2e'}}"  # + 0.0: no −0.


def _difference(value: float) -> str:
    return _number(value, "+")


def _published_rows(data: "Dataset", t: int) -> list[str]:
    return [
        f"{'':<6}{f'published, {name}':<27}{pair.eta_a:>9.3g}{pair.eta_b:>9.3g}"
        f"{pair.eta_b / pair.eta_a:>9.3g}  test loss {pair.test_loss}"
        for name, pair in published(data, t).items()
    ]


def _sets(data: "Dataset", t: int, curve: str, judge: Judge) -> list[str]:
    """Where the best pair may lie, by each judge, and by the first on either half of the seeds."""
    n = config_of(data)["model"]["width"]
    land = landscapes.landscape(data, curve, t)
    halves = [
        (f"{judge}, {name} seeds", judge, land.of_seeds(slice(first, None, 2)))
        for first, name in enumerate(("even", "odd"))
    ]
    title = f"where the best pair may lie, with 95 % ({curve.replace('_', ' ')}; a set of cells):"
    if len(land.losses) < fewest_seeds(0.5):
        return [f"{title} no interval: it takes {_FEWEST}"]
    heads = ("n·η_A", "η_B", "λ", "cells", "equal", "best equal η")
    return [
        title,
        _set_row("", heads),
        *(_set_row(str(one), _set_words(land, one, n)) for one in _with(judge)),
        *(_set_row(name, _set_words(half, one, n)) for name, one, half in halves),
    ]


def _set_row(name: str, words: Sequence[str]) -> str:
    widths = (20, 20, 22, 13, 7)
    row = "".join(f"{word:<{width}}" for word, width in zip(words, widths, strict=False))
    return f"  {name:<27}{row}{words[-1] if len(words) > len(widths) else ''}".rstrip()


def _set_words(land: Landscape, judge: Judge, n: int) -> list[str]:
    """The set of cells in numbers: from where to where, how many, how many with η_A = η_B."""
    found = optima.unbeaten(land.losses, judge)
    if found is None:
        fewest = fewest_seeds(judge.quantile)
        few = len(land.losses) < fewest
        return [f"no interval: needs {fewest} seeds" if few else "diverged everywhere"]
    i, j = np.nonzero(found)
    ratios = land.eta_b[j] / land.eta_a[i]
    line = optima.unbeaten_equal(land, judge)
    return [
        _span(n * land.eta_a, i),
        _span(land.eta_b, j),
        f"{ratios.min():.3g} to {ratios.max():.3g}",
        f"{found.sum()} of {found.size}",
        str(int((found & land.equal).sum())),
        "-" if line is None else _span(land.eta_a, np.nonzero(line)[0]),
    ]


def _span(rates: np.ndarray, places: np.ndarray) -> str:
    """From where to where, and whether the grid ends before the set does."""
    low, high = places.min(), places.max()
    below = "≤ " if low == 0 else ""
    above = "≥ " if high == len(rates) - 1 else ""
    if low == high:
        return f"{below or above}{rates[low]:.2g}"
    return f"{below}{rates[low]:.2g} to {above}{rates[high]:.2g}"


def _gains(land: Landscape, judge: Judge) -> list[str]:
    """Two rates against one on seeds that did not choose them, each half choosing for the other."""
    title = "two rates against one (best − best equal), on the seeds that did not choose:"
    if len(land.losses) < 2 * fewest_seeds(0.5):
        return [f"{title} no interval: it takes {2 * fewest_seeds(0.5)} seeds"]
    even = np.arange(len(land.losses)) % 2 == 0
    rows = [title]
    for one in dict.fromkeys((judge, _CAREFUL)):
        for name, chosen_on in (("even", even), ("odd", ~even)):
            found = [optima.gain(land, chosen_on, one, penalty=factor) for factor in _PENALTIES]
            gains = [gain for gain in found if gain is not None]
            title = f"  {one}, chosen by the {name} seeds: "
            rows += _gain_rows(title, gains) if gains else [title + "no pair that trains"]
    return rows


def _gain_rows(title: str, gains: list[optima.Gain]) -> list[str]:
    first = gains[0]
    best, equal, differences = first.best, first.equal, first.differences
    median = _interval(quantile_interval(differences), _difference)
    means = [_mean(gain.differences) for gain in gains]
    better, worse = int((differences < 0).sum()), int((differences > 0).sum())
    return [
        f"{title}({best.eta_a:.3g}, {best.eta_b:.3g}) against {equal.eta_a:.3g}",
        f"    median {median}; better on {better}, worse on {worse} of {len(differences)} seeds; "
        f"two rates diverge on {first.diverged[0]}, one on {first.diverged[1]}",
        f"    mean {means[0]} with a diverged run as its loss at t = 0, {means[1]} as ten times it",
    ]


def _mean(differences: np.ndarray) -> str:
    centre = mean_interval(differences)
    mean, half = float(centre.mean), float(centre.high - centre.mean)
    return f"{_difference(mean)} " + ("(no interval)" if np.isnan(half) else f"± {_number(half)}")


def _edge_lines(land: Landscape) -> list[str]:
    rows = []
    for along, words in _EDGES:
        edges: Any = landscapes.edge(land, along)  # type: ignore[arg-type]
        if not np.isnan(edges).any():
            rows.append(f"  {words}: {_interval(quantile_interval(edges), '{:.3g}'.format)}")
    return ["edge of stability, median over seeds:", *rows]


def _flat_line(land: Landscape, curve: str) -> str:
    cells = landscapes.flatness(land, _FLAT) / landscapes.cell_size(land)
    median = _interval(quantile_interval(cells), "{:g}".format)
    words = f"cells within {_FLAT:.0%} of a seed's own best {curve.replace('_', ' ')}"
    return f"{words}, median over seeds: {median}; a needle has 1"
