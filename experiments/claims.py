"""Every claim of the theory, measured: prediction against measurement, with controls that fail.

python -m experiments.claims                      # all claims: table, claims.json, figures
python -m experiments.claims only=[theorem1-sign] # some of them: runs/claims/only=…
python -m experiments.claims replot=true          # only draw, from saved results
"""

import json
import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from experiments import cli
from lora_theory.config import ClaimsConfig, ConfigError


def claims(cfg: ClaimsConfig, folders: cli.Folders) -> None:
    """Measure, judge, write, draw, print; exit status 1 if the record is contradicted."""
    from experiments.grid import check_writable
    from lora_theory.results import ResultsError, write_json

    check_writable(folders)
    path = folders.results / "claims.json"
    if cfg.replot:
        try:
            report = json.loads(path.read_text())
        except (OSError, ValueError):
            raise ResultsError(f"{path}: no report to draw; run without replot=true") from None
    else:
        report = _report(cfg, path)
        write_json(path, report)
    written = [path, *_figures(report, folders.figures, cfg.dpi)]
    print("\n".join(table(report)))
    print("files:", *(cli.shown(file) for file in written))
    print(summary(report), flush=True)
    if broken(report):
        sys.exit(1)


def table(report: dict[str, Any]) -> list[str]:
    """One line per claim: its verdict, its worst exponent, and what became of its control."""
    config = report["config"]
    confidence = config["confidence"]
    lines = [
        f"holds / fails: the {confidence:.0%} intervals (Student t over seeds, together for a "
        f"claim's exponents) lie inside / outside ±{config['margin']:g} of the prediction "
        f"(±{config['map_margin']:g} for the scalar map); else undecided",
        "shown: the exponent that is furthest from its prediction, ± standard error",
    ]
    for claim in report["claims"]:
        lines += [
            "",
            f"{claim['verdict'].upper():<10}{claim['id']}  ({claim['source']})",
            f"{'':<10}{claim['statement']}",
            *(f"{'':<10}{line}" for line in _evidence(claim)),
        ]
    return lines


def summary(report: dict[str, Any]) -> str:
    """The last line."""
    verdicts = [claim["verdict"] for claim in report["claims"]]
    caught = sum(claim["control"]["verdict"] == "fails" for claim in report["claims"])
    controls = "all caught" if caught == len(verdicts) else f"only {caught} caught"
    counts = (verdicts.count(name) for name in ("holds", "fails", "undecided"))
    h, f, u = counts
    return (
        f"{len(verdicts)} claims: {h} hold, {f} fail, {u} undecided; "
        f"{len(verdicts)} controls, {controls}"
    )


def broken(report: dict[str, Any]) -> list[str]:
    """Ids of claims recorded as holding that do not, and of claims whose control was not caught."""
    return [
        claim["id"]
        for claim in report["claims"]
        if (claim["recorded"] == "holds" and claim["verdict"] != "holds")
        or claim["control"]["verdict"] != "fails"
    ]


def _evidence(claim: dict[str, Any]) -> list[str]:
    control = claim["control"]
    caught = "caught" if control["verdict"] == "fails" else f"NOT CAUGHT: {control['verdict']}"
    lines = [_worst(claim), f"control: {claim['wrong']}: {_worst(control)} — {caught}"]
    if claim["verdict"] == "undecided" and claim["seeds_needed"]:
        lines.append(f"about {claim['seeds_needed']} seeds would decide")
    if claim["recorded"] == "fails":
        lines.append(f"why: {claim['reason']}")
    if claim["recorded"] == "holds" and claim["verdict"] != "holds":
        lines.append("CONTRADICTS THE RECORD: recorded as holding")
    return lines


def _worst(judged: dict[str, Any]) -> str:
    rows = judged["rows"]
    row = max(rows, key=lambda row: row["badness"])
    count = f" (worst of {len(rows)})" if len(rows) > 1 else ""
    return f"{row['text']}{count}"


def _report(cfg: ClaimsConfig, path: Path) -> dict[str, Any]:
    from experiments.judge import Judge
    from lora_theory import predictions

    try:
        chosen = predictions.claims(cfg.only)
    except ValueError as error:
        raise ConfigError("only", *str(error).removesuffix(")").split(" (got ")) from None
    with Judge(cfg, path, chosen) as judge:
        judged = [judge.claim(claim) for claim in chosen]
        phases = judge.phase_diagrams()
        slopes = judge.approaching_slopes()
    config = {k: v for k, v in asdict(cfg).items() if k not in ("out", "replot", "dpi")}
    return {"config": config, "claims": judged, "phases": phases, "slopes": slopes}


def _figures(report: dict[str, Any], folder: Path, dpi: int) -> list[Path]:
    from lora_theory import plotting_theory as theory
    from lora_theory.plotting import save

    figures = {
        "fig1": theory.schematic(),
        "phase": theory.phase_diagrams(report["phases"]),
        "exponents": theory.predicted_measured(report["claims"]),
        "slopes": theory.approaching(report["slopes"]),
    }
    return [file for name, f in figures.items() for file in save(f, folder / name, dpi=dpi)]


def exact(value: Fraction | None) -> str:
    """An exponent as text."""
    return "zero" if value is None else str(value)


if __name__ == "__main__":
    cli.main("claims", ClaimsConfig, claims)
