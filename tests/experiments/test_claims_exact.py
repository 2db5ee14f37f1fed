"""What is solved exactly, as claims ask for it: at every pair of constants, over widths and ranks,
on the way from small widths, and where the rate is what is asked for.
"""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from experiments.claims import exact, vectors
from experiments.claims.exact import Runs
from experiments.claims.experiment import ClaimsConfig
from experiments.lab.command_line import load
from lora_theory.exact import layer_map, scalar_map
from lora_theory.terms import Setting

SMALL = [
    "seeds.map=4",
    "seeds.layer_map=3",
    "seeds.rank_map=2",
    "seeds.two_layer_limit=2",
    "way_seeds=2",
    "way_log2_widths=[7,9,11,15]",
    "ranks=[2,4,8]",
    "descent_ranks=[16,32,64,128]",
    "constants.scales=[0.2,2]",
    "constants.ratios=[0.25,1,4]",
]
_half = Fraction(-1, 2)
SETTINGS = {
    "map": Setting("map", "gd", "A", Fraction(-1), Fraction(0)),
    "samples": Setting("map", "gd", "B", Fraction(-1), Fraction(0), samples=2),
    "sign": Setting("map", "sign", "A", _half, _half),
    "layer": Setting("layer_map", "adam", "B", Fraction(-1), Fraction(0)),
    "asked": Setting("layer_map", "sign", "A", asked=True),
    "two layers": Setting("two_layer_limit", "gd", "both", Fraction(-1), Fraction(0), samples=8),
    "rank": Setting("rank_map", "sign", "A", _half, _half, c_n=_half),
    "rank asked": Setting("rank_map", "adam", "B", c_n=Fraction(-1), asked=True),
    "descent": Setting("rank_map", "gd", "A", gamma=Fraction(1, 2), c_n=_half),
}


@pytest.fixture(scope="module")
def cfg():
    return load("claims", ClaimsConfig, SMALL)


# --- Shapes ---


@pytest.mark.parametrize(
    ("name", "sizes", "steps", "windows"),
    [
        ("map", 3, 8, 3),
        ("samples", 3, 8, 3),
        ("layer", 3, 5, 3),
        ("asked", 3, 2, 3),
        ("two layers", 3, 3, 3),
        ("rank", 3, 4, 2),
        ("rank asked", 3, 2, 2),
        ("descent", 4, 4, 2),
    ],
)
def test_sizes_are_those_of_constants_widths_seeds_and_steps(cfg, name, sizes, steps, windows):
    setting = SETTINGS[name]
    found = exact.measure(setting, cfg)
    ways = {key for key in found if key.startswith("way ")}
    assert {key.removeprefix("way ") for key in ways} == found.keys() - ways
    assert len(exact.starts_of_windows(setting, cfg)) == windows
    for key, values in found.items():
        seeds = len(cfg.seeds[setting.model])
        wanted = (6, windows, steps) if key in ways else (6, sizes, seeds, steps)
        assert (values.shape, values.dtype) == (wanted, np.float64), key


def test_the_widths_of_each_model_are_those_of_the_config(cfg):
    for name, widths in (
        ("map", cfg.exact_log2_widths),
        ("layer", cfg.exact_log2_widths),
        ("two layers", cfg.limit_log2_widths),
        ("rank", cfg.exact_log2_widths[:1]),
    ):
        assert exact.decisive(SETTINGS[name], cfg).tolist() == list(widths)
    assert exact.way(SETTINGS["map"], cfg).tolist() == [7, 9, 11, 15]
    assert exact.starts_of_windows(SETTINGS["map"], cfg).tolist() == [7, 9, 11]
    assert exact.ranks(SETTINGS["rank"], cfg) == (2, 4, 8)
    assert exact.ranks(SETTINGS["descent"], cfg) == (16, 32, 64, 128)


def test_on_the_way_every_rank_is_at_most_half_the_width(cfg):
    for name in ("rank", "descent"):
        most = max(exact.ranks(SETTINGS[name], cfg))
        assert all(2**width >= 2 * most for width in exact.way(SETTINGS[name], cfg))


@pytest.mark.parametrize("widths", ["[7,11,14,17]", "[7,11,17]", "[4,7,17,18]"])
def test_some_width_on_the_way_is_wide_enough_for_every_allowed_rank(widths):
    """Every second from the widest down, which alone the config holds the ranks against."""
    cfg = load("claims", ClaimsConfig, [f"way_log2_widths={widths}"])
    found = exact.way(SETTINGS["descent"], cfg)
    assert found.size
    assert found[-1] == cfg.way_log2_widths[-1]


# --- Constants ---


