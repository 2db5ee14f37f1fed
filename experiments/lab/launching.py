"""Launchers that start jobs elsewhere: what they need beforehand, and what they say in one line."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.lab.schema import ConfigError
from lora_theory.store.files import writing

_SECONDS = 30  # That Slurm's own commands are given to answer.


class LaunchError(Exception):
    """Jobs that could not be started, or of which their launcher does not know: one line."""


def check_installed() -> None:
    """Refuse a cluster where its launcher is not installed.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        how = ".venv/bin/pip install -c constraints.txt -e '.[experiments,cluster]'"
        raise ConfigError("cluster", f"must be left out, or its launcher installed: {how}", "it")


def check(hydra_config: DictConfig) -> None:
    """Refuse a Slurm that is not there.

    Raises:
        LaunchError: there is none, or it does not answer.
        ConfigError: it has no such partition.
    """
    if not _is_slurm(hydra_config):
        return
    for command in ("sbatch", "sinfo"):
        if shutil.which(command) is None:
            raise LaunchError(f"cluster: no Slurm here ({command} is not on the path)")
    if not _answers("sinfo", "--noheader"):
        raise LaunchError("cluster: Slurm does not answer (sinfo fails)")
    _check_partition(hydra_config.launcher.partition)


def prepare(hydra_config: DictConfig) -> None:
    """What a launcher of submitit needs before it starts: its folder, on the shared disk.

    A job whose folder for logs is not there yet fails without a word.

    Raises:
        WriteError: the folder can not be made.
    """
    folder = Path(str(hydra_config.launcher.submitit_folder))
    if "%j" not in str(folder):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    if _is_slurm(hydra_config) and not _answers("sacct", "--noheader", "--jobs=1"):
        _ask_the_queue()


def _check_partition(asked: str | None) -> None:
    known = _partitions()
    for name in (asked or "").split(","):
        if name and known and name not in known:
            allowed = f"must be one of {', '.join(known)}"
            raise ConfigError("hydra.launcher.partition", allowed, name)


def _is_slurm(hydra_config: DictConfig) -> bool:
    return str(hydra_config.launcher._target_).endswith("SlurmLauncher")


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _ask_the_queue() -> None:
    """Let submitit learn from `squeue` what has ended, on clusters that keep no accounts.

    Of a job that was killed it would wait for ever.
    """
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class QueueWatcher(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            if not self._registered - self._finished:
                return None
            return ["squeue", "--noheader", "--states=all", "--array", "--format=%i|%T|%N"]

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            text = string if isinstance(string, str) else string.decode()
            listed = {}
            for line in text.splitlines():
                job, state, nodes = line.split("|")
                listed[job] = {"JobID": job, "State": state, "NodeList": nodes}
            # Some minutes after its end Slurm forgets a job.
            gone = {job: {"JobID": job, "State": "GONE"} for job in self._registered - {*listed}}
            return listed | gone

    SlurmJob.watcher = QueueWatcher(delay_s=20)


def were_sent(error: Exception) -> bool:
    """Whether an error is one of jobs that were started, and not of starting them."""
    return str(error).startswith("Job")


def explained(error: Exception) -> LaunchError:
    """What a launcher complains of, as one line."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = next((line for line in lines if "error:" in line), lines[0])
    if "generic resource" in said:
        return LaunchError(
            "hydra.launcher.gpus_per_node: must be what Slurm has here, null for none "
            f"({said.removeprefix('sbatch: error: ')})"
        )
    return LaunchError(f"cluster: {said.removeprefix('sbatch: error: ')[:300]}")


def _partitions() -> list[str]:
    """Those that Slurm names; none where it says nothing."""
    try:
        command = ["sinfo", "--noheader", "--format=%R"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return sorted({*done.stdout.split()})


def starts_elsewhere(hydra_config: Any) -> bool:
    """Whether jobs run in processes that a launcher starts."""
    return "submitit_folder" in hydra_config.launcher
