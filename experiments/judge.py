"""Prediction against measurement: runs the settings of claims once each, and judges."""

import hashlib
import math
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from experiments import settings
from experiments.cli import ROOT
from experiments.grid import pin_numerics
from lora_theory import exponents, linear, predictions
from lora_theory.config import ClaimsConfig
from lora_theory.exponents import Class, Verdict
from lora_theory.predictions import Case, Claim, Exponents, Identity, Phase, Setting
from lora_theory.results import ChunkStore, ResultsError
from lora_theory.slopes import Slope, Table, compare

_IDENTITY_SEEDS = 20
_IDENTITY_GAP = 1e-12  # Some thousand roundings of float64.
# The box of (c_a, c_b) in which regions are drawn.
_BOX = (Fraction(-13, 6), Fraction(7, 6))
_DIAGRAMS = tuple((update, init) for update in ("gd", "sign") for init in ("A", "B"))
# Curves of the figure of approaching slopes: (label, update, init, c_a, c_b, quantity, t, limit).
_APPROACHES = (
    ("$Z_A$, sign, Init[1], (−1/2, −1/2)", "sign", "A", "-1/2", "-1/2", "Z_A", 3, "1/2"),
    (r"$\delta^2$, sign, Init[1], (−3/4, −1/4)", "sign", "A", "-3/4", "-1/4", "delta2", 4, "0"),
    ("$f$, GD, Init[1], (−1/2, −5/12)", "gd", "A", "-1/2", "-5/12", "f", 4, "-1/6"),
)


