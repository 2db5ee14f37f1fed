"""Where a number comes from: the config that decided it, the versions, and the code that ran."""

import hashlib
import importlib.metadata
import json
import os
import platform
from typing import Any, NamedTuple

# Libraries whose version decides rounding.
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")
# Flags of XLA that change no number: how many devices there are, and what is written down.
_NO_NUMBERS = (
    "--xla_force_host_platform_device_count",
    "--xla_dump_",
    "--xla_hlo_profile",
    "--xla_gpu_deterministic_ops=true",  # Always, as `train.devices.pin_numerics` has it.
)


class Provenance(NamedTuple):
    """What decides a result.

    Attributes:
        config: the values that decide it, as plain data.
        versions: library -> version, and the backend.
        code: digest of the code that computes, from `store.code.code_digest`.
    """

    config: dict[str, Any]
    versions: dict[str, str]
    code: str

    @classmethod
    def of(cls, data: Any) -> "Provenance":
        """From plain data, as it was saved.

        Raises:
            ValueError: it is none.

        >>> Provenance.of({"config": {}, "versions": {"jax": 0.1}, "code": "a"})
        Traceback (most recent call last):
        ...
        ValueError: provenance: must be a config, versions and a digest of code
        """
        whole = isinstance(data, dict) and data.keys() == set(cls._fields)
        if not (
            whole
            and isinstance(data["config"], dict)
            and isinstance(data["versions"], dict)
            and all(isinstance(version, str) for version in data["versions"].values())
            and isinstance(data["code"], str)
        ):
            raise ValueError("provenance: must be a config, versions and a digest of code")
        return cls(**data)

    @property
    def digest(self) -> str:
        """Short name of all three."""
        text = json.dumps(self, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def difference(self, other: "Provenance") -> str | None:
        """In words, the first thing in which `other` differs; None if nothing does.

        >>> now = Provenance({"seeds": 3}, {"jax": "0.10"}, "a")
        >>> now.difference(Provenance({"seeds": 3}, {"jax": "0.9"}, "a"))
        'jax is 0.9 there and 0.10 here'
        """
        changed = difference(self.config, other.config)
        if changed is None:
            changed = difference(self.versions, other.versions)
        if changed is not None:
            key, here, there = changed
            return f"{key} is {there} there and {here} here"
        return "the code that computes has changed" if self.code != other.code else None


def difference(asked: dict[str, Any], saved: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first key of nested data that is not the same in both: (key, asked, saved).

    >>> difference({"model": {"width": 8}}, {"model": {"width": 9, "rank": 1}})
    ('model.width', 8, 9)
    >>> difference({"seeds": 3}, {"seeds": 3, "steps": 9})
    ('steps', 'missing', 9)
    """
    if not isinstance(saved, dict):
        return (path.rstrip("."), asked, saved)
    for key in dict.fromkeys((*asked, *saved)):
        ours, theirs = asked.get(key, "missing"), saved.get(key, "missing")
        if isinstance(ours, dict):
            if (inner := difference(ours, theirs, f"{path}{key}.")) is not None:
                return inner
        elif ours != theirs:
            return f"{path}{key}", ours, theirs
    return None


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide rounding; starts none of them.

    Flags of XLA belong to them where they are set, but for those that change no number.

    >>> sorted(library_versions())[-1]
    'scipy'
    """
    major, minor, _ = platform.python_version_tuple()
    found = {"python": f"{major}.{minor}"}
    found |= {name: importlib.metadata.version(name) for name in _LIBRARIES}
    flags = os.environ.get("XLA_FLAGS", "").split()
    rounding = " ".join(sorted(flag for flag in flags if not flag.startswith(_NO_NUMBERS)))
    return found | ({"XLA_FLAGS": rounding} if rounding else {})
