"""What is kept of a sweep: maps, lines and verdicts, as JSON that gives them back."""

import json

import numpy as np
from sweeps import LINE, RATES, known, small

from experiments.scaling.families import families
from experiments.scaling.summary import summary
from experiments.scaling.verdicts import measure

CFG = small()


def kept(data):
    found = [measure(family, "two_layer", "two_layer", CFG) for family in families(data)]
    return json.loads(summary("title", found, CFG)), found


def test_maps_are_quantiles_of_log_losses_and_null_where_most_diverged():
    text, (measured,) = kept(known(widths=(16, 32, 64), seeds=(7, 7, 5)))
    (family,) = text["families"]
    assert (text["sweep"], text["t"]) == ("title", 10)
    assert (family["over"], family["sizes"], family["seeds"]) == ("n", [16, 32, 64], [7, 7, 5])
    np.testing.assert_array_equal(family["eta_a"], RATES[0])
    np.testing.assert_array_equal(family["eta_b"], RATES[1])
    np.testing.assert_array_equal(family["eta"], LINE)
    sweep = measured.family.sweep("train_loss", 10)
    for w, (land, line) in enumerate(zip(sweep.lands, sweep.lines, strict=True)):
        for found, losses in (
            (family["train_loss"]["0.5"][w], land.losses),
            (family["line_train_loss"]["0.5"][w], line.losses),
        ):
            # An odd number of seeds: the median is the middle one.
            middle = np.sort(losses, axis=0)[len(losses) // 2]
            expected = np.log2(np.where(np.isfinite(middle), middle, np.nan))
            np.testing.assert_allclose(np.array(found, float), expected, atol=0.0051)
            assert np.isnan(expected).any()
    assert family["test_loss"]["0.25"] != family["test_loss"]["0.75"]


def test_verdicts_are_those_of_the_report_with_null_for_no_number():
    text, (measured,) = kept(known(widths=(16, 64), seeds=(6, 6)))
    verdicts = text["families"][0]["verdicts"]
    assert len(verdicts) == len(measured.verdicts)
    for found, v in zip(verdicts, measured.verdicts, strict=True):
        assert (found["what"], found["outcome"], found["primary"]) == (v.what, v.outcome, v.primary)
        assert found["value"] == (v.value if np.isfinite(v.value) else None)
    assert any(found["value"] is None for found in verdicts)  # Two widths have no fit.
    assert sum(found["primary"] for found in verdicts) == 2


def test_the_draws_of_the_collapse_that_decides_are_kept():
    text, (measured,) = kept(known())
    draws = measured.collapses["test_loss", 10].draws
    np.testing.assert_allclose(text["families"][0]["collapse_draws"], draws, atol=0.0006)
    text, _ = kept(known(plane=False))
    assert "collapse_draws" not in text["families"][0]


def test_a_line_alone_is_kept_without_a_plane():
    text, _ = kept(known(plane=False))
    (family,) = text["families"]
    assert "test_loss" not in family
    assert len(family["line_test_loss"]["0.5"][0]) == len(LINE)


def test_a_size_without_any_finite_start_has_no_mean_map():
    data = known(widths=(16, 32, 64), seeds=(6, 6, 6))
    lost = data.test_loss.where((data.n != 32) | (data.step != 0))
    found, _ = kept(data.assign(test_loss=lost))
    means = found["families"][0]["test_loss"]["mean"]
    assert [mean is not None for mean in means] == [True, False, True]
