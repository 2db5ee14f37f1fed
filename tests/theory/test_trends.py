"""When exponents have settled: periodic rules, rules with memory, what shrinks, what is refused."""

import itertools
from fractions import Fraction

import pytest

from lora_theory.terms import Verdict
from lora_theory.theory.exponents import Rule, RuleError, Step, classify, solve, width_rates
from lora_theory.theory.powers import ONE, ZERO, N, Power
from lora_theory.theory.rules import LINEAR_GD
from lora_theory.theory.trends import moments, trend

NOTHING = {"none": ()}


def rule(run, **options):
    return Rule("toy", run, ("c",), width_rates("eta"), NOTHING, **options)


def verdict(run, c, **options):
    return classify(rule(run, **options), "none", {"c": c}).verdict


def in_turns(start, eta):
    """A and B move in turns, each update with its own contribution alone."""
    while True:
        yield Step(ONE, {"delta1": eta, "delta2": ZERO}, {})
        yield Step(ONE, {"delta1": ZERO, "delta2": 1}, {})


def counted(start, eta):
    """The same, by a counter."""
    for t in itertools.count():
        yield Step(ONE, {"delta1": eta * (t % 2), "delta2": (t + 1) % 2}, {})


@pytest.mark.parametrize(
    ("c", "found"), [(0, Verdict.EFFICIENT), (-1, Verdict.B_ALONE), ("1/2", Verdict.B_ALONE)]
)
def test_updates_in_turns_are_compared_over_a_period(c, found):
    assert verdict(in_turns, c) is found
    assert verdict(counted, c, period=2) is found


def test_a_counter_without_a_period_is_refused():
    with pytest.raises(RuleError, match=r"an update that counts t must name its period"):
        verdict(counted, 0)


def test_a_contribution_that_only_shrinks_is_not_unstable():
    def run(start, eta):
        shrinking = ONE
        while True:
            shrinking = shrinking * eta
            yield Step(1, {"delta1": shrinking, "delta2": 1}, {})

    assert verdict(run, -1) is Verdict.B_ALONE
    assert verdict(run, 0) is Verdict.EFFICIENT
    # What grows is a contribution here, and not f, as no rule of products would have it.
    assert verdict(run, 1) is Verdict.B_ALONE


def test_f_that_vanishes_further_and_further_is_stable():
    def run(start, eta):
        f = N ** "-1/3"
        while True:
            f = f * eta
            yield Step(f, {"delta1": f}, {"B": f})

    assert [str(region) for region in solve(rule(run), "none")] == [
        "stable, no feature learning: c ≤ 0",
        "unstable from t = 1: c > 1/3",
        "unstable from t = 2: 1/6 < c ≤ 1/3",
        "unstable from t = 3: 1/9 < c ≤ 1/6",
        "unstable from t = 4: 1/12 < c ≤ 1/9",
        "unstable later: 0 < c ≤ 1/12",
    ]


def test_f_that_vanishes_faster_and_faster_is_stable():
    def run(start, eta):
        f = N ** "-1/3"
        while True:
            f = eta * f**2
            yield Step(f, {"delta1": f}, {"B": f})

    assert verdict(run, "1/4") is Verdict.NO_LEARNING
    assert verdict(run, "1/3") is Verdict.NO_LEARNING
    assert verdict(run, "5/12") is Verdict.UNSTABLE


def test_what_grows_inside_alone_is_not_unstable():
    def run(start, eta):
        z_a = N**-9
        while True:
            z_a = z_a * eta
            yield Step(1, {"delta1": 1, "delta2": 1}, {"Z_A": z_a})

    assert verdict(run, 1) is Verdict.INSIDE
    assert verdict(run, 0) is Verdict.EFFICIENT


def test_what_grows_unseen_is_followed_until_f_feels_it():
    """y overtakes x only at t = 30; until then f is the same at every step."""

    def run(start, eta):
        x, y = N**-1, N**-31
        while True:
            y = y * N
            yield Step(x + y, {"delta1": x + y}, {})

    assert verdict(run, 0) is Verdict.UNSTABLE

    def bounded(start, eta):
        x, y = N**-1, N**-31
        while True:
            y = y * N + y
            yield Step(x * y / y, {"delta1": x}, {"y": 0})

    assert verdict(bounded, 0) is Verdict.NO_LEARNING


