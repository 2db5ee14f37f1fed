"""What is said and drawn of the budgets: a table a task, what decides in words, and the picture."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.budget.config import TRANSFORMER, BudgetConfig
from experiments.budget.ways import ARMS, PLUS, WAYS, Way
from experiments.lab.experiment import Report
from lora_theory.stats.intervals import Interval
from lora_theory.stats.tuning import best_of, better, tuned

if TYPE_CHECKING:
    from xarray import Dataset

SHOWN = (1, 3)  # k of the table, beside the one that decides and all.
_TITLE = "# Ways to train at equal budgets of tuning"
_NO_GAIN = {
    "worse": "it is worse",
    "no difference beyond the margin": "there is none beyond the margin",
    "undecided": "these seeds can not tell",
}


class Judged(NamedTuple):
    """What a task says of all ways.

    Attributes:
        task: its name.
        scores: of each way (S, G), all its settings.
        trials: k, from 1 to the most settings that a way has.
        expected: (ways, K) the expected score of the best of k trials.
        gained: (ways,) that of k = judge.trials, less that of the first way.
        at_once: (ways,) that of a single trial, less a single trial of the first way.
        seconds: (ways,) of a step, in units of the first way's.
        ratios: of each way (S, arms) λ.
        of_zero: the median score of a toy whose output is 0; 0 of the transformer.
    """

    task: str
    scores: list[np.ndarray]
    trials: list[int]
    expected: Interval
    gained: Interval
    at_once: Interval
    seconds: list[float]
    ratios: list[np.ndarray]
    of_zero: float


def report(results: "Dataset", cfg: BudgetConfig) -> Report:
    """Table, words and picture of all tasks."""
    from lora_theory.plots.budget import Panel, budget_figure

    found = [judged(results, task, cfg) for task in cfg.tasks]
    said = lines(found, int(np.isnan(results.test_loss.values).sum()), cfg)
    drawn = [i for i, way in enumerate(WAYS) if way.control != "not better"]
    panels = [
        Panel(
            _heading(at.task, cfg),
            _unit(at.task, cfg),
            Interval(*(np.asarray(end)[drawn] for end in at.expected)),
            [at.scores[i].shape[1] for i in drawn],
        )
        for at in found
    ]
    figure = budget_figure(
        panels,
        [WAYS[i].label for i in drawn],
        controls=[bool(WAYS[i].control) for i in drawn],
        banded=2,
        judged=cfg.judge.trials,
    )
    page = "\n".join([_TITLE, "", *said]) + "\n"
    return Report(
        said, {"budget": figure}, {"budget.csv": _csv(results, cfg)}, kept={"budget.md": page}
    )


def judged(results: "Dataset", task: str, cfg: BudgetConfig) -> Judged:
    """The statistics of one task."""
    data = results.sel(task=task).transpose("seed", "arm", "octave")
    of = {name: data.sel(arm=name) for name in ARMS}
    ways = [
        np.concatenate([of[arm].score.values for arm in way.arms], axis=1).astype(float)
        for way in WAYS
    ]
    ways = [
        scores
        if way.untuned is None
        else scores[:, [cfg.log2_rates(task, way.arms[0]).index(way.untuned)]]
        for way, scores in zip(WAYS, ways, strict=True)
    ]
    trials = list(range(1, max(way.shape[1] for way in ways) + 1))
    judge = cfg.judge
    expected = best_of(ways, trials, resamples=judge.resamples)
    options: Any = {"resamples": judge.resamples, "confidence": confidence(cfg)}
    gained, at_once = (
        Interval(*(np.asarray(end)[:, 0] for end in best_of(ways, [k], against=0, **options)))
        for k in (judge.trials, 1)
    )
    first = of[WAYS[0].arms[0]].seconds.values
    seconds = [
        float(np.mean([np.median(of[arm].seconds.values / first) for arm in way.arms]))
        for way in WAYS
    ]
    ratios = [np.stack([of[arm].ratio.values for arm in way.arms], axis=1) for way in WAYS]
    zero = _of_zero(of["lora"], task, cfg)
    return Judged(task, ways, trials, expected, gained, at_once, seconds, ratios, zero)


def _of_zero(lora: "Dataset", task: str, cfg: BudgetConfig) -> float:
    """log10 of the loss at the start over that of the output 0, (1 − exp(−2/d)) / 2.

    A score says how far the loss fell to what it is, and so where it began.
    """
    learned = lora.score.values > 0
    if task == TRANSFORMER or not learned.any():
        return 0.0
    start = lora.score.values[learned] + np.log10(lora.test_loss.values[learned])
    return float(np.median(start) - np.log10((1 - np.exp(-2 / cfg.toys[task].inputs)) / 2))


def confidence(cfg: BudgetConfig) -> float:
    """Of each comparison of a task, such that all of them together have the config's (Bonferroni).

    >>> from experiments.lab.command_line import load
    >>> round(1 - confidence(load("budget", BudgetConfig)), 5) == round(0.05 / (len(WAYS) - 1), 5)
    True
    """
    return 1 - (1 - cfg.judge.confidence) / (len(WAYS) - 1)


def margin(task: str, cfg: BudgetConfig) -> float:
    """Up to which a difference counts as none."""
    return cfg.judge.margin if task == TRANSFORMER else cfg.judge.toys_margin


def lines(found: list[Judged], diverged: int, cfg: BudgetConfig) -> list[str]:
    """All that is said, as Markdown."""
    runs = len(cfg.tasks) * len(cfg.seeds) * len(ARMS) * cfg.octaves
    said = [
        f"The expected score of the best of k trials, seeds {cfg.seeds}; {diverged} of {runs} runs "
        "diverged. A trial is one setting on one seed. k settings of a way are drawn at random, "
        "without replacement, and run on one tuning seed; the one that is best there is scored on "
        "the other half of the seeds. Then the halves change places. Intervals are bootstraps over "
        f"seeds, {100 * cfg.judge.confidence:g} % for all comparisons of a task together. Seconds "
        "are in units of LoRA at λ = 1. What decides, written before the run, is the transformer "
        f"at k = {cfg.judge.trials}; toys are shown beside it.",
        "",
    ]
    for at in found:
        said += [f"## {_heading(at.task, cfg)}", "", *_section(at, cfg), ""]
    return [*said, "## What it says", "", *(line for at in found for line in _words(at, cfg))]


def _heading(task: str, cfg: BudgetConfig) -> str:
    if task == TRANSFORMER:
        return f"Transformer, n = {cfg.model.width}"
    toy = cfg.toys[task]
    what = {"two_layer": "Two layers", "feature_layer": "One layer"}[task]
    base = {"sgd": "GD", "adam": "Adam", "adamw": "AdamW"}[toy.base]
    return f"{what}, {base}, n = {toy.width}"


def _unit(task: str, cfg: BudgetConfig) -> str:
    return "test accuracy" if task == TRANSFORMER else "decades that the test loss fell"


def _section(at: Judged, cfg: BudgetConfig) -> list[str]:
    k = cfg.judge.trials
    counts = [*SHOWN, k]
    head = [
        "way", "settings", "best rate", *(f"k = {count}" for count in counts), "all",
        f"minus λ = 1, at k = {k}", "verdict", *["seconds a step"] * _timed(at.task),
    ]  # fmt: skip
    steps = cfg.training.steps if at.task == TRANSFORMER else cfg.toys[at.task].steps
    return [
        f"Score: {_unit(at.task, cfg)} after {steps} steps, 0 of a run that diverged"
        + (". " if at.task == TRANSFORMER else " or ended above where it began. ")
        + f"Margin {margin(at.task, cfg):g}."
        + (f" The constant 0 would score {at.of_zero:.2f}." if at.of_zero > 0.05 else ""),
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *(_row(i, at, counts, cfg) for i in range(len(WAYS))),
    ]


def _timed(task: str) -> bool:
    """Whether its seconds are those of its steps: those of a toy are largely of setting it up."""
    return task == TRANSFORMER


def _row(i: int, at: Judged, counts: list[int], cfg: BudgetConfig) -> str:
    means, settings = np.asarray(at.expected.mean)[i], at.scores[i].shape[1]
    values = [means[min(k, len(means)) - 1] for k in (*counts, settings)]
    verdict = f"**{_verdict(i, at, cfg)}**" if i else ""
    cells = [
        WAYS[i].label, str(settings), _where(i, at, cfg), *(f"{value:.3f}" for value in values),
        _difference(i, at.gained) if i else "", verdict,
        *[f"{at.seconds[i]:.2f}"] * _timed(at.task),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _where(i: int, at: Judged, cfg: BudgetConfig) -> str:
    """The setting with the highest median over all seeds, and λ where it is not said by the way."""
    best = tuned(at.scores[i]).place
    which, place = divmod(best, cfg.octaves)
    ratios = at.ratios[i][:, which]
    rates = cfg.log2_rates(at.task, WAYS[i].arms[which])
    untuned = WAYS[i].untuned
    if untuned is not None:
        place = rates.index(untuned)
    rate = f"2^{rates[place]}"
    if ARMS[WAYS[i].arms[which]].ratio is None:
        rate += " of what is suggested"
    border = ", at the border" if place in (0, cfg.octaves - 1) else ""
    if len(WAYS[i].arms) > 1:
        return f"λ = {ratios[0]:g}, {rate}{border}"
    if ratios.min() != ratios.max():
        middle = f"{np.median(ratios):.3g} ({ratios.min():.3g} to {ratios.max():.3g})"
        return f"λ = {middle}, {rate}{border}"
    return rate + border


def _verdict(i: int, at: Judged, cfg: BudgetConfig) -> str:
    return better(_of(at.gained, i), margin(at.task, cfg))


def _of(found: Interval, i: int) -> Interval:
    return Interval(*(np.asarray(end)[i] for end in found))


def _difference(i: int, found: Interval) -> str:
    value, low, high = map(float, _of(found, i))
    words = f"{value:+.3f} " + (f"[{low:+.3f}, {high:+.3f}]" if low == low else "(no interval)")
    return words.replace("-", "−")


def _words(at: Judged, cfg: BudgetConfig) -> list[str]:
    """Of one task: whether LoRA+ gains, what else differs, the controls."""
    verdicts = {way.label: _verdict(i, at, cfg) for i, way in enumerate(WAYS) if i}
    plus = [way for way in WAYS[1:] if not way.control and _is_plus(way)]
    others = [way.label for way in WAYS[1:] if not way.control and not _is_plus(way)]
    task, k = _heading(at.task, cfg), cfg.judge.trials
    said = [f"- {task}: {_gains(plus, verdicts, k)}"]
    means = np.asarray(at.expected.mean)[0]
    if means.max() - means[-1] > margin(at.task, cfg):
        said.append(
            f"- {task}: more trials are worse here, {means.max():.3f} → {means[-1]:.3f} for LoRA "
            "at λ = 1: the rate that is best on one seed lies next to the edge, beyond which "
            "others diverge."
        )
    for verdict in ("better", "worse"):
        if which := [label for label in others if verdicts[label] == verdict]:
            said.append(f"- {task}: {verdict} than LoRA at λ = 1: {', '.join(which)}.")
    for i, way in enumerate(WAYS):
        if way.untuned is not None:
            verdict = better(_of(at.at_once, i), margin(at.task, cfg))
            gained = _difference(i, at.at_once)
            other = "against one trial of LoRA at λ = 1, at a rate of its grid at random"
            said.append(f"- {task}: {way.label}, untuned, {other}: {gained}, {verdict}.")
    said += [_control(way, verdicts[way.label], task) for way in WAYS if _must(way, at.task, cfg)]
    return said


def _is_plus(way: Way) -> bool:
    return all(ARMS[arm].optimizer == PLUS for arm in way.arms)


def _gains(plus: list[Way], verdicts: dict[str, str], k: int) -> str:
    gaining = [way.label for way in plus if verdicts[way.label] == "better"]
    if gaining:
        return f"at {k} trials a gain over LoRA at λ = 1 is shown by {', '.join(gaining)}."
    each = "; ".join(f"{way.label}: {_NO_GAIN[verdicts[way.label]]}" for way in plus)
    return f"**LoRA+ shows no gain** over LoRA at λ = 1 with {k} trials each ({each})."


def _must(way: Way, task: str, cfg: BudgetConfig) -> bool:
    """Whether a control says something here: where B starts at random, A alone learns as well."""
    random = task != TRANSFORMER and cfg.toys[task].init != "A"
    return bool(way.control) and not (way.control == "worse" and random)


def _control(way: Way, verdict: str, task: str) -> str:
    holds = verdict == "worse" if way.control == "worse" else verdict != "better"
    answer = "as it must" if holds else "**the control fails**"
    if not holds and verdict == "undecided":
        answer = "**not shown**"
    return f"- {task}, control: “{way.label}” must be {way.control}: {verdict}, {answer}."


def _csv(results: "Dataset", cfg: BudgetConfig) -> str:
    """All runs."""
    rows = ["task,seed,arm,lambda,log2_eta,score,test_loss"]
    data = results.transpose("task", "seed", "arm", "octave")
    score, loss, ratio, unit = (
        data[name].values for name in ("score", "test_loss", "ratio", "unit")
    )
    names = list(ARMS)
    for at in np.ndindex(score.shape):
        task, arm = cfg.tasks[at[0]], names[at[2]]
        seed = cfg.seeds[at[1]] + cfg.aside * ARMS[arm].aside
        rate = cfg.log2_rates(task, arm)[at[3]] + np.log2(unit[at[:3]], dtype=float)
        values = task, seed, arm, f"{ratio[at[:3]]:g}", f"{rate:g}", score[at], loss[at]
        rows.append(",".join(map(str, values)))
    return "\n".join(rows) + "\n"
