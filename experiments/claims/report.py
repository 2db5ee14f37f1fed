"""What `make claims` shows: the tables and the figures of its record."""

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from experiments.claims import exact
from experiments.claims.rows import Judgement, Record, Row, Way, slope_of
from lora_theory.plots.records import DrawnExponent, DrawnTraining
from lora_theory.stats.equivalence import undecided_from
from lora_theory.terms import Verdict
from lora_theory.theory.exponents import SETTLED, classify, derive, shared, solve
from lora_theory.theory.rules import LAYER_SIGN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.claims.experiment import ClaimsConfig


# In margins: what is shorter is no matter of sampling.
_SAMPLED = 1e-3


def table(record: Record, cfg: "ClaimsConfig") -> list[str]:
    """Each claim: its verdict, its worst exponent, and what became of its control."""
    lines = textwrap.wrap(" ".join(_judging(cfg)), 100)
    for claim in record.claims:
        said = textwrap.wrap(f"{claim.statement} ({claim.source})", 90)
        lines += ["", f"{claim.found.verdict.upper():<10}{claim.id}"]
        lines += [f"{'':<10}{line}" for line in (*said, *_evidence(claim, cfg))]
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
        "[those of other update rules](rules.png), "
        "[slopes on their way to their limits](slopes.png), "
        "[what the theory says](fig1.png).",
        "",
        "## How a claim is judged",
        "",
        *(f"- {line}" for line in _judging(cfg)),
        "",
        "## The claims",
        "",
        "| claim | what it says | measured | constants and small n | verdict | control, which must "
        "fail |",
        "|---|---|---|---|---|---|",
    ]
    for claim in record.claims:
        worst, control = claim.found.worst, claim.control.worst
        verdict = f"**{claim.found.verdict}**"
        if claim.found.verdict != claim.recorded:
            verdict += f", which contradicts the record: {claim.recorded}"
        elif claim.recorded == "fails":
            verdict += f": {claim.reason}"
        caught = claim.control.verdict
        cells = (
            f"`{claim.id}`",
            f"{claim.statement} ({claim.source})",
            f"{worst.found} ({worst.where})",
            "; ".join(dependence(claim, cfg)),
            verdict,
            f"{claim.wrong}: {control.found}: {caught}"
            + ("" if caught == "fails" else ", NOT CAUGHT"),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, "", expected_errors(record, cfg)]


def dependence(claim: Judgement, cfg: "ClaimsConfig") -> list[str]:
    """How a claim depends on the constants of the rates and shows at small widths, and from which
    distance on its check catches, in words; nothing of a claim that speaks of no exponent.
    """
    rows = [row for row in claim.found.rows if row.constants is not None]
    gaps = [gap for row in rows if (gap := _gap(row)) is not None]
    lines = []
    if gaps:
        pairs = len({row.constants for row in rows})
        lines.append(f"{_spread(gaps, 3)} at {pairs} pairs of constants")
    if claim.ways:
        lines.append(_in_small(claim, cfg))
    if gaps and claim.recorded == "holds":
        lines.append(f"catches what is off by more than {_sharpness(rows):.3f}")
    return lines


def _gap(row: Row) -> float | None:
    """Measured less predicted; None where either is no number."""
    if row.measured is None or row.predicted is None:
        return None
    return row.measured - float(Fraction(row.predicted))


def _in_small(claim: Judgement, cfg: "ClaimsConfig") -> str:
    """What its exponents are at the least widths, and from which on they are what they will be."""
    ends = [
        end - float(Fraction(way.predicted))
        for way in claim.ways
        for end in (way.low, way.high)
        if end is not None
    ]
    said = f"at {claim.ways[0].where} {_spread(ends, 2)}"
    starts = [way.from_log2_width for way in claim.ways]
    known = [start for start in starts if start is not None]
    if len(known) < len(starts):
        return f"{said}, not all within ±{cfg.margin:g} by n = 2^{cfg.way_log2_widths[-1]:g}"
    if max(known) == cfg.way_log2_widths[0]:
        return f"{said}, within ±{cfg.margin:g} there"
    return f"{said}, within ±{cfg.margin:g} from n = 2^{max(known):g} on"


def _spread(gaps: Sequence[float], digits: int) -> str:
    """From the least to the largest difference, in words.

    >>> _spread([-0.02, 0.3], 2), _spread([1e-9], 3), _spread([], 2)
    ('off by -0.02 to +0.30', 'off by less than 0.0005', 'without a slope')
    """
    if not gaps:
        return "without a slope"
    least = 0.5 * 10.0**-digits
    if max(map(abs, gaps)) < least:
        return f"off by less than {least:g}"
    return f"off by {min(gaps):+.{digits}f} to {max(gaps):+.{digits}f}"


