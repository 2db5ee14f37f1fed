"""Only regular files are read back, and only JSON that says one thing."""

import os

import pytest
from damage import NO_FILES, no_file

from lora_theory.store.dataset import Results
from lora_theory.store.files import ResultsError
from lora_theory.store.reading import parsed, read_json, regular

READERS = (Results.load, Results.origin, read_json)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused_at_once_and_never_to_be_deleted(kind, read, tmp_path):
    path = tmp_path / "a.npz"
    no_file(kind, path)
    with pytest.raises(ResultsError) as refused:
        read(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: can not be read ({kind}")
    assert said.endswith("); move it or change out")
    assert os.path.lexists(path)


@pytest.mark.parametrize("read", READERS)
def test_what_somebody_else_may_read_is_not_said_to_be_damaged(read, tmp_path, monkeypatch):
    (tmp_path / "a.npz").write_bytes(b"theirs")

    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ResultsError, match=r"can not be read \(Permission denied\); move it"):
        read(tmp_path / "a.npz")


def test_a_disk_that_fails_while_it_is_read_is_not_said_to_be_damaged(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    with (
        pytest.raises(ResultsError, match=r"can not be read \(Input/output error\)"),
        regular(tmp_path / "a"),
    ):
        raise OSError(5, "Input/output error")


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "there.json").write_text('{"η": 1}', encoding="utf-8")
    (tmp_path / "a.json").symlink_to("there.json")
    assert read_json(tmp_path / "a.json") == {"η": 1}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": NaN}', "NaN: no number"),
        ("[-Infinity]", "-Infinity: no number"),
        ("[1e999]", "Out of range"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "c: a key that is there twice"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("[" * 10**5, "nested without end"),
        ("[1", "Expecting"),
        ("", "Expecting"),
    ],
)
def test_what_is_no_json_is_a_value_error(text, said):
    with pytest.raises(ValueError, match=said):
        parsed(text)


def test_bytes_that_are_no_text_are_a_value_error(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="utf-8"):
        read_json(tmp_path / "a.json")
    monkeypatch.setattr("lora_theory.store.reading._JSON_BYTES", 1)
    with pytest.raises(ValueError, match="larger than any record"):
        read_json(tmp_path / "a.json")
