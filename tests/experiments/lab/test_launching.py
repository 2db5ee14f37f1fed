"""Launchers: what is missing is one line, what they complain of names the field."""

import sys

import pytest
from omegaconf import OmegaConf

from experiments.lab import launching
from experiments.lab.launching import (
    LaunchError,
    check,
    check_installed,
    explained,
    prepare,
    were_sent,
)
from experiments.lab.schema import ConfigError


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(name=text): the only commands there are; they print the text."""

    def make(**texts):
        for name, text in texts.items():
            path = tmp_path / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!{sys.executable}\n{text}\n")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    return make


def slurm(folder):
    launcher = {"submitit_folder": str(folder), "_target_": "a.SlurmLauncher", "partition": None}
    return OmegaConf.create({"launcher": launcher})


@pytest.mark.parametrize(("asked", "wrong"), [("nowhere", "nowhere"), ("gpu,cpu", "cpu")])
def test_a_partition_that_there_is_not_is_named_with_those_that_there_are(
    asked, wrong, programs, tmp_path
):
    programs(sbatch="", sinfo="print('main')\nprint('gpu')")
    config = slurm(tmp_path / "jobs")
    config.launcher.partition = asked
    with pytest.raises(ConfigError, match=rf"partition: must be one of gpu, main \(got {wrong}\)"):
        check(config)


def test_where_slurm_does_not_say_which_partitions_there_are_it_is_left_to_it(programs, tmp_path):
    programs(sbatch="", sinfo="")
    config = slurm(tmp_path / "jobs")
    config.launcher.partition = "nowhere"
    check(config)


def test_a_slurm_that_does_not_answer_is_one_line(programs, tmp_path):
    programs(sbatch="", sinfo="raise SystemExit(1)")
    with pytest.raises(LaunchError, match="Slurm does not answer"):
        check(slurm(tmp_path / "jobs"))


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("Job 31556_0 (task: 0) with path a has not produced any output", True),
        ("Job (task=0) failed during processing with trace:", True),
        ("sbatch: error: Invalid account", False),
    ],
)
def test_jobs_that_died_are_told_from_those_that_were_never_sent(said, sent):
    assert were_sent(RuntimeError(said)) is sent


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("sbatch: error: Invalid account\nmore"), "cluster: Invalid account"),
        (RuntimeError("Job (task=0) failed\ntrace"), "cluster: Job (task=0) failed"),
        (RuntimeError(""), "cluster: RuntimeError"),
    ],
)
def test_what_a_launcher_complains_of_is_one_line(error, line, programs):
    programs()
    assert str(explained(error)) == line


def test_without_slurm_nothing_is_launched(programs, tmp_path):
    programs()
    with pytest.raises(LaunchError, match="no Slurm here"):
        check(slurm(tmp_path / "a"))


def test_the_folder_of_the_launcher_is_there_before_its_jobs(programs, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(launching, "_ask_the_queue", lambda: asked.append(True))
    programs(sbatch="", sacct="")
    prepare(slurm(tmp_path / "jobs" / "submitit"))
    prepare(slurm(tmp_path / "jobs" / "%j"))
    assert [p.name for p in (tmp_path / "jobs").iterdir()] == ["submitit"]
    assert asked == []


def test_where_slurm_keeps_no_accounts_the_queue_is_asked(programs, tmp_path, monkeypatch):
    from submitit.slurm.slurm import SlurmJob

    programs(sbatch="", sacct="raise SystemExit(1)")
    monkeypatch.setattr(SlurmJob, "watcher", SlurmJob.watcher)
    prepare(slurm(tmp_path / "jobs"))
    watcher = SlurmJob.watcher
    for job in ("7_0", "7_1", "7_2"):
        watcher.register_job(job)
    assert watcher._make_command()[0] == "squeue"
    watcher._info_dict = watcher.read_info(b"7_0|RUNNING|node1\n7_1|CANCELLED|\n9|RUNNING|node1\n")
    assert [watcher.is_done(job, mode="cache") for job in ("7_0", "7_1", "7_2")] == [
        False, True, True,
    ]  # fmt: skip


def test_a_launcher_that_is_not_installed_is_named(monkeypatch):
    check_installed()
    monkeypatch.setattr(launching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"cluster: must be left out, or its launcher installed"):
        check_installed()