def _sharpness(rows: Sequence[Row]) -> float:
    """A prediction of any of these exponents that is further off fails, on either side."""
    reach = []
    for row in rows:
        if _gap(row) is not None:
            assert row.margin is not None
            reach.append(row.margin * (1 + row.badness))
    return max(reach)


def expected_errors(record: Record, cfg: "ClaimsConfig") -> str:
    """How many of all claims that hold may do so wrongly: the family of claims, in words."""
    alpha = 1 - cfg.confidence
    hold = [claim for claim in record.claims if claim.found.verdict == "holds"]
    in_exponents = [claim for claim in hold if level(claim) is not None]
    sampled = [claim for claim in in_exponents if _resolution(claim) > _SAMPLED]
    levels = sum(level(claim) or 0.0 for claim in sampled)
    landscapes = sum(_is_of_landscapes(claim) for claim in hold)
    return (
        f"All claims together: of {len(in_exponents) - len(sampled)} claims of exponents that hold "
        "all intervals are shorter than a thousandth of the margin, since what is solved exactly "
        "has the same draws at every width: of them sampling has nothing to say, and what they "
        f"rest on is the model. The {len(sampled)} others, each at {cfg.confidence:.0%}, leave "
        f"{alpha * len(sampled):.2g} wrong ones to be expected at most; each would hold down to a "
        "level of its own (Student's t, Bonferroni), and these levels, the expected number of "
        f"wrong ones of a judge that is so strict, add up to {levels:.2g}. Of bootstrapped "
        f"intervals no such level is known: the {landscapes} claims of landscapes that hold add at "
        f"most {alpha * landscapes:.2g}. Identities, reductions, symmetries, splits and phase "
        "diagrams, which have no one interval, are not counted."
    )


def _resolution(claim: Judgement) -> float:
    """The longest interval of a claim, in margins."""
    rows = [row for row in claim.found.rows if row.setting is not None]
    lengths = [(row.high - row.low) / (2 * row.margin) for row in rows if row.high is not None]  # type: ignore[operator]
    return max(lengths, default=0.0)


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
    """Ids of claims whose verdict is not the one on record, or whose control was not caught."""
    return [
        claim.id
        for claim in record.claims
        if claim.found.verdict != claim.recorded or claim.control.verdict != "fails"
    ]


def figures(record: Record) -> "dict[str, Figure]":
    """Figure 1, the phase diagrams, those of other rules, the exponents, the approaching slopes."""
    from experiments.claims.rules import diagrams
    from lora_theory.plots import theory
    from lora_theory.plots.differences import differences
    from lora_theory.plots.rules import rule_diagrams
    from lora_theory.plots.schematic import schematic

    return {
        "fig1": schematic(trainings()),
        "phase": theory.phase_diagrams(record.phases),
        "rules": rule_diagrams(diagrams()),
        "exponents": differences(numbers(record)),
        "slopes": theory.approaching(record.slopes),
    }


def numbers(record: Record) -> list[DrawnExponent]:
    """What was measured less what is predicted, of each claim and its control, as it is drawn: an
    exponent of all constants is one number, the furthest off, in the range of all.

    NaN is what has no number; what is exactly 0 as predicted is left out.
    """
    found = []
    for claim in record.claims:
        ways = {(way.setting, way.quantity, way.t): way for way in claim.ways}
        for rows, control in ((claim.found.rows, False), (claim.control.rows, True)):
            drawn: dict[tuple[Any, ...], list[Row]] = {}
            seen = Counter[Any]()
            for row in rows:
                if row.quantity is None or (row.identically_zero and row.predicted is None):
                    continue
                # A control is caught by what fails.
                if control and row.verdict != "fails" and claim.control.verdict == "fails":
                    continue
                said = row.setting, row.quantity, row.t, row.predicted
                # At the same constants once more: another case of the control.
                drawn.setdefault((*said, seen[said, row.constants]), []).append(row)
                seen[said, row.constants] += 1
            for (setting, quantity, t, *_), mine in drawn.items():
                way = None if control else ways.get((setting or "", quantity, t or 0))
                found.append(_number(claim.id, mine, way, control=control))
    return found


