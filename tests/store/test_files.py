"""Files appear whole or not at all."""

import json
import os
import stat

import numpy as np
import pytest

from lora_theory.store.files import (
    atomic_write,
    write_csv,
    write_json,
    write_text,
)


class FullError(Exception):
    pass


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "mse.npz"
    path.write_bytes(b"before")

    def fail():
        with atomic_write(path) as file:
            file.write(b"half")
            raise FullError

    with pytest.raises(FullError):
        fail()
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == {"mse.npz"}


def test_a_write_makes_its_folder_and_obeys_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "new" / "a.txt", "η")
    finally:
        os.umask(before)
    path = tmp_path / "new" / "a.txt"
    assert path.read_text(encoding="utf-8") == "η"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_does_not_know_is_refused_and_nothing_written(value, tmp_path):
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"a": value})
    assert not names(tmp_path)
    write_json(tmp_path / "a.json", {"a": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1.5}


def test_columns_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_csv(tmp_path / "a.csv", {"a": np.ones(2), "b": np.ones(3)})
    assert not names(tmp_path)


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "a.txt").symlink_to("precious")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "a.txt").read_text() == "new"
