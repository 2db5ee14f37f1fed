"""Rivals of LoRA+ that need no λ: what preconditions each factor with its partner, or rests A.

=================  =================================================  ==========================
name               what A and B are trained by                        the model does not depend on
=================  =================================================  ==========================
`scaled_gd`        (BᵀB)⁻¹ g_A and g_B (AAᵀ)⁻¹                        G, at zero damping
`scaled_adamw`     the same, before AdamW                             –
`lora_rite`        moments in the basis of the partner                G, with momentum too
`lora_fa`          A as it was drawn, B by any optimizer              –
=================  =================================================  ==========================

G is any invertible r × r matrix: (B G, G⁻¹ A) is the same model as (B, A), and stays the same under
training. Where a factor has not full rank, inverses are pseudo-inverses: s B, A/s and orthogonal G
still leave the model alone, others do not. From B = 0 the first step moves B alone; it then has
full rank if there are at least r samples. Adam and AdamW depend on G, on a mere s too; Adafactor
on G, and on s where a factor starts at 0 (else it scales its rate by each factor's size).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import optax

from lora_theory import arguments
from lora_theory.adapters.bases import resolved
from lora_theory.adapters.factors import Direction, over_pairs, spectrum, transposed
from lora_theory.adapters.groups import ParamGroup, checked_rate
from lora_theory.adapters.labels import guesses
from lora_theory.adapters.lora_plus import lora_plus
from lora_theory.adapters.names import leaves
from lora_theory.adapters.recipe import Recipe
from lora_theory.adapters.rite import rite


def scaled_gd(
    eta_a: Any,
    eta_b: Any = None,
    *,
    damping: Any = 0.0,
    others: Any = "adamw",
    eta_embedding: Any = 1e-6,
    labels: Any = None,
    groups: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Scaled gradient descent (arXiv 2402.02347), with an r × r preconditioner for each factor:

        ΔA = −η_A (BᵀB + δ)⁻¹ g_A,  ΔB = −η_B g_B (AAᵀ + δ)⁻¹ .

    Both factors move at once, by the factors before the step. The layer's multiplier stays: under
    W = s B A a step of W goes as s² η.

    Args:
        eta_a: η_A, or the rate of both factors; a number, a traced scalar, or a schedule.
        eta_b: η_B, the same kinds; without it η_A.
        damping: δ ≥ 0. At 0, inverses are pseudo-inverses, and that of B = 0 is 0; above 0 the
            model depends on how B A is split.
        others: what trains all else that trains, as `base` of `lora_plus` does: heads and groups
            of your own at η_A; biases, norms and magnitudes at η_B.
        eta_embedding: as in `lora_plus`; factors of embeddings belong to what others trains.
        labels: as in `lora_plus`.
        groups: as in `lora_plus`; A and B have no base of their own.

    Returns:
        An optax transformation for any pytree in which `lora_plus` finds factors, in pairs; the
        last part of its state is that of `lora_plus`, and shows the rates.

    Raises:
        ValueError: an argument that is none; at `init` no factors, one without a partner, a pair
            of different ranks, and what `lora_plus` refuses; at `update` no parameters.

    >>> import jax.numpy as jnp
    >>> params = {"lora_A": jnp.array([[3.0, 4.0]]), "lora_B": jnp.array([[2.0], [0.0]])}
    >>> tx = scaled_gd(1.0)
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> [f"{updates[name].ravel()[0]:.3f}" for name in params]  # 3 / ‖B‖² and 2 / ‖A‖²
    ['-0.750', '-0.080']
    """
    damping = checked_rate("damping", damping, schedule=False)
    told = {"eta_embedding": eta_embedding, "labels": labels, "groups": groups}
    return _rival(_scaled(damping), optax.sgd, eta_a, eta_b, others, **told)


