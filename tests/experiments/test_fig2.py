"""Figure 2 as a user runs it: what it computes, prints and refuses."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from experiments import registry
from experiments.fig2 import Fig2
from experiments.lab import command_line
from experiments.lab import folders as places
from experiments.lab.command_line import load, main
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError, build, flatten, roles
from experiments.landscape import report
from experiments.landscape.experiment import LandscapeConfig
from lora_theory.plots import landscapes as plots
from lora_theory.store.dataset import Results, ResultsError
from lora_theory.train import sweep

ROOT = Path(__file__).parents[2]
SMALL = [
    "model.width=20",
    "task.n_train=50",
    "task.n_test=20",
    "grid.points=6",
    "seeds=2",
    "steps=12",
    "plot.dpi=40",
]


@pytest.fixture(scope="session")
def user(environment):
    """Runs the command, or a program of Python, in a process of its own, as a user does."""

    def run(*arguments, program=("-m", "experiments.fig2"), **setting):
        return subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=ROOT,
            env=environment | setting,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


WRITTEN = {
    *(f"results/fig2/{loss}.npz" for loss in ("mse", "all_pairs")),
    *(
        f"figures/fig2_{loss}{which}.{kind}"
        for loss in ("mse", "all_pairs")
        for which in ("", "_judges")
        for kind in ("png", "pdf")
    ),
}


@pytest.fixture(scope="session")
def reference(once, user):
    """An uninterrupted small run of both losses: its folder and what it printed."""

    def run(folder):
        done = user(*SMALL, f"out={folder / 'out'}")
        assert (done.returncode, done.stderr) == (0, "")
        (folder / "stdout").write_text(done.stdout)

    folder = once("fig2", run)
    return folder / "out", (folder / "stdout").read_text()


def test_a_run_writes_what_it_names_and_prints_the_table(reference):
    out, printed = reference
    assert files(out) == WRITTEN
    for word in ("best equal", "mean, as in the paper", "no interval", "mse", "all_pairs"):
        assert word in printed


def test_the_saved_arrays_are_labelled_and_carry_their_config(reference):
    results = Results.load(reference[0] / "results/fig2/mse.npz")
    data = results.to_xarray()
    assert dict(data.sizes) == {"seed": 2, "eta_a": 6, "eta_b": 6, "step": 13}
    assert data.train_loss.dims == data.test_loss.dims == ("seed", "eta_a", "eta_b", "step")
    np.testing.assert_allclose(data.eta_a, np.logspace(-4, 1, 6))
    assert results.config["loss"] == "mse"
    assert results.config["model"]["width"] == 20
    assert results.config["engine"]["micro_batch"] == 8
    assert results.provenance.versions["backend"] == "cpu"
    assert json.dumps(results.config)


def test_numpy_alone_reads_the_file_as_the_readme_says(reference):
    with np.load(reference[0] / "results/fig2/mse.npz", allow_pickle=False) as archive:
        assert archive["train_loss"].shape == archive["test_loss"].shape == (2, 6, 6, 13)
        assert archive["diverged_at"].shape == (2, 6, 6)
        assert json.loads(str(archive["config"]))["steps"] == 12
        assert archive["step"].tolist() == list(range(13))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_any_number_of_devices_gives_the_same_file(count, devices, reference, undrawn, tmp_path):
    assert len(devices) >= count
    computed(tmp_path, "model.width=20", f"engine.devices={count}")
    name = "results/fig2/mse.npz"
    assert (tmp_path / "results/mse.npz").read_bytes() == (reference[0] / name).read_bytes()


def test_an_override_is_another_run_in_a_folder_of_its_own():
    import hydra

    defaults = command_line._defaults("fig2", command_line.CONF)

    def folders(*overrides):
        with hydra.initialize_config_dir(str(command_line.CONF), version_base="1.3"):
            cfg = hydra.compose("fig2", overrides=list(overrides))
            asked = command_line._plain(cfg, resolve=False)
        known, where = roles(LandscapeConfig), {"root": ROOT, "out": None, "one_of_many": False}
        return places.folders("fig2", known, defaults, asked, **where)

    default = folders()
    assert default == (ROOT / "results/fig2", ROOT / "figures")
    assert folders("loss=mse", "replot=true") == default
    assert folders("model.width=100", "steps=200") == default
    assert folders("engine.devices=1", "engine.chunk=8") == default  # They change no bit.
    seen = {default}
    for override in ("model.width=64", "steps=50", "model=linear", "engine.micro_batch=4"):
        place = folders(override)
        assert place not in seen
        assert not {place.results, place.figures} & set(default)
        seen.add(place)
    redrawn = folders("plot.dpi=50")  # Another drawing of the same results.
    assert redrawn.results == default.results
    assert redrawn.figures != default.figures


@pytest.fixture
def undrawn(monkeypatch):
    """An empty figure: other tests look at it, and it takes a second."""
    for name in ("figure2", "judges_figure"):
        monkeypatch.setattr(plots, name, lambda *arguments, **options: Figure())


def computed(tmp_path, *overrides):
    """Results of a small run in this process."""
    cfg = load("fig2", LandscapeConfig, [*SMALL, "loss=mse", *overrides])
    conduct(Fig2(), cfg, Folders(tmp_path / "results", tmp_path / "figures"))
    return Results.load(tmp_path / "results" / "mse.npz").to_xarray()


@pytest.mark.parametrize("model", registry.MODELS)
@pytest.mark.parametrize("optimizer", registry.OPTIMIZERS)
def test_every_model_and_optimizer_runs_and_trains(model, optimizer, undrawn, tmp_path, capsys):
    data = computed(
        tmp_path,
        f"model={model}",
        f"optimizer.name={optimizer}",
        "model.init=both",
        "model.width=20",
    )
    start, end = (data.train_loss.isel(step=t).mean("seed") for t in (0, 12))
    assert float(end.min()) < 0.9 * float(start.min())  # NaN where a seed diverged.
    assert "best equal" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["two_layer", "feature_layer"])
def test_one_random_factor_trains_above_something_frozen(model, undrawn, tmp_path):
    chosen = ["model.weight=random"] if model == "two_layer" else []
    data = computed(
        tmp_path,
        f"model={model}",
        "optimizer.name=adam",
        "model.init=A",
        "model.width=20",
        *chosen,
    )
    start, end = (data.train_loss.isel(step=t).mean("seed") for t in (0, 12))
    assert float(end.min()) < 0.9 * float(start.min())
    # Control: where B's rate is smallest hardly anything has moved.
    assert float(end[0, 0]) > 0.95 * float(start[0, 0])


def test_the_same_optimizer_at_other_rates_is_another_run(undrawn, tmp_path):
    """Control: the rates reach the optimizer, each its own factor's."""
    data = computed(tmp_path, "model.width=20")
    last = data.train_loss.isel(step=-1, seed=0)
    assert not np.isclose(last[0, 2], last[2, 0], rtol=1e-3)


