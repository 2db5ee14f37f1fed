"""What a user got wrong, or the machine: one line and an exit status, wherever it comes up."""

import contextlib
import os
import sys
from collections.abc import Iterator

from omegaconf.errors import OmegaConfBaseException

from experiments.lab.backend import BackendError
from experiments.lab.launching import LaunchError
from experiments.lab.memory import FULL
from experiments.lab.schema import ConfigError
from lora_theory.store.files import ResultsError, WriteError

# How JAX begins to say that memory is full, and that a backend can not be started.
_JAX_ERRORS = (FULL, "Unable to initialize backend")
INTERRUPTED = 130


class ConfError(Exception):
    """A file of `conf/` that is not there or that can not be read, by name."""


class StoppedError(SystemExit):
    """The end of a command after its one line of error has been printed.

    Attributes:
        line: that line.
    """

    def __init__(self, code: int, line: str):
        super().__init__(code)
        self.line = line


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print what a user or the machine got wrong as one line, and end with status 2.

    Raises:
        StoppedError: in place of such an error; others keep their traceback.
    """
    try:
        yield
    except (ConfigError, ConfError, ResultsError, BackendError, LaunchError) as error:
        raise _refused(str(error)) from None
    except OmegaConfBaseException as error:
        raise _refused(f"{error.full_key or 'overrides'}: {str(error).splitlines()[0]}") from None
    except WriteError as error:
        raise _refused(f"out: {error.strerror}: {error.filename}") from None
    except BrokenPipeError:  # Whoever read what is printed has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MemoryError as error:
        raise _refused(f"out of memory: {error}; try fewer or smaller pieces") from None
    except RuntimeError as error:
        if not str(error).startswith(_JAX_ERRORS):
            raise
        raise _refused(f"{type(error).__name__}: {str(error).splitlines()[0]}") from None
    except KeyboardInterrupt:
        raise stopped("stopped; the same command goes on from what was finished") from None


def stopped(line: str) -> StoppedError:
    """The end of a command that somebody interrupted, which is said."""
    print(line, file=sys.stderr)
    return StoppedError(INTERRUPTED, line)


def _refused(said: str) -> StoppedError:
    line = " ".join(f"error: {said}".splitlines())
    print(line, file=sys.stderr)
    return StoppedError(2, line)
