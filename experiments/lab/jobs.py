"""The jobs of a multirun: what each came to, wherever it ran, and what there is to say of them all.

A job that a launcher starts elsewhere is the same command that a user would type there: all that
travels is the command line. What it came to stands in a file of its own in the sweep's folder,
written when it begins and when it ends, so that a job which was killed is known as well.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from experiments.lab.arguments import quoted
from experiments.lab.errors import INTERRUPTED, StoppedError
from experiments.lab.workers import job_name
from lora_theory.store.files import ResultsError, write_text
from lora_theory.store.reading import read_json
from lora_theory.store.records import from_plain

RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"
_OWN = ("cluster", "hydra", "jobs")  # Overrides that are the launcher's, or said anew.
_PATIENCE = 20.0  # Seconds that a job is given to end when its time is up.


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a job came to.

    Attributes:
        number: of the job, from 0.
        overrides: that make it up.
        state: running, done, failed, or stopped before its end.
        status: exit status.
        line: its own error, as one line.
        host: where it ran.
        process: its number there.
        job: what the cluster calls it; empty outside of one.
    """

    number: int
    overrides: tuple[str, ...]
    state: str
    status: int
    line: str
    host: str
    process: int
    job: str


class Task:
    """What Hydra runs for every job: here the command itself, elsewhere the same command anew.

    Args:
        run: the command, given a composed config.
        command: how a user starts it, without overrides: ["python", "-m", "experiments.fig2"].
        flags: that its jobs have elsewhere, as -m.
    """

    def __init__(self, run: Callable[[Any], None], command: Sequence[str], flags: Sequence[str]):
        self.run, self.command, self.flags = run, tuple(command), tuple(flags)

    def __call__(self, cfg: Any) -> None:
        """Run it in this process; one job that fails does not end the others."""
        if OmegaConf.is_missing(HydraConfig.get().job, "num"):
            self.run(cfg)
            return
        with contextlib.suppress(JobFailedError), recorded():
            self.run(cfg)

    def __reduce__(self) -> Any:
        """As a launcher takes it to another process: nothing but its command line."""
        return Elsewhere, (self.command, self.flags)


class Elsewhere:
    """The same for a job in a process that a launcher started, on whatever machine.

    The command runs in a process below it, so that a signal at the end of its time is heard even
    while the command computes.
    """

    def __init__(self, command: Sequence[str], flags: Sequence[str]):
        self.command, self.flags = tuple(command), tuple(flags)

    def __call__(self, cfg: Any) -> None:
        """Run the command with the overrides of this job."""
        given = list(HydraConfig.get().overrides.task)
        mine = [o for o in given if re.split(r"[=./@]", o.lstrip("+~"))[0] not in _OWN]
        mine.append(f"jobs={cfg.jobs}")
        if self.flags:  # A multirun, whose folder would else be a temporary one of the node.
            own = folder() / str(HydraConfig.get().job.num)
            mine.append(f"hydra.sweep.dir={quoted(str(own))}")
        with contextlib.suppress(JobFailedError), recorded():
            _run([*self.command, *self.flags, *mine])


class JobFailedError(Exception):
    """A job that ended in an error of which all has been said."""


def _run(command: Sequence[str]) -> None:
    """Run a command, all of whose output goes where ours does.

    Raises:
        StoppedError: it failed; with the last line that it printed on stderr.
    """
    print("$", *command, flush=True)
    last, pipe = "", subprocess.PIPE
    with subprocess.Popen(command, stderr=pipe, text=True, errors="replace") as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                sys.stderr.write(line)
                sys.stderr.flush()
                last = line.strip() or last
            status = process.wait()
        except BaseException:  # Its time is up, or somebody ends it: claims are given back.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            process.kill()
            raise
    if status < 0:
        last = f"killed by {signal.Signals(-status).name}"
    if status:
        raise StoppedError(128 - status if status < 0 else status, last)


def folder() -> Path:
    """Where the jobs of this multirun say what they came to."""
    return Path(str(HydraConfig.get().sweep.dir)) / "jobs"


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    """Write what becomes of this job while the block runs, and how it ended.

    Raises:
        JobFailedError: in place of an error of which the one line has been printed.
    """
    config = HydraConfig.get()
    begun = Outcome(
        int(config.job.num),
        tuple(map(str, config.overrides.task)),
        RUNNING, 0, "", os.uname().nodename, os.getpid(), job_name(),
    )  # fmt: skip
    _write(begun)
    try:
        yield
    except StoppedError as error:
        if error.code == INTERRUPTED:
            _write(_ended(begun, STOPPED, INTERRUPTED, error.line))
            raise
        _write(_ended(begun, FAILED, int(error.code or 0), error.line))
        raise JobFailedError from None
    except SystemExit as error:  # A report's own status; or the launcher's, at the end of its time.
        status = error.code if isinstance(error.code, int) else 1
        if status < 0:
            _write(_ended(begun, STOPPED, status, "its time was up"))
            raise
        _write(_ended(begun, FAILED, status, f"its report ends with status {status}"))
        raise JobFailedError from None
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        _write(_ended(begun, FAILED, 1, line))
        raise
    except BaseException:
        _write(_ended(begun, STOPPED, 1, "interrupted"))
        raise
    _write(_ended(begun, DONE, 0, ""))


def _ended(begun: Outcome, state: str, status: int, line: str) -> Outcome:
    return dataclasses.replace(begun, state=state, status=status, line=line[:300])


def _write(outcome: Outcome) -> None:
    path = folder() / f"{outcome.number}.json"
    with contextlib.suppress(OSError):  # Then the job counts as missing, which is said.
        write_text(path, json.dumps(dataclasses.asdict(outcome)))


def outcomes(folder: Path) -> dict[int, Outcome]:
    """Number -> what the jobs say that they came to."""
    found = {}
    for file in folder.glob("*.json"):
        with contextlib.suppress(OSError, ResultsError, ValueError):
            outcome = from_plain(Outcome, read_json(file))
            found[outcome.number] = outcome
    return found


def summary(folder: Path, jobs: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """Of a multirun: what is missing or failed, job by job, and the exit status.

    Args:
        folder: where the jobs say what they came to.
        jobs: overrides of every job that there should be.
    """
    found = outcomes(folder)
    states = {n: found[n].state if n in found else "missing" for n in range(len(jobs))}
    lines, status = [], 0
    for number, overrides in enumerate(jobs):
        if states[number] == DONE:
            continue
        reported = states[number] == FAILED and found[number].status == 1
        status = max(status, 1 if reported else 2)
        what = " ".join(overrides)
        lines.append(f"job {number} ({what}): {_said(found.get(number))}")
    counts = [(sum(s == state for s in states.values()), state) for state in _ORDER]
    counted = ", ".join(f"{count} {state}" for count, state in counts if count)
    return [f"jobs: {len(jobs)}: {counted}", *lines], status


_ORDER = (DONE, FAILED, STOPPED, RUNNING, "missing")


def _said(outcome: Outcome | None) -> str:
    if outcome is None:
        return "missing: it has said nothing"
    where = f"{outcome.host}, process {outcome.process}"
    if outcome.job:
        where = f"{outcome.job} on {where}"
    if outcome.state == RUNNING:
        return f"missing: nothing was heard since it began ({where}); killed?"
    return f"{outcome.state} ({where}): {outcome.line.removeprefix('stopped; ')}"
