"""Values of configs: every type that a schema can name, and no other."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Optional

import pytest

from experiments.lab.values import buildable, expected, finite, shown, typed

KNOWN = [
    (int, 3, 3),
    (float, 3, 3.0),
    (int | None, None, None),
    (Optional[int], 3, 3),  # noqa: UP045 (as users write it)
    (Optional[int], None, None),  # noqa: UP045
    (tuple[int, ...], 3, (3,)),
    (tuple[str, ...] | None, ["a", "b"], ("a", "b")),
    (Literal["a", "b"], "a", "a"),
    (Literal[1, 2], 2, 2),
]


@pytest.mark.parametrize(("hint", "given", "made"), KNOWN)
def test_a_value_is_one_of_its_type(hint, given, made):
    assert buildable(hint)
    assert typed(hint, given) == made
    assert type(typed(hint, given)) is type(made)


@pytest.mark.parametrize(
    ("hint", "given"),
    [(int, True), (int, 1.0), (float, 10**400), (Literal["a"], "b"), (Literal[1], True),
     (int, None), (tuple[int, ...], ["a"])],
)  # fmt: skip
def test_another_type_is_refused(hint, given):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        typed(hint, given)


@pytest.mark.parametrize("hint", [int | str, tuple[int, int], list[int], Sequence[int], object])
def test_types_that_no_config_gives(hint):
    assert not buildable(hint)


@dataclasses.dataclass(frozen=True)
class Group:
    size: int


@pytest.mark.parametrize(
    ("hint", "possible"),
    [
        (dict[str, Group], True),
        (dict[str, int], True),
        (dict[str, tuple[float, ...]], True),
        (dict[int, Group], False),
        (dict[str, object], False),
        (tuple[Group, ...], False),
        (Group, False),  # A group is no value: it has fields with values.
    ],
)
def test_mappings_by_name_of_values_and_of_schemas(hint, possible):
    assert buildable(hint) == possible


def test_a_machines_choice_may_be_null_whatever_the_type():
    assert typed(int, None, nothing=True) is None


def test_words():
    assert expected(Literal["a", "b"]) == "must be one of a, b"
    assert expected(bool) == "must be true or false"
    assert shown(10**5000) == "a number of thousands of digits"
    assert len(shown("x" * 100)) == 60
    assert [finite(v) for v in (1.0, float("nan"), (1.0, float("inf")), "x")] == [
        True, False, False, True,
    ]  # fmt: skip
