"""Every piece is done once; groups keep their order; what fails stops the rest."""

import threading
import time

import pytest

from experiments.lab.schedule import in_groups, run_all


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_piece_is_done_once_and_groups_keep_their_order(workers):
    groups = in_groups(range(20), lambda piece: piece % 3)
    done = []
    run_all(groups, lambda piece: done.append(piece) or True, workers)
    assert sorted(done) == list(range(20))
    for remainder in range(3):
        of_group = [piece for piece in done if piece % 3 == remainder]
        assert of_group == sorted(of_group)


def test_what_somebody_else_is_at_is_tried_again_after_the_others(monkeypatch):
    monkeypatch.setattr("experiments.lab.schedule._PATIENCE", 0.0)
    tried = []

    def attempt(piece):
        tried.append(piece)
        return piece != "busy" or tried.count("busy") == 3

    run_all([["busy", "free"]], attempt, 1)
    assert tried == ["busy", "free", "busy", "busy"]


def test_groups_run_side_by_side_and_pieces_of_a_group_do_not():
    at_once, most, lock = {}, {"all": 0, "group": 0}, threading.Lock()

    def attempt(piece):
        group, _ = piece
        with lock:
            at_once[group] = at_once.get(group, 0) + 1
            most["all"] = max(most["all"], sum(at_once.values()))
            most["group"] = max(most["group"], at_once[group])
        time.sleep(0.02)
        with lock:
            at_once[group] -= 1
        return True

    run_all([[(group, i) for i in range(4)] for group in "ab"], attempt, 2)
    assert most == {"all": 2, "group": 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_the_run_and_is_not_lost(workers):
    done = []

    def attempt(piece):
        if piece == 3:
            raise ValueError("piece 3")
        done.append(piece)
        return True

    with pytest.raises(ValueError, match="piece 3"):
        run_all([[piece] for piece in range(100)], attempt, workers)
    assert len(done) < 100


def test_a_piece_that_fails_stops_the_other_threads_after_the_one_they_are_at():
    done, at_it = [], threading.Event()

    def attempt(piece):
        if piece == "fails":
            at_it.wait()
            raise ValueError("piece")
        at_it.set()
        time.sleep(0.05)
        done.append(piece)
        return True

    with pytest.raises(ValueError, match="piece"):
        run_all([list(range(50)), ["fails"]], attempt, 2)
    assert len(done) < 5