def test_axes_of_their_own_and_powers_of_n(tmp_path):
    data = computed(
        tmp_path, "model.width=20", "grid.a.points=3", "grid.a.power=-1", "grid.b.low=1e-2"
    )
    np.testing.assert_allclose(data.eta_a, np.geomspace(1e-4, 10, 3) / 20)
    np.testing.assert_allclose(data.eta_b, np.geomspace(1e-2, 10, 6))
    assert data.train_loss.shape == (2, 3, 6, 13)


def test_seeds_as_a_count_a_list_and_a_range_are_the_same_seeds(undrawn, tmp_path):
    some = computed(tmp_path / "list", "model.width=20", "seeds=[3,1]")
    more = computed(tmp_path / "range", "model.width=20", "seeds=1..3")
    assert some.seed.values.tolist() == [3, 1]
    assert more.seed.values.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(some.train_loss, more.train_loss.sel(seed=[3, 1]))


# `python -m experiments.fig2`, without its figures.
UNDRAWN = """
import runpy, sys
from matplotlib.figure import Figure
from lora_theory.plots import landscapes
landscapes.figure2 = landscapes.judges_figure = lambda *arguments, **options: Figure()
sys.argv[0] = "fig2"
runpy.run_module("experiments.fig2", run_name="__main__", alter_sys=True)
"""

# `python -m experiments.fig2`, killed when two chunks have been written.
KILLED = """
import os, runpy, signal, sys
from lora_theory.store.pieces import Pieces
put, written = Pieces.put, []
def put_two(store, name, arrays):
    put(store, name, arrays)
    written.append(name)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Pieces.put = put_two
sys.argv[0] = "fig2"
runpy.run_module("experiments.fig2", run_name="__main__", alter_sys=True)
"""


