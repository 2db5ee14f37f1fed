"""`make claims` on a smaller set: verdicts, controls, exit status, resume, bad input."""

import dataclasses
import functools
import json
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import registry
from experiments.claims import exact, experiment, report, settings
from experiments.claims.experiment import Claims, ClaimsConfig
from experiments.claims.judge import Judge
from experiments.claims.rows import Judged, Judgement, Record, Row
from experiments.lab.command_line import load, main
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from experiments.lab.work import Slab, Work
from lora_theory.plots.differences import differences
from lora_theory.stats.slopes import Slope
from lora_theory.store.files import ResultsError
from lora_theory.terms import Class, Setting, Verdict
from lora_theory.theory import claims as theory
from lora_theory.theory.exponents import classify
from lora_theory.theory.regions import lattice
from lora_theory.theory.rules import LAYER_SIGN, LINEAR_GD
from lora_theory.train import splits

ROOT = Path(__file__).parents[2]
# Of every model that is solved exactly some claims, and one of a model in vectors; those of
# symmetries, splits, landscapes and of rates that are asked for are run by `.ci/run`.
SMALL = [
    "prop1-init1",
    "prop1-init2",
    "sum-of-deltas",
    "shared-rate-f",
    "init-scale",
    "phase-gd-init1",
    "phase-gd-init2",
    "phase-sign-init1",
    "phase-sign-init2",
    "boundary-gd",
    "boundary-sign",
    "escape",
    "half-line",
    "theorem1-sign",
    "theorem1-shared-sign",
    "two-layer-efficient",
    "phase-two-layer",
    "two-layer-coordinates",
    "readout-not-mup",
    "rank-gd",
]
OVERRIDES = [
    f"only=[{','.join(SMALL)}]",
    "constants.scales=[0.02,2]",
    "constants.ratios=[0.25,4]",
    "widths=[64,256,1024]",
    "seeds.map=40",
    "seeds.layer_map=20",
    "seeds.two_layer_limit=40",
    "seeds.two_layer=400",
    "seeds.lattice=4",
    "way_seeds=8",
    "dpi=40",
]
SUMMARY = "20 claims: 19 hold, 1 fail, 0 undecided; 20 controls, all caught"
FIGURES = {
    f"{name}.{kind}"
    for name in ("fig1", "phase", "rules", "exponents", "slopes")
    for kind in ("png", "pdf")
}
PAGE = "claims.md"


@pytest.fixture(scope="session")
def user(environment):
    """Runs the command in a process of its own, as a user does."""

    def run(*overrides):
        line = [sys.executable, "-m", "experiments.claims", *map(str, overrides)]
        return subprocess.run(
            line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
        )

    return run


@pytest.fixture(scope="session")
def reference(once, user):
    """The smaller set, as a user runs it: its folder and what it printed."""

    def run(out):
        done = user(*OVERRIDES, f"out={out}")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        (out / "stdout").write_text(done.stdout)
        (out / "stderr").write_text(done.stderr)

    out = once("claims", run)
    return out, (out / "stdout").read_text(), (out / "stderr").read_text()


@pytest.fixture
def undrawn(monkeypatch):
    """No figures: other tests look at them, and they take seconds."""
    monkeypatch.setattr(report, "figures", lambda record: {})


@pytest.fixture
def coarse(monkeypatch):
    """Overrides for diagrams of few points and steps: `reference` has the whole ones."""
    monkeypatch.setattr(experiment, "lattice", lambda n: lattice(2))
    return ["lattice_steps=26", "seeds.lattice=2", "constants.ratios=[1]"]


def report_of(out):
    return json.loads((out / "results" / "claims" / "claims.json").read_text())


@pytest.mark.slow
def test_smaller_set_holds_and_every_control_is_caught(reference):
    out, stdout, _ = reference
    report = report_of(out)
    assert [claim["id"] for claim in report["claims"]] == SMALL
    for claim in report["claims"]:
        assert claim["found"]["verdict"] == claim["recorded"], claim["id"]
        assert claim["control"]["verdict"] == "fails", claim["id"]
    assert stdout.splitlines()[-1] == SUMMARY


@pytest.mark.slow
def test_it_writes_report_tables_and_figures_and_no_more(reference):
    out, _, stderr = reference
    assert stderr == ""
    assert {p.name for p in (out / "figures").iterdir()} == FIGURES | {PAGE}
    names = {p.name for p in (out / "results" / "claims").iterdir()}
    assert names == {"claims.json", PAGE}
    page = (out / "figures" / PAGE).read_text()
    assert (out / "results" / "claims" / PAGE).read_text() == page
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.M) == SMALL
    assert f"**{SUMMARY}.**" in page
    assert f"JAX {jax.__version__}" in page
    assert str(ROOT) not in page
    assert str(out) not in page


