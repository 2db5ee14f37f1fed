"""Claims about landscapes: families of known exponents are judged right, gaps are named."""

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

from experiments.claims import landscapes, report
from experiments.claims.experiment import Claims, ClaimsConfig
from experiments.claims.judge import Judge
from experiments.claims.landscapes import Families, Window
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from lora_theory.store.files import ResultsError
from lora_theory.theory.claims import Carried, Claim, Collapsing, Family, Placed

LAYER = Family("feature_layer", "adam", "A")
TOY = Family("two_layer", "gd", "both")
GRID = "{widths: [16, 64, 256], seeds: 16, steps: 3, n_train: 8, log2_a: [-12, 0], "
GRID += "log2_b: [-9, 3], line: [-9, 1]}"
SMALL = [f"landscapes={{two_layer: {GRID}, feature_layer: {GRID}}}", "decide.resamples=40"]
NO, HALF, ONE = Fraction(0), Fraction(-1, 2), Fraction(-1)


@pytest.fixture(scope="module")
def cfg():
    return load("claims", ClaimsConfig, SMALL)


def basin(a, b):
    """log2 of a loss that is best at a = b = 0, and diverges where a + b > 4."""
    values = np.minimum(np.minimum(a**2 / 8, 3) + np.minimum(b**2 / 8, 3) - 5, 0)
    return np.where(a + b > 4, np.nan, values)


def valley(a, b):
    """One of a + b alone."""
    return np.where(a + b > 4, np.nan, np.minimum((a + b) ** 2 / 8 - 5, 0))


def pieces(cfg, family, truth, shape=basin, key=0):
    """Windows of a family that moves as η_A ∝ n^c_a, η_B ∝ n^c_b; edges scatter over seeds."""
    rng, at = np.random.default_rng(key), cfg.landscapes[family.model]
    log_a, log_b, log = (np.log2(eta) for eta in at.rates)
    found = {}
    for width in at.widths:
        far = np.multiply(truth, np.log2(width) - 6) - (6, 3)
        scatter = far[:, None, None, None] + 0.2 * rng.normal(size=(2, len(at.seeds), 1, 1))

        def losses(a, b, scatter=scatter):
            logs = shape(a - scatter[0], b - scatter[1])
            return (2.0 ** (logs + 0.1 * rng.normal(size=logs.shape))).astype(np.float32)

        found[Window(family, width)] = {
            "start": np.full(len(at.seeds), 1.5, np.float32),
            "plane": losses(log_a[:, None], log_b),
            "line": losses(log[:, None], log[:, None])[:, :, 0],
        }
    return {window: lambda arrays=arrays: arrays for window, arrays in found.items()}


def verdicts(cfg, read, case, confidence=0.95):
    return [found.comparison.verdict for found in Families(cfg, read).judged(case, confidence)]


@pytest.mark.parametrize("family", [LAYER, TOY], ids=str)
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (Collapsing(LAYER, (ONE, NO)), Collapsing(LAYER, (HALF, HALF))),
        (Collapsing(LAYER, (ONE, NO), alone=False), Collapsing(LAYER, (NO, NO), alone=False)),
        # Along η_A = η_B the family diverges where 2 log η > 4 + (c_a + c_b) log n.
        (Placed(LAYER, "edge equal", HALF), Placed(LAYER, "edge equal", ONE)),
        (Carried(LAYER, (ONE, NO)), Carried(LAYER, (NO, NO))),
        (Carried(LAYER, (HALF, HALF), shared=True), Carried(LAYER, (-ONE, -ONE), shared=True)),
    ],
)
def test_a_family_of_known_exponents_is_judged_right(cfg, family, right, wrong):

    read = pieces(cfg, family, (-1, 0))
    for case, outcome in ((right, "holds"), (wrong, "fails")):
        found = verdicts(cfg, read, dataclasses.replace(case, family=family))
        assert (set(found) == {"holds"}) == (outcome == "holds")
        assert ("fails" in found) == (outcome == "fails")


