"""Pieces: each a file of its own, of one provenance, written by anybody, never taken up damaged."""

import contextlib
import os
import shutil

import numpy as np
import pytest
from damage import NO_FILES, no_file
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_theory.store.claims import exclusive
from lora_theory.store.files import ResultsError, WriteError
from lora_theory.store.pieces import Pieces, stamped
from lora_theory.store.provenance import Provenance

OURS = Provenance({"seeds": 3, "grid": {"points": 4}}, {"jax": "0.10"}, "code")


def pieces(tmp_path, provenance=OURS, name="mse.npz"):
    store = Pieces(tmp_path / name, provenance)
    store.make()
    return store


def test_a_piece_comes_back_as_it_was(tmp_path):
    store = pieces(tmp_path)
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([np.nan, np.inf])}
    store.put("seed 0", arrays)
    again = pieces(tmp_path).get("seed 0")
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
    assert store.get("seed 1") is None
    assert (store.has("seed 0"), store.has("seed 1")) == (True, False)


def test_a_damaged_piece_is_removed_and_said(tmp_path, capsys):
    store = pieces(tmp_path)
    for index in range(3):
        store.put(f"seed={index}", {"loss": np.arange(1000.0)})
    flipped, cut, whole = (store.folder / f"seed={index}.npz" for index in range(3))
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:100])
    assert [store.get(f"seed={i}") is None for i in range(3)] == [True, True, False]
    said = capsys.readouterr().err
    assert f"{flipped}: damaged, computed again" in said
    assert f"{cut}: damaged, computed again" in said
    assert [p.exists() for p in (flipped, cut, whole)] == [False, False, True]


def test_a_pickle_is_not_loaded(tmp_path):
    store = pieces(tmp_path)
    np.savez(store.folder / "seed=0.npz", loss=np.array([{}], dtype=object))
    assert store.get("seed=0") is None


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_can_not_be_read_in_the_place_of_a_piece_is_refused_and_stays(kind, tmp_path):
    store = pieces(tmp_path)
    no_file(kind, store.folder / "seed=0.npz")
    with pytest.raises(ResultsError, match=rf"seed=0\.npz: can not be read \({kind}"):
        store.get("seed=0")
    assert os.path.lexists(store.folder / "seed=0.npz")


def test_a_piece_that_a_link_points_to_is_taken_up(tmp_path):
    store = pieces(tmp_path)
    store.put("seed=0", {"loss": np.ones(3)})
    (store.folder / "seed=0.npz").rename(tmp_path / "elsewhere.npz")
    (store.folder / "seed=0.npz").symlink_to(tmp_path / "elsewhere.npz")
    assert store.get("seed=0")["loss"].tolist() == [1, 1, 1]


def test_a_piece_of_something_else_is_removed_and_said(tmp_path, capsys):
    def check(arrays):
        raise ValueError("loss: negative")

    store = pieces(tmp_path)
    store.put("seed=0", {"loss": -np.ones(3)})
    assert store.get("seed=0", check) is None
    assert "seed=0.npz: damaged, computed again (loss: negative)" in capsys.readouterr().err
    assert not store.has("seed=0")


@pytest.mark.parametrize(
    "record",
    [
        "[]",
        "{",
        "[" * 10**5,
        '{"config": 3, "versions": {}, "code": ""}',
        '{"config": {}, "versions": null, "code": ""}',
        '{"config": {}, "versions": {"jax": 1}, "code": ""}',
        '{"config": {}, "versions": {}, "code": null}',
        '{"config": {}, "versions": {}}',
    ],
)
def test_pieces_with_an_odd_record_are_of_unknown_provenance(record, tmp_path):
    folder = tmp_path / ".mse.npz.pieces-abc"
    folder.mkdir()
    (folder / "provenance.json").write_text(record)
    (line,) = pieces(tmp_path).foreign()
    assert line.endswith("of unknown provenance: not resumed; delete it to free its space")


@pytest.mark.parametrize("kind", NO_FILES)
def test_a_record_that_can_not_be_read_is_of_unknown_provenance(kind, tmp_path):
    folder = tmp_path / ".mse.npz.pieces-abc"
    folder.mkdir()
    no_file(kind, folder / "provenance.json")
    (line,) = pieces(tmp_path).foreign()
    assert line.endswith("of unknown provenance: not resumed")


OTHERS = {
    "seeds is 4 there and 3 here": OURS._replace(config=OURS.config | {"seeds": 4}),
    "grid.points is 5 there and 4 here": OURS._replace(config={"seeds": 3, "grid": {"points": 5}}),
    "jax is 0.9 there and 0.10 here": OURS._replace(versions={"jax": "0.9"}),
    "the code that computes has changed": OURS._replace(code="other"),
}


