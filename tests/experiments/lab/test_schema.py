"""Schemas: every field has a role; what is allowed is said in one line; seeds in three forms."""

import copy
import dataclasses
import json
import pickle
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.bench import BenchConfig
from experiments.claims.experiment import ClaimsConfig
from experiments.lab import schema
from experiments.lab.schema import (
    ConfigError,
    Role,
    Seeds,
    build,
    drawing,
    having,
    integer,
    layout,
    optional,
    roles,
    science,
)
from experiments.landscape.experiment import LandscapeConfig
from experiments.scaling.config import ScalingConfig


@dataclasses.dataclass(frozen=True)
class Inner:
    points: int = science(integer(1, 9))
    chunk: int = layout(integer(1, 9))
    policy: str | None = science(optional(schema.one_of("a", "b")), chosen=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(schema.Common):
    inner: Inner
    seeds: Seeds = science(schema.seeds(2))
    rates: dict[str, float] = science(schema.positive())
    dpi: int = drawing(integer(30, 600))


DATA = {
    "inner": {"points": 3, "chunk": 2, "policy": None},
    "seeds": 2,
    "rates": {"layer": 1, "rank": 0.5},
    "dpi": 100,
    "out": None,
    "replot": False,
}


def changed(**changes):
    return build(Outer, DATA | changes)


def test_a_config_is_a_frozen_record_of_its_types():
    cfg = changed()
    assert cfg.inner == Inner(points=3, chunk=2, policy=None)
    assert cfg.rates == {"layer": 1.0, "rank": 0.5}
    assert type(cfg.rates["layer"]) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.dpi = 3


def test_roles_are_those_of_the_fields():
    assert roles(Outer) == {
        "inner.points": Role.SCIENCE,
        "inner.chunk": Role.LAYOUT,
        "inner.policy": Role.SCIENCE,
        "seeds": Role.SCIENCE,
        "rates": Role.SCIENCE,
        "dpi": Role.DRAWING,
        "out": Role.PLACE,
        "replot": Role.PLACE,
        "plan": Role.PLACE,
        "status": Role.PLACE,
        "jobs": Role.LAYOUT,
        "slab": Role.LAYOUT,
    }


@pytest.mark.parametrize("config", [LandscapeConfig, ClaimsConfig, ScalingConfig])
def test_every_field_of_every_experiment_has_a_role(config):
    found = roles(config)
    assert found["out"] is Role.PLACE
    assert found["replot"] is Role.PLACE
    assert set(found.values()) >= {Role.SCIENCE, Role.DRAWING, Role.PLACE}


def test_the_benchmark_resumes_nothing_but_knows_its_roles():
    assert roles(BenchConfig)["out"] is Role.PLACE


@dataclasses.dataclass(frozen=True)
class Odd:
    unit: int = science(integer(1, 10), chosen=True)
    some: Seeds | None = science(optional(schema.seeds()))
    kind: Literal["a", "b"] = science(default="b")
    rates: dict[str, float] = science(schema.positive())


@dataclasses.dataclass(frozen=True)
class Many:
    each: dict[str, Inner] = science()


INNER = Inner(points=3, chunk=2, policy=None)
MANY = {"each": {"first": DATA["inner"], "second": DATA["inner"] | {"points": 9}}}


def test_a_mapping_of_schemas_is_built_entry_by_entry():
    cfg = build(Many, MANY)
    assert cfg.each == {"first": INNER, "second": dataclasses.replace(INNER, points=9)}
    # The role is that of the mapping, whatever its fields are elsewhere.
    assert roles(Many) == {"each": Role.SCIENCE}
    assert schema.role_of(roles(Many), "each.first.chunk") is Role.SCIENCE
    assert schema.records(Many) == [Many, Inner]


def test_a_mapping_of_schemas_is_plain_data_that_builds_it_again():
    plain = having(build(Many, MANY), Role.SCIENCE)
    assert plain == MANY
    assert json.loads(json.dumps(plain)) == plain
    assert build(Many, plain) == build(Many, MANY)
    assert having(build(Many, MANY), Role.LAYOUT) == {}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "each: must be a group of keys (got 3)"),
        ({"first": 3}, "each.first: must be a group of keys (got 3)"),
        ({"first": DATA["inner"] | {"points": 0}}, "each.first.points: must be an integer from 1"),
        ({"first": {"point": 3}}, "each.first.point: unknown key; did you mean points? (got 3)"),
        ({"first": {"points": 3}}, "each.first.chunk: must be given (got nothing)"),
    ],
)
def test_what_is_wrong_in_a_mapping_of_schemas_is_said_by_its_entry(value, said):
    with pytest.raises(ConfigError) as caught:
        build(Many, {"each": value})
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("value", [INNER, (INNER,), {"a": (1, 2.0)}])
def test_plain_is_what_json_gives_back(value):
    assert json.loads(json.dumps(schema.plain(value))) == schema.plain(value)


ODD = {"unit": None, "some": None, "kind": "a", "rates": {"x": 1}}


