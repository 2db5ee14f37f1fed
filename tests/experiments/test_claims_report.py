"""What is said and drawn of judgements made by hand: how they depend on the constants of the rates,
what they are at small widths, and how far off a prediction must be to be caught.
"""

import dataclasses
import math

import pytest

from experiments.claims import report
from experiments.claims.experiment import ClaimsConfig
from experiments.claims.rows import Judged, Judgement, Record, Row, Way, badness, slope_of
from experiments.lab.command_line import load
from lora_theory.stats.equivalence import compare
from lora_theory.stats.slopes import Slope

PAIRS = [(0.2, 0.2), (0.4, 0.1), (2.0, 2.0)]
MAP = "map, gd, Init[1], (-1, 0)"


@pytest.fixture(scope="module")
def cfg():
    return load("claims", ClaimsConfig)


def row(measured, pair=0, error=1e-4, predicted="0", margin=0.02, verdict="holds", **fields):
    """As the judge makes it, of an exponent at one pair of constants."""
    slope = Slope(math.nan if measured is None else measured, error, 40)
    half, said = slope.half_width(0.95), {None: None, "1/2": 0.5, "0": 0.0, "1": 1.0}[predicted]
    made = Row(verdict, "f: 0 predicted, measured", "where", badness(slope, said, margin, 0.95))
    numbers = {"low": None, "high": None} if measured is None else {
        "low": measured - half, "high": measured + half
    }  # fmt: skip
    given = {
        "setting": MAP,
        "quantity": "f",
        "t": 1,
        "predicted": predicted,
        "measured": measured,
        "error": error,
        "constants": PAIRS[pair],
        "seeds": 40,
        "margin": margin,
        "confidence": 0.95,
    }
    return dataclasses.replace(made, **{**numbers, **given, **fields})


def way(low, high, start, where="n = 2^7 to 2^11", **fields):
    return Way(**{"setting": MAP, "quantity": "f", "t": 1, "predicted": "0", "where": where,
                  "low": low, "high": high, "from_log2_width": start, **fields})  # fmt: skip


def claim(*rows, ways=(), recorded="holds", verdict="holds", control=(), caught="fails"):
    wrong = control or (row(0.5, verdict="fails"),)
    found, wrong = Judged(verdict, None, rows), Judged(caught, None, tuple(wrong))
    return Judgement("c", "said", "source", recorded, "", found, "wrong", wrong, tuple(ways))


# --- In words ---


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([0.004, -0.002, 0.001], "off by -0.002 to +0.004 at 3 pairs of constants"),
        ([0.004, 0.002, 0.003], "off by +0.002 to +0.004 at 3 pairs of constants"),
        ([-1.5, -1.5, -1.5], "off by -1.500 to -1.500 at 3 pairs of constants"),
        ([1e-4, -4e-4, 0.0], "off by less than 0.0005 at 3 pairs of constants"),
        ([None, 0.004, None], "off by +0.004 to +0.004 at 3 pairs of constants"),
    ],
)
def test_how_far_off_an_exponent_is_over_all_constants(cfg, gaps, said):
    rows = [row(gap, pair) for pair, gap in enumerate(gaps)]
    assert report.dependence(claim(*rows), cfg)[0] == said


def test_a_gap_is_measured_less_predicted(cfg):
    rows = [row(0.504, 0, predicted="1/2"), row(-0.003, 1)]
    said = "off by -0.003 to +0.004 at 2 pairs of constants"
    assert report.dependence(claim(*rows), cfg)[0] == said


def test_what_speaks_of_no_exponent_does_not_depend_on_constants(cfg):
    phase = Row("holds", "3 of 3 points agree", "", 0.0)
    landscape = Row(
        "holds", "", "", 0.1, quantity="c_a", predicted="-1", measured=-1.1, margin=0.25
    )
    assert report.dependence(claim(phase, landscape), cfg) == []
    assert len(report.dependence(claim(phase, row(0.0)), cfg)) == 2


def test_an_escape_depends_on_constants_as_exponents_do(cfg):
    rows = [row(1.004, pair, predicted="1", quantity="escape", t=None) for pair in range(3)]
    first, last = report.dependence(claim(*rows), cfg)
    assert first == "off by +0.004 to +0.004 at 3 pairs of constants"
    assert last == "catches what is off by more than 0.024"


@pytest.mark.parametrize(
    ("gaps", "error"), [([0.0, 0.004, -0.002], 1e-3), ([0.01, 0.01, 0.01], 0.0), ([0.0], 1e-3)]
)
def test_a_prediction_that_is_further_off_than_is_said_fails_on_either_side(cfg, gaps, error):
    """And one that is less far off need not, on one of them."""
    rows = [row(gap, pair, error) for pair, gap in enumerate(gaps)]
    reach = report._sharpness(rows)

    def verdicts(off):
        return {
            sign: {compare(slope_of(r), sign * off, margin=0.02, confidence=0.95).verdict
                   for r in rows}
            for sign in (1, -1)
        }  # fmt: skip

    assert verdicts(reach + 1e-9) == {1: {"fails"}, -1: {"fails"}}
    less = verdicts(reach - 1e-9)
    assert less[1] | less[-1] != {"fails"}
    assert (
        report.dependence(claim(*rows), cfg)[-1] == f"catches what is off by more than {reach:.3f}"
    )


