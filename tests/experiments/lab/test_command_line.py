"""The command line of every experiment: one line and status 2 for whatever a user gets wrong."""

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import study.sums
from study.sums import Sums

from experiments.lab import command_line
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


def files(folder, pattern="*.*z"):
    return {str(p.relative_to(folder)) for p in folder.rglob(pattern)}


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
        ("+hydra.mode='MULTIRUN'", "seeds=2,3"),
        ("size=4", "-m", "seeds=2,3"),
    ],
)
def test_a_multirun_gives_every_job_a_folder(flags, run_here, tmp_path):
    status, _, errors = run_here(*flags, "signs=plus")
    assert (status, errors) == (0, "")
    also = ",size=4" if "size=4" in flags else ""
    assert files(tmp_path / "out") == {f"seeds={s}{also}/results/sums/plus.npz" for s in (2, 3)}


def test_a_folder_for_sweeps_is_where_the_user_says(run_here, tmp_path):
    status, *_ = run_here("-m", "seeds=2", "signs=plus", f"hydra.sweep.dir={tmp_path / 'mine'}")
    assert status == 0
    assert files(tmp_path / "mine", "*") == {"jobs", "jobs/0.json", "multirun.yaml"}


# Arguments, and what is printed.
SHOWN = {
    "--info": "Config search path",
    "--info config seeds=7": "seeds: 7",
    "seeds=7 --cfg job threads=1": "seeds: 7",
    "-c=job seeds=7": "seeds: 7",
    "--hydra-help seeds=7": "Hydra",
    "--help seeds=7": "seeds: 7",
    "--version seeds=7": "Hydra",
}


def test_flags_and_overrides_come_in_any_order(environment, tmp_path):
    """In one process of their own, for Hydra's log keeps the first stream that it finds."""
    program = (
        "import sys; from study.sums import Sums, main\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv[1:] = line.split()\n"
        "    try: main(Sums())\n"
        "    except SystemExit as stop: assert not stop.code, line\n"
        "    print('<end>')"
    )
    done = in_python(program, environment, tmp_path, *SHOWN)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.split("<end>")[:-1]
    for (line, said), text in zip(SHOWN.items(), printed, strict=True):
        assert said in text, line
    assert not list(tmp_path.iterdir())


def in_python(program, environment, cwd, *arguments):
    """A program that knows `study`, in a process of its own."""
    path = os.pathsep.join((str(SCRIPT.parents[1]), str(command_line.ROOT)))
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment | {"PYTHONPATH": path},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


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
        (["hydra.mode='MULTIRUN'", "seeds=2,-1"], "error: seeds: must be"),
        (["++hydra.mode=MULTIRUN", "seeds=2,-1"], "error: seeds: must be"),
        (["hydra/launcher=nowhere", "-m", "seeds=2"], "error: overrides: In 'hydra/config': Could"),
        (["--cfg"], "error: --cfg: must be followed by one of job, hydra, all (got nothing)"),
        (["-m", "--cfg", "job"], "error: --cfg=job: must be given without -m"),
        (["--resolve"], "error: --resolve: must be given with --cfg"),
        (["hydra=1"], "error: overrides: Config group override must be"),
        (["--info=job"], "error: --info: must be followed by one of all, config"),
        ([""], "error: overrides: must be key=value"),
        (["out=oü"], "error: out: can not be read; letters as ( or ü need quotes, as in 'out=\"…"),
        (["out=x(1)"], "error: out: can not be read; letters as ( or ü need quotes"),
        (["signs=a\nb"], "error: signs: can not be read; letters as ( or ü need quotes"),
        (["signs='a\nb'"], "error: signs: must be plus, minus, or a list of them (got a\\nb)"),
        (["out=" + "a" * 300], "error: out: File name too long: "),
        (["unit=${oc.env:LAB_SECRET}"], "error: unit: must be null or an integer from 1 to 10 (got "
         "${oc.env:LAB_SECRET})"),
        (["replot=true"], "error: "),
        (["size=1e400"], "error: size: must be an integer"),
        ([f"size={'9' * 5000}"], "error: "),
        ([f"wait=1{'0' * 400}"], "error: wait: must be between 0 and 1"),
    ],
)  # fmt: skip
def test_what_a_user_gets_wrong_is_one_line_and_status_2(
    overrides, said, run_here, tmp_path, monkeypatch
):
    monkeypatch.setenv("LAB_SECRET", "of nobody's concern")
    status, printed, errors = run_here(*overrides)
    assert (status, printed, errors.count("\n")) == (2, "", 1), errors
    assert errors.startswith(said)
    assert "concern" not in errors
    assert not files(tmp_path)
    assert not (tmp_path / "out").exists()


