"""Hosts that one JAX program spans, as those of a TPU pod, where no host has devices by itself.

Nowhere else is it needed: pieces of work are independent, and processes share them through a
folder. Here too each process computes its own pieces on its own devices; what JAX's coordinator
does is to let all of them begin. It ends all of them when one dies.
"""

import os
import sys
import threading

import jax

from lora_theory import arguments

AUTO = "auto"
_LONGER = 60  # Seconds that JAX waits beyond our own patience, after which it aborts.


def join(
    coordinator: str,
    processes: int | None = None,
    process: int | None = None,
    *,
    patience: int = 300,
) -> None:
    """Become one of the processes of a JAX program; once, before anything else of JAX.

    JAX itself aborts with a stack trace where the others do not come; this ends the process before
    that with one line on stderr and exit status 2.

    Args:
        coordinator: host:port of process 0, or "auto" where JAX knows: TPU pods, Slurm, MPI.
        processes: how many there are; None with "auto".
        process: which of them this one is, from 0; None with "auto".
        patience: seconds for all of them to come.

    Raises:
        ValueError: an argument that is none, by name; "auto" where JAX finds nothing out.
        RuntimeError: JAX has started already.

    >>> join("somewhere", 2, 0)
    Traceback (most recent call last):
    ...
    ValueError: coordinator: must be auto or host:port (got 'somewhere')
    """
    _check(coordinator, processes, process)
    arguments.integer("patience", patience)
    if jax.distributed.is_initialized():  # A second experiment of this process finds it done.
        return
    # JAX waits without letting go of this thread.
    watch = threading.Timer(patience, _give_up, (coordinator, processes, process, patience))
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            None if coordinator == AUTO else coordinator,
            processes,
            process,
            initialization_timeout=patience + _LONGER,
        )
    except (ValueError, RuntimeError):
        if coordinator != AUTO:
            raise
        raise arguments.refusal(
            "coordinator", "host:port, JAX finds none here", coordinator
        ) from None
    finally:
        watch.cancel()


def _check(coordinator: str, processes: int | None, process: int | None) -> None:
    host, _, port = coordinator.rpartition(":") if isinstance(coordinator, str) else ("", "", "")
    known = coordinator == AUTO or (host and port.isdecimal() and 0 < int(port) < 2**16)
    if not known:
        raise arguments.refusal("coordinator", "auto or host:port", coordinator)
    if coordinator == AUTO:
        for name, value in (("processes", processes), ("process", process)):
            if value is not None:
                raise arguments.refusal(name, "left out with auto", value)
        return
    count = arguments.integer("processes", processes)
    arguments.integer("process", process, 0, count - 1)


def _give_up(coordinator: str, processes: int | None, process: int | None, patience: int) -> None:
    who = "the others" if processes is None else f"all {processes} processes"
    print(
        f"error: coordinator: {who} must come to {coordinator} within {patience} s (some did not; "
        f"this is process {'of an unknown number' if process is None else process})",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)