def scaled_adamw(
    eta_a: Any,
    eta_b: Any = None,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 1e-4,
    damping: Any = 1e-6,
    others: Any = "adamw",
    eta_embedding: Any = 1e-6,
    labels: Any = None,
    groups: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Scaled AdamW (arXiv 2402.02347): the preconditioned gradients of `scaled_gd`, given to AdamW.

    Unlike scaled gradient descent it depends on how B A is split into factors: Adam normalises each
    entry of a preconditioned gradient, which is not that of the same model split otherwise. The
    authors' code has the identity in place of an inverse that fails; here there is damping.

    Args:
        eta_a: as in `scaled_gd`.
        eta_b: as in `scaled_gd`.
        b1: β₁ of AdamW.
        b2: β₂.
        eps: ε.
        weight_decay: multiplied with the rate.
        damping: δ.
        others: as in `scaled_gd`.
        eta_embedding: as in `scaled_gd`.
        labels: as in `scaled_gd`.
        groups: as in `scaled_gd`.

    Returns:
        An optax transformation, as `scaled_gd` does.

    Raises:
        ValueError: what `scaled_gd` refuses.

    >>> import jax.numpy as jnp
    >>> params = {"lora_A": jnp.ones((1, 3)), "lora_B": jnp.ones((2, 1))}
    >>> tx = scaled_adamw(0.5, weight_decay=0.0)
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> updates["lora_A"].round(3).tolist()
    [[-0.5, -0.5, -0.5]]
    """
    damping = checked_rate("damping", damping, schedule=False)
    adamw = functools.partial(optax.adamw, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
    told = {"eta_embedding": eta_embedding, "labels": labels, "groups": groups}
    return _rival(_scaled(damping), adamw, eta_a, eta_b, others, **told)


def lora_rite(
    eta_a: Any,
    eta_b: Any = None,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-6,
    others: Any = "adamw",
    eta_embedding: Any = 1e-6,
    labels: Any = None,
    groups: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """LoRA-RITE (arXiv 2410.20625, Algorithm 1): Adam with r × r moments, whatever the factors.

    The formulas stand at `adapters.rite.rite`. Left out of the authors' PyTorch code: clipping and
    skipping of large gradients, weight decay, balancing of norms; and that code leaves out the
    escaped mass by default, which here is always there.

    Args:
        eta_a: as in `scaled_gd`.
        eta_b: as in `scaled_gd`.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1); or None for sums over all steps, which is Algorithm 1 to the letter.
        eps: ε ≥ 0 beside the root of the second moment.
        others: as in `scaled_gd`.
        eta_embedding: as in `scaled_gd`.
        labels: as in `scaled_gd`.
        groups: as in `scaled_gd`.

    Returns:
        An optax transformation, as `scaled_gd` does.

    Raises:
        ValueError: what `scaled_gd` refuses; a β outside [0, 1).

    >>> import jax.numpy as jnp
    >>> params = {"lora_A": jnp.array([[2.0, 0.0]]), "lora_B": jnp.array([[4.0], [0.0]])}
    >>> tx = lora_rite(0.5, eps=0.0)
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> [f"{updates[name].ravel()[0]:.3f}" for name in params]  # √2 η / ‖B‖ and √2 η / ‖A‖
    ['-0.177', '-0.354']
    """
    b1, b2 = _decay("b1", b1), None if b2 is None else _decay("b2", b2)
    eps = checked_rate("eps", eps, schedule=False)
    told = {"eta_embedding": eta_embedding, "labels": labels, "groups": groups}
    return _rival(rite(b1, b2, eps), optax.sgd, eta_a, eta_b, others, **told)


def lora_fa(
    eta_a: Any,
    eta_b: Any = None,
    *,
    base: Any = "adamw",
    eta_embedding: Any = 1e-6,
    groups: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """LoRA-FA (arXiv 2308.03303): A stays as it was drawn, B trains at η_B.

    The same as `lora_plus(eta_a, eta_b, labels=lora_fa_labels)`.

    Args:
        eta_a: the rate of heads and groups of your own; without `eta_b` of B as well.
        eta_b: η_B, the rate of B, biases, norms and magnitudes.
        base: as in `lora_plus`.
        eta_embedding: as in `lora_plus`.
        groups: as in `lora_plus`.

    Returns:
        An optax transformation.

    Raises:
        ValueError: what `lora_plus` refuses.

    >>> import jax.numpy as jnp
    >>> params = {"lora_A": jnp.ones((1, 3)), "lora_B": jnp.ones((2, 1))}
    >>> tx = lora_fa(0.5, base="sgd")
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> updates["lora_A"].tolist(), updates["lora_B"].tolist()
    ([[0.0, 0.0, 0.0]], [[-0.5], [-0.5]])
    """
    rates = {"eta_a": eta_a, "eta_b": eta_a if eta_b is None else eta_b}
    told = {"eta_embedding": eta_embedding, "labels": lora_fa_labels, "groups": groups}
    return lora_plus(**rates, base=base, **told)


def lora_fa_labels(params: Any, preset: str | None = None) -> Any:
    """The groups of LoRA-FA, for `labels=`: those of `lora_labels`, with A frozen.

    Args:
        params: as in `lora_labels`.
        preset: as in `lora_labels`.

    Returns:
        A tree of the same structure with a name of a group at each leaf; None where no rule
        applies, as at a head, which a `ParamGroup` then has to match.

    Raises:
        ValueError: what `lora_labels` refuses of a preset.

    >>> import jax.numpy as jnp
    >>> lora_fa_labels({"lora_A": jnp.ones((2, 3)), "lora_B": jnp.ones((3, 2))})
    {'lora_A': 'frozen', 'lora_B': 'B'}
    """
    labels = [label for _, label in guesses(leaves(params), preset)]
    resting = ["frozen" if label == "A" else label for label in labels]
    return jax.tree.unflatten(jax.tree.structure(params), resting)


def mua_factor(
    width: int, rank: int, *, gamma: float = 0.0, init: str = "A", rho: float = 0.0
) -> float:
    """How the best common rate of A and B goes with n and r, up to a constant (arXiv 2602.06204).

    ================  ==========================  ==========================================
    init              B at the start              η ∝
    ================  ==========================  ==========================================
    "A" (Init[1])     0                           n^−1/2 r^−(1−γ)/2
    "B" (Init[2])     N(0, r^ρ)                   n^−1 r^(γ−(1+ρ)/2); at ρ = −1 n^−1 r^γ
    ================  ==========================  ==========================================

    This is µA: for one sample, Adam or sign updates, η_A = η_B, and a layer with the multiplier
    α r^−γ. A rate tuned at (n₀, r₀) is multiplied with `mua_factor(n, r) / mua_factor(n₀, r₀)`.
    What it says of ρ ≠ −1 is derived in this project (`rank-init2-unit-law` of the claims), not in
    the paper.

    Args:
        width: n, the input size of the layer.
        rank: r.
        gamma: γ of the multiplier α r^−γ; 0 for a multiplier that does not depend on r, as that of
            `LoRA` without α.
        init: which factor is random at the start.
        rho: ρ of the variance r^ρ of a random B, as in `LoRA`.

    Returns:
        The factor.

    Raises:
        ValueError: a size below 1, an unknown init, a γ or ρ that is no number.

    >>> mua_factor(64, 16), mua_factor(64, 16, gamma=1)
    (0.03125, 0.125)
    >>> mua_factor(64, 16, init="B", rho=-1)
    0.015625
    """
    width, rank = arguments.integer("width", width), arguments.integer("rank", rank)
    gamma, rho = arguments.finite("gamma", gamma), arguments.finite("rho", rho)
    arguments.one_of("init", init, ("A", "B"))
    if init == "A":
        return float(width**-0.5 * rank ** (-(1 - gamma) / 2))
    return float(width**-1.0 * rank ** (gamma - (1 + rho) / 2))


def _scaled(damping: Any) -> Direction:
    """g_A -> (BᵀB + δ)⁻¹ g_A and g_B -> g_B (AAᵀ + δ)⁻¹."""

    def update(a: Any, b: Any, g_a: Any, g_b: Any, state: Any) -> tuple[Any, Any, Any]:
        of_b, of_a = (spectrum(y).gram_inverse(damping) for y in (b, transposed(a)))
        return of_b @ g_a, g_b @ of_a, state

    return Direction(lambda a, b: (), update)


def _rival(
    direction: Direction, base: Any, eta_a: Any, eta_b: Any, others: Any, **told: Any
) -> optax.GradientTransformationExtraArgs:
    """`lora_plus` over directions in place of the factors' gradients; all else trains as there."""
    resolved("others", others)
    rates = {"eta_a": eta_a, "eta_b": eta_a if eta_b is None else eta_b}
    told |= {"groups": _with_base(told["groups"], base), "base": others}
    return optax.chain(over_pairs(direction, Recipe(**rates, **told)), lora_plus(**rates, **told))


def _with_base(groups: Any, base: Any) -> Any:
    """Groups in which A and B have an optimizer of their own."""
    mine = {} if groups is None else groups
    if not isinstance(mine, Mapping):
        return mine  # `Recipe` refuses it.
    factors = {name: mine.get(name, ParamGroup()) for name in ("A", "B")}
    for name, group in factors.items():
        if not isinstance(group, ParamGroup):
            return mine
        if group.base is not None:
            raise ValueError(f"groups[{name!r}].base: must not be given, since it is the rival's")
    return {**mine, **{k: dataclasses.replace(group, base=base) for k, group in factors.items()}}


def _decay(name: str, value: Any) -> Any:
    """A β in [0, 1); a traced one can not be looked at."""
    found = checked_rate(name, value, schedule=False)
    if isinstance(found, float) and found >= 1:
        raise arguments.refusal(name, "a number of at least 0 and below 1", value)
    return found
