"""Prediction against measurement: what each claim's pieces say about it."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.claims import exact, reduction, settings
from experiments.claims.landscapes import Families, Window
from experiments.claims.rows import (
    Judged,
    Judgement,
    Record,
    Row,
    Way,
    caught,
    combined,
    compared,
    number,
)
from experiments.claims.settings import (
    APPROACHES,
    Approach,
    Diagram,
    Escapes,
    Group,
    Limits,
    Piece,
    Splits,
    Symmetries,
)
from experiments.lab.experiment import Arrays
from lora_theory.plots.records import Curve, DrawnDiagram, DrawnPoint
from lora_theory.stats.slopes import Slope
from lora_theory.stats.tables import Table
from lora_theory.store.files import ResultsError
from lora_theory.terms import INIT_NAMES, Class, Outcome, Setting
from lora_theory.theory.claims import (
    Carried,
    Case,
    Claim,
    Collapsing,
    Escape,
    Exponents,
    Identity,
    Limit,
    Moving,
    Phase,
    Placed,
    Reduction,
    Split,
    Symmetry,
)
from lora_theory.theory.regions import areas, predicted_class
from lora_theory.theory.rules import RULES

if TYPE_CHECKING:
    from experiments.claims.experiment import ClaimsConfig

Classes = Mapping[tuple[Fraction, Fraction], Class | None]
NUMBERS = (Exponents, Escape, Limit, Collapsing, Placed, Carried)  # What is judged by intervals.
_IDENTITY_SEEDS = 20
_REDUCTION_GAP = 1e-8  # What rounding grows to in some steps that amplify it.
_FAR = 1e9  # Badness, in margins, of what is off by more than any number says.
_IDENTITY_GAP = 1e-12  # Some thousand roundings of float64; where nothing rounds it is 0.


class Judge:
    """Judges claims by what their pieces measured.

    Args:
        cfg: margins and confidence.
        pieces: what reads each piece.
    """

    def __init__(self, cfg: "ClaimsConfig", pieces: Mapping[Piece, Callable[[], Arrays]]):
        self.cfg = cfg
        self._tables: dict[Setting, list[Table]] = {}
        self._ways: dict[Setting, dict[str, np.ndarray]] = {}
        self._curves: dict[Approach, Table] = {}
        self._limits: dict[Limit, Arrays] = {}
        self._escapes: dict[Escapes, Arrays] = {}
        self._gaps: dict[Symmetry | Split | Reduction, float] = {}
        self._classes: dict[tuple[str, str, str], list[Classes]] = {}
        windows = {}
        for piece, read in pieces.items():
            if isinstance(piece, Window):
                windows[piece] = read
                continue
            arrays = dict(read())
            if isinstance(piece, Group):
                sizes = settings.log2_sizes(piece, cfg)
                self._tables |= zip(piece.settings, _tables(piece, arrays, sizes), strict=True)
                for index, setting in enumerate(piece.settings):
                    self._ways[setting] = settings.ways(arrays, index)
            elif isinstance(piece, Approach):
                self._curves[piece] = _tables(piece, arrays, settings.APPROACH_WIDTHS)[0][0]
            elif isinstance(piece, Limits):
                for i, case in enumerate(piece.cases, 1):
                    self._limits[case] = {name: both[[0, i]] for name, both in arrays.items()}
            elif isinstance(piece, Escapes):
                self._escapes[piece] = arrays
            elif isinstance(piece, Diagram):
                self._classes[piece.model, piece.update, piece.init] = [
                    dict(zip(piece.points, row, strict=True)) for row in settings.classes(arrays)
                ]
            else:
                cases = piece.cases if isinstance(piece, Symmetries | Splits) else (piece,)
                self._gaps |= zip(cases, arrays["gaps"].tolist(), strict=True)
        self._families = Families(cfg, windows)

    def record(self, claims: list[Claim]) -> Record:
        """Claims, phase diagrams and approaching slopes."""
        return Record(
            tuple(self.claim(claim) for claim in claims),
            tuple(self._diagram(*key) for key in self._classes if key[0] == "map"),
            tuple(self._curve(approach) for approach in APPROACHES),
        )

    def claim(self, claim: Claim) -> Judgement:
        """One claim and its control."""
        controls = [
            combined(rows)
            for case in claim.control
            for rows in self._apart(case, shared((case,), self.cfg))
        ]
        return Judgement(
            claim.id,
            claim.statement,
            claim.source,
            claim.recorded,
            claim.reason,
            self._judged(claim.cases),
            claim.wrong,
            caught(controls),
            tuple(way for case in claim.cases for way in self._ways_of(case)),
        )

    def _judged(self, cases: tuple[Case, ...]) -> Judged:
        count = shared(cases, self.cfg)
        return combined(
            [row for case in cases for rows in self._apart(case, count) for row in rows]
        )

    def _apart(self, case: Case, count: int) -> list[list[Row]]:
        """The rows of a case, apart by the constants of the rates: each must catch a control."""
        if isinstance(case, Exponents):
            tables, pairs = self._tables[case.setting], self.cfg.constants.pairs
            return [
                [self._exponent_row(case, name, table, pair, count) for name in case.predicted]
                for table, pair in zip(tables, pairs, strict=True)
            ]
        if isinstance(case, Escape):
            return [
                [self._escape_row(case, i, count)] for i in range(len(self.cfg.constants.pairs))
            ]
        if isinstance(case, Limit):
            lazy = enumerate(reduction.lazy_pairs(self.cfg))
            return [
                [self._limit_row(case, name, i, pair, count) for name in case.predicted]
                for i, pair in lazy
            ]
        if isinstance(case, Phase):
            return [[row] for row in self._phase_rows(case)]
        if isinstance(case, Identity):
            return [[_identity_row(case)]]
        if isinstance(case, Symmetry):
            return [[self._symmetry_row(case)]]
        if isinstance(case, Split):
            return [[self._split_row(case)]]
        if isinstance(case, Reduction):
            return [[self._reduction_row(case)]]
        return [self._moving_rows(case, count)]

    def _exponent_row(
        self, case: Exponents, name: str, table: Table, pair: tuple[float, float], count: int
    ) -> Row:
        """One exponent; `count` of them share the confidence (Bonferroni)."""
        decided = bounds(self.cfg, case.setting, count)
        slope, log2_sizes = table.slope(name, case.t), table.log2_widths
        row = compared(slope, name, case.predicted[name], pair, *decided)
        ends = log2_sizes[[0, -1]]
        where = (
            f"{case.setting}; t = {case.t}; {_constants(pair)}; {case.setting.base} = "
            f"2^{ends[0]:g} to 2^{ends[1]:g}; {slope.seeds} seeds"
        )
        return dataclasses.replace(
            row,
            where=where,
            setting=str(case.setting),
            t=case.t,
            log2_sizes=tuple(log2_sizes.tolist()),
        )

    def _escape_row(self, case: Escape, index: int, count: int) -> Row:
        """Measured over predicted steps, at one pair of constants."""
        cfg, found = self.cfg, self._escapes[Escapes(case.init, case.c_b)]
        numbers = zip(*(found[name][index].tolist() for name in ("product", "y")), strict=True)
        ratios = found["slopes"][index] / [case.steps(*of_seed) for of_seed in numbers]
        error = float(ratios.std(ddof=1)) / len(ratios) ** 0.5
        slope, pair = Slope(float(ratios.mean()), error, len(ratios)), cfg.constants.pairs[index]
        decided = cfg.exact_margin, 1 - (1 - cfg.confidence) / count
        row = compared(slope, "escape", Fraction(1), pair, *decided)
        widths = cfg.exact_log2_widths
        where = f"{case}; {_constants(pair)}; n = 2^{widths[0]:g} to 2^{widths[-1]:g}; "
        return dataclasses.replace(
            row,
            where=where + f"{slope.seeds} seeds",
            setting=str(case),
            log2_sizes=tuple(map(float, widths)),
        )

    def _ways_of(self, case: Case) -> list[Way]:
        """Of every exponent of a setting that is solved exactly."""
        if not isinstance(case, Exponents) or case.setting.model not in exact.MODELS:
            return []
        starts = exact.starts_of_windows(case.setting, self.cfg)
        where = f"n = 2^{starts[0]:g}"
        if case.setting.model != "rank_map":
            where += f" to 2^{exact.way(case.setting, self.cfg)[1]:g}"
        found = []
        for name, slopes in self._ways[case.setting].items():
            predicted = case.predicted.get(name)
            if predicted is None:
                continue
            at = slopes[..., case.t - 1]
            off = ~(np.abs(at - float(predicted)) <= self.cfg.margin)  # NaN is off, too.
            last_off = np.flatnonzero(off.any(axis=0))[-1:]
            settled = starts[int(last_off[0]) + 1 if last_off.size else 0 :]
            found.append(
                Way(
                    str(case.setting),
                    name,
                    case.t,
                    str(predicted),
                    where,
                    number(at[:, 0].min()),
                    number(at[:, 0].max()),
                    float(settled[0]) if settled.size else None,
                )
            )
        return found

    def _limit_row(
        self, case: Limit, name: str, index: int, pair: tuple[float, float], count: int
    ) -> Row:
        """Vectors less limit, of mean log2 sizes, at one pair of constants."""
        trained, limit = self._limits[case][name][:, index]
        with np.errstate(invalid="ignore"):  # A seed that is 0 or overflows decides nothing.
            error = float((trained.var(ddof=1) + limit.var(ddof=1)) / len(limit)) ** 0.5
            slope = Slope(float(trained.mean() - limit.mean()), error, len(limit))
        if not math.isfinite(slope.value):
            slope = Slope(
                math.nan, math.nan, len(limit), note="exactly 0 or overflow in some seeds"
            )
        decided = self.cfg.limit_margin, 1 - (1 - self.cfg.confidence) / count
        row = compared(slope, name, Fraction(0), pair, *decided)
        where = f"{case}; {_constants(pair)}; n = {reduction.LIMIT_WIDTH}; {slope.seeds} seeds"
        return dataclasses.replace(row, where=where, setting=str(case))

    def _moving_rows(self, case: Moving, count: int) -> list[Row]:
        """What landscapes say; `count` of such numbers share the confidence."""
        confidence = 1 - (1 - self.cfg.confidence) / count
        at = self.cfg.landscapes[case.family.model]
        return [
            Row(
                found.comparison.verdict,
                f"{found.said} predicted, {found.found} measured",
                self._families.where(case.family),
                found.badness,
                found.comparison.seeds_needed,
                quantity=found.name,
                t=at.steps,
                predicted=str(case.predicted[found.name]),
                measured=number(found.value),
                low=number(found.low),
                high=number(found.high),
                seeds=len(at.seeds),
                log2_sizes=tuple(math.log2(width) for width in at.widths),
                margin=found.margin,
                confidence=confidence,
            )
            for found in self._families.judged(case, confidence)
        ]

    def _phase_rows(self, case: Phase) -> list[Row]:
        """One row for each pair of constants."""
        predicted, widths = case.classes(), self.cfg.exact_log2_widths
        if case.model == "two_layer_limit":
            widths = self.cfg.limit_log2_widths
        found = []
        for pair, classes in zip(
            self.cfg.constants.pairs, self._classes[case.model, case.update, case.init], strict=True
        ):
            pairs = list(zip(predicted, (classes[point] for point in case.points), strict=True))
            wrong = sum(m is not None and m != p for p, m in pairs)
            undecided = sum(m is None for _, m in pairs)
            verdict: Outcome = "fails" if wrong else "undecided" if undecided else "holds"
            row = Row(
                verdict,
                f"{len(pairs) - wrong - undecided} of {len(pairs)} points agree",
                f"{case.model}, {case.update}, {INIT_NAMES[case.init]}; {_constants(pair)}; "
                f"n = 2^{widths[0]:g} to 2^{widths[-1]:g}; "
                f"{len(self.cfg.seeds['lattice'])} seeds",
                1e9 + wrong if wrong else float(undecided),
            )
            found.append(row)
        return found

    def _reduction_row(self, case: Reduction) -> Row:
        gap = self._gaps[case]
        widths = " and ".join(map(str, reduction.WIDTHS))
        inits = ", ".join(INIT_NAMES[init] for init in case.inits)
        return Row(
            "holds" if gap <= _REDUCTION_GAP else "fails",
            f"largest relative difference of any size {gap:.1e} measured, at most "
            f"{_REDUCTION_GAP:g} predicted",
            f"{case.model}, {case.update}, {inits}; {len(case.rates)} rates, all constants; "
            f"n = {widths}; t = 1 to {reduction.STEPS}; {reduction.SEEDS} seeds",
            gap / _REDUCTION_GAP,
        )

    def _symmetry_row(self, case: Symmetry) -> Row:
        gap, most = self._gaps[case], 0.0 if case.exact else _IDENTITY_GAP
        measured = f"largest gap {gap:.1e} max |f|" if gap else "no gap, bit for bit,"
        allowed = f"at most {most:g}" if most else "none"
        return Row(
            "holds" if gap <= most else "fails",
            f"{measured} measured, {allowed} predicted",
            f"{case.model}, {case.update}, {INIT_NAMES[case.init]}, p = {case.p}, q = {case.q}; "
            f"float{32 if case.exact else 64}; n = 64",
            gap / most if most else 1e9 * (gap > 0),
        )

    def _split_row(self, case: Split) -> Row:
        """In the seed that speaks most against the case."""
        gap, where = self._gaps[case], f"{case.model}, {case.optimizer}, {INIT_NAMES[case.init]}"
        if case.least is None:
            which, allowed, off = "largest", f"at most {_REDUCTION_GAP:g}", gap / _REDUCTION_GAP
        else:
            least = float(case.least)
            which, allowed, off = "least", f"at least {least:g}", least / max(gap, 1e-300)
        return Row(
            "holds" if off <= 1 else "fails",
            f"{which} gap {gap:.1e} max |f| measured, {allowed} predicted",
            f"{where}, G: {case.mixing}; float64; n = 64",
            min(off, _FAR),
        )

    def _diagram(self, model: str, update: str, init: str) -> DrawnDiagram:
        """Of all constants: where one has another class than is predicted, the first such."""
        rule, found = RULES[model, update], self._classes[model, update, init]
        points = []
        for at in found[0]:
            predicted = predicted_class(rule, init, *at)
            wrong = [row[at] for row in found if row[at] != predicted]
            points.append(_point(at, predicted, wrong[0] if wrong else predicted))
        return DrawnDiagram(update, init, tuple(areas(rule, init)), tuple(points))

    def _curve(self, approach: Approach) -> Curve:
        """Slopes between neighbouring widths of the scalar map."""
        table = self._curves[approach]
        slopes = table.successive(approach.quantity, approach.t)
        middles = (table.log2_widths[1:] + table.log2_widths[:-1]) / 2
        return Curve(
            approach.label,
            tuple(middles.tolist()),
            tuple(number(slope.value) for slope in slopes),
            tuple(number(slope.half_width(self.cfg.confidence)) for slope in slopes),
            float(approach.limit),
        )


def shared(cases: Sequence[Case], cfg: "ClaimsConfig") -> int:
    """How many numbers share the confidence (Bonferroni): an exponent counts at all constants."""
    counts = (len(case.predicted) * pairs(case, cfg) for case in cases if isinstance(case, NUMBERS))
    return max(sum(counts), 1)


def pairs(case: Case, cfg: "ClaimsConfig") -> int:
    """At how many pairs of constants a case is judged, each by itself."""
    if isinstance(case, Limit):
        return len(reduction.lazy_pairs(cfg))
    judged_at_all = isinstance(case, Exponents | Escape | Phase)
    return len(cfg.constants.pairs) if judged_at_all else 1


def bounds(cfg: "ClaimsConfig", setting: Setting, count: int) -> tuple[float, float]:
    """What decides an exponent, where `count` share the confidence: its margin, its confidence."""
    margin = cfg.exact_margin if setting.model in exact.MODELS else cfg.margin
    margin = cfg.rank_margin if setting.model == "rank_map" else margin
    return margin, 1 - (1 - cfg.confidence) / count


def _constants(pair: tuple[float, float]) -> str:
    return f"k_a = {pair[0]:g}, k_b = {pair[1]:g}"


def _tables(piece: Piece, arrays: dict[str, Any], log2_sizes: np.ndarray) -> list[list[Table]]:
    try:
        return settings.tables(arrays, log2_sizes)
    except (KeyError, ValueError, StopIteration):
        raise ResultsError(f"{piece}: a damaged piece; run again") from None


def _point(at: tuple[Fraction, Fraction], predicted: Class, measured: Class | None) -> DrawnPoint:
    return DrawnPoint(
        (float(at[0]), float(at[1])),
        predicted.verdict.value,
        None if measured is None else measured.verdict.value,
        None if measured is None else predicted == measured,
        predicted.from_t,
        None if measured is None else measured.from_t,
    )


def _identity_row(case: Identity) -> Row:
    from lora_theory.train.identity import identity_gap

    gap = identity_gap(case.contributions, _IDENTITY_SEEDS)
    return Row(
        "holds" if gap <= _IDENTITY_GAP else "fails",
        f"|Δf − {' − '.join(case.contributions)}| ≤ {gap:.1e} |Δf|",
        f"linear, gd, both random; float64; n = 64; {_IDENTITY_SEEDS} seeds",
        gap / _IDENTITY_GAP,
    )
