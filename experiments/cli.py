"""What all experiments share on the command line: Hydra, one-line errors, where output goes."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_theory import config as schemas
from lora_theory.results import ResultsError

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
C = TypeVar("C")

# Keys that say where output goes or whether to compute, not what is computed.
_PLACE = ("out", "replot")


class Folders(NamedTuple):
    """Where one run reads and writes."""

    results: Path
    figures: Path


def main(name: str, schema: type[C], experiment: Callable[[C, Folders], None]) -> None:
    """Run `experiment` with the config `name`; exit status 2 and one line on any user error."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them.

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)
    def entry(composed: DictConfig) -> None:
        data = _plain(composed)
        with _one_line_errors():
            experiment(schemas.build(schema, data), folders(name, data))

    with _one_line_errors(), tempfile.TemporaryDirectory() as scratch:
        sys.argv.append(f"hydra.sweep.dir={scratch}")
        try:
            entry()
        except HydraException as error:
            raise _explained(name, error) from None


def folders(name: str, data: dict[str, Any]) -> Folders:
    """Results and figures of a run: those of the repository only for the defaults.

    A run that differs goes to `runs/<name>/<what differs>`, or where `out` says; in a multirun
    every job has a folder of its own below `out`.
    """
    default = schemas.flatten(_plain(_compose(name)))
    changed = {
        key: value
        for key, value in schemas.flatten(data).items()
        if key not in (*_PLACE, "loss") and (key not in default or default[key] != value)
    }
    if data["out"] is not None:
        base = Path(data["out"]).expanduser()
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
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return schemas.build(schema, _plain(_compose(name, overrides)))


def _compose(name: str, overrides: list[str] | None = None) -> DictConfig:
    return hydra.compose(name, overrides=overrides)


def _plain(composed: DictConfig) -> dict[str, Any]:
    data = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items() if key != "hydra"}


def _tag(changed: dict[str, Any]) -> str:
    text = ",".join(f"{key}={value}" for key, value in sorted(changed.items())) or "default"
    return "".join(c if c.isalnum() or c in "=,._-" else "_" for c in text)[:200]


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (schemas.ConfigError, ResultsError, HydraException, OmegaConfBaseException) as error:
        _stop(str(error).splitlines()[0])
    except OSError as error:
        _stop(f"{error.filename or 'out'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what was finished", file=sys.stderr)
        sys.exit(130)


def _stop(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def _explained(name: str, error: Exception) -> Exception:
    """Hydra's complaint about an override, as a line that names the nearest known key."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        known = schemas.flatten(_plain(_compose(name)))
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    for override in sys.argv[1:]:
        key, equals, value = override.lstrip("+~").partition("=")
        if equals and not key.startswith(("hydra", "-")) and key not in {*known, *groups}:
            return schemas.ConfigError(key, schemas.unknown_key(key, known), value)
    return error
