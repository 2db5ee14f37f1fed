"""How far a run is: asked while processes come, work and die, and never in their way."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import study.sums
from crew import Command
from study.sums import Sums, SumsConfig

from experiments.lab import status
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from experiments.lab.status import Claim, State, look, server_time, status_of
from experiments.lab.work import Slab, Work
from experiments.lab.workers import Record
from lora_theory.store import claims
from lora_theory.store.files import ResultsError
from lora_theory.store.pieces import Pieces

SCRIPT = Path(study.sums.__file__)
HOST = os.uname().nodename


def nothing(place):
    return f"nothing has been started in {place} (jobs that wait in a queue are not seen)"


def config(*overrides):
    return load("sums", SumsConfig, list(overrides), SCRIPT.parent / "conf")


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "results", tmp_path / "figures")


def asked(folders, *overrides, study=None):
    return status_of(study or Sums(), config(*overrides), folders)


def begun(folders, *overrides, study=None):
    """Work on the first part that somebody has begun."""
    folders.results.mkdir(exist_ok=True)
    study, cfg = study or Sums(), config(*overrides)
    return Work(study, study.plan(cfg)[0], cfg, folders.results / "plus.npz", {})


def do(work, *seeds):
    """Do some pieces, and no others."""
    with work.worker.reporting():
        for seed in seeds:
            work._attempt(f"seed={seed}", lambda *_: None)


def left(work, seed, host="far", process=7, **more):
    """A claim of somebody else."""
    claim = work.store._claim(work.files[f"seed={seed}"])
    file = claim.with_name(f"{claim.name}{more.pop('generation', 0)}")
    file.write_text(json.dumps({"host": host, "process": process, **more}))
    return file


def aged(file, seconds):
    """As if nobody had touched it for so long."""
    at = file.stat().st_mtime - seconds
    os.utime(file, (at, at))


def test_where_nothing_is_there_one_line_says_so_and_nothing_is_made(folders):
    assert asked(folders) == [nothing(folders.results)]
    assert not folders.results.exists()


def test_what_has_been_done_is_done(folders):
    conduct(Sums(), config(), folders)
    assert asked(folders)[1:] == ["plus: done", "minus: done"]


def test_results_of_another_config_are_refused_as_a_run_refuses_them(folders):
    conduct(Sums(), config(), folders)
    with pytest.raises(ResultsError, match="of another config"):
        asked(folders, "size=4")


def test_pieces_are_counted_and_who_has_done_them_is_at_none(folders):
    do(begun(folders), 0, 1, 4)
    assert asked(folders)[1:] == [
        "plus: 3 of 6 pieces done, 0 running, 0 failed; nobody is at it",
        "minus: not begun, 6 pieces",
        "at no piece now: 1 other",
    ]


@pytest.mark.parametrize("override", ["size=4", "seeds=0..6", "unit=3"])
def test_pieces_of_another_config_are_not_those_that_are_asked_for(override, folders):
    do(begun(folders), 0)
    assert asked(folders, override)[0].startswith("nothing has been started in")


def test_pieces_of_other_code_are_not_those_that_are_asked_for(folders, monkeypatch):
    do(begun(folders), 0)
    monkeypatch.setattr("experiments.lab.origin.code_digest", lambda *_, **__: "other")
    assert asked(folders)[0].startswith("nothing has been started in")


def test_who_is_at_a_piece_is_named_with_what_he_has_done(folders):
    work = begun(folders)
    do(work, 0, 1)
    with work.store.claimed(work.files["seed=2"]):
        lines = asked(folders)
    assert lines[1] == "plus: 2 of 6 pieces done, 1 running, 0 failed; time left about a second"
    done = "(2 pieces done in a second)"
    assert lines[3:] == [f"{HOST}, process {os.getpid()}: is at plus seed=2 {done}"]


def test_a_job_of_a_cluster_is_called_as_the_cluster_does(folders, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    work = begun(folders)
    do(work, 0)
    with work.store.claimed(work.files["seed=2"]):
        assert f"{HOST}, process {os.getpid()} (job 123): is at plus seed=2" in asked(folders)[3]


def test_one_that_is_at_its_first_piece_is_there_and_time_is_unknown(folders):
    left(begun(folders), 3)
    assert asked(folders)[1:] == [
        "plus: 0 of 6 pieces done, 1 running, 0 failed; time left unknown",
        "minus: not begun, 6 pieces",
        "far, process 7: is at plus seed=3",
    ]


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_beat_is_as_old_as_the_file_server_says(hours, folders, monkeypatch):
    """Where this machine's clock is an hour off, and its own time is another."""
    work = begun(folders)
    silent, alive = left(work, 3), left(work, 4, process=8)
    aged(silent, claims.LEASE + 5)
    aged(alive, claims.LEASE - 20)
    for clock in ("time", "monotonic"):
        real = getattr(time, clock)
        monkeypatch.setattr(time, clock, lambda real=real: real() + 3600 * hours)
    lines = asked(folders)
    assert lines[1].startswith("plus: 0 of 6 pieces done, 1 running, 0 failed")
    assert lines[3:] == [
        "far, process 7: silent (dead, or its machine gone), was at plus seed=3",
        "far, process 8: is at plus seed=4",
    ]