@pytest.mark.slow
def test_no_error_is_said_to_be_nothing(reference):
    """Errors of the scalar map are small, not 0, and no seed is left without an interval."""
    out, stdout, _ = reference
    for text in (stdout, (out / "figures" / PAGE).read_text()):
        assert "nan" not in text
        assert not re.search(r"± 0\.0*(?![\d])", text)
        assert "± less than 0.000001" in text


@pytest.mark.slow
def test_every_number_of_the_claims_is_drawn(reference):
    """Measured less predicted, with the ends of its interval; what is exactly 0 is not."""
    record = report_of(reference[0])
    cfg = load("claims", ClaimsConfig, OVERRIDES)
    (part,) = Claims().plan(cfg)
    opened = Claims().open(part, cfg, reference[0] / "results" / "claims" / "claims.json")
    drawn = report.numbers(opened)
    with_numbers = [
        claim["id"]
        for claim in record["claims"]
        if any(row["measured"] is not None for row in claim["found"]["rows"])
    ]
    assert list(dict.fromkeys(number.claim for number in drawn)) == with_numbers
    (fails,) = (
        n
        for n in drawn
        if n.claim == "two-layer-coordinates" and n.verdict == "fails" and not n.control
    )
    rows = record["claims"][SMALL.index("two-layer-coordinates")]["found"]["rows"][1::2]
    assert fails.off in [row["measured"] for row in rows]
    ends = min(row["low"] for row in rows), max(row["high"] for row in rows)
    assert (fails.low, fails.high) == ends
    assert fails.low < fails.off < fails.high < -fails.margin
    assert np.isnan(fails.small).all()  # It is trained in vectors: there is no way to elsewhere.
    small = {n.claim: n.small for n in drawn if not n.control and n.claim == "half-line"}
    assert np.isfinite(small["half-line"]).all()
    shown = differences(drawn)
    labels = {label.get_text() for ax in shown.axes for label in ax.get_yticklabels()}
    assert labels == set(with_numbers)


@pytest.mark.parametrize(
    ("verdict", "drawn"),
    [("fails", ["fails"]), ("undecided", ["undecided", "holds"]), ("holds", ["holds", "holds"])],
)
def test_of_a_control_is_drawn_what_fails_or_all_where_it_is_not_caught(verdict, drawn):
    """So that a number of a control that does not fail is one of a control that was not caught."""

    def judged(*verdicts):
        rows = tuple(
            Row(v, "", "", 0.0, quantity="f", predicted="0", measured=0.0, margin=0.1)
            for v in verdicts
        )
        return Judged(verdicts[0], None, rows)

    claim = Judgement("a", "", "", "holds", "", judged("holds"), "wrong", judged(verdict, "holds"))
    numbers = report.numbers(Record((claim,), (), ()))
    assert [n.verdict for n in numbers if n.control] == drawn
    words = [text.get_text() for text in differences(numbers).legends[0].get_texts()]
    assert ("its control: NOT caught" in words) == (verdict != "fails")


@pytest.mark.slow
def test_the_last_slopes_have_arrived(reference):
    for curve in report_of(reference[0])["slopes"]:
        assert abs(curve["slopes"][0] - curve["limit"]) > 0.05  # They start elsewhere.
        for slope in curve["slopes"][-3:]:
            assert slope == pytest.approx(curve["limit"], abs=1e-4)


@pytest.mark.slow
def test_the_whole_lattice_agrees(reference):
    for diagram in report_of(reference[0])["phases"]:
        assert len(diagram["points"]) == 37**2
        assert all(point["agrees"] is True for point in diagram["points"])


@pytest.mark.slow
def test_the_report_says_what_was_measured(reference):
    claims = {claim["id"]: claim for claim in report_of(reference[0])["claims"]}
    pairs = load("claims", ClaimsConfig, OVERRIDES).constants.pairs
    rows = claims["two-layer-coordinates"]["found"]["rows"]
    assert [tuple(row["constants"]) for row in rows] == [pair for pair in pairs for _ in range(2)]
    for row in rows[1::2]:
        assert (row["quantity"], row["predicted"], row["verdict"]) == ("delta2_Z_B", "0", "fails")
        assert row["measured"] == pytest.approx(-0.5, abs=0.1)
        assert row["seeds"] == 400
    for row in claims["two-layer-efficient"]["found"]["rows"]:
        assert row["measured"] == pytest.approx(0, abs=1e-6)
        assert row["log2_sizes"] == [256.0, 275.0, 295.0]
        assert 0 < row["error"] < 1e-6
    assert claims["two-layer-coordinates"]["reason"]
    for row in rows[1::2] + claims["readout-not-mup"]["found"]["rows"]:
        assert row["log2_sizes"] == [6.0, 8.0, 10.0]
        assert 0 < row["error"] < 0.05
        assert row["low"] < row["measured"] - 1.9 * row["error"]
        assert row["high"] > row["measured"] + 1.9 * row["error"]


