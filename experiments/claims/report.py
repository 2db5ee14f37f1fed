"""What `make claims` shows: the tables and the figures of its record."""

import math
import textwrap
from fractions import Fraction
from typing import TYPE_CHECKING

from experiments.claims.judge import Judgement, Record, Row, slope_of
from lora_theory.plots.records import DrawnExponent, DrawnTraining
from lora_theory.stats.equivalence import undecided_from
from lora_theory.terms import Verdict
from lora_theory.theory.exponents import SETTLED, classify, derive, shared, solve
from lora_theory.theory.rules import LAYER_SIGN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.claims.experiment import ClaimsConfig


def table(record: Record, cfg: "ClaimsConfig") -> list[str]:
    """Each claim: its verdict, its worst exponent, and what became of its control."""
    lines = textwrap.wrap(" ".join(_judging(cfg)), 100)
    for claim in record.claims:
        said = textwrap.wrap(f"{claim.statement} ({claim.source})", 90)
        lines += ["", f"{claim.found.verdict.upper():<10}{claim.id}"]
        lines += [f"{'':<10}{line}" for line in (*said, *_evidence(claim))]
    return [*lines, "", *textwrap.wrap(expected_errors(record, cfg), 100)]


def page(record: Record, cfg: "ClaimsConfig") -> list[str]:
    """The same as a page in Markdown: what was found, how it is judged, and each claim."""
    command = "`make claims` (`python -m experiments.claims`)"
    if cfg.only:
        command = f"`python -m experiments.claims only=[{','.join(cfg.only)}]`, some of all claims"
    lines = [
        "# The claims of the theory, measured",
        "",
        f"**{summary(record)}.**",
        "",
        f"Written by {command}; measured with {record.made}.",
        "",
        "Shown is the number furthest from its prediction, with its standard error over seeds, or "
        "its interval in brackets. A claim that fails says why. Pictures: "
        "[all exponents less their predictions](exponents.png), [phase diagrams](phase.png), "
        "[slopes on their way to their limits](slopes.png), "
        "[what the theory says](fig1.png).",
        "",
        "## How a claim is judged",
        "",
        *(f"- {line}" for line in _judging(cfg)),
        "",
        "## The claims",
        "",
        "| claim | what it says | measured | verdict | control, which must fail |",
        "|---|---|---|---|---|",
    ]
    for claim in record.claims:
        worst, control = claim.found.worst, claim.control.worst
        verdict = f"**{claim.found.verdict}**"
        if claim.recorded == "fails":
            verdict += f": {claim.reason}"
        elif claim.found.verdict != "holds":
            verdict += ", which contradicts the record"
        caught = claim.control.verdict
        cells = (
            f"`{claim.id}`",
            f"{claim.statement} ({claim.source})",
            f"{worst.found} ({worst.where})",
            verdict,
            f"{claim.wrong}: {control.found}: {caught}"
            + ("" if caught == "fails" else ", NOT CAUGHT"),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, "", expected_errors(record, cfg)]


def expected_errors(record: Record, cfg: "ClaimsConfig") -> str:
    """How many of all claims that hold may do so wrongly: the family of claims, in words."""
    alpha = 1 - cfg.confidence
    hold = [claim for claim in record.claims if claim.found.verdict == "holds"]
    levels = [found for claim in hold if (found := level(claim)) is not None]
    landscapes = sum(_is_of_landscapes(claim) for claim in hold)
    return (
        f"All claims together: the {len(levels)} claims of exponents that hold, each at "
        f"{cfg.confidence:.0%}, leave {alpha * len(levels):.2g} wrong ones to be expected at most; "
        "but most intervals lie far inside their margins. Each claim would hold down to a level of "
        "its own (Student's t, Bonferroni), and these levels, the expected number of wrong ones of "
        f"a judge that is so strict, add up to {sum(levels):.2g}. Of bootstrapped "
        f"intervals no such level is known: the {landscapes} claims of landscapes that hold add at "
        f"most {alpha * landscapes:.2g}. Identities, "
        "symmetries and phase diagrams, which have no one interval, are not counted."
    )


def level(claim: Judgement) -> float | None:
    """The least level at which a claim of exponents would be undecided; None if it has none.

    It holds if all its exponents do; n of them share the level.
    """
    rows = [row for row in claim.found.rows if row.setting is not None]
    levels = []
    for row in rows:
        assert row.margin is not None
        predicted = None if row.predicted is None else float(Fraction(row.predicted))
        levels.append(undecided_from(slope_of(row), predicted, margin=row.margin))
    return min(1.0, len(rows) * max(levels)) if rows else None