@pytest.mark.parametrize("why", OTHERS)
def test_pieces_of_another_provenance_are_not_seen_and_it_is_said_why(why, tmp_path):
    pieces(tmp_path, OTHERS[why]).put("seed=0", {"loss": np.ones(3)})
    store = pieces(tmp_path)
    assert store.get("seed=0") is None
    assert not store.has("seed=0")
    (line,) = store.foreign()
    assert line.endswith(f": {why}: not resumed; delete it to free its space")
    assert pieces(tmp_path, OTHERS[why]).foreign() == []  # A folder without pieces costs nobody.
    with pieces(tmp_path, OTHERS[why]).claimed("seed=1"):
        (line,) = store.foreign()
    assert line.endswith(f": {why}: not resumed; another run may be at work there")


def test_of_another_results_file_nothing_is_said(tmp_path):
    pieces(tmp_path, name="other.npz").put("seed=0", {"loss": np.ones(3)})
    pieces(tmp_path).put("seed=1", {"loss": np.ones(3)})
    assert pieces(tmp_path).foreign() == []


def test_pieces_without_a_record_are_of_unknown_provenance(tmp_path):
    (tmp_path / ".mse.npz.pieces-abc").mkdir()
    (line,) = pieces(tmp_path).foreign()
    assert line.endswith("of unknown provenance: not resumed; delete it to free its space")


def test_a_results_file_with_a_name_that_is_a_pattern_finds_its_own_pieces(tmp_path):
    ours, theirs = (
        pieces(tmp_path, provenance, "[a].npz") for provenance in (OURS, OURS._replace(code="b"))
    )
    theirs.put("seed=0", {"loss": np.ones(3)})
    assert len(ours.foreign()) == 1


@pytest.mark.parametrize("array", [np.array([{}]), np.array([(1, 2.0)], "i4,f4")])
def test_what_could_not_be_read_again_is_not_written(array, tmp_path):
    with pytest.raises(ValueError, match=r"loss: of type .*, which is not kept"):
        pieces(tmp_path).put("seed=0", {"loss": array})
    assert not pieces(tmp_path).has("seed=0")


def test_letters_of_several_bytes_are_counted_as_such(tmp_path):
    store = pieces(tmp_path)
    store.put("漢" * 150, {"loss": np.ones(3)})
    assert store.has("漢" * 150)


def test_a_name_is_stamped_with_what_the_piece_is():
    assert stamped("seed=0", ("plus", 0)).startswith("seed=0,")
    assert stamped("seed=0", ("plus", 0)) == stamped("seed=0", ("plus", 0))
    assert stamped("seed=0", ("plus", 0)) != stamped("seed=0", ("plus", 1))


def test_removing_leaves_pieces_of_others(tmp_path):
    ours, theirs = pieces(tmp_path), pieces(tmp_path, OURS._replace(code="other"))
    for store in (ours, theirs):
        store.put("seed=0", {"loss": np.ones(3)})
    ours.remove()
    ours.remove()  # Again: whoever comes second finds nothing to do.
    assert not ours.has("seed=0")
    assert theirs.has("seed=0")


def test_what_is_written_while_pieces_are_removed_does_not_bring_them_back(tmp_path, monkeypatch):
    store = pieces(tmp_path)
    store.put("seed=0", {"loss": np.ones(3)})
    original = shutil.rmtree

    def meanwhile(folder, **options):
        with pytest.raises(WriteError):
            store.put("seed=1", {"loss": np.ones(3)})
        original(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", meanwhile)
    store.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_has_gone_is_not_made_again(tmp_path):
    """The disk that several machines share may have been taken away, and another lie below."""
    store = pieces(tmp_path)
    shutil.rmtree(store.folder)
    with pytest.raises(WriteError, match="No such file"):
        store.put("seed=0", {"loss": np.ones(3)})
    with pytest.raises(WriteError, match="No such file"), store.claimed("seed=0"):
        pass
    assert not store.folder.exists()


def test_one_claims_a_piece(tmp_path):
    store = pieces(tmp_path)
    with store.claimed("seed=0") as mine, pieces(tmp_path).claimed("seed=0") as too:
        assert (mine, too) == (True, False)
    with store.claimed("seed=0") as mine, pieces(tmp_path).claimed("seed=1") as too:
        assert (mine, too) == (True, True)


def test_what_the_machine_decides_is_decided_once(tmp_path):
    first, second = pieces(tmp_path), pieces(tmp_path)
    assert first.settled({"engine": {"batch_bytes": 2**30}}) == {"engine": {"batch_bytes": 2**30}}
    assert second.settled({"engine": {"batch_bytes": 2**31}}) == {"engine": {"batch_bytes": 2**30}}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"engine": {}}', '{"engine": {"batch_bytes": "x"}}', '{"seeds": [5]}',
             '{"engine": {"batch_bytes": 1}, "seeds": [5]}', '{"engine": 1}'],
)  # fmt: skip
def test_a_record_of_what_was_decided_that_says_something_else_is_damaged(text, tmp_path):
    store = pieces(tmp_path)
    (store.folder / "chosen.json").write_text(text)
    with pytest.raises(ResultsError, match=r"chosen\.json: damaged; delete"):
        store.settled({"engine": {"batch_bytes": 2**30}})


