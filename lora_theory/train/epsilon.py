"""Whether a scale-free optimizer feels its ε, which the theory takes for 0."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lora_theory.arrays import Array

# A scale-free optimizer may feel its ε by this much before the measurement is refused.
_ALLOWED = 0.05
_ALONG = 0.999  # Cosine of an update with its gradient that counts as its direction.


class EpsilonError(ValueError):
    """Adam's ε is not far below the gradients, so its updates are no Θ(1) of the gradient."""


def epsilon_gap(transform: Any, grads: Any, params: Any) -> Array:
    """How much a first update depends on the size of the gradient, where it should not.

    Adam does not feel the scale of its gradients but through ε. An optimizer whose updates are
    the same for gradients of size 10^10 and 10^12 is of that kind; if those for the gradients as
    they are differ, ε is felt. For other optimizers the gap is 0; so it is where large gradients
    are clipped, whose updates then still go along the gradient in every leaf.
    """

    def update(scale: float | None) -> list[Array]:
        def scaled(g: Array) -> Array:
            size = jnp.sqrt(jnp.mean(jnp.square(g)))
            return g if scale is None else scale * g / jnp.where(size > 0, size, 1.0)

        scaled_grads = jax.tree.map(scaled, grads)
        return jax.tree.leaves(transform.update(scaled_grads, transform.init(params), params)[0])

    def apart(left: Array, right: Array) -> Array:
        size = jnp.linalg.norm(right)
        return jnp.linalg.norm(left - right) / jnp.where(size > 0, size, 1.0)

    own, large, larger = update(None), update(1e10), update(1e12)
    gaps = [
        jnp.where(apart(u, v) < _ALLOWED / 5, apart(g, v), 0.0)
        for g, u, v in zip(own, large, larger, strict=True)
    ]
    clipped = _goes_along(larger, jax.tree.leaves(grads))
    return jnp.where(clipped, 0.0, jnp.stack(gaps).max())


def _goes_along(updates: list[Array], grads: list[Array]) -> Array:
    """Whether updates go along the gradient in every leaf that tells: not in those of one number,
    where everything does, nor where the gradient is 0.
    """
    tells, goes = [jnp.zeros((), bool)], [jnp.ones((), bool)]
    for v, g in zip(updates, grads, strict=True):
        size = jnp.linalg.norm(g)
        tells.append((size > 0) & (g.size > 1))
        cosine = jnp.abs(jnp.vdot(v, g)) > _ALONG * jnp.linalg.norm(v) * size
        goes.append(cosine | ~tells[-1])
    return jnp.stack(tells).any() & jnp.stack(goes).all()


def check_epsilon(gaps: np.ndarray, width: int) -> None:
    """Refuse runs that felt ε.

    Raises:
        EpsilonError: a gap is too large.
    """
    worst = float(np.nanmax(gaps, initial=0.0))
    if worst > _ALLOWED:
        raise EpsilonError(
            f"optimizer: its ε is too large for the gradients at n = {width}: updates are "
            f"{worst:.0%} off those of larger gradients, at most {_ALLOWED:.0%} are allowed; "
            "lower eps (optax.adam, eps=1e-30) or the widths"
        )
