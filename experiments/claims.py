"""Every claim of the theory, measured: prediction against measurement, with controls that fail.

python -m experiments.claims                      # all claims: table, claims.json, figures
python -m experiments.claims only=[theorem1-sign] # some of them: runs/claims/only=…
python -m experiments.claims replot=true          # only draw, from saved results
"""

import json
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import cli
from lora_theory.config import ClaimsConfig, ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lora_theory.predictions import Claim


def claims(cfg: ClaimsConfig, folders: cli.Folders) -> None:
    """Measure, judge, write, draw, print; exit status 1 if the record is contradicted."""
    from experiments.grid import check_writable
    from lora_theory.plotting import save
    from lora_theory.results import ResultsError, atomic_write, exclusive, write_json

    path = folders.results / "claims.json"
    if cfg.replot:
        report = _saved(path)
        check_writable(folders)
    else:
        chosen = _chosen(cfg)
        check_writable(folders)
        with exclusive(path):
            report = _report(cfg, path, chosen)
            write_json(path, report)
    try:  # All of it before the first file is written.
        texts, figures = (table(report), markdown(report)), _figures(report)
    except (KeyError, ValueError, TypeError, IndexError):
        raise ResultsError(f"{path}: damaged or no report; run without replot=true") from None
    with atomic_write(path.with_suffix(".md")) as file:
        file.write(("\n".join(texts[1]) + "\n").encode())
    written = [path, path.with_suffix(".md")]
    for name, figure in figures.items():
        written += save(figure, folders.figures / name, dpi=cfg.dpi)
    print("\n".join(texts[0]))
    print("\nfiles:", *(cli.shown(file) for file in written))
    print(summary(report), flush=True)
    if broken(report):
        sys.exit(1)


def table(report: dict[str, Any]) -> list[str]:
    """Each claim: its verdict, its worst exponent, and what became of its control."""
    lines = [*textwrap.wrap(_legend(report), 100)]
    for claim in report["claims"]:
        said = textwrap.wrap(f"{claim['statement']} ({claim['source']})", 90)
        lines += ["", f"{claim['verdict'].upper():<10}{claim['id']}"]
        lines += [f"{'':<10}{line}" for line in (*said, *_evidence(claim))]
    return lines


def markdown(report: dict[str, Any]) -> list[str]:
    """The same as a table for the README."""
    lines = [
        f"{_legend(report)}. {summary(report)}.",
        "",
        "| claim | what it says | measured | verdict | control, which must fail |",
        "|---|---|---|---|---|",
    ]
    for claim in report["claims"]:
        worst, control = _worst(claim), _worst(claim["control"])
        verdict = f"**{claim['verdict']}**"
        if claim["recorded"] == "fails":
            verdict += f": {claim['reason']}"
        cells = (
            f"`{claim['id']}`",
            f"{claim['statement']} ({claim['source']})",
            f"{worst['found']} ({worst['where']})",
            verdict,
            f"{claim['wrong']}: {control['found']}: {claim['control']['verdict']}",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _legend(report: dict[str, Any]) -> str:
    config = report["config"]
    return (
        f"A claim holds (fails) if the {config['confidence']:.0%} intervals of its exponents "
        "(Student t over seeds, Bonferroni over the claim's exponents) lie inside (outside) "
        f"±{config['margin']:g} of the prediction, ±{config['map_margin']:g} for the scalar map, "
        "and is undecided otherwise; a phase diagram if every point's class, decided at ±1/24 and "
        f"{config['confidence']:.0%} a point, is the predicted one; the scalar map has the same "
        "draws at every width, so its errors are small; shown is the exponent furthest from its "
        "prediction, ± standard error"
    )


def summary(report: dict[str, Any]) -> str:
    """The last line."""
    verdicts = [claim["verdict"] for claim in report["claims"]]
    caught = sum(claim["control"]["verdict"] == "fails" for claim in report["claims"])
    controls = "all caught" if caught == len(verdicts) else f"only {caught} caught"
    hold, fail, undecided = (verdicts.count(name) for name in ("holds", "fails", "undecided"))
    return (
        f"{len(verdicts)} claims: {hold} hold, {fail} fail, {undecided} undecided; "
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
    worst, wrong = _worst(claim), _worst(control)
    count = f" (worst of {len(claim['rows'])})" if len(claim["rows"]) > 1 else ""
    lines = [
        f"measured: {worst['found']}{count}",
        f"          {worst['where']}",
        f"control:  {claim['wrong']}",
        f"          {wrong['found']}: {caught}",
    ]
    if claim["verdict"] == "undecided" and claim["seeds_needed"]:
        lines.append(f"about {claim['seeds_needed']} seeds would decide")
    if claim["recorded"] == "fails":
        lines += textwrap.wrap(f"why: {claim['reason']}", 90)
    elif claim["verdict"] != "holds":
        lines.append("CONTRADICTS THE RECORD: recorded as holding")
    return lines


def _worst(judged: dict[str, Any]) -> dict[str, Any]:
    return max(judged["rows"], key=lambda row: row["badness"])


def _saved(path: Path) -> dict[str, Any]:
    from lora_theory.results import ResultsError

    try:
        report: dict[str, Any] = json.loads(path.read_text())
        if not report["claims"]:
            raise ValueError
    except FileNotFoundError:
        raise ResultsError(f"{path}: no report to draw; run without replot=true") from None
    except (ValueError, KeyError, TypeError):
        raise ResultsError(f"{path}: damaged or no report; run without replot=true") from None
    return report


def _chosen(cfg: ClaimsConfig) -> "list[Claim]":
    from lora_theory import predictions

    known = [claim.id for claim in predictions.claims()]
    for name in cfg.only or ():
        if name not in known:
            raise ConfigError("only", f"must be among {', '.join(known)}", name)
    return predictions.claims(cfg.only)


def _report(cfg: ClaimsConfig, path: Path, chosen: "list[Claim]") -> dict[str, Any]:
    from experiments.judge import Judge

    with Judge(cfg, path, chosen) as judge:
        judged = [judge.claim(claim) for claim in chosen]
        phases = judge.phase_diagrams()
        slopes = judge.approaching_slopes()
    config = {k: v for k, v in asdict(cfg).items() if k not in ("out", "replot", "dpi")}
    return {"config": config, "claims": judged, "phases": phases, "slopes": slopes}


def _figures(report: dict[str, Any]) -> "dict[str, Figure]":
    from lora_theory import plotting_theory as theory

    return {
        "fig1": theory.schematic(),
        "phase": theory.phase_diagrams(report["phases"]),
        "exponents": theory.predicted_measured(report["claims"]),
        "slopes": theory.approaching(report["slopes"]),
    }


if __name__ == "__main__":
    cli.main("claims", ClaimsConfig, claims)