@pytest.mark.parametrize("name", SETTINGS)
def test_a_pair_of_constants_gives_the_same_alone_as_with_others(cfg, name):
    one = dataclasses.replace(
        cfg, constants=dataclasses.replace(cfg.constants, scales=(2.0,), ratios=(0.25,))
    )
    at = cfg.constants.pairs.index(one.constants.pairs[0])
    among, alone = exact.measure(SETTINGS[name], cfg), exact.measure(SETTINGS[name], one)
    assert among.keys() == alone.keys()
    for key, values in alone.items():
        np.testing.assert_allclose(values[0], among[key][at], rtol=1e-12, atol=1e-9)
    first = next(iter(alone))
    others = [among[first][c] for c in range(6) if c != at]
    assert not any(np.array_equal(alone[first][0], other) for other in others)  # Control.


def test_at_its_first_step_the_map_moves_by_the_constant_of_its_own_rate(cfg):
    """From Init[1] f_1 = η_b s² y: at pairs of one k_b it is the same, and else as k_b."""
    runs = exact.measure(SETTINGS["map"], cfg)
    k_b = np.log2([pair[1] for pair in cfg.constants.pairs])
    first = runs["f"][..., 0]
    np.testing.assert_allclose(first - k_b[:, None, None] + k_b[0], 0 * first + first[0], atol=1e-9)
    assert not np.allclose(first, 0 * first + first[0])  # Control.


# --- On the way ---


@pytest.mark.parametrize("name", ["map", "layer", "two layers"])
def test_slopes_on_the_way_are_those_between_neighbouring_widths(cfg, name):
    setting = SETTINGS[name]
    widths, seeds = exact.way(setting, cfg), tuple(cfg.seeds[setting.model])[: cfg.way_seeds]
    k_a, k_b = np.array(cfg.constants.pairs).T
    small = exact.logs(setting, Runs(widths, seeds, k_a, k_b))
    found = exact.measure(setting, cfg)
    for key in ("f", "delta2"):
        means = small[key].mean(axis=2)
        with np.errstate(invalid="ignore"):  # Of what is exactly 0 there is none.
            slopes = np.diff(means, axis=1) / np.diff(widths)[:, None]
        np.testing.assert_allclose(found[f"way {key}"], slopes, atol=1e-9)


def test_slopes_of_the_rank_are_fitted_at_each_width_alone(cfg):
    found, setting = exact.measure(SETTINGS["descent"], cfg), SETTINGS["descent"]
    ranks, (first, *_) = exact.ranks(setting, cfg), exact.way(setting, cfg)
    k_a, k_b = np.array(cfg.constants.pairs).T
    runs = Runs(np.array([first]), tuple(cfg.seeds["rank_map"])[:2], k_a, k_b)
    logs = [exact.logs(setting, runs, rank)["delta2"][1, 0, :, 0].mean() for rank in ranks]
    slope = np.polyfit(np.log2(ranks), logs, 1)[0]
    assert found["way delta2"][1, 0, 0] == pytest.approx(slope, abs=1e-9)


# --- The rate that is asked for ---


def test_the_root_of_a_sum_of_powers_is_found():
    """η + η² = 2^c."""
    c = np.linspace(-200, 24, 113)

    def excess(log2_eta):
        return np.logaddexp2(log2_eta, 2 * log2_eta) - c

    found = exact._root(excess, np.full(c.shape, 12.0), np.full(c.shape, 14.0))
    size = 2.0**c
    eta = 2 * size / (1 + np.sqrt(1 + 4 * size))
    np.testing.assert_allclose(found, np.log2(eta), atol=1e-7)


@pytest.mark.parametrize("slope", [1, 1.5, 2])
def test_the_root_of_one_power_is_found_at_once(slope):
    called = []

    def excess(x):
        called.append(x)
        return slope * (x + 100)

    found = exact._root(excess, np.array([12.0]), np.array([14.0]))
    assert found == pytest.approx(-100)
    assert len(called) <= 4


def test_what_has_no_root_is_none_and_leaves_the_others():
    kinds = {
        "above": lambda x: np.ones_like(x),
        "lost": lambda x: np.full_like(x, np.nan),
        "never reached": lambda x: np.full_like(x, np.inf),
        "found": lambda x: x + 3,
    }

    def excess(x):
        return np.stack([kind(at) for kind, at in zip(kinds.values(), x, strict=True)])

    found = exact._root(excess, np.full(4, 12.0), np.full(4, 14.0))
    assert np.isnan(found[:3]).all()
    assert found[3] == pytest.approx(-3)


ASKED = [
    Setting("layer_map", update, init, asked=True) for update in ("sign", "adam") for init in "AB"
]


def moved(setting, log2_eta, runs, seed, width, pair, update):
    """log2 ΔZ_B of the second step of one seed, at √(η_A η_B) = η and η_A / η_B as in the pair."""
    start = layer_map.random_starts(
        np.array([runs.log2_widths[width]]),
        [runs.seeds[seed]],
        setting.init,
        0.0,
        0.0,
        k_a=2.0**log2_eta * (runs.k_a[pair] / runs.k_b[pair]) ** 0.5,
        k_b=2.0**log2_eta * (runs.k_b[pair] / runs.k_a[pair]) ** 0.5,
        target=2.0**40,
        stream=str(setting),
    )
    return layer_map.logs(layer_map.trajectory(start, 2, update=update))["dZ_B"][0, 0, 1]