def test_null_is_the_machines_choice_and_a_default_stands_for_a_missing_key():
    cfg = build(Odd, {k: v for k, v in ODD.items() if k != "kind"})
    assert (cfg.unit, cfg.some, cfg.kind) == (None, None, "b")
    assert build(Odd, ODD | {"unit": 3, "some": 2}).some == (0, 1)
    assert set(roles(Odd)) == set(ODD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unit": 11}, "unit: must be null or an integer from 1 to 10 (got 11)"),
        ({"kind": "c"}, "kind: must be one of a, b (got c)"),
        ({"rates": 3}, "rates: must be a group of keys (got 3)"),
        ({"rates": {"x": 10**400}}, "rates.x: must be a positive finite number (got 1000"),
        ({"unit": 10**5000}, "unit: must be null or an integer from 1 to 10 (got a number of"),
        ({"some": "0..1e9"}, "some: must be null or an integer"),
        ({"some": f"{2**31}..{2**31 + 1}"}, "some: must be null or an integer"),
        ({"some": 0}, "some: must be null or an integer"),
    ],
)
def test_odd_fields_are_refused_in_one_line(change, said):
    with pytest.raises(ConfigError) as caught:
        build(Odd, ODD | change)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("hint", [int | str, list[int], tuple[int, int], object])
def test_a_field_of_a_type_that_no_config_gives_is_a_mistake_of_the_schema(hint):
    made = dataclasses.make_dataclass("Careless", [("width", hint, science())])
    with pytest.raises(TypeError, match=r"Careless\.width: no config gives a"):
        roles(made)


def test_records_are_a_schema_and_its_groups():
    assert schema.records(Outer) == [Outer, Inner]
    names = {record.__name__ for record in schema.records(LandscapeConfig)}
    assert names >= {"LandscapeConfig", "AxisConfig", "ReluConfig", "LinearConfig"}


def test_a_field_without_a_role_is_a_mistake_of_the_schema():
    @dataclasses.dataclass(frozen=True)
    class Careless:
        width: int = 3

    with pytest.raises(TypeError, match=r"Careless\.width has no role"):
        roles(Careless)


def test_what_has_a_role_is_plain_data_that_json_gives_back():
    science_of = having(changed(), Role.SCIENCE)
    assert science_of == {
        "inner": {"points": 3, "policy": None},
        "seeds": "0..1",
        "rates": {"layer": 1.0, "rank": 0.5},
    }
    assert json.loads(json.dumps(science_of)) == science_of
    assert having(changed(), Role.SCIENCE, settled=False)["inner"] == {"points": 3}
    layout_of = {"inner": {"chunk": 2}, "jobs": 1, "slab": None}
    assert having(changed(), Role.LAYOUT) == layout_of


BAD = {
    "inner.points: must be an integer from 1 to 9 (got 0)": {
        "inner": DATA["inner"] | {"points": 0}
    },
    "inner.points: must be an integer from 1 to 9 (got true)": {
        "inner": DATA["inner"] | {"points": True}
    },
    "inner: must be a group of keys (got 3)": {"inner": 3},
    "inner.policy: must be null or one of a, b (got c)": {"inner": DATA["inner"] | {"policy": "c"}},
    "inner.chunk: must be given (got nothing)": {"inner": {"points": 3, "policy": None}},
    "inner.point: unknown key; did you mean points? (got 3)": {"inner": {"point": 3}},
    "rates.layer: must be a positive finite number (got -1)": {"rates": {"layer": -1}},
    "replot: must be true or false (got maybe)": {"replot": "maybe"},
    "out: must be null or a folder (got \"\")": {"out": ""},
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_what_is_wrong_is_said_in_one_line(said):
    with pytest.raises(ConfigError) as caught:
        changed(**BAD[said])
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("given", "expected", "shown"),
    [
        (3, (0, 1, 2), "0..2"),
        ("0..2", (0, 1, 2), "0..2"),
        ([0, 1, 2], (0, 1, 2), "0..2"),
        ("15..17", (15, 16, 17), "15..17"),
        ([4, 2], (4, 2), "4,2"),
    ],
)
def test_seeds_are_a_count_a_range_or_a_list(given, expected, shown):
    found = changed(seeds=given).seeds
    assert found == expected
    assert str(found) == shown


@pytest.mark.parametrize(
    "given",
    [1, 0, -3, "3..2", "1..", "..3", "a..b", [1], [1, 1], [1, -1], [1.0, 2.0], 2.0, True, None,
     "7", {}, [[1, 2]], 10**7, "0..99999999", [2**31, 1]],
)  # fmt: skip
def test_senseless_seeds_are_refused(given):
    with pytest.raises(ConfigError, match=r"^seeds: must be an integer from 2 to 1000000, a list"):
        changed(seeds=given)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=3,
    ),
    key=st.sampled_from(sorted(DATA)),
)
def test_anything_is_a_config_or_one_line(value, key):
    try:
        cfg = changed(**{key: value})
    except ConfigError as error:
        said = str(error)
        assert "\n" not in said
        assert said.startswith(key)
        return
    assert json.dumps(having(cfg, Role.SCIENCE))


def test_an_error_comes_through_copies_and_other_processes():
    error = ConfigError("steps", "must be at most 3", [4])
    for same in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is ConfigError
        assert str(same) == str(error) == "steps: must be at most 3 (got [4])"
        assert (same.field, same.allowed, same.value) == ("steps", "must be at most 3", [4])
