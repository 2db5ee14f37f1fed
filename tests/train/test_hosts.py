"""Two processes of one JAX program on loopback: each has its own devices, or ends in time."""

import socket
import subprocess
import sys
import time

import pytest

from lora_theory.train.hosts import join

PROGRAM = """
import sys, jax
from lora_theory.train import hosts
from lora_theory.train.devices import start_devices
hosts.join(sys.argv[1], 2, int(sys.argv[2]), patience=int(sys.argv[3]))
hosts.join(sys.argv[1], 2, int(sys.argv[2]))  # Again: it is done.
print(len(jax.devices()), len(start_devices(1)), jax.process_index(), flush=True)
device = start_devices(1)[0]
print(jax.device_get(jax.device_put(2.0, device) + 1), flush=True)
"""


@pytest.fixture
def port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def start(environment, port):
    running = []

    def started(process, patience):
        words = [f"127.0.0.1:{port}", str(process), str(patience)]
        env = environment | {"JAX_NUM_CPU_DEVICES": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", PROGRAM, *words]
        running.append(subprocess.Popen(command, env=env, **pipes))
        return running[-1]

    yield started
    for process in running:
        process.kill()
        process.communicate()


def test_each_computes_on_its_own_devices(start):
    found = [process.communicate(timeout=120) for process in [start(k, 60) for k in range(2)]]
    assert [out.split() for out, _ in found] == [["2", "1", "0", "3.0"], ["2", "1", "1", "3.0"]]


@pytest.mark.parametrize("process", [0, 1])
def test_one_whose_others_do_not_come_ends_in_time_with_one_line(process, start, port):
    begin = time.monotonic()
    alone = start(process, 2)
    _, err = alone.communicate(timeout=60)
    assert alone.returncode == 2
    assert time.monotonic() - begin < 30
    assert err.splitlines()[-1] == (
        f"error: coordinator: all 2 processes must come to 127.0.0.1:{port} within 2 s "
        f"(some did not; this is process {process})"
    )
    assert "Check failure" not in err


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("somewhere", 2, 0), "coordinator"),
        (("host:", 2, 0), "coordinator"),
        (("host:99999", 2, 0), "coordinator"),
        ((":80", 2, 0), "coordinator"),
        ((None, 2, 0), "coordinator"),
        (("host:80", 0, 0), "processes"),
        (("host:80", None, 0), "processes"),
        (("host:80", 2, 2), "process"),
        (("host:80", 2, -1), "process"),
        (("host:80", 2, None), "process"),
        (("auto", 2, None), "processes"),
        (("auto", None, 0), "process"),
        (("host:80", 2, 0, 0), "patience"),
        (("auto", None, None), "coordinator"),  # JAX finds none here.
    ],
)
def test_what_is_no_such_program_is_refused_by_name(arguments, field):
    *given, patience = arguments if len(arguments) == 4 else (*arguments, 5)
    with pytest.raises(ValueError, match=rf"^{field}: must be "):
        join(*given, patience=patience)
