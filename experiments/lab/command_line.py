"""The command line of every experiment: Hydra, one-line errors, exit status 2 on a user's error."""

import contextlib
import functools
import inspect
import io
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.lab import arguments as typed
from experiments.lab import folders as places
from experiments.lab import schema as schemas
from experiments.lab.errors import ConfError, one_line_errors
from experiments.lab.experiment import Experiment, conduct
from experiments.lab.folders import Folders
from experiments.lab.jobs import Task
from experiments.lab.multirun import Multirun

ROOT = Path(__file__).resolve().parent.parent.parent
CONF = ROOT / "conf"
C = TypeVar("C")
# What a process is told to end by: by anybody, and by Slurm some time before its limit.
_ENDING = (signal.SIGTERM, signal.SIGUSR2)


def main(experiment: Experiment[Any, Any, Any]) -> None:
    """Run an experiment as the command line says.

    Its config is `conf/<name>.yaml` in the folder of its script or in one above it; results and
    figures go beside `conf`. What a user gets wrong, a folder that can not be written, a backend
    that can not be started and too little memory end in one line and exit status 2; errors of the
    experiment's own code keep their traceback.
    """
    run = functools.partial(conduct, experiment)
    run_command(experiment.name, experiment.schema, run, _conf_of(experiment))


def _conf_of(experiment: Experiment[Any, Any, Any]) -> Path:
    try:
        file = inspect.getfile(type(experiment))
    except (OSError, TypeError):  # Its module is not listed, as when another program runs it.
        file = type(experiment).plan.__code__.co_filename
    script = Path(file).resolve()
    found = [f / "conf" for f in script.parents if (f / f"conf/{experiment.name}.yaml").is_file()]
    return found[0] if found else script.parent / "conf"


def run_command(
    name: str, schema: type[C], command: Callable[[C, Folders], None], conf: Path = CONF
) -> None:
    """Run `command` with the config `name`; exit status 2 and one line on any user error."""
    _settle_surroundings()
    command_line = _command_line()
    with one_line_errors(), contextlib.ExitStack() as scratch:
        defaults, roles = _defaults(name, conf), schemas.roles(schema)
        flags, overrides = typed.split(sys.argv[1:])
        multirun: Multirun | None = None
        composed = False

        def run(cfg: DictConfig) -> None:
            nonlocal composed
            composed = True
            with one_line_errors():  # Here as well: Hydra would print what passes through it.
                asked, many = _plain(cfg, resolve=False), multirun is not None and multirun.many
                where = places.folders(
                    name, roles, defaults, asked, root=conf.parent, out=cfg.out, one_of_many=many
                )
                command(_built(schema, cfg), where)

        try:
            given = typed.parsed(overrides)
            compose = functools.partial(_compose, name, conf=conf, with_hydra=True)
            multirun = Multirun.of(given, flags, roles, compose)
            more = _search_path(conf)
            running: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if multirun is not None:
                # A wrong job is refused before the first one runs.
                for job in multirun.jobs if multirun.many else multirun.jobs[:1]:
                    load(name, schema, job, conf)
                sweep = str(multirun.config.sweep.dir)  # Hydra writes into it.
                if sweep == ".":
                    sweep = scratch.enter_context(tempfile.TemporaryDirectory())
                multirun.begin(Path(sweep))
                more.append(f"hydra.sweep.dir={typed.quoted(sweep)}")
                running = multirun.running(Path(sweep))
            # Of Hydra itself it speaks without any experiment.
            own = [] if "--hydra-help" in flags else overrides
            sys.argv[1:] = [*own, *more, *flags]
            several = ["-m"] if multirun is not None and multirun.many else []
            task = Task(run, command_line, several)
            entry = hydra.main(version_base="1.3", config_path=str(conf), config_name=name)(task)
            with running:
                entry()
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            # A job that ran elsewhere may end in any ValueError of its own.
            if composed or (multirun is not None and isinstance(error, ValueError)):
                raise
            known = schemas.flatten(defaults)
            options = functools.partial(_options, conf=conf)
            raise typed.explained(overrides, error, known, options) from None
        sys.stdout.flush()  # Here, where a reader who has gone is known.


def _command_line() -> list[str]:
    """How this process was started, without what was typed behind: `python -m experiments.fig2`."""
    whole = sys.orig_argv
    return [sys.executable, *whole[1 : len(whole) - len(sys.argv[1:])]]


def _settle_surroundings() -> None:
    """What the environment should not decide: how errors come, what a terminal can not show."""
    with contextlib.suppress(ValueError):  # Not in the main thread; then nobody tells it to end.
        for number in _ENDING:
            signal.signal(number, _interrupt)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them.
    os.environ.pop("MPLBACKEND", None)  # Figures are written, never shown.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupt(number: int, frame: object) -> None:
    """End as at Ctrl-C, so that claims are given back; and let nothing come between."""
    for other in _ENDING:
        signal.signal(other, lambda *_: None)  # What is on its way already finds nothing to do.
    raise KeyboardInterrupt


def load(name: str, schema: type[C], overrides: list[str] | None = None, conf: Path = CONF) -> C:
    """The config `name` with overrides, for notebooks and tests."""
    return schemas.build(schema, _plain(_compose(name, overrides, conf)))


def _built(schema: type[C], cfg: DictConfig) -> C:
    """The config; an error shows a variable of the environment by its name."""
    try:
        return schemas.build(schema, _plain(cfg))
    except schemas.ConfigError as error:
        text = str(schemas.flatten(_plain(cfg, resolve=False)).get(error.field))
        if "oc.env:" not in text:
            raise
        raise schemas.ConfigError(error.field, error.allowed, text) from None


def _search_path(conf: Path) -> list[str]:
    return [] if conf == CONF else [f"hydra.searchpath=[file://{CONF}]"]


def _compose(
    name: str, overrides: list[str] | None, conf: Path, *, with_hydra: bool = False
) -> DictConfig:
    overrides = [*(overrides or ()), *_search_path(conf)]
    if GlobalHydra.instance().is_initialized():  # Inside a run of `main`.
        return hydra.compose(name, overrides=overrides, return_hydra_config=with_hydra)
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        return hydra.compose(name, overrides=overrides, return_hydra_config=with_hydra)


def _plain(composed: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    data = OmegaConf.to_container(composed, resolve=resolve)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items() if key != "hydra"}


def _defaults(name: str, conf: Path) -> dict[str, Any]:
    """The config as its file has it, read before what was typed is looked at.

    Unresolved: a value that follows another key has not been changed.

    Raises:
        ConfError: it is not there, or broken.
    """
    if not (CONF / "cli.yaml").is_file():
        where = "run it in a checkout, or install one with pip install -e"
        raise ConfError(f"{CONF}: no configs here; {where}")
    path = conf / f"{name}.yaml"
    if not path.is_file():
        above = " and in conf/ of the folders above" if conf != CONF else ""
        raise ConfError(f"{name}.yaml: no such config (looked for in {conf}{above})")
    try:
        return _plain(_compose(name, None, conf), resolve=False)
    except Exception as error:  # Of YAML, OmegaConf or Hydra, a dozen kinds.
        said = " ".join(str(error).split())
        raise ConfError(f"{path}: can not be read: {said[:300]}") from None


def _options(group: str, conf: Path) -> list[str]:
    """The choices of a config group; none if there is no such group."""
    store = ConfigStore.instance()
    offered = store.list(group) if group and group in store.repo else []
    files = [file.name for folder in {conf, CONF} for file in (folder / group).glob("*.yaml")]
    return sorted({name.removesuffix(".yaml") for name in (*offered, *files)}) if group else []
