"""Memory: what there is, what is needed, and the field that is named."""

import jax
import pytest

from experiments.lab import memory
from experiments.lab.memory import Need, available, check_memory, ran_out
from experiments.lab.schema import ConfigError

WIDE = Need("features", [("width", 2**10), ("samples", 2**4)])  # 64 KiB.
MANY = Need("gates", [("runs", 2**3), ("width", 2**10)], copies=2)  # 64 KiB.


def test_all_of_them_together_have_to_fit(monkeypatch):
    assert (WIDE.bytes, MANY.bytes) == (2**16, 2**16)
    monkeypatch.setattr(memory, "available", lambda: 2**17)
    check_memory([])
    check_memory([WIDE])
    said = r"^width: must fit in memory: features would take 64\.0 KiB of the 128\.0 KiB available"
    with pytest.raises(ConfigError, match=said + r" \(got 1024\)$"):
        check_memory([WIDE, MANY])


def test_where_it_is_not_known_nothing_is_refused(monkeypatch, tmp_path):
    monkeypatch.delattr(memory.os, "sysconf")
    assert available(tmp_path / "nothing") is None
    monkeypatch.setattr(memory, "available", lambda: None)
    check_memory([WIDE, WIDE._replace(copies=10**12)])


@pytest.mark.parametrize(
    "text", ["", "MemTotal: 3 kB\n", "MemAvailable:\n", "MemAvailable: x kB\n"]
)
def test_what_is_available_is_read_or_all_there_is(text, tmp_path, monkeypatch):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       9 kB\nMemAvailable:   5 kB\n")
    assert available(file) == 5 * 1024
    file.write_text(text)
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PHYS_PAGES": 3, "SC_PAGE_SIZE": 4096}.get)
    assert available(file) == 3 * 4096


RUNTIME = jax.errors.JaxRuntimeError


@pytest.mark.parametrize(
    ("error", "wanting"),
    [
        (MemoryError(), True),
        (RUNTIME("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes."), True),
        (RUNTIME("INTERNAL: Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (RUNTIME("INTERNAL: Out of memory allocating 8 bytes"), True),
        (RUNTIME("INVALID_ARGUMENT: shapes must be equal"), False),
        (RUNTIME("INTERNAL: a kernel failed"), False),
        (ValueError("RESOURCE_EXHAUSTED"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_want_of_memory_is_told_from_other_failures(error, wanting):
    assert ran_out(error) is wanting


def test_want_of_memory_is_recognised_where_it_happens():
    with pytest.raises(RUNTIME) as failed:
        jax.block_until_ready(jax.jit(lambda: jax.numpy.ones(2**48))() + 1)
    assert ran_out(failed.value)


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(memory.os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert memory.cores() == 3
    monkeypatch.delattr(memory.os, "sched_getaffinity")
    monkeypatch.setattr(memory.os, "cpu_count", lambda: None)
    assert memory.cores() == 1
