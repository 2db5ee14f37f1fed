"""The rules' recursions against closed forms worked out by hand, on whole lattices of rates."""

from fractions import Fraction

import pytest

from lora_theory.terms import Verdict
from lora_theory.theory.exponents import classify, derive, efficient, first_unstable, shared, solve
from lora_theory.theory.powers import ZERO, N, R
from lora_theory.theory.rules import (
    LAYER_SIGN,
    LINEAR_GD,
    RANK_GD,
    RANK_SIGN,
    RULES,
    TWO_LAYER_GD,
    sized,
    starts,
)

LATTICE = [(Fraction(i, 12), Fraction(j, 12)) for i in range(-24, 13) for j in range(-24, 13)]
STEPS = 7


def gammas(rule, init, c_a, c_b, steps=STEPS):
    sizes = derive(rule, init, {"c_a": c_a, "c_b": c_b}, steps)
    return [{name: power.gamma for name, power in step.items()} for step in sizes]


# The closed forms. p = c_a + 1, m = c_b, g = p + m. None stands for identically zero.


def gd_table(init, p, m):
    """(verdict, f_t, (δ¹, δ², δ³) for t ≥ 2); f_t and δ only where they have a simple form."""
    if init == "B":  # Init[2] at (p, m) is Init[1] at (m, p), with b and s exchanged.
        verdict, f, deltas = gd_table("A", m, p)
        swapped = {"A alone": "B alone", "B alone": "A alone"}
        if deltas is not None:
            deltas = (deltas[1], deltas[0], deltas[2])
        return swapped.get(verdict, verdict), f, deltas
    g = p + m
    if m > 0:
        return "unstable", lambda t: m if t == 1 else None, None
    if g > 0:
        return "unstable", lambda t: m + (t - 1) * g if m + (t - 2) * g <= 0 else None, None
    if m < 0:
        return "stable, no feature learning", lambda t: m, (p + 2 * m, m, p + 2 * m)
    if p < 0:
        return "B alone", lambda t: Fraction(0), (p, Fraction(0), p)
    return "efficient", lambda t: Fraction(0), (Fraction(0),) * 3


