"""What computes: JAX and its devices, started, or one line that says why not."""

import os
from typing import TYPE_CHECKING, Any

from experiments.lab.schema import ConfigError, flatten

if TYPE_CHECKING:
    from experiments.lab.experiment import Experiment

# How JAX begins to say that a backend can not be started, or is none.
_NO_BACKEND = ("Unable to initialize backend", "Unknown backend")


class BackendError(Exception):
    """What computes (JAX, its devices) can not be started: one line."""


def started(experiment: "Experiment[Any, Any, Any]", cfg: Any) -> tuple[dict[str, Any], str]:
    """Start what computes: the values that the machine decides, and the backend.

    Raises:
        BackendError: it can not be started, as the environment would have it.
        ConfigError: the machine decides otherwise than the config, under which the results would
            then be refused.
    """
    try:
        import jax
    except ValueError as error:  # Of a variable of the environment that says nothing of its kind.
        raise BackendError(f"JAX can not be started: {_line(error)}") from error
    try:
        chosen, backend = experiment.start(cfg), jax.default_backend()
    except RuntimeError as error:
        if not str(error).startswith(_NO_BACKEND):
            raise
        raise BackendError(f"{type(error).__name__}: {_line(error)}") from error
    except AssertionError as error:  # JAX's, of a backend that another library brings.
        if (platforms := os.environ.get("JAX_PLATFORMS")) is None:
            raise
        line = f"JAX_PLATFORMS: must name a backend that is here (got {platforms}) {error}"
        raise BackendError(line.rstrip()) from error
    asked = flatten(experiment.science(cfg, settled=False))
    for key, value in flatten(chosen).items():
        if key in asked and asked[key] != value:
            raise ConfigError(key, f"must be null or {value} here", asked[key])
    return chosen, backend


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
