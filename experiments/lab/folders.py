"""Where a run reads and writes, and whether it can."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.lab.schema import ConfigError, Role, flatten, role_of
from experiments.lab.values import in_bytes
from lora_theory.store.files import WriteError, cut, is_there, writing


class Folders(NamedTuple):
    """Where one run reads and writes."""

    results: Path
    figures: Path

    @property
    def beside(self) -> bool:
        """Whether figures lie beside the results, as where nothing is drawn in a way of its own."""
        return self.figures.parent == self.results.parent.parent


def folders(
    name: str,
    roles: Mapping[str, Role],
    default: Mapping[str, Any],
    asked: Mapping[str, Any],
    *,
    root: Path,
    out: str | None,
    one_of_many: bool,
) -> Folders:
    """Results and figures of a run: those of the repository only for the defaults.

    A run that differs goes to `runs/<name>/<what differs>`, or where `out` says; in a multirun
    every job has folders of its own below `out`, of which those that differ only in what is drawn
    share the results. What counts as different, `schema.Role` says.

    Args:
        name: of the experiment.
        roles: of its fields.
        default, asked: nested configs.
        root: the repository.
        out: the folder that the user chose.
        one_of_many: whether this is a job of a multirun.
    """
    before = flatten(default)
    changed = {
        key: value
        for key, value in flatten(asked).items()
        if _role(roles, key) in (Role.SCIENCE, Role.DRAWING)
        and (key not in before or before[key] != value)
    }
    computed = {key: v for key, v in changed.items() if _role(roles, key) is Role.SCIENCE}

    def home(differences: dict[str, Any]) -> Path:
        if out is not None:
            base = Path(out).expanduser()
            return base / tag(differences) if one_of_many else base
        return root / "runs" / name / tag(differences) if differences else root

    return Folders(home(computed) / "results" / name, home(changed) / "figures")


def _role(roles: Mapping[str, Role], key: str) -> Role:
    return role_of(roles, key) or Role.SCIENCE  # Unknown keys are refused when it is built.


def tag(changed: dict[str, Any]) -> str:
    """What differs, as the name of a folder.

    >>> tag({"model.width": 64, "loss": ["mse"]})
    'loss=__mse__,model.width=64'
    """
    text = ",".join(f"{key}={value}" for key, value in sorted(changed.items())) or "default"
    name = "".join(c if c.isalnum() or c in "=,._-" else "_" for c in text)
    if len(name.encode()) <= 200:
        return name
    return f"{cut(name, 180)},{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def check_writable(places: Folders) -> None:
    """Make the folders; none of them if one can not be made.

    Raises:
        WriteError: what would otherwise come after the work.
    """
    made: list[Path] = []
    try:
        for folder in places:
            with writing(folder):
                made += reversed([f for f in (folder, *folder.parents) if not is_there(f)])
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
    except WriteError:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def check_room(folder: Path, need: int) -> None:
    """Refuse a disk that is known to be too full, before anything is computed or made.

    Raises:
        ConfigError: less than `need` bytes are free.
        WriteError: there can be no such folder.
    """
    with writing(folder):
        there = next(f for f in (folder, *folder.parents) if is_there(f))
        free = shutil.disk_usage(there).free
    if need > free:
        raise ConfigError("out", f"must have {in_bytes(need)} free", f"{in_bytes(free)} in {there}")


def shown(path: Path) -> str:
    """A path as the user would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
