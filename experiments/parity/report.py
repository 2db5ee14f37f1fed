"""The comparison of both sides, in lines and a picture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.parity import setting
from experiments.parity.setting import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REFERENCE = "LoRA+"


class Compared(NamedTuple):
    """A run of ours beside one of PyTorch.

    Attributes:
        name: in words.
        losses: how far the losses are apart at every step, relative to PyTorch's.
        moved: how far the ways that parameters moved are apart, the largest of them.
        alike: whether they should agree; a control should not.
    """

    name: str
    losses: np.ndarray
    moved: float
    alike: bool

    @property
    def as_wanted(self) -> bool:
        """Whether both agree within the tolerance, of a control whether the losses do not."""
        if self.alike:
            return bool(max(self.losses.max(), self.moved) <= setting.TOLERANCE)
        return bool(self.losses.max() > setting.TOLERANCE)


def compared(official: Mapping[str, Run]) -> list[Compared]:
    """Ours beside PyTorch's, each run and then each control."""
    from experiments.parity import ours

    rows = []
    for alike, told in ((True, setting.RUNS), (False, setting.CONTROLS)):
        for name, one in told.items():
            other = official[name if alike else _REFERENCE]
            rows.append(Compared(name, *setting.apart(ours.train(one), other), alike))
    return rows


def single(official: Mapping[str, Run]) -> Compared:
    """Ours in float32 beside PyTorch's in float64."""
    from experiments.parity import ours

    run = ours.train(setting.LORA_PLUS, double=False)
    return Compared("LoRA+ in float32", *setting.apart(run, official[_REFERENCE]), True)


def lines(rows: list[Compared], versions: Mapping[str, str]) -> list[str]:
    """The table."""
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    said = [
        f"Ours beside {words}: {setting.STEPS} steps in float64, tolerance {setting.TOLERANCE:g}.",
        "",
        "| run | losses apart | moves apart | |",
        "|---|---|---|---|",
    ]
    for row in rows:
        verdict = "agrees" if row.alike else "told apart, as it should be"
        verdict = verdict if row.as_wanted else "**differs**" if row.alike else "**not told apart**"
        name = row.name if row.alike else f"control: {row.name}"
        said.append(f"| {name} | {row.losses.max():.1e} | {row.moved:.1e} | {verdict} |")
    return said


def picture(rows: list[Compared], versions: Mapping[str, str]) -> "Figure":
    """The largest differences so far, over steps."""
    from lora_theory.plots.parity import parity_figure

    alike, wrong = (
        {row.name: np.maximum.accumulate(row.losses) for row in rows if row.alike is kind}
        for kind in (True, False)
    )
    title = f"lora_plus beside PEFT {versions['peft']} on PyTorch, float64, {setting.STEPS} steps"
    return parity_figure(alike, wrong, tolerance=setting.TOLERANCE, title=title)
