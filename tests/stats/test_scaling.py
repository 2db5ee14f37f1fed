"""Exponents of families that are known, and what must stay undetermined."""

import numpy as np
import pytest

from lora_theory.stats import scaling as module
from lora_theory.stats.controls import family
from lora_theory.stats.landscapes import Judge, Landscape, Line, best_pair
from lora_theory.stats.scaling import Sweep, scaling

WIDTHS = (6, 8, 10, 12)
RATES = 2.0 ** np.arange(-12, 1)
WITH_0 = np.concatenate([[0.0], RATES])
INF = np.inf


def moving(truth, key=0, seeds=(16, 16, 16, 8), rates=RATES, widths=WIDTHS, **noise):
    return family(widths, (rates, rates), seeds, truth, key, **noise)


def changed(sweep, w, losses):
    lands = list(sweep.lands)
    lands[w] = lands[w]._replace(losses=losses(lands[w].losses.copy()))
    return sweep._replace(lands=tuple(lands))


@pytest.mark.parametrize("truth", [(-1, 0), (-0.5, -0.5), (0, 0), (-1, 0.5)])
@pytest.mark.parametrize("judge", [Judge(), Judge(0.75)])
def test_known_exponents_are_recovered(truth, judge):
    found = scaling(moving(truth, rates=WITH_0, noise=0.1), judge, resamples=20).exponents
    a, b = truth
    truths = {"eta_a": a, "eta_b": b, "ratio": b - a, "edge A": a, "edge B": b}
    if a == b:
        truths |= {"equal": a, "edge equal": a}
    for name, exponent in truths.items():
        assert found[name].low <= exponent <= found[name].high, name
        assert found[name].value == pytest.approx(exponent, abs=0.15)
        assert found[name].determined, found[name]
        assert len(found[name].pairs) == 3
        for value, low, high in found[name].pairs:
            assert low <= value <= high


def coverage(truth, repeats=20, **noise):
    """Of how many families, anywhere between cells, the interval has the truth."""
    found = []
    for k in range(repeats):
        middle = np.random.default_rng(k).uniform(-0.5, 0.5, 2)
        found.append(scaling(moving(truth, k, middle=middle, **noise), resamples=25).exponents)
    names = {"eta_a": truth[0], "eta_b": truth[1], "edge A": truth[0], "edge B": truth[1]}
    return {
        name: sum(at[name].low <= exponent <= at[name].high for at in found)
        for name, exponent in names.items()
    }


def test_intervals_cover():
    """20 families of 95 %: fewer than 16 would happen once in 400 times."""
    assert min(coverage((-0.65, 0.2)).values()) >= 16


def test_the_grids_coarseness_belongs_to_the_interval(monkeypatch):
    """Sharp edges stay between the same cells in every draw."""
    sharp = {"noise": 0.02, "scatter": 0.02}
    assert min(coverage((-0.65, 0.2), **sharp).values()) >= 16
    monkeypatch.setattr(module, "_step", lambda sweep, name: 0.0)
    assert min(coverage((-0.65, 0.2), **sharp).values()) < 10


def test_the_centre_scatters_less_than_the_best_cell():
    errors = {"centre": [], "best": []}
    for k in range(20):
        places = scaling(moving((-0.65, 0.2), k), resamples=0).places
        for name, truth in (("eta_a", -0.65), ("eta_b", 0.2)):
            for kind, at in (("centre", "value"), ("best", "best")):
                fit = np.polyfit(WIDTHS, [getattr(place, at) for place in places[name]], 1)
                errors[kind].append(fit[0] - truth)
    spread = {kind: np.std(at) for kind, at in errors.items()}
    assert spread["centre"] < 0.75 * spread["best"]
    assert abs(np.mean(errors["centre"])) < 3 * spread["centre"] / np.sqrt(40)


def test_exponents_are_least_squares():
    sweep = moving((-0.65, 0.2), widths=(6, 7, 9, 12))
    found = scaling(sweep, resamples=0)
    for name, exponent in found.exponents.items():
        values = [place.value for place in found.places[name]]
        assert exponent.value == pytest.approx(np.polyfit((6, 7, 9, 12), values, 1)[0])
        lags = np.diff(values) / np.diff((6, 7, 9, 12))
        np.testing.assert_allclose([pair[0] for pair in exponent.pairs], lags)