def _number(claim: str, rows: Sequence[Row], way: Way | None, *, control: bool) -> DrawnExponent:
    """One exponent at all constants."""
    worst = max(rows, key=lambda row: row.badness)
    predicted = math.nan if worst.predicted is None else float(Fraction(worst.predicted))

    def off(value: float | None) -> float:
        return math.nan if value is None else value - predicted

    kind = "carried" if worst.quantity == "lost" else "landscapes"
    if worst.setting is not None:
        model = worst.setting.partition(",")[0]
        kind = {"rank_map": "ranks"}.get(model, "exact" if model in exact.MODELS else "vectors")
        if worst.t is None and kind == "vectors":
            kind = "limit"
    assert worst.margin is not None
    return DrawnExponent(
        claim,
        kind,
        off(worst.measured),
        min(off(row.low) for row in rows),
        max(off(row.high) for row in rows),
        worst.margin,
        worst.verdict,
        control,
        (math.nan, math.nan) if way is None else (off(way.low), off(way.high)),
    )


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
        f"A claim of exponents is judged at {len(cfg.constants.pairs)} pairs of constants "
        f"(k_a, k_b) of η_A = k_a n^c_a, η_B = k_b n^c_b, the same for all claims: √(k_a k_b) = "
        f"{_listed(cfg.constants.scales)}, each at k_a/k_b = {_listed(cfg.constants.ratios)}. "
        "It holds if it does at every one.",
        f"It holds if all {share} intervals (Student t over seeds, Bonferroni over the claim's "
        f"exponents and constants) lie inside ±{cfg.exact_margin:g} of the predictions for what is "
        f"solved exactly, ±{cfg.rank_margin:g} for exponents of the rank, ±{cfg.margin:g} for what "
        "is trained in vectors; it fails if one lies outside, and is undecided otherwise.",
        "What is solved exactly (map: eq. 2; layer_map, rank_map: a LoRA layer of one sample, or "
        "of several with entries ±1; two_layer_limit: eq. 3 for wide nets) is judged at n = "
        f"2^{cfg.exact_log2_widths[0]:g} to 2^{cfg.exact_log2_widths[-1]:g}, the limit of eq. 3 at "
        f"2^{cfg.limit_log2_widths[0]:g} to 2^{cfg.limit_log2_widths[-1]:g}, where no crossover is "
        "left; beside it stands how far off the same slopes are at small n, over all constants, "
        f"and the n from which on they are within ±{cfg.margin:g}. The claims named reduction say "
        "that it is the model in vectors.",
        "It has the same draws at every width, so its errors are small; different settings have "
        "different draws.",
        "A phase diagram holds if every point's class, decided at half the distance to the nearest "
        f"boundary, at most ±1/24, and {share} a point, is the predicted one at every pair of "
        "constants, and so is the t at which it becomes unstable.",
        f"A claim of landscapes over (η_A, η_B) holds if the bootstrap intervals of its exponents "
        f"({decide.resamples} draws of {' or '.join(map(str, seeds))} seeds, {share}, Bonferroni) "
        f"lie inside ±{decide.exponent:g}; carried rates, if they lose at most a factor "
        f"2^{decide.lost:g} of loss. A cell is judged by the {decide.quantile:.0%} quantile over "
        "seeds, a diverged run being ∞.",
        "An identity and a reduction hold to rounding, and so does that f is the same however B A "
        "is split into factors; that it is another one holds if every seed shows a gap as large as "
        "is claimed. A symmetry holds bit for bit if its factors are powers of two.",
        "Every claim has a control, the same check with something wrong, which must fail, of "
        "exponents and classes at every pair of constants. Some are far off and some by little: "
        "rates that are 1.5 to 2 margins off, diagrams and landscapes 2 margins.",
    ]


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _evidence(claim: Judgement, cfg: "ClaimsConfig") -> list[str]:
    verdict = claim.control.verdict
    caught = "caught" if verdict == "fails" else f"NOT CAUGHT: {verdict}"
    worst, wrong = claim.found.worst, claim.control.worst
    count = f" (worst of {len(claim.found.rows)})" if len(claim.found.rows) > 1 else ""
    lines = [
        f"measured: {worst.found}{count}",
        f"          {worst.where}",
        *(f"          {line}" for line in dependence(claim, cfg)),
        f"control:  {claim.wrong}",
        f"          {wrong.found}: {caught}",
    ]
    if claim.found.verdict == "undecided" and claim.found.seeds_needed:
        lines.append(f"about {claim.found.seeds_needed} seeds would decide")
    if claim.found.verdict != claim.recorded:
        lines.append(f"CONTRADICTS THE RECORD: {claim.recorded}")
    elif claim.recorded == "fails":
        lines += textwrap.wrap(f"why: {claim.reason}", 90)
    return lines
