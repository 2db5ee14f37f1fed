"""Files appear whole or not at all; a lock ends with its process."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from damage import no_file

from lora_theory.store.files import (
    WriteError,
    atomic_write,
    exclusive,
    write_csv,
    write_json,
    write_text,
)
from lora_theory.store.pieces import Pieces
from lora_theory.store.provenance import Provenance


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


def test_the_lock_removes_what_a_killed_writer_left(tmp_path):
    (tmp_path / ".mse.npz.abc.tmp").write_bytes(b"half")
    (tmp_path / "all_pairs.npz").write_bytes(b"other")
    with exclusive(tmp_path / "mse.npz"):
        found = names(tmp_path)
    assert found == {".mse.npz.lock", "all_pairs.npz"}


def locks(path):
    """What holds the lock of a results file, and what claims a piece."""
    pieces = Pieces(path, Provenance({}, {}, ""))
    return {
        path.parent / f".{path.name}.lock": lambda: exclusive(path),
        pieces.folder / "seed=0.claim": lambda: pieces.claimed("seed=0"),
    }


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device", "a link to nothing", "a link"])
def test_a_lock_is_a_file_of_its_own(kind, which, tmp_path):
    lock, hold = list(locks(tmp_path / "a.npz").items())[which]
    lock.parent.mkdir(exist_ok=True)
    (tmp_path / "precious").write_text("precious")
    if kind == "a link":
        lock.symlink_to(tmp_path / "precious")
    else:
        no_file(kind, lock)
    with pytest.raises(WriteError), hold():
        pass
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (lock.parent / "nothing").exists()


@pytest.mark.parametrize("which", [0, 1])
def test_a_lock_cuts_nothing(which, tmp_path):
    lock, hold = list(locks(tmp_path / "a.npz").items())[which]
    lock.parent.mkdir(exist_ok=True)
    (tmp_path / "precious").write_text("precious")
    os.link(tmp_path / "precious", lock)
    with hold():
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_named_as_what_a_killed_writer_leaves_stays(tmp_path):
    (tmp_path / ".a.npz.b.tmp").mkdir()
    with exclusive(tmp_path / "a.npz"):
        assert (tmp_path / ".a.npz.b.tmp").is_dir()


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "a.txt").symlink_to("precious")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "a.txt").read_text() == "new"


HOLDER = """
import sys, time
from lora_theory.store.files import exclusive
with exclusive(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_waits_says_so_and_goes_on_when_the_first_is_killed(tmp_path, environment):
    path = tmp_path / "a.npz"
    start = [sys.executable, "-c", HOLDER, str(path)]
    first = subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    second = subprocess.Popen(start, env=environment, text=True, **pipes)
    try:
        assert "another run is writing" in second.stderr.readline()
        time.sleep(0.1)
        assert second.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert second.stdout.readline() == "held\n"
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