@pytest.mark.slow
def test_the_report_says_what_shows_at_small_widths(reference):
    """Of every exponent that is solved exactly, at all constants together."""
    claims = {claim["id"]: claim for claim in report_of(reference[0])["claims"]}
    assert claims["readout-not-mup"]["ways"] == claims["escape"]["ways"] == []
    for claim in claims.values():
        for way in claim["ways"]:
            assert way["low"] is None or way["low"] <= way["high"]
            ranks = way["setting"].startswith("rank_map")
            assert way["where"] == ("n = 2^23" if ranks else "n = 2^7 to 2^11")
    late = {way["from_log2_width"] for way in claims["boundary-gd"]["ways"]}
    # By 1/12 off the boundary a crossover is long, or not over by the widest,
    assert None in late
    assert max(late - {None}) > 15
    # and here there is none.
    assert {way["from_log2_width"] for way in claims["prop1-init1"]["ways"]} == {7.0}


@pytest.fixture
def unmeasured(monkeypatch):
    """Measuring fails."""

    def measure(piece, cfg):
        raise AssertionError(f"measured: {piece}")

    monkeypatch.setattr(settings, "measure", measure)


@pytest.mark.slow
def test_drawing_again_measures_nothing_and_gives_the_same_bytes(reference, unmeasured, tmp_path):
    out = reference[0]
    shutil.copytree(out / "results", tmp_path / "results")
    cfg = load("claims", ClaimsConfig, [*OVERRIDES, "replot=true"])
    conduct(Claims(), cfg, Folders(tmp_path / "results" / "claims", tmp_path / "figures"))
    for name in FIGURES | {PAGE}:
        assert (tmp_path / "figures" / name).read_bytes() == (out / "figures" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "shown"), [("found", "CONTRADICTS THE RECORD"), ("control", "NOT CAUGHT")]
)
def test_a_contradicted_record_is_exit_status_1(
    reference, undrawn, tmp_path, capsys, change, shown
):
    """The record is looked at again when drawn: one claim undecided, or one control not caught."""
    shutil.copytree(reference[0] / "results", tmp_path / "results")
    folders = Folders(tmp_path / "results" / "claims", tmp_path / "figures")
    record = report_of(tmp_path)
    judged = record["claims"][0][change]
    row = next(row for row in judged["rows"] if row["setting"] is not None)
    row |= {"verdict": "undecided", "measured": None, "error": None, "low": None, "high": None}
    row["badness"] = 1e8
    judged["verdict"] = "undecided"
    (folders.results / "claims.json").write_text(json.dumps(record))
    cfg = load("claims", ClaimsConfig, [*OVERRIDES, "replot=true"])
    with pytest.raises(SystemExit) as stop:
        conduct(Claims(), cfg, folders)
    assert stop.value.code == 1
    (part,) = Claims().plan(cfg)
    opened = Claims().open(part, cfg, folders.results / "claims.json")
    assert report.broken(opened) == ["prop1-init1"]
    assert shown in capsys.readouterr().out


def test_a_wrong_claim_fails_the_run(undrawn, coarse, tmp_path, monkeypatch, capsys):
    """A claim recorded as holding that does not hold: exit status 1, in process."""
    right = theory.claims(("boundary-gd",))[0]
    wrong = dataclasses.replace(right, cases=right.control)
    monkeypatch.setattr(experiment, "chosen", lambda cfg: [wrong])
    cfg = load("claims", ClaimsConfig, coarse)
    with pytest.raises(SystemExit) as stop:
        conduct(Claims(), cfg, Folders(tmp_path / "results", tmp_path / "figures"))
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "1 claims: 0 hold, 1 fail, 0 undecided; 1 controls, all caught" in printed
    assert "CONTRADICTS THE RECORD" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda r: r | {"claims": [{}]}, "damaged or no report"),
        (lambda r: {}, "damaged or no report"),
        (lambda r: [r], "damaged or no report"),
        (lambda r: r | {"slopes": 3}, "damaged or no report"),
    ],
)
def test_a_damaged_report_is_refused_by_name(reference, tmp_path, damage, said):
    path = tmp_path / "claims.json"
    path.write_text(json.dumps(damage(report_of(reference[0]))))
    cfg = load("claims", ClaimsConfig, [*OVERRIDES, "replot=true"])
    with pytest.raises(ResultsError, match=f"claims.json: {said}"):
        conduct(Claims(), cfg, Folders(tmp_path, tmp_path / "figures"))


