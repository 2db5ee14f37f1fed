"""Figure 1 says what it is given of each training, and marks what grows and what vanishes."""

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
