"""How much memory a run needs at least, by its config alone, and how much there is."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.lab.schema import ConfigError
from experiments.lab.values import in_bytes

FULL = "RESOURCE_EXHAUSTED"  # How JAX begins to say that memory is full.
_FLOAT = 4  # Bytes of a float32.
_SHARE = 0.9  # Of what is available; the rest is for all that is not counted.


class Need(NamedTuple):
    """One array of float32 that a run holds.

    Attributes:
        what: it is, as "features".
        sides: (field, size) of each; the field of the longest is named where it does not fit.
        copies: how often it is there.
    """

    what: str
    sides: Sequence[tuple[str, int]]
    copies: int = 1

    @property
    def bytes(self) -> int:
        """How large it is.

        >>> Need("features", [("model.width", 10), ("task.n_train", 5)]).bytes
        200
        """
        return _FLOAT * self.copies * math.prod(size for _, size in self.sides)


def check_memory(needs: Sequence[Need]) -> None:
    """Refuse what can not fit, before anything is made.

    Raises:
        ConfigError: the largest field of the largest array, where all of them together need more
            than the machine has available.
    """
    total, there = sum(need.bytes for need in needs), available()
    if there is None or total <= _SHARE * there:
        return
    most = max(needs, key=lambda need: need.bytes)
    field, size = max(most.sides, key=lambda side: side[1])
    taken = f"{most.what} would take {in_bytes(most.bytes)} of the {in_bytes(there)} available"
    raise ConfigError(field, f"must fit in memory: {taken}", size)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory is full: JAX's, of a device, or Python's.

    >>> ran_out(MemoryError()), ran_out(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    (True, True)
    >>> ran_out(RuntimeError("INTERNAL: something else")), ran_out(ValueError("out of memory"))
    (False, False)
    """
    said = str(error).lower()
    wanting = any(words in said for words in (FULL.lower(), "out of memory", "out_of_memory"))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and wanting)


def cores() -> int:
    """How many cores of this machine the process may use; starts nothing."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes of memory that programs can have; None where the machine does not say."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