def test_a_claim_that_is_recorded_as_failing_is_not_said_to_catch(cfg):
    lines = report.dependence(claim(row(0.5), recorded="fails", verdict="fails"), cfg)
    assert lines == ["off by +0.500 to +0.500 at 1 pairs of constants"]


def test_what_has_no_number_has_no_spread_and_catches_nothing(cfg):
    assert report.dependence(claim(row(None), row(None, 1)), cfg) == []
    zero = row(None, predicted=None, identically_zero=True)
    assert report.dependence(claim(zero), cfg) == []


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        ([way(-0.03, 0.05, 7.0)], "off by -0.03 to +0.05, within ±0.1 there"),
        ([way(-0.3, 0.05, 11.0)], "off by -0.30 to +0.05, within ±0.1 from n = 2^11 on"),
        ([way(0.0, 0.3, 11.0), way(-0.4, 0.0, 19.0), way(0.0, 0.0, 7.0)],
         "off by -0.40 to +0.30, within ±0.1 from n = 2^19 on"),
        ([way(0.0, 0.3, 11.0), way(0.0, 0.9, None)],
         "off by +0.00 to +0.90, not all within ±0.1 by n = 2^63"),
        ([way(0.5, 0.6, 7.0, predicted="1/2")], "off by +0.00 to +0.10, within ±0.1 there"),
        ([way(-0.001, 0.002, 7.0)], "off by less than 0.005, within ±0.1 there"),
        ([way(None, None, 11.0)], "without a slope, within ±0.1 from n = 2^11 on"),
        ([way(None, None, 11.0), way(0.2, 0.3, 7.0)],
         "off by +0.20 to +0.30, within ±0.1 from n = 2^11 on"),
    ],
)  # fmt: skip
def test_what_exponents_are_at_small_widths_and_from_which_on_they_have_arrived(cfg, ways, said):
    lines = report.dependence(claim(row(0.0), ways=ways), cfg)
    assert lines[1] == f"at n = 2^7 to 2^11 {said}"


# --- On the page ---


def cells(line):
    return [cell.strip() for cell in line.strip("|").replace("\\|", "∣").split("|")]


def test_the_table_has_a_column_of_constants_and_small_widths(cfg):
    found = claim(row(0.004), row(-0.002, 1), ways=[way(-0.3, 0.05, 11.0)])
    phase = dataclasses.replace(claim(Row("holds", "3 of 3 |points|", "", 0.0)), id="d")
    page = report.page(Record((found, phase), (), ()), cfg)
    start = next(i for i, line in enumerate(page) if line.startswith("| claim |"))
    header, rule, first, second = map(cells, page[start : start + 4])
    assert header[3] == "constants and small n"
    assert {len(line) for line in (header, rule, first, second)} == {6}
    assert first[3] == "; ".join(report.dependence(found, cfg))
    assert first[3].startswith("off by -0.002 to +0.004 at 2 pairs of constants; at n = 2^7 to")
    assert (second[0], second[3]) == ("`d`", "")


def test_the_same_stands_on_the_terminal(cfg):
    found = claim(row(0.004), row(-0.002, 1), ways=[way(-0.3, 0.05, 11.0)])
    lines = [line.strip() for line in report.table(Record((found,), (), ()), cfg)]
    assert set(report.dependence(found, cfg)) < set(lines)


@pytest.mark.parametrize(
    ("caught", "said"), [("fails", False), ("holds", True), ("undecided", True)]
)
def test_a_control_that_is_not_caught_is_said_so(cfg, caught, said):
    record = Record((claim(row(0.0), caught=caught),), (), ())
    for lines in (report.page(record, cfg), report.table(record, cfg)):
        assert ("NOT CAUGHT" in "\n".join(lines)) is said
    assert report.broken(record) == ["c"] * said
    assert report.summary(record).endswith("only 0 caught" if said else "all caught")


def test_the_page_says_at_which_constants_and_margins_it_judges(cfg):
    text = " ".join(report.page(Record((claim(row(0.0)),), (), ()), cfg))
    assert "9 pairs of constants" in text
    assert "√(k_a k_b) = 0.02, 0.2, 2, each at k_a/k_b = 0.0625, 1, 16" in text
    assert "±0.02 of the predictions for what is solved exactly, ±0.05 for exponents of" in text
    assert "n = 2^1400 to 2^5600, the limit of eq. 3 at 2^256 to 2^295" in text


# --- As it is drawn ---


