"""`make claims` on a smaller set: verdicts, controls, exit status, resume, bad input."""

import dataclasses
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
from experiments.claims import experiment, judge, report, settings
from experiments.claims.experiment import Claims, ClaimsConfig
from experiments.claims.judge import Judge, Judged, Judgement, Record, Row, in_words
from experiments.lab.command_line import load, main
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from experiments.lab.work import Slab, Work
from lora_theory.plots.differences import differences
from lora_theory.stats.slopes import Slope
from lora_theory.store.files import ResultsError
from lora_theory.theory import claims as theory
from lora_theory.theory.exponents import classify
from lora_theory.theory.regions import lattice
from lora_theory.theory.rules import LAYER_SIGN, LINEAR_GD

ROOT = Path(__file__).parents[2]
# What the scalar map can check (it costs nothing), and claims of two models over widths; some of
# the layer, over ranks and of symmetries are run by `.ci/run`.
SMALL = [
    "prop1-init1",
    "prop1-init2",
    "sum-of-deltas",
    "init-scale",
    "shared-rate-f",
    "phase-gd-init1",
    "phase-gd-init2",
    "phase-sign-init1",
    "phase-sign-init2",
    "boundary-gd",
    "boundary-sign",
    "half-line",
    "two-layer-coordinates",
    "two-layer-lazy-rows",
]
OVERRIDES = [
    f"only=[{','.join(SMALL)}]",
    "widths=[64,256,1024]",
    "seeds.linear=4000",
    "seeds.two_layer=2000",
    "dpi=40",
]
FIGURES = {
    f"{name}.{kind}" for name in ("fig1", "phase", "exponents", "slopes") for kind in ("png", "pdf")
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
    return ["lattice_steps=26", "map_log2_widths=[1000,1500,2000]"]


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
    last = stdout.splitlines()[-1]
    assert last == "14 claims: 13 hold, 1 fail, 0 undecided; 14 controls, all caught"


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
    assert "**14 claims: 13 hold, 1 fail, 0 undecided; 14 controls, all caught.**" in page
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
    row = record["claims"][SMALL.index("two-layer-coordinates")]["found"]["rows"][1]
    assert (fails.off, fails.low, fails.high) == (row["measured"], row["low"], row["high"])
    assert fails.low < fails.off < fails.high < -fails.margin
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
    row = claims["two-layer-coordinates"]["found"]["rows"][1]
    assert (row["quantity"], row["predicted"], row["verdict"]) == ("delta2_Z_B", "0", "fails")
    assert row["measured"] == pytest.approx(-0.5, abs=0.1)
    assert row["seeds"] == 2000
    assert row["log2_sizes"] == [6.0, 8.0, 10.0]
    assert 0 < row["error"] < 0.05
    assert row["low"] < row["measured"] - 1.9 * row["error"]
    assert row["high"] > row["measured"] + 1.9 * row["error"]
    assert claims["two-layer-coordinates"]["reason"]


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
    cfg = load("claims", ClaimsConfig, [*OVERRIDES, "replot=true", "seeds.two_layer=2001"])
    results = reference[0] / "results" / "claims"
    with pytest.raises(
        ResultsError, match=r"of another config \(seeds.two_layer is 0\.\.1999, not 0\.\.2000"
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
    """Stopped after two pieces, one compiled; signals are tested with the skeleton."""
    options = ["only=[half-line,shared-rate-f]", "widths=[16,32,64]", "seeds.linear=200"]
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
    assert [piece.model for piece in measured] == ["map", "linear"]
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
        ("ranks=[4,8,4096]", "ranks: must be at most rank_width = 1024"),
        ("map_log2_widths=[10,20,nan]", "map_log2_widths: must be"),
        ("seeds.layer=1", "seeds.layer: must be an integer from 2"),
        ("seeds.lattice=1", "seeds.lattice: must be an integer from 2"),
        ("only=[half-line,half-line]", "only: must be null or a list of different claim ids"),
        ("map_log2_widths=[10,11,12]", "map_log2_widths: must be"),
        ("confidence=1.5", "confidence: must be between 0.5 and 0.9999"),
        ("margin=0", "margin: must be a positive"),
        ("rates.layer=-1", "rates.layer: must be a positive"),
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
    options = ["only=[theorem1-adam]", "adam_eps=1", "widths=[4,8,16]", "seeds.layer=2"]
    monkeypatch.setattr(sys, "argv", ["claims", *options, f"out={tmp_path}"])
    with pytest.raises(SystemExit) as stop:
        main(Claims())
    said = capfd.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: adam_eps: ")
    assert "ε is too large" in said
    assert len(said.strip().splitlines()) == 1


def test_settings_share_compilations():
    """Rates and starts are arguments: a model's settings under one update are one piece."""
    cases = [c for claim in theory.claims() for c in (*claim.cases, *claim.control)]
    found = {c.setting for c in cases if isinstance(c, theory.Exponents)}
    vectors = [s for s in found if s.model != "map"]
    groups = settings.groups(vectors)
    assert len(groups) < len(vectors) / 2
    assert sorted(map(repr, vectors)) == sorted(repr(s) for g in groups for s in g.settings)
    for group in groups:
        assert len({(s.model, s.update, s.gamma) for s in group.settings}) == 1


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
    at = theory.Setting("map", "gd", "A", Fraction(-1), Fraction(1, 12))
    cases = tuple(
        theory.Exponents(at, t, {"f": Fraction(value)}, LINEAR_GD) for t, value in f.items()
    )
    cfg, group = load("claims", ClaimsConfig), settings.Group((at,))
    judged = Judge(cfg, {group: lambda: settings.measure(group, cfg)})
    found = judged.claim(theory.Claim("growth", "", "", cases, "", cases)).found
    assert [row.verdict for row in found.rows] == [verdict] * 2


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


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (Slope(-0.5, 0.0123, 9), "-0.500 ± 0.012"),
        (Slope(0.5, 0.0002, 9), "+0.5000 ± 0.0002"),
        (Slope(0.0, 3e-17, 9), "+0.000000 ± less than 0.000001"),
        (Slope(np.nan, np.nan, 9, zero=True), "identically zero"),
        (Slope(np.nan, np.nan, 1, note="one seed: no error"), "one seed: no error"),
        (Slope(0.5, 0.01, 8, note="1 seeds left out"), "+0.500 ± 0.010 (1 seeds left out)"),
    ],
)
def test_an_error_is_said_with_the_digits_it_needs(slope, said):
    assert in_words(slope) == said


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