def test_a_killed_run_goes_on_to_the_same_bytes(reference, user, undrawn, tmp_path, monkeypatch):
    """Killed as a user's process, and taken up in this one, whose devices are others."""
    options = ["loss=mse", "engine.chunk=8"]
    done = user(*SMALL, *options, f"out={tmp_path}", program=("-c", KILLED))
    assert done.returncode == -signal.SIGKILL, done.stderr
    results = tmp_path / "results/fig2"
    assert len(list(results.rglob("seed=*.npz"))) == 2
    assert not (results / "mse.npz").exists()
    ran, train = [], sweep.sweep_cells
    monkeypatch.setattr(sweep, "sweep_cells", lambda *a, **kw: ran.append(a) or train(*a, **kw))
    cfg = load("fig2", LandscapeConfig, [*SMALL, *options])
    conduct(Fig2(), cfg, Folders(results, tmp_path / "figures"))
    assert len(ran) == 2 * math.ceil(36 / 8) - 2
    name = "results/fig2/mse.npz"
    assert (tmp_path / name).read_bytes() == (reference[0] / name).read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("seed=*"))


def test_a_disk_known_to_be_too_small_is_refused_at_once(tmp_path):
    cfg = load("fig2", LandscapeConfig, ["steps=100000000"])
    with pytest.raises(ConfigError, match=r"out: must have .* GiB free"):
        conduct(Fig2(), cfg, Folders(tmp_path / "r", tmp_path / "f"))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-50], lambda b: b[:3000] + bytes([b[3000] ^ 1]) + b[3001:]]
)
def test_damaged_results_are_refused_by_name_and_left(damage, reference, tmp_path):
    path = tmp_path / "results/mse.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage((reference[0] / "results/fig2/mse.npz").read_bytes()))
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=r"mse\.npz: damaged"):
        computed(tmp_path, "model.width=20")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "override",
    ["steps=13", "model.width=21", "seeds=3", "grid.low=1e-3", "optimizer.name=sign",
     "engine.micro_batch=4", "task.n_test=21", "model.weight=random", "model.rho=-1"],
)  # fmt: skip
def test_results_of_another_config_are_refused_by_name(override, reference, tmp_path):
    cfg = load("fig2", LandscapeConfig, [*SMALL, override])
    key = override.partition("=")[0]
    with pytest.raises(ResultsError, match=rf"mse\.npz: of another config \({key} is"):
        conduct(Fig2(), cfg, Folders(reference[0] / "results/fig2", tmp_path))


