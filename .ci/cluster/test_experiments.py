"""Experiments on a Slurm: the bytes of one process, whatever becomes of the jobs."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from one_node import until

ROOT = Path(__file__).parents[2]
SUMS = [sys.executable, str(ROOT / "tests/study/sums.py"), "signs=plus", "dpi=30"]
# `width` at a size that takes seconds: a plane over three widths, and a line over ranks.
WIDTH = [sys.executable, "-m", "experiments.width", "part=[layer_adam,rank_init1]"]
WIDTH += ["steps=20", "times=[2,10,20]", "decide.t=20", "decide.resamples=160", "dpi=40"]
WIDTH += [
    f"sweeps.layer_adam.{override}"
    for override in (
        "widths=[16,32,64]", "seeds=[4,4,3]", "log2_a=[-8,-2]", "log2_b=[-4,1]", "line=[-8,0]",
        "init=[A]", "curvature.seeds=2", "curvature.iterations=8",
    )
]  # fmt: skip
WIDTH += [
    f"sweeps.rank_init1.{override}"
    for override in ("widths=[32]", "rank=[1,4]", "gamma=[0.0]", "seeds=[3]", "line=[-8,0]")
]
SMALL = ["+cluster=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.mem_gb=1"]
SMALL += ["hydra.launcher.cpus_per_task=1"]


@pytest.fixture
def start(slurm, tmp_path):
    """start(*command): one that launches jobs of this folder; at the end none is left."""
    running = []

    def started(command, *overrides):
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        line = [*command, *SMALL, *overrides, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(line, cwd=tmp_path, env=env, **pipes))
        return running[-1]

    yield started
    for process in running:
        process.kill()
        process.communicate()


def ended(process, timeout_s=300):
    """Its status, what it printed after it had said where jobs print, and its errors."""
    out, err = process.communicate(timeout=timeout_s)
    first, _, rest = out.partition("\n")
    sent = " jobs, which print into " in first
    return process.returncode, rest if sent else out, err


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files
    found = [(str(path.relative_to(folder)), path.read_bytes()) for path in files]
    return hashlib.sha256(repr(found).encode()).hexdigest(), [name for name, _ in found]


def alone(folder, command, *overrides):
    """What one process makes of it."""
    line = [*command, *overrides, f"out={folder}"]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True, timeout=300)
    return digest(folder)


def pieces(folder, count):
    """Wait until there are so many pieces."""
    there = lambda: len(list(folder.rglob("seed=*.npz"))) >= count  # noqa: E731
    until(there, 60, lambda: f"{count} pieces must be done")


def running(slurm):
    return sorted(job for job, state in slurm.states().items() if state == "RUNNING")


def test_width_is_the_same_from_three_jobs_as_from_one_process(start, tmp_path):
    process = start(WIDTH, "jobs=3", "engine.devices=1", f"out={tmp_path / 'out'}")
    status, out, err = ended(process)
    assert (status, err) == (0, ""), out
    assert out == "jobs: 3: 3 done\n"
    assert digest(tmp_path / "out") == alone(tmp_path / "alone", WIDTH)


def test_a_job_whose_time_is_up_goes_on_where_it_was(start, slurm, tmp_path):
    """Slurm's signal comes some time before its limit; the job is put back into the queue."""
    options = ("seeds=40", "size=200")
    process = start(SUMS, *options, "wait=0.3", "jobs=2", f"out={tmp_path / 'out'}")
    pieces(tmp_path / "out", 4)
    first = running(slurm)[0]
    slurm.run("scancel", "--signal=USR2", first)
    slurm.wait(first, "PENDING")
    status, out, err = ended(process)
    assert (status, err) == (0, ""), out
    assert out == "jobs: 2: 2 done\n"
    log = next((tmp_path / "sweep/submitit").glob(f"{first}_*.out")).read_text()
    assert log.count("slab=0") == 2  # It was started twice.
    assert digest(tmp_path / "out") == alone(tmp_path / "alone", SUMS, *options)


def test_a_cancelled_job_is_named_and_the_others_do_its_work(start, slurm, tmp_path):
    options = ("seeds=30", "size=200")
    process = start(SUMS, *options, "wait=0.3", "jobs=3", f"out={tmp_path / 'out'}")
    pieces(tmp_path / "out", 4)
    slurm.run("scancel", running(slurm)[0])
    status, out, err = ended(process)
    assert (status, err) == (2, "")
    assert out.splitlines()[0] in ("jobs: 3: 2 done, 1 stopped", "jobs: 3: 2 done, 1 running")
    assert out.splitlines()[1].startswith("job 0 (slab=0): ")
    assert len(out.splitlines()) == 2
    assert digest(tmp_path / "out") == alone(tmp_path / "alone", SUMS, *options)


def test_a_job_that_fails_is_named_by_its_own_error(start, tmp_path):
    process = start(SUMS, "jobs=1", "size=3,1000000000000,4", f"out={tmp_path / 'out'}")
    status, out, err = ended(process)
    assert (status, err) == (2, "")
    assert out.splitlines()[0] == "jobs: 3: 2 done, 1 failed"
    assert out.splitlines()[1].startswith("job 1 (slab=0 size=1000000000000): failed (")
    assert "error: out: must have 89407" in out.splitlines()[1]
    done = sorted(path.parts[-4] for path in (tmp_path / "out").rglob("plus.npz"))
    assert done == ["default", "size=4"]


def test_a_partition_that_is_not_there_is_one_line(start, tmp_path):
    process = start(SUMS, "hydra.launcher.partition=nowhere", f"out={tmp_path / 'out'}")
    status, out, err = ended(process)
    assert (status, out) == (2, "")
    assert err == "error: hydra.launcher.partition: must be one of main, other (got nowhere)\n"
    assert not (tmp_path / "out").exists()


def test_nothing_of_a_job_lies_in_the_temporary_folder_of_its_node(start, tmp_path, monkeypatch):
    """Whose name is the same on all nodes, and whose content is not."""
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "node"))
    status, *_ = ended(start(SUMS, "jobs=2", f"out={tmp_path / 'out'}"))
    assert status == 0
    assert list((tmp_path / "node").iterdir()) == []
    logs = {path.name.rpartition("_")[2] for path in (tmp_path / "sweep/submitit").glob("*_log.*")}
    assert logs == {"log.out", "log.err"}
