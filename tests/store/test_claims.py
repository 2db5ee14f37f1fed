"""Claims: one holder, no clocks compared, taken over from the dead and from nobody else."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from damage import NO_FILES, no_file

from lora_theory.store import claims
from lora_theory.store.claims import BEAT, LEASE, Claims, exclusive, owner_of
from lora_theory.store.files import WriteError

HOLDER = """
import sys, time
from pathlib import Path
from lora_theory.store.claims import Claims
with Claims(beat=0.01).held(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""
WRITER = """
import sys, time
from lora_theory.store.claims import exclusive
with exclusive(sys.argv[1], quiet=False):
    print("held", flush=True)
    time.sleep(60)
"""


def started(code, path, environment, **pipes):
    start = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, text=True, **pipes)


def names(folder):
    return {path.name for path in folder.iterdir()}


class Clock:
    """Seconds as a test says."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def elsewhere(tmp_path):
    """A claim that a process of another machine holds: its beats are those that a test writes."""
    path = tmp_path / "seed=0.claim"

    def beat(count):
        owner = {"host": "node7", "process": 1, "machine": "another", "born": "2", "beat": count}
        (tmp_path / "seed=0.claim0").write_text(json.dumps(owner))

    beat(0)
    return path, beat


def held(seen, path):
    with seen.held(path) as mine:
        return mine


def test_one_holds_it_and_then_anybody(tmp_path):
    path = tmp_path / "seed=0.claim"
    with Claims().held(path) as mine, Claims().held(path) as too:
        assert (mine, too) == (True, False)
        assert held(Claims(), tmp_path / "seed=1.claim")
    assert held(Claims(), path)
    assert names(tmp_path) == set()


def test_it_is_given_back_where_the_work_fails(tmp_path):
    path = tmp_path / "seed=0.claim"
    with pytest.raises(ZeroDivisionError), Claims().held(path):
        raise ZeroDivisionError
    assert held(Claims(), path)


def test_a_process_of_this_machine_that_was_killed_holds_nothing(tmp_path, environment):
    path = tmp_path / "seed=0.claim"
    other = started(HOLDER, path, environment)
    try:
        assert other.stdout.readline() == "True\n"
        assert not held(Claims(), path)
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # A zombie already counts as dead.
        with Claims().held(path) as mine:
            assert mine
            assert names(tmp_path) == {"seed=0.claim0", "seed=0.claim1"}
        assert names(tmp_path) == set()
    finally:
        other.kill()
        other.communicate()


def test_a_number_that_another_process_has_now_is_not_its_owner(tmp_path):
    path = tmp_path / "seed=0.claim"
    with Claims().held(path):
        owner = owner_of((tmp_path / "seed=0.claim0").read_bytes())
    (tmp_path / "seed=0.claim0").write_text(json.dumps(owner | {"born": "1"}))
    assert held(Claims(), path)
    (tmp_path / "seed=0.claim0").write_text(json.dumps(owner))
    assert not held(Claims(), path)


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
def test_another_machine_is_given_a_lease_of_ones_own_time_whatever_its_clock(skew, elsewhere):
    path, _ = elsewhere
    file = path.with_name("seed=0.claim0")
    os.utime(file, (time.time() + skew, time.time() + skew))
    clock = Clock()
    seen = Claims(clock=clock)
    found = []
    for clock.now in (0.0, LEASE / 2, LEASE - 1, LEASE + 1):
        found.append(held(seen, path))
    assert found == [False, False, False, True]


def test_every_beat_is_another_lease(elsewhere):
    path, beat = elsewhere
    clock = Clock()
    seen = Claims(clock=clock)
    for count in range(1, 6):
        clock.now = count * (LEASE - 1)
        beat(count)
        assert not held(seen, path)
    clock.now += LEASE + 1
    assert held(seen, path)


def test_who_has_not_looked_before_does_not_know_that_it_is_dead(elsewhere):
    path, _ = elsewhere
    clock = Clock()
    clock.now = 10 * LEASE
    assert not held(Claims(clock=clock), path)


def test_of_several_who_see_it_dead_one_takes_it_over(elsewhere):
    path, _ = elsewhere
    clock = Clock()
    several = [Claims(clock=clock) for _ in range(8)]
    assert not any(held(seen, path) for seen in several)
    clock.now = LEASE + 1
    taken, all_tried = [], threading.Barrier(len(several))

    def attempt(seen):
        with seen.held(path) as mine:
            taken.append(mine)
            all_tried.wait(timeout=20)

    threads = [threading.Thread(target=attempt, args=(seen,)) for seen in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]
    assert names(path.parent) == set()


def test_a_claim_that_is_given_back_between_two_looks_is_not_held_twice(elsewhere, monkeypatch):
    """The first one is dead, A holds the second. B has seen the first one dead when A gives back
    both; then B must not hold the second one beside C, who makes the first one anew.
    """
    path, _ = elsewhere
    clock = Clock()
    a, b, c = (Claims(clock=clock) for _ in range(3))
    assert not any(held(seen, path) for seen in (a, b))
    clock.now = LEASE + 1
    second = path.with_name("seed=0.claim1")
    original = claims._made
    with contextlib.ExitStack() as work:
        hold = a.held(path)
        assert hold.__enter__()

        def late(file):
            if file == second:  # Here B is, and the others go on meanwhile.
                monkeypatch.setattr(claims, "_made", original)
                hold.__exit__(None, None, None)
                assert work.enter_context(c.held(path))
            return original(file)

        monkeypatch.setattr(claims, "_made", late)
        assert not held(b, path)
        assert names(path.parent) == {"seed=0.claim0"}  # That of C, which B has left alone.
    assert names(path.parent) == set()


def test_a_sleeper_who_gives_back_the_first_claim_lets_nobody_in_beside_its_successor(elsewhere):
    path, _ = elsewhere
    clock = Clock()
    successor = Claims(clock=clock)
    assert not held(successor, path)
    clock.now = LEASE + 1
    with successor.held(path) as mine:
        assert mine
        path.with_name("seed=0.claim0").unlink()
        assert not held(Claims(), path)
        assert names(path.parent) == {"seed=0.claim1"}
    assert names(path.parent) == set()


def test_it_beats_and_every_beat_is_as_long(tmp_path):
    file = tmp_path / "seed=0.claim0"
    seen = set()
    with Claims(beat=0.005).held(tmp_path / "seed=0.claim"):
        end = time.monotonic() + 20
        while len(seen) < 4 and time.monotonic() < end:
            seen.add(file.read_bytes())
    beats = {owner_of(content).get("beat") for content in seen - {b""}}
    assert len(beats) >= 3
    assert len({len(content) for content in seen - {b""}}) == 1
    assert LEASE >= 10 * BEAT  # Nobody loses it for a beat that came late.


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"process": "x"}'])
def test_what_says_nothing_is_given_a_lease(content, tmp_path):
    (tmp_path / "seed=0.claim0").write_bytes(content)
    clock = Clock()
    seen = Claims(clock=clock)
    assert not held(seen, tmp_path / "seed=0.claim")
    clock.now = LEASE + 1
    assert held(seen, tmp_path / "seed=0.claim")


@pytest.mark.parametrize("kind", [*NO_FILES, "a link"])
def test_what_is_no_claim_is_neither_followed_nor_cut(kind, tmp_path):
    file = tmp_path / "seed=0.claim0"
    (tmp_path / "precious").write_text("precious")
    if kind == "a link":
        file.symlink_to(tmp_path / "precious")
    else:
        no_file(kind, file)
    clock = Clock()
    seen = Claims(clock=clock)
    assert not held(seen, tmp_path / "seed=0.claim")
    clock.now = LEASE + 1
    assert held(seen, tmp_path / "seed=0.claim")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_where_its_folder_is_gone_it_can_not_be_made(tmp_path):
    with pytest.raises(WriteError, match=r"seed=0\.claim0"):
        held(Claims(), tmp_path / "gone" / "seed=0.claim")
    assert names(tmp_path) == set()


def test_on_a_full_disk_it_says_nothing_and_holds(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(claims.os, "pwrite", full)
    path = tmp_path / "seed=0.claim"
    with Claims().held(path) as mine, Claims().held(path) as too:
        assert (mine, too) == (True, False)


def test_a_second_writer_waits_says_so_and_goes_on_when_the_first_is_killed(tmp_path, environment):
    path = tmp_path / "a.npz"
    first = started(WRITER, path, environment)
    assert first.stdout.readline() == "held\n"
    second = started(WRITER, path, environment, stderr=subprocess.PIPE)
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


def test_the_writer_removes_what_a_killed_one_left(tmp_path):
    (tmp_path / ".mse.npz.abc.tmp").write_bytes(b"half")
    (tmp_path / ".mse.npz.b.tmp").mkdir()
    (tmp_path / "all_pairs.npz").write_bytes(b"other")
    with exclusive(tmp_path / "mse.npz"):
        found = names(tmp_path)
    assert found == {".mse.npz.claim0", ".mse.npz.b.tmp", "all_pairs.npz"}
    assert names(tmp_path) == {".mse.npz.b.tmp", "all_pairs.npz"}


def test_a_claim_is_seen_with_when_it_last_changed(tmp_path):
    path = tmp_path / "a.claim"
    assert claims.seen(tmp_path / "a.claim0") is None
    with Claims(beat=0.01).held(path):
        first = claims.seen(tmp_path / "a.claim0")
        assert owner_of(first.content)["process"] == os.getpid()
        os.utime(tmp_path / "a.claim0", (0, 0))
        end = time.monotonic() + 60
        while (later := claims.seen(tmp_path / "a.claim0")).content == first.content:
            assert time.monotonic() < end
        assert later.changed >= first.changed
    (tmp_path / "b").mkdir()
    assert claims.seen(tmp_path / "b") == (b"", float("-inf"))
