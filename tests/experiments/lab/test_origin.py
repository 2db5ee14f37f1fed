"""Whose results are: what is loaded, computed anew or refused, and when pieces go."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import study.sums
from study.sums import Sums, SumsConfig

from experiments.lab import experiment as lab
from experiments.lab import origin, schema, work
from experiments.lab.backend import BackendError
from experiments.lab.command_line import load
from experiments.lab.experiment import Part, conduct
from experiments.lab.folders import Folders
from experiments.lab.memory import Need
from experiments.lab.schema import ConfigError, drawing, science
from lora_theory.store.dataset import Results
from lora_theory.store.files import ResultsError
from lora_theory.store.pieces import Pieces


def config(*overrides):
    return load("sums", SumsConfig, list(overrides), Path(study.sums.__file__).parent / "conf")


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "results", tmp_path / "figures")


def pieces(folder):
    return sorted(p.name for p in folder.rglob("seed=*.npz"))


class Renewed(Sums):
    renews = True


@pytest.fixture
def code(monkeypatch):
    """What runs and what keeps has the digests that a test says."""
    now = {"run": "a", "keep": "a"}

    def digest(kind, entries, **_):
        return now["keep" if "keep" in entries else "run"]

    monkeypatch.setattr(origin, "code_digest", digest)
    return now


def test_what_renews_is_loaded_while_its_provenance_is_the_same(folders, code, capsys):
    experiment = Renewed()
    for overrides in ((), ("dpi=50",), ("replot=true",)):
        conduct(experiment, config(*overrides), folders)
        assert len(experiment.ran) == 12
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("changed", ["run", "keep"])
def test_what_renews_is_computed_anew_when_its_code_changes(changed, folders, code, capsys):
    conduct(Renewed(), config(), folders)
    code[changed] = code["keep"] = "b"
    only = Renewed()
    conduct(only, config("replot=true"), folders)
    assert only.ran == []
    assert "run without replot=true to compute it here" in capsys.readouterr().err
    again = Renewed()
    conduct(again, config(), folders)
    assert len(again.ran) == 12
    assert "plus.npz: computed anew (the code that computes has changed)" in capsys.readouterr().err


def test_pieces_are_of_what_runs_and_results_of_what_keeps_as_well(folders, code):
    class Failing(Sums):
        def report(self, *arguments):
            raise ZeroDivisionError

    code["keep"] = "what keeps"
    with pytest.raises(ZeroDivisionError):
        conduct(Failing(), config("signs=plus"), folders)
    (record,) = folders.results.rglob("provenance.json")
    assert json.loads(record.read_text())["code"] == "a"
    assert Results.load(folders.results / "plus.npz").provenance.code == "what keeps"


def test_pieces_stay_until_everything_is_shown(folders, code):
    class Failing(Renewed):
        def report(self, *arguments):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        conduct(Failing(), config("signs=plus"), folders)
    assert len(pieces(folders.results)) == 6
    code["keep"] = "b"  # The report has to be made anew, of the same measurements.
    experiment = Renewed()
    conduct(experiment, config("signs=plus"), folders)
    assert experiment.ran == []
    assert pieces(folders.results) == []


def test_pieces_that_a_kill_left_beside_the_finished_file_are_removed(folders, code):
    conduct(Sums(), config("signs=plus"), folders)
    saved = Results.load(folders.results / "plus.npz").provenance
    path, cfg = folders.results / "plus.npz", config("signs=plus")
    ours = origin.pieces_of(Sums(), Sums().plan(cfg)[0], cfg, path, saved)
    other = Pieces(path, saved._replace(code="other"))
    for store, name in ((ours, "seed=0"), (other, "seed=1")):
        store.make()
        store.put(name, {"total": np.ones(1)})
    conduct(Sums(), config("signs=plus"), folders)
    assert pieces(folders.results) == ["seed=1.npz"]  # Somebody's hours.


def test_a_run_that_waited_for_another_uses_what_that_one_made(folders, code, monkeypatch):
    """The other one finishes while this one waits for the lock."""
    conduct(Renewed(), config("signs=plus"), folders)
    (folders.results / "plus.npz").rename(folders.results / "kept")
    first, kept = Renewed(), []

    class Late(Renewed):
        def keep(self, *arguments):
            kept.append(arguments)

    original, calls = work.exclusive, []

    def exclusive(path, **options):
        calls.append(path)
        if len(calls) == 2:  # The first one is to begin.
            (folders.results / "kept").rename(folders.results / "plus.npz")
        return original(path, **options)

    monkeypatch.setattr(work, "exclusive", exclusive)
    conduct(Late(), config("signs=plus"), folders)
    assert (kept, first.ran, pieces(folders.results)) == ([], [], [])


class Shifted(Sums):
    """The same names, other pieces."""

    def plan(self, cfg):
        parts = super().plan(cfg)
        return [
            part._replace(pieces={n: (sign, seed + 1) for n, (sign, seed) in part.pieces.items()})
            for part in parts
        ]


def test_another_piece_under_the_same_name_is_not_taken_up(folders, code):
    class Stopped(Sums):
        def run(self, piece, cfg):
            if len(self.ran) == 3:
                raise KeyboardInterrupt
            return super().run(piece, cfg)

    with pytest.raises(KeyboardInterrupt):
        conduct(Stopped(), config("signs=plus"), folders)
    experiment = Shifted()
    conduct(experiment, config("signs=plus"), folders)
    assert len(experiment.ran) == 6
    totals = Results.load(folders.results / "plus.npz").arrays["total"][:, 0]
    np.testing.assert_array_equal(totals, 2.0 * np.arange(1, 7))


@pytest.mark.parametrize("kind", [Sums, Renewed])
def test_saved_results_of_every_part_are_checked_before_anything_is_computed(kind, folders, code):
    conduct(kind(), config("signs=minus"), folders)
    before = (folders.results / "minus.npz").read_bytes()
    experiment = kind()
    with pytest.raises(ResultsError, match=r"minus\.npz: of another config \(size is 3, not 4\)"):
        conduct(experiment, config("size=4"), folders)
    assert experiment.ran == []
    assert (folders.results / "minus.npz").read_bytes() == before


def test_drawing_what_is_not_there_leaves_no_folders(folders):
    with pytest.raises(ResultsError, match="no such results file"):
        conduct(Sums(), config("replot=true"), folders)
    assert not folders.results.exists()
    assert not folders.figures.exists()


@pytest.mark.parametrize("override", ["replot=true", "replot=false"])
def test_results_of_version_0_1_0_are_refused_without_the_advice_to_delete_them(
    override, folders, code
):
    conduct(Sums(), config("signs=plus"), folders)
    path = folders.results / "plus.npz"
    losses = {n: np.zeros((1, 1, 1, 1)) for n in ("train_loss", "test_loss")}
    axes = {n: np.zeros(1) for n in ("eta_a", "eta_b", "seed", "step")}
    diverged = {"diverged_at": np.zeros((1, 1, 1))}
    np.savez(path, **losses, **axes, **diverged, config=np.array("{}"), format=np.array(1))
    with pytest.raises(ResultsError) as refused:
        conduct(Sums(), config("signs=plus", override), folders)
    said = str(refused.value)
    assert "written by version 0.1.0, which lora_theory.Results.load reads; move it" in said
    assert "delete" not in said


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatedConfig(SumsConfig):
    rates: dict[str, float] = science()
    shade: int = drawing()


class Rated(Sums):
    """Its start adds a key of its own."""

    schema = RatedConfig

    def start(self, cfg):
        return super().start(cfg) | {"machine": {"cores": 2}}


def rated(**changes):
    plain = {
        "seeds": 2, "size": 1, "unit": None, "signs": ["plus"], "wait": 0.0, "threads": 1,
        "dpi": 40, "shade": 1, "out": None, "replot": False, "rates": {"a": 1},
    }  # fmt: skip
    return schema.build(RatedConfig, plain | changes)


def test_a_key_that_only_saved_results_have_is_another_config(folders, code):
    conduct(Rated(), rated(rates={"a": 1, "b": 2}), folders)
    with pytest.raises(ResultsError, match=r"rates\.b is 2\.0, not missing"):
        conduct(Rated(), rated(), folders)


def test_what_the_machine_chose_and_added_is_not_compared(folders, code):
    conduct(Rated(), rated(), folders)
    saved = Results.load(folders.results / "plus.npz").config
    assert (saved["unit"], saved["machine"]) == (1, {"cores": 2})
    experiment = Rated()
    conduct(experiment, rated(), folders)
    assert experiment.ran == []


def test_an_entry_of_a_table_that_is_not_used_decides_nothing(folders, monkeypatch):
    """What an experiment says of tables, and the config's classes, reach the digest."""
    seen = []

    class Tabled(Sums):
        def tables(self, part, cfg):
            return {"study.sums:TABLE": [part.name]}

    def digest(kind, entries, *, records, tables, outside):
        seen.append((kind, records, tables, outside))
        return ""

    monkeypatch.setattr(origin, "code_digest", digest)
    conduct(Tabled(), config("signs=plus"), folders)
    assert seen[0] == (Tabled, [SumsConfig], {"study.sums:TABLE": ["plus"]}, "experiments.lab")