def test_an_exponent_at_all_constants_is_one_number_in_the_range_of_all():
    rows = [row(0.504, 0, 1e-3, "1/2"), row(0.49, 1, 1e-4, "1/2"), row(0.5, 2, 3e-3, "1/2")]
    drawn, _ = report.numbers(Record((claim(*rows, ways=[way(0.2, 0.7, 19.0)]),), (), ()))
    half = Slope(0.0, 3e-3, 40).half_width(0.95)
    assert drawn.off == pytest.approx(-0.01)  # The furthest, its interval included.
    assert (drawn.low, drawn.high) == pytest.approx((min(-half, -0.01 - half / 30), half))
    assert drawn.small == pytest.approx((-0.3, 0.2))
    assert (drawn.kind, drawn.margin, drawn.verdict, drawn.control) == (
        "exact",
        0.02,
        "holds",
        False,
    )


def test_the_verdict_that_is_drawn_is_that_of_the_furthest():
    rows = [row(0.0), row(0.5, 1, verdict="fails"), row(0.01, 2)]
    drawn, _ = report.numbers(Record((claim(*rows, verdict="fails"),), (), ()))
    assert (drawn.verdict, drawn.off) == ("fails", 0.5)


def test_other_quantities_steps_settings_and_predictions_are_numbers_of_their_own():
    rows = [
        row(0.0),
        row(0.0, quantity="Z_A"),
        row(0.0, t=2),
        row(0.0, setting="map, sign, Init[1], (-1, 0)"),
        row(0.0, 1, predicted="1/2"),
    ]
    drawn = report.numbers(Record((claim(*rows),), (), ()))
    assert len([one for one in drawn if not one.control]) == 5


def test_the_same_exponent_at_the_same_constants_once_more_is_one_of_another_case():
    one = [row(0.0), row(0.01, 1)]
    drawn = report.numbers(Record((claim(*one, row(0.3), row(0.4, 1)),), (), ()))
    assert [number.off for number in drawn if not number.control] == [0.01, 0.4]


@pytest.mark.parametrize(
    ("setting", "quantity", "kind"),
    [
        (MAP, "f", "exact"),
        ("layer_map, sign, Init[1], (-1, 0)", "f", "exact"),
        ("two_layer_limit, gd, both random, (-1, 0)", "f", "exact"),
        ("map, gd, Init[1], c_a + c_b = -1, c_b = -1/4", "escape", "exact"),
        ("rank_map, gd, Init[1], (0, 0), γ = 1", "f", "ranks"),
        ("two_layer, sign, both random, (-1, 0)", "f", "vectors"),
        (None, "c_a", "landscapes"),
        (None, "lost", "carried"),
    ],
)
def test_the_kind_of_a_number_is_how_it_was_measured(setting, quantity, kind):
    rows = (row(0.0, setting=setting, quantity=quantity, verdict="fails"),)
    drawn = report.numbers(Record((claim(*rows, control=rows),), (), ()))
    assert [(one.kind, one.control) for one in drawn] == [(kind, False), (kind, True)]


def test_the_range_at_small_widths_is_that_of_the_exponent_and_not_of_its_control():
    ways = [way(0.2, 0.7, 19.0, t=2), way(-0.1, 0.1, 7.0)]
    found = claim(row(0.0), row(0.0, t=2), ways=ways, control=[row(0.5, verdict="fails")])
    first, second, wrong = report.numbers(Record((found,), (), ()))
    assert (first.small, second.small) == ((-0.1, 0.1), (0.2, 0.7))
    assert all(map(math.isnan, wrong.small))
    (alone, _) = report.numbers(Record((claim(row(0.0), control=found.control.rows),), (), ()))
    assert all(map(math.isnan, alone.small))


def test_of_a_caught_control_is_drawn_what_fails_at_any_pair():
    control = [row(0.01), row(0.5, 1, verdict="fails"), row(0.0, quantity="Z_A")]
    drawn = report.numbers(Record((claim(row(0.0), control=control),), (), ()))
    assert [(one.off, one.verdict) for one in drawn if one.control] == [(0.5, "fails")]


def test_what_is_exactly_zero_is_not_drawn_and_what_has_no_number_is_nan():
    zero = row(None, predicted=None, identically_zero=True)
    drawn = report.numbers(Record((claim(zero, row(None), control=[zero]),), (), ()))
    (one,) = (number for number in drawn if not number.control)
    assert math.isnan(one.off)
    assert math.isnan(one.low)


@pytest.mark.parametrize(
    ("recorded", "verdict", "broken"),
    [
        ("holds", "holds", False),
        ("holds", "undecided", True),
        ("fails", "fails", False),
        ("fails", "holds", True),
    ],
)
def test_a_verdict_that_is_not_the_recorded_one_breaks_the_record(recorded, verdict, broken):
    found = claim(row(0.0), recorded=recorded, verdict=verdict)
    assert report.broken(Record((found,), (), ())) == ["c"] * broken
