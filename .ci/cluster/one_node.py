"""A Slurm of one node on loopback, that a test starts and ends: `with one_node() as slurm: …`."""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
# Debian installs daemons where only root's PATH looks.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
# A stop and a requeue take seconds here, not minutes: a requeued job is held off for `cred_expire`
# seconds (120 if that is 1). Time limits are looked at every 30 seconds, as on all clusters. The
# ports listen on all addresses, and refuse whoever does not have the key of munge.
CONF = """\
ClusterName=one
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_s}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
DefMemPerCPU=256
OverTimeLimit=0
KillWait={kill_wait_s}
InactiveLimit=0
NodeName=one NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb}
"""
# What submitit asks sacct, answered from the controller's memory: there is no accounting.
SACCT = """\
#!/bin/sh
echo 'JobID|State|NodeList'
exec squeue --noheader --states=all --format='%i|%T|%N'
"""


class SlurmError(RuntimeError):
    """Slurm did not start, or a job did not become what was waited for."""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm.

    Args:
        folder: where everything of it lies, and which goes with it.
        environment: of processes that are to use it: SLURM_CONF and PATH.
    """

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """What a command of Slurm says; raises `subprocess.CalledProcessError` if it fails."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout

    def submit(self, *command: str) -> str:
        """The id of a job that runs a command of bash."""
        *options, script = command
        log = f"--output={self.folder}/%j.out"
        sent = self.run("sbatch", "--parsable", log, *options, f"--wrap={script}")
        return sent.strip()

    def states(self) -> dict[str, str]:
        """The state of each job, the last minutes' ended ones too, e.g. {"1_0": "RUNNING"}."""
        lines = self.run("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
        return dict(line.split() for line in lines.splitlines())

    def wait(self, job: str, *states: str, timeout_s: float = 30) -> str:
        """Wait until a job is in one of these states; which."""
        return until(
            lambda: (found := self.states().get(job)) in states and found,
            timeout_s,
            lambda: f"job {job}: must become {' or '.join(states)} (got {self.states().get(job)})",
        )

    def cancel(self, *jobs: str) -> None:
        """Cancel jobs, all where none is named."""
        self.run("scancel", *(jobs or [f"--user={getpass.getuser()}"]))


def until(true: Callable, timeout_s: float, otherwise: Callable[[], str]):
    """What `true()` says once it says something; raises `SlurmError` after `timeout_s` seconds."""
    end = time.monotonic() + timeout_s
    while not (found := true()):
        if time.monotonic() > end:
            raise SlurmError(f"{otherwise()} within {timeout_s:g} s")
        time.sleep(0.05)
    return found


def missing() -> list[str]:
    """Which programs are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


@contextmanager
def one_node(
    cpus: int = 4,
    memory_mb: int = 4096,
    partitions: Sequence[str] = ("main", "other"),
    kill_wait_s: int = 2,
    requeue_s: int = 5,
    accounting: bool = True,
) -> Iterator[Slurm]:
    """A Slurm of one node, as long as the context lasts.

    Args:
        cpus: how many the node claims to have, whatever the machine has.
        memory_mb: how much memory, in MB, it claims to have.
        partitions: names; the first is the default. They share the node.
        kill_wait_s: seconds from SIGTERM to SIGKILL.
        requeue_s: for how many seconds at least a requeued job waits.
        accounting: whether there is a `sacct` that answers, as submitit asks for.

    Raises:
        SlurmError: a daemon ended or the node is not idle in time; with the end of the logs.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    conf = folder / "slurm.conf"
    own = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))}
    path = f"{folder / 'bin'}:{PATH}"
    slurm = Slurm(folder, own | {"SLURM_CONF": str(conf), "PATH": path})
    with ExitStack() as daemons, guarded(folder):
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        if accounting:
            (folder / "bin" / "sacct").write_text(SACCT)
            (folder / "bin" / "sacct").chmod(0o755)
        ports, user = free_ports(2), getpass.getuser()
        written = CONF.format(**locals())
        for index, name in enumerate(partitions):
            written += f"PartitionName={name} Nodes=one Default={'NO' if index else 'YES'}\n"
        conf.write_text(written)
        start_daemons(slurm, daemons)
        yield slurm


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """With the context end the folder and every process of it, even if this process is killed.

    A process of its own waits for the end and clears up.
    """
    with subprocess.Popen(
        [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, start_new_session=True
    ):
        yield  # Leaving the context closes its standard input, and waits for it.


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def start_daemons(slurm: Slurm, daemons: ExitStack, timeout_s: float = 30) -> None:
    """Start them one after another, each when the one before answers."""
    folder = slurm.folder
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    munge = [f"--socket={folder}/munge.socket"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    conf = slurm.environment["SLURM_CONF"]
    started: dict[str, subprocess.Popen] = {}

    def start(name: str, *arguments: str) -> None:
        with open(folder / f"{name}.log", "w") as log:
            started[name] = daemons.enter_context(
                subprocess.Popen(
                    [name, *arguments],
                    env=slurm.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def said() -> str:
        ends = (f"{name}.log: {(folder / f'{name}.log').read_text()[-1500:]}" for name in started)
        return "Slurm must become idle, see the logs:\n" + "\n".join(ends) + "\n"

    def answers(*command: str, expected: str = "") -> bool:
        if any(process.poll() is not None for process in started.values()):
            raise SlurmError(said())
        with suppress(subprocess.SubprocessError):
            return slurm.run(*command).startswith(expected)
        return False

    start("munged", "--foreground", "--force", *munge)
    until(lambda: answers("munge", "-n", f"--socket={folder}/munge.socket"), timeout_s, said)
    start("slurmctld", "-D", "-f", conf)
    start("slurmd", "-D", "-f", conf, "-N", "one")
    idle = ("sinfo", "--noheader", "--format=%T")
    until(lambda: answers(*idle, expected="idle"), timeout_s, said)


def end_processes(conf: str) -> None:
    """End every process, daemon or job, whose environment names this configuration."""
    for sent, patience_s in ((signal.SIGTERM, 1), (signal.SIGKILL, 5)):
        end = time.monotonic() + patience_s
        while time.monotonic() < end and (found := processes(conf)):
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, sent)
            time.sleep(0.05)


def processes(conf: str) -> list[int]:
    """The ids of the processes whose environment names this configuration."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environ.read_bytes().split(b"\0")
        except OSError:  # Ended meanwhile, or somebody else's.
            continue
        if f"SLURM_CONF={conf}".encode() in variables:
            found.append(int(environ.parent.name))
    return found


if __name__ == "__main__":
    sys.stdin.read()  # Until whoever started this closes it, or ends.
    end_processes(f"{sys.argv[1]}/slurm.conf")
    shutil.rmtree(sys.argv[1])
