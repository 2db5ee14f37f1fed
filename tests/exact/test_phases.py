"""Measured classes: right at known points, undecided where the seeds do not tell."""

from fractions import Fraction

import numpy as np
import pytest

from lora_theory.exact.phases import (
    Bounds,
    _class,
    measured_classes,
    needs,
    two_layer_classes,
)
from lora_theory.terms import Class, Verdict
from lora_theory.theory.regions import lattice, predicted_class
from lora_theory.theory.rules import RULES

WIDE = np.array([1000.0, 2000.0, 4000.0])
DIAGRAMS = [(update, init) for update in ("gd", "sign") for init in "AB"]
POINTS = {
    (-1.0, 0.0): Class(Verdict.EFFICIENT),
    (-1.5, 0.0): Class(Verdict.B_ALONE),
    (-1.5, -0.5): Class(Verdict.NO_LEARNING),
    (-0.5, -5 / 12): Class(Verdict.UNSTABLE, 7),
    (1.0, 1.0): Class(Verdict.UNSTABLE, 1),
}


def found(points, update="gd", init="A", widths=WIDE, seeds=8):
    return measured_classes(
        np.array(points),
        update,
        init,
        log2_widths=widths,
        seeds=range(seeds),
        steps=30,
        confidence=0.95,
    )


def test_known_points_have_their_classes():
    assert found(list(POINTS)) == list(POINTS.values())


def test_a_point_has_the_class_that_it_has_alone():
    assert [found([point])[0] for point in POINTS] == list(POINTS.values())


@pytest.mark.parametrize("init", ["A", "B"])
def test_sign_updates_are_unstable_inside_on_the_half_line(init):
    """c_a + c_b = −1: Z_A (Init[2]: B) grows there, and nothing else does."""
    point = (-0.5, -0.5) if init == "A" else (-1.5, 0.5)
    assert found([point], "sign", init) == [Class(Verdict.INSIDE)]


def test_a_point_that_widths_or_steps_can_not_tell_is_refused_in_one_line():
    """(−78/77, 0) was called efficient at n = 2^1000, where it is a 77th away from it."""
    near = (-78 / 77, 0.0)
    with pytest.raises(ValueError, match=r"^log2_widths: must be at least 4928 to tell .*1000\)$"):
        found([near])
    assert found([near], widths=5 * WIDE) == [Class(Verdict.B_ALONE)]
    late = [(-1.0 + 1 / 20, -1.0 / 100)]
    assert found(late, widths=10 * WIDE) == [Class(Verdict.UNSTABLE, 2)]
    with pytest.raises(ValueError, match=r"^steps: must be at least 51 to tell the class of"):
        found([(-0.5, -0.49)], widths=10 * WIDE)
    with pytest.raises(ValueError, match=r"^log2_widths: must be at least"):
        found([(-1.0, 0.0), (-1.5, 0.0)], widths=np.array([3.0, 4.0, 5.0]))


def test_two_seeds_of_narrow_models_decide_nothing(monkeypatch):
    """Control: at n = 2^3 … 2^5 with two seeds no exponent is known to a twenty-fourth."""
    monkeypatch.setattr("lora_theory.exact.phases._BITS", 1e-9)
    assert None in found(list(POINTS), widths=np.array([3.0, 4.0, 5.0]), seeds=2)


@pytest.mark.parametrize(("update", "init"), DIAGRAMS)
def test_the_twelfths_need_what_the_claims_have(update, init):
    points = lattice(12)
    asked = needs(np.array(points, float), update, init)
    assert asked.log2_width.max() == 768
    assert asked.margin.min() == pytest.approx(1 / 24)
    classes = [predicted_class(RULES["map", update], init, *point) for point in points]
    assert asked.steps.tolist() == [max(cls.from_t or 0, 5) for cls in classes]


def off_the_lattice(seed):
    """150 rational points: anywhere, on a line where something changes, or within 1/200 of one."""
    rng = np.random.default_rng(seed)

    def fraction(low=-2, high=1):
        q = int(rng.integers(13, 98))
        return Fraction(int(rng.integers(low * q, high * q + 1)), q)

    def on(kind):
        c = fraction()
        k = int(rng.integers(1, 6))
        later = (-1 - Fraction(k + 1, k) * c, c), (c, Fraction(-(k + 1), k) * (c + 1))
        return ((Fraction(-1), c), (c, Fraction(0)), (c, -1 - c), *later)[kind]

    points = [(fraction(), fraction()) for _ in range(50)]
    points += [on(i % 5) for i in range(50)]
    for i in range(50):
        a, b = on(i % 5)
        off = Fraction(int(rng.choice([-1, 1])), int(rng.integers(200, 2000)))
        points.append((a + off, b) if rng.random() < 0.5 else (a, b + off))
    return points