class Judge:
    """Measures every setting once (kept on disk, so that a killed run goes on) and judges claims.

    Args:
        cfg: widths, seeds, margins.
        path: the report to be; measurements wait beside it until `finish`.
        claims: what will be judged, for the progress bar.
    """

    def __init__(self, cfg: ClaimsConfig, path: Path, claims: Iterable[Claim]):
        from rich.console import Console
        from rich.progress import Progress

        self.cfg = cfg
        cases = [case for claim in claims for case in (*claim.cases, *claim.control)]
        found = {case.setting: None for case in cases if isinstance(case, Exponents)}
        self._settings = list(found)
        self._tables: dict[Setting, Table] = {}
        self._classes: dict[tuple[Any, ...], list[Class | None]] = {}
        config = {k: v for k, v in asdict(cfg).items() if k not in ("out", "replot", "dpi", "only")}
        config["settings"] = [str(setting) for setting in self._settings]
        self._store = ChunkStore(path, config, {"code": _code_digest()})
        self._bar = Progress(console=Console(stderr=True), transient=True)

    def __enter__(self) -> "Judge":
        pin_numerics()
        self._bar.disable = not sys.stderr.isatty()
        # Settings that share a compilation follow each other; most of the time is compilation,
        # which leaves Python free, so groups run side by side.
        groups: dict[Any, list[int]] = {}
        for i, setting in enumerate(self._settings):
            groups.setdefault(settings.compiled_with(setting), []).append(i)
        order = sorted(groups.values(), key=lambda g: self._settings[g[0]].model == "map")
        with self._bar as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
            task = bar.add_task("claims", total=len(self._settings))

            def run(group: list[int]) -> None:
                for i in group:
                    self._tables[self._settings[i]] = self._measured(i, self._settings[i])
                    bar.advance(task)

            try:
                list(pool.map(run, order))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self._store.remove()

    def claim(self, claim: Claim) -> dict[str, Any]:
        """One claim and its control as plain data."""
        judged = self._judged(claim.cases)
        controls = [self._judged((case,)) for case in claim.control]
        # Every broken case must be caught, not just one of them.
        caught = all(control["verdict"] == "fails" for control in controls)
        worst = next((c["verdict"] for c in controls if c["verdict"] != "fails"), "fails")
        return {
            "id": claim.id,
            "statement": claim.statement,
            "source": claim.source,
            "recorded": claim.recorded,
            "reason": claim.reason,
            **judged,
            "wrong": claim.wrong,
            "control": {
                "verdict": "fails" if caught else worst,
                "rows": [row for control in controls for row in control["rows"]],
            },
        }

    def phase_diagrams(self) -> list[dict[str, Any]]:
        """Predicted regions and measured points of the four diagrams."""
        diagrams = []
        for update, init in _DIAGRAMS:
            case = Phase(update, init, predictions.lattice(12), init)
            measured = self._phase(case)
            points = [
                {"at": [float(c) for c in at], "predicted": str(p.verdict.value), **_class(p, m)}
                for at, p, m in zip(case.points, case.classes(), measured, strict=True)
            ]
            regions = areas(update, init)
            diagrams.append({"update": update, "init": init, "areas": regions, "points": points})
        return diagrams

    def approaching_slopes(self) -> list[dict[str, Any]]:
        """Slopes between neighbouring widths of the scalar map, 2^6 … 2^120."""
        widths = np.arange(6.0, 121.0, 6.0)
        curves = []
        for label, update, init, c_a, c_b, quantity, t, limit in _APPROACHES:
            runs = linear.random_runs(
                widths,
                self.cfg.seeds.map,
                init,  # type: ignore[arg-type]
                float(Fraction(c_a)),
                float(Fraction(c_b)),
                rng=np.random.default_rng(0),
                update=update,  # type: ignore[arg-type]
            )
            run = linear.trajectory(*runs, t, update=update)  # type: ignore[arg-type]
            slopes = settings.map_table(widths, run).successive(quantity, t)
            curves.append(
                {
                    "label": label,
                    "log2_widths": ((widths[1:] + widths[:-1]) / 2).tolist(),
                    "slopes": [_number(slope.value) for slope in slopes],
                    "errors": [_number(slope.error) for slope in slopes],
                    "limit": float(Fraction(limit)),
                }
            )
        return curves

    def _measured(self, index: int, setting: Setting) -> Table:
        if not self._store.has(index):
            table = settings.measure(setting, self.cfg)
            axes = {"log2_widths": table.log2_widths, "steps": table.steps}
            self._store.put(index, **axes, **table.logs)
        arrays = self._store.get(index)
        empty = np.empty(0)
        widths, steps = arrays.pop("log2_widths", empty), arrays.pop("steps", empty)
        if {logs.shape[::2] for logs in arrays.values()} != {(widths.size, steps.size)}:
            raise ResultsError(f"{self._store.folder}: damaged; delete it to measure again")
        return Table(widths, steps, arrays)

    def _judged(self, cases: tuple[Case, ...]) -> dict[str, Any]:
        count = sum(len(case.predicted) for case in cases if isinstance(case, Exponents))
        rows = [row for case in cases for row in self._rows(case, max(count, 1))]
        verdicts = {row["verdict"] for row in rows}
        verdict = (
            "fails" if "fails" in verdicts else "holds" if verdicts == {"holds"} else "undecided"
        )
        needed = [row["seeds_needed"] for row in rows if row["verdict"] == "undecided"]
        decided = verdict != "undecided" or None in needed
        return {
            "verdict": verdict,
            "seeds_needed": None if decided else max(needed),
            "rows": rows,
        }

    def _rows(self, case: Case, count: int) -> list[dict[str, Any]]:
        if isinstance(case, Phase):
            return [self._phase_row(case)]
        if isinstance(case, Identity):
            return [_identity_row(case)]
        return [self._exponent_row(case, name, count) for name in case.predicted]

    def _exponent_row(self, case: Exponents, name: str, count: int) -> dict[str, Any]:
        """One exponent; `count` of them share the confidence (Bonferroni)."""
        predicted, setting, cfg = case.predicted[name], case.setting, self.cfg
        table = self._tables[setting]
        slope = table.slope(name, case.t)
        confidence = 1 - (1 - cfg.confidence) / count
        margin = cfg.map_margin if setting.model == "map" else cfg.margin
        number = None if predicted is None else float(predicted)
        result = compare(slope, number, margin=margin, confidence=confidence)
        shown = "identically zero" if predicted is None else str(predicted)
        base, ends = ("r" if setting.model == "rank" else "n"), table.log2_widths[[0, -1]]
        return {
            "setting": str(setting),
            "t": case.t,
            "quantity": name,
            "predicted": None if predicted is None else str(predicted),
            "measured": _number(slope.value),
            "error": _number(slope.error),
            "identically_zero": slope.zero,
            "seeds": slope.seeds,
            "log2_widths": table.log2_widths.tolist(),
            "margin": margin,
            "confidence": confidence,
            "verdict": result.verdict,
            "seeds_needed": result.seeds_needed,
            "badness": _badness(slope, number, margin, confidence),
            "found": f"{name}: {shown} predicted, {slope} measured",
            "where": f"{setting}; t = {case.t}; {base} = 2^{ends[0]:g} to 2^{ends[1]:g}; "
            f"{slope.seeds} seeds",
        }

    def _phase_row(self, case: Phase) -> dict[str, Any]:
        predicted, measured = case.classes(), self._phase(case)
        wrong = sum(m is not None and m != p for p, m in zip(predicted, measured, strict=True))
        open_points = sum(m is None for m in measured)
        right = len(predicted) - wrong - open_points
        verdict = "fails" if wrong else "undecided" if open_points else "holds"
        return {
            "setting": f"map, {case.update}, Init[{'AB'.index(case.init) + 1}]",
            "agree": right,
            "disagree": wrong,
            "undecided": open_points,
            "verdict": verdict,
            "seeds_needed": None,
            "badness": 1e9 if wrong else float(open_points),
            "found": f"{right} of {len(predicted)} points agree",
            "where": f"map, {case.update}, Init[{'AB'.index(case.init) + 1}]; "
            f"n = 2^{self.cfg.map_log2_widths[0]:g} to 2^{self.cfg.map_log2_widths[-1]:g}; "
            f"{self.cfg.seeds.lattice} seeds",
        }

    def _phase(self, case: Phase) -> list[Class | None]:
        key = (case.update, case.init, case.points)
        if key not in self._classes:
            self._classes[key] = settings.measured_classes(case, self.cfg)
        return self._classes[key]


