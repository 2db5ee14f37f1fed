"""The command line of every experiment: one line and status 2 for whatever a user gets wrong."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import study.sums
from study.sums import Sums

from experiments.lab.command_line import load, main
from experiments.lab.schema import ConfigError

SCRIPT = Path(study.sums.__file__)


@pytest.fixture
def run(environment, tmp_path):
    """`python sums.py …` in an empty folder, with results in `tmp_path / "out"`."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    start = functools.partial(subprocess.run, cwd=cwd, capture_output=True, text=True, timeout=120)

    def started(*overrides, **setting):
        line = [sys.executable, str(SCRIPT), f"out={tmp_path / 'out'}", *overrides]
        done = start(line, env=environment | setting)
        assert not list(cwd.iterdir())  # Nothing is left where the user stands.
        return done

    return started


@pytest.fixture
def run_here(tmp_path, monkeypatch, capfd):
    """The same without a process of its own: (exit status, what was printed, the errors)."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()

    def started(*overrides):
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.setattr(sys, "argv", ["sums.py", f"out={tmp_path / 'out'}", *overrides])
            status = 0
            try:
                main(Sums())
            except SystemExit as stop:
                status = stop.code
        assert not list(cwd.iterdir())
        return status, *capfd.readouterr()

    return started


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*.*z")}


def test_a_script_anywhere_finds_its_config_and_the_common_ones(run, tmp_path):
    done = run("seeds=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert files(tmp_path / "out") == {"results/sums/plus.npz", "results/sums/minus.npz"}


@pytest.mark.parametrize(
    "flags",
    [
        ("-m", "seeds=2,3"),
        ("seeds=2,3", "-m"),
        ("--multirun", "seeds=2,3"),
        ("hydra.mode=MULTIRUN", "seeds=2,3"),
    ],
)
def test_a_multirun_gives_every_job_a_folder(flags, run_here, tmp_path):
    status, _, errors = run_here(*flags, "signs=plus")
    assert (status, errors) == (0, "")
    assert files(tmp_path / "out") == {f"seeds={s}/results/sums/plus.npz" for s in (2, 3)}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["size=0"], "error: size: must be an integer from 1"),
        (["siz=1"], "error: siz: unknown key; did you mean size?"),
        (["+more=1"], "error: more: unknown key"),
        (["~size"], "error: size: must be given"),
        (["size=${nope}"], "error: size: "),
        (["size=1,2"], "error: overrides: Ambiguous value"),
        (["word"], "error: word: unknown key"),
        (["=3"], "error: "),
        (["--foo"], "error: --foo: must be one of"),
        (["-x"], "error: -x: must be one of"),
        (["-m", "seeds=2,-1"], "error: seeds: must be"),
        (["hydra.mode=MULTIRUN", "seeds=2,-1"], "error: seeds: must be"),
        (["replot=true"], "error: "),
    ],
)  # fmt: skip
def test_what_a_user_gets_wrong_is_one_line_and_status_2(overrides, said, run_here, tmp_path):
    status, printed, errors = run_here(*overrides)
    assert (status, printed, errors.count("\n")) == (2, "", 1), errors
    assert errors.startswith(said)
    assert not files(tmp_path)


def test_a_backend_that_is_not_there_is_one_line(run, tmp_path):
    done = run(JAX_PLATFORMS="cuda")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert not files(tmp_path)


def test_a_folder_that_can_not_be_written_is_one_line(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    if os.geteuid() == 0:  # Root may write anywhere: a file in the folder's place stops root, too.
        (out / "results").write_text("a file")
    else:
        out.chmod(0o500)
    done = run()
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: out: ")


def test_help_starts_no_jax(environment):
    probe = (
        f"import sys, runpy; sys.argv = ['sums', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('jax' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True
    )
    assert "seeds: 6" in done.stdout
    assert done.stdout.endswith("False False\n")


def test_load_composes_for_notebooks_and_refuses_in_the_same_words():
    from experiments.landscape.experiment import LandscapeConfig

    assert load("fig2", LandscapeConfig, ["seeds=4..5"]).seeds == (4, 5)
    with pytest.raises(ConfigError, match="steps: must be an integer"):
        load("fig2", LandscapeConfig, ["steps=-1"])