def _is_of_landscapes(claim: Judgement) -> bool:
    return any(row.setting is None and row.quantity is not None for row in claim.found.rows)


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
    from lora_theory.plots.differences import differences
    from lora_theory.plots.schematic import schematic

    return {
        "fig1": schematic(trainings()),
        "phase": theory.phase_diagrams(record.phases),
        "exponents": differences(numbers(record)),
        "slopes": theory.approaching(record.slopes),
    }


def numbers(record: Record) -> list[DrawnExponent]:
    """What was measured less what is predicted, of each claim and its control, as it is drawn.

    NaN is what has no number; what is exactly 0 as predicted is left out.
    """
    return [
        _number(claim.id, row, control=control)
        for claim in record.claims
        for rows, control in ((claim.found.rows, False), (claim.control.rows, True))
        for row in rows
        if row.quantity is not None and not (row.identically_zero and row.predicted is None)
        # A control is caught by what fails.
        if not control or row.verdict == "fails" or claim.control.verdict != "fails"
    ]


def _number(claim: str, row: Row, *, control: bool) -> DrawnExponent:
    predicted = math.nan if row.predicted is None else float(Fraction(row.predicted))
    off, low, high = (
        math.nan if value is None else value - predicted
        for value in (row.measured, row.low, row.high)
    )
    kind = "carried" if row.quantity == "lost" else "landscapes"
    if row.setting is not None:
        kind = "map" if row.setting.startswith("map,") else "vectors"
    assert row.margin is not None
    return DrawnExponent(claim, kind, off, low, high, row.margin, row.verdict, control)


def trainings() -> list[DrawnTraining]:
    """A layer under LoRA at its best shared rate, and under LoRA+ at (−1, 0), for both inits."""
    found = []
    for method in ("LoRA", "LoRA+"):
        for init in "AB":
            c = best_shared(init)
            at = {"c_a": c, "c_b": c} if method == "LoRA" else {"c_a": -1, "c_b": 0}
            sizes = derive(LAYER_SIGN, init, at, SETTLED)[-1]
            shown = {name: sizes[name].gamma for name in ("delta1", "delta2", "Z_A")}
            rates = {"eta_A": Fraction(at["c_a"]), "eta_B": Fraction(at["c_b"])}
            verdict = classify(LAYER_SIGN, init, at).verdict.value
            found.append(DrawnTraining(method, init, rates | shown, verdict))
    return found


def best_shared(init: str) -> Fraction:
    """The largest c at which a layer with η_A = η_B = Θ(n^c) is stable.

    >>> best_shared("A"), best_shared("B")
    (Fraction(-1, 2), Fraction(-1, 1))
    """
    regions = solve(shared(LAYER_SIGN), init)
    stable = [r.cell for r in regions if r.answer.verdict is not Verdict.UNSTABLE]
    # Where something learns is the edge of stability, a point and a region of its own.
    return max(cell.point()["c"] for cell in stable if cell.dimension == 0)


def _judging(cfg: "ClaimsConfig") -> list[str]:
    share, decide = f"{cfg.confidence:.0%}", cfg.decide
    seeds = sorted({len(at.seeds) for at in cfg.landscapes.values()})
    return [
        f"A claim of exponents holds if their {share} intervals (Student t over seeds, Bonferroni "
        f"over the claim's exponents) lie inside ±{cfg.margin:g} of the predictions, "
        f"±{cfg.map_margin:g} for the scalar map; it fails if one lies outside, and is undecided "
        "otherwise.",
        "The scalar map has the same draws at every width, so its errors are small; different "
        "settings have different draws.",
        "A phase diagram holds if every point's class, decided at ±1/24 and "
        f"{share} a point, is the predicted one, and so is the t at which it becomes unstable.",
        f"A claim of landscapes over (η_A, η_B) holds if the bootstrap intervals of its exponents "
        f"({decide.resamples} draws of {' or '.join(map(str, seeds))} seeds, {share}, Bonferroni) "
        f"lie inside ±{decide.exponent:g}; carried rates, if they lose at most a factor "
        f"2^{decide.lost:g} of loss. A cell is judged by the {decide.quantile:.0%} quantile over "
        "seeds, a diverged run being ∞.",
        "An identity holds to rounding; a symmetry bit for bit if its factors are powers of two.",
        "Every claim has a control, the same check with something wrong, which must fail.",
    ]


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