def decided(points, update, init, log2_width, steps):
    """Points that are not refused, with what is measured and what the theory says of them."""
    asked = needs(np.array(points, float), update, init)
    told = (asked.log2_width <= log2_width) & (asked.steps <= steps)
    kept = [point for point, at in zip(points, told, strict=True) if at]
    measured = measured_classes(
        np.array(kept, float),
        update,
        init,
        log2_widths=log2_width * np.array([1.0, 2.0, 4.0]),
        seeds=range(8),
        steps=steps,
        confidence=0.95,
    )
    return kept, measured, [predicted_class(RULES["map", update], init, *point) for point in kept]


@pytest.mark.parametrize(("update", "init"), DIAGRAMS)
@pytest.mark.parametrize(("log2_width", "least"), [(2e5, 130), (1000.0, 10)])
def test_points_off_the_lattice_are_decided_right_or_refused(update, init, log2_width, least):
    points = off_the_lattice(sum(map(ord, update + init)))
    kept, measured, predicted = decided(points, update, init, log2_width, 300)
    assert len(kept) >= least
    wrong = [at for at in zip(kept, measured, predicted, strict=True) if at[1] not in (None, at[2])]
    assert wrong == []
    assert measured.count(None) <= 2
    assert len(set(predicted)) >= 5


@pytest.mark.parametrize(("update", "init"), DIAGRAMS)
def test_without_refusals_and_at_one_margin_points_are_decided_wrongly(update, init, monkeypatch):
    """Control: ±1/24 at n = 2^1000 and 30 steps, whatever the points, as twelfths allow."""
    points = off_the_lattice(sum(map(ord, update + init)))
    asked = needs(np.zeros((len(points), 2)), update, init)
    flat = asked._replace(margin=np.full(len(points), 1 / 24), log2_width=np.zeros(len(points)))
    monkeypatch.setattr("lora_theory.exact.phases.needs", lambda *_, **__: flat)
    measured = found(points, update, init)
    predicted = [predicted_class(RULES["map", update], init, *point) for point in points]
    pairs = zip(measured, predicted, strict=True)
    assert sum(one not in (None, other) for one, other in pairs) > 5


CONSTANTS = [(k_a, k_b) for k_a in (0.005, 0.2, 8.0) for k_b in (0.005, 0.2, 8.0)]


def wrong_at(points, update, init, constants, *, log2_width=2e5, steps=60):
    """Points whose class is not the predicted one at these constants, and how many were told."""
    k_a, k_b = constants
    asked = needs(np.array(points, float), update, init, k_a=k_a, k_b=k_b)
    told = (asked.log2_width <= log2_width) & (asked.steps <= steps)
    kept = [point for point, at in zip(points, told, strict=True) if at]
    measured = measured_classes(
        np.array(kept, float),
        update,
        init,
        log2_widths=log2_width * np.array([1.0, 2.0, 4.0]),
        seeds=range(8),
        steps=steps,
        confidence=0.95,
        k_a=k_a,
        k_b=k_b,
    )
    predicted = [predicted_class(RULES["map", update], init, *point) for point in kept]
    found = zip(kept, measured, predicted, strict=True)
    return [at for at in found if at[1] != at[2]], len(kept)


@pytest.mark.parametrize(("update", "init"), DIAGRAMS)
@pytest.mark.parametrize("constants", CONSTANTS)
def test_constants_change_no_class(update, init, constants):
    """Not even those at which runs diverge at every width: exponents are of n at a fixed t."""
    wrong, count = wrong_at(lattice(4), update, init, constants, log2_width=1000.0)
    assert wrong == []
    assert count == 169
    points = off_the_lattice(sum(map(ord, update + init)))
    wrong, count = wrong_at(points, update, init, constants)
    assert wrong == []
    assert count >= 140


def test_large_constants_need_a_larger_width_where_f_has_many_steps_to_grow():
    """At (5/6, −7/4) f is Θ(1) after 22 steps, with a constant of (8 · 8 · 0.35)^21 = 2^94."""
    point = np.array([[5 / 6, -7 / 4]])
    assert needs(point, "gd", "A").log2_width.tolist() == [768]
    assert needs(point, "gd", "A", k_a=0.005, k_b=0.005).log2_width.tolist() == [768]
    asked = needs(point, "gd", "A", k_a=8.0, k_b=8.0)
    assert asked.log2_width[0] > 2000
    assert wrong_at([(Fraction(5, 6), Fraction(-7, 4))], "gd", "A", (8.0, 8.0)) == ([], 1)


def test_without_that_a_class_is_decided_wrongly(monkeypatch):
    """Control."""
    monkeypatch.setattr("lora_theory.exact.phases._FACTORS", -1e3)
    point = [(Fraction(5, 6), Fraction(-7, 4))]
    wrong, _ = wrong_at(point, "gd", "A", (8.0, 8.0), log2_width=1000.0)
    assert len(wrong) == 1


