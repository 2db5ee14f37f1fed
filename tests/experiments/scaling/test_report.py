"""What is said of a sweep: gaps and borders by name, and nothing that is lost."""

import numpy as np
import pytest
from sweeps import known, small

from experiments.scaling import report
from experiments.scaling.verdicts import Verdict

CFG = small()
# Where what is looked at are words and not intervals: the fewest draws that are allowed.
FEW = small("decide.confidence=0.5", "decide.resamples=20")


def said(data, name="two_layer", cfg=CFG):
    """The report as one text: what is printed and what is written."""
    found = report.of_sweep(name, data, cfg, "width")
    return "\n".join([*found.lines, *found.kept.values()])


def lines_of(text, start):
    return [line.strip() for line in text.splitlines() if line.strip().startswith(start)]


def test_a_run_says_what_decides_and_marks_the_primary_endpoint(finished):
    printed = finished[1]
    assert "gd, both random; n = 8, 16, 32; seeds 6, 6, 4" in printed
    assert printed.count("PRIMARY") == 2
    for start in ("collapse c_a", "collapse c_b"):
        (line,) = lines_of(printed, start)
        assert "test, t = 10" in line
        assert "PRIMARY" in line
    assert "transfer from n = 8" in printed
    assert any(path.name == "two_layer.npz" for path in finished[0].rglob("*.npz"))


def test_another_sweep_has_no_primary_endpoint():
    text = said(known(widths=(16, 32, 64), seeds=(6, 6, 6)), name="two_layer_one_sided", cfg=FEW)
    assert "collapse c_a" in text
    assert "PRIMARY" not in text


def decisive(text, start):
    """The line of one exponent under the judge that decides, of all that is written."""
    return [line for line in lines_of(text, start) if "test, t = 10, median" in line][-1]


@pytest.mark.slow
@pytest.mark.parametrize(("middle", "side"), [((5, 0), "largest η_A"), ((-5, 0), "least η_A")])
def test_a_best_cell_on_the_border_is_no_optimum_and_said(middle, side):
    def line(where):
        data = known((0, 0), widths=(16, 32, 64), seeds=(8, 8, 8), middle=where,
                     noise=0.05, scatter=0.1)  # fmt: skip
        return decisive(said(data), "η_A*")

    found = line(middle)
    assert "no optimum" in found
    assert f"best at the {side} (n = 2^4, 2^5, 2^6)" in found
    assert "undecided" in found
    assert "no optimum" not in line((0, 0))  # Control.


def test_a_width_of_which_all_diverged_is_a_named_gap_and_the_others_stay():
    def gap(losses):
        losses = losses.copy()
        losses[1] = np.nan
        return losses

    widths, seeds = (16, 32, 64, 128), (8, 8, 8, 8)
    whole, broken = known(widths=widths, seeds=seeds), known(widths=widths, seeds=seeds, change=gap)
    text = said(broken, cfg=FEW)
    for start in ("η_A*", "η_B*", "λ*", "shared η*"):
        assert "n = 2^5 left out: all diverged" in decisive(text, start)
    for start in ("collapse c_a", "collapse c_b"):
        assert "n = 2^5 left out: all diverged" in lines_of(text, start)[-1]
    assert "n = 16, 32, 64, 128" in text
    unbroken = said(whole, cfg=FEW)
    assert "left out" not in unbroken
    # Nothing else is lost: every width that trained has the optimum that it had.
    rows = []
    for printed in (unbroken, text):
        (row,) = (x for x in lines_of(printed, "η_A*") if "t = " not in x and "[" not in x)
        rows.append(row.replace("η_A*", "").split(")"))
    assert [cell for k, cell in enumerate(rows[0]) if k != 1] == [
        cell for k, cell in enumerate(rows[1]) if k != 1
    ]
    assert "nan" in rows[1][1]


def test_a_sweep_of_which_everything_diverged_is_reported_and_not_a_traceback():
    text = said(known(widths=(16, 32, 64), seeds=(6, 6, 6), change=lambda at: at * np.nan), cfg=FEW)
    for line in lines_of(text, "η_A*"):
        if "t = 10" in line:
            assert "no fit" in line
            assert "left out: all diverged" in line
    assert "holds" not in text
    assert "fails" not in text


def test_two_widths_have_no_fit_and_say_so():
    text = said(known(widths=(16, 64), seeds=(6, 6)), cfg=FEW)
    lines = [line for line in lines_of(text, "η_A*") if "t = 10" in line]
    assert lines
    assert all("2 widths, a fit needs 3" in line for line in lines)


def test_a_line_alone_is_reported():
    text = said(
        known((-0.5, -0.5), plane=False, optimizer="sign", init="A"), name="layer_sign", cfg=FEW
    )
    assert "shared η*" in text
    assert "η_A ∝ 1/n" not in text
    assert "gain of two rates" not in text


@pytest.mark.parametrize("outcome", ["holds", "fails", "undecided", ""])
def test_a_verdict_is_one_line(outcome):
    predicted = None if outcome == "" else -1.0
    v = Verdict("gd", "λ*", "test, t = 10", -1.02, -1.1, -0.9, predicted, outcome, "note")
    line = report.verdict_line(v)
    assert "\n" not in line
    assert "-1.02 [-1.10, -0.90]" in line
    assert line.split()[-1] == "note"
    assert outcome in line
    assert ("-1.00" in line) == bool(outcome)
    assert "PRIMARY" not in line
