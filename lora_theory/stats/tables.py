"""Log-magnitudes of many quantities over widths, seeds and steps; exponents beside predictions.

Only numbers here: no model and no JAX; predictions are the caller's.
"""

import dataclasses
import functools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lora_theory import arguments
from lora_theory.stats.equivalence import Comparison, compare
from lora_theory.stats.slopes import Slope, Statistic, fit, of_one_seed, successive_slope

Predicted = Mapping[str, float | int | Sequence[float | int | None] | None]
_WORDS = {"holds": "pass", "fails": "fail", "undecided": "undecided"}


@dataclasses.dataclass(frozen=True)
class Table:
    """`log2 |v|` of every quantity v, width, seed and step.

    Attributes:
        log2_widths: (W,) log2 n, ascending.
        steps: (T,) the values of t.
        logs: quantity -> (W, S, T) `log2 |v|`: −inf where v is exactly 0, inf where it overflowed,
            NaN where rounding hides it.
        predicted: quantity -> its exponent, at all steps or in a row one for each step: −inf for
            what is identically zero, None where nothing is predicted.
        margin: exponents this close to the predicted ones are taken for equal.
        confidence: of the intervals of all predictions together (Bonferroni).
        seeds: (S,) which they are; 0, 1, … if it is not said.

    Raises:
        ValueError: predictions of no quantity, or that are no exponents.

    >>> logs = np.array([6.0, 7.0, 8.0])[:, None, None] + np.array([0.0, 0.02])[:, None]
    >>> table = Table(np.array([6.0, 7.0, 8.0]), np.array([1]), {"f": logs}, {"f": 1.0})
    >>> table.verdict("f", 1).verdict
    'holds'
    """

    log2_widths: np.ndarray
    steps: np.ndarray
    logs: Mapping[str, np.ndarray]
    predicted: Predicted = dataclasses.field(default_factory=dict)
    margin: float = 0.1
    confidence: float = 0.95
    seeds: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_predicted(self.predicted, self.logs, len(self.steps))
        arguments.positive("margin", self.margin)
        arguments.between("confidence", self.confidence, 0, 1)

    def columns(self) -> dict[str, np.ndarray]:
        """The same as one tidy table: a row per width, seed, t and quantity."""
        widths, seeds, steps = next(iter(self.logs.values())).shape
        w, s, t = (i.ravel() for i in np.indices((widths, seeds, steps)))
        count = len(self.logs)
        return {
            "log2_width": np.tile(self.log2_widths[w], count),
            "seed": np.tile(np.asarray(self.seeds or range(seeds))[s], count),
            "t": np.tile(self.steps[t], count),
            "quantity": np.repeat(list(self.logs), w.size),
            "log2_magnitude": np.concatenate([logs.ravel() for logs in self.logs.values()]),
        }

    def slope(self, quantity: str, t: int, statistic: Statistic = "mean") -> Slope:
        """The exponent of one quantity at step t; see `fit`.

        Raises:
            ValueError: an unknown quantity or step, or too few widths or seeds.
        """
        return fit(self.log2_widths, self._at(quantity, t), statistic)

    def successive(self, quantity: str, t: int) -> list[Slope]:
        """Slopes between neighbouring widths: a crossover is seen approaching its limit."""
        logs = self._at(quantity, t)
        pairs = range(len(self.log2_widths) - 1)
        return [successive_slope(self.log2_widths[i : i + 2], logs[i : i + 2]) for i in pairs]

    def verdict(self, quantity: str, t: int, statistic: Statistic = "mean") -> Comparison | None:
        """Whether the exponent is the predicted one; None where nothing is predicted.

        Raises:
            ValueError: an unknown quantity or step, or too few widths or seeds.
        """
        slope, exponent = self.slope(quantity, t, statistic), self._predicted(quantity, t)
        if exponent is None:
            return None
        known = None if math.isinf(exponent) else exponent
        one = 1 - (1 - self.confidence) / self._predictions
        return compare(slope, known, margin=self.margin, confidence=one)

    def summary(self, statistic: Statistic = "mean") -> str:
        """Slopes ± standard errors: a line per quantity, a column per step.

        Beside each prediction stands pass (the interval lies within the margin of it), fail
        (outside) or undecided. A single seed has slopes without errors, which decide nothing.
        """
        seeds = next(iter(self.logs.values())).shape[1]
        n = [f"2^{w:g}" for w in (self.log2_widths[0], self.log2_widths[-1])]
        spread = "1 seed: no error" if seeds == 1 else f"{seeds} seeds, ± standard error"
        lines = [f"exponents in n = {n[0]} … {n[1]}, {spread}"]
        if self._predictions and seeds > 1:
            lines.append(
                f"pass: the {self.confidence:.0%} interval (Bonferroni over {self._predictions} "
                f"predictions) lies within ±{self.margin:g} of the prediction; fail: outside"
            )
        rows = [["", *(f"t = {t}" for t in self.steps)]]
        for quantity in self.logs:
            rows.append([quantity, *(self._cell(quantity, int(t), statistic) for t in self.steps)])
        name = max(len(row[0]) for row in rows)
        wide = max(18, *(len(cell) for row in rows for cell in row[1:]))
        for first, *cells in rows:
            lines.append(f"{first:<{name}} " + " ".join(f"{cell:>{wide}}" for cell in cells))
        return "\n".join(lines)

    def _cell(self, quantity: str, t: int, statistic: Statistic) -> str:
        exponent, logs = self._predicted(quantity, t), self._at(quantity, t)
        if logs.shape[1] == 1:
            slope, verdict = of_one_seed(self.log2_widths, logs[:, 0]), "undecided"
        else:
            slope = str(self.slope(quantity, t, statistic))
            compared = self.verdict(quantity, t, statistic)
            verdict = compared.verdict if compared is not None else ""
        if exponent is None:
            return slope
        wanted = "zero" if math.isinf(exponent) else f"{exponent:g}"
        return f"{slope} ({wanted}: {_WORDS[verdict]})"

    def _predicted(self, quantity: str, t: int) -> float | None:
        given = self.predicted.get(quantity)
        if isinstance(given, Sequence):
            return given[int(np.flatnonzero(self.steps == t)[0])]
        return given

    @functools.cached_property
    def _predictions(self) -> int:
        each = (self._predicted(name, int(t)) for name in self.predicted for t in self.steps)
        return sum(exponent is not None for exponent in each)

    def _at(self, quantity: str, t: int) -> np.ndarray:
        if quantity not in self.logs:
            raise ValueError(f"quantity: must be one of {', '.join(self.logs)} (got {quantity!r})")
        if t not in self.steps:
            raise ValueError(f"t: must be one of {', '.join(map(str, self.steps))} (got {t})")
        return self.logs[quantity][..., int(np.flatnonzero(self.steps == t)[0])]


def check_predicted(predicted: Predicted, quantities: Iterable[str], steps: int) -> None:
    """Refuse predictions of what is not measured.

    Args:
        predicted: as `Table` has it.
        quantities: what is measured.
        steps: T.

    Raises:
        ValueError: an unknown quantity, no exponent, or not one for each step.
    """
    known = list(quantities)
    for name, given in predicted.items():
        if name not in known:
            raise ValueError(f"predicted: must be of {', '.join(known)} (got {name!r})")
        row = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if row is given and len(row) != steps:
            raise ValueError(
                f"predicted: {name} must have one exponent, or one for each of {steps} steps "
                f"(got {len(row)})"
            )
        for exponent in row:
            if exponent is not None and not _is_exponent(exponent):
                raise ValueError(
                    f"predicted: {name} must be exponents, −inf for zero or None (got {exponent!r})"
                )


def _is_exponent(value: Any) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and (math.isfinite(value) or value == -math.inf)