def gd_first_unstable(init, p, m):
    if init == "B":
        p, m = m, p
    if m > 0:
        return 1
    g = p + m
    return int(-m // g) + 2 if g > 0 else 0


def sign_table(init, p, m):
    """(γ[B], γ[Z_A], (δ¹, δ², δ³), verdict) from t = 3."""
    zero = Fraction(0)
    g = p + m
    if init == "A":
        b, z_a = m, max(zero, p)
        deltas = (p + m, m + max(zero, p), p + m)
        alone, name, other = m == 0 and p < 0, "B alone", p
        stable = m <= 0 and g <= 0
    else:
        b, z_a = max(zero, m), p
        deltas = (p + max(zero, m), p + m, p + m)
        alone, name, other = p == 0 and m < 0, "A alone", m
        stable = p <= 0 and g <= 0
    if not stable:
        verdict = "unstable"
    elif p == 0 and m == 0:
        verdict = "efficient"
    elif g == 0 and other > 0:
        verdict = "efficient, but unstable inside"
    else:
        verdict = name if alone else "stable, no feature learning"
    return b, z_a, deltas, verdict


@pytest.mark.parametrize("init", ["A", "B"])
def test_gradient_descent_is_the_closed_form_on_the_lattice(init):
    for c_a, c_b in LATTICE:
        verdict, f, deltas = gd_table(init, c_a + 1, c_b)
        steps = gammas(LINEAR_GD, init, c_a, c_b)
        found = classify(LINEAR_GD, init, {"c_a": c_a, "c_b": c_b})
        assert found.verdict.value == verdict, (c_a, c_b)
        for t, step in enumerate(steps, 1):
            expected = f(t)
            assert expected is None or step["f"] == expected, (c_a, c_b, t)
            if deltas is not None and t >= 3:
                measured = tuple(step[name] for name in ("delta1", "delta2", "delta3"))
                assert measured == deltas, (c_a, c_b, t)


@pytest.mark.parametrize("init", ["A", "B"])
def test_first_unstable_step_on_the_lattice(init):
    for c_a, c_b in LATTICE:
        at = {"c_a": c_a, "c_b": c_b}
        assert first_unstable(LINEAR_GD, init, at, 60) == gd_first_unstable(init, c_a + 1, c_b)


@pytest.mark.parametrize("init", ["A", "B"])
def test_sign_updates_are_the_closed_form_on_the_lattice(init):
    for c_a, c_b in LATTICE:
        b, z_a, deltas, verdict = sign_table(init, c_a + 1, c_b)
        assert classify(LAYER_SIGN, init, {"c_a": c_a, "c_b": c_b}).verdict.value == verdict, (
            c_a,
            c_b,
        )
        for step in gammas(LAYER_SIGN, init, c_a, c_b)[2:]:
            assert (step["B"], step["Z_A"]) == (b, z_a)
            assert (step["delta1"], step["delta2"], step["delta3"]) == deltas


@pytest.mark.parametrize("table", [gd_table, sign_table])
def test_the_other_inits_table_is_refuted(table):
    rule = LINEAR_GD if table is gd_table else LAYER_SIGN
    wrong = 0
    for c_a, c_b in LATTICE:
        row = table("B", c_a + 1, c_b)
        verdict = row[0] if table is gd_table else row[3]
        wrong += classify(rule, "A", {"c_a": c_a, "c_b": c_b}).verdict.value != verdict
    assert wrong > len(LATTICE) // 4


@pytest.mark.parametrize(("rule", "init"), [(r, i) for r in (LINEAR_GD, LAYER_SIGN) for i in "AB"])
def test_solved_regions_partition_the_plane(rule, init):
    regions = solve(rule, init)
    for c_a, c_b in LATTICE[::7]:
        holding = [r for r in regions if contains(r.cell, (c_a, c_b))]
        assert len(holding) == 1, (c_a, c_b)
        assert holding[0].answer == classify(rule, init, {"c_a": c_a, "c_b": c_b})


def contains(cell, point):
    for form, relation in cell.constraints:
        value = form[0] + sum(c * x for c, x in zip(form[1:], point, strict=False))
        if not {"<": value < 0, "≤": value <= 0, "=": value == 0}[relation]:
            return False
    return True


def cells(regions):
    return [str(region.cell) for region in regions]


@pytest.mark.parametrize("init", ["A", "B"])
def test_proposition_1(init):
    assert efficient(shared(LINEAR_GD), init, inside=False) == []


@pytest.mark.parametrize("init", ["A", "B"])
def test_proposition_2(init):
    (region,) = efficient(LINEAR_GD, init)
    assert region.cell.dimension == 0
    assert region.cell.point() == {"c_a": -1, "c_b": 0}


@pytest.mark.parametrize("init", ["A", "B"])
def test_theorem_1_and_what_its_uniqueness_rests_on(init):
    (point,) = efficient(LAYER_SIGN, init)
    assert point.cell.point() == {"c_a": -1, "c_b": 0}
    (half_line,) = efficient(LAYER_SIGN, init, inside=False)
    assert half_line.cell.dimension == 1
    assert half_line.cell.corners() == [(Fraction(-1), Fraction(0))]
    assert (
        str(half_line.cell)
        == {"A": "c_a + c_b = -1, c_b ≤ 0", "B": "c_a + c_b = -1, c_b ≥ 0"}[init]
    )


def test_two_layer_toy():
    assert cells(efficient(TWO_LAYER_GD, "both")) == ["c_a = -1, c_b = 0"]
    for c_a, c_b in LATTICE[::5]:
        p, m = c_a + 1, c_b
        first = gammas(TWO_LAYER_GD, "both", c_a, c_b, 1)[0]
        assert (first["delta1"], first["delta2"], first["delta3"]) == (p, m, p + m)
        stable = classify(TWO_LAYER_GD, "both", {"c_a": c_a, "c_b": c_b}).verdict
        assert (stable is not Verdict.UNSTABLE) == (p <= 0 and m <= 0)


def test_rank_exponents_are_the_published_laws():
    """η ∝ n^−1/2 r^−(1−γ)/2 (Init[1]), n^−1 r^γ (Init[2], B ~ N(0, 1/r)); GD: γ = 1/2."""

    def learning(rule, init):
        regions = solve(rule, init)
        wanted = (Verdict.INSIDE, Verdict.A_ALONE, Verdict.B_ALONE)
        return cells(region for region in regions if region.answer.verdict in wanted)

    assert learning(RANK_SIGN, "A") == ["2 e - gamma = -1, c = -1/2"]
    assert learning(RANK_SIGN, "B, variance 1/r") == ["c = -1, e - gamma = 0"]
    assert learning(RANK_SIGN, "B") == ["c = -1, e - gamma = -1/2"]
    for gamma in (Fraction(0), Fraction(1, 2), Fraction(1)):
        at = {"c": Fraction(-1, 2), "e": 0, "gamma": gamma}
        for init, own, other in (("A", "delta2", "delta1"), ("B", "delta1", "delta2")):
            first, second = derive(RANK_GD, init, at, 2)
            assert (first[own].rho, first[other]) == (1 - 2 * gamma, ZERO)
            assert (second[own].rho, second[other].rho) == (1 - 2 * gamma, 1 - 4 * gamma)


def test_the_half_line_is_efficient_from_t_3_on():
    steps = gammas(LAYER_SIGN, "A", Fraction(-3, 4), Fraction(-1, 4))
    assert [step["delta2"] for step in steps[:4]] == [Fraction(-1, 4)] * 2 + [0, 0]


@pytest.mark.parametrize("setting", RULES, ids=" ".join)
def test_the_rule_of_every_setting_is_derived_from_every_init(setting):
    rule = RULES[setting]
    at = dict.fromkeys(rule.exponents, Fraction(-1))
    for init in rule.inits:
        steps = derive(rule, init, at, 4)
        assert len(steps) == 4
        assert {"f", "delta1", "delta2", "delta3"} <= steps[-1].keys()
    with pytest.raises(ValueError, match="init: must be"):
        derive(rule, "C", at, 1)


def test_a_layer_and_its_map_share_a_rule_and_updates_do_not():
    assert RULES["map", "gd"] is RULES["linear", "gd"]
    assert RULES["layer", "adam"] is RULES["layer", "sign"]
    assert RULES["layer", "adam"] is not RULES["linear", "gd"]


SIGMAS = ["-1", "-1/3", "0", "1/7", "1/4", "1/2", "2"]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_efficient_pair_moves_with_the_size_at_the_start(sigma):
    """(b, s, η_a‖x‖², η_b) → (b/κ, κ s, κ² η_a‖x‖², η_b/κ²) leaves f as it is, so κ = n^σ takes the
    pair (−1, 0) from s₀ = Θ(1) to (2σ − 1, −2σ) from s₀ = n^σ: by hand, b' = b − η_b s U becomes
    b'/κ = b/κ − (η_b/κ²)(κ s) U, and s' = s − η_a‖x‖² b U becomes κ s' = κ s − (κ² η_a‖x‖²)(b/κ) U.
    """
    sigma = Fraction(sigma)
    start = (ZERO, N**sigma)
    (pair,) = efficient(LINEAR_GD, start, inside=False)
    assert pair.cell.point() == {"c_a": 2 * sigma - 1, "c_b": -2 * sigma}
    # B = n^−σ and Z_A = n^σ are both O(1) at σ = 0 alone.
    assert bool(efficient(LINEAR_GD, start)) == (sigma == 0)
    # The whole diagram moves with it.
    for p, m in [(-1, -1), (0, 0), (1, -1), ("1/12", "-1/12"), ("1/6", "-1/12"), (-1, 0), (0, 1)]:
        at = {"c_a": Fraction(p) - 1, "c_b": Fraction(m)}
        moved = {"c_a": at["c_a"] + 2 * sigma, "c_b": at["c_b"] - 2 * sigma}
        here = first_unstable(LINEAR_GD, "A", at, 60)
        assert first_unstable(LINEAR_GD, start, moved, 60) == here
        f, g = (
            [step["f"] for step in derive(LINEAR_GD, init, rates, 6)]
            for init, rates in (("A", at), (start, moved))
        )
        assert f == g


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_best_shared_rate_moves_with_the_size_at_the_start(sigma):
    """Stable from n^σ: c_a + c_b ≤ −1 and c_b ≤ −2σ, as (−1, 0) and its half-lines have moved; with
    one rate c ≤ min(−1/2, −2σ). At σ = 1/4, and there alone, the pair has equal rates.
    """
    sigma = Fraction(sigma)
    start = (ZERO, N**sigma)
    best = min(Fraction(-1, 2), -2 * sigma)
    one = shared(LINEAR_GD)
    assert classify(one, start, {"c": best}).verdict is not Verdict.UNSTABLE
    assert classify(one, start, {"c": best + Fraction(1, 1000)}).verdict is Verdict.UNSTABLE
    stable = [r for r in solve(one, start) if r.answer.verdict is not Verdict.UNSTABLE]
    assert cells(stable)[-1] in (f"c ≤ {best}", f"c < {best}")
    learning = cells(efficient(one, start, inside=False))
    assert learning == (["c = -1/2"] if sigma == Fraction(1, 4) else [])


def test_sizes_at_the_start_are_those_of_the_name():
    at = {"c_a": Fraction(-3, 4), "c_b": Fraction(-1, 4)}
    for rule in (LINEAR_GD, LAYER_SIGN):
        for init, sizes in starts("A", "B").items():
            assert derive(rule, init, at, 5) == derive(rule, sizes, at, 5)
            named, given, other = (
                list(map(str, solve(rule, start))) for start in (init, sizes, (N**-1, N**-1))
            )
            assert named == given != other
    assert sized("B", "1/4") == (N ** "1/4", ZERO)
    assert sized("A") == "A"


def test_both_factors_random_and_sizes_of_the_rank():
    """f = b s = Θ(1) at once from (1, 1), and δ² = η_b s² U, δ¹ = η_a n b² U at t = 1."""
    (pair,) = efficient(LINEAR_GD, (1, 1))
    assert pair.cell.point() == {"c_a": -1, "c_b": 0}
    first = derive(LINEAR_GD, (1, 1), {"c_a": "-3/2", "c_b": "-1/3"}, 1)[0]
    assert (first["delta1"].gamma, first["delta2"].gamma) == (Fraction(-1, 2), Fraction(-1, 3))
    # From s₀ = r^1/2, κ = r^1/2: B's contribution is larger by r at the first step.
    first = derive(LINEAR_GD, (0, R ** "1/2"), {"c_a": -1, "c_b": 0}, 1)[0]
    assert (first["delta2"].gamma, first["delta2"].rho) == (0, 1)
    named, given = (solve(RANK_SIGN, init) for init in ("B, variance 1/r", (R ** "-1/2", ZERO)))
    assert list(map(str, named)) == list(map(str, given))


@pytest.mark.parametrize("start", [(), (1,), (1, 1, 1), [1, 1], (1, -1), (1, "1"), None])
def test_sizes_at_the_start_that_are_none_are_refused(start):
    with pytest.raises(ValueError, match="init: must be one of A, B, or sizes at the start, as"):
        classify(LINEAR_GD, start, {"c_a": 0, "c_b": 0})
