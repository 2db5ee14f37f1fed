"""Further rules: key facts derived by hand, and exact maps in numbers of any size, by brute force.

The maps below are the update equations themselves, signs and constants and all, in decimal numbers
at n = 10^3000 and 10^6000, where the slope of a size is its exponent to 1/1000. Vectors enter by
their inner products, which the updates close.
"""

from decimal import Context, Decimal, localcontext
from fractions import Fraction

import pytest

from lora_theory.terms import Verdict
from lora_theory.theory.exponents import (
    RuleError,
    classify,
    derive,
    efficient,
    first_unstable,
    fixed,
    shared,
    solve,
)
from lora_theory.theory.rules import LAYER_SIGN, LINEAR_GD
from lora_theory.theory.variants import (
    ALTERNATING_GD,
    ALTERNATING_SIGN,
    DORA_GD,
    FULL_GD,
    HEAVY_BALL,
    LORA_FA_GD,
    LORA_FA_SIGN,
    SCALED_GD,
    WEIGHT_DECAY,
)

COARSE = [(Fraction(i, 4), Fraction(j, 4)) for i in range(-8, 5) for j in range(-8, 5)]
SMALL, LARGE = 3000, 6000
Y, A0, B0, BETA = Decimal(3), Decimal("1.3"), Decimal("0.7"), Decimal("0.9")


def texts(regions):
    return [str(region) for region in regions]


def cells(regions):
    return [str(region.cell) for region in regions]


