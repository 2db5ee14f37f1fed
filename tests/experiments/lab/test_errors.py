"""What a user got wrong, or the machine: one line, status 2; all else keeps its traceback."""

import pytest

from experiments.lab.backend import BackendError
from experiments.lab.errors import ConfError, StoppedError, one_line_errors
from experiments.lab.launching import LaunchError
from experiments.lab.schema import ConfigError
from lora_theory.store.files import ResultsError, WriteError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore"), "RuntimeError: RESOURCE_EXH"),
        (RuntimeError("Unable to initialize backend 'cuda'"), "RuntimeError: Unable to init"),
        (BackendError("RuntimeError: no"), "RuntimeError: no"),
        (WriteError(28, "No space left", "a.npz"), "out: No space left: a.npz"),
        (MemoryError("array"), "out of memory: array"),
        (ConfigError("seeds", "must be 1", 2), "seeds: must be 1 (got 2)"),
        (ConfError("a.yaml: no such config"), "a.yaml: no such config"),
        (ResultsError("a.npz: damaged"), "a.npz: damaged"),
        (LaunchError("cluster: no Slurm here"), "cluster: no Slurm here"),
    ],
)
def test_what_is_the_machines_is_one_line(error, said, capsys):
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise error
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {said}")
    assert printed == f"{stop.value.line}\n"


@pytest.mark.parametrize("error", [RuntimeError("odd"), ValueError("odd"), OSError(2, "odd")])
def test_what_is_a_mistake_of_the_code_keeps_its_traceback(error, capsys):
    with pytest.raises(type(error)) as raised, one_line_errors():
        raise error
    assert raised.value is error
    assert capsys.readouterr().err == ""


def test_an_interrupt_says_how_to_go_on(capsys):
    with pytest.raises(StoppedError) as stop, one_line_errors():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err.startswith("stopped; the same command goes on")