def test_every_setting_has_a_probe_and_every_probe_seeds_and_rates():
    cfg = load("claims", ClaimsConfig)
    cases = [c for claim in theory.claims() for c in (*claim.cases, *claim.control)]
    models = {c.setting.model for c in cases if isinstance(c, theory.Exponents)} - {"map"}
    assert models <= set(registry.PROBES)
    assert set(registry.PROBES) <= set(cfg.seeds)
    assert set(registry.PROBES) <= set(cfg.rates)


def all_settings():
    cases = [c for claim in theory.claims() for c in (*claim.cases, *claim.control)]
    return {c.setting for c in cases if isinstance(c, theory.Exponents)}


def test_no_two_settings_share_a_seed():
    cfg = load("claims", ClaimsConfig)
    found = [
        seed
        for setting in all_settings()
        if setting.model != "map"
        for seed in settings.own_seeds(cfg.seeds[setting.model], str(setting))
    ]
    assert len(set(found)) == len(found) > 5 * 10**4
    assert 0 <= min(found) < max(found) < 2**31
    names = [str(setting) for setting in all_settings()]
    assert len(set(names)) == len(names)  # From which they follow.


def test_the_seeds_of_a_setting_follow_from_its_name_alone():
    """The same in every process and version of Python."""
    assert settings.own_seeds([0, 1, 7], "map, gd") == [322347603, 322347604, 322347610]
    assert settings.own_seeds([2**31 - 1], "any") == [2**31 - 1]


