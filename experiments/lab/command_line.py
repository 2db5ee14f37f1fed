"""The command line of every experiment: Hydra, one-line errors, exit status 2 on a user's error."""

import contextlib
import functools
import inspect
import io
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.lab import arguments as typed
from experiments.lab import folders as places
from experiments.lab import schema as schemas
from experiments.lab.backend import BackendError
from experiments.lab.experiment import Experiment, conduct
from experiments.lab.folders import Folders
from experiments.lab.memory import FULL
from lora_theory.store.files import ResultsError, WriteError

ROOT = Path(__file__).resolve().parent.parent.parent
CONF = ROOT / "conf"
C = TypeVar("C")

# How JAX begins to say that memory is full, and that a backend can not be started.
_JAX_ERRORS = (FULL, "Unable to initialize backend")


def main(experiment: Experiment[Any, Any, Any]) -> None:
    """Run an experiment as the command line says.

    Its config is `conf/<name>.yaml` in the folder of its script or in one above it; results and
    figures go beside `conf`. What a user gets wrong, a folder that can not be written, a backend
    that can not be started and too little memory end in one line and exit status 2; errors of the
    experiment's own code keep their traceback.
    """
    run = functools.partial(conduct, experiment)
    run_command(experiment.name, experiment.schema, run, _conf_of(experiment))


class ConfError(Exception):
    """A file of `conf/` that is not there or that can not be read, by name."""


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
    composed = False

    @hydra.main(version_base="1.3", config_path=str(conf), config_name=name)
    def entry(cfg: DictConfig) -> None:
        nonlocal composed
        composed = True
        with _one_line_errors():  # Here as well: Hydra would print what passes through it.
            command(_built(schema, cfg), _folders(name, schema, cfg, defaults, conf.parent))

    several = False
    with _one_line_errors(), tempfile.TemporaryDirectory() as scratch:
        defaults = _defaults(name, conf)
        flags, overrides = typed.split(sys.argv[1:])
        try:
            given = typed.parsed(overrides)
            mode = typed.says(given, "hydra.mode")
            several = bool(typed.MULTIRUN & {*flags}) or mode == "MULTIRUN"
            if several:
                for job in typed.jobs(given):  # A wrong one is refused before the first one runs.
                    load(name, schema, job, conf)
            more = _search_path(conf)
            if typed.says(given, "hydra.sweep.dir") is None:  # Hydra writes into it.
                more.append(f"hydra.sweep.dir={scratch}")
            # Of Hydra itself it speaks without any experiment.
            own = [] if "--hydra-help" in flags else overrides
            sys.argv[1:] = [*own, *more, *flags]
            entry()
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            # A job that ran elsewhere may end in any ValueError of its own.
            if composed or (several and isinstance(error, ValueError)):
                raise
            known = schemas.flatten(defaults)
            options = functools.partial(_options, conf=conf)
            raise typed.explained(overrides, error, known, options) from None
        sys.stdout.flush()  # Here, where a reader who has gone is known.


def _settle_surroundings() -> None:
    """What the environment should not decide: how errors come, what a terminal can not show."""
    with contextlib.suppress(ValueError):  # Not in the main thread; then nobody tells it to end.
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # As an interrupt: claims end.
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them.
    os.environ.pop("MPLBACKEND", None)  # Figures are written, never shown.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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


def _folders(
    name: str, schema: type, cfg: DictConfig, defaults: dict[str, Any], root: Path
) -> Folders:
    return places.folders(
        name,
        schemas.roles(schema),
        defaults,
        _plain(cfg, resolve=False),
        root=root,
        out=cfg.out,
        one_of_many=HydraConfig.get().mode == RunMode.MULTIRUN,
    )


def _search_path(conf: Path) -> list[str]:
    return [] if conf == CONF else [f"hydra.searchpath=[file://{CONF}]"]


def _compose(name: str, overrides: list[str] | None, conf: Path) -> DictConfig:
    overrides = [*(overrides or ()), *_search_path(conf)]
    if GlobalHydra.instance().is_initialized():  # Inside a run of `main`.
        return hydra.compose(name, overrides=overrides)
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        return hydra.compose(name, overrides=overrides)


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


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (schemas.ConfigError, ConfError, ResultsError, BackendError) as error:
        _stop(str(error))
    except OmegaConfBaseException as error:
        _stop(f"{error.full_key or 'overrides'}: {str(error).splitlines()[0]}")
    except WriteError as error:
        _stop(f"out: {error.strerror}: {error.filename}")
    except BrokenPipeError:  # Whoever read what is printed has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MemoryError as error:
        _stop(f"out of memory: {error}; try fewer or smaller pieces")
    except RuntimeError as error:
        if not str(error).startswith(_JAX_ERRORS):
            raise
        _stop(f"{type(error).__name__}: {str(error).splitlines()[0]}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what was finished", file=sys.stderr)
        sys.exit(130)


def _stop(line: str) -> None:
    print("error:", " ".join(line.splitlines()), file=sys.stderr)
    sys.exit(2)


def _options(group: str, conf: Path) -> list[str]:
    """The choices of a config group; none if there is no such group."""
    store = ConfigStore.instance()
    offered = store.list(group) if group and group in store.repo else []
    files = [file.name for folder in {conf, CONF} for file in (folder / group).glob("*.yaml")]
    return sorted({name.removesuffix(".yaml") for name in (*offered, *files)}) if group else []