@pytest.mark.parametrize("setting", ASKED, ids=str)
def test_the_rate_that_is_found_moves_z_b_by_what_is_asked(setting):
    k_a, k_b = np.array([0.05, 2.0]), np.array([0.8, 2.0])
    runs = Runs(np.array([12.0, 20.0, 40.0]), (3, 8), k_a, k_b)
    found = exact.logs(setting, runs)["eta"]
    assert found.shape == (2, 3, 2, 2)
    assert np.isnan(found[..., 0]).all()
    for pair, width, seed in ((0, 0, 0), (0, 2, 1), (1, 1, 1), (1, 2, 0)):
        eta = found[pair, width, seed, 1]
        asked = np.log2(k_a[pair] * k_b[pair]) / 2
        at = (runs, seed, width, pair, setting.update)
        assert moved(setting, eta, *at) == pytest.approx(asked, abs=1e-6)
        assert abs(moved(setting, eta + 0.05, *at) - asked) > 0.04  # Control.


# --- Gradient descent over the rank ---


def drawn(setting, runs, pair):
    """What `exact._descent` draws at one pair of constants: (S,) numbers of the scalar map."""
    start = scalar_map.random_runs(
        runs.log2_widths,
        runs.seeds,
        setting.init,
        float(setting.c_n),
        float(setting.c_n),
        k_a=runs.k_a[pair],
        k_b=runs.k_b[pair],
        stream=str(setting),
    )
    return {
        "sign": np.sign((start.b + start.s[..., 0]).value())[:, 0],
        "gram": start.gram.value()[:, 0, 0, 0],
        "eta_a": start.eta_a.value()[:, 0],
        "eta_b": start.eta_b.value()[:, 0],
        "y": start.y[:, 0, 0],
    }


def in_vectors(init, normal, norm_z, n, rng):
    """A, B, w, z of a layer of which Z_A (Init[1]) or Bᵀw n^½ (Init[2]) are given numbers."""
    z, w = rng.normal(size=(2, n))
    z *= norm_z / np.linalg.norm(z)
    w /= np.linalg.norm(w) * n**0.5
    rank = len(normal)
    if init == "A":
        return np.outer(normal, z) / (z @ z), np.zeros((n, rank)), w, z
    return np.zeros((rank, n)), np.outer(w, normal) * n**0.5, w, z


def descended(a, b, w, z, y, eta_a, eta_b, scale, steps):
    """(T, 4): f, δ¹, δ², δ³ of gradient descent on ½(f − y)² in full vectors, by hand."""
    found = []
    for _ in range(steps):
        u = scale * w @ b @ a @ z - y
        da = -eta_a * u * scale * np.outer(b.T @ w, z)
        db = -eta_b * u * scale * np.outer(w, a @ z)
        deltas = [scale * w @ p @ q @ z for p, q in ((b, da), (db, a), (db, da))]
        a, b = a + da, b + db
        found.append([scale * w @ b @ a @ z, *deltas])
    with np.errstate(divide="ignore"):
        return np.log2(np.abs(found))


@pytest.mark.parametrize("gamma", ["0", "1/2", "1"])
@pytest.mark.parametrize("init", ["A", "B"])
def test_descent_is_that_of_a_layer_in_vectors(init, gamma):
    """At n = 32 and r = 3, where no contribution is small beside another: all sizes at all t."""
    setting = Setting("rank_map", "gd", init, gamma=Fraction(gamma), c_n=Fraction(-1, 4))
    runs = Runs(np.array([5.0]), (0, 5, 9), np.array([0.3, 0.9]), np.array([1.2, 0.9]))
    rank, scale, rng = 3, 3 ** -float(Fraction(gamma)), np.random.default_rng(1)
    found = exact.logs(setting, runs, rank)
    own = vectors.own_seeds(runs.seeds, f"lengths of {setting}")
    for pair, seed in np.ndindex(2, 3):
        at = {name: values[seed] for name, values in drawn(setting, runs, pair).items()}
        normal = at["sign"] * np.random.default_rng(own[seed]).normal(size=rank)
        layer = in_vectors(init, normal, at["gram"] ** 0.5, 32, rng)
        rates = at["y"], at["eta_a"], at["eta_b"]
        by_hand, other = (descended(*layer, *rates, by * scale, 4) for by in (1, 1.01))
        for column, name in enumerate(("f", "delta1", "delta2", "delta3")):
            logs = found[name][pair, 0, seed]
            np.testing.assert_allclose(logs, by_hand[:, column], rtol=1e-9, atol=1e-9)
        assert not np.allclose(found["f"][pair, 0, seed], other[:, 0], atol=1e-3)  # Control.
