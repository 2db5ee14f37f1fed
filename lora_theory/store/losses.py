"""Whether curves can be losses: at least 0, and NaN from the step on at which a run diverged."""

from collections.abc import Sequence

import numpy as np

_CHUNK = 2**18  # Losses that are looked at together, so that they stay in cache.


def check_losses(names: Sequence[str], curves: Sequence[np.ndarray]) -> np.ndarray:
    """Refuse curves that no training gives; those of one run diverge together.

    Args:
        names: of the curves, as "train_loss" and "test_loss".
        curves: (…, steps) each, mapped perhaps: memory holds a few thousand runs.

    Returns:
        (…) at how many steps, the first ones, a run has losses.

    Raises:
        ValueError: what is wrong, by name.

    >>> check_losses(["loss"], [np.array([[2.0, 1.0], [2.0, np.nan]])]).tolist()
    [2, 1]
    >>> check_losses(["loss"], [np.array([[np.nan, 1.0]])])
    Traceback (most recent call last):
    ...
    ValueError: loss: finite again where a run has diverged
    """
    *shape, steps = curves[0].shape
    flat = [curve.reshape(-1, steps) for curve in curves]
    lengths = np.empty(len(flat[0]), np.int64)
    positive = [False] * len(flat)
    size = max(1, _CHUNK // max(steps, 1))
    for start in range(0, len(lengths), size):
        here = slice(start, start + size)
        for i, (name, curve) in enumerate(zip(names, flat, strict=True)):
            found = _lengths(name, curve[here])
            if i and (found != lengths[here]).any():
                raise ValueError(f"{name}: diverged elsewhere than {names[0]}")
            lengths[here] = found
            positive[i] = positive[i] or bool((curve[here] > 0).any())
    for name, some in zip(names, positive, strict=True):
        if not some and lengths.any():
            raise ValueError(f"{name}: zero throughout")
    return lengths.reshape(shape)


def check_diverged(diverged_at: np.ndarray, lengths: np.ndarray, steps: int) -> None:
    """Refuse what does not say the first step without losses, or −1 where there are all.

    Args:
        diverged_at: of each run.
        lengths: at how many steps each has losses.
        steps: how many there are.

    Raises:
        ValueError: it contradicts the curves.
    """
    if (diverged_at != np.where(lengths == steps, -1, lengths)).any():
        raise ValueError("diverged_at: not where the curves diverge")


def _lengths(name: str, losses: np.ndarray) -> np.ndarray:
    if (losses < 0).any():
        raise ValueError(f"{name}: negative")
    if np.isposinf(losses).any():
        raise ValueError(f"{name}: infinite")
    there = ~np.isnan(losses)
    if (there[:, 1:] & ~there[:, :-1]).any():
        raise ValueError(f"{name}: finite again where a run has diverged")
    return np.asarray(there.sum(axis=1))
