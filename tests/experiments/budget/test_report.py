"""What is said of the budgets: tables, verdicts in words, controls that can fail."""

import re

import numpy as np
import pytest
import xarray as xr

from experiments.budget.report import confidence, judged, lines, report
from experiments.budget.ways import ARMS, WAYS

SEEDS = 24
NAMES = list(ARMS)


def data(cfg, *better, noise=0.002):
    """Scores that are 0.5 at the lower rate and 0.3 at the other, but for (task, arm) -> score."""
    cells = (len(cfg.tasks), SEEDS, len(ARMS), 2)
    score = noise * np.random.default_rng(0).random(cells) + [0.5, 0.3]
    at_rest = [task for task in cfg.tasks if task != "two_layer"]
    for task, arm, value in [*((task, "b_rests", 0.1) for task in at_rest), *better]:
        score[cfg.tasks.index(task), :, NAMES.index(arm)] += value - 0.5
    score = np.clip(score, 0, 1)
    loss = np.where(score > 0, 0.5 * 10.0**-score, np.nan)
    ratio = np.array([8.0 if arm.ratio is None else arm.ratio for arm in ARMS.values()])
    seconds = np.arange(1.0, 1 + len(ARMS))
    each = ("task", "seed", "arm")
    return xr.Dataset(
        {
            "score": ((*each, "octave"), score.astype("float32")),
            "test_loss": ((*each, "octave"), loss.astype("float32")),
            "ratio": (each, np.broadcast_to(ratio, cells[:3])),
            "unit": (each, np.ones(cells[:3])),
            "seconds": (each, np.broadcast_to(seconds, cells[:3])),
        },
        {"task": cfg.tasks, "seed": list(range(SEEDS)), "arm": NAMES, "octave": [0, 1]},
    )


@pytest.fixture(scope="module")
def cfg(small):
    return small(f"seeds={SEEDS}")


def said(cfg, *better, **options):
    results = data(cfg, *better, **options)
    return lines([judged(results, task, cfg) for task in cfg.tasks], 0, cfg)


def rows(found, section):
    """label -> cells, of one of the tables."""
    tables = "\n".join(found).split("\n## ")
    (table,) = [part for part in tables if part.startswith(section)]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in cells}


def test_a_row_has_the_expected_scores_of_the_best_of_k(cfg):
    table = rows(said(cfg, noise=0.0), "Transformer")
    assert list(table)[1:] == [way.label for way in WAYS]
    # One of two at random; from two on always the better.
    assert table["scaled GD"][:6] == [
        "2",
        "2^-5, at the border",
        "0.400",
        "0.500",
        "0.500",
        "0.500",
    ]
    assert table["LoRA+, λ tuned too"][0] == "8"


def test_a_difference_beyond_the_margin_is_said(cfg):
    table = rows(said(cfg, ("transformer", "full", 0.8)), "Transformer")
    assert table["full fine-tuning"][6].startswith("+0.300 [+0.2")
    verdicts = {label: cells[7] for label, cells in table.items()}
    assert verdicts["full fine-tuning"] == "**better**"
    assert verdicts["B rests (λ = 0)"] == "**worse**"
    assert verdicts["LoRA-FA"] == "**no difference beyond the margin**"


def test_no_gain_of_lora_plus_is_said_in_words(cfg):
    words = "\n".join(said(cfg))
    assert words.count("**LoRA+ shows no gain**") == 3
    assert "there is none beyond the margin" in words


def test_a_gain_of_lora_plus_is_said_of_the_task_that_has_it(cfg):
    words = said(cfg, ("transformer", "plus_16", 0.8))
    (line,) = [line for line in words if "a gain over LoRA at λ = 1 is shown" in line]
    assert line.startswith("- Transformer")
    assert "LoRA+, λ = 16" in line
    assert sum("**LoRA+ shows no gain**" in line for line in words) == 2


def test_controls_are_said_where_they_can_tell(cfg):
    controls = [line for line in said(cfg) if ", control: " in line]
    assert len(controls) == 5  # With both factors random, A alone learns.
    assert all(line.endswith("as it must.") for line in controls)


