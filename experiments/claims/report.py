"""What `make claims` shows: the tables and the figures of its record."""

import textwrap
from typing import TYPE_CHECKING

from experiments.claims.judge import Judgement, Record
from lora_theory.plots.records import DrawnExponent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.claims.experiment import ClaimsConfig


def table(record: Record, cfg: "ClaimsConfig") -> list[str]:
    """Each claim: its verdict, its worst exponent, and what became of its control."""
    lines = [*textwrap.wrap(_legend(cfg), 100)]
    for claim in record.claims:
        said = textwrap.wrap(f"{claim.statement} ({claim.source})", 90)
        lines += ["", f"{claim.found.verdict.upper():<10}{claim.id}"]
        lines += [f"{'':<10}{line}" for line in (*said, *_evidence(claim))]
    return lines


def markdown(record: Record, cfg: "ClaimsConfig") -> list[str]:
    """The same as a Markdown table."""
    lines = [
        f"{_legend(cfg)}. {summary(record)}.",
        "",
        "| claim | what it says | measured | verdict | control, which must fail |",
        "|---|---|---|---|---|",
    ]
    for claim in record.claims:
        worst, control = claim.found.worst, claim.control.worst
        verdict = f"**{claim.found.verdict}**"
        if claim.recorded == "fails":
            verdict += f": {claim.reason}"
        cells = (
            f"`{claim.id}`",
            f"{claim.statement} ({claim.source})",
            f"{worst.found} ({worst.where})",
            verdict,
            f"{claim.wrong}: {control.found}: {claim.control.verdict}",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def summary(record: Record) -> str:
    """The last line."""
    verdicts = [claim.found.verdict for claim in record.claims]
    caught = sum(claim.control.verdict == "fails" for claim in record.claims)
    controls = "all caught" if caught == len(verdicts) else f"only {caught} caught"
    hold, fail = verdicts.count("holds"), verdicts.count("fails")
    return (
        f"{len(verdicts)} claims: {hold} hold, {fail} fail, "
        f"{len(verdicts) - hold - fail} undecided; {len(verdicts)} controls, {controls}"
    )


def broken(record: Record) -> list[str]:
    """Ids of claims recorded as holding that do not, and of claims whose control was not caught."""
    return [
        claim.id
        for claim in record.claims
        if (claim.recorded == "holds" and claim.found.verdict != "holds")
        or claim.control.verdict != "fails"
    ]


def figures(record: Record) -> "dict[str, Figure]":
    """Figure 1, the phase diagrams, the exponents and the approaching slopes."""
    from lora_theory.plots import theory

    points = [
        DrawnExponent(
            row.setting, row.quantity, row.predicted, row.measured, row.half_width or 0.0, kind
        )
        for claim in record.claims
        for rows, control in ((claim.found.rows, False), (claim.control.rows, True))
        for row in rows
        if not control or row.verdict == "fails"
        for kind in ("control" if control else row.verdict,)
        if row.setting is not None and row.quantity is not None
        if row.measured is not None and row.predicted is not None
    ]
    return {
        "fig1": theory.schematic(),
        "phase": theory.phase_diagrams(record.phases),
        "exponents": theory.predicted_measured(points),
        "slopes": theory.approaching(record.slopes),
    }


def _legend(cfg: "ClaimsConfig") -> str:
    return (
        f"A claim holds (fails) if the {cfg.confidence:.0%} intervals of its exponents "
        "(Student t over seeds, Bonferroni over the claim's exponents) lie inside (outside) "
        f"±{cfg.margin:g} of the prediction, ±{cfg.map_margin:g} for the scalar map, "
        "and is undecided otherwise; a phase diagram if every point's class, decided at ±1/24 and "
        f"{cfg.confidence:.0%} a point, is the predicted one; the scalar map has the same "
        "draws at every width, so its errors are small; an exponent of landscapes over (η_A, η_B) "
        f"by ±{cfg.decide.exponent:g} and a bootstrap over seeds, carried rates if they lose at "
        f"most (more than) a factor 2^{cfg.decide.lost:g}; shown is the exponent furthest from its "
        "prediction, ± standard error, or with its interval"
    )


def _evidence(claim: Judgement) -> list[str]:
    verdict = claim.control.verdict
    caught = "caught" if verdict == "fails" else f"NOT CAUGHT: {verdict}"
    worst, wrong = claim.found.worst, claim.control.worst
    count = f" (worst of {len(claim.found.rows)})" if len(claim.found.rows) > 1 else ""
    lines = [
        f"measured: {worst.found}{count}",
        f"          {worst.where}",
        f"control:  {claim.wrong}",
        f"          {wrong.found}: {caught}",
    ]
    if claim.found.verdict == "undecided" and claim.found.seeds_needed:
        lines.append(f"about {claim.found.seeds_needed} seeds would decide")
    if claim.recorded == "fails":
        lines += textwrap.wrap(f"why: {claim.reason}", 90)
    elif claim.found.verdict != "holds":
        lines.append("CONTRADICTS THE RECORD: recorded as holding")
    return lines
