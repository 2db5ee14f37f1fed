"""`python -m experiments.fig2` as a user runs it: overrides, faults, kills, two runs at once."""

import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import cli, fig2, grid
from lora_theory.config import ConfigError, Fig2Config
from lora_theory.results import Results, ResultsError

ROOT = Path(__file__).parent.parent
# Seconds of work in chunks of tens of milliseconds.
SMALL = [
    "model.width=20",
    "task.n_train=50",
    "task.n_test=20",
    "grid.points=6",
    "seeds=2",
    "steps=12",
    "plot.dpi=40",
]


@pytest.fixture
def user(environment):
    """Runs the command in a process of its own, as a user does."""
    return functools.partial(
        subprocess.run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def command(*overrides):
    return [sys.executable, "-m", "experiments.fig2", *map(str, overrides)]


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


WRITTEN = {
    *(f"results/fig2/{loss}.npz" for loss in ("mse", "all_pairs")),
    *(f"figures/fig2_{loss}.{kind}" for loss in ("mse", "all_pairs") for kind in ("png", "pdf")),
}
LOCKS = {f"results/fig2/.{loss}.npz.lock" for loss in ("mse", "all_pairs")}


@pytest.fixture(scope="module")
def reference(tmp_path_factory, environment):
    """An uninterrupted small run of both losses."""
    out = tmp_path_factory.mktemp("reference")
    done = subprocess.run(
        command(*SMALL, f"out={out}"), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out, done.stdout


def test_a_run_writes_what_it_names_and_prints_the_table(reference):
    out, printed = reference
    assert files(out) == WRITTEN | LOCKS
    for word in ("best equal", "λ within 1 %", "mse", "all_pairs"):
        assert word in printed


def test_the_saved_arrays_are_labelled_and_carry_their_config(reference):
    results = Results.load(reference[0] / "results/fig2/mse.npz")
    assert results.train_loss.shape == results.test_loss.shape == (2, 6, 6, 13)
    np.testing.assert_allclose(results.eta_a, np.logspace(-4, 1, 6))
    assert results.config["loss"] == "mse"
    assert results.config["model"]["width"] == 20
    assert results.config["engine"]["micro_batch"] == 8
    assert json.dumps(results.config)


def test_the_second_run_does_not_compute(reference, user):
    out, printed = reference
    before = (out / "results/fig2/mse.npz").stat().st_mtime_ns
    again = user(command(*SMALL, f"out={out}", "replot=true"))
    assert again.stdout == printed
    once_more = user(command(*SMALL, f"out={out}"))
    assert once_more.stdout == printed
    assert (out / "results/fig2/mse.npz").stat().st_mtime_ns == before


def test_replot_without_results_is_refused(tmp_path, user):
    done = user(command(*SMALL, f"out={tmp_path}", "replot=true"))
    assert done.returncode == 2
    assert "mse.npz: no such results file" in done.stderr
    assert not files(tmp_path)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_any_number_of_devices_gives_the_same_file(devices, reference, tmp_path, user):
    done = user(command(*SMALL, f"out={tmp_path}", f"engine.devices={devices}", "loss=mse"))
    assert done.returncode == 0, done.stderr
    name = "results/fig2/mse.npz"
    assert (tmp_path / name).read_bytes() == (reference[0] / name).read_bytes()


def test_an_override_is_another_run_in_a_folder_of_its_own(monkeypatch):
    import hydra

    def folders(*overrides):
        with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
            return cli.folders("fig2", hydra.compose("fig2", overrides=list(overrides)))

    default = folders()
    assert default == (ROOT / "results/fig2", ROOT / "figures")
    assert folders("loss=mse", "replot=true") == default
    assert folders("model.width=100", "steps=200") == default
    seen = {default}
    for override in ("model.width=64", "steps=50", "model=linear", "engine.micro_batch=4"):
        place = folders(override)
        assert place not in seen
        assert not {place.results, place.figures} & set(default)
        seen.add(place)
    redrawn = folders("plot.dpi=50")  # Another drawing of the same results.
    assert redrawn.results == default.results
    assert redrawn.figures != default.figures


def test_multirun_gives_every_job_a_folder(tmp_path, user):
    done = user(command("-m", "model.width=8,12", *SMALL[1:], "loss=mse", f"out={tmp_path}"))
    assert done.returncode == 0, done.stderr
    widths = [
        Results.load(path).config["model"]["width"] for path in sorted(tmp_path.rglob("mse.npz"))
    ]
    assert sorted(widths) == [8, 12]
    assert not list(ROOT.glob("multirun*"))


@pytest.mark.parametrize("model", ["linear", "two_layer"])
@pytest.mark.parametrize("optimizer", ["sgd", "sign", "adam", "adamw"])
def test_every_model_and_optimizer_runs(model, optimizer, tmp_path):
    cfg = cli.load("fig2", Fig2Config, [f"model={model}", f"optimizer.name={optimizer}", *SMALL])
    results = grid.results_of(cfg, "mse", tmp_path / "mse.npz")
    assert np.isfinite(results.train_loss[..., 0]).all()
    assert "\n".join(fig2.table(results, 5, 12))


SLOW = [*SMALL, "grid.points=8", "steps=3000", "engine.chunk=8", "loss=mse"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, environment):
    out = tmp_path_factory.mktemp("uninterrupted")
    subprocess.run(command(*SLOW, f"out={out}"), cwd=ROOT, env=environment, check=True)
    return (out / "results/fig2/mse.npz").read_bytes()


def started(out, environment, chunks):
    """A run in the background that has finished at least `chunks` chunks."""
    process = subprocess.Popen(command(*SLOW, f"out={out}"), cwd=ROOT, env=environment)
    deadline = time.monotonic() + 60
    while len(list(out.rglob("chunk-*.npz"))) < chunks:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_goes_on_to_the_same_bytes(sign, uninterrupted, tmp_path, environment, user):
    process = started(tmp_path, environment, chunks=2)
    process.send_signal(sign)
    process.wait()
    assert not list(tmp_path.rglob("mse.npz"))
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("chunk-*.npz")}
    assert kept
    done = user(command(*SLOW, f"out={tmp_path}"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/fig2/mse.npz").read_bytes() == uninterrupted
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("chunk-*"))


def test_finished_chunks_are_not_computed_again(tmp_path, monkeypatch):
    from lora_theory import sweep

    cfg = cli.load("fig2", Fig2Config, [*SMALL, "engine.chunk=8"])
    computed = []
    original = sweep.sweep_cells

    def interrupted(problem, cells, **options):
        if len(computed) == 3:
            raise KeyboardInterrupt
        computed.append(len(cells))
        return original(problem, cells, **options)

    monkeypatch.setattr(sweep, "sweep_cells", interrupted)
    with pytest.raises(KeyboardInterrupt):
        grid.results_of(cfg, "mse", tmp_path / "mse.npz")
    computed.clear()
    monkeypatch.setattr(
        sweep, "sweep_cells", lambda p, c, **o: computed.append(len(c)) or original(p, c, **o)
    )
    grid.results_of(cfg, "mse", tmp_path / "mse.npz")
    assert sum(computed) == 2 * 36 - 3 * 8


def test_two_runs_at_once_do_not_harm_each_other(uninterrupted, tmp_path, environment):
    start = functools.partial(
        subprocess.Popen, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    both = [start(command(*SLOW, f"out={tmp_path}")) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("another run is writing" in text for text in said) == [False, True]
    assert (tmp_path / "results/fig2/mse.npz").read_bytes() == uninterrupted


def test_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(
    uninterrupted, tmp_path, environment, user
):
    blocks = len(uninterrupted) // 2 // 512  # Room for chunks, not for the file they end in.
    run = shlex.join(command(*SLOW, f"out={tmp_path}"))
    done = user(["bash", "-c", f"ulimit -f {blocks // 2}; exec {run}"])  # Bash counts in KiB.
    assert done.returncode == 2
    assert done.stderr.startswith("error: out: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("mse.npz"))
    assert not list(tmp_path.rglob("*.tmp"))
    assert user(command(*SLOW, f"out={tmp_path}")).returncode == 0
    assert (tmp_path / "results/fig2/mse.npz").read_bytes() == uninterrupted


def test_a_disk_known_to_be_too_small_is_refused_at_once(tmp_path):
    cfg = cli.load("fig2", Fig2Config, ["steps=1000000000"])
    with pytest.raises(ConfigError, match=r"out: must have .* GiB free"):
        grid.check_out(cfg, cli.Folders(tmp_path / "r", tmp_path / "f"))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-50], lambda b: b[:3000] + bytes([b[3000] ^ 1]) + b[3001:]]
)
def test_damaged_results_are_refused_by_name(damage, reference, tmp_path, user):
    path = tmp_path / "results/fig2/mse.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage((reference[0] / "results/fig2/mse.npz").read_bytes()))
    before = path.read_bytes()
    done = user(command(*SMALL, "loss=mse", f"out={tmp_path}"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{path}: damaged" in done.stderr
    assert path.read_bytes() == before
    assert files(tmp_path) == {"results/fig2/mse.npz"}


@pytest.mark.parametrize(
    "override",
    ["steps=13", "model.width=21", "seeds=3", "grid.low=1e-3", "optimizer.name=sign",
     "engine.micro_batch=4", "task.n_test=21", "model.init=A"],
)  # fmt: skip
def test_results_of_another_config_are_refused_by_name(override, reference):
    cfg = cli.load("fig2", Fig2Config, [*SMALL, override])
    key = override.partition("=")[0]
    with pytest.raises(ResultsError, match=rf"mse\.npz: of another config \({key} is"):
        grid.results_of(cfg, "mse", reference[0] / "results/fig2/mse.npz")


def test_a_loss_under_the_name_of_the_other_is_refused(reference):
    cfg = cli.load("fig2", Fig2Config, SMALL)
    with pytest.raises(ResultsError, match="loss is all_pairs, not mse"):
        grid.results_of(cfg, "mse", reference[0] / "results/fig2/all_pairs.npz")


BAD = {
    "model.widht=3": "model.widht: unknown key; did you mean model.width?",
    "+typo=1": "typo: unknown key",
    "+model.depth=1": "model.depth: unknown key",
    "model.width=-4": "model.width: must be an integer from 1 to 1000000 (got -4)",
    "model.width=abc": "model.width: must be an integer",
    "model.width=1.5": "model.width: must be an integer",
    "model.rank=101": "model.rank: must be at most model.width = 100 (got 101)",
    "model.init=C": "model.init: must be one of A, B, both (got C)",
    "model=cubic": "model: must be one of linear, two_layer (got cubic)",
    "grid.points=0": "grid.points: must be an integer from 1",
    "grid.low=0": "grid.low: must be between 1e-30 and 1e+30 (got 0)",
    "grid.low=-1": "grid.low: must be between 1e-30 and 1e+30 (got -1)",
    "grid.low=nan": "grid.low: must be between 1e-30 and 1e+30 (got NaN)",
    "grid.high=inf": "grid.high: must be between 1e-30 and 1e+30 (got Infinity)",
    "grid.high=1e-5": "grid.high: must be above grid.low = 0.0001",
    "grid.low=1e-60": "grid.low: must be between 1e-30 and 1e+30 (got 1e-60)",
    "grid.high=0.00010000001": "grid.points: must leave neighbouring rates 0.001 % apart",
    "model.gamma=-1000000": "model.gamma: must be between -10 and 10",
    "steps=0": "steps: must be an integer from 1",
    "seeds=0": "seeds: must be an integer from 1",
    "seeds=true": "seeds: must be an integer from 1",
    "loss=hinge": "loss: must be mse, all_pairs, or a list of them (got hinge)",
    "loss=[]": "loss: must be mse, all_pairs",
    "optimizer.name=lion": "optimizer.name: must be one of sgd, sign, adam, adamw",
    "out=/dev/null/x": "out: ",
    "out=": "out: must be null or a folder",
    "replot=maybe": "replot: must be true or false (got maybe)",
    "engine.micro_batch=0": "engine.micro_batch: must be null or an integer",
    "plot.late=201": "plot.late: must be at most steps = 200",
    "~steps": "steps",
    "model.width=${nope}": "nope",
    "model.width=1,2": "overrides: Ambiguous value",
    "word": "word: unknown key",
}


@pytest.mark.parametrize("override", BAD)
def test_every_bad_override_is_one_line_and_status_2(override, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(cli, "ROOT", tmp_path)  # Wherever it would have written, it does not.
    monkeypatch.setattr(sys, "argv", ["fig2", override])
    with pytest.raises(SystemExit) as stop:
        cli.main("fig2", Fig2Config, fig2.fig2)
    printed = capfd.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert BAD[override] in printed.err
    assert printed.err.count("\n") == 1
    assert not files(tmp_path)


def test_a_wrong_job_stops_a_multirun_before_the_first(tmp_path, user):
    done = user(command("-m", "model.width=8,-3", f"out={tmp_path}", *SMALL[1:]))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "model.width: must be" in done.stderr
    assert not files(tmp_path)


NUMBERS = st.one_of(
    st.integers(-(10**9), 0),
    st.floats(max_value=0.0),
    st.sampled_from([float("nan"), float("inf")]),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    key=st.sampled_from(
        ["grid.low", "grid.high", "grid.points", "steps", "seeds", "model.width", "model.rank",
         "model.inputs", "model.alpha", "task.n_train", "task.n_test", "plot.dpi",
         "plot.late_cap", "engine.chunk"]
    ),
    value=NUMBERS,
)  # fmt: skip
def test_no_senseless_number_passes(key, value):
    from lora_theory.config import build, flatten

    data = json.loads(json.dumps(DEFAULT))
    group = data
    *path, name = key.split(".")
    for part in path:
        group = group[part]
    assert key in flatten(DEFAULT)
    group[name] = value
    with pytest.raises(ConfigError, match=rf"^{key}: must be") as caught:
        build(Fig2Config, data)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    key=st.sampled_from(["model", "grid", "steps", "loss", "out", "replot", "engine", "plot"]),
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=3,
    ),
)
def test_anything_is_a_config_or_a_config_error(key, value):
    from lora_theory.config import build

    def built():
        return build(Fig2Config, DEFAULT | {key: value})

    try:
        assert isinstance(built(), Fig2Config)
    except ConfigError:
        with pytest.raises(ConfigError, match=r"\A[^\n]+\Z"):
            built()


def default():
    import hydra

    with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return cli._plain(hydra.compose("fig2"))


DEFAULT = default()


def test_help_is_quick_and_starts_no_backend(user):
    probe = (
        "import sys, runpy; sys.argv = ['fig2', '--help']\n"
        "try: runpy.run_module('experiments.fig2', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('jax' in sys.modules, 'flax' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = user([sys.executable, "-c", probe])
    assert done.stdout.endswith("False False False\n")
    assert "width: 100" in done.stdout


def test_importing_the_package_loads_nothing_heavy(user):
    code = "import sys, lora_theory.config; print({'jax', 'flax', 'numpy'} & set(sys.modules))"
    assert user([sys.executable, "-c", code]).stdout == "set()\n"


def test_unwritable_folder(tmp_path, user):
    if os.geteuid() == 0:  # Root may write anywhere: a file in the folder's place stops root, too.
        (tmp_path / "results").write_text("a file")
    else:
        tmp_path.chmod(0o500)
    done = user(command(*SMALL, f"out={tmp_path}"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: out: ")


@pytest.mark.parametrize(
    "setting", [{"JAX_ENABLE_X64": "1"}, {"JAX_DEFAULT_PRNG_IMPL": "rbg"}, {"JAX_DEBUG_NANS": "1"}]
)
def test_the_environment_does_not_change_the_results(setting, reference, environment, tmp_path):
    options = [*SMALL, "loss=mse", f"out={tmp_path}"]
    subprocess.run(
        command(*options), cwd=ROOT, env=environment | setting, check=True, capture_output=True
    )
    name = "results/fig2/mse.npz"
    assert (tmp_path / name).read_bytes() == (reference[0] / name).read_bytes()


@pytest.mark.parametrize(
    ("extra", "setting", "message"),
    [
        (["--foo"], {}, "error: --foo: must be one of"),
        (["engine.devices=1024", "-x"], {}, "error: -x: must be one of"),
        ([], {"JAX_PLATFORMS": "cuda"}, "error: "),
        (["-m", "seeds=1,-1"], {}, "error: seeds: "),
        (["hydra.mode=MULTIRUN", "seeds=1,-1"], {}, "error: seeds: "),
    ],
)
def test_unknown_flags_and_backends_are_one_line(extra, setting, message, environment, tmp_path):
    done = subprocess.run(
        command(*SMALL, f"out={tmp_path}", *extra),
        cwd=ROOT,
        env=environment | setting,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.rglob("*.npz"))


def test_long_tags_of_different_jobs_differ():
    long = {f"key{i}": "x" * 30 for i in range(10)}
    tags = {cli._tag(long | {"z": z}) for z in range(3)}
    assert len(tags) == 3
    assert all(len(tag) <= 200 for tag in tags)


def test_published_values_are_shown_for_the_papers_setting_alone(reference):
    assert "published" not in reference[1]
    papers = {"model": {"name": "two_layer", "width": 100}, "optimizer": {"name": "sgd"}}
    assert fig2._is_papers(papers, 200)
    assert not fig2._is_papers(papers, 100)
    assert not fig2._is_papers(papers | {"optimizer": {"name": "adam"}}, 200)
