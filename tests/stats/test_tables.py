"""Tables of sizes: tidy, with exponents, and verdicts beside what is predicted."""

import math

import numpy as np
import pytest

from lora_theory.stats.tables import Table

WIDTHS = np.array([6.0, 7.0, 8.0, 9.0, 10.0])


def table():
    logs = np.arange(5 * 3 * 2.0).reshape(5, 3, 2)
    return Table(WIDTHS, np.array([1, 2]), {"f": logs, "B": logs - 100})


def test_table_is_tidy():
    columns = table().columns()
    assert {len(column) for column in columns.values()} == {60}
    row = [
        i
        for i in range(60)
        if columns["quantity"][i] == "B"
        and columns["t"][i] == 2
        and columns["seed"][i] == 1
        and columns["log2_width"][i] == 8.0
    ]
    assert columns["log2_magnitude"][row] == table().logs["B"][2, 1, 1]


def test_slopes_of_a_table():
    slope = table().slope("f", 1)
    assert (slope.value, slope.error, slope.seeds) == (pytest.approx(6), pytest.approx(0), 3)
    assert [s.value for s in table().successive("f", 2)] == pytest.approx([6.0] * 4)
    assert "+6.000 ± 0.000" in table().summary()
    with pytest.raises(ValueError, match=r"quantity: must be one of f, B \(got 'C'\)"):
        table().slope("C", 1)
    with pytest.raises(ValueError, match=r"t: must be one of 1, 2 \(got 7\)"):
        table().slope("f", 7)


def known(slope, error, seeds=40):
    """Logarithms (W, S, 1) with this exponent and this standard error."""
    spread = np.linspace(-1, 1, seeds)
    spread *= error * math.sqrt(seeds) / spread.std(ddof=1)
    return ((slope + spread) * WIDTHS[:, None])[..., None]


ZERO = np.full((5, 40, 1), -np.inf)


@pytest.mark.parametrize(
    ("logs", "predicted", "word"),
    [
        (known(-1.0, 0.01), -1.0, "pass"),
        (known(-1.0, 0.01), -1, "pass"),
        (known(-1.0, 0.01), -0.5, "fail"),
        (known(-1.0, 0.01), -1.1, "undecided"),
        (known(-1.0, 0.2), -1.0, "undecided"),
        (known(-1.0, 0.01), -math.inf, "fail"),
        (ZERO, -math.inf, "pass"),
        (ZERO, -1.0, "fail"),
        (np.full((5, 40, 1), np.nan), -1.0, "undecided"),
        (np.full((5, 40, 1), np.inf), -1.0, "undecided"),
    ],
)
@pytest.mark.parametrize("row", [False, True])
def test_verdicts_stand_beside_what_is_predicted(logs, predicted, word, row):
    given = [predicted] if row else predicted
    found = Table(WIDTHS, np.array([1]), {"f": logs, "B": logs}, {"f": given})
    lines = found.summary().splitlines()
    assert lines[-2].startswith("f ")
    assert lines[-2].endswith(f": {word})")
    assert not lines[-1].endswith(")")  # Of B nothing is predicted.
    assert found.verdict("B", 1) is None


def test_one_seed_has_slopes_without_errors_that_decide_nothing():
    logs = {"f": -WIDTHS[:, None, None], "B": ZERO[:, :1], "A": np.full((5, 1, 1), np.nan)}
    found = Table(WIDTHS, np.array([1]), logs, {"f": -1.0}).summary()
    head, _, f, b, a = found.splitlines()
    assert head.endswith(", 1 seed: no error")
    assert f.endswith(" -1.000 (-1: undecided)")
    assert b.endswith(" identically zero")
    assert a.endswith(" not measured (rounding)")
    assert "±" not in found
    assert "nan" not in found
    short = Table(WIDTHS[:2], np.array([1]), {"f": np.ones((2, 1, 1))})
    with pytest.raises(ValueError, match="widths: a slope needs at least three"):
        short.summary()


def test_where_nothing_is_predicted_nothing_is_judged():
    assert "pass" not in Table(WIDTHS, np.array([1]), {"f": known(-1, 0.01)}).summary()


def test_the_confidence_is_that_of_all_predictions_together():
    """An interval that decides alone does not beside a hundred others."""
    logs = {f"f{i}": known(-1.0, 0.04) for i in range(100)}
    alone = Table(WIDTHS, np.array([1]), logs, {"f0": -1.0})
    together = Table(WIDTHS, np.array([1]), logs, dict.fromkeys(logs, -1.0))
    assert (alone.verdict("f0", 1).verdict, together.verdict("f0", 1).verdict) == (
        "holds",
        "undecided",
    )


def test_a_row_has_one_prediction_for_each_step():
    logs = np.concatenate([ZERO, known(-1.0, 0.01)], axis=2)
    found = Table(WIDTHS, np.array([1, 2]), {"f": logs}, {"f": [-math.inf, -1.0]})
    assert [found.verdict("f", t).verdict for t in (1, 2)] == ["holds", "holds"]
    some = Table(WIDTHS, np.array([1, 2]), {"f": logs}, {"f": [None, -1.0]})
    assert some.verdict("f", 1) is None


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ({"C": 0.0}, "predicted: must be of f, B .got 'C'."),
        ({"f": [0.0]}, "predicted: f must have one exponent, or one for each of 2 steps"),
        ({"f": "0"}, "predicted: f must be exponents"),
        ({"f": math.nan}, "predicted: f must be exponents"),
        ({"f": math.inf}, "predicted: f must be exponents"),
        ({"f": True}, "predicted: f must be exponents"),
    ],
)
def test_predictions_that_are_none_are_refused(predicted, message):
    logs = table().logs
    with pytest.raises(ValueError, match=message):
        Table(WIDTHS, np.array([1, 2]), logs, predicted)
