"""Saved reports of claims: drawn again, measured anew, refused, whatever else has been added."""

import json
import shutil
import typing

import numpy as np
import pytest
from damage import NO_FILES, no_file

from experiments import registry
from experiments.claims import experiment, reduction, report, settings
from experiments.claims.experiment import Claims, ClaimsConfig
from experiments.claims.landscapes import Window
from experiments.claims.settings import (
    APPROACH_WIDTHS,
    Approach,
    Diagram,
    Escapes,
    Group,
    Limits,
    Splits,
    Symmetries,
)
from experiments.lab import origin
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from lora_theory.store.files import ResultsError
from lora_theory.theory.claims import Reduction
from lora_theory.theory.regions import lattice

# Of whatever has rows of its own: exponents, classes and escapes; and of other models, with ways.
ONE = ["only=[prop1-init1,boundary-gd,escape]", "lattice_steps=26", "constants.ratios=[1,4]"]
ONE += ["seeds.map=20", "seeds.lattice=2", "way_seeds=2", "way_log2_widths=[7,11,17]"]


def config(*overrides):
    return load("claims", ClaimsConfig, [*ONE, *overrides])


def small(monkeypatch):
    """No figures, and diagrams of few points."""
    monkeypatch.setattr(report, "figures", lambda record: {})
    monkeypatch.setattr(experiment, "lattice", lambda n: lattice(2))


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    small(monkeypatch)