def _identity_row(case: Identity) -> dict[str, Any]:
    gap = settings.identity_gap(case.contributions, _IDENTITY_SEEDS)
    return {
        "gap": gap,
        "verdict": "holds" if gap <= _IDENTITY_GAP else "fails",
        "seeds_needed": None,
        "badness": gap / _IDENTITY_GAP,
        "found": f"|Δf − {' − '.join(case.contributions)}| ≤ {gap:.1e} |Δf|",
        "where": f"linear, gd, both random; float64; n = 64; {_IDENTITY_SEEDS} seeds",
    }


def _badness(slope: Slope, predicted: float | None, margin: float, confidence: float) -> float:
    """How far off, in margins; for choosing what to show."""
    if slope.zero or predicted is None:
        return 0.0 if slope.zero and predicted is None else 1e9
    gap = abs(slope.value - predicted) + slope.half_width(confidence)
    return 1e8 if math.isnan(gap) else gap / margin


def _class(predicted: Class, measured: Class | None) -> dict[str, Any]:
    agrees = None if measured is None else predicted == measured
    return {"measured": None if measured is None else measured.verdict.value, "agrees": agrees}


def areas(update: str, init: str) -> list[dict[str, Any]]:
    """The predicted regions of one diagram: verdict, dimension, and corners within the box."""
    found = []
    for region in exponents.solve(predictions.RULES[update], init):
        cell = region.cell.within(*_BOX)
        if cell is None:
            continue
        verdict, from_t = region.answer
        at_once = verdict is Verdict.UNSTABLE and from_t == 1
        name = "unstable at once" if at_once else verdict.value
        corners = [[float(c) for c in corner] for corner in cell.corners()]
        found.append({"verdict": name, "dimension": cell.dimension, "corners": corners})
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _code_digest() -> str:
    """Measurements are taken up again only by the code that made them."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "lora_theory").glob("*.py")):
        digest.update(path.read_bytes())
    digest.update(Path(settings.__file__).read_bytes())
    return digest.hexdigest()