@pytest.mark.parametrize("error", [RuntimeError("Unknown backend"), AssertionError("cuda")])
def test_a_backend_that_does_not_start_is_a_line(error, folders, monkeypatch):
    class Failing(Sums):
        def start(self, cfg):
            raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(BackendError, match=r"\A[^\n]*(Unknown backend|got cuda)"):
        conduct(Failing(), config(), folders)


@pytest.mark.parametrize("unit", [3, 1])
def test_what_the_machine_would_decide_otherwise_is_refused_before(unit, folders):
    """Its results would be of another config for ever."""

    class Other(Sums):
        def start(self, cfg):
            return {"unit": 1}

    if unit == 1:  # Control.
        conduct(Other(), config("unit=1", "signs=plus"), folders)
        return
    with pytest.raises(ConfigError, match=r"^unit: must be null or 1 here \(got 3\)$"):
        conduct(Other(), config("unit=3", "signs=plus"), folders)
    assert not folders.results.exists()
    assert not folders.figures.exists()


def test_what_can_not_fit_in_memory_is_refused_before(folders):
    class Large(Sums):
        def memory(self, cfg):
            return [Need("sums", [("size", 10**12), ("seeds", 10**6)]), Need("b", [("size", 1)])]

    with pytest.raises(ConfigError, match=r"^size: must fit in memory: sums would take 37252"):
        conduct(Large(), config("signs=plus"), folders)
    assert not folders.results.exists()