def test_quotes_take_any_letter(run_here, tmp_path):
    out = tmp_path / "oü (1)\n~"
    assert run_here(f'out="{out}"', "signs=plus")[0] == 0
    assert files(out) == {"results/sums/plus.npz"}


# What the environment says, and how the line begins.
WRONG = {
    ("JAX_PLATFORMS", "cuda"): "",
    ("JAX_ENABLE_X64", "maybe"): "JAX can not be started: invalid truth value 'maybe'",
}


def test_a_terminal_of_few_letters_and_a_backend_for_figures_are_no_errors(environment, tmp_path):
    """Both streams; in a process of its own, for it is about its streams."""
    program = (
        "import sys; from study.sums import Sums, main\n"
        "report = Sums.report\n"
        "def said(*of):\n"
        "    print('note: \\u03bb', file=sys.stderr)\n"
        "    return report(*of)._replace(lines=['\\u03b7_A = \\u221e'])\n"
        "Sums.report = said\n"
        "main(Sums())"
    )
    few = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "MPLBACKEND": "nowhere"}
    done = in_python(program, environment | few, tmp_path, "signs=plus", f"out={tmp_path}")
    assert (done.returncode, done.stderr) == (0, "note: \\u03bb\n")
    assert done.stdout.startswith("\\u03b7_A = \\u221e\n")


@pytest.mark.parametrize("setting", WRONG)
def test_a_backend_that_does_not_start_is_one_line(setting, run, tmp_path):
    done = run(**dict([setting]))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: {WRONG[setting]}")
    assert not (tmp_path / "out").exists()


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


@pytest.fixture
def started(monkeypatch, capfd):
    """The command in this process: its exit status and what it says."""

    def run(experiment, *overrides):
        monkeypatch.setattr(sys, "argv", ["sums", *overrides])
        with pytest.raises(SystemExit) as stop:
            main(experiment)
        return stop.value.code, capfd.readouterr().err

    return run


def study_in(folder, config):
    """A study in a folder of its own, with this config if any."""
    folder.mkdir()
    script = folder / "script.py"
    script.write_text("from study.sums import Sums\nclass Study(Sums):\n    name = 'mine'\n")
    if config is not None:
        (folder / "conf").mkdir()
        (folder / "conf/mine.yaml").write_text(config)
    spec = importlib.util.spec_from_file_location("script", script)
    module = importlib.util.module_from_spec(spec)
    return spec, module


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "mine.yaml: no such config (looked for in {folder}/conf and in conf/ of the"),
        ("size: [1\n", "{folder}/conf/mine.yaml: can not be read: "),
        ("defaults:\n  - nowhere\n", "{folder}/conf/mine.yaml: can not be read: "),
    ],
)
def test_a_config_that_is_not_there_or_broken_is_named(
    config, said, started, tmp_path, monkeypatch
):
    folder = tmp_path / "elsewhere"
    spec, module = study_in(folder, config)
    monkeypatch.setitem(sys.modules, "script", module)
    spec.loader.exec_module(module)
    status, line = started(module.Study())
    assert (status, line.count("\n")) == (2, 1), line
    assert line.startswith("error: " + said.format(folder=folder))


@pytest.mark.parametrize("method", ["run", "report", "plan", "start"])
@pytest.mark.parametrize(
    "error", [RuntimeError, NotImplementedError, AssertionError, OSError, ValueError]
)
def test_errors_of_an_experiments_own_code_keep_their_traceback(
    method, error, tmp_path, monkeypatch
):
    def fails(self, *arguments):
        raise error("mine")

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(sys, "argv", ["sums", "signs=plus", f"out={tmp_path}"])
    with pytest.raises(error, match="mine"):
        main(type("Failing", (Sums,), {method: fails, "__module__": Sums.__module__})())


@pytest.mark.parametrize("arguments", ["out={}", "--help"])
def test_a_reader_who_has_gone_is_no_error(arguments, environment, tmp_path):
    line = f"{sys.executable} {SCRIPT} {arguments.format(tmp_path)} 2> {tmp_path}/said | true"
    line += "; echo ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)
    assert (done.stdout, (tmp_path / "said").read_text()) == ("141\n", "")


def test_an_installation_without_configs_is_named(started, tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "CONF", tmp_path / "conf")
    status, line = started(Sums())
    assert (status, line) == (
        2,
        f"error: {tmp_path}/conf: no configs here; run it in a checkout, or install one with "
        "pip install -e\n",
    )
