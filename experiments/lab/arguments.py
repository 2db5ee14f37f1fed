"""What stands on the command line: flags and overrides, and what is wrong with them in one line."""

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException

from experiments.lab.schema import ConfigError, unknown_key

MULTIRUN = {"-m", "--multirun"}
_CFG = ("job", "hydra", "all")
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# What may follow a flag.
_CHOICES = {"-c": _CFG, "--cfg": _CFG, "-i": _INFO, "--info": _INFO}
# Words that are overrides; overrides that compute nothing, and what these leave out.
_WORDS = {"status": "status=true", "plan": "plan=true"}
_IDLE = {*_WORDS.values(), "replot=true"}
_ELSEWHERE = re.compile(r"\+*(cluster=|hydra[./]launcher)")
_FLAGS = {*MULTIRUN, *_CHOICES, "-h", "--help", "--hydra-help", "--version", "--resolve"}


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags, each with what follows it, and overrides: Hydra reads them in few orders only.

    The words `status` and `plan` alone are the overrides that ask for it; what computes nothing
    starts no jobs elsewhere.

    Raises:
        ConfigError: a flag that is not known, or without its value.

    >>> split(["seeds=3", "--resolve", "--cfg", "job", "steps=1"])
    (['--resolve', '--cfg=job'], ['seeds=3', 'steps=1'])
    >>> split(["status", "-m", "+cluster=slurm"])
    (['-m'], ['status=true'])
    """
    flags, overrides, left = [], [], list(arguments)
    while left:
        argument = left.pop(0)
        flag, given, value = argument.partition("=")
        if not argument.startswith("-"):
            overrides.append(_WORDS.get(argument, argument))
        elif flag not in _FLAGS:
            raise ConfigError(flag, f"must be one of {', '.join(sorted(_FLAGS))}", argument)
        elif flag not in _CHOICES:
            flags.append(argument)
        else:
            choices = _CHOICES[flag]
            if not given:
                follows = bool(left) and left[0] in choices
                value = left.pop(0) if follows else "all" if choices is _INFO else "nothing"
            if value not in choices:
                raise ConfigError(flag, f"must be followed by one of {', '.join(choices)}", value)
            flags.append(f"{'--info' if choices is _INFO else '--cfg'}={value}")
    modes = [f for f in flags if f in MULTIRUN or f.startswith(("--cfg", "--info"))]
    if len({"-m" if f in MULTIRUN else f.partition("=")[0] for f in modes}) > 1:
        raise ConfigError(modes[-1], f"must be given without {modes[0]}", modes[-1])
    if "--resolve" in flags and not any(f.startswith(("--cfg", "--help", "-h")) for f in flags):
        raise ConfigError("--resolve", "must be given with --cfg", "--resolve")
    if {*overrides} & _IDLE:
        overrides = [given for given in overrides if not _ELSEWHERE.match(given)]
    return flags, overrides


def parsed(overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra reads them.

    Raises:
        ConfigError: one that it can not read, by name.

    >>> [override.key_or_group for override in parsed(["out='x(1)'", "~steps"])]
    ['out', 'steps']
    """
    found = []
    for text in overrides:
        key, given, value = text.lstrip("+~").partition("=")
        if not key:
            raise ConfigError("overrides", "must be key=value", text)
        try:
            found += OverridesParser.create().parse_overrides([text])
        except (HydraException, ValueError):  # Of thousands of digits Python makes no number.
            if not given:
                raise
            quoted = f"can not be read; letters as ( or ü need quotes, as in '{key}=\"…\"'"
            raise ConfigError(key, quoted, value) from None
    return found


def jobs(overrides: Sequence[Override], most: int = 10**4) -> Iterator[list[str]]:
    """The overrides of every job of a multirun; none where Hydra alone knows the choices.

    Args:
        overrides: all of them.
        most: choices of one that are listed.
    """
    if any(o.value_type is ValueType.GLOB_CHOICE_SWEEP for o in overrides):
        return iter(())
    choices = [
        [
            f"{o.get_key_element()}={value}"
            for value in itertools.islice(o.sweep_string_iterator(), most)
        ]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in overrides
    ]
    return map(list, itertools.product(*choices))


def _first(most: int, override: Override) -> Iterator[str]:
    """The first choices of an override."""
    return itertools.islice(override.sweep_string_iterator(), most)


def quoted(text: str) -> str:
    r"""A text as an override gives it, whatever letters it has.

    >>> quoted("it's"), parsed(["out=" + quoted("it's a\\")])[0].value() == "it's a\\"
    ("'it\\'s'", True)
    """
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def says(overrides: Sequence[Override], key: str) -> Any:
    """The value that the last override of a key gives; None if there is none."""
    values = [o.value() for o in overrides if o.key_or_group == key and not o.is_sweep_override()]
    return str(values[-1]) if values else None


def explained(
    overrides: Sequence[str],
    error: Exception,
    known: Collection[str],
    options: Any,
) -> ConfigError:
    """Hydra's complaint about the command line, as one line that names the key at fault.

    Args:
        overrides: as they were typed.
        error: what Hydra says.
        known: every key of the config.
        options: group -> its choices; empty if there is no such group.
    """
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if re.split(r"[./]", key)[0] == "hydra":
            continue
        if choices := options(key):
            if key == "cluster" and not override.startswith("+"):
                return ConfigError(
                    key, f"must be given as +cluster=…, {' or '.join(choices)}", value
                )
            if value not in choices:
                return ConfigError(key, f"must be one of {', '.join(choices)}", value)
        elif key not in known:
            return ConfigError(key or "overrides", unknown_key(key, known), value or override)
    said = str(error).splitlines()[0].rstrip(".")
    named = [override for override in overrides if override.partition("=")[0] in said]
    return ConfigError("overrides", said, " ".join(named or overrides))
