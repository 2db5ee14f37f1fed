"""Optimizers as functions from a rate: by name, what they take, and what is known of them."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lora_theory import arguments

Base = Callable[..., optax.GradientTransformation]

# How optimizers of optax name their decay, and the value that turns it off.
_DECAYS: dict[str, float | None] = {
    "weight_decay": 0.0,
    "adam_weight_decay": 0.0,
    "weight_decay_rate": None,
}
# They divide by a sum over all gradients, which is 0 over the factors A at the first step, where
# B = 0: on that group alone they give NaN.
ONE_STEP_SIZE = ("prodigy", "dadapt_adamw", "dog", "dowg")
# Of optax itself, and yet no transformation of each leaf by itself with a state of its shape.
_NOT_LEAFWISE = ("sm3", "noisy_sgd")


def resolved(name: str, base: Any) -> Base:
    """A function from a rate to a transformation; a text is looked up in optax.

    Raises:
        ValueError: what is none.

    >>> resolved("base", "sgd") is optax.sgd
    True
    """
    if isinstance(base, str):
        return _by_name(name, base)
    if hasattr(base, "init") and hasattr(base, "update"):
        raise ValueError(
            f"{name}: must be a function from a rate, as optax.sgd, or the name of one (got a "
            "transformation; under optax.inject_hyperparams give its name, or say static_args)"
        )
    if not callable(base):
        wanted = "a function from a rate, as optax.sgd, or the name of one"
        raise arguments.refusal(name, wanted, base)
    rate, free = "learning_rate", takes(base)
    if rate in takes(_inner(base)) and next(iter(free), None) != rate:
        raise ValueError(f"{name}: must leave {rate} free as its first argument (got {base})")
    if called(base) == "lbfgs":
        raise ValueError(
            f"{name}: must work without the value of the loss, group by group (got lbfgs)"
        )
    return base


def _by_name(name: str, base: str) -> Base:
    found = getattr(optax, base, None) or getattr(optax.contrib, base, None)
    if callable(found) and next(iter(takes(found)), None) == "learning_rate":
        return resolved(name, found)
    close = [word for word in difflib.get_close_matches(base, dir(optax), 3) if word != base]
    raise ValueError(
        f"{name}: must be the name of an optimizer of optax, as sgd, or a function from a "
        f"rate (got {base!r}{f'; {close[0]}?' if close else ''})"
    )


def made(base: Base, rate: Any, decay: Mapping[str, Any]) -> optax.GradientTransformation:
    """The optimizer at a rate.

    Raises:
        ValueError: the function gives none.
    """
    tx = base(rate, **decay)
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise ValueError(f"base: must give a transformation of optax (got {tx} of {called(base)})")
    return tx


def takes(base: Base) -> dict[str, Any]:
    """The names and defaults of a base's arguments.

    >>> takes(functools.partial(optax.sgd, momentum=0.9))["momentum"]
    0.9
    """
    return {name: one.default for name, one in inspect.signature(base).parameters.items()}


def no_decay(base: Base) -> dict[str, Any]:
    """The arguments that turn off a base's weight decay; none of what is off, or hidden."""
    taken = takes(base)
    return {name: off for name, off in _DECAYS.items() if name in taken and not _off(taken[name])}


def hides_decay(base: Base) -> bool:
    """Whether a base has no argument by which its weight decay could be turned off."""
    return not _DECAYS.keys() & takes(base).keys()


def _off(decay: Any) -> bool:
    return decay is None or (isinstance(decay, int | float) and decay == 0)


def called(base: Any) -> str:
    """The name of a base, for messages; of a partial that of the function in it."""
    return base if isinstance(base, str) else str(getattr(_inner(base), "__name__", base))


def leafwise(base: Base) -> bool:
    """Whether a base is known to treat each leaf by itself: most optimizers of optax itself."""
    home = str(getattr(_inner(base), "__module__", ""))
    own = home.startswith("optax.") and not home.startswith("optax.contrib")
    return own and called(base) not in _NOT_LEAFWISE


def moves_without_gradient(base: Base, dimensions: int = 1) -> bool:
    """Whether a base moves parameters that have no gradient; False where it can not be tried."""
    try:
        with jax.ensure_compile_time_eval():
            params = {"tried": jnp.ones((2,) * dimensions), "matrix": jnp.ones((2, 2))}
            tx = base(1.0)
            zeros = jax.tree.map(jnp.zeros_like, params)
            updates, _ = tx.update(zeros, tx.init(params), params)
            return bool((updates["tried"] != 0).any())
    except Exception:  # Of the user's function: what it says is raised where it is used.
        return False


def _inner(base: Any) -> Any:
    while isinstance(base, functools.partial):
        base = base.func
    return base
