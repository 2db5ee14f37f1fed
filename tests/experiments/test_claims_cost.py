"""What the pieces of the claims take: each has a cost, which grows with what there is to do."""

import pytest

from experiments.claims.cost import core_seconds
from experiments.claims.experiment import Claims, ClaimsConfig
from experiments.claims.landscapes import Window
from experiments.claims.settings import Approach, Diagram, Escapes, Group, Splits, Symmetries
from experiments.lab.command_line import load
from lora_theory.theory.claims import Reduction


def pieces(*overrides):
    cfg = load("claims", ClaimsConfig, list(overrides))
    return cfg, list(Claims().plan(cfg)[0].pieces.values())


def total(*overrides, kind=object, of=lambda piece: True):
    cfg, found = pieces(*overrides)
    return sum(core_seconds(p, cfg) for p in found if isinstance(p, kind) and of(p))


@pytest.mark.parametrize(
    "kind", [Window, Group, Symmetries, Splits, Diagram, Approach, Escapes, Reduction]
)
def test_every_kind_of_piece_has_a_cost(kind):
    assert total(kind=kind) > 0
    assert total(kind=kind) < total()


@pytest.mark.parametrize(
    ("override", "model"),
    [
        ("seeds.two_layer=8000", "two_layer"),
        ("seeds.map=200", "map"),
        ("seeds.layer_map=200", "layer_map"),
        ("steps=6", "two_layer"),
        ("widths=[256,512,1024,2048,4096]", "two_layer"),
        ("ranks=[4,8,16,32,64]", "rank_map"),
        ("descent_ranks=[2048,4096,8192,16384,32768]", "rank_map"),
        ("exact_log2_widths=[1400,2000,2800,4000,5600]", "layer_map"),
        ("limit_log2_widths=[256,270,280,290]", "two_layer_limit"),
        ("way_seeds=64", "two_layer_limit"),  # Of 100; of the rank there are 16 in all.
        ("way_log2_widths=[7,9,11,13,15,17,19,23,27,31,35,39,43,47,51,55,59,63]", "map"),
        ("constants.ratios=[0.0625,0.25,1,16]", "two_layer_limit"),
        ("constants.scales=[0.02,0.2,2,4]", "two_layer"),
    ],
)
def test_groups_cost_more_with_more_to_do_and_no_others_do(override, model):
    def of(piece):
        return piece.model == model

    assert total(override, kind=Group, of=of) > 1.01 * total(kind=Group, of=of)
    assert total(override, kind=Window) == total(kind=Window)


@pytest.mark.parametrize("override", ["seeds=256", "steps=20", "n_train=200", "log2_a=[-16,0]"])
def test_landscapes_cost_more_with_more_to_do(override):
    def of(piece):
        return piece.family.model == "two_layer"

    more = total(f"landscapes.two_layer.{override}", kind=Window, of=of)
    assert more > 1.1 * total(kind=Window, of=of)


@pytest.mark.parametrize("kind", [Reduction, Diagram])
def test_more_constants_cost_more(kind):
    more = total("constants.ratios=[0.0625,0.25,1,4,16]", kind=kind)
    assert more > 1.01 * total(kind=kind)


@pytest.mark.parametrize(
    ("override", "model"),
    [
        ("way_seeds=64", "rank_map"),
        ("seeds.map=200", "layer_map"),
        ("ranks=[8,16,64]", "map"),
        ("steps=6", "layer_map"),
    ],
)
def test_what_a_model_does_not_run_costs_it_nothing(override, model):
    def of(piece):
        return piece.model == model

    assert total(override, kind=Group, of=of) == total(kind=Group, of=of)


def test_twice_the_seeds_of_a_model_are_twice_what_does_not_compile():
    def of(piece):
        return piece.model == "two_layer"

    one, two, three = (total(f"seeds.two_layer={n}", kind=Group, of=of) for n in (1000, 2000, 3000))
    assert three - two == pytest.approx(two - one)
