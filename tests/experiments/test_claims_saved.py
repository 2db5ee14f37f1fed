"""Saved reports of claims: drawn again, measured anew, refused, whatever else has been added."""

import json
import shutil

import pytest

from experiments import registry
from experiments.claims import experiment, report, settings
from experiments.claims.experiment import Claims, ClaimsConfig
from experiments.lab import origin
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from lora_theory.store.files import ResultsError

ONE = ["only=[boundary-gd]", "lattice_steps=26", "map_log2_widths=[1000,1500,2000]"]


def config(*overrides):
    return load("claims", ClaimsConfig, [*ONE, *overrides])


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(report, "figures", lambda record: {})


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One claim of the scalar map, measured and judged."""
    folder = tmp_path_factory.mktemp("claims")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "figures", lambda record: {})
        conduct(Claims(), config(), Folders(folder / "results", folder / "figures"))
    return folder / "results"


@pytest.fixture
def folders(measured, tmp_path):
    shutil.copytree(measured, tmp_path / "results")
    return Folders(tmp_path / "results", tmp_path / "figures")


@pytest.fixture
def counted(monkeypatch):
    """Pieces that were measured."""
    found = []
    original = settings.measure
    monkeypatch.setattr(settings, "measure", lambda p, cfg: found.append(p) or original(p, cfg))
    return found


@pytest.mark.parametrize("override", ["dpi=300", "dpi=200"])
def test_a_second_run_measures_nothing(override, folders, counted, capsys):
    before = (folders.results / "claims.json").read_bytes()
    conduct(Claims(), config(override), folders)
    assert counted == []
    assert (folders.results / "claims.json").read_bytes() == before
    assert capsys.readouterr().err == ""


def test_another_judge_measures_and_judges_anew(folders, counted, monkeypatch, capsys):
    digest = origin.code_digest

    def edited(kind, entries, **options):
        return digest(kind, entries, **options) + ("edited" if "keep" in entries else "")

    monkeypatch.setattr(origin, "code_digest", edited)
    conduct(Claims(), config(), folders)
    assert counted
    assert "claims.json: computed anew (the code that computes" in capsys.readouterr().err
    counted.clear()
    conduct(Claims(), config(), folders)
    assert counted == []


def test_a_report_of_another_config_is_refused_and_left(folders, counted):
    before = (folders.results / "claims.json").read_bytes()
    with pytest.raises(ResultsError, match=r"of another config \(margin is 0\.1, not 0\.2\)"):
        conduct(Claims(), config("margin=0.2"), folders)
    assert counted == []
    assert (folders.results / "claims.json").read_bytes() == before


@pytest.mark.parametrize("override", ["replot=true", "replot=false"])
def test_a_report_of_version_0_1_0_is_refused_without_the_advice_to_delete_it(override, folders):
    path = folders.results / "claims.json"
    path.write_text(json.dumps({"config": {}, "claims": [], "phases": [], "slopes": []}))
    with pytest.raises(ResultsError, match=r"claims\.json: written by version 0\.1\.0; move it or"):
        conduct(Claims(), config(override), folders)


def test_a_model_that_is_added_to_the_registry_leaves_older_reports_theirs(
    folders, counted, monkeypatch
):
    monkeypatch.setitem(registry.PROBES, "tanh", registry.Probe("two_layer"))
    registry.offer_probes()
    try:
        cfg = config("dpi=300")
        assert "tanh" in cfg.seeds
        conduct(Claims(), cfg, folders)
    finally:
        monkeypatch.undo()
        registry.offer_probes()
    assert counted == []


def test_seeds_and_rates_are_recorded_for_the_models_of_the_chosen_claims_alone():
    cfg = load("claims", ClaimsConfig, ["only=[two-layer-lazy-rows]"])
    recorded = Claims().science(cfg)
    assert set(recorded["seeds"]) == {"map", "lattice", "two_layer"}
    assert set(recorded["rates"]) == {"two_layer"}
    assert recorded["margin"] == 0.1


def test_a_change_of_the_lattice_changes_the_pieces_of_the_diagrams(monkeypatch):
    """Their names stay readable; the stamp is of the points themselves."""
    from lora_theory.store.pieces import stamped

    def stamps():
        (part,) = Claims().plan(config())
        return {stamped(name, p) for name, p in part.pieces.items() if name.startswith("phases")}

    before, lattice = stamps(), experiment.lattice
    monkeypatch.setattr(experiment, "lattice", lambda n: [(a + 1, b) for a, b in lattice(n)])
    after = stamps()
    assert len(before) == len(after) == 4
    assert not before & after


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seeds=3", r"seeds: must be a group of keys \(got 3\)"),
        ("~seeds.map", "seeds.map: must be given"),
        ("~rates.layer", "rates.layer: must be given"),
        ("+seeds.layre=3", "seeds.layre: unknown key; did you mean layer"),
    ],
)
def test_seeds_and_rates_are_given_for_what_is_probed_and_nothing_else(override, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        config(override)
