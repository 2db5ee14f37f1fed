"""Ways to train, each at its own best setting or at the best of k trials: which has the higher
score, and by how much.

A score is better the higher it is, as an accuracy; what a diverged run counts is the caller's.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import gammaln

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
    median: bool = False,
    resamples: int = 2000,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Mean over seeds of score − other, each at the setting that the other half of seeds chose.

    A setting is chosen by the median over one half of the seeds, on either side by itself, and the
    two are compared on the other half, seed by seed; then the halves change places (`crossed`).

    Args:
        scores: (S, G) of the settings of one way to train.
        others: (S, H) of the settings of the other, the same seeds.
        median: over seeds in place of the mean: what most seeds gain, whatever a few lose.
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

    options: Any = {"statistic": _median_last} if median else {}
    return crossed(differences, len(scores), resamples=resamples, confidence=confidence, **options)


def _median_last(values: np.ndarray) -> np.ndarray:
    return quantile(np.moveaxis(values, -1, 0))


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


def chances(scores: np.ndarray, trials: Sequence[int]) -> np.ndarray:
    """How likely each setting is the best of k that are drawn without replacement.

    Of G settings in order of their score, those in places i + 1 … j being equal, each of these has

        (C(j, k) − C(i, k)) / ((j − i) C(G, k)) ;

    equal ones share. From k = G on all are drawn.

    Args:
        scores: (S, G), seeds first; each seed orders the settings by itself.
        trials: k, each of at least 1.

    Returns:
        (S, K, G), of which each row over G sums to 1.

    >>> chances(np.array([[0.1, 0.9, 0.5]]), [1, 2, 3]).round(3).tolist()
    [[[0.333, 0.333, 0.333], [0.0, 0.667, 0.333], [0.0, 1.0, 0.0]]]
    >>> chances(np.array([[0.1, 0.5, 0.5]]), [2]).tolist()
    [[[0.0, 0.5, 0.5]]]
    """
    scores = _scores("scores", scores)
    settings = scores.shape[1]
    drawn = np.array([min(arguments.integer("trials", k), settings) for k in trials])
    not_above = (scores[:, None, :] <= scores[:, :, None]).sum(axis=-1)  # j of each setting.
    below = (scores[:, None, :] < scores[:, :, None]).sum(axis=-1)  # i
    within = np.array([_all_within(np.arange(settings + 1), k, settings) for k in drawn])  # (K, ·)
    shared = (within[:, not_above] - within[:, below]) / (not_above - below)
    return np.moveaxis(shared, 0, 1)


def best_of(
    ways: Sequence[np.ndarray],
    trials: Sequence[int],
    *,
    against: int | None = None,
    resamples: int = 2000,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The expected score of the best of k trials, of each way, on seeds that did not choose.

    A trial is one setting on one seed. k settings of a way are drawn without replacement and all
    run on one tuning seed; the best there is kept, and its score is its mean over the other half of
    the seeds. The mean over draws is exact (`chances`), and is taken over all tuning seeds of one
    half; then the halves change places. Intervals are bootstraps over seeds, drawn once for all
    ways and k together (`crossed`).

    Args:
        ways: of each (S, G), the same seeds; G may differ.
        trials: k; beyond G all settings are drawn.
        against: which way is subtracted from all, seed by seed; None for none.
        resamples: draws of seeds for the intervals.
        confidence: of each interval.

    Returns:
        Mean and interval, each (ways, K).

    Raises:
        ValueError: fewer than two seeds, ways of different seeds, a k below 1.

    >>> flat, peaked = np.full((6, 3), 0.5), np.tile([0.0, 0.9, 0.0], (6, 1))
    >>> best_of([flat, peaked], [1, 2, 3], resamples=20).mean.round(2).tolist()
    [[0.5, 0.5, 0.5], [0.3, 0.6, 0.9]]
    """
    ways = [_scores(f"ways[{i}]", way) for i, way in enumerate(ways)]
    for i, way in enumerate(ways):
        if len(way) != len(ways[0]):
            words = f"must have the {len(ways[0])} seeds of ways[0] (got {len(way)})"
            raise ValueError(f"ways[{i}]: {words}")
    if against is not None:
        arguments.integer("against", against, 0, len(ways) - 1)
    likely = [chances(way, trials) for way in ways]

    def held_out(tuning: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(ways, K, others)."""
        found = [
            chance[tuning].mean(axis=0) @ way[others].T
            for way, chance in zip(ways, likely, strict=True)
        ]
        values = np.stack(found)
        return values if against is None else values - values[against]

    return crossed(held_out, len(ways[0]), resamples=resamples, confidence=confidence)


Better = Literal["better", "worse", "no difference beyond the margin", "undecided"]


def better(found: Interval, margin: float) -> Better:
    """What an interval of a difference says, all of it: beyond the margin, or within it.

    >>> ends = [(0.02, 0.09), (-0.05, -0.02), (-0.01, 0.005), (0.005, 0.09), (np.nan, np.nan)]
    >>> [better(Interval(*map(np.array, (0.0, *end))), 0.01) for end in ends[:3]]
    ['better', 'worse', 'no difference beyond the margin']
    >>> [better(Interval(*map(np.array, (0.0, *end))), 0.01) for end in ends[3:]]
    ['undecided', 'undecided']
    """
    margin = arguments.at_least("margin", margin, 0)
    if found.low > margin:
        return "better"
    if found.high < -margin:
        return "worse"
    within = found.low >= -margin and found.high <= margin
    return "no difference beyond the margin" if within else "undecided"


def _all_within(places: np.ndarray, k: int, settings: int) -> np.ndarray:
    """C(j, k) / C(G, k): that k of G settings are all among the j lowest; 0 where j < k."""
    held = np.maximum(places, k).astype(float)
    logs = gammaln(held + 1) - gammaln(held - k + 1)
    whole = gammaln(settings + 1) - gammaln(settings - k + 1)
    return np.where(places < k, 0.0, np.exp(logs - whole))


def _best(scores: np.ndarray) -> int:
    return int(np.argmax(quantile(scores)))


def _scores(name: str, given: np.ndarray) -> np.ndarray:
    scores = numbers(name, given)
    if scores.ndim != 2 or not scores.size:
        raise arguments.refusal(name, "of shape (seeds, settings)", scores)
    return scores
