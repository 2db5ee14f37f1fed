"""A multirun as it is typed: its jobs, where they run, whether each has a folder of its own."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from experiments.lab import arguments as typed
from experiments.lab import jobs, launching
from experiments.lab.errors import stopped
from experiments.lab.schema import ConfigError, Role, role_of
from lora_theory.store.files import writing

_SHARING = (Role.LAYOUT, Role.PLACE)
MOST = 10**4  # Jobs.


class Multirun(NamedTuple):
    """What there will be.

    Attributes:
        jobs: all overrides of every job; empty if only Hydra knows them.
        swept: of every job, those that are its own.
        many: whether jobs compute different things, each in a folder of its own; otherwise they
            share the work of one.
        config: Hydra's own.
    """

    jobs: list[list[str]]
    swept: list[list[str]]
    many: bool
    config: DictConfig

    @classmethod
    def of(
        cls,
        given: Sequence[Override],
        flags: Sequence[str],
        roles: Mapping[str, Role],
        compose: Callable[[list[str]], DictConfig],
    ) -> "Multirun | None":
        """That of a command line; None if it is a single run.

        Args:
            given: the overrides.
            flags: the flags.
            roles: of the schema's fields.
            compose: overrides -> the config with Hydra's own part.
        """
        asks = [o.get_key_element().lstrip("+~").split(".")[0] for o in given]
        if not (typed.MULTIRUN & {*flags} or {"hydra", "cluster"} & {*asks}):
            return None
        if "cluster" in asks:
            launching.check_installed()
        composed = compose([str(o.input_line) for o in given if not o.is_sweep_override()])
        config = composed["hydra"]
        several = typed.MULTIRUN & {*flags} or str(config.mode or "").endswith("MULTIRUN")
        if not several:
            return None
        _check(given, composed)
        params = (config.sweeper.params or {}) if "params" in config.sweeper else {}
        more = typed.parsed([f"{key}={value}" for key, value in params.items()])
        last = {o.get_key_element(): o for o in (*more, *given)}
        swept = [o for o in last.values() if o.is_sweep_override()]
        listed = list(itertools.islice(typed.jobs(swept, MOST + 1), MOST + 1))
        if len(listed) > MOST:
            raise ConfigError("jobs", f"must be at most {MOST} in a multirun", f"more than {MOST}")
        kinds = {role_of(roles, o.key_or_group) for o in swept}
        return cls(
            list(typed.jobs([*last.values()], MOST)),
            listed,
            not kinds or not kinds <= {*_SHARING},
            config,
        )

    def begin(self, folder: Path) -> None:
        """Make the sweep's folder, without what jobs of an earlier one said there.

        Raises:
            WriteError: it can not be written.
            LaunchError, ConfigError: there is no such launcher here.
        """
        if self.elsewhere:
            launching.check(self.config)
        with writing(folder / "jobs"):
            (folder / "jobs").mkdir(parents=True, exist_ok=True)
            for said in (folder / "jobs").glob("*.json"):
                said.unlink(missing_ok=True)
        if self.elsewhere:
            launching.prepare(self.config)

    @property
    def elsewhere(self) -> bool:
        """Whether a launcher starts them in processes of their own."""
        return launching.starts_elsewhere(self.config)

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[None]:
        """Run the jobs in the block, and say what became of them.

        Args:
            folder: of the sweep.

        Raises:
            LaunchError: none was started.
            SystemExit: some failed or are missing; with their status.
        """
        summed_up = functools.partial(jobs.summary, folder / "jobs", self.swept)
        if self.elsewhere:
            where = self.config.launcher.submitit_folder
            line = f"{len(self.swept)} jobs, which print into {where}; the same command with"
            print(line, "the word status says how far they are", flush=True)
        try:
            yield
        except Exception as error:
            if not self.elsewhere:
                print(*summed_up()[0], sep="\n")
                raise
            if not launching.were_sent(error):
                raise launching.explained(error) from None
        except KeyboardInterrupt:
            if not self.elsewhere:
                raise
            line = "stopped waiting; the jobs go on, and the word status says how far they are"
            raise stopped(line) from None
        lines, status = summed_up()
        if self.elsewhere or status or len(self.swept) > 1:
            print(*lines, sep="\n")
        if status:
            raise SystemExit(status)


def _check(given: Sequence[Override], composed: DictConfig) -> None:
    """Refuse what no jobs can be made of, before they are listed."""
    for override in given:
        if override.get_key_element().lstrip("+") == "cluster" and override.is_sweep_override():
            raise ConfigError("cluster", "must be one of them", override.input_line)
    asked = composed.get("jobs", 1)
    if not (type(asked) is int and 1 <= asked <= MOST):
        raise ConfigError("jobs", f"must be an integer from 1 to {MOST}", asked)
