"""Two ways to train, each at its own best setting: which has the higher score, and by how much.

A score is better the higher it is, as an accuracy; what a diverged run counts is the caller's.
"""

from typing import NamedTuple

import numpy as np

from lora_theory import arguments
from lora_theory.stats.intervals import (
    CONFIDENCE,
    Interval,
    QuantileInterval,
    crossed,
    quantile,
    quantile_interval,
)
from lora_theory.stats.numbers import numbers
from lora_theory.terms import Outcome


class Tuned(NamedTuple):
    """The best of a row of settings.

    Attributes:
        place: of it, the first of several equals.
        score: the median over seeds there, and its interval; all seeds chose it, so it flatters.
        border: whether it is the first or the last of the row, and a better one may lie beyond.
    """

    place: int
    score: QuantileInterval
    border: bool


def tuned(scores: np.ndarray) -> Tuned:
    """The setting with the highest median over seeds, of scores (S, G).

    >>> found = tuned(np.array([[0.1, 0.8, 0.3], [0.2, 0.6, 0.4], [0.1, 0.7, 0.9]]))
    >>> found.place, float(found.score.value), found.border
    (1, 0.7, False)
    """
    scores = _scores("scores", scores)
    place = _best(scores)
    return Tuned(place, quantile_interval(scores[:, place]), place in (0, scores.shape[1] - 1))


def gain(
    scores: np.ndarray,
    others: np.ndarray,
    *,
    resamples: int = 2000,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Mean over seeds of score − other, each at the setting that the other half of seeds chose.

    A setting is chosen by the median over one half of the seeds, on either side by itself, and the
    two are compared on the other half, seed by seed; then the halves change places (`crossed`).

    Args:
        scores: (S, G) of the settings of one way to train.
        others: (S, H) of the settings of the other, the same seeds.
        resamples: draws of seeds for the interval.
        confidence: of the interval.

    Raises:
        ValueError: fewer than two seeds, or of each side others.

    >>> high, low = np.full((6, 2), [0.2, 0.9]), np.full((6, 3), [0.1, 0.5, 0.4])
    >>> [round(float(end), 2) for end in gain(high, low, resamples=20)]
    [0.4, 0.4, 0.4]
    """
    scores, others = _scores("scores", scores), _scores("others", others)
    if len(scores) != len(others):
        raise ValueError(f"others: must have the {len(scores)} seeds of scores (got {len(others)})")

    def differences(chooses: np.ndarray, compares: np.ndarray) -> np.ndarray:
        one, other = _best(scores[chooses]), _best(others[chooses])
        return np.asarray(scores[compares, one] - others[compares, other])

    return crossed(differences, len(scores), resamples=resamples, confidence=confidence)


def gains(found: Interval, margin: float) -> Outcome:
    """Whether a gain is worth having: more than the margin.

    holds: the whole interval lies above the margin; fails: none of it does; undecided: neither,
    or there is no interval.

    >>> ends = [(0.02, 0.09), (-0.05, 0.01), (0.005, 0.09), (np.nan, np.nan)]
    >>> [gains(Interval(*map(np.array, (0.0, *end))), 0.01) for end in ends]
    ['holds', 'fails', 'undecided', 'undecided']
    """
    margin = arguments.at_least("margin", margin, 0)
    if found.low > margin:
        return "holds"
    return "fails" if found.high <= margin else "undecided"


def _best(scores: np.ndarray) -> int:
    return int(np.argmax(quantile(scores)))


def _scores(name: str, given: np.ndarray) -> np.ndarray:
    scores = numbers(name, given)
    if scores.ndim != 2 or not scores.size:
        raise arguments.refusal(name, "of shape (seeds, settings)", scores)
    return scores