def test_where_the_folder_can_not_be_written_two_looks_tell_who_beats(folders, monkeypatch):
    work = begun(folders)
    left(work, 3, beat="1")
    beats = left(work, 4, process=8, beat="1")
    gone = left(work, 5, process=9, beat="1")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        left(work, 4, process=8, beat="2")
        gone.unlink()

    monkeypatch.setattr(status.tempfile, "TemporaryFile", lambda **_: 1 / 0)
    monkeypatch.setattr(status, "server_time", lambda folder: None)
    monkeypatch.setattr(time, "sleep", sleep)
    lines = asked(folders)
    assert slept == [2 * claims.BEAT]
    assert beats.exists()
    assert lines[1].startswith("plus: 0 of 6 pieces done, 1 running, 0 failed")
    assert [line.partition(",")[2][:18] for line in lines[3:]] == [
        " process 7: silent",
        " process 8: is at ",
    ]


def test_the_file_servers_time_is_that_of_a_new_file(tmp_path):
    now = server_time(tmp_path)
    (tmp_path / "a").touch()
    assert abs((tmp_path / "a").stat().st_mtime - now) < 5
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert server_time(tmp_path / "nothing") is None


def test_of_a_claim_that_was_taken_over_the_last_one_counts(folders):
    work = begun(folders)
    left(work, 3)
    left(work, 3, process=8, generation=1)
    left(work, 3, process=9, generation=10)
    assert asked(folders)[3:] == ["far, process 9: is at plus seed=3"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3, "process": "x"}', "\0"])
def test_a_claim_that_says_nothing_is_held_by_somebody(content, folders):
    left(begun(folders), 3).write_text(content)
    line = asked(folders)[3]
    assert line.endswith(", process 0: is at plus seed=3")


def broken(folders, *overrides):
    """A process that has done two pieces and failed at the third."""
    work = begun(folders, *overrides)

    def run(piece, cfg):
        if piece[1] == 2:
            raise RuntimeError("no such\nluck")
        return Sums.run(work.experiment, piece, cfg)

    work.experiment.run = run
    with pytest.raises(RuntimeError, match="luck"):
        do(work, 0, 1, 2)
    return work


def test_an_error_is_named_also_where_others_have_done_its_piece(folders):
    broken(folders)
    line = f"{HOST}, process {os.getpid()}: failed: RuntimeError: no such luck "
    assert asked(folders)[1].startswith("plus: 2 of 6 pieces done, 0 running, 1 failed; nobody")
    assert asked(folders)[3] == line + "(2 pieces done in a second)"
    do(begun(folders), 2, 3)  # Another, of the same process.
    assert asked(folders)[1].startswith("plus: 4 of 6 pieces done, 0 running, 1 failed; nobody")
    assert line in asked(folders)[3]


def test_one_that_was_stopped_has_not_failed(folders):
    work = begun(folders)
    with pytest.raises(KeyboardInterrupt), work.worker.reporting():
        raise KeyboardInterrupt
    lines = asked(folders)
    assert "0 failed" in lines[1]
    assert lines[3] == f"{HOST}, process {os.getpid()}: stopped"


def test_a_process_of_this_machine_that_was_killed_has_died(folders):
    work = begun(folders)
    owner = json.loads(claims._says(0))
    left(work, 3, **owner | {"born": "1"})  # Another process had that number.
    lines = asked(folders)
    assert lines[1].startswith("plus: 0 of 6 pieces done, 0 running, 1 failed; nobody")
    assert lines[3] == f"{HOST}, process {os.getpid()}: died at plus seed=3"


def state(claimed, said, left=60.0, expects=False):
    held = {str(i): Claim(who, False, False) for i, who in enumerate(claimed)}
    return State("a", 9, 3, left, expects, held, said)


def test_time_left_is_work_over_the_speed_of_all_who_run():
    one, two, new = ("a", 1), ("a", 2), ("b", 1)
    said = {
        one: Record("a", 1, "", units=10, seconds=5.0, expected=40.0),  # 2 units a second.
        two: Record("a", 2, "", units=4, seconds=1.0, expected=1.0),  # 4
        new: Record("b", 1, ""),
    }
    assert state([one], said).time_left() == 30.0
    assert state([one, two], said).time_left() == 10.0
    assert state([one, new], said).time_left() == 60 / (2 + 3)
    assert state([new], said).time_left() == 20.0
    assert state([one], said, expects=True).time_left() == 60 / 8
    assert state([], said).time_left() is None
    assert state([new], {}).time_left() is None


def test_work_is_what_the_model_says_where_there_is_one(folders):
    class Costly(Sums):
        def core_seconds(self, piece, cfg):
            return 10.0 ** piece[1]

    work = begun(folders, study=Costly())
    do(work, 0, 1)
    (record,) = status.records(work.store.folder)
    assert (record.units, record.expected) == (2, 11.0)
    (found,) = status.there(work.experiment, work.part, work.cfg, work.path)
    assert status._state(work.experiment, "plus", found, {}).left == 111100.0