def test_in_a_valley_only_the_sum_of_exponents_is_determined(cfg):
    read = pieces(cfg, LAYER, (-0.5, -0.5), valley)
    assert verdicts(cfg, read, Collapsing(LAYER, (HALF, HALF), alone=False)) == ["holds"]
    assert verdicts(cfg, read, Collapsing(LAYER, (NO, NO), alone=False)) == ["fails"]
    assert "holds" not in verdicts(cfg, read, Collapsing(LAYER, (HALF, HALF)))


def test_what_trains_badly_has_diverged_unless_it_is_gradient_descent(cfg):
    """Beyond its edge Adam rarely overflows: the same family, 2^9 in place of ∞."""
    for family, outcome in ((LAYER, "holds"), (TOY, "undecided")):
        read = {}
        for window, at in pieces(cfg, family, (-1, 0)).items():
            finite = {name: np.nan_to_num(values, nan=512.0) for name, values in at().items()}
            read[window] = lambda finite=finite: finite
        assert verdicts(cfg, read, Placed(family, "edge equal", HALF)) == [outcome]


CASES = [
    Collapsing(TOY, (ONE, NO)),
    Placed(TOY, "edge equal", ONE),
    Carried(TOY, (ONE, NO)),
]


@pytest.mark.parametrize(
    ("case", "gap"),
    [
        (CASES[0], "flat: 0 cells differ"),
        (CASES[1], "below the least rate"),
        (CASES[2], "all runs diverged"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_where_all_runs_diverge_the_gap_is_named(cfg, case, gap):
    read = pieces(cfg, TOY, (-1, 0))

    def nothing(arrays):
        return {k: v if k == "start" else np.full_like(v, np.nan) for k, v in arrays.items()}

    broken = {window: lambda at=at: nothing(at()) for window, at in read.items()}
    for found in Families(cfg, broken).judged(case, 0.95):
        assert found.comparison.verdict == "undecided"
        assert gap in found.found


def test_one_width_without_a_finite_run_is_named(cfg):
    read = pieces(cfg, TOY, (-1, 0))
    arrays = dict(read[Window(TOY, 256)]())
    read[Window(TOY, 256)] = lambda: (
        arrays | {k: np.full_like(arrays[k], np.nan) for k in ("plane", "line")}
    )
    (edge,) = Families(cfg, read).judged(CASES[1], 0.95)
    assert "n = 2^8 left out" in edge.found
    (lost,) = Families(cfg, read).judged(CASES[2], 0.95)
    assert "all runs diverged" in lost.found
    assert {edge.comparison.verdict, lost.comparison.verdict} == {"undecided"}


def test_a_damaged_window_is_one_line(cfg):
    read = dict.fromkeys(pieces(cfg, TOY, (-1, 0)), dict)
    with pytest.raises(ResultsError, match="a damaged piece; run again"):
        list(Families(cfg, read).judged(CASES[0], 0.95))


def test_numbers_of_a_claim_share_the_confidence(cfg):
    """Two exponents at 97.5 % each; a control's cases are judged one by one."""
    claim = Claim("c", "", "", (CASES[0],), "", (CASES[1], CASES[2]))
    judged = Judge(cfg, pieces(cfg, TOY, (-1, 0))).claim(claim)
    assert [row.quantity for row in judged.found.rows] == ["c_a", "c_b"]
    assert {row.confidence for row in judged.found.rows} == {0.975}
    assert {row.confidence for row in judged.control.rows} == {0.95}
    assert {row.margin for row in judged.control.rows} == {0.25, 1.5}
    assert judged.found.worst.log2_sizes == (4.0, 6.0, 8.0)
    assert judged.found.worst.where.endswith("train loss at t = 3; n = 16, 64, 256; 16 seeds")


def test_rates_that_do_better_than_tuned_ones_are_no_fault(cfg, monkeypatch):
    from lora_theory.stats.intervals import Interval
    from lora_theory.stats.transfer import Transfer

    better = Transfer(8.0, (), (), Interval(*map(np.array, (-9.0, -9.5, -8.5))))
    monkeypatch.setattr(landscapes, "transfer", lambda *args, **options: (better,))
    (found,) = Families(cfg, pieces(cfg, TOY, (-1, 0))).judged(CASES[2], 0.95)
    assert found.comparison.verdict == "holds"
    assert found.badness == 0


TINY = "{widths: [8, 16, 32], seeds: 4, steps: 2, n_train: 8, log2_a: [-2, 0], log2_b: [-2, 0], "
TINY += "line: [-2, 0]}"


@pytest.fixture(scope="module")
def tiny():
    options = ["only=[edge-adam-init2]", f"landscapes={{feature_layer: {TINY}}}"]
    options += ["seeds.lattice=2", "seeds.map=4", "lattice_steps=26", "constants.ratios=[1]"]
    return load("claims", ClaimsConfig, [*options, "decide.resamples=20"])


def test_a_window_is_the_plane_and_its_line(tiny):
    arrays = landscapes.measure(Window(Family("feature_layer", "adam", "B"), 8), tiny)
    shapes = {name: values.shape for name, values in arrays.items()}
    assert shapes == {"start": (4,), "plane": (4, 3, 3), "line": (4, 5)}
    whole = arrays["line"][:, ::2]
    np.testing.assert_array_equal(whole, np.diagonal(arrays["plane"], axis1=1, axis2=2))
    assert (arrays["plane"] != arrays["start"][:, None, None]).all()


def test_pieces_are_windows_the_widest_first_and_the_record_has_no_more(tiny):
    (part,) = Claims().plan(tiny)
    found = [piece for piece in part.pieces.values() if isinstance(piece, Window)]
    assert found == [Window(Family("feature_layer", "adam", "B"), n) for n in (32, 16, 8)]
    (part,) = Claims().plan(load("claims", ClaimsConfig, ["only=[boundary-gd]"]))
    assert not any(isinstance(piece, Window) for piece in part.pieces.values())
    assert set(Claims().science(tiny)["landscapes"]) == {"feature_layer"}
    used = Claims().tables(part, tiny)
    assert set(used["experiments.registry:MODELS"]) == {"feature_layer"}
    assert set(used["experiments.registry:OPTIMIZERS"]) == {"adam"}


@pytest.mark.slow
def test_a_claim_is_measured_and_shown(tiny, tmp_path, monkeypatch):
    """Two steps at n ≤ 32 decide nothing: exit status 1, and why stands in the row."""
    monkeypatch.setattr(report, "figures", lambda record: {})
    with pytest.raises(SystemExit) as stop:
        conduct(Claims(), tiny, Folders(tmp_path / "results", tmp_path / "figures"))
    assert stop.value.code == 1
    (claim,) = json.loads((tmp_path / "results" / "claims.json").read_text())["claims"]
    assert claim["found"]["verdict"] == "undecided"
    row = claim["found"]["rows"][0]
    assert (row["quantity"], row["predicted"], row["t"], row["seeds"]) == (
        "edge equal",
        "-1/2",
        2,
        4,
    )
    shown = (tmp_path / "results" / "claims.md").read_text()
    assert "edge, η_A = η_B at n^-1/2 predicted, undetermined (" in shown
    assert "**undecided**, which contradicts the record" in shown
    assert shown == (tmp_path / "figures" / "claims.md").read_text()
    path = tmp_path / "results" / "claims.json"
    path.write_text(path.read_text().replace('"margin": 0.25', '"margin": 0.26'))
    with pytest.raises(ResultsError, match=r"of other claims \(.*: found: \(None"):
        conduct(Claims(), tiny, Folders(tmp_path / "results", tmp_path / "figures"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("landscapes.two_layer.widths=[64,128]", "widths: must be at least three ascending"),
        ("landscapes.two_layer.seeds=3", "seeds: must be an integer from 4"),
        ("landscapes.two_layer.log2_a=[0,-3]", "log2_a: must be two ascending integers"),
        ("landscapes.two_layer.line=[0]", "line: must be two ascending integers"),
        ("~landscapes.feature_layer", "landscapes.feature_layer: must be given"),
        ("decide.lost=0", "decide.lost: must be a positive"),
        ("decide.quantile=1", "decide.quantile: must be between"),
    ],
)
def test_bad_windows_are_refused_by_name(override, said):
    with pytest.raises(ConfigError, match=said):
        Claims().plan(load("claims", ClaimsConfig, [override]))
