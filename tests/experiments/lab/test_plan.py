"""What a run would take: every experiment says so, and starts and makes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import study.sums
from study.sums import Sums, SumsConfig

from experiments.lab import plan
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.memory import Need
from experiments.lab.plan import Estimate, plan_of, weights
from experiments.lab.work import Work
from lora_theory.store.files import ResultsError

SCRIPT = Path(study.sums.__file__)
SWEEPS = ["two_layer", "two_layer_one_sided", "layer_adam", "layer_sign", "rank_init1"]
SWEEPS += ["rank_init2", "coordinates"]
# Experiment -> pieces of each part, in all of them, and units.
PLANNED = {
    "fig2": (["mse", "all_pairs"], 30, 12696),
    "optimum": (["mse", "all_pairs"], 192, 69312),
    "width": (
        SWEEPS,
        219 + 130 + 292 + 292 + 360 + 720 + 1,
        None,
    ),
    "width_quick": (["two_layer", "layer_adam"], 61 + 104, None),
    "width_all": (
        SWEEPS,
        709 + 452 + 1092 + 576 + 1008 + 2016 + 1,
        None,
    ),
    "claims": (["claims"], None, None),
    "transformer": (["transformer"], 120, None),
    "preconditioning": (["preconditioning"], 15 * 64, None),
    "budget": (["budget"], 72, None),
    "ratio": (["ratio"], 5 * 3 * 24, None),
}
PROBE = """
import contextlib, importlib, io, json, sys
from pathlib import Path
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
names = {"fig2": "Fig2", "width_quick": "WidthQuick", "width_all": "WidthAll"}
found = {}
for name in json.loads(sys.argv[1]):
    package = name in ("claims", "budget")
    module = f"experiments.{name}.experiment" if package else f"experiments.{name}"
    study = getattr(importlib.import_module(module), names.get(name, name.title()))()
    cfg = load(name, study.schema, ["plan=true", "jobs=50"])
    with contextlib.redirect_stdout(io.StringIO()) as out:
        conduct(study, cfg, Folders(Path("results", name), Path("figures")))
    started = "jax" in sys.modules
    found[name] = (started, out.getvalue(), sum(n.bytes for n in study.memory(cfg)))