def test_two_parts_of_one_name_are_a_mistake(folders):
    class Twice(Sums):
        def plan(self, cfg):
            return [Part("plus", {}), Part("plus", {})]

    with pytest.raises(ValueError, match="two parts have the name plus"):
        conduct(Twice(), config(), folders)


@pytest.mark.parametrize("method", ["run", "report", "layout"])
def test_a_method_that_is_missing_is_named(method, folders):
    methods = {n: v for n, v in vars(Sums).items() if n != method and not n.startswith("__dict")}
    experiment = type("Careless", (lab.Experiment,), methods)()
    with pytest.raises(TypeError, match=rf"Careless needs a method {method}"):
        conduct(experiment, config(), folders)
    assert not folders.results.exists()


def test_a_layout_is_checked_before_and_a_piece_when_it_is_computed(folders):
    class Misnamed(Sums):
        def layout(self, part, cfg):
            made = super().layout(part, cfg)
            return made._replace(variables={"config": made.variables["total"]})

    class Misfit(Sums):
        def run(self, piece, cfg):
            return {"total": super().run(piece, cfg)["total"][0]}

    with pytest.raises(ValueError, match="config: a name that the file needs"):
        conduct(Misnamed(), config(), folders)
    experiment = Misfit()
    said = (
        r"total: a piece gives float64 of shape \(3,\), and must give float64 of shape \(cells, 3"
    )
    with pytest.raises(ValueError, match=said):
        conduct(experiment, config(), folders)
    assert len(experiment.ran) == 1
    assert pieces(folders.results) == []


def test_pieces_are_found_without_a_backend_as_they_were_settled(folders, code):
    """By config and code; on whatever backend, with what the machine decided there."""
    study, cfg = Sums(), config("signs=plus")
    part, path = study.plan(cfg)[0], folders.results / "plus.npz"

    def found(*overrides):
        asked = config("signs=plus", *overrides)
        return origin.there(Sums(), Sums().plan(asked)[0], asked, path)

    assert found() == []
    folders.results.mkdir()
    begun = work.Work(study, part, cfg, path, {"unit": 4})
    begun._attempt("seed=2", lambda *_: None)
    (one,) = found()
    assert (one.done, one.claims, one.cfg.unit) == ({"seed=2"}, {}, 4)
    other = begun.store.provenance._replace(versions={"backend": "tpu"})
    Pieces(path, other).make()
    assert sorted(len(each.done) for each in found()) == [0, 1]
    assert found("size=9") == []
    code["run"] = "b"
    assert found() == []


def test_results_are_finished_unless_they_are_due_to_be_renewed(folders, code):
    cfg, path = config("signs=plus"), folders.results / "plus.npz"

    def finished(study, *overrides):
        asked = config("signs=plus", *overrides)
        return origin.finished(study, study.plan(asked)[0], asked, path)

    assert not finished(Renewed())
    conduct(Renewed(), cfg, folders)
    assert finished(Renewed())
    code["keep"] = "b"
    assert (finished(Sums()), finished(Renewed())) == (True, False)
    with pytest.raises(ResultsError, match="of another config"):
        finished(Sums(), "size=9")
    path.write_bytes(b"nothing")
    with pytest.raises(ResultsError, match=str(path)):
        finished(Sums())