@pytest.mark.parametrize("init", ["A", "B"])
def test_with_even_steps_large_sign_updates_have_other_classes(init, monkeypatch):
    """Control: what comes back to exactly 0 has no exponent."""
    monkeypatch.setattr("lora_theory.exact.scalar_map.uneven", np.ones)
    wrong, _ = wrong_at(lattice(4), "sign", init, (8.0, 8.0), log2_width=1000.0)
    assert len(wrong) > 10


@pytest.mark.parametrize(("init", "constants"), [("A", (0.2, 8.0)), ("B", (8.0, 0.2))])
def test_steps_that_are_looked_at_for_ever_decide_nothing_at_large_constants(
    init, constants, monkeypatch
):
    """Control: in the end a diverging run is of constants and rounding alone."""
    monkeypatch.setattr("lora_theory.exact.phases._GROWN", np.inf)
    wrong, _ = wrong_at(lattice(4), "gd", init, constants, log2_width=1000.0, steps=300)
    assert len(wrong) > 3


EFFICIENT = dict.fromkeys(("f", "delta1", "delta2", "B", "Z_A"), (0.0, 0.0))


@pytest.mark.parametrize("name", ["B", "Z_A"])
@pytest.mark.parametrize(
    ("low", "high", "cls"),
    [
        (-0.1, 0.0, Class(Verdict.EFFICIENT)),
        (-np.inf, -np.inf, Class(Verdict.EFFICIENT)),
        (0.2, 0.3, Class(Verdict.INSIDE)),
        (0.0, 0.2, None),
        (np.nan, np.nan, None),
    ],
)
def test_what_grows_inside_is_undecided_where_its_interval_is(name, low, high, cls):
    """An interval across the margin says neither that B or Z_A grows, nor that it does not."""
    bounds = {key: Bounds(*(np.full(3, end) for end in ends)) for key, ends in EFFICIENT.items()}
    bounds["f"] = Bounds(np.zeros(3), np.zeros(3))
    bounds[name] = Bounds(np.full(3, low), np.full(3, high))
    assert _class(bounds, 1 / 24) == cls
    other = {"B": "Z_A", "Z_A": "B"}[name]
    bounds[other] = Bounds(np.full(3, 0.2), np.full(3, 0.3))  # One that grows is enough.
    assert _class(bounds, 1 / 24) == Class(Verdict.INSIDE)


TWO_LAYERS = {
    (-1.0, 0.0): Class(Verdict.EFFICIENT),
    (-1.5, 0.0): Class(Verdict.B_ALONE),
    (-1.0, -0.5): Class(Verdict.A_ALONE),
    (-1.25, -0.25): Class(Verdict.NO_LEARNING),
    (-0.75, -2.0): Class(Verdict.UNSTABLE, 1),
    (-2.0, 0.25): Class(Verdict.UNSTABLE, 1),
}


def two_layers(points, widths=(256.0, 275.0, 295.0), **options):
    given = {"k_a": 0.2, "k_b": 0.2, "seeds": range(8), "steps": 3, "confidence": 0.95}
    return two_layer_classes(np.array(points), log2_widths=np.array(widths), **(given | options))


@pytest.mark.parametrize(("k_a", "k_b"), [(0.005, 8.0), (8.0, 0.005), (8.0, 8.0)])
def test_the_two_layer_toy_has_its_classes_whatever_the_constants(k_a, k_b):
    points = list(TWO_LAYERS)
    measured = two_layers(points, k_a=k_a, k_b=k_b)
    assert measured == list(TWO_LAYERS.values())
    exact = [tuple(map(Fraction, point)) for point in points]
    rule = RULES["two_layer", "gd"]
    assert measured == [predicted_class(rule, "both", *point) for point in exact]
    beside = [predicted_class(rule, "both", c_a, c_b - 1) for c_a, c_b in exact]
    assert measured != beside  # Control: as if η_B had another n in it.


@pytest.mark.slow
@pytest.mark.parametrize("k_a", [0.005, 0.2, 8.0])
@pytest.mark.parametrize("k_b", [0.005, 0.2, 8.0])
def test_the_two_layer_toys_lattice_is_the_predicted_one(k_a, k_b):
    points = lattice(4)
    measured = two_layers(np.array(points, float), k_a=k_a, k_b=k_b, steps=4)
    assert measured == [predicted_class(RULES["two_layer", "gd"], "both", *at) for at in points]


def test_two_layer_points_that_widths_can_not_tell_are_refused():
    with pytest.raises(ValueError, match=r"^log2_widths: must be at least 640 to tell .*256\)$"):
        two_layers([(-1.0, -0.1)])
    with pytest.raises(ValueError, match=r"^steps: must be an integer of at least 2"):
        two_layers([(-1.0, 0.0)], steps=1)
    with pytest.raises(ValueError, match=r"^points: must be pairs"):
        two_layers([(-1.0, 0.0, 1.0)])