@pytest.mark.parametrize(
    ("arm", "value"), [("b_rests", 0.8), ("b_rests", 0.5), ("aside", 0.8)]
)  # fmt: skip
def test_a_control_that_fails_is_said(cfg, arm, value):
    failing = [line for line in said(cfg, ("transformer", arm, value + 0.4 * (arm == "b_rests")))
               if "**the control fails**" in line]  # fmt: skip
    assert len(failing) == 1


def test_seconds_are_in_units_of_lora_and_means_over_arms(cfg):
    table = rows(said(cfg), "Transformer")
    assert table["LoRA, λ = 1"][-1] == "1.00"
    assert table["LoRA+, λ tuned too"][-1] == "2.50"
    assert "seconds a step" not in rows(said(cfg), "Two layers")["way"]


def test_what_the_output_0_scores_is_said(cfg):
    """Losses begin at 0.5 here; the mean of y² is (1 − exp(−2/5)) / 2."""
    expected = np.log10(0.5 / ((1 - np.exp(-2 / 5)) / 2))
    assert f"The constant 0 would score {expected:.2f}." in "\n".join(said(cfg))


def test_a_ratio_that_varies_with_the_seed_is_said(cfg):
    results = data(cfg)
    where = {"arm": NAMES.index("plus_16"), "seed": 0}
    results["ratio"] = results.ratio.copy()
    results.ratio[where] = 2.0
    table = rows(lines([judged(results, task, cfg) for task in cfg.tasks], 0, cfg), "Transformer")
    assert table["LoRA+, λ = 16"][1].startswith("λ = 16 (2 to 16), 2^-11")


def test_suggested_rates_untuned_are_one_setting(cfg):
    """Of a grid of the multiples 1/2 and 1, the first of which scores .5 here and the other .3."""
    table = rows(said(cfg, noise=0.0), "Transformer")
    for label, power, there in (("suggested", 0, "0.300"), ("half of these", -1, "0.500")):
        settings, where, *scores = table[f"LoRA+, {label} rates"]
        assert settings == "1"
        assert where.startswith(f"2^{power} of what is suggested")
        assert set(scores[:4]) == {there}
    assert table["LoRA+, suggested λ"][0] == "2"
    assert table["LoRA+, suggested λ"][3] == "0.500"


def test_suggested_rates_are_compared_with_one_trial_at_random(cfg):
    """Of rates that score .5 and .3 the better one gains .1 over one at random."""
    found = "\n".join(said(cfg, noise=0.0))
    for gained in ("+0.100 [+0.100, +0.100], better", "−0.100 [−0.100, −0.100], worse"):
        assert found.count(f"at a rate of its grid at random: {gained}.") == 3


def test_all_comparisons_share_the_error(cfg):
    assert 1 - confidence(cfg) == pytest.approx(0.05 / (len(WAYS) - 1))


def test_a_report_has_all_runs_a_table_and_a_picture(cfg):
    found = report(data(cfg, ("two_layer", "full", 0.8)), cfg)
    assert set(found.figures) == {"budget"}
    assert found.kept["budget.md"].startswith("# Ways to train at equal budgets of tuning\n\n")
    table = found.texts["budget.csv"].splitlines()
    assert table[0] == "task,seed,arm,lambda,log2_eta,score,test_loss"
    assert len(table) == 1 + 3 * SEEDS * len(ARMS) * 2
    assert re.fullmatch(r"transformer,0,lora,1,-9,0\.50\d*,0\.15\d*", table[1])
    assert table[-1].startswith("feature_layer,523,aside,1,-9,")


def test_trials_that_make_it_worse_are_said(cfg):
    """The best rate of each seed is the other one's worst."""
    results = data(cfg, noise=0.0)
    at = results.score.values[1, :, NAMES.index("lora")]
    at[:] = 0.6
    at[np.arange(SEEDS), np.arange(SEEDS) % 2] = 0.9
    at[np.arange(SEEDS), 1 - np.arange(SEEDS) % 2] = 0.1
    words = lines([judged(results, task, cfg) for task in cfg.tasks], 0, cfg)
    (line,) = [line for line in words if "more trials are worse here" in line]
    assert line.startswith("- Two layers")
    assert "0.500 → 0.100" in line
