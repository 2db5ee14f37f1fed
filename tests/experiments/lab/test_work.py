"""Work that several processes share: the same bytes whoever dies, nothing done twice, or lost."""

import hashlib
import os
import shutil
import signal
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import study.sums
from crew import Command
from study.sums import Sums, SumsConfig

from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from experiments.lab.work import Slab, Work
from lora_theory.store import claims
from lora_theory.store.dataset import Results
from lora_theory.store.files import WriteError

SCRIPT = Path(study.sums.__file__)
# Fifteen pieces a part, of a twentieth of a second each.
ASKED = ("seeds=15", "size=200", "wait=0.05", "dpi=30", "jobs=3")


def config(*overrides):
    return load("sums", SumsConfig, list(overrides), SCRIPT.parent / "conf")


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "results", tmp_path / "figures")


def contents(folder):
    """Path -> bytes of all that a run leaves."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def digest(folder):
    found = contents(folder)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest(), sorted(found)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("alone")
    conduct(
        Sums(),
        config("seeds=15", "size=200", "dpi=30"),
        Folders(out / "results/sums", out / "figures"),
    )
    return digest(out)


@pytest.fixture
def start(tmp_path):
    """Start one of three processes that work in one folder; at the end none is left."""
    running = []

    def started(slab, *more, **options):
        overrides = (*ASKED, f"slab={slab}", f"out={tmp_path / 'out'}", *more)
        running.append(Command(tmp_path, *overrides, **options))
        return running[-1]

    yield started
    for command in running:
        command.process.kill()
        command.process.join()


def pieces_done(folder):
    return len(list(folder.rglob("seed=*.npz")))


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_three_processes_make_what_one_makes_and_one_of_them_shows_it(alone, start, tmp_path):
    found = [process.ended() for process in [start(slab) for slab in range(3)]]
    assert [status for status, _, _ in found] == [0, 0, 0], found
    assert digest(tmp_path / "out") == alone
    shown = "".join(out for _, out, _ in found)
    assert (shown.count("plus: 42000"), shown.count("minus: -42000")) == (1, 1)
    assert shown.count("shown by another job") == 4
    assert [err for _, _, err in found] == ["", "", ""]


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
def test_one_of_three_is_killed_at_any_moment(moment, alone, start, tmp_path):
    """At ten moments, the last ones while results are put together or drawn."""
    out = tmp_path / "out"
    first, second, victim = (start(slab) for slab in range(3))
    late = min(3 * moment + 1, 26)
    wait_for(lambda: pieces_done(out) >= late or victim.process.exitcode is not None)
    victim.process.kill()
    victim.process.join()
    found = [process.ended() for process in (first, second)]
    assert [status for status, _, _ in found] == [0, 0], found
    assert digest(out) == alone


@pytest.mark.slow
def test_one_whose_folder_is_taken_away_says_so_and_makes_no_other(start, tmp_path):
    out = tmp_path / "out"
    process = start(0, "wait=0.2")
    wait_for(lambda: pieces_done(out) >= 2)
    out.rename(tmp_path / "elsewhere")
    status, _, err = process.ended()
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: ")
    assert "No such file or directory" in err
    assert not out.exists()
    (tmp_path / "elsewhere").rename(out)  # Nothing that was done is lost.
    done = pieces_done(out)
    assert done >= 2
    assert start(0).ended()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_one_that_is_told_to_end_gives_back_its_claims(number, start, tmp_path):
    """As Slurm does at a time limit, some seconds before it kills."""
    out = tmp_path / "out"
    process = start(0, "wait=0.2")
    wait_for(lambda: pieces_done(out) >= 1)
    time.sleep(0.1)  # It is at the second piece.
    os.kill(process.process.pid, number)
    os.kill(process.process.pid, signal.SIGTERM)  # Again, while it ends.
    status, _, err = process.ended()
    assert (status, err) == (
        130,
        "stopped; the same command goes on from what was finished\n",
    )
    assert not list(out.rglob("*.claim*"))


def work_on(folders, cfg):
    """The work on the first part."""
    folders.results.mkdir(exist_ok=True)
    return Work(Sums(), Sums().plan(cfg)[0], cfg, folders.results / "plus.npz", {})


class Shared(Sums):
    """One of several in this process."""

    def __init__(self, done):
        super().__init__()
        self.done = done

    def run(self, piece, cfg):
        self.done.append(piece)
        return super().run(piece, cfg)


@pytest.mark.parametrize("jobs", [1, 2, 5, 12])
def test_each_begins_with_its_slab_and_all_of_it_is_done_once(jobs, folders, monkeypatch):
    done = []
    for slab in range(jobs):
        cfg = config(f"jobs={jobs}", f"slab={slab}", "seeds=6", "signs=plus")
        work = work_on(folders, cfg)
        begun = Slab.of(cfg).first(list(work.part.pieces))
        assert begun[0] == f"seed={slab * 6 // jobs}"
        assert sorted(begun) == sorted(work.part.pieces)
        done.append(begun[0])
    assert len(set(done)) == min(jobs, 6)
    ran = []
    for slab in range(jobs):
        cfg = config(f"jobs={jobs}", f"slab={slab}", "seeds=6", "signs=plus")
        conduct(Shared(ran), cfg, folders)
    assert sorted(ran) == [("plus", seed) for seed in range(6)]


@pytest.mark.parametrize(("jobs", "slab"), [(1, 1), (3, 3)])
def test_a_slab_that_there_is_not_is_refused(jobs, slab, folders):
    with pytest.raises(ConfigError, match=rf"slab: must be null or below jobs = {jobs}"):
        conduct(Sums(), config(f"jobs={jobs}", f"slab={slab}"), folders)
    assert not folders.results.exists()


def test_pieces_of_the_dead_of_another_machine_are_done_after_a_lease(folders, monkeypatch):
    monkeypatch.setattr(claims, "LEASE", 0.3)
    cfg = config("signs=plus", "seeds=4", "jobs=2")
    work = work_on(folders, cfg)
    for file in work.files.values():
        left = work.store._claim(file)
        left.with_name(f"{left.name}0").write_text('{"host": "gone", "machine": "another"}')
    begin = time.monotonic()
    work.complete(Slab.of(cfg))
    assert 0.3 < time.monotonic() - begin < 20
    assert len(work.experiment.ran) == 4


def test_what_others_are_at_is_waited_for_only_when_all_else_is_done(folders):
    cfg = config("signs=plus", "seeds=4", "jobs=2")
    work = work_on(folders, cfg)
    with work.store.claimed(work.files["seed=1"]):
        other = work_on(folders, cfg)
        other.pieces(Slab.of(cfg), wait=False)
    assert sorted(seed for _, seed in other.experiment.ran) == [0, 2, 3]
    assert not other.store.has(other.files["seed=1"])


def test_one_that_was_asleep_while_it_wrote_the_results_finds_them(folders, monkeypatch):
    """Another has taken it for dead, and has removed what it had begun to write."""
    cfg = config("signs=plus", "seeds=4", "jobs=2")
    work = work_on(folders, cfg)

    def asleep(*arguments):
        monkeypatch.undo()
        monkeypatch.setattr("experiments.lab.work.exclusive", lambda *a, **o: nullcontext())
        work_on(folders, cfg).complete(Slab.of(cfg))
        raise WriteError(2, "No such file or directory", "a.tmp")

    monkeypatch.setattr(Sums, "keep", asleep)
    monkeypatch.setattr("experiments.lab.work.exclusive", lambda *a, **o: nullcontext())
    work.complete(Slab.of(cfg))
    assert Results.load(folders.results / "plus.npz").arrays["total"].shape == (4, 3)


def test_results_that_go_between_the_beginning_and_the_end_are_made_again(folders):
    """Somebody moves them away while this waits for whoever draws them."""
    cfg = config("signs=plus", "seeds=4", "jobs=2")
    work_on(folders, cfg).complete(Slab.of(cfg))
    work = work_on(folders, cfg)
    assert work.done
    (folders.results / "plus.npz").unlink()
    shutil.rmtree(work.store.folder)
    work.complete(Slab.of(cfg))
    assert len(work.experiment.ran) == 4
    assert Results.load(folders.results / "plus.npz").arrays["total"].shape == (4, 3)


def test_what_was_computed_before_is_shown_to_whoever_asks(folders, capsys):
    conduct(Sums(), config("signs=plus", "jobs=2"), folders)
    shutil.rmtree(folders.figures)
    conduct(Sums(), config("signs=plus", "jobs=2", "slab=1"), folders)
    assert capsys.readouterr().out.count("plus: 90") == 2
    assert (folders.figures / "plus.png").exists()


class Halving(Sums):
    """Runs that fit in memory with a unit of at most 2; the unit counts, so that bytes tell."""

    def start(self, cfg):
        return {"unit": cfg.unit or self.decides}

    def run(self, piece, cfg):
        if len(self.ran) == self.stop_after:
            raise KeyboardInterrupt
        self.ran.append((piece[1], cfg.unit))
        if cfg.unit > self.fits:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
        return {"total": np.full((1, cfg.size), float(cfg.unit))}

    def halved(self, piece, cfg):
        import dataclasses

        return dataclasses.replace(cfg, unit=cfg.unit // 2) if cfg.unit > 1 else None

    fits = 2
    stop_after = -1
    decides = 8


def test_a_piece_that_does_not_fit_is_halved_and_so_are_those_that_follow(folders, capsys):
    study = Halving()
    conduct(study, config("signs=plus", "seeds=0..5"), folders)
    # Seeds of one group, three apart, share what is known of memory.
    assert study.ran == [
        (0, 8), (0, 4), (0, 2), (3, 2), (1, 8), (1, 4), (1, 2), (4, 2), (2, 8), (2, 4), (2, 2),
        (5, 2),
    ]  # fmt: skip
    results = Results.load(folders.results / "plus.npz")
    assert results.arrays["total"].max() == 2
    assert results.config["unit"] == 8
    assert results.config["smaller"] == {f"seed={seed}": {"unit": 2} for seed in range(6)}
    noted = "6 of its pieces did not fit in memory and were computed with unit=2"
    for _ in range(2):  # Now, and whenever the results are read.
        said = capsys.readouterr().err
        assert noted in said
        conduct(study, config("signs=plus", "seeds=0..5"), folders)
    assert said.count("note: plus: out of memory, tried again in halves") == 0
    assert len(study.ran) == 12


def test_what_does_not_fit_however_small_is_its_own_error(folders):
    study = Halving()
    study.fits = 0
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        conduct(study, config("signs=plus", "seeds=1"), folders)
    assert [unit for _, unit in study.ran] == [8, 4, 2, 1]


def test_a_run_that_goes_on_keeps_the_smaller(folders):
    stopped = Halving()
    stopped.stop_after = 3  # Tries: the first seed at 8, 4 and 2.
    with pytest.raises(KeyboardInterrupt):
        conduct(stopped, config("signs=plus", "seeds=0..3"), folders)
    study = Halving()
    conduct(study, config("signs=plus", "seeds=0..3"), folders)
    assert study.ran[0] == (3, 2)


def test_another_error_is_not_one_of_memory(folders):
    class Broken(Halving):
        def run(self, piece, cfg):
            self.ran.append(piece)
            raise RuntimeError("INTERNAL: something else")

    study = Broken()
    with pytest.raises(RuntimeError, match="INTERNAL"):
        conduct(study, config("signs=plus"), folders)
    assert len(study.ran) == 1


def test_what_the_first_process_decided_the_others_take_over(folders):
    first, other = Halving(), Halving()
    first.stop_after, other.decides = 4, 2
    with pytest.raises(KeyboardInterrupt):
        conduct(first, config("signs=plus"), folders)
    conduct(other, config("signs=plus"), folders)
    results = Results.load(folders.results / "plus.npz")
    assert results.config["unit"] == 8


@pytest.mark.slow
def test_a_full_disk_ends_one_process_and_none_of_the_others(alone, start, tmp_path):
    """One process's quota is used up; what it was at, others do."""
    out = tmp_path / "out"
    full = start(0, file_bytes=1500)
    others = [start(slab) for slab in (1, 2)]
    status, _, err = full.ended()
    assert (status, err.count("\n"), err.startswith("error: ")) == (2, 1, True)
    assert "File too large" in err
    assert [process.ended()[0] for process in others] == [0, 0]
    assert digest(out) == alone


@pytest.mark.slow
def test_two_sweeps_in_one_folder_lose_nothing_and_the_second_is_refused(start, tmp_path):
    """The one that finishes first has the file; the other's pieces stay."""
    out = tmp_path / "out"
    first, other = start(0, "jobs=1"), start(0, "jobs=1", "size=4")
    found = sorted(process.ended() for process in (first, other))
    assert [status for status, _, _ in found] == [0, 2]
    assert "of another config (size is" in found[1][2]
    assert pieces_done(out) >= 1


@pytest.mark.slow
def test_a_half_written_piece_is_neither_read_nor_counted(alone, start, tmp_path):
    out = tmp_path / "out"
    process = start(0)
    wait_for(lambda: pieces_done(out) >= 3)
    process.process.kill()
    process.process.join()
    done = sorted(out.rglob("seed=*.npz"))
    done[0].write_bytes(done[0].read_bytes()[:100])  # As a file system may leave it after a crash.
    shutil.copy(done[1], done[1].with_name(f".{done[1].name}.abc.tmp"))
    status, _, err = start(0).ended()
    assert status == 0
    assert err.count("damaged, computed again") == 1
    assert digest(out) == alone