def test_several_backends_are_told_apart(folders):
    work = begun(folders)
    do(work, 0)
    other = work.store.provenance
    other = other._replace(versions=other.versions | {"backend": "gpu"})
    store = Pieces(work.path, other)
    store.make()
    empty = Pieces(work.path, other._replace(versions=other.versions | {"backend": "tpu"}))
    empty.make()  # Where nobody has done anything.
    for seed in (1, 2):
        store.put(work.files[f"seed={seed}"], {})
    lines = sorted(asked(folders)[1:3])
    assert [line.partition(" pieces")[0] for line in lines] == [
        "plus on cpu: 1 of 6",
        "plus on gpu: 2 of 6",
    ]


def test_files_that_go_between_two_looks_are_in_nobodys_way(folders, monkeypatch):
    """Every piece is done and removed, at each of the moments at which status reads."""
    moments = ["glob", "listdir", "records", "seen"]
    for moment in moments:
        place = folders._replace(results=folders.results / moment)
        place.results.mkdir(parents=True)
        work = begun(place)
        do(work, 0)
        left(work, 3)

        def away(real, work=work):
            inside = []  # Removing looks at folders too.

            def gone(*args, **kwargs):
                found = real(*args, **kwargs)
                if not inside:
                    inside.append(True)
                    work.store.remove()
                    inside.clear()
                return found

            return gone

        with monkeypatch.context() as patch:
            if moment == "glob":
                patch.setattr(Path, "glob", away(Path.glob))
            elif moment == "listdir":
                patch.setattr(os, "listdir", away(os.listdir))
            elif moment == "records":
                patch.setattr(status, "records", away(status.records))
            else:
                patch.setattr(claims, "seen", away(claims.seen))
            lines = asked(place)
        assert lines, moment
        assert asked(place) == [nothing(place.results)]


def test_results_that_come_while_the_pieces_go_are_seen(folders, monkeypatch):
    def ended(*args):
        conduct(Sums(), config(), folders)
        return []

    monkeypatch.setattr(status, "there", ended)
    assert asked(folders)[1:] == ["plus: done", "minus: done"]


def test_a_claim_that_is_gone_is_nobodys(tmp_path):
    assert look([tmp_path / "a.claim0"], tmp_path) == {}


def test_the_word_alone_asks_from_any_shell_and_starts_nothing(folders, tmp_path, environment):
    do(begun(folders._replace(results=make(tmp_path / "out/results/sums"))), 0, 1)
    probe = (
        "import sys, runpy; sys.argv = ['sums.py', *sys.argv[1:]]\n"
        "import atexit; atexit.register(lambda: print('jax' in sys.modules))\n"
        f"sys.path.insert(0, {str(SCRIPT.parents[1])!r})\n"
        "import study.sums; from experiments.lab.command_line import main\n"
        "main(study.sums.Sums())"
    )
    found, many = [], ["-m", "status=true", "signs=plus,minus"]
    for words in (["status"], ["status=true"], ["status", "-m"], many):
        command = [sys.executable, "-c", probe, f"out={tmp_path / 'out'}", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        found.append(done.stdout.splitlines())
    assert found[0] == found[1]
    assert found[0][1] == "plus: 2 of 6 pieces done, 0 running, 0 failed; nobody is at it"
    assert [lines[-1] for lines in found] == ["False"] * 4
    assert "nothing has been started" in found[2][0]  # A job of a multirun has a folder of its own.
    assert sum("nothing has been started" in line for line in found[3]) == 2


def make(folder):
    folder.mkdir(parents=True)
    return folder


@pytest.mark.slow
def test_three_processes_are_seen_at_work_until_they_are_done(tmp_path):
    folders = Folders(tmp_path / "out/results/sums", tmp_path / "out/figures")
    overrides = ("seeds=12", "wait=0.1", "dpi=30", "jobs=3")
    crew = [Command(tmp_path, *overrides, f"slab={i}", f"out={tmp_path / 'out'}") for i in range(3)]
    numbers = [command.process.pid for command in crew]
    most, lines = 0, []
    try:
        end = time.monotonic() + 60
        while any(command.process.exitcode is None for command in crew):
            assert time.monotonic() < end
            lines = asked(folders, *overrides)
            working = [n for n in numbers if f"{HOST}, process {n}: is at" in "\n".join(lines)]
            most = max(most, len(working))
            assert not [line for line in lines if "failed:" in line or "died" in line]
    finally:
        for command in crew:
            command.process.kill()
            command.process.join()
    assert most == 3
    assert [command.process.exitcode for command in crew] == [0, 0, 0]
    assert asked(folders, *overrides)[1:] == ["plus: done", "minus: done"]


def test_a_config_that_can_not_be_run_is_refused(folders):
    with pytest.raises(ConfigError):
        asked(folders, "signs=[times]")
    assert Slab.of(config()).jobs == 1