CONFIG = config("replot=true")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Three claims of the scalar map, measured and judged."""
    folder = tmp_path_factory.mktemp("claims")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
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


def opened(path):
    (part,) = Claims().plan(CONFIG)
    return Claims().open(part, CONFIG, path)


def edited(record, place, value):
    """A record with one value replaced, by another or by a function of what it was."""
    *outer, last = place
    for key in outer:
        record = record[key]
    record[last] = value(record[last]) if callable(value) else value


FOUND, CONTROL = ("claims", 1, "found"), ("claims", 1, "control")
ROW, WAY = (*FOUND, "rows", 0), ("claims", 1, "ways", 0)
# Of prop1-init1 (an exponent and classes) and of escape.
FIRST, ESCAPE = ("claims", 0, "control"), ("claims", 2, "found", "rows", 1)
POINT, UNSTABLE = ("phases", 1, "points", 7), ("phases", 1, "points", 13)
CONTRADICTIONS = {
    "a verdict": ((*FOUND, "verdict"), "fails", "found: fails, where its rows give holds"),
    "a control": ((*CONTROL, "verdict"), "holds", "control: holds, where its rows give fails"),
    "its seeds": ((*FOUND, "seeds_needed"), 7, "found: 7 seeds needed, where its rows give None"),
    "a row": ((*ROW, "verdict"), "fails", "f: fails, where its numbers give holds"),
    "a number": ((*ROW, "measured"), 3.0, "f: holds, where its numbers give fails"),
    "no number": ((*ROW, "measured"), None, "f: holds, where its numbers give undecided"),
    "nothing": ((*ROW, "identically_zero"), True, "f: holds, where its numbers give fails"),
    "an interval": ((*ROW, "low"), 1.0, "f: its interval does not end at 1"),
    "no interval": ((*ROW, "high"), None, "f: its interval does not end at nan"),
    "how far off": ((*ROW, "badness"), 0.5, "f: is not 0.5 margins off"),
    "a bias": ((*ROW, "bias"), -0.5, "f: a bias of -0.5"),
    "a large bias": ((*ROW, "bias"), 0.5, "f: holds, where its numbers give undecided"),
    "a class": (("claims", 0, "found", "verdict"), "undecided", "where its rows give holds"),
    "a pair at which a control holds": (
        (*FIRST, "rows", -1, "verdict"),
        "holds",
        "control: fails, where its rows give holds",
    ),
    "an escape": ((*ESCAPE, "measured"), 1.5, "escape: holds, where its numbers give fails"),
    "a range that ends before it starts": (
        (*WAY, "low"),
        1e3,
        "f: a range on the way from 1000.0 to",
    ),
    "half a range": ((*WAY, "high"), None, "f: a range on the way from"),
    "a width that is not on the way": ((*WAY, "from_log2_width"), 8.0, "f: on the way from 2^8"),
    "where it is not": ((*WAY, "where"), "\x1b[2J", "signs that can not be printed"),
    "seeds": ((*ROW, "seeds"), 1, "f: holds, of 1 seeds"),
    "many seeds": ((*ROW, "seeds"), 10**400, "f: holds, of 1000"),
    "a point": ((*POINT, "agrees"), False, "measured, agrees: False"),
    "another t": ((*UNSTABLE, "measured_t"), 9, "measured, agrees: True"),
    "no t": ((*UNSTABLE, "measured_t"), None, "unstable from t = None"),
    "an odd t": ((*UNSTABLE, "measured_t"), 10**400, "unstable from t = 1000"),
    "t of a stable point": ((*POINT, "predicted_t"), 2, "from t = 2"),
    "the machine": (("made",), "\x1b[2J", "made: signs that can not be printed"),
    "an undecided point": ((*POINT, "measured"), None, "measured, agrees: True"),
    "another point": ((*POINT, "predicted"), "efficient", "efficient predicted"),
    "an odd point": ((*POINT, "measured"), "odd", "odd at"),
    "a curve": (("slopes", 0, "slopes"), lambda v: v[1:], "has widths without slopes"),
    "no slopes": (("slopes", 0, "slopes"), lambda v: [None] * len(v), "has widths without"),
    "signs": (("claims", 0, "statement"), "\x1b[2J", "signs that can not be printed"),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_a_report_that_contradicts_itself_is_refused_in_words_and_left(kind, folders):
    place, value, said = CONTRADICTIONS[kind]
    path = folders.results / "claims.json"
    data = json.loads(path.read_text())
    edited(data, place, value)
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=r"claims\.json: contradicts itself \(") as refused:
        opened(path)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert path.read_bytes() == before


OTHERS = {
    "no claims": (("claims",), [], "claims: [], not ['prop1-init1', 'boundary-gd', 'escape']"),
    "another id": (("claims", 0, "id"), "other", "claims: ['other', 'boundary-gd', 'escape'], not"),
    "another record": (("claims", 0, "recorded"), "fails", "recorded: 'fails', not 'holds'"),
    "no rows": ((*FOUND, "rows"), [], "found: rows: 0, not 180"),
    "other constants": ((*ROW, "constants"), [0.02, 0.03], "found: ("),
    "no constants": ((*ESCAPE, "constants"), None, "escape: found: ("),
    "another escape": ((*ESCAPE, "setting"), "map, gd, Init[1]", "escape: found: ("),
    "no ways": ((*WAY[:-1],), [], "boundary-gd: ways: [], not ["),
    "a way less": ((*WAY[:-1],), lambda v: v[1:], "boundary-gd: ways: ["),
    "another way": ((*WAY, "quantity"), "Z_A", "boundary-gd: ways: ["),
    "a way of another step": ((*WAY, "t"), 9, "boundary-gd: ways: ["),
    "a way of another prediction": ((*WAY, "predicted"), "9", "boundary-gd: ways: ["),
    "a row less": ((*CONTROL, "rows"), lambda v: v[1:], "control: rows"),
    "another exponent": ((*ROW, "predicted"), "1/0", "found: ("),
    "another quantity": ((*ROW, "quantity"), None, "found: ("),
    "another setting": ((*ROW, "setting"), None, "found: ("),
    "another margin": ((*ROW, "margin"), 9.0, "found: ("),
    "another confidence": ((*ROW, "confidence"), 1.0, "found: ("),
    "no diagrams": (("phases",), [], "phases: []"),
    "another update": (("phases", 0, "update"), "odd", "phases: [('odd', 'A')"),
    "fewer points": (("phases", 0, "points"), lambda v: v[1:], "phases gd A: points"),
    "another place": ((*POINT, "at"), [1e308, 0.0], "phases gd B: points"),
    "another area": (("phases", 0, "areas", 0, "name"), "odd", "phases gd A: areas"),
    "no curves": (("slopes",), [], "slopes: []"),
    "other widths": (("slopes", 0, "log2_widths", 0), -1.0, "slopes: ["),
    "another limit": (("slopes", 0, "limit"), 7.0, "slopes: ["),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_report_of_something_else_is_refused_in_words(kind, folders):
    place, value, said = OTHERS[kind]
    path = folders.results / "claims.json"
    data = json.loads(path.read_text())
    edited(data, place, value)
    path.write_text(json.dumps(data))
    with pytest.raises(ResultsError, match=r"claims\.json: of other claims \(") as refused:
        opened(path)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 10**5,
        b"null",
        b'{"provenance": 3}',
        b'{"provenance": {"config": null, "versions": {}, "code": ""}}',
        b'{"claims": NaN, "provenance": {}}',
        b'{"claims": "\\ud800"}',
    ],
)
@pytest.mark.parametrize("override", ["replot=true", "replot=false"])
def test_what_is_no_report_is_refused_and_left(content, override, folders):
    path = folders.results / "claims.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"claims\.json: damaged or no report \(.*delete it"):
        conduct(Claims(), config(override), folders)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused_and_left(kind, tmp_path, monkeypatch):
    no_file(kind, tmp_path / "claims.json")
    monkeypatch.setattr(settings, "measure", None)
    with pytest.raises(ResultsError, match=rf"claims\.json: can not be read \({kind}.*move it"):
        conduct(Claims(), config(), Folders(tmp_path, tmp_path))


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


def test_seeds_are_recorded_for_the_models_of_the_chosen_claims_alone():
    cfg = load("claims", ClaimsConfig, ["only=[two-layer-lazy-rows]"])
    recorded = Claims().science(cfg)
    assert set(recorded["seeds"]) == {"map", "lattice", "limit", "two_layer_limit", "two_layer"}
    assert recorded["constants"] == {"scales": [0.02, 0.2, 2], "ratios": [0.0625, 1, 16]}
    assert recorded["margin"] == 0.1


def pieces_of(cfg):
    """A piece of each kind, and what it might have measured."""
    (part,) = Claims().plan(cfg)
    pairs, seeds, found = len(cfg.constants.pairs), cfg.seeds["map"], {}
    for piece in part.pieces.values():
        if isinstance(piece, Window):
            at = cfg.landscapes[piece.family.model]
            a, b, line = map(len, at.rates)
            arrays = {"start": (), "plane": (a, b), "line": (line,)}
            arrays = {n: np.ones((len(at.seeds), *s), "f4") for n, s in arrays.items()}
        elif isinstance(piece, Diagram):
            arrays = {n: np.zeros((pairs, len(piece.points)), int) for n in ("verdict", "from_t")}
        elif isinstance(piece, Symmetries | Splits):
            arrays = {"gaps": np.zeros(len(piece.cases))}
        elif isinstance(piece, Limits):
            shape = (1 + len(piece.cases), len(reduction.lazy_pairs(cfg)), len(cfg.seeds["limit"]))
            arrays = dict.fromkeys(piece.cases[0].predicted, np.zeros(shape))
        elif isinstance(piece, Reduction):
            arrays = {"gaps": np.zeros(1)}
        elif isinstance(piece, Escapes):
            arrays = dict.fromkeys(("slopes", "product", "y"), np.ones((pairs, len(seeds))))
        elif isinstance(piece, Approach):
            shape = (1, 1, len(APPROACH_WIDTHS), len(seeds), 8)
            arrays = dict.fromkeys(["f", "Z_A", "delta2"], np.zeros(shape))
        elif piece.__class__ is Group and piece.model == "map":
            shape = (len(piece.settings), pairs, 3, len(seeds), 8)
            way = (len(piece.settings), pairs, len(cfg.way_log2_widths) - 1, 8)
            names = ("f", "B", "Z_A", "delta1", "delta2", "delta3")
            arrays = dict.fromkeys(names, np.zeros(shape))
            arrays |= dict.fromkeys([f"way {name}" for name in names], np.zeros(way))
        else:
            continue
        found[type(piece).__name__] = (part, piece, arrays)
    return found


WRONG_PIECES = [
    ("Window", {"plane": None}, "plane: missing"),
    ("Window", {"plane": lambda v: v[..., 1:]}, "plane: must be float32 of shape"),
    ("Window", {"start": lambda v: -v}, "start: negative or infinite"),
    ("Window", {"line": lambda v: v * np.inf}, "line: negative or infinite"),
    ("Window", {"line": lambda v: v.astype(int)}, "line: must be float32"),
    ("Diagram", {"verdict": lambda v: v + 6}, "verdict: must be from -1 to 5"),
    ("Diagram", {"from_t": lambda v: v - 1}, "from_t: must be from 0"),
    ("Diagram", {"from_t": lambda v: v[1:]}, "from_t: must be int64"),
    ("Symmetries", {"gaps": lambda v: v - 1}, "gaps: negative"),
    ("Symmetries", {"gaps": lambda v: v[:-1]}, "gaps: must be float64"),
    ("Splits", {"gaps": lambda v: v - 1}, "gaps: negative"),
    ("Splits", {"gaps": lambda v: v[:-1]}, "gaps: must be float64"),
    ("Reduction", {"gaps": lambda v: v - 1}, "gaps: negative"),
    ("Reduction", {"gaps": lambda v: v * np.nan}, "gaps: negative"),
    ("Reduction", {"gaps": lambda v: v[:0]}, "gaps: must be float64 of shape"),
    ("Limits", {"f, t = 1": None}, "f, t = 1: missing"),
    ("Limits", {"f, t = 1": lambda v: v[:1]}, "f, t = 1: must be float64 of shape"),
    ("Escapes", {"slopes": None}, "slopes: missing"),
    ("Escapes", {"y": lambda v: v[1:]}, "y: must be float64 of shape"),
    ("Escapes", {"slopes": lambda v: v.astype(int)}, "slopes: must be float64"),
    ("Escapes", {"product": lambda v: -v}, "product: must be positive"),
    ("Escapes", {"product": lambda v: v * np.nan}, "product: must be positive"),
    ("Escapes", {"y": lambda v: v * np.inf}, "y: must be finite and not 0"),
    ("Escapes", {"y": lambda v: v * 0}, "y: must be finite and not 0"),
    ("Approach", {"f": None}, "f: missing at t = "),
    ("Approach", {"f": lambda v: v[:, :, 1:]}, "f: must be float64"),
    ("Group", {"f": None}, "f: missing at t = "),
    ("Group", {"f": lambda v: v.astype("f2")}, "f: must be float64"),
    ("Group", {"f": lambda v: v[:, 1:]}, "f: must be float64"),
    ("Group", {"f": lambda v: v[1:]}, "f: must be float64"),
    ("Group", {"f": lambda v: v[0]}, "f: missing at t = "),
    ("Group", {"f": lambda v: v[..., :0]}, "f: missing at t = "),
    ("Group", {"B": lambda v: v[..., 1:]}, "B: must be float64"),
    ("Group", {"way f": None}, "way f: missing"),
    ("Group", {"way f": lambda v: v[:, :, 1:]}, "way f: must be float64"),
    ("Group", {"way f": lambda v: v[..., 1:]}, "way f: must be float64"),
    ("Group", {"way f": lambda v: v.astype("f4")}, "way f: must be float64"),
]


@pytest.fixture(scope="module")
def kinds():
    cfg = load("claims", ClaimsConfig, ["seeds.map=3"])
    found = pieces_of(cfg)
    assert set(found) == {kind.__name__ for kind in typing.get_args(settings.Piece)}
    return cfg, found


def test_what_a_piece_measures_is_taken(kinds):
    """Control: of these pieces, and what is truly measured of some."""
    cfg, found = kinds
    for part, piece, arrays in found.values():
        Claims().check(part, arrays, cfg, piece)
    for kind in ("Escapes", "Approach"):
        part, piece, _ = found[kind]
        Claims().check(part, settings.measure(piece, cfg), cfg, piece)


@pytest.mark.parametrize(("kind", "changes", "said"), WRONG_PIECES)
def test_a_piece_that_nothing_measured_is_refused_by_name(kind, changes, said, kinds):
    cfg, found = kinds
    part, piece, arrays = found[kind]
    ((name, change),) = changes.items()
    wrong = {n: v for n, v in arrays.items() if n != name or change is not None}
    if change is not None:
        wrong[name] = change(wrong[name])
    with pytest.raises(ValueError, match=said):
        Claims().check(part, wrong, cfg, piece)


def test_a_change_of_the_lattice_changes_the_pieces_of_the_diagrams(monkeypatch):
    """Their names stay readable; the stamp is of the points themselves."""
    from lora_theory.store.pieces import stamped

    def stamps():
        (part,) = Claims().plan(config())
        return {stamped(name, p) for name, p in part.pieces.items() if name.startswith("phases")}

    before, points = stamps(), experiment.lattice
    monkeypatch.setattr(experiment, "lattice", lambda n: [(a + 1, b) for a, b in points(n)])
    after = stamps()
    assert len(before) == len(after) == 4
    assert not before & after


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seeds=3", r"seeds: must be a group of keys \(got 3\)"),
        ("~seeds.map", "seeds.map: must be given"),
        ("~seeds.rank_map", "seeds.rank_map: must be given"),
        ("+seeds.layre=3", "seeds.layre: unknown key; did you mean layer"),
    ],
)
def test_seeds_are_given_for_what_is_measured_and_nothing_else(override, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        config(override)