def momentum(beta):
    """Gradient descent on b·s with a velocity for each: two more sizes that feed each other."""

    def run(start, eta):
        b, s, v_b, v_s = ZERO, ONE, ZERO, ZERO
        while True:
            u = b * s + 1
            v_b, v_s = beta * v_b + s * u, beta * v_s + b * u * N
            db, ds = eta * v_b, eta * v_s
            deltas = {"delta1": b * ds, "delta2": s * db, "delta3": ds * db}
            b, s = b + db, s + ds
            yield Step(b * s, deltas, {"B": b, "Z_A": s})

    return run


def test_momentum_has_more_sizes_and_settles_like_gradient_descent():
    assert verdict(momentum(ONE), "-1/2") is Verdict.NO_LEARNING
    assert verdict(momentum(N**-1), "-1/2") is Verdict.NO_LEARNING
    assert verdict(momentum(ONE), "-49/100") is Verdict.UNSTABLE


def test_slow_growth_of_a_convex_rule_goes_on_for_ever():
    """g = 1/1000 a round of two updates: f = O(1) up to t = 501, and no further."""
    at = {"c_a": Fraction(-1, 2), "c_b": Fraction(-499, 1000)}
    assert str(classify(LINEAR_GD, "A", at)) == "unstable later"


def test_growth_that_slows_down_is_not_taken_for_growth_for_ever():
    """b' = b + η b^1/2 tends to η² and never arrives."""

    def run(start, eta):
        b = N**-8
        while True:
            b = b + eta * b ** "1/2"
            yield Step(b, {"delta1": b}, {})

    assert verdict(run, 1) is Verdict.UNSTABLE
    with pytest.raises(RuleError, match="does not tell what becomes of them"):
        verdict(run, -1)
    with pytest.raises(RuleError, match="does not tell what becomes of them"):
        solve(rule(run), "none")


def test_a_rule_that_divides_by_what_it_keeps_is_not_taken_for_convex():
    """b' = b + η / b settles, although it grew."""

    def run(start, eta):
        b = N**-2
        while True:
            b = b + eta / b
            yield Step(b, {"delta1": b}, {})

    assert verdict(run, "-2") is Verdict.EFFICIENT
    assert verdict(run, "-7/2") is Verdict.NO_LEARNING


def ends(start, eta):
    yield Step(1, {"delta1": 1}, {})


def tuples(start, eta):
    while True:
        yield ONE, {"delta1": ONE}, {}


def keeps_an_iterator(start, eta):
    sizes = itertools.cycle([ONE, N])
    while True:
        yield Step(next(sizes), {"delta1": ONE}, {})


def no_names(start, eta):
    while True:
        yield Step(1, [ONE], {})


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (ends, r"without end, in a `while True:` loop \(it ended after 1\)"),
        (tuples, r"must yield a Step per update, as Step\(f, \{"),
        (keeps_an_iterator, r"must keep sizes and numbers alone .*\(sizes is a cycle\)"),
        (lambda start, eta: [Step(1, {"delta1": 1}, {})], r"must be a generator.*\(got a list\)"),
        (lambda start, eta: None, r"must be a generator.*\(got nothing\)"),
        (no_names, r"deltas: must be sizes by name"),
    ],
)
def test_what_can_not_be_looked_at_is_refused_in_words(run, words):
    with pytest.raises(RuleError, match=words):
        verdict(run, 0)


def test_a_rule_may_delegate():
    def outer(start, eta):
        yield from in_turns(start, eta)

    assert verdict(outer, 0) is Verdict.EFFICIENT


def test_a_trend_needs_to_be_seen_twice():
    def run():
        x = ONE
        while True:
            x = x * N
            yield Step(x, {"delta1": x}, {})

    past = list(itertools.islice(moments(run()), 3))
    assert trend(past[:2]) is None
    found = trend(past)
    assert (found.period, found.round, found.growth) == (1, 1, "same")
    assert found.grows(past, "f")
    assert [moment.kept for moment in past] == [(Power(t),) for t in (1, 2, 3)]