@pytest.mark.parametrize("key", range(4))
@pytest.mark.parametrize("rates", [RATES, WITH_0])
def test_flat_families_are_undetermined(key, rates):
    found = scaling(moving(None, key, rates=rates), resamples=20).exponents
    for name in ("eta_a", "eta_b", "ratio", "equal"):
        assert not found[name].determined
        assert found[name].why
    for name in ("edge A", "edge B", "edge equal"):
        assert found[name].status == "no fit"


def test_a_flat_optimum_leaves_the_ratio_undetermined():
    sweep = moving((-1, 0), noise=0.05)
    flat = tuple(
        land._replace(losses=land.losses[:, :, [6] * 13] * 2 ** (0.005 * np.abs(np.arange(13) - 6)))
        for land in sweep.lands
    )
    found = scaling(sweep._replace(lands=flat), resamples=20).exponents
    assert found["eta_a"].determined
    assert not found["eta_b"].determined
    assert not found["ratio"].determined
    assert any("reaches the largest η_B" in reason for reason in found["ratio"].why)


def test_an_optimum_on_the_border_is_none():
    window = RATES[4:]  # The optimum leaves it at the last width.
    sweep = moving((-1, 0), noise=0.05)
    lands = (Landscape(at.losses[:, 4:], at.start, window, RATES) for at in sweep.lands)
    found = scaling(sweep._replace(lands=tuple(lands)), resamples=10)
    assert found.exponents["eta_a"].status == found.exponents["ratio"].status == "no optimum"
    assert "best at the least η_A (n = 2^12)" in found.exponents["eta_a"].why
    assert found.exponents["eta_b"].determined
    assert not found.places["eta_a"][3].inside
    assert "no optimum" in str(found)


def test_training_one_factor_alone_may_be_the_best():
    def without_a(losses):
        losses[:, 0, 7] = 1e-3
        return losses

    found = scaling(changed(moving((0, 0), rates=WITH_0), 1, without_a), resamples=10)
    assert found.exponents["eta_a"].status == "no optimum"
    assert "best at η_A = 0 (n = 2^8)" in found.exponents["eta_a"].why
    assert found.places["eta_a"][1].best == -INF
    assert found.places["ratio"][1].best == INF


def test_widths_that_diverge_are_named_and_left_out():
    def gone(losses):
        return np.full_like(losses, INF)

    sweep = changed(moving((-1, 0), noise=0.1), 1, gone)
    found = scaling(sweep, resamples=10).exponents["eta_a"]
    assert found.left_out == ("n = 2^8 left out: all diverged",)
    assert found.log2_widths == (6, 10, 12)
    assert found.value == pytest.approx(-1, abs=0.2)
    fewer = scaling(changed(sweep, 0, gone), resamples=10).exponents["eta_a"]
    assert fewer.status == "no fit"
    assert fewer.left_out == ("n = 2^6, 2^8 left out: all diverged",)
    assert np.isnan(fewer.value)
    assert "2 widths, a fit needs 3" in str(fewer)


def test_an_edge_beyond_the_grid_is_said():
    sweep = moving((-1, 0), noise=0.1)

    def tame(losses):
        return np.where(np.isinf(losses), 1.0, losses)

    found = scaling(changed(sweep, 0, tame), resamples=10).exponents["edge A"]
    assert found.status == "undetermined"
    assert found.why == ("beyond the largest rate (n = 2^6)",)
    assert found.left_out == ("n = 2^6 left out: no edge",)
    assert found.value == pytest.approx(-1, abs=0.2)
    ranks = scaling(changed(sweep, 0, tame)._replace(over="r"), resamples=10).exponents["edge A"]
    assert ranks.why == ("beyond the largest rate (r = 2^6)",)
    assert ranks.left_out == ("r = 2^6 left out: no edge",)