def test_settings_of_the_map_have_draws_of_their_own_and_one_setting_the_same():
    cfg = load("claims", ClaimsConfig)
    at = [theory.Setting("map", "gd", "A", Fraction(-1), Fraction(c_b)) for c_b in ("0", "-1/12")]
    (group,) = settings.groups(at)
    first, second = settings.tables(settings.measure(group, cfg))
    again = settings.tables(settings.measure(settings.Group(tuple(at[:1])), cfg))[0]
    z_a = [table.logs["Z_A"][0, :, 0] for table in (first, second, again)]  # aᵀx of the start
    np.testing.assert_array_equal(z_a[0], z_a[2])
    assert not np.intersect1d(z_a[0], z_a[1]).size
    start = first.logs["Z_A"][:, :, 0]
    np.testing.assert_allclose(start, np.broadcast_to(start[0], start.shape), atol=1e-9)


def test_widths_that_can_not_tell_the_lattice_are_a_config_error():
    diagram = settings.Diagram("gd", "A", lattice(12))
    cfg = load("claims", ClaimsConfig, ["map_log2_widths=[700,1400,2800]"])
    with pytest.raises(ConfigError, match=r"map_log2_widths: must be at least 768 .*700"):
        settings.measure(diagram, cfg)


def claim_of(*rows, verdict="holds"):
    judged = judge.Judged(verdict, None, rows)
    return judge.Judgement("c", "", "", "holds", "", judged, "", judged)


def row_of(measured, error, count=1, **fields):
    row = judge.Row("holds", "", "", 0.0, setting="map", quantity="f", predicted="0")
    numbers = {"measured": measured, "error": error, "seeds": 40, "margin": 0.1}
    return dataclasses.replace(row, **numbers, confidence=1 - 0.05 / count, **fields)


def test_wrong_verdicts_that_are_to_be_expected_close_the_table():
    """At the margin of its interval a claim counts with the level it was tested at, 5 %."""
    cfg = load("claims", ClaimsConfig)
    half = Slope(0.0, 0.01, 40).half_width(0.95)
    at_the_edge = claim_of(row_of(0.1 - half, 0.01))
    inside = claim_of(row_of(0.0, 0.001), row_of(0.01, 0.001))
    bootstrapped = claim_of(row_of(0.0, None, setting=None))
    exact = claim_of(judge.Row("holds", "", "", 0.0))
    failing = claim_of(row_of(0.9, 0.01), verdict="fails")
    record = judge.Record((at_the_edge, inside, bootstrapped, exact, failing), (), ())
    assert report.level(at_the_edge) == pytest.approx(0.05)
    assert report.level(inside) < 1e-6
    both = [row_of(0.1 - half, 0.01), row_of(0.0, 0.001)]
    assert report.level(claim_of(*both)) == pytest.approx(0.1)  # Bonferroni: of two.
    line = report.expected_errors(record, cfg)
    assert "the 2 claims of exponents that hold" in line
    assert "leave 0.1 wrong ones to be expected at most" in line
    assert "add up to 0.05" in line
    assert "the 1 claims of landscapes that hold add at most 0.05" in line
    assert line in report.page(record, cfg)


@pytest.mark.parametrize(("only", "command"), [
    ((), "`make claims` (`python -m experiments.claims`)"),
    (["prop1-init1"], "`python -m experiments.claims only=[prop1-init1]`, some of all claims"),
])  # fmt: skip
def test_the_page_says_which_command_wrote_it(only, command):
    cfg = load("claims", ClaimsConfig, [f"only=[{','.join(only)}]"] if only else [])
    record = judge.Record((claim_of(row_of(0.0, 0.001)),), (), ())
    assert any(line.startswith(f"Written by {command}; ") for line in report.page(record, cfg))


def test_unknown_ids_are_a_config_error(tmp_path):
    cfg = load("claims", ClaimsConfig, ["only=[prop9]"])
    with pytest.raises(ConfigError, match="only: must be among"):
        conduct(Claims(), cfg, Folders(tmp_path / "r", tmp_path / "f"))