@pytest.mark.slow
def test_a_report_of_other_seeds_is_not_drawn_as_this_one(reference, tmp_path):
    cfg = load("claims", ClaimsConfig, [*OVERRIDES, "replot=true", "seeds.two_layer=401"])
    results = reference[0] / "results" / "claims"
    with pytest.raises(
        ResultsError, match=r"of another config \(seeds.two_layer is 0\.\.399, not 0\.\.400"
    ):
        conduct(Claims(), cfg, Folders(results, tmp_path))


@pytest.mark.slow
def test_another_resolution_measures_nothing_and_draws_elsewhere(
    reference, unmeasured, monkeypatch, tmp_path
):
    """dpi decides the drawing: the report is found, and the other figures stay."""
    names = {Path(name).stem for name in FIGURES}  # They have been drawn.
    monkeypatch.setattr(report, "figures", lambda record: {name: Figure() for name in names})
    cfg = load("claims", ClaimsConfig, [*OVERRIDES, "replot=true", "dpi=50"])
    conduct(Claims(), cfg, Folders(reference[0] / "results" / "claims", tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == FIGURES | {PAGE}


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_report(coarse, tmp_path, monkeypatch):
    """Stopped after two pieces; signals are tested with the skeleton."""
    options = ["only=[theorem1-sign,shared-rate-f]", "seeds.map=8", "seeds.layer_map=8"]
    options += coarse
    cfg, measure, measured = load("claims", ClaimsConfig, options), settings.measure, []
    (part,) = Claims().plan(cfg)

    def run(out, most=100):
        def counted(piece, cfg):
            if len(measured) == most:
                raise KeyboardInterrupt
            measured.append(piece)
            return measure(piece, cfg)

        measured.clear()
        monkeypatch.setattr(settings, "measure", counted)
        out.mkdir(exist_ok=True)
        Work(Claims(), part, cfg, out / "claims.json", {}).complete(Slab(0, 1))

    monkeypatch.setattr(Claims, "workers", lambda self: 1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole)
    assert measured == list(part.pieces.values())
    with pytest.raises(KeyboardInterrupt):
        run(parts, most=2)
    assert [piece.model for piece in measured] == ["layer_map", "map"]
    assert len(list(parts.glob(".claims.json.pieces-*/*.npz"))) == 2
    assert not (parts / "claims.json").exists()
    run(parts)
    assert measured == list(part.pieces.values())[2:]
    assert (whole / "claims.json").read_bytes() == (parts / "claims.json").read_bytes()


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("only=[prop9]", "only: must be among prop1-init1"),
        ("only=[]", "only: must be null or a list of different claim ids"),
        ("widths=[64,128]", "widths: must be at least three ascending"),
        ("widths=[64,128,128]", "widths: must be at least three ascending"),
        ("widths=[1,64,128]", "widths: must be at least three ascending"),
        ("constants.scales=[]", "constants.scales: must be different positive numbers, at least"),
        ("constants.scales=[0.2,0.2]", "constants.scales: must be different positive numbers"),
        ("constants.scales=[nan]", "constants.scales: must be different positive numbers"),
        ("constants.ratios=[0]", "constants.ratios: must be different positive numbers"),
        ("constants.ratios=[-1,1]", "constants.ratios: must be different positive numbers"),
        ("constants=3", "constants: must be a group of keys"),
        ("ranks=[4,8]", "ranks: must be at least three ascending"),
        ("ranks=[8,4,16]", "ranks: must be at least three ascending"),
        (f"ranks=[4,8,{10**40}]", "ranks: must be at most half the widest n, 2^62"),
        (f"descent_ranks=[4,8,{2**63}]", "descent_ranks: must be at most half the widest n, 2^62"),
        ("descent_ranks=[0,1,2]", "descent_ranks: must be at least three ascending"),
        ("exact_log2_widths=[10,20,nan]", "exact_log2_widths: must be"),
        ("exact_log2_widths=[10,11,12]", "exact_log2_widths: must be"),
        ("exact_log2_widths=[4,6,8]", "ranks: must be at most half the widest n, 2^3"),
        ("limit_log2_widths=[1,2,400]", "limit_log2_widths: must be at least three ascending"),
        ("limit_log2_widths=[0,2,200]", "limit_log2_widths: must be at least three ascending"),
        ("way_log2_widths=[7,11]", "way_log2_widths: must be at least three ascending"),
        ("way_log2_widths=[7,11,13]", "way_log2_widths: must be at least three ascending"),
        ("way_log2_widths=[11,7,23]", "way_log2_widths: must be at least three ascending"),
        ("way_seeds=1", "way_seeds: must be an integer from 2"),
        ("seeds.layer=1", "seeds.layer: must be an integer from 2"),
        ("seeds.lattice=1", "seeds.lattice: must be an integer from 2"),
        ("only=[half-line,half-line]", "only: must be null or a list of different claim ids"),
        ("confidence=1.5", "confidence: must be between 0.5 and 0.9999"),
        ("margin=0", "margin: must be a positive"),
        ("exact_margin=0", "exact_margin: must be a positive"),
        ("rank_margin=nan", "rank_margin: must be a positive"),
        ("seeds.rank_map=1", "seeds.rank_map: must be an integer from 2"),
        ("adam_eps=0", "adam_eps: must be a positive"),
        ("seedz.map=3", "unknown key"),
        ("replot=true", "no report to draw"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(override, field, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["claims", override, f"out={tmp_path / 'out'}"])
    with pytest.raises(SystemExit) as stop:
        main(Claims())
    printed = capfd.readouterr().err
    assert stop.value.code == 2
    assert printed.count("\n") == 1, printed
    assert field in printed
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("override", "said"),
    [("seedz.map=3", "error: seedz.map: unknown key"), ("replot=true", "error: ")],
)
def test_a_user_sees_one_line_and_status_2(override, said, user, tmp_path):
    """The same in a process of its own."""
    done = user(override, f"out={tmp_path / 'out'}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(said)


@pytest.mark.slow
def test_epsilon_that_is_too_large_is_one_line(tmp_path, monkeypatch, capfd):
    options = ["only=[reduction-adam]", "adam_eps=1", "constants.scales=[0.2]"]
    monkeypatch.setattr(sys, "argv", ["claims", *options, f"out={tmp_path}"])
    with pytest.raises(SystemExit) as stop:
        main(Claims())
    said = capfd.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: adam_eps: ")
    assert "ε is too large" in said
    assert len(said.strip().splitlines()) == 1


def test_settings_share_sizes():
    """Rates and starts are arguments: a model's settings under one update are one piece."""
    groups = settings.groups(all_settings())
    assert len(groups) < len(all_settings()) / 8
    assert sorted(map(repr, all_settings())) == sorted(repr(s) for g in groups for s in g.settings)
    for group in groups:
        assert len({(s.model, s.update, s.samples, s.asked) for s in group.settings}) == 1
        cfg = load("claims", ClaimsConfig)
        assert (
            len({tuple(settings.log2_sizes(settings.Group((s,)), cfg)) for s in group.settings})
            == 1
        )


def test_a_symmetry_holds_and_its_control_is_caught():
    """A case of each, in this process; `.ci/run` has the claims over ranks and of symmetries."""
    cfg = load("claims", ClaimsConfig)
    (claim,) = theory.claims(("symmetry-gd",))
    claim = dataclasses.replace(claim, cases=claim.cases[:1], control=claim.control[:1])
    piece = settings.Symmetries((*claim.cases, *claim.control))
    measured = settings.measure(piece, cfg)
    judged = Judge(cfg, {piece: lambda: measured}).claim(claim)
    assert (judged.found.verdict, judged.control.verdict) == ("holds", "fails")


def test_symmetries_are_pieces_by_update():
    (part,) = Claims().plan(load("claims", ClaimsConfig))
    pieces = {n: p for n, p in part.pieces.items() if isinstance(p, settings.Symmetries)}
    assert set(pieces) == {f"symmetry {update}" for update in ("gd", "sign", "adam", "adamw")}
    for name, piece in pieces.items():
        assert {f"symmetry {case.update}" for case in piece.cases} == {name}
        assert len(set(piece.cases)) == len(piece.cases) == 12


@pytest.mark.parametrize("name", ["invariance-scaled-gd", "split-gd"])
def test_a_split_is_judged_and_every_control_is_caught(name):
    """On one toy, in this process; `.ci/run` has all of them."""
    cfg = load("claims", ClaimsConfig)
    (claim,) = theory.claims((name,))
    cases, control = (
        tuple(case for case in some if case.model == "layer")
        for some in (claim.cases, claim.control)
    )
    claim = dataclasses.replace(claim, cases=cases, control=control)
    pieces = {
        piece: functools.partial(settings.measure, piece, cfg)
        for piece in settings.splits((*cases, *control))
    }
    judged = Judge(cfg, pieces).claim(claim)
    assert (judged.found.verdict, judged.control.verdict) == ("holds", "fails")
    assert {row.verdict for row in judged.control.rows} == {"fails"}


def test_splits_are_pieces_by_optimizer():
    (part,) = Claims().plan(load("claims", ClaimsConfig))
    pieces = {n: p for n, p in part.pieces.items() if isinstance(p, settings.Splits)}
    assert {"split scaled_gd", "split lora_rite", "split adafactor"} < set(pieces)
    for name, piece in pieces.items():
        assert {f"split {case.optimizer}" for case in piece.cases} == {name}
        assert len(set(piece.cases)) == len(piece.cases)


@pytest.mark.parametrize(
    ("least", "gap", "verdict"),
    [
        (None, 0.0, "holds"),
        (None, 1e-9, "holds"),
        (None, 1e-7, "fails"),
        (None, np.inf, "fails"),
        ("1/100", 0.02, "holds"),
        ("1/100", np.inf, "holds"),
        ("1/100", 0.009, "fails"),
        ("1/100", 0.0, "fails"),
    ],
)
def test_a_split_is_no_difference_or_one_that_is_large(least, gap, verdict):
    case = theory.Split("layer", "gd", "both", "scale", least and Fraction(least))
    claim = theory.Claim("s", "", "", (case,), "", (case,))
    pieces = {settings.Splits((case,)): lambda: {"gaps": np.array([gap])}}
    found = Judge(load("claims", ClaimsConfig), pieces).claim(claim).found
    assert found.verdict == verdict
    assert (found.worst.badness > 1) == (verdict == "fails")
    assert np.isfinite(found.worst.badness)


@pytest.mark.parametrize("least", [None, Fraction(1, 100)])
def test_of_all_seeds_the_one_that_speaks_most_against_it_counts(least, monkeypatch):
    monkeypatch.setattr(splits, "split_gaps", lambda *at: np.array([0.5, 0.25, 2.0]))
    piece = settings.Splits((theory.Split("layer", "gd", "both", "scale", least),))
    (gap,) = settings.measure(piece, load("claims", ClaimsConfig))["gaps"]
    assert gap == (2.0 if least is None else 0.25)


@pytest.mark.parametrize(
    ("f", "verdict"),
    [
        ({2: "1/3", 4: "10/3"}, "holds"),
        ({2: "1/6", 4: "1/3"}, "fails"),
        ({2: "1/2", 4: "13"}, "fails"),
    ],
)
def test_measured_growth_past_the_boundary_tells_the_residual(f, verdict):
    """f of U = f + 1 at t = 2 and 4, of U = 1, and of U = f² + 1."""
    at = Setting("map", "gd", "A", Fraction(-1), Fraction(1, 12))
    cases = tuple(
        theory.Exponents(at, t, {"f": Fraction(value)}, LINEAR_GD) for t, value in f.items()
    )
    cfg, group = load("claims", ClaimsConfig), settings.Group((at,))
    judged = Judge(cfg, {group: lambda: settings.measure(group, cfg)})
    found = judged.claim(theory.Claim("growth", "", "", cases, "", cases)).found
    assert [row.verdict for row in found.rows] == [verdict] * 2 * len(cfg.constants.pairs)


@pytest.mark.parametrize(
    ("p", "gap", "verdict"),
    [(8, 0.0, "holds"), (8, 1e-16, "fails"), (3, 1e-15, "holds"), (3, 1e-11, "fails")],
)
def test_an_exact_symmetry_allows_no_rounding(p, gap, verdict):
    case = theory.Symmetry("layer", "sign", "B", Fraction(p), Fraction(1, 2), 1)
    claim = theory.Claim("s", "", "", (case,), "", (case,))
    pieces = {settings.Symmetries((case,)): lambda: {"gaps": np.array([gap])}}
    found = Judge(load("claims", ClaimsConfig), pieces).claim(claim)
    assert found.found.verdict == verdict
    assert found.control.verdict == verdict
    assert (found.found.worst.badness > 1) == (verdict == "fails")


@pytest.mark.parametrize(("init", "c"), [("A", Fraction(-1, 2)), ("B", Fraction(-1))])
def test_the_best_shared_rate_is_stable_and_no_larger_one_is(init, c):
    assert report.best_shared(init) == c
    above = c + Fraction(1, 1000)
    assert "unstable from" not in str(classify(LAYER_SIGN, init, {"c_a": c, "c_b": c}))
    assert "unstable from" in str(classify(LAYER_SIGN, init, {"c_a": above, "c_b": above}))


def test_figure_1_shows_what_the_recursions_give():
    """One rate: Z_A grows or B does not learn; two: all is Θ(1), under either init."""
    half, one = Fraction(1, 2), Fraction(1)
    found = {(t.method, t.init): t for t in report.trainings()}
    assert {key: t.verdict for key, t in found.items()} == {
        ("LoRA", "A"): "efficient, but unstable inside",
        ("LoRA", "B"): "A alone",
        ("LoRA+", "A"): "efficient",
        ("LoRA+", "B"): "efficient",
    }
    zeros = {name: Fraction(0) for name in ("delta1", "delta2", "Z_A")}
    shared = {("LoRA", "A"): (-half, zeros | {"Z_A": half})}
    shared |= {("LoRA", "B"): (-one, zeros | {"delta2": -one})}
    for key, (rate, sizes) in shared.items():
        assert found[key].sizes == {"eta_A": rate, "eta_B": rate} | sizes
    for init in "AB":
        assert found["LoRA+", init].sizes == {"eta_A": -one, "eta_B": 0} | zeros


def all_settings():
    cases = [c for claim in theory.claims() for c in (*claim.cases, *claim.control)]
    return {c.setting for c in cases if isinstance(c, theory.Exponents)}


def test_every_setting_is_solved_exactly_or_has_a_probe_and_every_model_seeds():
    cfg = load("claims", ClaimsConfig)
    models = {setting.model for setting in all_settings()}
    assert models <= set(exact.MODELS) | set(registry.PROBES)
    assert not set(exact.MODELS) & set(registry.PROBES)
    assert set(exact.MODELS) | set(registry.PROBES) | {"lattice", "limit"} == set(cfg.seeds)


def test_settings_have_names_of_their_own():
    """From which their draws follow."""
    names = [str(setting) for setting in all_settings()]
    assert len(set(names)) == len(names) > 100


def test_settings_of_the_map_have_draws_of_their_own_and_one_setting_the_same():
    cfg = load("claims", ClaimsConfig)
    at = [Setting("map", "gd", "A", Fraction(-1), Fraction(c_b)) for c_b in ("0", "-1/12")]
    (group,) = settings.groups(at)

    def z_a(settings_):
        """aᵀx of the start, of each: (C, W, S)."""
        group = settings.Group(tuple(settings_))
        tables = settings.tables(settings.measure(group, cfg), settings.log2_sizes(group, cfg))
        return [np.stack([table.logs["Z_A"][:, :, 0] for table in each]) for each in tables]

    (first, second), (again,) = z_a(group.settings), z_a(at[:1])
    np.testing.assert_array_equal(first, again)
    assert not np.intersect1d(first, second).size
    np.testing.assert_allclose(first, np.broadcast_to(first[0, 0], first.shape), atol=1e-9)


def test_every_table_of_a_group_is_of_a_setting_at_a_pair_of_constants():
    cfg = load("claims", ClaimsConfig, ["constants.scales=[0.2]", "seeds.map=3"])
    at = [Setting("map", "gd", "A", Fraction(-1), Fraction(c_b)) for c_b in ("0", "-1/12")]
    (group,) = settings.groups(at)
    arrays, sizes = settings.measure(group, cfg), settings.log2_sizes(group, cfg)
    tables = settings.tables(arrays, sizes)
    assert [len(row) for row in tables] == [3, 3]
    for i, row in enumerate(tables):
        for c, table in enumerate(row):
            np.testing.assert_array_equal(table.logs["f"], arrays["f"][i, c])
            np.testing.assert_array_equal(table.log2_widths, cfg.exact_log2_widths)
            assert not any(name.startswith("way ") for name in table.logs)
        ways = settings.ways(arrays, i)
        assert ways.keys() == row[0].logs.keys()
        np.testing.assert_array_equal(ways["f"], arrays["way f"][i])


def test_widths_and_steps_that_can_not_tell_the_lattice_are_a_config_error():
    """At every constant; those of the config tell all of it."""
    diagram = settings.Diagram("map", "gd", "A", tuple(lattice(12)))
    given = load("claims", ClaimsConfig, ["seeds.lattice=2"])
    assert settings.measure(diagram, given)["verdict"].shape == (9, 37**2)
    narrow = load("claims", ClaimsConfig, ["exact_log2_widths=[700,1400,2800]"])
    with pytest.raises(ConfigError, match=r"exact_log2_widths: must be at least \d+ .*700"):
        settings.measure(diagram, narrow)
    near = settings.Diagram("map", "gd", "A", ((Fraction(-1), Fraction(1, 100)),))
    with pytest.raises(ConfigError, match=r"(lattice_steps|exact_log2_widths): must be at least"):
        settings.measure(near, given)


def test_widths_at_which_a_saddle_is_too_small_are_a_config_error():
    cfg = load("claims", ClaimsConfig, ["exact_log2_widths=[1400,2800,6000]", "seeds.map=2"])
    assert settings.measure(settings.Escapes("A", Fraction(-1, 4)), cfg)
    with pytest.raises(ConfigError, match=r"exact_log2_widths: must be at most 5760 .*got 6000"):
        settings.measure(settings.Escapes("B", Fraction(1, 3)), cfg)


def test_the_classes_of_a_diagram_are_read_as_they_were_measured():
    cfg = load("claims", ClaimsConfig, ["seeds.lattice=2", "constants.ratios=[1]"])
    points = ((Fraction(-1), Fraction(0)), (Fraction(1), Fraction(1)), (Fraction(-2), Fraction(-2)))
    rows = settings.classes(settings.measure(settings.Diagram("map", "gd", "A", points), cfg))
    wanted = [Class(Verdict.EFFICIENT), Class(Verdict.UNSTABLE, 1), Class(Verdict.NO_LEARNING)]
    assert rows == [wanted] * 3
    undecided = {"verdict": np.array([[-1]]), "from_t": np.array([[0]])}
    assert settings.classes(undecided) == [[None]]


def test_what_is_measured_of_an_escape_is_of_constants_and_seeds():
    cfg = load("claims", ClaimsConfig, ["seeds.map=5", "constants.ratios=[1,4]"])
    found = settings.measure(settings.Escapes("A", Fraction(-1, 3)), cfg)
    assert {values.shape for values in found.values()} == {(6, 5)}
    assert {str(values.dtype) for values in found.values()} == {"float64"}
    scales = found["product"] / np.prod(cfg.constants.pairs, axis=1)[:, None]
    np.testing.assert_allclose(scales, 0 * scales + scales[0])  # One seed has the same at each.
    others = settings.measure(settings.Escapes("B", Fraction(1, 3)), cfg)
    assert not np.intersect1d(found["y"], others["y"]).size


def claim_of(*rows, verdict="holds"):
    judged = Judged(verdict, None, rows)
    return Judgement("c", "", "", "holds", "", judged, "", judged)


def row_of(measured, error, count=1, **fields):
    row = Row("holds", "", "", 0.0, setting="map", quantity="f", predicted="0")
    half = 0.0 if error is None else Slope(measured, error, 40).half_width(1 - 0.05 / count)
    numbers = {"measured": measured, "error": error, "seeds": 40, "margin": 0.1}
    numbers |= {"low": measured - half, "high": measured + half}
    return dataclasses.replace(row, **numbers, confidence=1 - 0.05 / count, **fields)


def test_wrong_verdicts_that_are_to_be_expected_close_the_table():
    """At the margin of its interval a claim counts with the level it was tested at, 5 %."""
    cfg = load("claims", ClaimsConfig)
    half = Slope(0.0, 0.01, 40).half_width(0.95)
    at_the_edge = claim_of(row_of(0.1 - half, 0.01))
    inside = claim_of(row_of(0.0, 0.001), row_of(0.01, 0.001))
    bootstrapped = claim_of(row_of(0.0, None, setting=None))
    exact = claim_of(Row("holds", "", "", 0.0))
    failing = claim_of(row_of(0.9, 0.01), verdict="fails")
    solved = claim_of(row_of(0.0, 1e-9))  # Nothing is left to sampling.
    record = Record((at_the_edge, inside, solved, bootstrapped, exact, failing), (), ())
    assert report.level(at_the_edge) == pytest.approx(0.05)
    assert report.level(inside) < 1e-6
    both = [row_of(0.1 - half, 0.01), row_of(0.0, 0.001)]
    assert report.level(claim_of(*both)) == pytest.approx(0.1)  # Bonferroni: of two.
    line = report.expected_errors(record, cfg)
    assert "of 1 claims of exponents that hold all intervals are shorter than a thousandth" in line
    assert "The 2 others, each at 95%, leave 0.1 wrong ones to be expected at most" in line
    assert "add up to 0.05" in line
    assert "the 1 claims of landscapes that hold add at most 0.05" in line
    assert line in report.page(record, cfg)


@pytest.mark.parametrize(("only", "command"), [
    ((), "`make claims` (`python -m experiments.claims`)"),
    (["prop1-init1"], "`python -m experiments.claims only=[prop1-init1]`, some of all claims"),
])  # fmt: skip
def test_the_page_says_which_command_wrote_it(only, command):
    cfg = load("claims", ClaimsConfig, [f"only=[{','.join(only)}]"] if only else [])
    record = Record((claim_of(row_of(0.0, 0.001)),), (), ())
    assert any(line.startswith(f"Written by {command}; ") for line in report.page(record, cfg))


def test_unknown_ids_are_a_config_error(tmp_path):
    cfg = load("claims", ClaimsConfig, ["only=[prop9]"])
    with pytest.raises(ConfigError, match="only: must be among"):
        conduct(Claims(), cfg, Folders(tmp_path / "r", tmp_path / "f"))
