"""Figure 1 says what it is given of each training, and marks what grows and what vanishes."""

import dataclasses
from fractions import Fraction

import pytest
from plots.readable import assert_readable

from lora_theory.plots.records import DrawnTraining
from lora_theory.plots.schematic import schematic
from lora_theory.plots.style import save

HALF = Fraction(1, 2)


def training(method="LoRA", rates=(-HALF, -HALF), verdict="efficient", **sizes):
    eta = {"eta_A": Fraction(rates[0]), "eta_B": Fraction(rates[1])}
    rest = {name: Fraction(0) for name in ("delta1", "delta2", "Z_A")}
    return DrawnTraining(method, "A", eta | rest | sizes, verdict)


def texts(*trainings):
    (ax,) = schematic(trainings).axes
    return [text.get_text() for text in ax.texts]


def marks(*trainings):
    return [text for text in texts(*trainings) if r"\,\blacktriangle" in text]


def test_a_training_in_order_bears_no_mark():
    assert marks(training()) == []


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"Z_A": HALF}, r"$\Theta(n^{1/2})\,\blacktriangle$"),
        ({"delta2": Fraction(-1)}, r"$\Theta(1/n)\,\blacktriangledown$"),
        ({"delta1": None}, r"$0\,\blacktriangledown$"),
    ],
)
def test_what_grows_or_vanishes_is_marked(sizes, said):
    assert marks(training(**sizes)) == [said]
    (ax,) = schematic([training(**sizes)]).axes
    assert len(ax.patches) == len(schematic([training()]).axes[0].patches) + 1


def test_the_ratio_of_rates_is_that_of_the_exponents():
    assert r"LoRA+: $\lambda = \Theta(n)$" in texts(training("LoRA+", (-1, 0)))
    assert r"LoRA+: $\lambda = \Theta(n^{3/2})$" in texts(training("LoRA+", (-1, HALF)))
    assert r"LoRA: best $\eta_A = \eta_B$" in texts(training())


@pytest.mark.parametrize(
    ("rates", "said"),
    [((None, -HALF), "$A$ frozen"), ((-1, None), "$B$ frozen"), ((None, None), "$A$, $B$ frozen")],
)
def test_a_frozen_factor_has_no_ratio(rates, said):
    frozen = training("LoRA+", (-1, 0))
    eta = dict(zip(("eta_A", "eta_B"), rates, strict=True))
    shown = texts(dataclasses.replace(frozen, sizes=frozen.sizes | eta))
    assert f"LoRA+: {said}" in shown
    assert not any("lambda" in words for words in shown)


def test_unlike_ratios_within_a_method_are_refused():
    with pytest.raises(ValueError, match=r"trainings: must be of one ratio .* LoRA\+ .*n\^"):
        schematic([training("LoRA+", (-1, 0)), training("LoRA+", (-1, HALF))])
    both = [training("LoRA+", (-1, 0)), training("LoRA+", (-HALF, HALF))]
    assert r"LoRA+: $\lambda = \Theta(n)$" in texts(*both)


@pytest.mark.parametrize("count", [0, 5])
def test_columns_without_room_are_refused(count):
    with pytest.raises(ValueError, match=f"trainings: must be from 1 to 4 .got {count}."):
        schematic([training()] * count)


ROWS = {
    "eta_B": r"$\eta_B$",
    "delta2": r"$B$'s part of $\Delta Z_B$",
    "Z_A": "$Z_A = A Z$",
    "delta1": r"$A$'s part of $\Delta Z_B$",
    "eta_A": r"$\eta_A$",
}


@pytest.mark.parametrize("name", ROWS)
def test_the_words_of_a_row_are_those_of_its_quantity(name):
    """Beside them stands its size, and a rate or part of B is higher up than that of A."""
    (ax,) = schematic([training("x", **{name: Fraction(7, 3)})]).axes
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    (said,) = [y for words, y in heights.items() if "7/3" in words and "lambda" not in words]
    assert said == heights[ROWS[name]]


def test_the_verdict_stands_below_its_column():
    assert "A learns\nalone" in texts(training(verdict="A alone"))


def test_all_text_can_be_read_on_paper_and_same_figure_same_bytes(tmp_path):
    columns = [training(), training(), training("LoRA+", (-1, 0)), training("LoRA+", (-1, 0))]
    assert_readable(schematic(columns))
    first, again = (
        [path.read_bytes() for path in save(schematic(columns), tmp_path / name, dpi=40)]
        for name in "ab"
    )
    assert first == again
