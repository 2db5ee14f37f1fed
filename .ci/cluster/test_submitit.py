"""submitit and Hydra's launcher on a Slurm: what the experiments' launches stand on."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import submitit
import tasks
from one_node import until
from submitit.core.utils import FailedJobError, UncompletedJobError

HERE = Path(__file__).parent


@pytest.fixture
def executor(slurm, tmp_path, monkeypatch):
    """executor(max_num_timeout): jobs of a minute; they import what this folder holds.

    submitit makes a folder named by `%j` after the job is sent; one that starts before fails.
    """
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    # How long submitit looks for a result after it has heard that there will be none.
    monkeypatch.setattr(submitit.SlurmJob, "_results_timeout_s", 1)

    def make(max_num_timeout=0):
        made = submitit.SlurmExecutor(tmp_path / "jobs", max_num_timeout=max_num_timeout)
        made.update_parameters(time=1, mem="256MB", signal_delay_s=10)
        return made

    return make


def begun(task, starts, timeout_s=30):
    until(
        lambda: task.lines().count("start") >= starts,
        timeout_s,
        lambda: f"start {starts} must come",
    )


def test_an_array_of_which_one_job_fails(executor):
    jobs = executor().map_array(tasks.inverse, [1, 0, 4])
    assert (jobs[0].result(), jobs[2].result()) == (1.0, 0.25)
    with pytest.raises(FailedJobError, match="ZeroDivisionError: division by zero"):
        jobs[1].result()


def test_the_signal_of_the_time_limit_requeues_what_can_resume(executor, slurm, tmp_path):
    task = tasks.Resumed(str(tmp_path / "log"))
    job = executor(max_num_timeout=1).submit(task)
    begun(task, 1)
    job._interrupt(timeout=True)
    slurm.wait(job.job_id, "PENDING")
    assert job.result() == ["start", "checkpoint", "start"]
    assert "Requeued job" in job.stdout()


def test_no_job_is_requeued_more_often_than_allowed(executor, tmp_path):
    task = tasks.Resumed(str(tmp_path / "log"))
    job = executor(max_num_timeout=0).submit(task)
    begun(task, 1)
    job._interrupt(timeout=True)
    with pytest.raises(FailedJobError, match="Job not requeued because: timed-out too many times"):
        job.result()
    assert task.lines() == ["start", "checkpoint"]


def test_what_the_time_limit_ends_begins_anew(executor, slurm, tmp_path):
    """Slurm itself sends the signal; it looks at time limits every 30 seconds."""
    task = tasks.Resumed(str(tmp_path / "log"))
    limited = executor(max_num_timeout=1)
    limited.update_parameters(signal_delay_s=60)
    begin, job = time.monotonic(), limited.submit(task)
    assert job.result() == ["start", "checkpoint", "start"]
    assert "Caught signal SIGUSR2" in job.stdout()
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("pending", [False, True])
def test_a_cancelled_job_has_no_result(pending, executor, slurm):
    limited = executor()
    if pending:
        limited.update_parameters(additional_parameters={"begin": "now+600"})
    job = limited.submit(tasks.sleep, 100)
    slurm.wait(job.job_id, "PENDING" if pending else "RUNNING")
    job.cancel()
    with pytest.raises(UncompletedJobError, match=r"not produced any output \(state: CANCELLED"):
        job.result()


def launch(folder, *overrides):
    """Launch app.py over several x on the cluster; what came of it."""
    command = [sys.executable, str(HERE / "app.py"), "-m", "hydra/launcher=submitit_slurm"]
    command += [
        "hydra.launcher.mem_gb=1",
        "hydra.launcher.timeout_min=1",
        "hydra.launcher.submitit_folder=${hydra.sweep.dir}/.submitit",
        f"hydra.sweep.dir={folder}",
    ]
    return subprocess.run(
        [*command, *overrides], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_hydra_launches_an_array(slurm, tmp_path):
    before = slurm.states()
    done = launch(tmp_path, "+x=1,2,3")
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.parent.name for path in tmp_path.glob("*/.hydra/config.yaml")) == [
        "0",
        "1",
        "2",
    ]
    launched = slurm.states().keys() - before.keys()
    assert len(launched) == 3
    for job in launched:
        slurm.wait(job, "COMPLETED")


def test_hydra_says_which_job_of_an_array_failed(slurm, tmp_path):
    done = launch(tmp_path, "+x=1,0,3")
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr


def test_hydra_says_that_a_partition_is_not_there(slurm, tmp_path):
    done = launch(tmp_path, "+x=1,2", "hydra.launcher.partition=nowhere")
    assert done.returncode == 1
    assert "invalid partition specified: nowhere" in done.stderr
