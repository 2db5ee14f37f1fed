"""What processes say of themselves: each in a file of its own, and never in the way of the work."""

import pytest

from experiments.lab import workers
from experiments.lab.workers import Record, Worker, job_name, records


def test_a_process_says_what_it_has_done(tmp_path):
    worker = Worker(tmp_path)
    with worker.reporting():
        for units in (3, 4):
            with worker.at(units):
                pass
        (early,) = records(tmp_path)  # Of the first piece; the second one is not worth a file.
        assert (early.pieces, early.units) == (1, 3)
    (record,) = records(tmp_path)
    assert (record.pieces, record.units, record.error) == (2, 7, "")
    assert record.seconds >= 0


def test_a_piece_that_fails_does_not_count_and_the_error_stands_in_one_line(tmp_path):
    worker = Worker(tmp_path)
    with pytest.raises(ValueError, match="odd"), worker.reporting(), worker.at(3):
        raise ValueError("odd\n" * 200)
    (record,) = records(tmp_path)
    assert (record.pieces, record.units) == (0, 0)
    assert record.error.startswith("ValueError: odd odd")
    assert len(record.error) == 300


def test_each_process_has_a_file_of_its_own(tmp_path):
    for _ in range(3):
        with Worker(tmp_path).reporting():
            pass
    assert len(records(tmp_path)) == 3


def test_what_can_not_be_written_is_not_in_the_way(tmp_path):
    worker = Worker(tmp_path / "gone")
    with worker.reporting(), worker.at(1):
        pass
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}', "\0"])
def test_what_is_no_record_is_left_out(content, tmp_path):
    (tmp_path / "a.worker.json").write_text(content)
    with Worker(tmp_path).reporting():
        pass
    assert [type(record) for record in records(tmp_path)] == [Record]


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2"),
    ],
)
def test_a_job_has_the_name_that_slurm_gives_it(env, name, monkeypatch):
    for key in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(key, raising=False)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert job_name() == name


def test_files_are_written_seldom(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(workers.Worker, "_write", lambda self, record: written.append(record))
    worker = Worker(tmp_path)
    for _ in range(100):
        with worker.at(1):
            pass
    assert len(written) <= 100
    assert worker.record.pieces == 100


def test_a_process_is_there_before_its_first_piece_is_done(tmp_path):
    worker = Worker(tmp_path)
    with worker.reporting():
        assert records(tmp_path) == [worker.record]
        assert worker.record.pieces == 0


def test_a_signal_is_no_error_of_its_own(tmp_path):
    with pytest.raises(KeyboardInterrupt), Worker(tmp_path).reporting():
        raise KeyboardInterrupt
    assert [record.error for record in records(tmp_path)] == [workers.STOPPED]


@pytest.fixture
def clock(monkeypatch):
    """Time, of which half is computed."""
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(workers.time, "process_time", lambda: now[0] / 2)
    return now


def test_time_counts_once_while_several_threads_are_at_pieces(tmp_path, clock):
    """From 1 to 4, and from 10 to 12; nobody is at a piece between."""
    worker = Worker(tmp_path)
    clock[0] = 1.0
    with worker.at(2, expected=5.0):
        clock[0] = 2.0
        with worker.at(3, expected=7.0):
            clock[0] = 3.0
        clock[0] = 4.0
    clock[0] = 10.0
    with worker.at(1):
        clock[0] = 12.0
    found = worker.record
    assert (found.pieces, found.units, found.expected) == (3, 6, 12.0)
    assert (found.seconds, found.core_seconds) == (5.0, 2.5)


def test_time_of_a_piece_that_failed_counts_and_the_piece_does_not(tmp_path, clock):
    worker = Worker(tmp_path)

    def fails():
        clock[0] = 3.0
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"), worker.at(2, expected=5.0):
        fails()
    assert (worker.record.pieces, worker.record.expected, worker.record.seconds) == (0, 0.0, 3.0)


def test_what_several_have_done_adds_up():
    one = Record("a", 1, "7", 1, 2, 3.0, 4.0, 5.0)
    both = one + Record("b", 2, "", 1, 1, 1.0, 1.0, 1.0, "odd")
    assert both == Record("a", 1, "7", 2, 3, 4.0, 5.0, 6.0, "odd")
