"""The skeleton: what is computed, kept, resumed, refused and shown, whatever the experiment is."""

import functools
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import study.sums
from study.sums import Sums, SumsConfig

from experiments.lab import origin
from experiments.lab.command_line import load
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.lab.schema import ConfigError
from lora_theory.store.dataset import Results
from lora_theory.store.files import ResultsError

SCRIPT = Path(study.sums.__file__)


def config(*overrides):
    return load("sums", SumsConfig, list(overrides), SCRIPT.parent / "conf")


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "results", tmp_path / "figures")


def names(folder):
    return {p.name for p in folder.rglob("*") if p.is_file()}


def pieces(folder):
    return sorted(p.name for p in folder.rglob("seed=*.npz"))


def test_it_computes_keeps_draws_and_prints(folders, capsys):
    study = Sums()
    conduct(study, config(), folders)
    assert len(study.ran) == 12
    assert names(folders.results) == {"plus.npz", "minus.npz", "plus.txt", "minus.txt"}
    assert names(folders.figures) == {f"{s}.{k}" for s in ("plus", "minus") for k in ("png", "pdf")}
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "plus: 90"
    assert printed[1].startswith("files: ")
    assert printed[1].count("plus.") == 4
    assert printed[2:4] == ["end", "minus: -90"]


def test_a_second_run_reads_what_the_first_saved(folders, capsys):
    conduct(Sums(), config(), folders)
    first = capsys.readouterr().out
    again = Sums()
    conduct(again, config(), folders)
    assert again.ran == []
    assert capsys.readouterr().out == first
    conduct(again, config("replot=true"), folders)
    assert again.ran == []


def test_replot_without_results_is_refused(folders):
    with pytest.raises(ResultsError, match=r"plus\.npz: no such results file"):
        conduct(Sums(), config("replot=true"), folders)


@pytest.mark.parametrize("status", [0, 1])
def test_the_report_decides_the_exit_status_after_all_parts_are_shown(status, folders, capsys):
    study = Sums()
    study.status = status
    if status:
        with pytest.raises(SystemExit) as stop:
            conduct(study, config(), folders)
        assert stop.value.code == status
    else:
        conduct(study, config(), folders)
    assert "minus: -90" in capsys.readouterr().out


def test_a_drawing_field_draws_the_same_results_otherwise(folders):
    conduct(Sums(), config(), folders)
    small = matplotlib.image.imread(folders.figures / "plus.png").shape
    study = Sums()
    conduct(study, config("dpi=80"), folders)
    assert study.ran == []
    assert matplotlib.image.imread(folders.figures / "plus.png").shape[0] == 2 * small[0]


@pytest.mark.parametrize("override", ["wait=0.001", "threads=3", "signs=plus", "replot=true"])
def test_layout_place_and_part_decide_no_result(override, folders):
    conduct(Sums(), config(), folders)
    study = Sums()
    conduct(study, config(override), folders)
    assert study.ran == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("size=4", r"size is 3, not 4"),
        ("seeds=7", r"seeds is 0\.\.5, not 0\.\.6"),
        ("unit=2", r"unit is 1, not 2"),
    ],
)
def test_results_of_another_science_are_refused(override, said, folders):
    conduct(Sums(), config(), folders)
    before = (folders.results / "plus.npz").read_bytes()
    with pytest.raises(ResultsError, match=rf"plus\.npz: of another config \({said}\)"):
        conduct(Sums(), config(override), folders)
    assert (folders.results / "plus.npz").read_bytes() == before


def test_a_part_under_the_name_of_another_is_refused(folders):
    conduct(Sums(), config(), folders)
    (folders.results / "plus.npz").write_bytes((folders.results / "minus.npz").read_bytes())
    with pytest.raises(ResultsError, match="sign is minus, not plus"):
        conduct(Sums(), config(), folders)


def test_what_the_machine_chose_is_recorded_and_matches_when_it_is_asked_for(folders):
    conduct(Sums(), config(), folders)
    assert Results.load(folders.results / "plus.npz").config["unit"] == 1
    conduct(Sums(), config("unit=1"), folders)


class StoppedSums(Sums):
    """Stops before its fourth piece."""

    def run(self, piece, cfg):
        if len(self.ran) == 3:
            raise KeyboardInterrupt
        return super().run(piece, cfg)


def interrupted(folders, *overrides):
    with pytest.raises(KeyboardInterrupt):
        conduct(StoppedSums(), config("signs=plus", *overrides), folders)
    assert len(pieces(folders.results)) == 3


@pytest.fixture
def code(monkeypatch):
    """All studies run the same code, but where a test says otherwise."""
    digests = []
    monkeypatch.setattr(origin, "code_digest", lambda *_, **__: digests[-1] if digests else "code")
    return digests


def test_finished_pieces_are_not_computed_again(folders, code):
    interrupted(folders)
    study = Sums()
    conduct(study, config("signs=plus"), folders)
    assert len(study.ran) == 3
    assert pieces(folders.results) == []


