"""Where pieces run: here, in as many threads as an experiment asks for."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

P = TypeVar("P", bound=Hashable)
_PATIENCE = 0.2  # Seconds between looks at pieces that another run is computing.


def in_groups(pieces: Iterable[P], group: Callable[[P], Hashable]) -> list[list[P]]:
    """Pieces by group, in the order in which groups first come.

    >>> in_groups([1, 2, 3, 4], lambda piece: piece % 2)
    [[1, 3], [2, 4]]
    """
    groups: dict[Hashable, list[P]] = {}
    for piece in pieces:
        groups.setdefault(group(piece), []).append(piece)
    return list(groups.values())


def run_all(
    groups: Sequence[list[P]], attempt: Callable[[P], bool], workers: int, *, wait: bool = True
) -> None:
    """Attempt every piece until it is done; groups side by side, within a group in order.

    Args:
        groups: pieces of one group share a compilation and follow each other.
        attempt: does a piece and says True, or says False: somebody else is at it.
        workers: threads; 1 runs in this one.
        wait: whether to come back to what somebody else is at.
    """

    failed = threading.Event()  # Then the others end after the piece they are at.

    def tried(piece: P) -> bool:
        if failed.is_set():
            return True
        try:
            return attempt(piece)
        except BaseException:
            failed.set()
            raise

    def work(group: list[P]) -> None:
        while group:
            group = [piece for piece in group if not tried(piece)]
            if not wait:
                return
            if group:
                time.sleep(_PATIENCE)

    if workers == 1:
        for group in groups:
            work(group)
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(work, groups))
        except BaseException:  # An interrupt comes to this thread alone.
            failed.set()
            raise
