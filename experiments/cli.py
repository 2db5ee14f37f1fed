"""What all experiments share on the command line: Hydra, one-line errors, where output goes."""

import contextlib
import hashlib
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_theory import config as schemas
from lora_theory.results import ResultsError

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
C = TypeVar("C")

_MULTIRUN = {"-m", "--multirun"}
_FLAGS = _MULTIRUN | {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "--resolve"}
_FLAGS |= {"-i", "--info"}

# Keys that say where output goes or whether to compute, not what is computed.
_PLACE = ("out", "replot")


class Folders(NamedTuple):
    """Where one run reads and writes."""

    results: Path
    figures: Path


def main(name: str, schema: type[C], experiment: Callable[[C, Folders], None]) -> None:
    """Run `experiment` with the config `name`; exit status 2 and one line on any user error."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them.
    composed = False

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)
    def entry(cfg: DictConfig) -> None:
        nonlocal composed
        composed = True
        with _one_line_errors():  # Here as well: Hydra would print what passes through it.
            config = schemas.build(schema, _plain(cfg))
            experiment(config, folders(name, cfg))

    arguments = sys.argv[1:]
    with _one_line_errors(), tempfile.TemporaryDirectory() as scratch:
        try:
            _check_flags(arguments)
            if "hydra.mode=MULTIRUN" in arguments or _MULTIRUN & set(arguments):
                _check_jobs(name, schema, arguments)
            sys.argv.append(f"hydra.sweep.dir={scratch}")  # Hydra insists on one.
            entry()
        except Exception as error:
            if composed or isinstance(error, schemas.ConfigError):
                raise
            raise _explained(name, arguments, error) from None


def folders(name: str, cfg: DictConfig) -> Folders:
    """Results and figures of a run: those of the repository only for the defaults.

    A run that differs goes to `runs/<name>/<what differs>`, or where `out` says; in a multirun
    every job has a folder of its own below `out`.
    """
    # Unresolved: a value that follows another key has not been changed.
    default = schemas.flatten(_plain(_compose(name), resolve=False))
    changed = {
        key: value
        for key, value in schemas.flatten(_plain(cfg, resolve=False)).items()
        if key not in (*_PLACE, "loss") and (key not in default or default[key] != value)
    }
    if cfg.out is not None:
        base = Path(cfg.out).expanduser()
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            base /= _tag(changed)
        return Folders(base / "results" / name, base / "figures")
    computed = {key: value for key, value in changed.items() if not key.startswith("plot.")}

    def home(differences: dict[str, Any]) -> Path:
        return ROOT / "runs" / name / _tag(differences) if differences else ROOT

    return Folders(home(computed) / "results" / name, home(changed) / "figures")


def shown(path: Path) -> str:
    """A path as the user would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def load(name: str, schema: type[C], overrides: list[str] | None = None) -> C:
    """The config `name` with overrides, for notebooks and tests."""
    return schemas.build(schema, _plain(_compose(name, overrides)))


def _compose(name: str, overrides: list[str] | None = None) -> DictConfig:
    if GlobalHydra.instance().is_initialized():  # Inside a run of `main`.
        return hydra.compose(name, overrides=overrides)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, overrides=overrides)


def _plain(composed: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    data = OmegaConf.to_container(composed, resolve=resolve)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items() if key != "hydra"}


def _tag(changed: dict[str, Any]) -> str:
    text = ",".join(f"{key}={value}" for key, value in sorted(changed.items())) or "default"
    name = "".join(c if c.isalnum() or c in "=,._-" else "_" for c in text)
    if len(name) <= 200:
        return name
    return f"{name[:180]},{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _check_flags(arguments: list[str]) -> None:
    """Refuse a flag that Hydra does not know in one line; it would print its usage."""
    for argument in arguments:
        flag = argument.split("=")[0]
        if flag.startswith("-") and flag not in _FLAGS:
            raise schemas.ConfigError(flag, f"must be one of {', '.join(sorted(_FLAGS))}", argument)


def _check_jobs(name: str, schema: type[C], arguments: list[str]) -> None:
    """Refuse a multirun of which any job has a wrong config, before the first one runs."""
    overrides = OverridesParser.create().parse_overrides([a for a in arguments if a[0] != "-"])
    choices = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in overrides
    ]
    for job in itertools.product(*choices):
        load(name, schema, list(job))


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (schemas.ConfigError, ResultsError) as error:
        _stop(str(error))
    except OmegaConfBaseException as error:
        _stop(f"{error.full_key or 'overrides'}: {str(error).splitlines()[0]}")
    except OSError as error:
        _stop(f"out: {error.strerror or error}: {error.filename or 'while writing'}")
    except MemoryError as error:
        _stop(f"out of memory: {error}; try a smaller model.width, engine.chunk or steps")
    except RuntimeError as error:  # JAX's: no such backend, out of memory, too many devices.
        _stop(f"{type(error).__name__}: {str(error).splitlines()[0]}")
    except AssertionError as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        if platforms is None:
            raise
        _stop(f"JAX_PLATFORMS: must name a backend that is here (got {platforms}) {error}".rstrip())
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what was finished", file=sys.stderr)
        sys.exit(130)


def _stop(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def _explained(name: str, arguments: list[str], error: Exception) -> schemas.ConfigError:
    """Hydra's complaint about the command line, as one line that names the key at fault."""
    known = schemas.flatten(_plain(_compose(name)))
    groups = {path.name: path for path in CONF.iterdir() if path.is_dir()}
    for override in arguments:
        key, _, value = override.lstrip("+~").partition("=")
        if override.startswith("-") or key.split(".")[0] == "hydra":
            continue
        if key in groups:
            options = sorted(file.stem for file in groups[key].glob("*.yaml"))
            if value not in options:
                return schemas.ConfigError(key, f"must be one of {', '.join(options)}", value)
        elif key not in known:
            return schemas.ConfigError(key, schemas.unknown_key(key, known), value)
    shown = " ".join(argument for argument in arguments if "=" in argument or argument[0] != "-")
    return schemas.ConfigError("overrides", str(error).splitlines()[0].rstrip("."), shown)
