"""Jobs of a multirun: what each came to is known whatever became of it, and is summed up."""

import contextlib
import functools
import json
import pickle
import signal
import sys
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from experiments.lab import jobs
from experiments.lab.errors import StoppedError
from experiments.lab.jobs import (
    Elsewhere,
    JobFailedError,
    Outcome,
    Task,
    outcomes,
    recorded,
    summary,
)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """job(number, *overrides): Hydra says that this is that job."""

    def begin(number, *overrides):
        config = {
            "job": {"num": number},
            "sweep": {"dir": str(tmp_path)},
            "overrides": {"task": list(overrides)},
        }
        monkeypatch.setattr(jobs.HydraConfig, "get", lambda: OmegaConf.create(config))

    return begin


def said(tmp_path, number=0):
    return outcomes(tmp_path / "jobs")[number]


def test_it_is_known_that_a_job_began_and_that_it_ended(job, tmp_path):
    job(0, "seeds=2")
    with recorded():
        began = said(tmp_path)
    ended = said(tmp_path)
    assert (began.state, ended.state, ended.status) == ("running", "done", 0)
    assert ended.overrides == ("seeds=2",)


@pytest.mark.parametrize(
    ("error", "state", "status", "line", "raised"),
    [
        (StoppedError(2, "error: seeds: no"), "failed", 2, "error: seeds: no", JobFailedError),
        (StoppedError(130, "stopped; go on"), "stopped", 130, "stopped; go on", StoppedError),
        (SystemExit(1), "failed", 1, "its report ends with status 1", JobFailedError),
        (SystemExit(-1), "stopped", -1, "its time was up", SystemExit),
        (
            ZeroDivisionError("by\nzero"),
            "failed",
            1,
            "ZeroDivisionError: by zero",
            ZeroDivisionError,
        ),
        (KeyboardInterrupt(), "stopped", 1, "interrupted", KeyboardInterrupt),
    ],
)
def test_what_a_job_ended_in(error, state, status, line, raised, job, tmp_path):
    job(3)
    with pytest.raises(raised), recorded():
        raise error
    found = said(tmp_path, 3)
    assert (found.state, found.status, found.line) == (state, status, line)


def test_a_summary_names_every_job_that_is_not_done(job, tmp_path):
    several = [[f"seeds={seeds}"] for seeds in range(2, 8)]
    ends = (None, StoppedError(2, "error: size: too large"), SystemExit(-1), None)
    for number, error in enumerate(ends):
        job(number, *several[number])
        with contextlib.suppress(JobFailedError, SystemExit), recorded():
            if error:
                raise error
    running = said(tmp_path, 3)
    (tmp_path / "jobs" / "4.json").write_text(
        json.dumps(running.__dict__ | {"number": 4, "state": "running", "job": "7_4"})
    )
    (tmp_path / "jobs" / "9.json").write_text("{")  # Half a file is no word.
    lines, status = summary(tmp_path / "jobs", several)
    where = f"{running.host}, process {running.process}"
    assert lines == [
        "jobs: 6: 2 done, 1 failed, 1 stopped, 1 running, 1 missing",
        f"job 1 (seeds=3): failed ({where}): error: size: too large",
        f"job 2 (seeds=4): stopped ({where}): its time was up",
        f"job 4 (seeds=6): missing: nothing was heard since it began (7_4 on {where}); killed?",
        "job 5 (seeds=7): missing: it has said nothing",
    ]
    assert status == 2


def test_a_summary_of_what_went_well_is_a_line(job, tmp_path):
    for number in range(2):
        job(number)
        with recorded():
            pass
    assert summary(tmp_path / "jobs", [["a=1"], ["a=2"]]) == (["jobs: 2: 2 done"], 0)


def test_a_failing_report_decides_the_status(job, tmp_path):
    job(0)
    with pytest.raises(JobFailedError), recorded():
        raise SystemExit(1)
    assert summary(tmp_path / "jobs", [["a=1"]])[1] == 1


def test_nothing_of_a_task_travels_but_its_command_line():
    task = Task(lambda cfg: None, ["python", "-m", "experiments.fig2"], ["-m"])
    other = pickle.loads(pickle.dumps(task))
    assert type(other) is Elsewhere
    assert (other.command, other.flags) == (("python", "-m", "experiments.fig2"), ("-m",))


ECHO = "import sys; print(*sys.argv[1:], sep='|'); sys.exit(int(sys.argv[-2][5:]) - 3)"


@pytest.mark.parametrize(("count", "state"), [(3, "done"), (5, "failed")])
def test_elsewhere_a_job_is_the_command_with_its_own_overrides(count, state, job, tmp_path, capfd):
    given = ("+cluster=slurm", "hydra.launcher.partition=main", "jobs=9", "~a", "+b=1", "slab=1")
    job(0, *given)
    other = Elsewhere([sys.executable, "-c", ECHO], ["-m"])
    other(SimpleNamespace(jobs=count))
    line = capfd.readouterr().out.splitlines()[-1]
    # Its own multirun has a folder on the shared disk, and none of the node.
    assert line == f"-m|~a|+b=1|slab=1|jobs={count}|hydra.sweep.dir='{tmp_path}/jobs/0'"
    assert (said(tmp_path).state, said(tmp_path).status) == (state, count - 3)


RUN = [sys.executable, "-c"]


@pytest.mark.parametrize(
    ("code", "status", "line"),
    [
        (
            "import sys; print('error: seeds: no', file=sys.stderr); sys.exit(2)",
            2,
            "error: seeds: no",
        ),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 9)", 137, "killed by SIGKILL"),
    ],
)
def test_the_last_line_of_a_command_that_fails_is_its_error(code, status, line, capfd):
    with pytest.raises(StoppedError) as stop:
        jobs._run([*RUN, code])
    assert (stop.value.code, stop.value.line) == (status, line)


def test_a_command_ends_with_the_job_that_runs_it(tmp_path, capfd):
    """The launcher's signal raises in the middle of waiting, as submitit's does."""
    code = (
        "import pathlib, sys, time\n"
        "print('begun', file=sys.stderr, flush=True)\n"
        "try:\n    time.sleep(60)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(tmp_path / 'ended')!r}).touch()\n"
    )
    told = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)\n"

    def up(number, frame):
        raise SystemExit(-1)

    previous = signal.signal(signal.SIGALRM, up)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(SystemExit):
            jobs._run([*RUN, told + code])
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert (tmp_path / "ended").exists()


def test_what_can_not_be_written_of_a_job_is_missing_later(job, tmp_path):
    (tmp_path / "jobs").write_text("a file in the way")
    job(0)
    with recorded():
        pass
    assert summary(tmp_path / "jobs", [["a=1"]]) == (
        ["jobs: 1: 1 missing", "job 0 (a=1): missing: it has said nothing"],
        2,
    )


def test_in_a_single_run_nothing_is_recorded(tmp_path, monkeypatch):
    config = OmegaConf.create({"job": {"num": "???"}})
    monkeypatch.setattr(jobs.HydraConfig, "get", lambda: config)
    done = []
    Task(done.append, [], [])("cfg")
    assert done == ["cfg"]
    with pytest.raises(StoppedError):
        Task(functools.partial(_raise, StoppedError(2, "")), [], [])("cfg")


def _raise(error, _):
    raise error


def test_an_outcome_is_plain_data():
    outcome = Outcome(0, ("a=1",), "done", 0, "", "node", 1, "")
    assert json.loads(json.dumps(outcome.__dict__))["overrides"] == ["a=1"]