print(json.dumps(found))
"""


def config(*overrides):
    return load("sums", SumsConfig, list(overrides), SCRIPT.parent / "conf")


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "results", tmp_path / "figures")


@pytest.fixture(scope="module")
def planned(tmp_path_factory, environment):
    """Experiment -> whether JAX had been started, and what was printed; and what was left."""
    folder = tmp_path_factory.mktemp("planned")
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(list(PLANNED))],
        cwd=folder, env=environment | {"PYTHONPATH": root}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout), list(folder.iterdir())


@pytest.mark.parametrize("name", PLANNED)
def test_every_experiment_says_what_it_would_take_and_starts_nothing(name, planned):
    found, made = planned
    started, printed, memory = found[name]
    assert (started, made) == (False, [])
    lines, (parts, pieces, units) = printed.splitlines(), PLANNED[name]
    assert lines[0] == f"plan of {name}, for results/{name} (nothing is started)"
    assert [line.partition(":")[0] for line in lines[1 : 1 + len(parts)]] == parts
    total = lines[1 + len(parts)]
    assert pieces is None or total.startswith(f"total: {pieces} pieces")
    assert units is None or f", {units} units; " in total
    assert "core-hours unknown" not in printed
    assert " core-hours;" in total
    assert lines[-1].startswith("with jobs=50 on CPUs, of ")
    assert "unknown" not in lines[-1]
    assert ("memory of one process: unknown" in printed) == (memory == 0)


class Costly(Sums):
    """A second for each piece of the first seed, two for each of the second, and so on."""

    def core_seconds(self, piece, cfg):
        return 3600.0 * (1 + piece[1])

    def memory(self, cfg):
        return [Need("sums", [("size", cfg.size)], copies=2), Need("more", [("size", 3)])]


def asked(folders, *overrides, study=None):
    return plan_of(study or Costly(), config(*overrides), folders)


def test_a_plan_has_pieces_work_bytes_memory_and_time(folders, monkeypatch):
    monkeypatch.setattr(plan, "cores", lambda: 2)
    assert asked(folders, "jobs=3", "size=1000") == [
        f"plan of sums, for {folders.results} (nothing is started)",
        "plus: 6 pieces; 21 core-hours; 46.9 KiB of results",
        "minus: 6 pieces; 21 core-hours; 46.9 KiB of results",
        "total: 12 pieces; 42 core-hours; 93.8 KiB of results",
        "while it runs: about 187.5 KiB, of pieces and results",
        "memory of one process: 7.8 KiB of arrays at least, and about half a GiB of Python and JAX",
        "with jobs=3 on CPUs, of 2 cores each: about 7.0 hours, starting and drawing aside",
    ]
    assert not folders.results.exists()


def test_more_jobs_than_pieces_take_as_long_as_the_longest(folders, monkeypatch):
    monkeypatch.setattr(plan, "cores", lambda: 2)
    last = asked(folders, "jobs=1000")[-1]
    assert last.startswith("with jobs=1000 on CPUs, of 2 cores each: about 3.0 hours, ")


def test_where_no_model_is_the_plan_says_unknown(folders):
    lines = asked(folders, study=Sums())
    assert lines[1] == "plus: 6 pieces; core-hours unknown; 144 bytes of results"
    assert lines[-2] == "memory of one process: unknown"
    assert lines[-1].endswith("each: unknown")


def test_one_piece_without_a_cost_makes_all_unknown():
    class Partly(Costly):
        def core_seconds(self, piece, cfg):
            return None if piece[1] == 3 else 1.0

    cfg = config()
    pieces = list(Partly().plan(cfg)[0].pieces.values())
    assert weights(Partly(), pieces, cfg) == ([1.0] * 6, False)
    assert weights(Costly(), pieces[:2], cfg) == ([3600.0, 7200.0], True)


def done(folders, study, *seeds, **said):
    """Some pieces of the first part, by a process that says what they took."""
    import dataclasses

    folders.results.mkdir(exist_ok=True)
    cfg = config()
    work = Work(study, study.plan(cfg)[0], cfg, folders.results / "plus.npz", {"unit": 1})
    with work.worker.reporting():
        for seed in seeds:
            work._attempt(f"seed={seed}", lambda *_: None)
        work.worker.record = dataclasses.replace(work.worker.record, **said)
    return work


def test_what_pieces_took_here_is_used_in_place_of_the_model(folders):
    """Half of what the model says of core-seconds; of the others the model stays."""
    study = Costly()
    done(folders, study, 0, 3, core_seconds=2.5 * 3600, seconds=5 * 3600.0)
    lines = asked(folders, study=study)
    assert lines[1] == (
        "plus: 6 pieces (2 of them done); 8 core-hours (as 2 pieces took here); 144 bytes of "
        "results"
    )
    assert lines[2].startswith("minus: 6 pieces; 21 core-hours; ")
    assert lines[-1].startswith("with jobs=1: about ")


def test_without_a_model_units_tell(folders):
    study = Sums()
    done(folders, study, 0, 3, core_seconds=7200.0, seconds=3600.0)
    assert asked(folders, study=study)[1].startswith(
        "plus: 6 pieces (2 of them done); 4 core-hours (as 2 pieces took here)"
    )


def test_parts_that_are_done_are_left_out(folders):
    conduct(Sums(), config("signs=plus"), folders)
    lines = asked(folders)
    assert lines[1] == "plus: done"
    assert lines[3].startswith("total: 6 pieces; 21 core-hours")
    conduct(Sums(), config(), folders)
    assert asked(folders)[1:] == ["plus: done", "minus: done", "total: nothing to compute"]
    with pytest.raises(ResultsError, match="of another config"):
        asked(folders, "size=5")


def test_a_total_is_unknown_where_a_part_is():
    known = Estimate(1, 2, 0, 3.0, 4.0, 5.0, 6, 0)
    total = Estimate.total([known, known._replace(core_seconds=None, bytes=None, longest=7.0)])
    assert total == Estimate(2, 4, 0, None, 8.0, 7.0, None, 0)


def test_the_command_line_asks_for_it_and_a_multirun_for_each(tmp_path, environment):
    root = str(Path(__file__).parents[3])
    words = ["plan=true", "-m", "size=2,4", "+cluster=slurm", f"out={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        cwd=tmp_path, env=environment | {"PYTHONPATH": root}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    plans = [line for line in done.stdout.splitlines() if line.startswith("plan of sums")]
    assert [line.split("/")[1] for line in plans] == ["size=2", "size=4"]
    assert list(tmp_path.iterdir()) == []