def test_a_loss_under_the_name_of_the_other_is_refused(reference, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    other = reference[0] / "results/fig2/all_pairs.npz"
    (results / "mse.npz").write_bytes(other.read_bytes())
    with pytest.raises(ResultsError, match="loss is all_pairs, not mse"):
        computed(tmp_path)


BAD = {
    "model.widht=3": "model.widht: unknown key; did you mean model.width?",
    "+typo=1": "typo: unknown key",
    "+model.depth=1": "model.depth: unknown key",
    "model.width=-4": "model.width: must be an integer from 1 to 1000000 (got -4)",
    "model.width=abc": "model.width: must be an integer",
    "model.width=1.5": "model.width: must be an integer",
    "model.rank=101": "model.rank: must be at most model.width = 100 (got 101)",
    "model.init=A": "model.init: must be both below a ReLU with W* = 0",
    "model.init=B": "or set model.weight=random (got B)",
    "model.weight=one": "model.weight: must be one of zero, random (got one)",
    "model.rho=-11": "model.rho: must be between -10 and 10",
    "model.init=C": "model.init: must be one of A, B, both (got C)",
    "model=cubic": f"model: must be one of {', '.join(sorted(registry.MODELS))} (got cubic)",
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
    "optimizer.name=newton": f"optimizer.name: must be one of {', '.join(registry.OPTIMIZERS)}",
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
    monkeypatch.chdir(tmp_path)
    runs = ROOT / "runs" / "fig2"
    before = files(runs)
    monkeypatch.setattr(sys, "argv", ["fig2", override])
    with pytest.raises(SystemExit) as stop:
        main(Fig2())
    printed = capfd.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert BAD[override] in printed.err
    assert printed.err.count("\n") == 1
    assert not files(tmp_path)
    assert files(runs) == before


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
    data = json.loads(json.dumps(DEFAULT))
    group = data
    *path, name = key.split(".")
    for part in path:
        group = group[part]
    assert key in flatten(DEFAULT)
    group[name] = value
    with pytest.raises(ConfigError, match=rf"^{key}: must be") as caught:
        build(LandscapeConfig, data)
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
    def built():
        return build(LandscapeConfig, DEFAULT | {key: value})

    try:
        assert isinstance(built(), LandscapeConfig)
    except ConfigError:
        with pytest.raises(ConfigError, match=r"\A[^\n]+\Z"):
            built()


def default():
    import hydra

    with hydra.initialize_config_dir(str(command_line.CONF), version_base="1.3"):
        return command_line._plain(hydra.compose("fig2"))


DEFAULT = default()


def test_help_is_quick_and_starts_no_backend(user):
    probe = (
        "import sys, runpy; sys.argv = ['fig2', '--help']\n"
        "try: runpy.run_module('experiments.fig2', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('jax' in sys.modules, 'flax' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = user(program=("-c", probe))
    assert done.stdout.endswith("False False False\n")
    assert "width: 100" in done.stdout


# Each of them, unpinned, would change the bytes or end the run where a cell diverges.
SETTINGS = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_DEBUG_NANS": "1",
    "JAX_RANDOM_SEED_OFFSET": "1",
    "JAX_DISABLE_JIT": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}


def test_the_environment_does_not_change_the_results(reference, user, tmp_path):
    """All settings at once: `devices.pin_numerics` names them one by one."""
    program = "-c", UNDRAWN
    done = user(*SMALL, "loss=mse", f"out={tmp_path}", program=program, **SETTINGS)
    assert (done.returncode, done.stderr) == (0, "")  # JAX_DEBUG_NANS would end it with a line.
    name = "results/fig2/mse.npz"
    found, expected = (Results.load(out / name).arrays for out in (tmp_path, reference[0]))
    for key, array in expected.items():
        assert found[key].dtype == array.dtype, "JAX_ENABLE_X64 is not pinned"
        np.testing.assert_array_equal(found[key], array, "X64 or the PRNG is not pinned")
    assert (tmp_path / name).read_bytes() == (reference[0] / name).read_bytes()


def test_published_values_are_shown_for_the_papers_setting_alone(reference):
    assert "published" not in reference[1]
    papers = {"model": {"name": "two_layer", "width": 100}, "optimizer": {"name": "gd"}}

    def shown(t, **changes):
        data = xarray.Dataset(attrs={"config": json.dumps(papers | changes)})
        return set(report.published(data, t))

    assert shown(200) == {"best", "best equal"}
    assert shown(100) == set()
    assert shown(200, optimizer={"name": "adam"}) == set()
    assert shown(200, model=papers["model"] | {"weight": "random"}) == set()
    assert shown(200, model=papers["model"] | {"weight": "zero"}) == {"best", "best equal"}


def test_the_floors_of_the_losses_are_saved(reference):
    floors = {}
    for loss in ("mse", "all_pairs"):
        data = Results.load(reference[0] / f"results/fig2/{loss}.npz").to_xarray()
        assert data.train_floor.dims == data.test_floor.dims == ("seed",)
        floors[loss] = data.train_floor.values
    assert (floors["mse"] == 0).all()
    # The variance of each seed's own targets, by the rule from seed to data.
    for seed, floor in enumerate(floors["all_pairs"]):
        key_data, _ = jax.random.split(jax.random.key(seed))
        y = np.sin(np.asarray(jax.random.normal(key_data, (5, 70))).mean(axis=0))[:50]
        assert floor == pytest.approx(y.var(), rel=1e-5)


def test_all_pairs_without_floors_are_refused_and_mse_is_drawn(reference, undrawn, tmp_path):
    for loss in ("mse", "all_pairs"):
        cfg = load("fig2", LandscapeConfig, [*SMALL, f"loss={loss}"])
        (part,) = Fig2().plan(cfg)
        data = Results.load(reference[0] / f"results/fig2/{loss}.npz").to_xarray()
        older = data.drop_vars(["train_floor", "test_floor"])
        if loss == "mse":
            assert Fig2().report(part, older, cfg).lines == Fig2().report(part, data, cfg).lines
        else:
            with pytest.raises(ResultsError, match="saved without the loss's floors"):
                Fig2().report(part, older, cfg)