def test_one_that_was_asleep_while_another_decided_takes_that_over(tmp_path, monkeypatch):
    store, decided = pieces(tmp_path), {"engine": 1}

    def asleep(path, data):
        monkeypatch.undo()
        pieces(tmp_path).settled(decided)
        raise WriteError(2, "No such file or directory", str(path))

    monkeypatch.setattr("lora_theory.store.pieces.exclusive", lambda path: contextlib.nullcontext())
    monkeypatch.setattr("lora_theory.store.pieces.write_json", asleep)
    assert store.settled({"engine": 2}) == decided


@pytest.mark.parametrize("method", [Pieces.make, lambda store: store.has("seed=0")])
def test_a_folder_that_is_closed_is_named(method, tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    store = pieces(tmp_path)
    monkeypatch.setattr("pathlib.Path.exists", closed)
    with pytest.raises(WriteError, match="Permission denied"):
        method(store)


@pytest.mark.parametrize("odd", ["~", "", "x", "-1", "999999999", "1.5"])
def test_what_is_no_count_of_halvings_is_left_out(odd, tmp_path):
    store = pieces(tmp_path)
    store.halve("n=64", 2)
    (store.folder / f"n=64.halved{odd}").touch()
    assert store.halvings("n=64") == 2


def test_what_had_to_be_halved_stays_so_for_everybody(tmp_path):
    first, second = pieces(tmp_path), pieces(tmp_path)
    assert first.halvings("n=64") == 0
    for count in (1, 2):
        first.halve("n=64", count)
    second.halve("n=64", 1)
    assert (second.halvings("n=64"), second.halvings("n=128")) == (2, 0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(names=st.lists(st.text(min_size=1, max_size=400), min_size=2, max_size=2, unique=True))
def test_different_names_are_different_files_that_a_file_system_can_bear(names, tmp_path_factory):
    store = pieces(tmp_path_factory.getbasetemp())
    files = [store._file(name) for name in names]
    assert files[0] != files[1]
    for file in files:
        assert file.parent == store.folder
        assert len(file.name.encode()) <= 255


def test_all_pieces_beside_a_results_file_are_found_by_what_they_say(tmp_path):
    other = OURS._replace(versions={"jax": "0.9"})
    stores = [pieces(tmp_path), pieces(tmp_path, other), pieces(tmp_path, name="msex.npz")]
    for content in ("{", '{"config": {}}'):
        odd = tmp_path / f".mse.npz.pieces-{len(content)}"
        odd.mkdir()
        (odd / "provenance.json").write_text(content)
    moved = tmp_path / ".mse.npz.pieces-0"
    shutil.copytree(stores[0].folder, moved)  # It does not say that it is itself.
    (tmp_path / ".mse.npz.pieces-1").touch()
    found = Pieces.beside(tmp_path / "mse.npz")
    assert {store.folder for store in found} == {store.folder for store in stores[:2]}
    assert {store.provenance.versions["jax"] for store in found} == {"0.10", "0.9"}
    assert Pieces.beside(tmp_path / "nothing" / "mse.npz") == []


def test_one_look_at_a_folder_says_what_is_done_and_who_is_at_what(tmp_path):
    store, names = pieces(tmp_path), ["seed=0", "seed=1", "η = 2", "a.b", "c"]
    store.put("seed=0", {"a": np.ones(1)})
    store.put("η = 2", {"a": np.ones(1)})
    with store.claimed("a.b"), store.claimed("η = 2"), exclusive(store.folder / "chosen.json"):
        for generation in (1, 2, 10):
            (store.folder / f"seed=1.claim{generation}").touch()
        found = store.listing(names)
    assert found.done == {"seed=0", "η = 2"}
    assert found.claims.keys() == {"seed=1", "a.b", "η = 2"}
    assert found.claims["seed=1"].name == "seed=1.claim10"
    assert found.claims["a.b"].name == "a.b.claim0"
    assert store.listing(names).claims.keys() == {"seed=1"}
    store.remove()
    assert store.listing(names) == (set(), {})


def test_what_was_chosen_is_read_and_what_can_not_be_is_nothing(tmp_path):
    store = pieces(tmp_path)
    assert store.chosen() == {}
    store.settled({"engine": {"policy": "cores"}})
    assert store.chosen() == {"engine": {"policy": "cores"}}
    for content in ("{", "[]", ""):
        (store.folder / "chosen.json").write_text(content)
        assert store.chosen() == {}