def power(log10, exponent, factor="1"):
    return Decimal(factor) * Decimal(10) ** (log10 * Fraction(exponent).numerator
                                             // Fraction(exponent).denominator)  # fmt: skip


def slopes(run, steps, **exponents):
    """The exponent of each size after each step; None for exactly zero."""
    with localcontext(Context(prec=40, Emax=10**17, Emin=-(10**17))):
        tracks = []
        for log10 in (SMALL, LARGE):
            rates = {
                name: power(log10, c, factor)
                for (name, c), factor in zip(
                    exponents.items(), ("0.31", "0.23", "0.11"), strict=False
                )
            }
            track = run(power(log10, 1), **rates)
            tracks.append([next(track) for _ in range(steps)])
        return [
            {name: slope(small[name], large[name]) for name in small}
            for small, large in zip(*tracks, strict=True)
        ]


def slope(small, large):
    if small == 0 or large == 0:
        assert small == large == 0
        return None
    return float((abs(large).log10() - abs(small).log10()) / (LARGE - SMALL))


def agree(rule, init, run, steps=5, names=("f", "B", "Z_A"), **exponents):
    """Exponents by algebra and by brute force, to 1/1000, while f = O(1), and at the first step
    after: from then on signs may cancel what grows.
    """
    found = slopes(run, steps, **exponents)
    for brute, sizes in zip(found, derive(rule, init, exponents, steps), strict=True):
        for name in names:
            gamma = sizes[name].gamma
            if gamma is None:
                assert brute[name] is None, (exponents, name)
            else:
                assert brute[name] == pytest.approx(float(gamma), abs=1e-3), (exponents, name)
        if sizes["f"].gamma is not None and sizes["f"].gamma > 0:
            return


def one_sided(init):
    return (Decimal(0), A0) if init == "A" else (B0, Decimal(0))


def seen(b, s, **more):
    return {"f": b * s, "B": b, "Z_A": s, **more}


# Momentum.


def heavy_ball_map(init):
    def run(n, c_a, c_b):
        b, s = one_sided(init)
        v = w = Decimal(0)
        while True:
            u = b * s - Y
            v, w = BETA * v + s * u, BETA * w + n * b * u
            b, s = b - c_b * v, s - c_a * w
            yield seen(b, s)

    return run


@pytest.mark.parametrize("init", ["A", "B"])
def test_momentum_changes_no_exponent(init):
    """By hand: b and s never shrink in size, so neither does s U, and v' = β v + s U = Θ(s U)."""
    assert cells(efficient(HEAVY_BALL, init)) == ["c_a = -1, c_b = 0"]
    assert efficient(shared(HEAVY_BALL), init, inside=False) == []
    for c_a, c_b in COARSE:
        at = {"c_a": c_a, "c_b": c_b}
        assert classify(HEAVY_BALL, init, at) == classify(LINEAR_GD, init, at), at
        assert first_unstable(HEAVY_BALL, init, at, 60) == first_unstable(LINEAR_GD, init, at, 60)
    for c_a, c_b in COARSE[::5]:
        agree(HEAVY_BALL, init, heavy_ball_map(init), c_a=c_a, c_b=c_b)


# Weight decay.


def weight_decay_map(init):
    def run(n, c_a, c_b, d):
        b, s = one_sided(init)
        while True:
            u = b * s - Y
            b, s = b - c_b * (d * b + s * u), s - c_a * (d * s + n * b * u)
            yield seen(b, s)

    return run


@pytest.mark.parametrize("init", ["A", "B"])
def test_weight_decay_asks_for_rates_below_one_over_it(init):
    """By hand: as gradient descent where η_A λ, η_B λ = O(1), for b and s do not shrink in order
    then; if η λ grows, (1 − η λ)^t does, and f with it. From Init[2] B = Θ(1) decays by η_B λ: it
    moves f by Θ(1) at c_b = −d, where its gradient does not.
    """
    for d in ("-1", "0", "1/2", "3/2"):
        decay = Fraction(d)
        for c_a, c_b in COARSE[::3]:
            found = classify(WEIGHT_DECAY, init, {"c_a": c_a, "c_b": c_b, "d": d})
            plain = classify(LINEAR_GD, init, {"c_a": c_a, "c_b": c_b})
            if max(c_a, c_b) + decay > 0:
                assert found.verdict is Verdict.UNSTABLE, (c_a, c_b, d)
            else:
                assert found == plain, (c_a, c_b, d)
    by_decay = ["c_a = -1, c_b = -1/4"] if init == "B" else []
    pairs = {"-1": ["c_a = -1, c_b = 0"], "0": ["c_a = -1, c_b = 0"], "1/4": by_decay}
    for d, wanted in pairs.items():
        assert cells(efficient(fixed(WEIGHT_DECAY, d=d), init)) == wanted
    for d in ("-1/2", "1/4", "1"):
        for c_a, c_b in COARSE[::7]:
            agree(WEIGHT_DECAY, init, weight_decay_map(init), c_a=c_a, c_b=c_b, d=Fraction(d))


@pytest.mark.slow
def test_weight_decay_may_be_as_large_as_one_over_the_rate_of_b():
    assert cells(efficient(WEIGHT_DECAY, "A", most=12)) == ["c_a = -1, c_b = 0, d ≤ 0"]


# Updates in turns.


def alternating_map(init, *, sign):
    def run(n, c_a, c_b):
        b, s = one_sided(init)
        while True:
            u = b * s - Y
            s = s - c_a * (n * signed(b * u) if sign else n * b * u)
            yield seen(b, s)
            u = b * s - Y
            b = b - c_b * (signed(s * u) if sign else s * u)
            yield seen(b, s)

    return run


def signed(x):
    return Decimal(0) if x == 0 else Decimal(1).copy_sign(x)


@pytest.mark.parametrize("init", ["A", "B"])
def test_descent_in_turns_is_efficient_where_descent_is(init):
    """By hand, with p = c_a + 1, m = c_b, g = p + m: from Init[1] A rests at t = 1, and
    γ[f] = m + (t − 2) g from t = 2 on if g > 0; from Init[2] γ[f] = p + (t − 1) g. So instability
    comes a step later from Init[1], and as in gradient descent from Init[2].
    """
    assert cells(efficient(ALTERNATING_GD, init)) == ["c_a = -1, c_b = 0"]
    assert efficient(shared(ALTERNATING_GD), init, inside=False) == []
    for c_a, c_b in COARSE:
        at = {"c_a": c_a, "c_b": c_b}
        both, turns = (first_unstable(rule, init, at, 80) for rule in (LINEAR_GD, ALTERNATING_GD))
        assert turns == (both + (init == "A") if both else 0), at
        verdicts = (classify(rule, init, at).verdict for rule in (LINEAR_GD, ALTERNATING_GD))
        assert len(set(verdicts)) == 1, at
    for c_a, c_b in COARSE[::5]:
        agree(ALTERNATING_GD, init, alternating_map(init, sign=False), c_a=c_a, c_b=c_b)


@pytest.mark.parametrize("init", ["A", "B", "both"])
def test_sign_updates_in_turns_have_the_classes_of_those_at_once(init):
    for c_a, c_b in COARSE:
        at = {"c_a": c_a, "c_b": c_b}
        found = classify(ALTERNATING_SIGN, init, at)
        assert found.verdict is classify(LAYER_SIGN, init, at).verdict, at
    if init != "both":
        for c_a, c_b in COARSE[::5]:
            agree(ALTERNATING_SIGN, init, alternating_map(init, sign=True), c_a=c_a, c_b=c_b)


# One factor, or none.


def lora_fa_map(n, c_b):
    b, s = one_sided("A")
    while True:
        b = b - c_b * s * (b * s - Y)
        yield seen(b, s)


def full_map(f):
    def run(n, c):
        value = f
        while True:
            value = value - c * n * (value - Y)
            yield {"f": value}

    return run


def test_with_a_frozen_b_learns_alone_at_the_rate_of_one():
    for rule in (LORA_FA_GD, LORA_FA_SIGN):
        assert texts(solve(rule, "A")) == [
            "B alone: c_b = 0",
            "stable, no feature learning: c_b < 0",
            "unstable from t = 1: c_b > 0",
        ]
        assert efficient(rule, "A", inside=False) == []
    for c in (-1, "-1/2", 0, "1/3"):
        agree(LORA_FA_GD, "A", lora_fa_map, c_b=Fraction(c))


@pytest.mark.parametrize(("init", "f"), [("W*", Decimal("0.4")), ("0", Decimal(0))])
def test_full_fine_tuning_has_one_efficient_rate(init, f):
    """f' = f − η ‖x‖² U: η = Θ(1/n), whatever the pretrained w."""
    assert texts(solve(FULL_GD, init)) == [
        "efficient: c = -1",
        "stable, no feature learning: c < -1",
        "unstable from t = 1: c > -1",
    ]
    for c in ("-3/2", "-1", "-2/3"):
        agree(FULL_GD, init, full_map(f), steps=3, names=("f",), c=Fraction(c))


def test_sign_updates_with_both_factors_random():
    """By hand: ΔZ_A = n^p and ΔB = n^m at every step, so f = n^max(0, p, m, p + m) is stable for
    p, m ≤ 0, δ¹ = n^p and δ² = n^m there.
    """
    stable, rest = texts(solve(LAYER_SIGN, "both"))[:4], texts(solve(LAYER_SIGN, "both"))[4:]
    assert stable == [
        "A alone: c_a = -1, c_b < 0",
        "B alone: c_a < -1, c_b = 0",
        "efficient: c_a = -1, c_b = 0",
        "stable, no feature learning: c_a < -1, c_b < 0",
    ]
    # However the rest is cut into cells.
    assert all(text.startswith("unstable from t = 1: ") for text in rest)
    for c_a, c_b in COARSE:
        found = classify(LAYER_SIGN, "both", {"c_a": c_a, "c_b": c_b})
        assert (str(found) == "unstable from t = 1") == (c_a > -1 or c_b > 0), (c_a, c_b)


# r × r preconditioning.


def scaled_map(init):
    def run(n, c_a, c_b):
        b, s, squared = *one_sided(init), Decimal(2) if init == "A" else Decimal(0)
        while True:
            u = b * s - Y
            moved = c_a * u / b if b else Decimal(0)  # a' = a − moved · x
            db = c_b * u * s / squared if squared else Decimal(0)
            squared = squared - 2 * moved * s + moved**2 * n
            b, s = b - db, s - moved * n
            yield seen(b, s, norm_A=squared.sqrt())

    return run


@pytest.mark.parametrize("init", ["A", "B"])
def test_preconditioning_makes_one_rate_efficient(init):
    """By hand, with p = c_a + 1, m = c_b: δ¹ = b Δs = n^p U whatever b, and δ² = n^m U s²/q².

    Init[2]: a is along x, so s²/q² = n: δ² = n^(m + 1), and (−1, −1) alone is efficient: one rate.
    Init[1]: s²/q² = Θ(1) where Δs = n^(p − m) is below n^1/2, which leaves (−1, 0), and n where it
    is above, as at (−1, −1): b = n^−1 moves Z_A by Θ(n), f by Θ(1). One rate is efficient there as
    well, if Z_A may grow.
    """
    one = shared(SCALED_GD)
    if init == "B":
        assert cells(efficient(SCALED_GD, init)) == ["c_a = -1, c_b = -1"]
        assert cells(efficient(one, init)) == ["c = -1"]
    else:
        assert cells(efficient(SCALED_GD, init)) == ["c_a = -1, c_b = 0"]
        both = ["c_a = -1, c_b = -1", "c_a = -1, c_b = 0"]
        assert cells(efficient(SCALED_GD, init, inside=False)) == both
        assert efficient(one, init) == []
        assert cells(efficient(one, init, inside=False)) == ["c = -1"]
        sizes = derive(SCALED_GD, init, {"c_a": -1, "c_b": -1}, 6)[-1]
        assert (sizes["B"].gamma, sizes["Z_A"].gamma) == (-1, 1)
        assert (sizes["norm_A"].gamma, sizes["f"].gamma) == (Fraction(1, 2), 0)
    names = ("f", "B", "Z_A", "norm_A")
    for c_a, c_b in COARSE[::4]:
        agree(SCALED_GD, init, scaled_map(init), names=names, c_a=c_a, c_b=c_b)


# DoRA.


def dora_map(init):
    """v = w₀ + b a by the inner products of w₀, a and x; the norm is no part of the gradients."""

    def run(n, c_a, c_b, c_m):
        b, s = one_sided(init)
        squared, along = (Decimal(2), Decimal("0.2")) if init == "A" else (Decimal(0), Decimal(0))
        w_x, w_w, m = Decimal("0.6"), Decimal("1.7"), Decimal("1.1")
        while True:
            norm = (w_w + 2 * b * along + b * b * squared).sqrt()
            h = (w_x + b * s) / norm
            u = m * h - Y
            moved, db = c_a * (m / norm) * b * u, c_b * (m / norm) * s * u
            m = m - c_m * h * u
            squared = squared - 2 * moved * s + moved**2 * n
            along, s, b = along - moved * w_x, s - moved * n, b - db
            norm = (w_w + 2 * b * along + b * b * squared).sqrt()
            yield seen(b, s, norm_A=squared.sqrt()) | {
                "f": m * (w_x + b * s) / norm,
                "magnitude": m,
            }

    return run


@pytest.mark.parametrize("init", ["A", "B"])
def test_dora_asks_for_two_rates_and_a_third_of_its_own(init):
    """By hand: ‖v‖ = Θ(1) at (−1, 0), so A and B move f as in LoRA, and m by n^c_m: c_m ≤ 0, and
    m learns at 0. A larger η_B does not blow f up from Init[1], as it would without the norm: b and
    ‖v‖ grow alike.
    """
    assert cells(efficient(fixed(DORA_GD, c_a=-1, c_b=0), init)) == ["c_m ≤ 0"]
    for c_m in ("-1/2", "0"):
        for line in ({"c_a": -1}, {"c_b": 0}):
            (pair,) = efficient(fixed(DORA_GD, **line, c_m=c_m), init, inside=False)
            assert pair.cell.point() == {"c_b": 0} if "c_a" in line else {"c_a": -1}
    learning = solve(
        fixed(DORA_GD, c_a=-1, c_b=0), init, lambda steps: str(next(steps).other["delta_m"] == 1)
    )
    assert "True: c_m = 0" in texts(learning)
    larger = {"c_a": -1, "c_b": "1/2"}
    assert classify(LINEAR_GD, init, larger).verdict is Verdict.UNSTABLE
    found = classify(DORA_GD, init, larger | {"c_m": 0}).verdict
    assert found is (Verdict.A_ALONE if init == "A" else Verdict.UNSTABLE)
    assert classify(DORA_GD, init, {"c_a": -1, "c_b": 0, "c_m": "1/9"}).from_t == 1


@pytest.mark.parametrize("init", ["A", "B"])
@pytest.mark.parametrize("rule", [DORA_GD, fixed(DORA_GD, c_m=0)], ids=["space", "plane"])
def test_dora_is_refused_in_one_line_where_its_cases_do_not_end(rule, init):
    for asked in (solve, efficient):
        with pytest.raises(RuleError, match=r"^DoRA .* do not end, after 9 splits .*`classify`\)$"):
            asked(rule, init, most=9)


@pytest.mark.slow
def test_dora_is_refused_without_a_limit_of_ones_own():
    with pytest.raises(RuleError, match="its cases do not end, after 24 splits in a row"):
        solve(DORA_GD, "A")


@pytest.mark.parametrize("init", ["A", "B"])
def test_of_dora_a_wedge_of_slow_growth_is_all_that_is_left(init):
    """It lies above c_a + c_b = −1, and every point in it that is tried is unstable later."""
    plane = fixed(DORA_GD, c_m=0)
    found = solve(plane, init, most=10, rest="left")
    left = [region.cell for region in found if region.answer == "left"]
    assert 1 <= len(left) < 6
    for cell in left:
        at = cell.point()
        assert at["c_a"] + at["c_b"] > -1
        assert classify(plane, init, at).verdict is Verdict.UNSTABLE
    for region in found:
        if region.answer != "left":
            assert classify(plane, init, region.cell.point()) == region.answer


@pytest.mark.parametrize("init", ["A", "B"])
def test_dora_by_brute_force(init):
    names = ("f", "B", "Z_A", "norm_A", "magnitude")
    for c_m in ("-1/2", "0"):
        for c_a, c_b in COARSE[::7]:
            run = dora_map(init)
            agree(DORA_GD, init, run, 4, names, c_a=c_a, c_b=c_b, c_m=Fraction(c_m))


def test_a_wrong_map_does_not_agree():
    """Control: the map of the other init, and one whose ‖x‖² does not grow."""
    at = {"c_a": Fraction(-1), "c_b": Fraction(-1, 2)}
    with pytest.raises(AssertionError):
        agree(HEAVY_BALL, "A", heavy_ball_map("B"), **at)
    with pytest.raises(AssertionError):
        agree(SCALED_GD, "A", lambda n, **rates: scaled_map("A")(Decimal(1), **rates), **at)


def test_exponents_are_fixed_by_name():
    assert fixed(DORA_GD, c_m=0).exponents == ("c_a", "c_b")
    for bad in ({"c": 0}, {"c_a": 0, "c_b": 0}):
        with pytest.raises(ValueError, match="exponents: must be some of c_a, c_b"):
            fixed(LINEAR_GD, **bad)
