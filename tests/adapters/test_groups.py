"""What can be said of a group, patterns of names, and how parts are called."""

import pytest

from lora_theory.adapters.groups import ParamGroup, Part, matches


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("head", "head", True),
        ("head", "head.kernel", True),
        ("head", "heads", False),
        ("head", "my.head", False),
        ("*.scale", "a.b.scale", True),
        ("*.scale", "scale", False),
        ("layers.[01].*", "layers.1.q.lora_a", True),
        ("layers.[01].*", "layers.2.q.lora_a", False),
        ("layers.?", "layers.2.q.lora_a", True),
        ("Head", "head", False),
    ],
)
def test_patterns(pattern, path, expected):
    assert matches(pattern, path) is expected
    slashed = ParamGroup(match=("nothing", pattern.replace(".", "/")))
    assert any(matches(one, path) for one in slashed.match) is expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.1, "ratio": 1.0}, "rate, ratio: must be one of the two"),
        ({"rate": -0.1}, "rate: must be a finite number"),
        ({"ratio": float("nan")}, "ratio: must be a finite number"),
        ({"weight_decay": "0.1"}, "weight_decay: must be a finite number"),
        ({"match": ""}, "match: must be a pattern"),
        ({"match": (1,)}, "match: must be a pattern"),
        ({"match": None}, "match: must be a pattern"),
        ({"match": 3}, "match: must be a pattern"),
    ],
)
def test_groups_that_are_none(fields, message):
    if fields.get("match") == "":
        fields = {"match": ("",)}
    with pytest.raises(ValueError, match=message):
        ParamGroup(**fields)


@pytest.mark.parametrize("group", ["A", "head"])
@pytest.mark.parametrize("n", [None, 64])
def test_parts_of_a_group_have_names_of_their_own(group, n):
    names = {Part(group, decays, n).name for decays in (True, False)}
    assert len(names | {Part(group, True).name}) == (3 if n else 2)