def test_a_damaged_piece_is_computed_again(folders, code, capsys):
    interrupted(folders)
    piece = next(folders.results.rglob("seed=1,*.npz"))
    piece.write_bytes(piece.read_bytes()[:-30])
    study = Sums()
    conduct(study, config("signs=plus"), folders)
    assert ("plus", 1) in study.ran
    assert f"{piece}: damaged" in capsys.readouterr().err
    np.testing.assert_array_equal(
        Results.load(folders.results / "plus.npz").arrays["total"][:, 0], 2.0 * np.arange(6)
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("code", "the code that computes has changed"),
        ("versions", "jax is 0.1 there and"),
        ("size=4", "size is 3 there and 4 here"),
    ],
)
def test_pieces_of_another_provenance_are_left_and_it_is_said_why(
    change, why, folders, code, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        if change == "versions":
            found = origin.library_versions() | {"jax": "0.1"}
            patch.setattr(origin, "library_versions", lambda: found)
        interrupted(folders)
    if change == "code":
        code.append("other code")
    study = Sums()
    overrides = [change] if "=" in change else []
    conduct(study, config("signs=plus", *overrides), folders)
    assert len(study.ran) == 6
    said = capsys.readouterr().err
    assert why in said
    assert "not resumed; delete it to free its space" in said
    assert len(pieces(folders.results)) == 3  # Somebody's hours: not ours to delete.


def test_layout_is_no_reason_to_compute_again(folders, code):
    interrupted(folders, "wait=0")
    study = Sums()
    conduct(study, config("signs=plus", "wait=0.001", "threads=2"), folders)
    assert len(study.ran) == 3


def test_a_finished_result_of_other_code_loads_and_says_whose_it_is(folders, code, capsys):
    conduct(Sums(), config(), folders)
    code.append("other code")
    study = Sums()
    capsys.readouterr()
    conduct(study, config(), folders)
    printed = capsys.readouterr()
    assert study.ran == []
    assert "plus: 90" in printed.out
    assert "the code that computes has changed" in printed.err
    assert printed.err.count("\n") == 2  # One line a file.


def test_pieces_stay_until_the_file_that_needs_them_is_on_disk(folders, code, monkeypatch):
    class FailingSums(Sums):
        def keep(self, *arguments):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        conduct(FailingSums(), config("signs=plus"), folders)
    assert len(pieces(folders.results)) == 6
    study = Sums()
    conduct(study, config("signs=plus"), folders)
    assert study.ran == []
    assert pieces(folders.results) == []


def test_a_disk_known_to_be_too_small_is_refused_before_anything_runs(folders):
    study = Sums()
    with pytest.raises(ConfigError, match=r"out: must have .* GiB free"):
        conduct(study, config("size=1000000000000"), folders)
    assert study.ran == []


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_byte(threads, folders, tmp_path):
    conduct(Sums(), config("signs=plus"), Folders(tmp_path / "one", tmp_path / "f"))
    conduct(Sums(), config("signs=plus", f"threads={threads}", "wait=0.002"), folders)
    one, other = (folder / "plus.npz" for folder in (tmp_path / "one", folders.results))
    assert one.read_bytes() == other.read_bytes()


# A process of its own, as a user starts it.
SLOW = ["seeds=60", "wait=0.02", "signs=plus"]


def command(*overrides):
    return [sys.executable, str(SCRIPT), *overrides]


@pytest.fixture
def user(environment):
    return functools.partial(
        subprocess.run, env=environment, capture_output=True, text=True, timeout=120
    )


def result(folder, *overrides):
    """The bytes of an uninterrupted run in this process."""
    places = Folders(folder / "results", folder / "figures")
    conduct(Sums(), config("signs=plus", *overrides), places)
    return (places.results / "plus.npz").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return result(tmp_path_factory.mktemp("uninterrupted"), "seeds=60")


def started(out, environment):
    """A run in the background with at least two pieces done."""
    process = subprocess.Popen(
        command(*SLOW, f"out={out}"), env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(pieces(out)) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_goes_on_to_the_same_bytes(sign, uninterrupted, tmp_path, environment, user):
    process = started(tmp_path, environment)
    process.send_signal(sign)
    process.communicate()
    assert not list(tmp_path.rglob("plus.npz"))
    assert 2 <= len(pieces(tmp_path)) < 60
    done = user(command(*SLOW, f"out={tmp_path}"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "results/sums/plus.npz").read_bytes() == uninterrupted
    assert not list(tmp_path.rglob("*.tmp"))
    assert pieces(tmp_path) == []


def test_two_runs_at_once_share_the_work(uninterrupted, tmp_path, environment):
    start = functools.partial(subprocess.Popen, env=environment, stderr=subprocess.PIPE, text=True)
    before = time.monotonic()
    both = [start(command(*SLOW, f"out={tmp_path}")) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert time.monotonic() - before < 60
    assert (tmp_path / "results/sums/plus.npz").read_bytes() == uninterrupted
    assert pieces(tmp_path) == []


def test_one_of_two_runs_is_killed_and_the_other_finishes_its_piece(
    uninterrupted, tmp_path, environment
):
    both = [started(tmp_path, environment) for _ in range(2)]
    both[0].send_signal(signal.SIGKILL)
    for process in both:
        process.communicate(timeout=120)
    assert both[1].returncode == 0
    assert (tmp_path / "results/sums/plus.npz").read_bytes() == uninterrupted


def test_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(tmp_path, user):
    options = ["seeds=10", "size=20000", "signs=plus"]
    expected = result(tmp_path / "whole", *options)
    kib = len(expected) // 2 // 1024  # Room for pieces, not for the file they end in.
    out = tmp_path / "full"
    run = shlex.join(command(*options, f"out={out}"))
    done = user(["bash", "-c", f"ulimit -f {kib}; exec {run}"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: out: ")
    assert done.stderr.count("\n") == 1
    assert not list(out.rglob("plus.npz"))
    assert not list(out.rglob("*.tmp"))
    assert user(command(*options, f"out={out}")).returncode == 0
    assert (out / "results/sums/plus.npz").read_bytes() == expected


def test_provenance_is_saved_with_the_results(folders):
    conduct(Sums(), config(), folders)
    origin = Results.load(folders.results / "plus.npz").provenance
    assert set(origin.versions) > {"python", "jax", "numpy", "backend"}
    assert origin.config == {"seeds": "0..5", "size": 3, "unit": 1, "sign": "plus"}
    assert json.dumps(origin.config)
