"""Processes that run an experiment as its command does, started in a moment.

They are forked from a server that has imported all that takes time, and has started nothing of it.
"""

import multiprocessing
import os
import sys
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["study.sums", "jax", "xarray", "matplotlib.backends.backend_pdf", "rich.progress"]
)


class Command:
    """`python study/sums.py` with overrides; what it prints goes to files.

    Args:
        folder: for what it prints.
        overrides: of its config.
        file_bytes: larger files it can not write, as on a disk that is full; None for any size.
    """

    count = 0

    def __init__(self, folder, *overrides, file_bytes=None):
        Command.count += 1
        self.out, self.err = (folder / f"{kind}-{Command.count}" for kind in ("out", "err"))
        arguments = (overrides, self.out, self.err, file_bytes)
        self.process = _SERVER.Process(target=_run, args=arguments, daemon=True)
        self.process.start()

    def ended(self):
        """Its exit status and what it printed."""
        self.process.join(timeout=120)
        assert self.process.exitcode is not None
        return self.process.exitcode, self.out.read_text(), self.err.read_text()


def _run(overrides, out, err, file_bytes):
    import resource
    import signal

    import study.sums

    from experiments.lab.command_line import main

    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    if file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    sys.argv = [str(Path(study.sums.__file__)), *overrides]
    sys.orig_argv = [sys.executable, *sys.argv]
    main(study.sums.Sums())
