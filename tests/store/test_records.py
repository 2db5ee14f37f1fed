"""Typed records through JSON and back; anything else is refused in words."""

import dataclasses
import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_theory.store.records import from_plain


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    slope: float | None
    verdict: Literal["holds", "fails"]


@dataclasses.dataclass(frozen=True)
class Sheet:
    rows: tuple[Row, ...]
    sizes: tuple[int, ...]
    notes: dict[str, float]
    done: bool
    config: Any


SHEET = Sheet(
    (Row("a", 0.5, "holds"), Row("b", None, "fails")), (1, 2), {"x": 1.5}, True, {"any": [1, "z"]}
)


def plain(record):
    return json.loads(json.dumps(dataclasses.asdict(record)))


def test_a_record_comes_back_with_its_types():
    again = from_plain(Sheet, plain(SHEET))
    assert again == SHEET
    assert isinstance(again.rows[0], Row)


def test_an_integer_may_stand_for_a_float_and_not_the_other_way():
    whole = from_plain(Row, {"name": "a", "slope": 1, "verdict": "holds"})
    assert type(whole.slope) is float
    with pytest.raises(ValueError, match="is no"):
        from_plain(Sheet, plain(SHEET) | {"sizes": [1.5]})


WRONG = {
    "missing": lambda d: d.pop("done"),
    "unknown": lambda d: d.update(more=1),
    "no record": lambda d: d["rows"].append([1, 2]),
    "wrong literal": lambda d: d["rows"][0].update(verdict="maybe"),
    "bool as integer": lambda d: d.update(sizes=[True]),
    "text as number": lambda d: d["notes"].update(x="1"),
    "null where none is allowed": lambda d: d["rows"][0].update(name=None),
    "list as mapping": lambda d: d.update(notes=[1]),
}


@pytest.mark.parametrize("change", WRONG)
def test_what_is_not_the_record_is_refused(change):
    data = plain(SHEET)
    WRONG[change](data)
    with pytest.raises(ValueError, match=r"^.{1,62} is no "):
        from_plain(Sheet, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(field=st.sampled_from(["rows", "sizes", "notes", "done"]), value=JSON)
def test_anything_is_a_record_or_a_value_error(field, value):
    try:
        again = from_plain(Sheet, plain(SHEET) | {field: value})
    except ValueError:
        return
    assert plain(again)[field] == value
