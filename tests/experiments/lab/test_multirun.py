"""A multirun: which jobs there are, and that one which fails takes none of the others with it."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import study.sums
from study.sums import Sums, SumsConfig

from experiments.lab import arguments, schema
from experiments.lab.command_line import CONF, _compose, main
from experiments.lab.multirun import Multirun

SCRIPT = Path(study.sums.__file__)
COMPOSE = functools.partial(_compose, "sums", conf=SCRIPT.parent / "conf", with_hydra=True)
TOO_LARGE = "size=1000000000000"


def multirun(*words):
    flags, overrides = arguments.split(words)
    return Multirun.of(arguments.parsed(overrides), flags, schema.roles(SumsConfig), COMPOSE)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    def started(*overrides, experiment=None):
        monkeypatch.setattr(sys, "argv", ["sums.py", f"out={tmp_path / 'out'}", *overrides])
        status = 0
        try:
            main(experiment or Sums())
        except SystemExit as stop:
            status = stop.code
        return status, *capfd.readouterr()

    return started


@pytest.mark.parametrize("words", [(), ("seeds=2",), ("hydra.job.name=a",), ("status=true",)])
def test_a_single_run_is_none(words):
    assert multirun(*words) is None


@pytest.mark.parametrize(
    ("words", "count", "many", "elsewhere"),
    [
        (("-m", "seeds=2,3"), 2, True, False),
        (("-m", "seeds=2"), 1, True, False),
        (("-m", "jobs=2", "slab=0,1"), 2, False, False),
        (("-m", "dpi=40,50", "wait=0,0.1"), 4, True, False),
        (("+cluster=local", "jobs=3"), 3, False, True),
        (("+cluster=slurm",), 8, False, True),
        (("+cluster=slurm", "jobs=1", "seeds=2,3", "size=4"), 2, True, True),
        (("+cluster=slurm", "slab=0,4"), 2, False, True),
        (("hydra.mode=MULTIRUN", "seeds=2,3"), 2, True, False),
    ],
)
def test_which_jobs_there_are_and_where(words, count, many, elsewhere):
    found = multirun(*words)
    assert len(found.jobs) == len(found.swept) == count
    assert (found.many, found.elsewhere) == (many, elsewhere)


def test_seeds_are_given_as_ranges_and_lists():
    found = multirun("-m", "seeds=0..15,16..31,'[40,50]'")
    assert found.swept == [["seeds=0..15"], ["seeds=16..31"], ["seeds='[40,50]'"]]


@pytest.mark.parametrize(
    ("key", "value"), [("timeout_min", 240), ("max_num_timeout", 100), ("signal_delay_s", 90)]
)
def test_a_job_of_slurm_is_put_back_into_the_queue(key, value):
    launcher = multirun("+cluster=slurm").config.launcher
    assert launcher[key] == value
    assert launcher.additional_parameters == {"requeue": True}


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_folders_are_where_the_user_says_and_none_is_temporary(cluster):
    config = multirun(f"+cluster={cluster}").config
    assert str(config.sweep.dir).startswith("runs/jobs/sums/")
    assert config.launcher.submitit_folder == f"{config.sweep.dir}/submitit"
    own = ("hydra.sweep.dir=/shared/a", "hydra.launcher.submitit_folder=/shared/b")
    config = multirun(f"+cluster={cluster}", *own).config
    assert (config.sweep.dir, config.launcher.submitit_folder) == ("/shared/a", "/shared/b")


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_a_cluster_is_documented(cluster):
    assert (CONF / f"cluster/{cluster}.yaml").read_text().startswith("# @package _global_\n# ")


def test_one_job_that_fails_takes_none_with_it_and_is_named(run, tmp_path):
    status, out, err = run("-m", "signs=plus", f"{TOO_LARGE},3,4")
    assert status == 2
    assert err.count("error: ") == 1
    assert err.startswith("error: out: must have")
    lines = out.splitlines()
    assert lines[-2] == "jobs: 3: 2 done, 1 failed"
    assert lines[-1].startswith(f"job 0 ({TOO_LARGE}): failed (")
    assert lines[-1].endswith(err.strip())
    done = {p.parent.parent.parent.name for p in (tmp_path / "out").rglob("plus.npz")}
    assert done == {"default", "size=4"}


def test_a_job_whose_code_fails_is_named_and_keeps_its_traceback(run, tmp_path, capfd):
    def fails(self, piece, cfg):
        if cfg.size == 4:
            raise ZeroDivisionError("mine")
        return Sums.run(self, piece, cfg)

    broken = type("Broken", (Sums,), {"run": fails, "__module__": Sums.__module__})()
    with pytest.raises(ZeroDivisionError, match="mine"):
        run("-m", "signs=plus", "size=4,5", experiment=broken)
    out = capfd.readouterr().out
    assert "jobs: 2: 1 done, 1 failed" in out
    assert "ZeroDivisionError: mine" in out
    assert [p.parent.parent.parent.name for p in (tmp_path / "out").rglob("plus.npz")] == ["size=5"]


def test_a_report_that_fails_does_not_end_the_jobs_behind_it(run):
    failing = Sums()
    failing.status = 1
    status, out, _ = run("-m", "signs=plus", "size=4,5", experiment=failing)
    assert status == 1
    assert "jobs: 2: 2 failed" in out
    assert out.count("its report ends with status 1") == 2


def test_jobs_that_share_have_one_folder(run, tmp_path):
    status, out, err = run("-m", "signs=plus", "jobs=3", "slab=0,1,2")
    assert (status, err) == (0, "")
    # One after the other: what is there already everybody shows.
    assert (out.count("plus: 90"), out.count("shown by another job")) == (3, 0)
    assert (tmp_path / "out/results/sums/plus.npz").is_file()


def test_jobs_that_share_and_draw_otherwise_all_draw(run, tmp_path):
    status, _, err = run("-m", "signs=plus", "jobs=2", "slab=0,1", "dpi=50,60", "size=2")
    assert (status, err) == (0, "")
    drawn = {str(p.parent.parent.name) for p in (tmp_path / "out").rglob("plus.png")}
    assert drawn == {"dpi=50,size=2", "dpi=60,size=2"}
    assert len(list((tmp_path / "out").rglob("plus.npz"))) == 1


def test_what_an_earlier_multirun_said_in_its_folder_does_not_count(run, tmp_path, monkeypatch):
    sweep = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    assert run("-m", "signs=plus", "size=4,5", sweep)[0] == 0
    monkeypatch.setattr("experiments.lab.jobs.Task.__call__", lambda self, cfg: None)
    status, out, _ = run("-m", "signs=plus", "size=6,7", sweep)
    assert status == 2
    assert out.splitlines()[0] == "jobs: 2: 2 missing"


def test_a_sweeps_folder_that_can_not_be_made_is_one_line(run):
    status, out, err = run("-m", "signs=plus", "size=4,5", "hydra.sweep.dir=/proc/nope")
    assert (status, out) == (2, "")
    assert err == "error: out: No such file or directory: /proc/nope\n"


def test_a_sweeps_folder_has_any_name(run, tmp_path):
    name = "it's a \\ sweep"
    quoted = name.replace("\\", "\\\\") if name.endswith("\\") else name
    sweep = arguments.quoted(str(tmp_path / quoted))
    assert run("-m", "signs=plus", "size=4", f"hydra.sweep.dir={sweep}")[0] == 0
    assert (tmp_path / name / "jobs/0.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("+cluster=local", "jobs=0"), "jobs: must be an integer from 1 to 10000 (got 0)"),
        (("+cluster=local", "jobs=abc"), "jobs: must be an integer from 1 to 10000 (got abc)"),
        (("+cluster=local", "jobs=100000000"), "jobs: must be an integer from 1 to 10000"),
        (("-m", "dpi=range(1,100000000)"), "jobs: must be at most 10000 in a multirun"),
        (("-m", "+cluster=local,slurm"), "cluster: must be one of them (got +cluster=local,slurm)"),
    ],
)
def test_what_no_jobs_can_be_made_of_is_one_line(words, said, run, tmp_path):
    status, out, err = run("signs=plus", *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {said}")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_several_jobs_are_summed_up_and_one_is_not(run):
    assert run("-m", "signs=plus", "size=4,5")[1].endswith("jobs: 2: 2 done\n")
    assert "jobs:" not in run("-m", "signs=plus", "size=6")[1]


def test_submitit_starts_jobs_that_share_and_one_that_fails_is_named(environment, tmp_path):
    """In processes of their own, as a user starts them."""
    start = [sys.executable, str(SCRIPT), "+cluster=local", "jobs=1", "signs=plus", "dpi=30"]
    start += [f"{TOO_LARGE},3", f"out={tmp_path / 'out'}"]
    start += [f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = subprocess.run(
        start, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"2 jobs, which print into {tmp_path}/sweep/submitit; the same")
    assert lines[1] == "jobs: 2: 1 done, 1 failed"
    assert lines[2].startswith(f"job 0 (slab=0 {TOO_LARGE}): failed (")
    assert "error: out: must have" in lines[2]
    assert (tmp_path / "out/default/results/sums/plus.npz").is_file()
    assert {p.name for p in tmp_path.iterdir()} == {"out", "sweep"}
