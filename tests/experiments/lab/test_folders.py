"""Folders follow from roles alone."""

from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.lab import folders as folders_of
from experiments.lab.folders import Folders, check_room, check_writable, folders, tag
from experiments.lab.schema import ConfigError, Role
from lora_theory.store.files import WriteError

ROLES = {
    "seeds": Role.SCIENCE,
    "rates": Role.SCIENCE,
    "engine.devices": Role.LAYOUT,
    "plot.dpi": Role.DRAWING,
    "loss": Role.PART,
    "out": Role.PLACE,
}
DEFAULT = {
    "seeds": 3,
    "rates": {"layer": 1.0},
    "engine": {"devices": None},
    "plot": {"dpi": 200},
    "loss": ["mse"],
    "out": None,
}
ROOT = Path("root")
AT_HOME = Folders(ROOT / "results/fig2", ROOT / "figures")


def where(out=None, one_of_many=False, **changes):
    asked = {**DEFAULT, **changes}
    return folders("fig2", ROLES, DEFAULT, asked, root=ROOT, out=out, one_of_many=one_of_many)


def test_only_the_defaults_are_at_home():
    assert where() == AT_HOME
    assert where(seeds=3) == AT_HOME


@pytest.mark.parametrize("change", [{"engine": {"devices": 2}}, {"loss": ["all_pairs"]}])
def test_layout_and_parts_move_nothing(change):
    assert where(**change) == AT_HOME


def test_science_moves_results_and_figures():
    moved = ROOT / "runs/fig2/seeds=4"
    assert where(seeds=4) == Folders(moved / "results/fig2", moved / "figures")


def test_a_key_within_a_mapping_has_the_role_of_the_mapping():
    assert "rates.layer=2.0" in str(where(rates={"layer": 2.0}).results)


def test_drawing_moves_the_figures_alone():
    places = where(plot={"dpi": 50})
    assert places == Folders(AT_HOME.results, ROOT / "runs/fig2/plot.dpi=50/figures")
    both = where(plot={"dpi": 50}, seeds=4)
    assert both.results == ROOT / "runs/fig2/seeds=4/results/fig2"
    assert both.figures == ROOT / "runs/fig2/plot.dpi=50,seeds=4/figures"


def test_out_decides_and_jobs_of_a_multirun_stay_apart():
    assert where(out="x", seeds=4) == Folders(Path("x/results/fig2"), Path("x/figures"))
    jobs = {where(out="x", one_of_many=True, seeds=seeds) for seeds in (3, 4, 5)}
    assert len({place for job in jobs for place in job}) == 6


def test_jobs_of_a_multirun_that_only_draw_otherwise_share_results():
    one, other = (where(out="x", one_of_many=True, plot={"dpi": dpi}, seeds=4) for dpi in (50, 60))
    assert one.results == other.results == Path("x/seeds=4/results/fig2")
    assert one.figures == Path("x/plot.dpi=50,seeds=4/figures")
    assert other.figures != one.figures


def test_a_name_of_long_letters_is_cut_by_what_a_file_system_counts():
    assert len(tag({"name": "漢" * 150}).encode()) <= 255


def test_a_long_or_odd_name_is_one_that_a_file_system_can_bear():
    long = {f"key{i}": "v/../" * 10 for i in range(50)}
    name = tag(long)
    assert len(name.encode()) <= 255
    assert "/" not in name
    assert name != tag(long | {"key49": "other"})


def test_a_folder_that_can_not_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_writable(Folders(tmp_path / "file" / "results", tmp_path / "figures"))


def test_folders_that_were_made_for_nothing_are_removed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError):
        check_writable(Folders(tmp_path / "new" / "results", tmp_path / "file" / "figures"))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_room_is_checked_in_bytes(tmp_path):
    check_room(tmp_path, 1000)
    with pytest.raises(ConfigError, match=r"^out: must have 931322574\.6 GiB free \(got .* GiB in"):
        check_room(tmp_path, 10**18)


def test_a_full_disk_is_said_in_a_unit_that_shows_it_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(folders_of.shutil, "disk_usage", lambda path: Full(100, 100, 70))
    with pytest.raises(ConfigError) as caught:
        check_room(tmp_path / "a/b", 3 * 2**20)
    assert str(caught.value).startswith("out: must have 3.0 MiB free (got 70 bytes in /")
    assert not list(tmp_path.iterdir())


class Full(NamedTuple):
    """What `shutil.disk_usage` gives."""

    total: int
    used: int
    free: int
