"""The one-node Slurm itself: it starts, runs jobs, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import one_node as module
import pytest
from one_node import SlurmError, one_node, processes, until


@pytest.fixture
def environment():
    """Of processes that import what this folder holds."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent)}


def test_jobs_run_in_either_partition(slurm):
    jobs = [
        slurm.submit(f"--partition={name}", "srun echo $SLURM_JOB_PARTITION")
        for name in ("main", "other")
    ]
    for job, name in zip(jobs, ("main", "other"), strict=True):
        slurm.wait(job, "COMPLETED")
        assert (slurm.folder / f"{job}.out").read_text() == f"{name}\n"


def test_a_job_that_fails_and_one_that_is_cancelled(slurm):
    failing, long = slurm.submit("exit 3"), slurm.submit("sleep 100")
    slurm.wait(failing, "FAILED")
    slurm.wait(long, "RUNNING")
    slurm.cancel(long)
    assert slurm.wait(long, "CANCELLED") == "CANCELLED"
    with pytest.raises(
        SlurmError, match=f"job {long}: must become RUNNING .got CANCELLED. within 0.2 s"
    ):
        slurm.wait(long, "RUNNING", timeout_s=0.2)


def test_a_partition_that_is_not_there(slurm):
    with pytest.raises(subprocess.CalledProcessError) as error:
        slurm.submit("--partition=nowhere", "true")
    assert "invalid partition specified: nowhere" in error.value.stderr


def test_sacct_answers_as_with_accounting(slurm):
    job = slurm.submit("--array=0-1", "exit $SLURM_ARRAY_TASK_ID")
    slurm.wait(f"{job}_0", "COMPLETED")
    slurm.wait(f"{job}_1", "FAILED")
    first, *lines = slurm.run("sacct", "-o", "JobID,State,NodeList", "--parsable2").splitlines()
    assert first == "JobID|State|NodeList"
    assert {f"{job}_0|COMPLETED|one", f"{job}_1|FAILED|one"} <= set(lines)


def test_a_requeued_job_runs_again_within_seconds(slurm):
    job = slurm.submit("sleep 100")
    slurm.wait(job, "RUNNING")
    slurm.run("scontrol", "requeue", job)
    slurm.wait(job, "PENDING")
    slurm.wait(job, "RUNNING", timeout_s=20)
    assert "Restarts=1" in slurm.run("scontrol", "show", "job", job)


def test_two_at_once_and_nothing_is_left_of_them(node):
    with one_node(partitions=("alone",), accounting=False) as second:
        for each in (node, second):
            each.wait(each.submit("true"), "COMPLETED")
        second.wait(second.submit("trap '' TERM; sleep 100"), "RUNNING")
        conf = second.environment["SLURM_CONF"]
        assert len(processes(conf)) >= 4
        assert not (second.folder / "bin" / "sacct").exists()
    assert processes(conf) == []
    assert not second.folder.exists()
    assert node.wait(node.submit("true"), "COMPLETED")


def test_nothing_is_left_if_the_test_fails():
    def failing():
        with one_node() as slurm:
            left.append(slurm)
            assert processes(slurm.environment["SLURM_CONF"])
            raise ZeroDivisionError

    left = []
    with pytest.raises(ZeroDivisionError):
        failing()
    (slurm,) = left
    conf = slurm.environment["SLURM_CONF"]
    assert processes(conf) == []
    assert not slurm.folder.exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_process_that_started_it(sent, environment, tmp_path):
    script = (
        "import time; from one_node import one_node\n"
        "with one_node() as slurm:\n"
        "    slurm.wait(slurm.submit('sleep 100'), 'RUNNING')\n"
        "    print(slurm.environment['SLURM_CONF'], flush=True); time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        conf = started.stdout.readline().strip()
        assert len(processes(conf)) >= 5  # The daemons, and what runs the job.
        started.send_signal(sent)
        assert started.wait(10) != 0
    until(lambda: not processes(conf), 10, lambda: "daemons and jobs must end")
    until(lambda: not list(tmp_path.iterdir()), 10, lambda: "the folder must go")


def test_a_daemon_that_does_not_start_is_said_with_its_log(monkeypatch):
    monkeypatch.setattr(module, "CONF", module.CONF + "NoSuchField=1\n")
    begun = time.monotonic()
    with (
        pytest.raises(SlurmError, match=r"(?s)must become idle.*slurmctld\.log:.*NoSuchField"),
        one_node(),
    ):
        pass
    assert time.monotonic() - begun < 15