def test_a_wide_interval_is_undetermined():
    sweep = moving((-1, 0))
    assert scaling(sweep, resamples=20).exponents["eta_a"].determined
    found = scaling(sweep, widest=0.1, resamples=20).exponents["eta_a"]
    assert found.status == "undetermined"
    assert "wide" in found.why[0]


def test_one_seed_has_no_interval():
    found = scaling(moving((-1, 0), seeds=(4, 4, 4, 1)), resamples=10).exponents["edge A"]
    assert np.isfinite(found.value)
    assert np.isnan([found.low, found.high]).all()
    assert found.status == "undetermined"


def test_the_order_of_seeds_does_not_change_the_fit():
    sweep = moving((-0.65, 0.2), seeds=(9,) * 4)
    order = np.random.default_rng(0).permutation(9)
    other = sweep._replace(lands=tuple(land.of_seeds(order) for land in sweep.lands))
    for name, found in scaling(sweep, resamples=0).exponents.items():
        assert scaling(other, resamples=0).exponents[name].value == found.value


def test_finer_lines_are_read_for_shared_rates():
    sweep = moving((-0.5, -0.5), noise=0.05, scatter=0.1)
    eta = 2.0 ** np.arange(-12, 0.01, 0.5)
    lines = tuple(
        Line(
            np.where(eta > 2.0 ** (1 - n / 2), INF, 1 / eta)[None].repeat(8, axis=0),
            np.ones(8),
            eta,
        )
        for n in WIDTHS
    )
    found = scaling(sweep._replace(lines=lines), resamples=10).exponents["edge equal"]
    assert found.value == pytest.approx(-0.5, abs=1e-9)
    assert found.high - found.low < 0.2
    coarse = scaling(sweep, resamples=10).exponents["edge equal"]
    assert coarse.high - coarse.low > 0.2


def test_a_window_that_moves_with_n_imposes_its_exponent():
    """On noise alone; the raw window does not, and a moving one is refused."""
    slopes = {"raw": [], "scaled": []}
    for key in range(60):
        sweep = moving(None, key)
        for kind in slopes:
            ratios = []
            for n, land in zip(WIDTHS, sweep.lands, strict=True):
                moved = land.eta_a * 2.0 ** (6 - n) if kind == "scaled" else land.eta_a
                at = best_pair(land._replace(eta_a=moved), Judge().judge(land.losses))
                ratios.append(np.log2(at.ratio))
            slopes[kind].append(np.polyfit(WIDTHS, ratios, 1)[0])
    error = np.std(slopes["raw"]) / np.sqrt(60)
    assert np.mean(slopes["scaled"]) == pytest.approx(1, abs=3 * error)
    assert np.mean(slopes["raw"]) == pytest.approx(0, abs=3 * error)
    assert error < 0.2
    lands = (
        land._replace(eta_a=land.eta_a * 2.0**-n)
        for n, land in zip(WIDTHS, sweep.lands, strict=True)
    )
    with pytest.raises(ValueError, match="one grid"):
        scaling(sweep._replace(lands=tuple(lands)))


def test_what_can_not_be_fitted_is_said():
    sweep = moving((-1, 0), seeds=(2,) * 4)
    for widths in ((6, 8, 10), (6, 8, 8, 10), (12, 10, 8, 6)):
        with pytest.raises(ValueError, match="log2_widths"):
            scaling(Sweep(np.array(widths), sweep.lands))
    few = scaling(sweep.of_widths([0, 3]), resamples=2)
    assert {at.status for at in few.exponents.values()} == {"no fit"}


def test_a_width_that_many_draws_lose_is_said():
    """Six of thirteen seeds diverge in every cell: a third of the draws has no optimum there."""

    def mostly(losses, of):
        return np.where(np.arange(len(losses))[:, None, None] < of, INF, losses)

    sweep = moving((-1, 0), seeds=(13,) * 4, noise=0.1)
    for of, why in ((6, ("draws have none (n = 2^8)",)), (1, ())):
        found = scaling(changed(sweep, 1, lambda v, of=of: mostly(v, of)), resamples=100)
        assert found.exponents["eta_a"].why == why
